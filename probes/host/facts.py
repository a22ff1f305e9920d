"""Facts about this host: name, address, architecture, users. Reads only."""

from __future__ import annotations

import grp
import ipaddress
import os
import platform
import pwd
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
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
_RESOLVE_LIMIT_S = 2.0
_SIOCGIFADDR = 0x8915  # linux/sockios.h


@frozen(kw_only=True)
class User:
    """A user of this host, as the password database tells it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...] = ()


def find_user(name: str) -> User:
    """Look a user up. Raise UserMissing."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise UserMissing(
            f"the user {name!r} does not exist on this host; create it, or correct runUser at ops-meta"
        ) from None
    groups = os.getgrouplist(name, entry.pw_gid)
    return User(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        home=entry.pw_dir,
        shell=entry.pw_shell or "/bin/sh",
        groups=tuple(groups),
    )


def uids_of(names: Iterable[str]) -> dict[str, int]:
    """The uids of those users that exist."""
    found = {}
    for name in names:
        with suppress(KeyError, ValueError):
            found[name] = pwd.getpwnam(name).pw_uid
    return found


def own_user() -> User:
    """The user that we run as; one without an entry in the password database is named by its number."""
    try:
        return find_user(pwd.getpwuid(os.getuid()).pw_name)
    except (KeyError, UserMissing):
        return User(name=str(os.getuid()), uid=os.getuid(), gid=os.getgid(), home="/", shell="/bin/sh")


def group_name(gid: int) -> str:
    """A group's name, or its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def arch() -> str:
    """`{os}_{cpu}` in Go's names, e.g. `linux_amd64`."""
    machine = platform.machine().lower()
    cpu = _GO_CPU.get(machine, machine)
    if machine.startswith("arm") and machine != "arm64":
        cpu = "arm"
    elif machine in ("i386", "i486", "i586", "i686") or (cpu == "amd64" and sys.maxsize < 2**32):
        cpu = "386"
    return f"{sys.platform.rstrip('0123456789')}_{cpu}"


def boot_id() -> str:
    """What tells one boot of this host from another; empty where the kernel doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def real_paths(paths: Iterable[str]) -> dict[str, str]:
    """Where each path leads when links are followed, as far as we may look; what doesn't exist yet is taken as is."""
    return {path: os.path.realpath(path) for path in set(paths)}


def host_name() -> str:
    return socket.gethostname()


def own_address(server_host: str | None) -> str:
    """This host's address towards the server; a loopback one only where there is no other.

    No packet is sent: a datagram socket is connected, and the kernel names the source that it would use. Resolving
    the server's name is given two seconds, since a dead resolver would hold every pass.
    """
    targets = [] if server_host is None else _resolve(server_host)
    # 192.0.2.0/24 and 2001:db8::/32 are the documentation networks (RFC 5737, 3849): they stand for "anywhere".
    for target in [*targets, "192.0.2.1", "2001:db8::1"]:
        address = _source_towards(target)
        if address is not None and not ipaddress.ip_address(address).is_loopback:
            return address
    return next(_interface_addresses(), "127.0.0.1")


def _resolve(host: str) -> list[str]:
    import queue

    answers: queue.Queue[list[str]] = queue.Queue()

    def ask() -> None:
        try:
            answers.put([str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)])
        except (OSError, UnicodeError):
            answers.put([])

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    try:
        return answers.get(timeout=_RESOLVE_LIMIT_S)
    except queue.Empty:
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
    """IPv4 addresses of interfaces that have one, but for loopback; for hosts without a default route."""
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
