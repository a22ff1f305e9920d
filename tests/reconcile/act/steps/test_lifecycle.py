"""Stop, switch and start of real agents: slow ones, lying ones, such that die, hang or say what is not understood."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from probes.errors import UserMissing
from probes.home import StatusLimits
from probes.host import processes
from probes.host.paths import AgentHome
from probes.observed import MARKER, STAGED_CONFIG, Origin, ProcessState
from reconcile.act.context import ControlLimits
from reconcile.act.home_ops import START_LOG_LIMIT, trim_start_logs
from reconcile.act.host import atomic_fs
from reconcile.act.steps.lifecycle import start, stop, switch
from reconcile.decide.actions import Result, Start, Stop, SwitchConfig, SwitchTree, SwitchVersion
from reconcile.decide.records.record import ControlCall
from reconcile.errors import (
    ControlTimeout,
    ReconcileError,
    StartFailed,
    StartPostponed,
    StopFailed,
    StopPostponed,
    WriteFailed,
)
from tests.support.sample_agents import AgentBehavior, control_script
from tests.yard import GIVEN_UP, LIMITS, NAME, SHORT, Yard
from updater.demo import agent

# It says started at its first look and never again: what died within half a second, without depending on a clock.
STARTED_ONCE = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) : >fresh ;;
status) if rm fresh 2>/dev/null; then echo started; else echo stoped; fi ;;
esac
"""
START, STOP = Start(version="1.0.0"), Stop(version="1.0.0")

# Starts nothing; each line of `script` is the body of one verb.
SCRIPT = """#!/bin/sh
case "$1" in
start) {start} ;;
stop) {stop} ;;
status) {status} ;;
esac
"""


def scripted(start: str = ":", stop: str = ":", status: str = ":") -> str:
    return SCRIPT.format(start=start, stop=stop, status=status)


def running(yard: Yard, **habits: Any) -> int:
    """An agent in use that runs; its pid."""
    yard.put("1.0.0", **habits)
    start(START, yard.tools())
    return agent.ask(yard.home()).pid


# Start


@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"slow_start": 0.3},
        {"keeps_stdout": True},
        {"shared_pid_file": True},
        {"status_words": ("watching 3 files\nFalcon-agent is STARTED", "Stopped")},
    ],
    ids=str,
)
def test_a_start_is_done_when_the_agent_runs(yard: Yard, habits: dict[str, Any]) -> None:
    yard.put("1.0.0", **habits)
    assert start(START, yard.tools()) is Result.DONE
    assert agent.ask(yard.home()).version == "1.0.0"


def test_to_start_what_runs_already_is_harmless(yard: Yard) -> None:
    """The field's most common script prints a message and exits 1: the status counts."""
    pid = running(yard)
    assert start(START, yard.tools()) is Result.DONE
    assert agent.running_below(yard.home()) == (pid,)


def test_an_agent_gets_a_clean_environment(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "ours")
    yard.put("1.0.0", control=scripted(start="env >env.txt", status="echo started"))
    limits = StatusLimits(agent_env={"LIMIT": "7"})
    assert start(START, yard.tools(status=limits)) is Result.DONE
    environment = (yard.home() / "1.0.0" / "env.txt").read_text().splitlines()
    assert "LIMIT=7" in environment
    assert not any("CANARY" in line for line in environment)


@pytest.mark.parametrize(
    ("habits", "evidence"),
    [
        ({"broken_start": True}, "exited 0, printed 'falcon-agent started..., pid=1', and .* stoped"),
        ({"status_words": ("mumble", "mumble")}, "status says: mumble"),
        ({"control": scripted(start="exit 3")}, "exited 3, printed nothing, and status says: nothing; look into"),
        ({"control": scripted(start="kill -9 $$")}, "died of signal 9"),
        ({"control": "#!/no/such/interpreter\n"}, r"could not run \(.*/no/such/interpreter"),
    ],
    ids=["starts-nothing", "mumbles", "fails", "dies", "can't-run"],
)
def test_a_start_that_did_not_come_up_is_reported_with_its_own_words(
    yard: Yard, habits: dict[str, Any], evidence: str
) -> None:
    yard.put("1.0.0", **habits)
    with pytest.raises(StartFailed, match=evidence) as raised:
        start(START, yard.tools(control=SHORT))
    assert str(yard.home() / ".start.log") in str(raised.value)


