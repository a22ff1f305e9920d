"""The executor with real steps: what is tried again, what is written down first, and where it lets go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from probes.errors import InterpreterMissing, ToolMissing, UpdaterError, UserMissing, WorkerLost
from probes.observed import STAGED_CONFIG, HomeRef
from reconcile.act.context import StepContext, SwitchNote
from reconcile.act.executor import Retries, Watcher, _failed, _retrying, execute
from reconcile.act.host.home_lock import home_lock
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Outcome,
    Plan,
    Prune,
    Result,
    Start,
    Stop,
    Switch,
    SwitchConfig,
    SwitchVersion,
    Unpack,
    Verify,
)
from reconcile.decide.desired import Digest, Md5
from reconcile.errors import (
    OutOfResources,
    StartFailed,
    StartPostponed,
    StopFailed,
    StopPostponed,
    WriteFailed,
)
from tests.yard import GIVEN_UP, LIMITS, NAME, RETRIES, SHORT, Story, Yard, types
from updater.demo import agent

ROOT = Path(__file__).parents[3]
TARBALL = f"{NAME}-2.0.0.tar.gz"
STOP_FAILS = evolve(LIMITS, stop_s=SHORT.stop_s)


def plan_of(*actions: Action) -> Plan:
    return Plan(name=NAME, reason="VersionDiffers", message="", actions=actions)


def upgrade(fetch: Fetch) -> Plan:
    """From a running 1.0.0 to 2.0.0."""
    return plan_of(
        fetch,
        Verify(digests=fetch.digests),
        Unpack(version="2.0.0", directory="2.0.0", url=fetch.url, digests=fetch.digests),
        Stop(version="1.0.0"),
        SwitchVersion(from_version="1.0.0", to="2.0.0"),
        Start(version="2.0.0"),
    )


SWITCH_BACK = plan_of(Stop(version="1.0.0"), SwitchVersion(from_version="1.0.0", to="2.0.0"), Start(version="2.0.0"))


def run(
    plan: Plan, tools: StepContext, watcher: Watcher | None = None, retries: Retries = RETRIES
) -> tuple[Outcome, ...]:
    return execute(plan, tools, retries, watcher or Watcher())


def started(yard: Yard, **habits: Any) -> int:
    """1.0.0 in use and running; its pid."""
    yard.put("1.0.0", **habits)
    [outcome] = run(plan_of(Start(version="1.0.0")), yard.tools())
    assert outcome.result is Result.DONE
    return agent.ask(yard.home()).pid


def test_a_whole_upgrade(yard: Yard) -> None:
    started(yard)
    story = Story()
    plan = upgrade(yard.publish("2.0.0"))
    watcher = Watcher(begins=lambda action: story.begun.append(action), ended=story.ended.append)
    outcomes = run(plan, yard.tools(), watcher)
    assert types(outcomes) == "fetch=done verify=done unpack=done stop=done switch=done start=done"
    assert tuple(story.begun) == plan.actions
    assert tuple(story.ended) == outcomes
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert all(outcome.seconds > 0 for outcome in outcomes)
    assert agent.ask(yard.home()).version == "2.0.0"
    assert yard.notes == [SwitchNote.BEGINS, SwitchNote.CAME_UP]


def test_a_plan_without_actions_touches_nothing(yard: Yard) -> None:
    assert run(plan_of(), yard.tools()) == ()
    assert not yard.work.exists()


def test_the_downloaded_tarball_is_closed_at_the_end(yard: Yard) -> None:
    yard.put("1.0.0")
    fetch, tools = yard.publish("2.0.0"), yard.tools()
    assert types(run(plan_of(fetch), tools)) == "fetch=done"
    assert tools.results.tarball is None


# Tries


def test_what_may_go_away_is_tried_again(yard: Yard) -> None:
    started(yard)
    plan = upgrade(yard.publish("2.0.0"))
    yard.meta.fail(503, TARBALL, times=2)
    outcomes = run(plan, yard.tools())
    assert outcomes[0].attempts == 3
    assert outcomes[-1].result is Result.DONE
    assert yard.tarball_requests() == 3


def test_it_is_not_tried_for_ever_and_the_agent_runs_on(yard: Yard) -> None:
    pid = started(yard)
    plan = upgrade(yard.publish("2.0.0"))
    yard.meta.fail(503, TARBALL)
    outcomes = run(plan, yard.tools())
    assert types(outcomes) == "fetch=failed verify=skipped unpack=skipped stop=skipped switch=skipped start=skipped"
    assert (outcomes[0].attempts, outcomes[0].reason) == (RETRIES.attempts, "FetchFailed")
    assert "HTTP 503" in outcomes[0].error
    assert yard.tarball_requests() == RETRIES.attempts
    assert agent.ask(yard.home()).pid == pid
    assert yard.notes == []


@pytest.mark.parametrize("sabotage", ["gone", "corrupt"])
def test_what_is_final_is_tried_once(yard: Yard, sabotage: str) -> None:
    pid = started(yard)
    plan = upgrade(yard.publish("2.0.0"))
    if sabotage == "gone":
        yard.meta.vanish(NAME, "2.0.0")
    else:
        yard.meta.corrupt(NAME, "2.0.0")
    outcomes = run(plan, yard.tools())
    [failed] = [outcome for outcome in outcomes if outcome.result is Result.FAILED]
    assert (failed.action.type, failed.attempts, failed.reason) == (
        ("fetch", 1, "FetchFailed") if sabotage == "gone" else ("verify", 1, "DigestMismatch")
    )
    assert yard.tarball_requests() == 1
    assert agent.ask(yard.home()).pid == pid


class Pauses(threading.Event):
    """The event that ends waits; it writes down each wait's limit, and none but a `real` one takes time."""

    def __init__(self, *, real: bool = False) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self.begun = threading.Event()
        self._real = real

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        self.begun.set()
        return super().wait(timeout if self._real else 0)


