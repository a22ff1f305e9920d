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
_MOST_SCRIPTS = 5  # that interpret each other; Linux says ELOOP beyond
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
_ELF_HEADER = 64  # bytes, of the longer kind
_PROGRAM_KINDS = (2, 3)  # e_type: ET_EXEC, ET_DYN
_PT_INTERP, _MOST_HEADERS, _LONGEST_PATH = 3, 128, 4096


def why_not_executable(program: Path, path: str) -> str:
    """Why executing `program` in its own directory would fail, and what to do, for people; empty: nothing is known
    against it. `path`: the PATH that it gets."""
    file, cwd = program, program.parent
    for _ in range(_MOST_SCRIPTS + 1):
        flaw, interpreter = _inspect(file, cwd, path)
        if flaw and file != program:
            return f"{_named(program)}: its interpreter {flaw}; install it, or change the `#!` line"
        if flaw or interpreter is None:
            return flaw
        file = interpreter
    return (
        f"{_named(program)}: its `#!` line leads through more than {_MOST_SCRIPTS} scripts, which the kernel refuses; "
        "make `#!/bin/sh` its first line"
    )


def _inspect(program: Path, cwd: Path, path: str) -> tuple[str, Path | None]:
    """What is wrong with a program itself, for people, and the interpreter that it names."""
    if flaw := _access_flaw(program):
        return flaw, None
    try:
        head = read_regular(program, _FIRST_LINE)
    except OSError:
        return "", None  # a program need not be readable
    if not head.startswith(b"#!"):
        return _content_flaw(program, head, cwd), None
    line = _Shebang.read(head)
    return _script_flaw(program, line, cwd, path), cwd / os.fsdecode(line.interpreter)


def _access_flaw(program: Path) -> str:
    try:
        found = program.stat()
    except OSError as err:
        link = ", a link" if os.path.islink(program) else ""
        return f"{_named(program)}{link}: {err.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{_named(program)} is not a regular file"
    return "" if os.access(program, os.X_OK, effective_ids=True) else _why_no_access(program, found)


def _content_flaw(program: Path, head: bytes, cwd: Path) -> str:
    if any(_applies(handler, program, head) for handler in _handlers()):
        return ""
    if head.startswith(b"\x7fELF"):
        return _elf_flaw(program, head, cwd)
    if head.startswith(_BOMS):
        return f"{_named(program)} begins with a byte order mark, so the kernel sees no `#!`; save it without one"
    what = "is empty" if not head else "has no `#!` at its very beginning, and is not a program either"
    return f"{_named(program)} {what}; make `#!/bin/sh` its first line"


def _why_no_access(program: Path, found: os.stat_result) -> str:
    with suppress(OSError):
        if found.st_mode & 0o111 and os.statvfs(program).f_flag & os.ST_NOEXEC:
            return f"{_named(program)} lies on a file system that is mounted noexec; mount it with exec"
    return f"{_named(program)} is not executable by this user; `chmod 755` it and let that user reach it"


def _script_flaw(program: Path, line: _Shebang, cwd: Path, path: str) -> str:
    if flaw := _line_flaw(line):
        return f"{_named(program)}: {flaw}"
    if not os.access(program, os.R_OK, effective_ids=True):
        return f"{_named(program)} can't be read by this user, so its interpreter can't either; `chmod 755` it"
    wanted = _run_by_env(os.fsdecode(line.argument)) if line.name == "env" else None
    if wanted is None:
        return ""
    found = _found(wanted, cwd, path) if wanted else program
    if found is None:
        return (
            f"{_named(program)}: its `#!` line has env look for {wanted!a}, which is not there for this user (PATH is "
            f"{path}); install it, or change the line"
        )
    if _is_same(found, program):
        return (
            f"{_named(program)}: its `#!` line names no program for env, which executes this script again, without an "
            "end; name one, and use `env -S` for more than one word"
        )
    return ""


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
        line, nul, _ = line.partition(b"\0")
        words = line.strip(b" \t").replace(b"\t", b" ")
        interpreter, _, argument = words.partition(b" ")
        argument = argument.strip(b" ")
        is_cut = len(head) == _FIRST_LINE and not end and not nul and line.endswith(words) and not argument
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
    """The program that `env` is to run; empty: the script itself, which follows on env's command line; None where that
    is not known. The kernel gives all that follows `env` as one argument, which `-S` alone takes apart."""
    split = re.fullmatch(r"(?:-v?S|--split-string[= ]?)\s*(.*)", argument)
    if split is None:
        if argument.startswith("-"):
            return "" if argument in ("-", "-i", "--ignore-environment") else None
        return "" if "=" in argument else argument
    if re.search(r"[$\\]", split[1]):
        return None
    try:
        words = shlex.split(split[1], comments=True)
    except ValueError:
        return None
    for word in words:
        if word.startswith(("-", "PATH=")):
            return None
        if "=" not in word:
            return word
    return ""


def _found(name: str, cwd: Path, path: str) -> Path | None:
    folders = [""] if "/" in name else path.split(":")
    return next((cwd / folder / name for folder in folders if _may_run(cwd / folder / name)), None)


def _is_same(a: Path, b: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(a, b)
    return False


def _may_run(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK, effective_ids=True)


def _elf_flaw(program: Path, head: bytes, cwd: Path) -> str:
    head = head.ljust(_ELF_HEADER, b"\0")  # as the kernel reads a shorter file
    order = {1: "<", 2: ">"}.get(head[5], "=")
    (kind,) = struct.unpack_from(f"{order}H", head, 16)
    (machine,) = struct.unpack_from("=H", head, 18)  # the kernel knows one byte order, its own
    host = os.uname().machine
    if machine and machine not in _MACHINES.get(host, {machine}):
        return f"{_named(program)} is a program for another architecture than this host's ({host})"
    damaged = f"{_named(program)} is no program that the kernel executes: an object file, or damaged; build it anew"
    if not machine or kind not in _PROGRAM_KINDS:
        return damaged
    if head[4] not in (1, 2):
        return ""
    try:
        return _loader_flaw(program, _loader(program, head, order), cwd)
    except (struct.error, ValueError):
        return damaged
    except OSError:
        return ""


def _loader_flaw(program: Path, loader: str, cwd: Path) -> str:
    if not loader or not (flaw := _access_flaw(cwd / loader)):
        return ""
    if not os.path.lexists(cwd / loader):
        return f"{_named(program)}: its loader {loader!a} is missing; it is made for another C library"
    return f"{_named(program)}: its loader {flaw}"


def _loader(program: Path, head: bytes, order: str) -> str:
    """The program that loads a dynamic one (PT_INTERP); empty: it needs none. Raise struct.error where its headers are
    not there, ValueError where they can't be, OSError."""
    is_64 = head[4] == 2
    (offset,) = struct.unpack_from(f"{order}Q" if is_64 else f"{order}I", head, 32 if is_64 else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if is_64 else 42)
    if size != (56 if is_64 else 32) or not count:
        raise struct.error
    with open(program, "rb") as file:
        for number in range(min(count, _MOST_HEADERS)):
            file.seek(offset + number * size)
            header = file.read(size)
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
