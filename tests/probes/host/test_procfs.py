"""/proc as it is read: of real processes, files and locks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host import procfs

GONE = 2**22 + 1  # beyond the largest process id


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a session of its own, with a name that could be taken for other fields of its status."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(sys.executable)
    code = "import sys; file = open('held'); print(flush=True); sys.stdin.read()"
    (tmp_path / "held").touch()
    with subprocess.Popen(
        [program, "-c", code, "two\nlines", ""],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_read(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = procfs.stat(child.pid)
    assert found is not None
    assert (found.parent, found.group, found.session, found.is_dead) == (os.getpid(), child.pid, child.pid, False)
    assert found.started == procfs.started_at(child.pid)
    assert procfs.living()[child.pid].started == found.started
    assert procfs.ancestry(child.pid)[:2] == [child.pid, os.getpid()]
    assert procfs.ancestry(child.pid)[-1] == procfs.ancestry(os.getpid())[-1]
    assert procfs.owner(child.pid) == os.geteuid()
    assert procfs.users(child.pid) == frozenset((os.geteuid(),))
    assert procfs.words(child.pid)[-1] == b"two\nlines"
    assert procfs.name(child.pid) == b"a) S 1 (b"
    assert procfs.directory(child.pid) == str(tmp_path)
    assert procfs.program(child.pid) == os.path.realpath(sys.executable)
    files = dict(procfs.open_files(child.pid))
    assert [os.stat(path).st_ino for path, target in files.items() if target == str(tmp_path / "held")] == [
        (tmp_path / "held").stat().st_ino
    ]


def test_a_zombie_is_seen_and_does_not_live(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert procfs.stats()[child.pid].is_dead
    assert child.pid not in procfs.living()
    assert procfs.words(child.pid) == ()
    assert procfs.directory(child.pid) is None


def test_an_absent_process_has_no_facts() -> None:
    assert procfs.stat(GONE) is None
    assert procfs.started_at(GONE) is None
    assert procfs.owner(GONE) is None
    assert procfs.users(GONE) == frozenset()
    assert (procfs.words(GONE), procfs.name(GONE), list(procfs.open_files(GONE))) == ((), b"", [])
    assert (procfs.directory(GONE), procfs.program(GONE)) == (None, None)
    assert procfs.ancestry(GONE) == [GONE]


def test_a_process_started_between_two_looks_at_the_clock() -> None:
    before = procfs.now()
    with subprocess.Popen(["sleep", "60"]) as process:
        started, after = procfs.started_at(process.pid), procfs.now()
        process.kill()
    assert before is not None
    assert started is not None
    assert after is not None
    assert before - 1 <= started <= after + 1  # both clocks are cut to a hundredth
    assert abs((procfs.uptime() or 0) - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_a_lock_is_read_and_who_waits_for_it_holds_none(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        inode = str(os.fstat(file.fileno()).st_ino)
        with subprocess.Popen(["flock", str(tmp_path / "lock"), "true"]) as waiter:
            held = [lock for lock in procfs.flocks() if lock.file.rpartition(":")[2] == inode]
            assert [lock.pid for lock in held] == [os.getpid()]
            fcntl.flock(file, fcntl.LOCK_UN)
            waiter.wait(60)
    assert procfs.is_there()