@pytest.mark.parametrize("asked", [0, 45])
def test_a_server_is_given_the_time_that_it_asks_for(yard: Yard, asked: int) -> None:
    yard.put("1.0.0")
    fetch, pauses = yard.publish("2.0.0"), Pauses()
    yard.meta.fail(429, TARBALL, retry_after=asked, times=1)
    [outcome] = run(plan_of(fetch), yard.tools(ending=pauses))
    assert (outcome.result, outcome.attempts) == (Result.DONE, 2)
    assert pauses.seconds == [asked]


def test_the_shipped_pauses_grow_from_a_second(yard: Yard) -> None:
    yard.put("1.0.0")
    fetch, pauses = yard.publish("2.0.0"), Pauses()
    yard.meta.fail(503, TARBALL)
    [outcome] = run(plan_of(fetch), yard.tools(ending=pauses), retries=Retries())
    assert outcome.attempts == len(pauses.seconds) + 1 == 4
    assert all(pause is not None and 0 < pause <= 2**tried for tried, pause in enumerate(pauses.seconds))


def test_a_server_that_asks_for_too_long_is_asked_at_a_later_pass(yard: Yard) -> None:
    yard.put("1.0.0")
    fetch = yard.publish("2.0.0")
    yard.meta.fail(503, TARBALL, retry_after=61)
    [outcome] = run(plan_of(fetch), yard.tools())
    assert (outcome.result, outcome.attempts, outcome.reason) == (Result.FAILED, 1, "FetchFailed")
    assert yard.tarball_requests() == 1


def test_the_pause_between_two_tries_ends_when_we_are_to_end(yard: Yard) -> None:
    yard.put("1.0.0")
    fetch = yard.publish("2.0.0")
    yard.meta.fail(503, TARBALL, retry_after=60)
    pauses, outcomes = Pauses(real=True), list[Outcome]()
    thread = threading.Thread(target=lambda: outcomes.extend(run(plan_of(fetch), yard.tools(ending=pauses))))
    thread.start()
    assert pauses.begun.wait(30)
    pauses.set()
    thread.join(30)
    assert not thread.is_alive()
    assert outcomes[0].result is not Result.DONE
    assert pauses.seconds == [60]


