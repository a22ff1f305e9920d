"""Which processes lint takes for the agent's: those that come once it follows them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.host.facts import User, own_user
from updater.lint.runner import Called, CallOptions, Runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are followed on Linux alone")


def test_what_ran_below_us_before_is_none_of_the_agents(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as before:
        try:
            with Runner(tmp_path, own_user()) as runner:
                assert (runner.alive(), runner.roots(), runner.kill_all()) == ((), frozenset(), ())
            assert before.poll() is None
        finally:
            before.kill()


@pytest.mark.parametrize("before", [0, 1])
def test_orphans_go_where_they_went_before(tmp_path: Path, before: int) -> None:
    libc, found = ctypes.CDLL(None), ctypes.c_int()
    set_it, get_it = 36, 37  # PR_SET_CHILD_SUBREAPER and PR_GET_CHILD_SUBREAPER of linux/prctl.h
    try:
        assert libc.prctl(set_it, before, 0, 0, 0) == 0
        with Runner(tmp_path, own_user()):
            assert libc.prctl(get_it, ctypes.byref(found), 0, 0, 0) == 0
            assert found.value == 1
        assert libc.prctl(get_it, ctypes.byref(found), 0, 0, 0) == 0
        assert found.value == before
    finally:
        libc.prctl(set_it, 0, 0, 0, 0)


def test_whose_end_another_waits_for_is_left_to_that_one(tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", "read -r line; exit 7"], stdin=subprocess.PIPE) as before:
        with Runner(tmp_path, own_user()) as runner:
            assert before.stdin is not None
            before.stdin.close()
            with Path(f"/proc/{before.pid}/stat").open() as stat:
                while stat.seek(0) == 0 and ") Z" not in stat.read():
                    pass
            runner.end_all()
        assert before.wait() == 7


# How a call went


ENV = {"PATH": os.environ["PATH"], "WORD": "a word"}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    (tmp_path / "outputs").mkdir()
    with Runner(tmp_path / "outputs", own_user()) as runner:
        yield runner


def call(
    runner: Runner, tmp_path: Path, script: str, limit_s: float = 60.0, *, answers: bool = False, closed: bool = False
) -> Called:
    tree = tmp_path / "1.0.0"
    tree.mkdir(exist_ok=True)
    (tree / "control").write_text(f"#!/bin/sh\n{script}\n")
    (tree / "control").chmod(0o755)
    return runner.call(tree, "start", limit_s, CallOptions(env=ENV, answers=answers, closed=closed))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_call_says_and_how_it_ends(runner: Runner, tmp_path: Path) -> None:
    called = call(runner, tmp_path, 'echo "$1 $WORD $(umask) $PWD"; echo to-stderr >&2; exit 3')
    assert called.output == f"start a word 0022 {tmp_path}/1.0.0\nto-stderr\n"
    assert (called.verb, called.code, called.in_time, called.fault, called.held) == ("start", 3, True, "", ())
    assert called.words == "exit code 3, last line 'to-stderr'"
    assert 0 < called.seconds < 60
    called = call(runner, tmp_path, "kill -9 $$")
    assert (called.code, called.output, called.words) == (-9, "", "exit code -9, no output")


def test_each_call_has_an_output_of_its_own(runner: Runner, tmp_path: Path) -> None:
    assert [call(runner, tmp_path, f"echo {word}").output for word in ("first", "second")] == ["first\n", "second\n"]


def test_standard_input_gives_answers_or_nothing_or_is_closed(runner: Runner, tmp_path: Path) -> None:
    script = "if read -r line; then echo got $line; elif [ -e /proc/$$/fd/0 ]; then echo end; else echo closed; fi"
    said = [
        call(runner, tmp_path, script, answers=answers, closed=closed).output
        for answers, closed in ((True, False), (False, False), (False, True))
    ]
    assert said == ["got y\n", "end\n", "closed\n"]


def test_a_call_that_can_not_be_made_says_why_without_our_folders(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "1.0.0").mkdir()
    (tmp_path / "1.0.0/control").write_text("#!/no/such/shell\n")
    (tmp_path / "1.0.0/control").chmod(0o755)
    called = runner.call(tmp_path / "1.0.0", "status", 60.0, CallOptions(env=ENV))
    assert called.fault.startswith("control: its interpreter '/no/such/shell' is missing")
    assert str(tmp_path) not in called.fault
    assert (called.code, called.in_time, called.output) == (None, True, "")


def test_what_outlives_its_limit_is_killed_with_all_that_it_started(runner: Runner, tmp_path: Path) -> None:
    script = f"sleep 600 & setsid sleep 600 & echo $! >{tmp_path}/pid; echo begun; wait"
    called = call(runner, tmp_path, script, limit_s=1.0)
    assert (called.code, called.in_time, called.output, called.held) == (None, False, "begun\n", ())
    assert called.seconds >= 1.0
    assert runner.alive() == ()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_what_a_call_leaves_is_followed_wherever_it_hides(runner: Runner, tmp_path: Path) -> None:
    script = f"(setsid sh -c 'sleep 600; :' >/dev/null 2>&1 & echo $! >{tmp_path}/pid); sleep 600 >/dev/null 2>&1 &"
    called = call(runner, tmp_path, script)
    assert (called.code, called.held) == (0, ())
    until(lambda: len(runner.alive()) == 3)  # both, and the child of the one
    assert len(runner.roots()) == 2
    assert int((tmp_path / "pid").read_text()) in runner.roots()
    bystander = runner.bystander()
    assert runner.bystander() == bystander, "there is one"
    assert bystander not in runner.alive()
    alive = runner.alive()
    assert runner.kill_all() == alive
    assert (runner.alive(), runner.roots()) == ((), frozenset())
    os.kill(bystander, 0)


def test_who_still_holds_the_output_is_named(runner: Runner, tmp_path: Path) -> None:
    called = call(runner, tmp_path, "sleep 600 &")
    [held] = called.held
    assert held == f"{runner.alive()[0]} (sleep 600)"
    # Who redirects its output a moment later holds it no more; nor does who merely has another file open.
    called = call(runner, tmp_path, "(sleep 0.3; exec sleep 600 >/dev/null 2>&1) &")
    assert called.held == ()


def test_at_its_end_nothing_runs_any_more(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    with Runner(tmp_path / "outputs", own_user()) as runner:
        call(runner, tmp_path, "trap '' TERM HUP; sleep 600 >/dev/null 2>&1 &")
        pids = (*runner.alive(), runner.bystander())
        assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_flood_fills_no_disk_and_its_end_is_what_was_said(runner: Runner, tmp_path: Path) -> None:
    # 32 MiB, while no more than 8 of them are ever kept for longer than a look.
    script = (
        "i=0; while [ $i -lt 256 ]; do head -c 131072 /dev/zero | tr '\\0' x; i=$((i+1)); sleep 0.001; done; echo end"
    )
    called = call(runner, tmp_path, script, limit_s=120.0)
    assert called.code == 0
    assert called.output.endswith("x" * 1000 + "end\n")
    assert len(called.output) <= 64 * 1024
    assert max(file.stat().st_size for file in (tmp_path / "outputs").iterdir()) < 16 * 1024 * 1024


def test_what_ends_is_no_zombie_for_the_agents_own_looks(runner: Runner, tmp_path: Path) -> None:
    script = """
sleep 0.1 >/dev/null 2>&1 & pid=$!
sh -c "exec sleep 0.1 >/dev/null 2>&1 & echo \\$!" >orphan
orphan=$(cat orphan)
i=0
while kill -0 $orphan 2>/dev/null && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done
[ $i -lt 600 ]
"""
    assert call(runner, tmp_path, script, limit_s=90.0).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_calls_as_the_agents_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "outputs").mkdir(mode=0o700)
    nobody = User(name="nobody", uid=65534, gid=65534, home="/", shell="/bin/sh")
    with Runner(tmp_path / "outputs", nobody) as runner:
        assert call(runner, tmp_path, "id -u; id -g; id -G").output == "65534\n65534\n65534\n"
        assert Path(f"/proc/{runner.bystander()}").stat().st_uid == 65534
