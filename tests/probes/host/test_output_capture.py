"""The places where output goes: what they keep, what they refuse, how they are bounded."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from probes.host import output_capture
from probes.host.output_capture import AppendedFile, Capture, SealedMemory, open_capture, truncate_log

ROOM = 1 << 16


@pytest.fixture
def memory() -> SealedMemory:
    opened = open_capture(None)
    assert isinstance(opened, SealedMemory)
    return opened


def _print_into(where: Capture, *lines: str) -> bytes:
    body = "\n".join(lines)
    subprocess.run(["/bin/sh", "-c", body], stdout=where.fd, stderr=where.fd, check=False)
    try:
        return where.tail()
    finally:
        where.close()


def test_memory_is_sealed(memory: SealedMemory) -> None:
    assert os.write(memory.fd, b"x" * ROOM) == ROOM
    with pytest.raises(OSError, match="not permitted") as refused:
        os.write(memory.fd, b"x")
    assert refused.value.errno == errno.EPERM
    memory.close()


def test_memory_keeps_what_both_streams_said(memory: SealedMemory) -> None:
    assert _print_into(memory, "echo out; echo err >&2") == b"out\nerr\n"


def test_memory_keeps_trailing_nul_bytes(memory: SealedMemory) -> None:
    assert _print_into(memory, r"printf 'a\0\0'") == b"a\0\0"


def test_memory_finds_what_came_through_another_offset(memory: SealedMemory) -> None:
    assert _print_into(memory, "exec 1<>/dev/stdout; echo reopened") == b"reopened\n"


def test_memory_refuses_truncation_and_keeps_the_rest(memory: SealedMemory) -> None:
    kept = _print_into(memory, "echo started", "echo warning > /dev/stderr")
    assert kept.startswith(b"started\n")
    assert b"not permitted" in kept


def test_memory_marks_both_cuts(memory: SealedMemory) -> None:
    kept = _print_into(memory, "yes 'not started' | head -c 200000")
    assert len(kept) == output_capture.TAIL_LIMIT
    assert kept.startswith(b"[cut] ")
    assert kept.endswith(b" [cut]")


def test_a_file_stands_in_where_there_is_no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    opened = open_capture(None)
    assert isinstance(opened, AppendedFile)
    assert os.fstat(opened.fd).st_nlink == 0
    assert _print_into(opened, "echo out; echo err >&2") == b"out\nerr\n"


def test_a_file_stands_in_where_memory_can_not_be_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    create = os.memfd_create
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "memfd_create", lambda name, flags: create(name, os.MFD_CLOEXEC))
    opened = open_capture(None)
    assert isinstance(opened, AppendedFile)
    opened.close()
    assert os.listdir("/proc/self/fd") == before


def test_trimming_bounds_a_file_and_keeps_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> NoReturn:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "memfd_create", refused)
    opened = open_capture(None)
    os.write(opened.fd, b"x" * ROOM)
    opened.trim()
    assert os.fstat(opened.fd).st_size == ROOM, "as much as it may hold"
    for _ in range(5):
        subprocess.run(["/bin/sh", "-c", "seq 1 20000; echo end"], stdout=opened.fd, check=True)
        opened.trim()
        assert os.fstat(opened.fd).st_size <= ROOM
    kept = _print_into(opened, "echo started")
    assert len(kept) == output_capture.TAIL_LIMIT
    assert kept.startswith(b"[cut] ")
    assert kept.endswith(b"20000\nend\n [cut] started\n")


def test_a_file_that_the_script_empties_is_read_from_its_begin(tmp_path: Path) -> None:
    log = tmp_path / ".start.log"
    log.write_text("of yesterday\n" * 10)
    assert _print_into(open_capture(log), "echo warning > /dev/stderr; echo started") == b"warning\nstarted\n"


def test_a_log_is_made_readable_and_inherits_no_odd_flag(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        opened = open_capture(tmp_path / ".start.log")
    finally:
        os.umask(previous)
    assert (tmp_path / ".start.log").stat().st_mode & 0o7777 == 0o644
    assert os.get_blocking(opened.fd)
    assert not os.get_inheritable(opened.fd)
    opened.close()


def _link(log: Path) -> None:
    (log.parent / "victim").write_text("v" * 100)
    log.symlink_to("victim")


def _device(log: Path) -> None:
    log.symlink_to("/dev/null")


@pytest.mark.parametrize("put", [_link, _device, os.mkfifo, os.mkdir])
def test_what_is_no_log_is_left_alone_and_keeps_no_agent_from_starting(put: object, tmp_path: Path) -> None:
    assert callable(put)
    log = tmp_path / ".start.log"
    put(log)
    before = os.listdir("/proc/self/fd")
    captured = open_capture(log)
    os.write(captured.fd, b"started\n")
    captured.close()
    assert not truncate_log(log, limit=10)
    assert os.listdir("/proc/self/fd") == before
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_text() == "v" * 100


def test_a_missing_directory_of_the_log_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    open_capture(tmp_path / "gone" / ".start.log").close()
    assert not (tmp_path / "gone").exists()


def test_where_no_file_can_be_made_an_agent_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))  # as where all disks are read-only
    before = os.listdir("/proc/self/fd")
    nowhere = open_capture(tmp_path / "gone" / ".start.log")
    assert not nowhere.trims
    nowhere.trim()
    assert _print_into(nowhere, "echo words") == b""
    assert os.listdir("/proc/self/fd") == before


def test_truncate_log(tmp_path: Path) -> None:
    log = tmp_path / ".start.log"
    assert not truncate_log(log)
    log.write_bytes(b"x" * 100)
    assert not truncate_log(log, limit=100)
    assert log.stat().st_size == 100
    assert truncate_log(log, limit=99)
    assert log.stat().st_size == 0


def test_a_writer_goes_on_in_a_truncated_log(tmp_path: Path) -> None:
    log = tmp_path / ".start.log"
    opened = open_capture(log)
    os.write(opened.fd, b"x" * 100)
    assert truncate_log(log, limit=10)
    os.write(opened.fd, b"next\n")
    opened.close()
    assert log.read_bytes() == b"next\n"


def test_a_log_that_has_another_name_too_is_left_alone(tmp_path: Path) -> None:
    log, theirs = tmp_path / ".start.log", tmp_path / "precious"
    theirs.write_bytes(b"x" * 100)
    os.link(theirs, log)
    assert not truncate_log(log, limit=10)
    assert theirs.stat().st_size == 100