@pytest.mark.parametrize(
    ("script", "evidence"),
    [
        ("echo one; echo boom; exit 3", ["exited 3", "one", "boom"]),
        ("exit 3", ["exited 3, printed nothing"]),
    ],
    ids=["words", "silent"],
)
def test_the_evidence_of_a_failed_start_has_each_word_once(yard: Yard, script: str, evidence: list[str]) -> None:
    yard.put("1.0.0", control=scripted(start=script, status="echo stoped"))
    with pytest.raises(StartFailed) as raised:
        start(START, yard.tools(control=SHORT))
    *lines, status = [line for line in raised.value.evidence.splitlines() if line]
    assert lines == evidence
    assert status.startswith("status: stoped")


def test_an_agent_that_dies_at_once_has_not_started(yard: Yard) -> None:
    """Its status says started at first; the second look, half a second later, shows it."""
    yard.put("1.0.0", control=STARTED_ONCE)
    with pytest.raises(StartFailed, match=r"status says: stoped \(started at first, 0.5 s later no more\)"):
        start(START, yard.tools())
    assert agent.pid_of(yard.home()) is None


def test_what_can_not_even_be_called_is_not_waited_for(yard: Yard) -> None:
    tree = yard.put("1.0.0")
    (tree / "control").write_text("no script\n")
    began = time.monotonic()
    with pytest.raises(StartFailed, match="could not run"):
        start(START, yard.tools())
    with pytest.raises(StopFailed, match="could not run"):
        stop(Stop(version="1.0.0"), yard.tools())
    assert time.monotonic() - began < min(yard.tools().control.start_s, yard.tools().control.stop_s)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (scripted(start=":", status="echo stoped"), "exited 0.*status says: stoped; no process of it is left"),
        (scripted(start="kill -9 $$", status="echo stoped"), "signal 9.*; no process of it is left"),
        (scripted(start="sleep 0.5 & ", status="echo stoped"), "; no process of it is left"),
        (
            scripted(start="nosuchprogram", status="echo stoped"),
            r"exited 127.*a command of it can't be run",
        ),
        (scripted(start="exit 126", status="echo mumble"), r"a command of it can't be run \(exit 126\)"),
    ],
    ids=["starts-nothing", "killed", "dies", "no-such-command", "not-executable"],
)
def test_a_start_is_over_before_its_limit_where_all_is_surely_dead(yard: Yard, script: str, why: str) -> None:
    yard.put("1.0.0", control=script)
    began = time.monotonic()
    with pytest.raises(StartFailed, match=why):
        start(START, yard.tools(control=evolve(GIVEN_UP, start_s=600)))
    assert time.monotonic() - began < 300