def test_what_is_to_end_begins_no_start_that_nothing_has_stopped_for(yard: Yard) -> None:
    yard.put("1.0.0")
    yard.ending.set()
    assert types(run(plan_of(Prune(names=("0.9.0",)), Start(version="1.0.0")), yard.tools())) == (
        "prune=skipped start=skipped"
    )
    assert not agent.running_below(yard.home())


@pytest.mark.parametrize(("is_to_end", "tries"), [(True, 1), (False, RETRIES.attempts)])
def test_what_fails_while_we_are_to_end_is_not_tried_again(yard: Yard, is_to_end: bool, tries: int) -> None:
    made: list[int] = []

    def once() -> Result:
        made.append(1)
        if is_to_end:
            yard.ending.set()
        raise StartPostponed("no process left")

    with pytest.raises(StartPostponed):
        _retrying(RETRIES, yard.tools())(once)
    assert len(made) == tries


# Notes


def test_a_change_is_written_down_before_the_stop(yard: Yard) -> None:
    started(yard)
    yard.put("2.0.0", in_use=False)
    alive_at_note: list[bool] = []
    tools = yard.tools(note=lambda kind: alive_at_note.append(agent.pid_of(yard.home()) is not None))
    assert types(run(SWITCH_BACK, tools)) == "stop=done switch=done start=done"
    assert alive_at_note == [True, True]  # before the stop, and after the start


def no_note(note: SwitchNote) -> None:
    raise WriteFailed("the disk is full")


def test_a_note_that_can_not_be_written_stops_a_change_before_the_agent_is_touched(yard: Yard) -> None:
    pid = started(yard)
    yard.put("2.0.0", in_use=False)
    outcomes = run(SWITCH_BACK, yard.tools(note=no_note))
    # Not even a start is called, as it is after a stop that failed: nothing was tried.
    assert types(outcomes) == "stop=failed switch=skipped start=skipped"
    assert outcomes[0].reason == "WriteFailed"
    assert agent.ask(yard.home()).pid == pid
    assert yard.version() == "1.0.0"


def test_a_first_switch_is_written_down_too(yard: Yard) -> None:
    yard.put("2.0.0", in_use=False)
    plan = plan_of(SwitchVersion(from_version=None, to="2.0.0"), Start(version="2.0.0"))
    assert types(run(plan, yard.tools(note=no_note))) == "switch=failed start=skipped"
    assert not (yard.home() / ".version").exists()
    assert types(run(plan, yard.tools())) == "switch=done start=done"
    assert yard.notes == [SwitchNote.BEGINS, SwitchNote.CAME_UP]


def test_a_note_never_stops_a_heal(yard: Yard) -> None:
    yard.put("1.0.0")
    assert types(run(plan_of(Start(version="1.0.0")), yard.tools(note=no_note))) == "start=done"


def test_a_note_that_fails_after_the_start_is_no_failure(yard: Yard) -> None:
    yard.put("2.0.0", in_use=False)

    def note(kind: SwitchNote) -> None:
        if kind is SwitchNote.CAME_UP:
            no_note(kind)

    plan = plan_of(SwitchVersion(from_version=None, to="2.0.0"), Start(version="2.0.0"))
    assert types(run(plan, yard.tools(note=note))) == "switch=done start=done"


def test_a_start_that_failed_is_not_reported_as_running(yard: Yard) -> None:
    yard.put("2.0.0", in_use=False, broken_start=True)
    plan = plan_of(SwitchVersion(from_version=None, to="2.0.0"), Start(version="2.0.0"))
    outcomes = run(plan, yard.tools(control=GIVEN_UP))
    assert types(outcomes) == "switch=done start=failed"
    assert yard.notes == [SwitchNote.BEGINS]
    assert "started..., pid=1" in outcomes[1].evidence  # the script's own words
    assert "status: stoped" in outcomes[1].evidence


# A hold


