"""Processes that are distinguished by id and start time, and those that a version or a call left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from probes.host import processes, procfs
from probes.host.processes import Leader, Process
from tests.e2e.processes import until

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
        started = procfs.started_at(process.pid)
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
        assert procfs.started_at(one.pid) == one.started
    assert not processes.lives(one)
    assert procfs.started_at(one.pid) is None


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


def test_what_runs_from_a_tree(tree: Path, tmp_path: Path) -> None:
    """By its program or its working directory alone, through links, and after these were removed."""
    assert processes.running_from(tree) == ()
    program = tree / "sleep"
    shutil.copy("/bin/sleep", program)
    (tree / "lib").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "agent")
    beside = tree.with_name("2.0.0-rc")
    opens = f"log = open({str(tree / 'app.log')!r}, 'w'); {WAITS}"
    with (
        running(cwd=tree / "lib") as works,
        running(cwd=beside),
        running(str(tree / "a.py")),
        running(code=opens),
        subprocess.Popen([program, "600"], cwd="/") as sleeps,
    ):
        try:
            until(lambda: Path(f"/proc/{sleeps.pid}/cmdline").read_bytes() != b"", "its command line is seen")
            there = {
                works.pid: Process(pid=works.pid, command=sys.executable, path=str(tree / "lib")),
                sleeps.pid: Process(pid=sleeps.pid, command=str(program), path=str(program)),
            }
            expected = tuple(there[pid] for pid in sorted(there))
            assert processes.running_from(tree) == expected
            assert processes.running_from(tree, processes.runs()) == expected
            shutil.rmtree(tree)
            for path in (tree, link / "2.0.0", tmp_path):
                found = processes.running_from(path) or ()
                assert {evolve(one, is_removed=True) for one in expected} <= set(found)
        finally:
            sleeps.kill()


def test_who_called_us_does_not_run_there(tree: Path) -> None:
    """An operator's shell may stand in an agent's folder."""
    code = "import sys; from pathlib import Path; from probes.host import processes as p; print(p.running_from(Path()))"
    ask = [sys.executable, "-c", code.replace("Path()", f"Path({str(tree)!r})")]
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *ask]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(shell, cwd=tree, env=env, capture_output=True, text=True, check=True)
    assert said.stdout == "()\n"


def test_a_call_that_we_make_just_now_does_not_run_there(tree: Path) -> None:
    """What it left runs there once it has ended."""
    with running(code=FORKS, cwd=tree, session=True) as call:
        assert processes.running_from(tree) == ()
        os.kill(call.pid, signal.SIGKILL)
        os.waitpid(call.pid, 0)
        [left] = processes.running_from(tree) or ()
        os.kill(left.pid, signal.SIGKILL)


def test_others_than_our_user_do_not_count(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(cwd=tree):
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        assert processes.running_from(tree) == ()


def test_what_ends_is_waited_for(tree: Path) -> None:
    ends = "import os, time; print('x', end='', flush=True)\nwhile not os.path.exists('end'): time.sleep(0.01)"
    with running(code=ends, cwd=tree) as one, running(code=ends, cwd=tree):
        assert one.pid in {process.pid for process in processes.outlasting(tree, 0) or ()}
        end = threading.Timer(0.3, (tree / "end").touch)
        end.start()
        assert processes.outlasting(tree, LIMIT_S) == ()
        end.join()


def test_what_does_not_end_is_waited_for_so_long_and_no_longer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(cwd=tree) as one:
        assert [process.pid for process in processes.outlasting(tree, 0.1) or ()] == [one.pid]
        monkeypatch.delattr(os, "pidfd_open")  # an older kernel
        assert [process.pid for process in processes.outlasting(tree, 0.1) or ()] == [one.pid]


IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
TAKES_ITS_TIME = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit()))
{WAITS}
"""


