"""Facts about this host: name, address, architecture, users. Reads only."""

from __future__ import annotations

import errno
import ipaddress
import os
import platform
import pwd
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from probes.errors import UserMissing
from probes.values import frozen

# Go's GOARCH names, which the field's release servers use in their paths (docs/contract.md, section 3).
_GO_CPU = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}
# What getpwnam(3) answers where there is no such user; each other number says that the database could not be asked.
_NO_SUCH_USER = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})
_RESOLVE_LIMIT_S = 2.0
_SIOCGIFADDR = 0x8915  # linux/sockios.h


@frozen(kw_only=True)
class User:
    """A user of this host, as the password database has it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...] = ()


_known: dict[str, User] = {}  # as they were when they were last looked up


def find_user(name: str) -> User:
    """Look a user up; as it last was, where the look-up fails now. Raise UserMissing."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        failure = _lookup_failure(name)
        if failure and name in _known:
            return _known[name]
        if failure:
            raise UserMissing(
                f"the user {name!r} can't be looked up now: {failure}; look at the host's user database (nsswitch.conf)"
            ) from None
        _known.pop(name, None)
        raise UserMissing(
            f"the user {name!r} does not exist on this host; create it, or correct runUser at ops-meta"
        ) from None
    groups = os.getgrouplist(name, entry.pw_gid)
    user = User(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        home=entry.pw_dir,
        shell=entry.pw_shell or "/bin/sh",
        groups=tuple(groups),
    )
    _known[name] = user
    return user


def uids_of(names: Iterable[str]) -> dict[str, int]:
    """The uids of those users that exist."""
    found = {}
    for name in names:
        try:
            found[name] = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            with suppress(UserMissing):
                found[name] = find_user(name).uid
    return found


def own_user() -> User:
    """The user that we run as; one without an entry in the password database is named by its number."""
    uid = os.getuid()
    try:
        return find_user(pwd.getpwuid(uid).pw_name)
    except (KeyError, UserMissing):
        nameless = User(name=str(uid), uid=uid, gid=os.getgid(), home="/", shell="/bin/sh")
        return next((user for user in _known.values() if user.uid == uid), nameless)


def known_users() -> dict[str, User]:
    """The users that were looked up, by the name that was asked for."""
    return dict(_known)


def know_users(users: Mapping[str, User]) -> None:
    """Take users as an earlier run knew them, for a look-up that fails."""
    for name, user in users.items():
        _known.setdefault(name, user)


def _lookup_failure(name: str) -> str:
    """Why the user database could not be asked; empty where it said that there is no such user."""
    try:
        pwd.getpwuid(0)
    except KeyError:
        return "not even root is known to it"
    return "" if (number := _lookup_errno(name)) in _NO_SUCH_USER else os.strerror(number)


def _lookup_errno(name: str) -> int:
    """What getpwnam_r(3) answers; Python's own hides it."""
    try:
        import ctypes  # here: only a user that is not found needs it
    except OSError as err:  # it takes a file, too
        return err.errno or errno.EIO
    try:
        lookup = ctypes.CDLL(None).getpwnam_r
        entry, text = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1 << 16)
        found = ctypes.c_void_p()
        return int(lookup(os.fsencode(name), entry, text, ctypes.c_size_t(len(text)), ctypes.byref(found)))
    except (AttributeError, OSError, ValueError):  # no such function; a name that can't be one
        return 0


def arch() -> str:
    """`{os}_{cpu}` in Go's names, e.g. `linux_amd64`."""
    machine = platform.machine().lower()
    cpu = _GO_CPU.get(machine, machine)
    if machine.startswith("arm") and machine != "arm64":
        cpu = "arm"
    elif machine in ("i386", "i486", "i586", "i686") or (cpu == "amd64" and sys.maxsize < 2**32):
        cpu = "386"
    return f"{sys.platform.rstrip('0123456789')}_{cpu}"


def machine_id() -> str:
    """The id of this installation of the host; empty where the host has none."""
    try:
        return Path("/etc/machine-id").read_text("ascii").strip()[:64]
    except (OSError, ValueError):
        return ""


def boot_id() -> str:
    """The id of this boot of the host; empty where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def real_paths(paths: Iterable[str]) -> dict[str, str]:
    """Where each path leads when links are followed, as far as we may look; what doesn't exist yet is taken as is."""
    return {path: os.path.realpath(path) for path in set(paths)}


def host_name() -> str:
    return socket.gethostname()


def own_address(server_host: str | None, resolve_limit_s: float = _RESOLVE_LIMIT_S) -> str:
    """This host's address towards the server; a loopback one only where there is no other.

    No packet is sent: a datagram socket is connected, and the kernel names the source that it would use. Resolving
    the server's name is given `resolve_limit_s`, since a dead resolver would hold every pass.
    """
    targets = [] if server_host is None else _resolve(server_host, resolve_limit_s)
    # 192.0.2.0/24 and 2001:db8::/32 are the documentation networks (RFC 5737, 3849): they stand for "anywhere".
    for target in [*targets, "192.0.2.1", "2001:db8::1"]:
        address = _source_towards(target)
        if address is not None and not ipaddress.ip_address(address).is_loopback:
            return address
    return next(_interface_addresses(), "127.0.0.1")


def _resolve(host: str, limit_s: float) -> list[str]:
    import queue

    answers: queue.Queue[list[str]] = queue.Queue()

    def ask() -> None:
        try:
            answers.put([str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)])
        except (OSError, UnicodeError):
            answers.put([])

    try:
        threading.Thread(target=ask, daemon=True, name="resolve").start()
        return answers.get(timeout=limit_s)
    except (queue.Empty, RuntimeError):  # RuntimeError: the host has no thread left for it
        return []


def _source_towards(target: str) -> str | None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def _interface_addresses() -> Iterator[str]:
    """IPv4 addresses of interfaces that have one, except loopback; for hosts without a default route."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                try:
                    packed = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                except OSError:
                    continue
                address = socket.inet_ntoa(packed[20:24])
                if not ipaddress.ip_address(address).is_loopback:
                    yield address
    except (ImportError, OSError):
        return
