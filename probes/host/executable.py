"""Find out whether a program can be executed before it is: permissions, the `#!` line, its interpreter, its loader.

It answers for the user that it is called as, and runs nothing. What it doesn't understand counts as executable: the
kernel decides, and a version must not be kept from an agent for a doubt.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from probes.host.home_reader import read_regular
from probes.text import sanitize
from probes.values import frozen

_FIRST_LINE = 256  # bytes: Linux itself reads no more of a `#!` line
_DEEPEST = 4  # scripts that interpret scripts
_SHELLS = frozenset(("sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"))
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# `uname -m` -> what it executes, as e_machine of ELF; 32-bit kinds of the same family included.
_MACHINES = {
    "x86_64": {62, 3},
    "i686": {3},
    "aarch64": {183, 40},
    "armv7l": {40},
    "ppc64le": {21},
    "s390x": {22},
    "riscv64": {243},
    "loongarch64": {258},
}
_ELF_KINDS = 20  # bytes of an ELF header up to its machine
_PT_INTERP, _MOST_HEADERS, _LONGEST_PATH = 3, 128, 4096


def why_not_executable(program: Path, path: str) -> str:
    """Why executing `program` in its own directory would fail, and what to do, for people; empty: nothing is known
    against it. `path`: the PATH that it gets."""
    return _flaw(program, program.parent, path, _DEEPEST)


def _flaw(program: Path, cwd: Path, path: str, depth: int) -> str:
    try:
        found = program.stat()
    except OSError as err:
        link = ", a link" if program.is_symlink() else ""
        return f"{_named(program)}{link}: {err.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{_named(program)} is not a regular file"
    if not os.access(program, os.X_OK, effective_ids=True):
        return _why_no_access(program, found)
    try:
        head = read_regular(program, _FIRST_LINE)
    except OSError:
        return ""  # a program need not be readable
    return _content_flaw(program, head, cwd, path, depth)


def _content_flaw(program: Path, head: bytes, cwd: Path, path: str, depth: int) -> str:
    if head.startswith(b"#!"):
        return _script_flaw(program, head, cwd, path, depth)
    if any(_applies(handler, program, head) for handler in _handlers()):
        return ""
    if head.startswith(b"\x7fELF"):
        return _elf_flaw(program, head)
    if head.startswith(_BOMS):
        return f"{_named(program)} begins with a byte order mark, so the kernel sees no `#!`; save it without one"
    what = "is empty" if not head else "has no `#!` at its very beginning, and is not a program either"
    return f"{_named(program)} {what}; make `#!/bin/sh` its first line"


def _why_no_access(program: Path, found: os.stat_result) -> str:
    with suppress(OSError):
        if found.st_mode & 0o111 and os.statvfs(program).f_flag & os.ST_NOEXEC:
            return f"{_named(program)} lies on a file system that is mounted noexec; mount it with exec"
    return f"{_named(program)} is not executable by this user; `chmod 755` it and let that user reach it"


def _script_flaw(program: Path, head: bytes, cwd: Path, path: str, depth: int) -> str:
    line = _Shebang.read(head)
    if flaw := _line_flaw(line):
        return f"{_named(program)}: {flaw}"
    if not os.access(program, os.R_OK, effective_ids=True):
        return f"{_named(program)} can't be read by this user, so its interpreter can't either; `chmod 755` it"
    where = cwd / os.fsdecode(line.interpreter)
    flaw = _flaw(where, cwd, path, depth - 1) if depth else ""
    if flaw:
        return f"{_named(program)}: its interpreter {flaw}; install it, or change the `#!` line"
    wanted = _run_by_env(os.fsdecode(line.argument)) if line.name == "env" else None
    if wanted is None or _is_found(wanted, cwd, path):
        return ""
    return (
        f"{_named(program)}: its `#!` line has env look for {wanted!a}, which is not there for this user (PATH is "
        f"{path}); install it, or change the line"
    )


@frozen(kw_only=True)
class _Shebang:
    """The `#!` line of a script. `is_cut`: the kernel reads no more of its interpreter than this."""

    interpreter: bytes
    argument: bytes
    is_cut: bool
    ends_in_cr: bool

    @classmethod
    def read(cls, head: bytes) -> _Shebang:
        line, end, _ = head[2:].partition(b"\n")
        interpreter, _, argument = line.strip(b" \t").replace(b"\t", b" ").partition(b" ")
        argument = argument.strip(b" ")
        is_cut = not end and not argument and len(head) == _FIRST_LINE
        return cls(interpreter=interpreter, argument=argument, is_cut=is_cut, ends_in_cr=line.endswith(b"\r"))

    @property
    def name(self) -> str:
        """The interpreter's, for people."""
        return os.path.basename(self.interpreter.rstrip(b"\r")).decode("utf-8", "backslashreplace")


