"""Processes that are told from each other by id and start time, and those that a version or a call left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.host import processes
from probes.host.processes import Leader

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

WAITS = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
LIMIT_S = 60.0


def never() -> bool:
    return False


@contextmanager
def running(*argv: str, code: str = WAITS, cwd: Path = Path("/"), session: bool = False) -> Iterator[Leader]:
    """A process that waits for its input's end; it runs by the time that the block begins."""
    command = [sys.executable, "-I", "-S", "-c", code, *argv]
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=session
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        started = processes.started_at(process.pid)
        assert started is not None
        try:
            yield Leader(pid=process.pid, started=started)
        finally:
            process.kill()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "agent" / "2.0.0"
    tree.mkdir(parents=True)
    (tmp_path / "agent" / "2.0.0-rc").mkdir()
    return tree


def test_a_process_is_known_by_its_id_and_its_start(tmp_path: Path) -> None:
    with running() as one:
        assert processes.lives(one)
        assert not processes.lives(Leader(pid=one.pid, started=one.started + 1))
        assert 0 <= processes.age(one) < LIMIT_S
        os.kill(one.pid, signal.SIGKILL)
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.lives(one), "a zombie is dead"
        assert processes.started_at(one.pid) == one.started
    assert not processes.lives(one)
    assert processes.started_at(one.pid) is None


def test_what_belongs_to_a_tree(tree: Path, tmp_path: Path) -> None:
    inside, log = tree / "lib", tree / "app.log"
    inside.mkdir()
    opens = f"log = open({str(log)!r}, 'w'); {WAITS}"
    beside = tree.with_name("2.0.0-rc")
    assert processes.left_of(tree, ()) == ()
    with (
        running(cwd=inside) as works_there,
        running(code=opens) as writes,
        running(str(tree / "a.py")) as runs_it,
        running(f"-cp=/x.jar:{tree}/lib/a.jar") as java,
        running(cwd=beside),
        running(f"{beside}/a.py"),
    ):
        expected = tuple(sorted(one.pid for one in (works_there, writes, runs_it, java)))
        assert processes.left_of(tree, ()) == expected
        (tmp_path / "link").symlink_to(tmp_path / "agent")
        assert works_there.pid in (processes.left_of(tmp_path / "link" / "2.0.0", ()) or ())


def test_we_are_not_left_over_ourselves(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert processes.left_of(tree, ()) == ()


FORKS = """import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"])
print("x", end="", flush=True)
sys.stdin.read(1)
"""


def test_what_a_call_left_in_its_session(tree: Path) -> None:
    """Its first process may be gone: the session's id stays taken as long as somebody is in it."""
    with running(code=FORKS, session=True) as call:
        found = processes.left_of(tree, (call,))
        assert found is not None
        assert call.pid in found
        assert len(found) == 2
        other = Leader(pid=call.pid, started=call.started + 1)
        assert processes.left_of(tree, (other,)) == (), "the id is another's by now"
        os.kill(call.pid, signal.SIGKILL)
        os.waitpid(call.pid, 0)
        [child] = processes.left_of(tree, (call,)) or ()
        os.kill(child, signal.SIGKILL)


def test_where_nobody_can_be_seen_nothing_is_said(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_stat", lambda pid: None)
    assert processes.left_of(tree, ()) is None


def test_a_call_that_ends_is_waited_for() -> None:
    ends = f"import time; {WAITS.split(';')[0]}; print('x', end='', flush=True); time.sleep(0.2)"
    with running(code=ends) as call:
        assert processes.outwait(call, LIMIT_S, never)
    assert processes.outwait(call, LIMIT_S, never), "nothing to wait for"


def test_a_call_whose_time_is_over_is_ended_with_all_that_it_left() -> None:
    with running(code=FORKS, session=True) as call:
        assert processes.outwait(call, 0, never)
        assert not processes.lives(call)


def test_a_call_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE_S", 0.1)
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
    with running(code=deaf, session=True) as call:
        assert processes.outwait(call, 0, never)


def test_whoever_is_to_end_waits_no_longer() -> None:
    with running() as call:
        assert not processes.outwait(call, LIMIT_S, lambda: True)
        assert processes.lives(call)
