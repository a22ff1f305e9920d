"""Say why a control script could not be started: which file, what is wrong with it, what to do.

The kernel answers a missing script, a missing interpreter and a missing directory with the same ENOENT. This looks
again, after the fact, and only to find words: nothing is decided by what it sees.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from probes.host.home_reader import read_regular

SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
# What says nothing of the script: beside that, a disk that fails, and somebody who has it open for writing.
HOST_CAUSES = SHORTAGES | {errno.EIO, errno.ETXTBSY}
_FIRST_LINE = 256  # Linux itself reads no more of a `#!` line


def why_not_started(control: Path, cwd: Path, error: Exception) -> str:
    """Tell a person why executing `control` in `cwd` failed with `error`. Never raises."""
    number = error.errno if isinstance(error, OSError) else None
    if number in SHORTAGES:
        return f"{control}: not started, the host is short of a resource: {_plain(error)}; it is tried again"
    if not cwd.is_dir():
        return f"{cwd}: not a directory that we can enter; control runs in its own version's directory"
    try:
        found = control.stat()
    except OSError as err:
        return f"{control}: {_plain(err)}; an executable `control` must lie in the root of the tarball"
    if not stat.S_ISREG(found.st_mode):
        return f"{control}: not a regular file; `control` must be an executable script or program"
    match number:
        case errno.EACCES:
            return _not_permitted(control, _head(control))
        case errno.ENOENT:
            return _nothing_there(control, _head(control))
        case errno.ENOEXEC:
            return _no_program(control, _head(control))
        case errno.ETXTBSY:
            return f"{control}: somebody has it open for writing; end that (`fuser -v {control}`), it is tried again"
        case _:
            return f"{control}: can't be executed: {_plain(error)}"


def _not_permitted(control: Path, head: bytes) -> str:
    if not os.access(control, os.X_OK):
        return f"{control}: not executable by this user; `chmod 755 {control}`, and make it so in the tarball"
    if _is_bound_by_sudo():
        return (
            f"{control}: sudo forbids to execute it: `noexec` is set in /etc/sudoers; allow it there by the tag EXEC:"
        )
    if _is_mounted_noexec(control):
        return f"{control}: its file system is mounted noexec; mount it with exec, or name another workDir"
    interpreter = _interpreter(head)
    if interpreter is not None:
        return (
            f"{control}: permission denied although it is executable: its interpreter {interpreter} is not, or is on a "
            "file system that is mounted noexec"
        )
    return (
        f"{control}: permission denied although it is executable; does a security module (SELinux, AppArmor) forbid "
        "it? See the kernel's log"
    )


def _no_program(control: Path, head: bytes) -> str:
    if head.startswith(b"\x7fELF"):
        return f"{control}: a program for another architecture than this host's ({os.uname().machine})"
    return f"{control}: the kernel can't execute it: no `#!` at its very beginning; make `#!/bin/sh` its first line"


def _is_bound_by_sudo() -> bool:
    """Whether sudo loaded its library into us that lets nothing be executed (sudoers(5), NOEXEC)."""
    try:
        return b"noexec.so" in Path("/proc/self/maps").read_bytes()
    except OSError:
        return False


def _is_mounted_noexec(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def _nothing_there(control: Path, head: bytes) -> str:
    interpreter = _interpreter(head)
    if interpreter is None:
        return f"{control}: the loader or a library that this program names is missing on this host"
    if head.split(b"\n")[0].endswith(b"\r"):
        return f"{control}: its first line ends in CR LF, so the kernel looks for {interpreter}; `dos2unix {control}`"
    return f"{control}: its interpreter {interpreter} is missing; install it, or change the `#!` line"


def _interpreter(head: bytes) -> str | None:
    """The path that a `#!` line names, quoted and escaped; None without such a line."""
    if not head.startswith(b"#!"):
        return None
    words = head[2:].split(b"\n")[0].strip(b" \t").replace(b"\t", b" ").split(b" ")
    return ascii(words[0].decode("utf-8", "backslashreplace"))


def _head(control: Path) -> bytes:
    try:
        return read_regular(control, _FIRST_LINE)
    except OSError:
        return b""


def _plain(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