def test_what_runs_from_what_was_removed_is_ended_and_nothing_else(tree: Path) -> None:
    with (
        running(cwd=tree) as ends,
        running(cwd=tree, code=IGNORES) as stays,
        running(cwd=tree.parent / "2.0.0-rc") as beside,
    ):
        shutil.rmtree(tree)
        began = time.monotonic()
        assert [process.pid for process in processes.end_removed(tree.parent, 1.5)] == [stays.pid]
        assert time.monotonic() - began >= 1.5, "it had so long"
        until(lambda: not processes.lives(ends), "it ends")
        assert processes.lives(beside)


ON_A_TERMINAL = """
import os, pty, sys, time
pid, _ = pty.fork()
if pid == 0:
    os.chdir(sys.argv[1])
    time.sleep(600)
print(pid, flush=True)
sys.stdin.read()
os.kill(pid, 9)
"""


def test_what_a_person_left_at_a_terminal_is_not_ended(tree: Path) -> None:
    """A shell, an editor or a pager in the folder of a version."""
    words = [sys.executable, "-c", ON_A_TERMINAL, str(tree)]
    with subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        until(lambda: os.readlink(f"/proc/{pid}/cwd") == str(tree), "it is there")
        shutil.rmtree(tree)
        assert [one.has_terminal for one in processes.running_from(tree.parent) or ()] == [True]
        assert processes.end_removed(tree.parent, LIMIT_S) == ()
        assert Path(f"/proc/{pid}/cwd").readlink().name == "2.0.0 (deleted)", "it lives on"
        keeper.communicate()


def test_what_takes_its_time_to_end_is_waited_for_and_no_longer_than_that(tree: Path) -> None:
    with running(cwd=tree, code=TAKES_ITS_TIME) as one:
        shutil.rmtree(tree)
        began = time.monotonic()
        assert processes.end_removed(tree.parent, LIMIT_S) == ()
        assert time.monotonic() - began < LIMIT_S
        until(lambda: not processes.lives(one), "its last moments are over, too")


def test_what_began_since_may_be_the_agent(tree: Path, tmp_path: Path) -> None:
    """A daemon that left all behind; not a child of a program that has nothing to do with it, nor another agent."""
    since = procfs.now()
    assert since is not None
    pids = tmp_path / "pids"
    other = tree.with_name("2.0.0-rc")
    (other / "control").touch()
    orphan = "(cd {where} && exec setsid sleep 600) >/dev/null 2>&1 & echo $! >>{pids}"
    for where in (Path("/"), other):
        subprocess.run(["sh", "-c", orphan.format(where=where, pids=pids)], check=True)
    daemon, agent = map(int, pids.read_text().split())
    try:
        until(lambda: all(os.getsid(pid) == pid for pid in (daemon, agent)), "sessions of their own")
        with running() as child:
            found = set(processes.left_of(tree, (), since) or ())
            assert {daemon, agent, child.pid} & found == {daemon}
            later = (procfs.started_at(daemon) or 0) + 1
            assert daemon not in (processes.left_of(tree, (), later) or ())
    finally:
        for pid in (daemon, agent):
            os.kill(pid, signal.SIGKILL)


