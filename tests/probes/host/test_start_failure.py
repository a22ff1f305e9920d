"""What the message says where a control script could not be started: what is wrong with it, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from probes.host.start_failure import why_not_started

ELF = "\x7fELF"


def control(folder: Path, content: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path = folder / "control"
    path.write_bytes(content.encode("latin-1"))
    path.chmod(mode)
    return path


def why(path: Path, number: int) -> str:
    return why_not_started(path, path.parent, OSError(number, os.strerror(number))).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "number", "words"),
    [
        ("#!/no/such\n", errno.ENOENT, "its interpreter '/no/such' is missing; install it"),
        ("#! \t/no/such\t-x\n", errno.ENOENT, "its interpreter '/no/such' is missing; install it"),
        (
            "#!/bin/sh\r\nline\n",
            errno.ENOENT,
            r"its first line ends in CR LF, so the kernel looks for '/bin/sh\r'; `dos",
        ),
        (ELF, errno.ENOENT, "the loader or a library that this program names is missing"),
        (ELF, errno.ENOEXEC, "a program for another architecture than this host's"),
        ("echo", errno.ENOEXEC, "the kernel can't execute it: no `#!` at its very beginning"),
        ("#!/bin/sh\n", errno.EACCES, "permission denied although it is executable: its interpreter '/bin/sh' is not"),
        (ELF, errno.EACCES, "permission denied although it is executable; does a security module"),
        (ELF, errno.ETXTBSY, "somebody has it open for writing; end that (`fuser -v "),
        (ELF, errno.EIO, "can't be executed: Input/output error"),
        *((ELF, number, "not started, the host is short of a resource: ") for number in (11, 12, 23, 24)),
    ],
)
def test_each_cause_has_words_of_its_own(tmp_path: Path, content: str, number: int, words: str) -> None:
    assert why(control(tmp_path, content), number).startswith(words)


def test_what_is_not_executable_is_made_so(tmp_path: Path) -> None:
    path = control(tmp_path, mode=0o644)
    assert why(path, errno.EACCES).startswith(f"not executable by this user; `chmod 755 {path}`")


def test_a_file_system_that_lets_nothing_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert why(control(tmp_path), errno.EACCES).startswith("its file system is mounted noexec; mount it with exec")


def test_what_is_in_the_place_of_a_script(tmp_path: Path) -> None:
    missing = tmp_path / "control"
    assert why(missing, errno.ENOENT).startswith("No such file or directory; an executable `control` must lie in")
    missing.mkdir()
    assert why(missing, errno.EACCES).startswith("not a regular file; ")


def test_a_folder_that_is_gone_is_named_and_not_the_script(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    path = control(tmp_path)
    assert why_not_started(path, gone, FileNotFoundError(errno.ENOENT, "")).startswith(f"{gone}: not a directory that")


@pytest.mark.parametrize("kind", [ValueError, OSError])
def test_an_error_without_a_number_is_reported_by_its_text(tmp_path: Path, kind: type[Exception]) -> None:
    path = control(tmp_path)
    assert why_not_started(path, tmp_path, kind("embedded null byte")) == (
        f"{path}: can't be executed: embedded null byte"
    )


def test_a_fifo_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "control", 0o755)
    assert why(tmp_path / "control", errno.EACCES).startswith("not a regular file; ")
