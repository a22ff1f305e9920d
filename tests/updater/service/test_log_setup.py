"""The log: where it goes, how a line looks, and what never gets into it."""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile.log import logger
from updater.service import log_setup


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    logger.set_up(lambda loaded: loaded.remove(), writes_debug=True)


def test_a_line_has_time_level_and_agent(tmp_path: Path) -> None:
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=False)
    logger.debug("not at this level")
    logger.info("hello")
    with logger.contextualize(agent="falcon-agent"):
        logger.warning("{} braces {{}} <red>and</red> marks", "with")
    first, second = (tmp_path / "app.log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO    hello", first)
    assert second.endswith(" WARNING falcon-agent: with braces {} <red>and</red> marks")
    assert (tmp_path / "app.log").stat().st_mode & 0o777 == 0o600


def test_a_traceback_shows_no_values(tmp_path: Path) -> None:
    log_setup.set_up("error", tmp_path / "app.log", to_stderr=False)
    password = "canary"
    try:
        int(f"x{password[:0]}")
    except ValueError as err:
        logger.failure("ERROR", err, "it broke")
    text = (tmp_path / "app.log").read_text()
    assert "Traceback (most recent call last)" in text
    assert "canary" not in text.replace('password = "canary"', "")


def test_in_the_foreground_it_goes_to_standard_error_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=True)
    logger.info("hello")
    assert capsys.readouterr().err.endswith(" INFO    hello\n")
    assert (tmp_path / "app.log").read_text().endswith(" INFO    hello\n")


def test_what_was_set_up_before_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_setup.set_up("info", tmp_path / "first.log", to_stderr=True)
    log_setup.set_up("info", tmp_path / "second.log", to_stderr=False)
    logger.info("hello")
    assert (tmp_path / "first.log").read_text() == ""
    assert "hello" in (tmp_path / "second.log").read_text()
    assert capsys.readouterr().err == ""


def test_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    log_setup.set_up("info", None, to_stderr=True)
    logger.info("hello")
    assert "hello" in capsys.readouterr().err


def test_it_rotates_by_size_and_keeps_a_few(tmp_path: Path) -> None:
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=False)
    for number in range(11 * 8):
        logger.info("{} {}", number, "x" * 1_000_000)
    files = [tmp_path / "app.log", *(tmp_path / f"app.log.{number}" for number in range(1, 6))]
    assert sorted(tmp_path.iterdir()) == files
    newest_first = [
        int(line.split()[2]) for file in files for line in reversed(file.read_text(encoding="utf-8").splitlines())
    ]
    assert newest_first == list(range(87, 87 - len(newest_first), -1))
    # A file takes no further line from 10 MiB on; no line is cut for that.
    assert {file.stat().st_size // 1_000_000 for file in files[1:]} == {11}
    assert files[0].stat().st_size < 12_000_000
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_a_log_that_another_program_moved_begins_again(tmp_path: Path) -> None:
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=False)
    logger.info("first")
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    logger.info("second")
    assert "second" in (tmp_path / "app.log").read_text()


def test_a_log_that_another_run_moves_meanwhile_is_not_moved_once_more(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    log = log_setup.LogFile(path)
    log.write("x" * 10 * 1024 * 1024)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writing = threading.Thread(target=log.write, args=("later\n",))
        writing.start()
        until_waits_for_lock(path)
        path.rename(tmp_path / "app.log.1")
        path.write_text("begun\n")
    writing.join(60)
    log.stop()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["app.log", "app.log.1"]
    assert path.read_text() == "begun\nlater\n"


def until_waits_for_lock(path: Path) -> None:
    """Wait until a lock of the file is waited for, as /proc/locks shows it (proc_locks(5): "->")."""
    inode, deadline = f":{path.stat().st_ino} ", time.monotonic() + 60
    while not any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_log_that_is_not_set_up_any_more_holds_no_file(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for name in ("first.log", "second.log"):
        log_setup.set_up("info", tmp_path / name, to_stderr=False)
        logger.info("hello")
    log_setup.set_up("info", None, to_stderr=True)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("what", ["fifo", "link to one"])
def test_what_is_no_file_is_neither_written_nor_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path, fifo = tmp_path / "app.log", tmp_path / "fifo"
    os.mkfifo(path if what == "fifo" else fifo)
    if what != "fifo":
        path.symlink_to(fifo)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = set(os.listdir("/proc/self/fd"))
        log_setup.set_up("info", path, to_stderr=False, complains=True)
        logger.info("one")
        assert capsys.readouterr().err.splitlines()[0] == f"the log {path} can't be written: it is not a regular file"
        assert os.read(reader, 100) == b""
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(reader)


def test_a_file_that_can_not_be_written_is_said_once_and_its_lines_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.log"
    path.mkdir()
    log_setup.set_up("info", path, to_stderr=False, complains=True)
    logger.info("one")
    logger.info("two")
    complaint, *lines = capsys.readouterr().err.splitlines()
    assert complaint == f"the log {path} can't be written: Is a directory"
    assert [line[-11:] for line in lines] == ["INFO    one", "INFO    two"]
    path.rmdir()
    logger.info("three")
    assert (capsys.readouterr().err, path.read_text()[-6:]) == ("", "three\n")


@pytest.mark.parametrize(("to_stderr", "shown"), [(False, 0), (True, 1)])
def test_lines_that_are_shown_or_not_wanted_are_not_shown_for_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to_stderr: bool, shown: int
) -> None:
    (tmp_path / "app.log").mkdir()
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=to_stderr, complains=to_stderr)
    logger.info("one")
    assert len(capsys.readouterr().err.splitlines()) == shown