def test_a_hold_that_came_meanwhile_leaves_the_agent_alone(yard: Yard) -> None:
    """It is asked for right before the stop: what was fetched until then stays for later."""
    pid = started(yard)
    outcomes = run(upgrade(yard.publish("2.0.0")), yard.tools(may_begin=lambda: False))
    assert types(outcomes) == "fetch=done verify=done unpack=done stop=skipped switch=skipped start=skipped"
    assert agent.ask(yard.home()).pid == pid
    assert yard.notes == []


def test_what_may_not_begin_is_asked_for_once_and_not_begun_by_its_switch(yard: Yard) -> None:
    """The hold may end between the two: to switch beside what runs would be half a change."""
    pid = started(yard)
    yard.put("2.0.0", in_use=False)
    answers = [False, True]
    outcomes = run(SWITCH_BACK, yard.tools(may_begin=lambda: answers.pop(0)))
    assert types(outcomes) == "stop=skipped switch=skipped start=skipped"
    assert (answers, agent.ask(yard.home()).pid, yard.version()) == ([True], pid, "1.0.0")


def test_what_is_to_end_asks_for_no_place(yard: Yard) -> None:
    started(yard)
    yard.put("2.0.0", in_use=False)
    asked: list[bool] = []

    def may_begin() -> bool:
        asked.append(True)
        return True

    yard.ending.set()
    outcomes = run(SWITCH_BACK, yard.tools(may_begin=may_begin))
    assert (types(outcomes), asked) == ("stop=skipped switch=skipped start=skipped", [])


# A stop that fails


def test_after_a_stop_that_failed_the_version_in_use_is_started_once(yard: Yard) -> None:
    pid = started(yard, ignores_term=True)
    yard.put("2.0.0", in_use=False)
    outcomes = run(SWITCH_BACK, yard.tools(control=STOP_FAILS))
    assert types(outcomes) == "stop=failed start=done switch=skipped start=skipped"
    assert outcomes[0].reason == "StopFailed"
    assert outcomes[1].action == Start(version="1.0.0")
    assert agent.ask(yard.home()).pid == pid
    assert yard.version() == "1.0.0"


def test_a_failed_stop_starts_no_agent_that_was_stopped_by_cmd(yard: Yard) -> None:
    started(yard, ignores_term=True)
    yard.put("2.0.0", in_use=False)
    for_good = (Stop(version="1.0.0", for_good=True), *SWITCH_BACK.actions[1:])
    outcomes = run(evolve(SWITCH_BACK, actions=for_good), yard.tools(control=STOP_FAILS))
    assert types(outcomes) == "stop=failed switch=skipped start=skipped"


def test_a_failed_stop_starts_no_agent_that_is_to_stop(yard: Yard) -> None:
    started(yard, ignores_term=True)
    assert types(run(plan_of(Stop(version="1.0.0")), yard.tools(control=STOP_FAILS))) == "stop=failed"


# To end


def ends_before(yard: Yard, kind: type[Action]) -> Watcher:
    """We are asked to end at the moment when the first action of this kind begins."""

    def begins(action: Action) -> None:
        if isinstance(action, kind):
            yard.ending.set()

    return Watcher(begins=begins)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (Fetch, "fetch=skipped verify=skipped unpack=skipped stop=skipped switch=skipped start=skipped"),
        (Verify, "fetch=done verify=done unpack=skipped stop=skipped switch=skipped start=skipped"),
        (Unpack, "fetch=done verify=done unpack=done stop=skipped switch=skipped start=skipped"),
        (Stop, "fetch=done verify=done unpack=done stop=done switch=done start=done"),
        (Switch, "fetch=done verify=done unpack=done stop=done switch=done start=done"),
        (Start, "fetch=done verify=done unpack=done stop=done switch=done start=done"),
    ],
)
def test_to_end_before_the_stop_leaves_the_agent_alone_and_after_it_goes_on(
    yard: Yard, kind: type[Action], outcome: str
) -> None:
    pid = started(yard)
    outcomes = run(upgrade(yard.publish("2.0.0")), yard.tools(), ends_before(yard, kind))
    assert types(outcomes) == outcome
    found = agent.ask(yard.home())
    assert found.version == ("2.0.0" if outcome.endswith("start=done") else "1.0.0")
    assert (found.pid == pid) is (found.version == "1.0.0")