def _line_flaw(line: _Shebang) -> str:
    if not line.interpreter.strip(b"\r"):
        return "its `#!` line names no interpreter; make it `#!/bin/sh`"
    if line.is_cut:
        return f"its `#!` line is longer than the {_FIRST_LINE} bytes that the kernel reads"
    if line.ends_in_cr and (not line.argument or line.name == "env" or line.name in _SHELLS):
        return f"its lines end in CR LF, so `{line.name}\\r` is looked for; `dos2unix` it"
    return ""


def _run_by_env(argument: str) -> str | None:
    """The program that `env` is to run; None where that is not known. The kernel gives all that follows it as one
    argument, which `-S` alone takes apart."""
    split = re.fullmatch(r"(?:-v?S|--split-string[= ]?)\s*(.*)", argument)
    if split is None:
        return None if not argument or argument.startswith("-") or "=" in argument else argument
    if re.search(r"[$\\]", split[1]):
        return None
    with suppress(ValueError):
        for word in shlex.split(split[1], comments=True):
            if word.startswith(("-", "PATH=")):
                return None
            if "=" not in word:
                return word
    return None


def _is_found(name: str, cwd: Path, path: str) -> bool:
    folders = [""] if "/" in name else path.split(":")
    return any(_may_run(cwd / folder / name) for folder in folders)


def _may_run(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK, effective_ids=True)


def _elf_flaw(program: Path, head: bytes) -> str:
    order = {1: "<", 2: ">"}.get(head[5]) if len(head) > _ELF_KINDS else None
    host = os.uname().machine
    if order is None:
        return ""
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    if machine not in _MACHINES.get(host, {machine}):
        return f"{_named(program)} is a program for another architecture than this host's ({host})"
    loader = ""
    with suppress(OSError, struct.error, ValueError):
        loader = _loader(program, head, order)
    if loader and not os.path.exists(loader):
        return f"{_named(program)}: its loader {loader!a} is missing; it is made for another C library"
    return ""


def _loader(program: Path, head: bytes, order: str) -> str:
    """The program that loads a dynamic one (PT_INTERP); empty: it needs none."""
    is_64 = head[4] == 2
    (offset,) = struct.unpack_from(f"{order}Q" if is_64 else f"{order}I", head, 32 if is_64 else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if is_64 else 42)
    with open(program, "rb") as file:
        for number in range(min(count, _MOST_HEADERS)):
            file.seek(offset + number * size)
            header = file.read(56 if is_64 else 32)
            (kind,) = struct.unpack_from(f"{order}I", header)
            if kind == _PT_INTERP:
                at, length = struct.unpack_from(
                    *((f"{order}Q16xQ", header, 8) if is_64 else (f"{order}I8xI", header, 4))
                )
                file.seek(at)
                return os.fsdecode(file.read(min(length, _LONGEST_PATH)).partition(b"\0")[0])
    return ""


def _handlers() -> Iterator[dict[str, str]]:
    """What the host has registered for further kinds of programs (binfmt_misc), as key and value."""
    with suppress(OSError):
        for name in os.listdir(_BINFMT):
            with suppress(OSError, UnicodeError):
                lines = (_BINFMT / name).read_text(encoding="ascii").splitlines()
                if lines[:1] == ["enabled"]:
                    yield {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _applies(handler: dict[str, str], program: Path, head: bytes) -> bool:
    if "extension" in handler:
        return program.name.endswith(handler["extension"])
    with suppress(KeyError, ValueError):
        magic, offset = bytes.fromhex(handler["magic"]), int(handler.get("offset", "0"))
        mask = bytes.fromhex(handler.get("mask", "ff" * len(magic)))
        there = head[offset : offset + len(magic)]
        return len(there) == len(magic) and all(a & m == b & m for a, b, m in zip(there, magic, mask, strict=True))
    return False


def _named(program: Path) -> str:
    return sanitize(os.fsencode(program))