def test_we_are_not_left_over_ourselves(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert processes.left_of(tree, ()) == ()


FORKS = """import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"])
print("x", end="", flush=True)
sys.stdin.read(1)
"""


ADOPTS = """
import ctypes, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
sys.exit(subprocess.run([sys.executable, "-c", *sys.argv[1:]]).returncode)
"""
STARTS_A_DAEMON = """
import os, signal, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from probes.host import processes, procfs
since = procfs.now()
daemon = "(cd / && exec setsid sleep 600) >/dev/null 2>&1 & echo $!"
pid = int(subprocess.run(["sh", "-c", daemon], capture_output=True, text=True).stdout)
while procfs.stat(pid).parent == os.getpid() or Path(f"/proc/{pid}/comm").read_text() != "sleep\\n":
    pass
try:
    sys.exit(0 if pid in processes.left_of(Path(os.environ["TREE"]), (), since) else 7)
finally:
    os.kill(pid, signal.SIGKILL)
"""


def test_a_daemon_that_the_leader_of_our_session_adopted_may_be_the_agent(tree: Path) -> None:
    """As systemd adopts what a user's services leave."""
    words = [sys.executable, "-c", ADOPTS, STARTS_A_DAEMON, str(Path(__file__).parents[3])]
    env = {**os.environ, "TREE": str(tree)}  # among its words it would tie that process to the tree
    assert subprocess.run(words, start_new_session=True, stdin=subprocess.DEVNULL, env=env).returncode == 0


def test_what_a_call_left_in_its_session(tree: Path) -> None:
    """Its first process may be gone: the session's id stays taken as long as a process is in it."""
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


def test_an_unreadable_proc_shows_no_process(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "stat", lambda pid: None)
    assert processes.left_of(tree, ()) is None
    assert processes.running_from(tree) is None
    assert processes.outlasting(tree, LIMIT_S) is None


def test_a_call_that_ends_is_waited_for() -> None:
    ends = f"import time; {WAITS.split(';')[0]}; print('x', end='', flush=True); time.sleep(0.2)"

    def end(call: Leader) -> bool:
        pytest.fail(f"{call} has ended by itself")

    with running(code=ends) as call:
        assert processes.outwait(call, LIMIT_S, never, end=end)
    assert processes.outwait(call, LIMIT_S, never, end=end), "nothing to wait for"


def test_a_call_whose_time_is_over_is_ended_with_all_that_it_left() -> None:
    with running(code=FORKS, session=True) as call:
        assert processes.outwait(call, 0, never)
        assert not processes.lives(call)


def test_a_call_that_ignores_its_end_is_killed() -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
    with running(code=deaf, session=True) as call:
        assert processes.outwait(call, 0, never, end=partial(processes.end_call, grace_s=0.1))


def test_a_call_without_a_note_is_found(tree: Path) -> None:
    """By its words, its session and its directory: what it started has another name."""
    since = procfs.now()
    control = tree / "control"
    control.write_text("#!/bin/sh\nsleep 600 & wait\n")
    control.chmod(0o755)
    with subprocess.Popen([control, "start"], cwd=tree, start_new_session=True) as call:
        try:
            started = procfs.started_at(call.pid)
            assert started is not None
            found = Leader(pid=call.pid, started=started)
            eventually(lambda: processes.running_call(tree, "start", since) == found)
            assert processes.running_call(tree, "start", None) == found
            assert processes.running_call(tree, "stop", since) is None
            assert processes.running_call(tree, "start", started + 1) is None
            assert processes.running_call(tree.parent, "start", since) is None
            shutil.rmtree(tree)
            assert processes.running_call(tree, "start", since) == found
        finally:
            processes.end_call(Leader(pid=call.pid, started=procfs.started_at(call.pid) or 0))


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_updater_that_is_to_end_waits_no_longer() -> None:
    with running() as call:
        assert not processes.outwait(call, LIMIT_S, lambda: True)
        assert processes.lives(call)


AS_FIRST = """
import os, subprocess, sys, time
from pathlib import Path
from probes.host import processes
assert os.getpid() == 1
tree = Path(sys.argv[1])
subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $! >daemon"], cwd=tree, check=True)
daemon = int((tree / "daemon").read_text())
while Path(f"/proc/{daemon}/comm").read_text() != "sleep\\n":
    time.sleep(0.01)
print([one.pid for one in processes.running_from(tree)] == [daemon])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_as_the_first_process_we_take_no_adopted_daemon_for_a_call_of_ours(tree: Path) -> None:
    """As in a container."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no process namespace can be made here")
    run = subprocess.run(
        [*unshare, sys.executable, "-c", AS_FIRST, str(tree)], capture_output=True, text=True, timeout=120
    )
    assert (run.stdout, run.stderr) == ("True\n", "")