def test_a_prune_comes_last(yard: Yard) -> None:
    started(yard)
    yard.put("2.0.0", in_use=False)
    (yard.home() / ".stage-1").mkdir()
    plan = plan_of(*SWITCH_BACK.actions, Prune(names=(".stage-1",)))
    outcomes = run(plan, yard.tools())
    assert types(outcomes) == "stop=done switch=done start=done prune=done"


# The home


HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_home_that_another_process_acts_on_is_left_alone(yard: Yard) -> None:
    pid = started(yard)
    yard.put("2.0.0", in_use=False)
    story = Story()
    holder = subprocess.Popen(
        [sys.executable, "-I", "-c", HOLD, str(yard.home())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        outcomes = run(SWITCH_BACK, yard.tools(), Watcher(ended=story.ended.append))
        assert holder.stdin is not None
        holder.stdin.close()
    assert types(outcomes) == "stop=failed switch=skipped start=skipped"
    assert outcomes[0].reason == "HomeBusy"
    assert story.ended == [outcomes[0]]
    assert agent.ask(yard.home()).pid == pid
    assert types(run(SWITCH_BACK, yard.tools())) == "stop=done switch=done start=done"


def test_a_stop_alone_locks_its_home_and_one_of_what_was_removed_does_not(yard: Yard) -> None:
    pid = started(yard)
    with home_lock(yard.home()):
        [outcome] = run(plan_of(Stop(version="1.0.0", for_good=True)), yard.tools())
        assert (outcome.result, outcome.reason) == (Result.FAILED, "HomeBusy")
        assert agent.ask(yard.home()).pid == pid
        assert types(run(plan_of(Stop(version="1.0.0", removed=True)), yard.tools())) == "stop=done"


def test_a_first_install_makes_the_home_that_it_locks(yard: Yard) -> None:
    fetch = yard.publish("2.0.0")
    plan = plan_of(*(action for action in upgrade(fetch).actions if not isinstance(action, Stop)))
    assert types(run(plan, yard.tools())) == "fetch=done verify=done unpack=done switch=done start=done"


def test_a_home_that_can_not_be_made_is_the_first_actions_failure(yard: Yard) -> None:
    yard.work = yard.folder / "none" / "work"
    outcomes = run(upgrade(yard.publish("2.0.0")), yard.tools())
    assert outcomes[0].reason == "WorkDirMissing"
    assert {outcome.result for outcome in outcomes[1:]} == {Result.SKIPPED}
    assert yard.tarball_requests() == 0


def first_install(fetch: Fetch) -> Plan:
    return plan_of(*(action for action in upgrade(fetch).actions if not isinstance(action, Stop)))


def test_a_home_that_was_made_in_vain_goes_again(yard: Yard) -> None:
    yard.meta.publish(NAME, "2.0.0", b"no tarball")
    release = yard.meta.release(NAME, "2.0.0")
    fetch = Fetch(url=release.url, version="2.0.0", digests=frozenset[Digest]({Md5(release.md5)}))
    outcomes = run(first_install(fetch), yard.tools())
    assert types(outcomes) == "fetch=done verify=done unpack=failed switch=skipped start=skipped"
    assert not yard.home().exists()


def test_a_home_that_can_not_be_made_by_then_is_the_failure_of_what_is_unpacked(yard: Yard) -> None:
    def begins(action: Action) -> None:
        if isinstance(action, Verify):
            yard.work.write_text("in the way")

    told: list[Outcome] = []
    outcomes = run(first_install(yard.publish("2.0.0")), yard.tools(), Watcher(begins=begins, ended=told.append))
    assert types(outcomes) == "fetch=done verify=done unpack=failed switch=skipped start=skipped"
    assert (outcomes[2].attempts, bool(outcomes[2].reason), bool(outcomes[2].error)) == (1, True, True)
    assert tuple(told) == outcomes[:3]


# A move to another home


def moves(yard: Yard) -> tuple[Plan, StepContext, HomeRef]:
    """From where 1.0.0 runs to another folder, with 2.0.0."""
    fetch, old = yard.publish("2.0.0"), yard.place()
    new = evolve(old, work_dir=str(yard.folder / "elsewhere"))
    plan = plan_of(
        fetch,
        Verify(digests=fetch.digests),
        Unpack(version="2.0.0", directory="2.0.0", url=fetch.url, digests=fetch.digests),
        Stop(version="1.0.0", at=old),
        MoveHome(switch=SwitchVersion(from_version=None, to="2.0.0"), leaves=old),
        Start(version="2.0.0"),
    )
    return plan, yard.tools(home=new), new


def test_an_agent_that_moves_runs_in_its_new_home_and_is_in_use_in_no_other(yard: Yard) -> None:
    started(yard)
    plan, tools, new = moves(yard)
    assert types(run(plan, tools)) == "fetch=done verify=done unpack=done stop=done switch=done start=done"
    assert agent.ask(Path(new.work_dir, NAME)).version == "2.0.0"
    assert not (yard.home() / ".version").exists()
    assert (yard.home() / "1.0.0" / "control").exists()


def test_a_home_that_another_process_acts_on_is_not_left(yard: Yard) -> None:
    pid = started(yard)
    plan, tools, new = moves(yard)
    with home_lock(yard.home()):
        outcomes = run(plan, tools)
    assert (outcomes[0].reason, {outcome.result for outcome in outcomes[1:]}) == ("HomeBusy", {Result.SKIPPED})
    assert (agent.ask(yard.home()).pid, Path(new.work_dir).exists()) == (pid, False)


def test_a_home_whose_version_can_not_be_removed_is_not_left(yard: Yard) -> None:
    pid = started(yard)
    plan, tools, _ = moves(yard)
    (yard.home() / ".version").unlink()
    (yard.home() / ".version").mkdir()
    outcomes = run(plan, tools)
    assert (outcomes[0].reason, yard.tarball_requests()) == ("WriteFailed", 0)
    assert "is a directory, expected a file" in outcomes[0].error
    assert agent.running_below(yard.home()) == (pid,)


def test_a_home_is_not_moved_into_itself(yard: Yard) -> None:
    pid = started(yard)
    plan, tools, new = moves(yard)
    Path(new.work_dir).symlink_to(yard.work)
    outcomes = run(plan, tools)
    assert "are one directory, by a link: nothing moves" in outcomes[0].error
    assert (agent.ask(yard.home()).pid, yard.version(), yard.tarball_requests()) == (pid, "1.0.0", 0)


# A cause on the host


@pytest.mark.parametrize(
    ("action", "err", "of_the_host"),
    [
        (Start(version="1"), WorkerLost("gone"), True),
        (Stop(version="1"), WorkerLost("gone"), True),
        (Prune(names=()), WorkerLost("gone"), False),
        (Start(version="1"), StartPostponed("no process"), True),
        (Stop(version="1"), StopPostponed("no process"), True),
        *((Start(version="1"), kind("missing"), True) for kind in (UserMissing, ToolMissing, InterpreterMissing)),
        (Stop(version="1"), UserMissing("missing"), False),
        (Stop(version="1"), OutOfResources("no memory"), True),
        (Start(version="1"), StartFailed("dead"), False),
        (Stop(version="1"), StopFailed("lives"), False),
        (Start(version="1"), WriteFailed("full"), False),
    ],
)
def test_a_cause_on_the_host_is_no_failure_of_the_content(action: Action, err: UpdaterError, of_the_host: bool) -> None:
    failed = Outcome(action=action, result=Result.FAILED)
    assert _failed(failed, err).host_fault is of_the_host


def test_what_an_action_needs_is_there_before_the_first(yard: Yard) -> None:
    """A daemon must heal on a disk from which nothing can be loaded any more."""
    code = "from reconcile.act.executor import load_all; load_all(); import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"tenacity", "tenacity.wait", "loguru", "reconcile.act.host.tar_stream"} <= set(loaded.stdout.split())


def test_a_home_that_is_gone_is_made_for_no_plan_that_brings_nothing(yard: Yard) -> None:
    outcomes = run(plan_of(Start(version="1.0.0")), yard.tools())
    assert (outcomes[0].reason, yard.home().exists()) == ("WorkDirMissing", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has what others can write refused to it")
def test_root_acts_in_no_home_that_others_can_exchange_by_then(yard: Yard) -> None:
    """It was judged when it was observed; a change that takes its time must not trust that."""
    pid = started(yard)
    yard.put("2.0.0", in_use=False)
    yard.work.chmod(0o777)
    outcomes = run(SWITCH_BACK, yard.tools())
    assert (types(outcomes), outcomes[0].reason) == ("stop=failed switch=skipped start=skipped", "PolicyRefused")
    assert agent.ask(yard.home()).pid == pid
    yard.work.chmod(0o755)
    assert types(run(SWITCH_BACK, yard.tools())) == "stop=done switch=done start=done"


def test_a_config_in_a_folder_that_is_not_there_yet_is_delivered(yard: Yard) -> None:
    started(yard)
    plan = plan_of(
        Configure(name="conf/d/cfg.json", digest="sha256:1", directory=None),
        Stop(version="1.0.0"),
        SwitchConfig(version="1.0.0", name="conf/d/cfg.json", digest="sha256:1"),
        Start(version="1.0.0"),
    )
    outcomes = run(plan, yard.tools(contents={"sha256:1": b"{}"}))
    assert types(outcomes) == "configure=done stop=done switch=done start=done"
    assert (yard.home() / "1.0.0" / "conf" / "d" / "cfg.json").read_bytes() == b"{}"


def test_a_folder_in_a_configs_place_is_found_before_the_stop(yard: Yard) -> None:
    pid = started(yard)
    (yard.home() / "1.0.0" / "cfg.json").mkdir()
    plan = plan_of(
        Configure(name="cfg.json", digest="sha256:1", directory=None),
        Stop(version="1.0.0"),
        SwitchConfig(version="1.0.0", name="cfg.json", digest="sha256:1"),
        Start(version="1.0.0"),
    )
    outcomes = run(plan, yard.tools(contents={"sha256:1": b"{}"}))
    assert types(outcomes) == "configure=done stop=failed switch=skipped start=skipped"
    assert outcomes[1].reason == "WriteFailed"
    assert agent.ask(yard.home()).pid == pid


def test_a_config_is_delivered_in_the_downtime(yard: Yard) -> None:
    started(yard)
    content = b'{"greeting": "hello"}'
    plan = plan_of(
        Configure(name="cfg.json", digest="sha256:1", directory=None),
        Stop(version="1.0.0"),
        SwitchConfig(version="1.0.0", name="cfg.json", digest="sha256:1"),
        Start(version="1.0.0"),
    )
    outcomes = run(plan, yard.tools(contents={"sha256:1": content}))
    assert types(outcomes) == "configure=done stop=done switch=done start=done"
    assert agent.ask(yard.home()).greeting == "hello"
    assert STAGED_CONFIG not in os.listdir(yard.home())


@pytest.mark.parametrize("times", [1, 99], ids=["once", "for as long as it is tried"])
def test_a_host_without_memory_between_stop_and_start_ends_no_run(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It is tried again, and else a failure of the host's; what is planned next starts the agent."""
    started(yard)
    yard.put("2.0.0")
    rename, refused = os.rename, list[object]()

    def short_of_memory(*names: Any, **folders: Any) -> None:
        if len(refused) < times and names[1] == ".version":
            refused.append(names)
            raise MemoryError
        rename(*names, **folders)

    monkeypatch.setattr(os, "rename", short_of_memory)
    outcomes = run(SWITCH_BACK, yard.tools())
    if times == 1:
        assert types(outcomes) == "stop=done switch=done start=done"
    else:
        assert types(outcomes) == "stop=done switch=failed start=skipped"
        assert (outcomes[1].host_fault, outcomes[1].reason) == (True, "InternalError")
        assert "no memory" in outcomes[1].error