def test_what_dies_is_given_up_although_its_user_began_something_else(yard: Yard, tmp_path: Path) -> None:
    """Where nothing of it was ever seen, that may be the agent; here its process was seen to end."""
    other = f"(cd / && exec setsid sleep 600 </dev/null >/dev/null 2>&1) & echo $! >{tmp_path}/other"
    yard.put("1.0.0", control=scripted(start=f"{other}; sleep 0.6 &", status="echo stoped"))
    try:
        with pytest.raises(StartFailed, match="no process of it is left"):
            start(START, yard.tools(control=GIVEN_UP))
    finally:
        os.kill(int((tmp_path / "other").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    "begin",
    [
        "sleep 600 &",
        "cd / && sleep 600 &",
        "(cd / && exec setsid sleep 600) &",
        "(cd / && exec setsid sh -c 'sleep 600 9<{tree}/control') &",
    ],
    ids=["in-its-tree", "in-its-session", "of-its-user", "with-its-file"],
)
def test_a_slow_one_has_its_whole_limit(yard: Yard, begin: str) -> None:
    """Its status says stopped for as long as a JVM takes to come up; something of it lives."""
    script = scripted(start=f"{begin} echo $! >pid", status="echo stoped")
    script = script.replace("{tree}", str(yard.home() / "1.0.0")).replace("& echo", "</dev/null >/dev/null 2>&1 & echo")
    tree = yard.put("1.0.0", control=script)
    short = evolve(GIVEN_UP, start_s=2)
    with pytest.raises(StartFailed) as raised:
        start(START, yard.tools(control=short))
    os.kill(int((tree / "pid").read_text()), signal.SIGKILL)
    assert "no process of it is left" not in str(raised.value)


def test_a_slow_one_that_comes_up_has_started(yard: Yard) -> None:
    yard.put("1.0.0", slow_start=1)
    assert start(START, yard.tools(control=evolve(GIVEN_UP, dead_s=0.1))) is Result.DONE


def test_a_start_that_hangs_is_a_timeout(yard: Yard) -> None:
    yard.put("1.0.0", hangs=("start",))
    began = time.monotonic()
    with pytest.raises(ControlTimeout, match=r"did not end in time.*limit 3 s \(control_timeout\.start\)"):
        start(START, yard.tools(control=SHORT))
    assert time.monotonic() - began < 60


def test_a_status_that_hangs_costs_its_limit(yard: Yard) -> None:
    yard.put("1.0.0", hangs=("status",))
    with pytest.raises(StartFailed, match="status says: no answer within"):
        start(START, yard.tools(control=SHORT, status=StatusLimits(limit_s=0.2)))


# Stop


@pytest.mark.parametrize("habits", [{}, {"slow_stop": 0.3}, {"shared_pid_file": True}, {"keeps_stdout": True}], ids=str)
def test_a_stop_is_done_when_the_agent_is_gone(yard: Yard, habits: dict[str, Any]) -> None:
    running(yard, **habits)
    assert stop(STOP, yard.tools()) is Result.DONE
    assert agent.running_below(yard.home()) == ()


def test_to_stop_what_is_stopped_is_done(yard: Yard) -> None:
    yard.put("1.0.0")
    assert stop(STOP, yard.tools()) is Result.DONE


def test_a_stop_that_returns_early_is_waited_for(yard: Yard) -> None:
    """`stop` only asks; the status says stopped a few looks later."""
    count = "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; [ $n -gt 3 ] && echo stoped || echo started"
    yard.put("1.0.0", control=scripted(status=count))
    assert stop(STOP, yard.tools()) is Result.DONE
    assert (yard.home() / "1.0.0" / "n").read_text().strip() == "5"


def test_a_stop_waits_for_the_version_s_processes(yard: Yard) -> None:
    """The field's `stop`: kill, remove the pid file, print stoped. The agent takes a second more, and has its port."""
    control = control_script(NAME, "1.0.0", AgentBehavior(slow_stop=1))
    early = re.sub(r"(kill \"\$pid\"\n).*?( *rm -f)", r"\1\2", control, flags=re.DOTALL)
    assert early != control
    running(yard, control=early, slow_stop=1)
    tools = yard.tools()
    assert stop(STOP, tools) is Result.DONE
    assert (agent.running_below(yard.home()), tools.results.outlived) == ((), "")


@pytest.mark.parametrize("where", ["", "cd lib &&"], ids=["in-its-tree", "below-it"])
def test_what_outlives_a_stop_is_named_and_no_failure(yard: Yard, where: str) -> None:
    helper = f"(mkdir -p lib; {where} exec sleep 600) >/dev/null 2>&1 & echo $! >pid"
    tree = yard.put("1.0.0", control=scripted(start=helper, status="echo started"))
    start(START, yard.tools())
    (tree / "control").write_text(scripted(status="echo stoped"))
    tools = yard.tools(control=ControlLimits(outlasting_s=0.2))
    assert stop(STOP, tools) is Result.DONE
    pid = int((tree / "pid").read_text())
    assert tools.results.outlived == f"process {pid} (sleep)"
    os.kill(pid, signal.SIGKILL)


def test_a_stop_is_done_on_a_host_that_has_no_further_thread(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    running(yard)

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert stop(STOP, yard.tools()) is Result.DONE
    assert agent.running_below(yard.home()) == ()


def test_many_that_outlive_a_stop_are_counted(yard: Yard) -> None:
    helpers = "for n in 1 2 3 4 5; do sleep 600 >/dev/null 2>&1 & echo $! >>pids; done"
    tree = yard.put("1.0.0", control=scripted(start=helpers, status="echo stoped"))
    with pytest.raises(StartFailed):
        start(START, yard.tools(control=SHORT))
    tools = yard.tools(control=ControlLimits(outlasting_s=0.1))
    assert stop(STOP, tools) is Result.DONE
    assert tools.results.outlived.endswith("(sleep) and 2 more")
    for pid in (tree / "pids").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


def test_an_agent_that_ignores_its_stop(yard: Yard) -> None:
    pid = running(yard, ignores_term=True)
    with pytest.raises(StopFailed, match="exited 0, printed nothing, and status still says: started"):
        stop(STOP, yard.tools(control=SHORT))
    assert agent.pid_of(yard.home()) == pid


@pytest.mark.parametrize(("status", "words"), [("echo mumble", "mumble"), (":", "nothing")])
def test_only_a_status_that_says_stopped_counts(yard: Yard, status: str, words: str) -> None:
    yard.put("1.0.0", control=scripted(status=status))
    with pytest.raises(StopFailed, match=f"status still says: {words}; look at its stop"):
        stop(STOP, yard.tools(control=SHORT))


def test_a_stop_that_hangs_is_a_timeout(yard: Yard) -> None:
    pid = running(yard, hangs=("stop",))
    with pytest.raises(ControlTimeout, match=r"limit 3 s \(control_timeout\.stop\)"):
        stop(STOP, yard.tools(control=SHORT))
    assert agent.pid_of(yard.home()) == pid


@pytest.mark.parametrize("in_the_way", ["nothing", "a folder"])
def test_a_foreign_tree_is_adopted_before_it_is_stopped(yard: Yard, in_the_way: str) -> None:
    tree = yard.put("1.0.0")
    (tree / MARKER).unlink()
    if in_the_way == "a folder":
        (tree / MARKER / "inside").mkdir(parents=True)
    start(START, yard.tools())
    assert stop(evolve(STOP, adopt=True), yard.tools()) is Result.DONE
    found = yard.look().active
    assert found is not None
    assert (found.process, found.tree.origin, found.tree.digests) == (
        ProcessState.STOPPED,
        Origin.ADOPTED,
        frozenset(),
    )


def test_a_tree_that_can_not_be_adopted_is_not_stopped(yard: Yard) -> None:
    tree = yard.put("1.0.0")
    pid = running(yard)
    (tree / MARKER).unlink()
    tree.rename(yard.folder / "elsewhere")
    tree.symlink_to(yard.folder / "elsewhere")
    with pytest.raises(WriteFailed):
        stop(evolve(STOP, adopt=True), yard.tools())
    assert agent.pid_of(yard.home()) == pid


NEVER_UP = Stop(version="1.0.0", never_up=True)


@pytest.mark.parametrize(
    "control",
    [
        "#!/no/such/interpreter\n",
        "#!/bin/sh\nif then\n",
        scripted(status="sleep 600"),
        scripted(status="echo mumble", stop="sleep 600"),
    ],
    ids=["can't-run", "syntax-error", "status-hangs", "stop-hangs"],
)
def test_a_version_never_seen_running_is_stopped_when_nothing_of_it_is_left(yard: Yard, control: str) -> None:
    yard.put("1.0.0", control=control)
    assert stop(NEVER_UP, yard.tools(control=SHORT, status=StatusLimits(limit_s=0.2))) is Result.DONE


def test_a_version_never_seen_running_that_lives_is_not_stopped(yard: Yard) -> None:
    """Its status mumbles: by its tree, or by the session of its start, its process is found."""
    yard.put("1.0.0", status_words=("mumble", "mumble"), ignores_term=True)
    notes: list[ControlCall] = []
    tools = yard.tools(control=SHORT, call=notes.append, calls=lambda: tuple(notes))
    with pytest.raises(StartFailed) as raised:
        start(START, tools)
    assert not raised.value.was_up
    pid = agent.ask(yard.home()).pid
    with pytest.raises(StopFailed, match=rf"status still says: mumble; process {pid} still lives in it"):
        stop(NEVER_UP, tools)
    assert [(call.verb, call.version) for call in notes] == [("start", "1.0.0"), ("stop", "1.0.0")]
    assert agent.pid_of(yard.home()) == pid
    os.kill(pid, signal.SIGKILL)
    assert stop(NEVER_UP, tools) is Result.DONE


def test_what_left_its_tree_is_found_by_the_session_of_its_start(yard: Yard) -> None:
    yard.put("1.0.0", control=scripted(start="cd / && sleep 600 >/dev/null 2>&1 &", status="echo mumble"))
    notes: list[ControlCall] = []
    tools = yard.tools(control=SHORT, call=notes.append, calls=lambda: tuple(notes))
    with pytest.raises(StartFailed):
        start(START, tools)
    with pytest.raises(StopFailed, match=r"process \d+ still lives in it") as raised:
        stop(NEVER_UP, tools)
    found = re.search(r"process (\d+)", str(raised.value))
    assert found is not None
    os.kill(int(found[1]), signal.SIGKILL)
    assert stop(NEVER_UP, tools) is Result.DONE


def test_what_says_started_meanwhile_must_say_stopped(yard: Yard) -> None:
    """Nobody saw it up before: that is over."""
    yard.put("1.0.0", control=scripted(status="[ -e up ] && echo mumble || { touch up; echo started; }"))
    with pytest.raises(StopFailed, match="status still says: mumble; look at its stop") as raised:
        stop(NEVER_UP, yard.tools(control=SHORT))  # two looks must fit into it
    assert raised.value.was_up


def test_a_status_that_says_started_is_named_and_no_longer_a_process(yard: Yard) -> None:
    yard.put("1.0.0", control=scripted(status="[ -e asked ] && echo started || { touch asked; echo mumble; }"))
    with subprocess.Popen(["sleep", "600"], cwd=yard.home() / "1.0.0") as left:
        try:
            with pytest.raises(StopFailed, match="status still says: started; look at its stop"):
                stop(NEVER_UP, yard.tools(control=SHORT))
        finally:
            left.kill()


def test_where_no_process_can_be_seen_only_a_status_counts(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.put("1.0.0", control=scripted(status="echo mumble"))
    monkeypatch.setattr(processes, "left_of", lambda tree, calls, since: None)
    with pytest.raises(StopFailed, match="whether a process of it is left is unknown here"):
        stop(NEVER_UP, yard.tools(control=SHORT))


def test_a_process_that_only_the_second_look_sees_is_not_stopped(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its processes there may be none: a start that forks, a supervisor that begins again."""
    yard.put("1.0.0", control=scripted(status="echo mumble"))
    looks = itertools.cycle([(), (4711,)])
    monkeypatch.setattr(processes, "left_of", lambda tree, calls, since: next(looks))
    with pytest.raises(StopFailed, match="process 4711 still lives in it"):
        stop(NEVER_UP, yard.tools(control=evolve(SHORT, recheck_s=0)))


def test_a_start_that_was_up_for_a_moment_says_so(yard: Yard) -> None:
    yard.put("1.0.0", control=scripted(start="touch up", status="rm up && echo started"))
    with pytest.raises(StartFailed, match="started at first") as raised:
        start(START, yard.tools(control=SHORT))
    assert raised.value.was_up


# Without its home


def test_what_runs_from_a_removed_folder_is_asked_to_end(yard: Yard) -> None:
    yard.put("1.0.0")
    start(START, yard.tools())
    shutil.rmtree(yard.home())
    assert stop(evolve(STOP, removed=True), yard.tools()) is Result.DONE
    assert agent.running_below(yard.home()) == ()


def test_what_runs_from_a_removed_folder_and_does_not_end_is_named(yard: Yard) -> None:
    yard.put("1.0.0", ignores_term=True)
    start(START, yard.tools())
    [pid] = agent.running_below(yard.home())
    shutil.rmtree(yard.home())
    with pytest.raises(StopFailed, match=f"process {pid} .*1.0.0, which was removed, .* end it by hand"):
        stop(evolve(STOP, removed=True), yard.tools(control=evolve(LIMITS, stop_s=0.3)))


# A host short of processes


@pytest.mark.parametrize(("verb", "error"), [("start", StartPostponed), ("stop", StopPostponed)])
def test_a_call_that_no_process_is_left_for_is_postponed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, verb: str, error: type[Exception]
) -> None:
    yard.put("1.0.0")
    if verb == "stop":
        start(START, yard.tools())
    spawn = subprocess.Popen.__init__

    def refused(self: Any, argv: list[str], **keywords: Any) -> None:
        if argv[-1] == verb:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        spawn(self, argv, **keywords)

    monkeypatch.setattr(subprocess.Popen, "__init__", refused)
    with pytest.raises(error, match="short of a resource"):
        start(START, yard.tools()) if verb == "start" else stop(STOP, yard.tools())
    assert len(agent.running_below(yard.home())) == (verb == "stop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users without sudo")
def test_a_call_as_a_user_that_is_missing_is_not_made(yard: Yard) -> None:
    yard.put("1.0.0")
    tools = yard.tools(home=evolve(yard.place(), run_user="ops-updater-lacks"))
    with pytest.raises(UserMissing):
        start(START, tools)
    with pytest.raises(UserMissing):
        stop(STOP, tools)
    assert agent.running_below(yard.home()) == ()


# A call of which we know nothing any more


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_a_call_goes_on_where_our_own_side_of_it_breaks(yard: Yard, verb: str) -> None:
    """The script is waited for, and not called twice; its status says what came of it."""
    slow = f"echo {verb} >>../calls; sleep 0.5;"
    control = control_script(NAME, "1.0.0", AgentBehavior()).replace(f"\n{verb}() {{\n", f"\n{verb}() {{\n{slow}\n", 1)
    yard.put("1.0.0", control=control)
    if verb == "stop":
        start(START, yard.tools())
    over: list[ControlCall] = []

    def breaks(call: ControlCall) -> None:
        raise MemoryError

    tools = yard.tools(call=breaks, over=over.append)
    assert (start(START, tools) if verb == "start" else stop(STOP, tools)) is Result.DONE
    assert (yard.home() / "calls").read_text().split() == [verb]
    assert len(agent.running_below(yard.home())) == (verb == "start")
    [call] = over
    assert not processes.lives(processes.Leader(pid=call.pid, started=call.started))


def test_a_call_that_broke_and_had_no_effect_is_made_once_more(yard: Yard) -> None:
    script = scripted(start="echo start >>../calls; [ -e ../called ] && touch up; touch ../called")
    yard.put("1.0.0", control=script.replace("status) :", "status) [ -e up ] && echo started || echo stoped"))
    broken = [True]

    def breaks(call: ControlCall) -> None:
        if broken:
            broken.clear()
            raise RuntimeError

    assert start(START, yard.tools(call=breaks, control=GIVEN_UP)) is Result.DONE
    assert (yard.home() / "calls").read_text().split() == ["start", "start"]


def test_a_call_that_breaks_twice_is_a_failure(yard: Yard) -> None:
    yard.put("1.0.0", control=scripted(status="echo stoped"))

    def breaks(call: ControlCall) -> None:
        raise RuntimeError

    with pytest.raises(StartFailed, match=r"ended in an unknown way .*; no process of it is left"):
        start(START, yard.tools(call=breaks, control=GIVEN_UP))


# Switch


def test_a_first_switch(yard: Yard) -> None:
    yard.put("1.0.0", in_use=False)
    assert switch(SwitchVersion(from_version=None, to="1.0.0"), yard.tools()) is Result.DONE
    # To the byte what today's updater writes and reads.
    assert (yard.home() / ".version").read_bytes() == b"1.0.0"


def test_a_switch_to_another_version(yard: Yard) -> None:
    yard.put("1.0.0")
    (yard.home() / ".version").write_text("1.0.0\n")
    yard.put("2.0.0", in_use=False)
    switch(SwitchVersion(from_version="1.0.0", to="2.0.0"), yard.tools())
    assert (yard.home() / ".version").read_bytes() == b"2.0.0"


def test_a_version_that_was_removed_is_not_switched_to(yard: Yard) -> None:
    yard.put("1.0.0")
    with pytest.raises(WriteFailed, match="not complete any more"):
        switch(SwitchVersion(from_version="1.0.0", to="2.0.0"), yard.tools())
    assert yard.version() == "1.0.0"


REPLACE = SwitchTree(version="1.0.0")


def tree_says(yard: Yard, directory: str) -> str:
    return (yard.home() / directory / "which").read_text()


def put_replacement(yard: Yard) -> None:
    yard.put("1.0.0", extra={"which": b"old"})
    yard.put("1.0.0", directory=".next-1.0.0", in_use=False, extra={"which": b"new"})


def test_a_replacement_is_an_exchange(yard: Yard) -> None:
    put_replacement(yard)
    yard.put("1.0.0", directory=".previous-1.0.0", in_use=False, extra={"which": b"older"})
    assert switch(REPLACE, yard.tools()) is Result.DONE
    assert (tree_says(yard, "1.0.0"), tree_says(yard, ".previous-1.0.0")) == ("new", "old")
    older = ".stage-old-.previous-1.0.0"  # which is removed when the agent is up again
    assert sorted(os.listdir(yard.home())) == [".previous-1.0.0", older, ".version", "1.0.0"]
    assert tree_says(yard, older) == "older"


def test_there_is_no_moment_without_the_displaced_tree(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after the exchange the way back has its name: whatever comes next may be the end of this run."""
    put_replacement(yard)
    exchange = atomic_fs.exchange

    def exchange_and_end(dir_fd: int, a: str, b: str) -> bool:
        exchange(dir_fd, a, b)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_fs, "exchange", exchange_and_end)
    with pytest.raises(KeyboardInterrupt):
        switch(REPLACE, yard.tools())
    assert (tree_says(yard, "1.0.0"), tree_says(yard, ".previous-1.0.0")) == ("new", "old")


def test_a_replacement_where_the_system_knows_no_exchange(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    put_replacement(yard)
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: SimpleNamespace())  # a libc without renameat2
    assert switch(REPLACE, yard.tools()) is Result.DONE
    assert (tree_says(yard, "1.0.0"), tree_says(yard, ".previous-1.0.0")) == ("new", "old")
    assert ".next-1.0.0" not in os.listdir(yard.home())


def test_the_way_back_where_the_system_knows_no_exchange(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement that was staged meanwhile is in the way of the two renames."""
    put_replacement(yard)
    yard.put("1.0.0", directory=".previous-1.0.0", in_use=False, extra={"which": b"older"})
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: SimpleNamespace())  # a libc without renameat2
    assert switch(evolve(REPLACE, previous=True), yard.tools()) is Result.DONE
    assert (tree_says(yard, "1.0.0"), tree_says(yard, ".next-1.0.0")) == ("older", "old")
    assert ".previous-1.0.0" not in os.listdir(yard.home())


def test_a_replacement_that_stopped_half_way_is_finished(yard: Yard) -> None:
    put_replacement(yard)
    (yard.home() / "1.0.0").rename(yard.home() / ".previous-1.0.0")
    assert switch(REPLACE, yard.tools()) is Result.DONE
    assert (tree_says(yard, "1.0.0"), tree_says(yard, ".previous-1.0.0")) == ("new", "old")


def test_a_broken_tree_is_replaced_and_not_kept(yard: Yard) -> None:
    put_replacement(yard)
    (yard.home() / "1.0.0" / "control").unlink()
    assert switch(REPLACE, yard.tools()) is Result.DONE
    assert tree_says(yard, "1.0.0") == "new"
    assert sorted(os.listdir(yard.home())) == [".version", "1.0.0"]


def test_a_replacement_without_its_tree_changes_nothing(yard: Yard) -> None:
    yard.put("1.0.0", extra={"which": b"old"})
    with pytest.raises(ReconcileError):
        switch(REPLACE, yard.tools())
    assert tree_says(yard, "1.0.0") == "old"


CONFIG = SwitchConfig(version="1.0.0", name="cfg.json", digest="sha256:1")


def test_a_config_takes_its_place_by_one_rename(yard: Yard) -> None:
    yard.put("1.0.0", extra={"cfg.json": b"old"})
    (yard.home() / STAGED_CONFIG).write_bytes(b"new")
    assert switch(CONFIG, yard.tools()) is Result.DONE
    assert (yard.home() / "1.0.0" / "cfg.json").read_bytes() == b"new"
    assert STAGED_CONFIG not in os.listdir(yard.home())


def test_a_config_that_is_not_there(yard: Yard) -> None:
    yard.put("1.0.0", extra={"cfg.json": b"old"})
    with pytest.raises(WriteFailed, match="put the config in place"):
        switch(CONFIG, yard.tools())
    assert (yard.home() / "1.0.0" / "cfg.json").read_bytes() == b"old"


# The start log


def test_a_start_log_stays_bounded(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, NAME)
    trim_start_logs((home,))  # no home: nothing to do
    home.path.mkdir()
    home.start_log.write_bytes(b"x" * (START_LOG_LIMIT + 1))
    trim_start_logs((home,))
    assert home.start_log.stat().st_size <= START_LOG_LIMIT
