"""Whole passes: what is done, what is kept, what is reported, and that one agent's trouble is its own."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from loguru import logger

from probes.host.paths import PATH
from probes.observed import START_LOG, ObservedAgent
from reconcile.act.home_ops import START_LOG_LIMIT
from reconcile.act.host.home_lock import home_lock
from reconcile.act.host.root_ops import create_user
from reconcile.assess.pass_context import DesiredFrom, NoDesiredState
from reconcile.decide import planner
from reconcile.decide.actions import Held, Plan, Result, Start
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import PendingUpgrade, UpgradePhase
from reconcile.decide.target import Target
from reconcile.decide.timing.fetch_slot import Splay
from reconcile.engine.journal import guarded
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import PassResult
from reconcile.source import Answer, DesiredSignature, HostReport
from reconcile.storage.hold_files import put_hold, put_release
from reconcile.storage.serial_file import SerialMemory
from reconcile.storage.store import read_state
from tests.yard import GIVEN_UP, NAME, SHORT, Story, Yard, ready, the_agent, types
from updater.demo import agent

LACKING = "ops-updater-lacks"
WHOLE = "fetch=done verify=done unpack=done switch=done start=done"


def wish(yard: Yard, *versions: str, **keys: Any) -> None:
    """Want these: `1.0.0`, or `other 1.0.0` for another agent."""
    wanted = [version.split() if " " in version else (NAME, version) for version in versions]
    yard.meta.desire(*(yard.meta.agent(name, version, **keys) for name, version in wanted))


def installed(yard: Yard, **keys: Any) -> int:
    yard.publish("1.0.0")
    wish(yard, "1.0.0", **keys)
    assert yard.run().all_ready
    return agent.ask(yard.home()).pid


def condition(result: PassResult, kind: str, name: str = NAME) -> Condition:
    return next(c for c in the_agent(result, name).conditions if c.type == kind)


def own(result: PassResult, kind: str) -> Condition:
    return next(c for c in result.conditions if c.type == kind)


def test_a_first_pass_installs_and_a_second_finds_nothing_to_do(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    result = yard.run()
    assert types(the_agent(result).outcomes) == WHOLE
    assert (result.acted, result.all_ready) == (True, True)
    assert result.transitions == ()  # new conditions count where they report trouble
    pid = agent.ask(yard.home()).pid
    result = yard.run()
    assert (result.acted, result.all_ready, the_agent(result).outcomes) == (False, True, ())
    assert agent.ask(yard.home()).pid == pid


def test_actions_are_reported_as_they_happen(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    story = Story()
    result = yard.run(begins=story.begins, ended=story.ends)
    assert tuple(story.ended) == the_agent(result).outcomes
    assert tuple(story.begun) == the_agent(result).view.plan.actions


def test_without_any_desired_state_there_is_no_pass(yard: Yard) -> None:
    yard.meta.down()
    with pytest.raises(NoDesiredState):
        yard.run()


# Names


def test_a_pass_over_some_names_leaves_the_others_alone(yard: Yard) -> None:
    yard.publish("1.0.0")
    yard.publish("1.0.0", name="other")
    yard.meta.desire(
        yard.meta.agent(NAME, "1.0.0"), yard.meta.agent("other", "1.0.0"), yard.meta.agent("../evil", "1.0.0")
    )
    result = yard.run(wanted=lambda name: name == "other")
    assert [done.view.desired.name for done in result.agents] == ["other"]
    assert result.all_ready  # the refused one was not asked for either
    assert os.listdir(yard.work) == ["other"]
    assert not yard.run().all_ready


class Signed:
    """Answers with a serial, as a server whose responses are signed."""

    came_from = "there"
    takes_reports = True

    def __init__(self, yard: Yard, serial: int) -> None:
        self._inner, self._serial = yard.around().source, serial

    def exchange(self, report: HostReport) -> Answer:
        return evolve(self._inner.exchange(report), signature=signed(self._serial))


def signed(serial: int) -> DesiredSignature:
    return DesiredSignature(key="K", serial=serial, digest="d")


def test_the_serial_of_an_answer_is_kept_in_the_memory_and_beside_it(yard: Yard, tmp_path: Path) -> None:
    wish(yard)
    path = tmp_path / "serials.json"
    serials = SerialMemory(path, frozenset({"K"}))
    yard.run(host=yard.around(source=Signed(yard, 7), serials=serials))
    assert read_state(yard.db).serials == (signed(7),)
    assert SerialMemory(path, frozenset({"K"})).accepted == (signed(7),)
    path.unlink()
    other = SerialMemory(path, frozenset({"K"}))
    yard.run(host=yard.around(serials=other))
    assert other.accepted == (signed(7),), "the memory knows it"
    assert SerialMemory(path, frozenset({"K"})).accepted == (signed(7),)


def test_a_serial_that_can_not_be_kept_is_trouble_and_no_failure(yard: Yard, tmp_path: Path) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    (tmp_path / "serials.json").mkdir()
    serials = SerialMemory(tmp_path / "serials.json", frozenset({"K"}))
    result = yard.run(host=yard.around(source=Signed(yard, 7), serials=serials))
    assert result.all_ready
    assert ["serials.json can't be written" in trouble for trouble in result.troubles] == [True]
    assert read_state(yard.db).serials == (signed(7),)


class Broken:
    """A source with an error of its own."""

    came_from = "there"
    takes_reports = True

    def exchange(self, report: HostReport) -> Answer:
        raise RuntimeError("nobody expected this")


def test_an_unexpected_error_of_a_source_ends_its_pass(yard: Yard) -> None:
    with pytest.raises(RuntimeError, match="nobody expected this"):
        yard.run(host=yard.around(source=Broken()))


# Users


@pytest.mark.skipif(os.geteuid() != 0, reason="only root creates users without sudo")
@pytest.mark.parametrize("fails", [False, True])
def test_a_user_that_an_agent_lacks_is_created_on_the_servers_word_alone(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """By a useradd that creates none, so that each pass asks it again."""
    useradd, calls = tmp_path / "bin" / "useradd", tmp_path / "calls"
    useradd.parent.mkdir()
    useradd.write_text(f'#!/bin/sh\necho "$*" >>{calls}\necho no room >&2\nexit {int(fails)}\n')
    useradd.chmod(0o755)
    monkeypatch.setattr(create_user, "__defaults__", (f"{useradd.parent}:{PATH}",))
    host = yard.around(policy=evolve(yard.around().policy, create_users=True))
    yard.publish("1.0.0")
    wish(yard, "1.0.0", runUser=LACKING)
    result = yard.run(host=host)
    assert ready(result)[1] == "UserMissing"
    assert calls.read_text().split()[-1] == LACKING
    assert result.assessment.came_from == host.source.came_from, "the answer of this pass, and no remembered one"
    assert ["no room" in trouble for trouble in result.troubles] == [True] * fails
    wish(yard, "1.0.0", runUser=LACKING, cmd="stop")
    yard.run(host=host)
    wish(yard, "1.0.0", runUser=LACKING)
    yard.run(wanted=lambda name: name != NAME, host=host)
    yard.run(DesiredFrom.LAST_ACCEPTED, host=host)
    yard.run()
    assert len(calls.read_text().splitlines()) == 1, "stopped, not asked for, without an answer, not allowed"


# What is refused


def refusals(result: PassResult) -> tuple[list[str], list[str]]:
    """The entries whose refusal is news, as their name and rule, and the names that are refused no more."""
    return [f"{entry.name} {entry.rule}" for entry in result.newly_refused], list(result.refused_no_more)


def test_a_refusal_is_news_when_it_begins_when_it_is_another_and_when_it_ends(yard: Yard) -> None:
    def ask(**keys: Any) -> tuple[list[str], list[str]]:
        theirs = yard.meta.agent("theirs", "1.0.0", **{"cmd": "stop", **keys})
        yard.meta.desire(theirs, yard.meta.agent("a b", "1.0.0"))
        return refusals(yard.run())

    assert ask(workDir="/etc") == (["theirs work_dir", "a b name"], [])
    assert ask(workDir="/etc") == ([], [])
    assert ask(cmd="jump") == (["theirs cmd"], [])
    assert refusals(yard.run(wanted=lambda name: name == NAME)) == ([], []), "it was not asked for"
    yard.meta.down()
    assert refusals(yard.run()) == ([], []), "nothing new was heard"
    yard.meta.up()
    assert ask() == ([], ["theirs"])
    assert ask() == ([], [])
    assert [said.partition(": ")[0] for said in yard.history("a b")] == ["refused"]
    assert [said.partition(": ")[2].partition(":")[0] for said in yard.history("theirs")] == [
        "PolicyRefused, rule work_dir",
        "InvalidSpec, rule cmd",
        "",
    ]


def test_what_an_operators_file_names_is_news_of_that_run_alone(yard: Yard) -> None:
    yard.meta.desire(yard.meta.agent("a b", "1.0.0"))
    host = yard.around(operator="ann")
    for _ in range(2):
        assert refusals(yard.run(host=host)) == (["a b name"], [])
    assert yard.history("a b") == []


# Without an answer


def test_what_crashed_is_healed_from_memory(yard: Yard) -> None:
    old = installed(yard)
    agent.crash(yard.home())
    before = len(yard.meta.requests)
    result = yard.run(DesiredFrom.LAST_ACCEPTED)
    assert types(the_agent(result).outcomes) == "start=done"
    assert ready(result) == ("True", "AsDesired")
    assert agent.ask(yard.home()).pid != old
    assert len(yard.meta.requests) == before


def without_threads(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The host has none for these."""
    start = threading.Thread.start

    def short(thread: threading.Thread) -> None:
        if thread.name.startswith(names):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", short)


def test_what_crashed_is_healed_where_there_is_no_thread_to_ask_the_server(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    yard.run()
    yard.run()
    agent.crash(yard.home())
    without_threads(monkeypatch, "exchange")
    result = yard.run()
    assert types(the_agent(result).outcomes) == "start=done"
    assert agent.ask(yard.home()).version == "1.0.0"


def test_a_plan_without_a_thread_is_no_failure_and_is_begun_with_the_next_pass(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    without_threads(monkeypatch, "fetch", "change", "heal")
    [outcome] = the_agent(yard.run()).outcomes
    assert outcome.host_fault
    assert "the host is short of a resource" in outcome.error
    assert not yard.home().exists()
    monkeypatch.undo()
    assert types(the_agent(yard.run()).outcomes) == WHOLE


def test_plans_have_the_threads_that_there_are(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "c")
    for name in names:
        yard.publish("1.0.0", name=name)
    yard.meta.desire(*(yard.meta.agent(name, "1.0.0") for name in names))
    without_threads(monkeypatch, "fetch_1", "fetch_2")
    result = yard.run()
    assert [types(done.outcomes) for done in result.agents] == [WHOLE] * 3


def test_a_change_waits_for_an_answer_while_the_agent_is_healed(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.meta.vanish(NAME, "2.0.0")
    yard.run()  # the wish is accepted, the tarball can't be had
    yard.meta.heal()
    agent.crash(yard.home())
    yard.meta.down()
    result = yard.run()
    assert types(the_agent(result).outcomes) == "start=done"
    assert ready(result)[0] == "False"
    held = condition(result, "Held")
    assert (held.status, held.reason) == ("True", "ServerUnreachable")
    assert own(result, "ServerReachable").status == "False"
    assert ("", "ServerReachable") in [(name, flip.type) for name, flip in result.transitions]
    assert agent.ask(yard.home()).version == "1.0.0"
    yard.meta.up()
    assert condition(yard.run(), "Held").reason == "BackingOff"  # its tarball failed a moment ago
    yard.later += 61
    assert types(the_agent(yard.run()).outcomes).endswith("stop=done switch=done start=done")


def test_a_fetch_waits_for_this_hosts_turn_while_the_agent_is_healed(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    agent.crash(yard.home())
    splay = Splay(span=36000, slot=(time.time() + 9000) % 36000)
    host = yard.around(rules=Rules(splay=splay))
    fetched = yard.tarball_requests()
    result = yard.run(host=host)
    assert types(the_agent(result).outcomes) == "start=done"
    assert condition(result, "Held").message.startswith("waits for this host's turn to fetch, in 2h")
    assert result.wake_at is not None
    again = yard.run(host=host)
    assert (again.acted, ready(again)) == (False, ("False", "BackingOff"))
    assert yard.tarball_requests() == fetched
    assert agent.ask(yard.home()).version == "1.0.0"
    yard.later += 9001
    assert types(the_agent(yard.run(host=host)).outcomes).startswith("fetch=done")
    assert agent.ask(yard.home()).version == "2.0.0"


def test_a_release_ends_the_wait_for_a_turn(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    host = yard.around(rules=Rules(splay=Splay(span=36000, slot=(time.time() + 9000) % 36000)))
    assert not yard.run(host=host).acted
    put_release(yard.holds, NAME)
    assert yard.run(host=host).all_ready


def test_an_operator_may_have_the_last_accepted_state_acted_upon(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.meta.fail(503, ".tar.gz", retry_after=3600)
    yard.run()
    yard.meta.heal()
    yard.later += 61
    before = len(yard.meta.heartbeats)
    result = yard.run(DesiredFrom.OFFLINE)
    assert result.all_ready
    assert agent.ask(yard.home()).version == "2.0.0"
    assert len(yard.meta.heartbeats) == before


def test_an_empty_answer_manages_nothing(yard: Yard) -> None:
    pid = installed(yard)
    yard.meta.desire()
    agent.crash(yard.home())
    for _ in range(2):
        result = yard.run()
        assert (result.agents, result.assessment.nothing_desired, result.all_ready) == ((), True, True)
        assert agent.pid_of(yard.home()) is None
        [reported] = yard.meta.heartbeats[-1]["realAgents"]
        assert (reported["name"], reported["status"]) == (NAME, "stoped")
    wish(yard, "1.0.0")
    assert types(the_agent(yard.run()).outcomes) == "start=done"
    assert agent.ask(yard.home()).pid != pid


# Reports


def test_a_change_is_reported_at_once(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    yard.run()
    before, after = yard.meta.heartbeats
    assert before["realAgents"] == []
    [reported] = after["realAgents"]
    assert (reported["name"], reported["version"], reported["status"]) == (NAME, "1.0.0", "started")
    yard.run()
    assert len(yard.meta.heartbeats) == 3  # nothing was done: one exchange


def test_a_report_after_a_change_has_the_others_too(yard: Yard) -> None:
    installed(yard)
    yard.publish("1.0.0", name="other")
    wish(yard, "1.0.0", "other 1.0.0")
    yard.run()
    assert sorted(reported["name"] for reported in yard.meta.heartbeats[-1]["realAgents"]) == [NAME, "other"]


def test_the_answer_to_that_report_is_kept_for_the_next_pass(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")

    def forget(view: object, outcome: Any) -> None:
        if isinstance(outcome.action, Start):
            wish(yard, "1.0.0", "other 1.0.0")

    yard.run(ended=forget)
    state = read_state(yard.db)
    assert state.accepted is not None
    assert len(state.accepted.answer.entries) == 2


def test_a_report_that_does_not_arrive_is_no_failure_of_the_pass(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    result = yard.run(ended=lambda view, outcome: yard.meta.fail(503, "/heartbeat"))
    assert result.all_ready
    assert len(yard.meta.heartbeats) == 2


def test_after_a_heal_without_an_exchange_nothing_is_reported(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    before = len(yard.meta.heartbeats)
    yard.run(DesiredFrom.LAST_ACCEPTED)
    assert len(yard.meta.heartbeats) == before


# Failures


def test_a_corrupt_tarball_changes_nothing_for_the_agent_that_runs(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    yard.meta.corrupt(NAME, "2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert ready(result) == ("False", "DigestMismatch")
    assert (result.acted, result.all_ready) == (True, False)
    assert (NAME, "Ready") in [(name, flip.type) for name, flip in result.transitions]
    assert agent.ask(yard.home()).pid == pid
    again = yard.run()
    assert (NAME, "Ready") not in [(name, flip.type) for name, flip in again.transitions]


def test_what_must_run_is_started_whatever_its_upgrade_comes_to(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    yard.meta.vanish(NAME, "2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert types(the_agent(result).outcomes) == (
        "start=done fetch=failed verify=skipped unpack=skipped stop=skipped switch=skipped start=skipped"
    )
    assert agent.ask(yard.home()).version == "1.0.0"
    assert ready(result) == ("False", "FetchFailed")


def test_a_start_with_nothing_to_go_back_to_is_made_once_in_a_pass_and_then_waits(yard: Yard) -> None:
    yard.publish("1.0.0", broken_start=True)
    wish(yard, "1.0.0")
    result = yard.run(control=GIVEN_UP)
    assert types(the_agent(result).outcomes).endswith("switch=done start=failed")
    assert ready(result) == ("False", "StartFailed")
    assert result.wake_at is not None  # the daemon looks again when the pause is over
    result = yard.run(control=GIVEN_UP)
    assert (ready(result), result.acted) == (("False", "BackingOff"), False)
    yard.later += 11
    assert types(the_agent(yard.run(control=GIVEN_UP)).outcomes) == "start=failed"


COUNTS_STARTS = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) echo start >>../starts; touch up ;;
stop) rm -f up ;;
status) [ -e up ] && echo mumble || echo stoped ;;
esac
"""


def test_a_start_of_unknown_result_is_made_once(yard: Yard) -> None:
    """Where the status can't be understood, a start that is due is made once, and not again at each pass."""
    yard.publish("1.0.0", control=COUNTS_STARTS)
    wish(yard, "1.0.0")
    result = yard.run(control=SHORT)
    assert types(the_agent(result).outcomes).endswith("switch=done start=failed")
    assert ready(result) == ("Unknown", "StatusUnknown")
    result = yard.run(control=SHORT)
    assert (ready(result), result.acted) == (("Unknown", "StatusUnknown"), False)
    assert (yard.home() / "starts").read_text() == "start\n"


class Killed(BaseException):
    """What `kill -9` is to a pass: nothing of ours runs after it."""


def broken_off(yard: Yard) -> None:
    """An upgrade that ended between the switch and the start: the note is there, the new version does not run."""
    installed(yard)
    yard.publish("2.0.0", control=COUNTS_STARTS.replace("touch up", "touch up; exit 126"))
    wish(yard, "2.0.0")

    def die(view: object, action: object) -> None:
        if isinstance(action, Start):
            raise Killed

    with pytest.raises(Killed):
        yard.run(begins=die)


def open_switch(yard: Yard) -> PendingUpgrade | None:
    return yard.record().confirmation


def test_a_switch_that_was_broken_off_is_finished_by_the_next_run(yard: Yard) -> None:
    """It is started, once; a command of it can't be run, so it goes back to the former version."""
    broken_off(yard)
    begun = open_switch(yard)
    assert begun is not None
    assert begun.before is not None
    assert (begun.to.version, begun.before.version, begun.stage) == ("2.0.0", "1.0.0", UpgradePhase.SWITCHING)
    result = yard.run(control=GIVEN_UP)
    assert types(the_agent(result).outcomes) == "start=failed stop=done switch=done start=done"
    assert (yard.home() / "starts").read_text() == "start\n"
    assert open_switch(yard) is None
    assert ready(result) == ("False", "RolledBack")
    assert agent.ask(yard.home()).version == "1.0.0"


def test_a_start_that_a_busy_home_kept_from_us_is_still_due(yard: Yard) -> None:
    broken_off(yard)
    with home_lock(yard.home()):
        result = yard.run(control=SHORT)
    assert the_agent(result).outcomes[0].reason == "HomeBusy"
    assert open_switch(yard) is not None
    yard.run(control=GIVEN_UP)
    assert (yard.home() / "starts").read_text() == "start\n"
    assert open_switch(yard) is None


@pytest.fixture
def log() -> Any:
    """What is logged while the test lasts, tracebacks included."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING", format="{message}\n{exception}")
    yield lines
    logger.remove(sink)


def test_a_report_after_a_change_that_does_not_arrive_is_logged_and_no_failure(yard: Yard, log: list[str]) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    request = PassRequest(ask=DesiredFrom.EXCHANGE, decided=lambda: yard.meta.answer_raw(500, b""))
    with yard.runtime() as runtime:
        assert ready(run_pass(runtime, request)) == ("True", "Confirming")
    assert [line.partition(": ")[0] for line in log] == ["the report after a change did not arrive"]


def test_an_unexpected_exception_is_one_agents_own(yard: Yard, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    """`os.rename` fails in a way that no operating system knows, in the home of one agent alone."""
    yard.publish("1.0.0")
    yard.publish("1.0.0", name="other")
    wish(yard, "1.0.0", "other 1.0.0")
    rename = os.rename

    def broken(*args: Any, **keywords: Any) -> None:
        if str(args[1]) == "1.0.0" and f"/{NAME}" in os.readlink(f"/proc/self/fd/{keywords['dst_dir_fd']}"):
            raise RuntimeError("nobody expected this")
        rename(*args, **keywords)

    monkeypatch.setattr(os, "rename", broken)
    result = yard.run()
    assert ready(result) == ("False", "InternalError")
    assert [(one.result, one.host_fault) for one in the_agent(result).outcomes] == [(Result.FAILED, False)]
    assert "nobody expected this" in condition(result, "Ready").message
    assert ready(result, "other") == ("True", "Confirming")
    assert agent.ask(yard.home("other")).version == "1.0.0"
    assert not result.all_ready
    assert any("Traceback" in line and "nobody expected this" in line for line in log)
    monkeypatch.undo()
    yard.later += 61
    assert yard.run().all_ready


def test_an_agent_that_can_not_be_observed_keeps_no_other_waiting(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.publish("1.0.0")
    yard.publish("1.0.0", name="other")
    wish(yard, "1.0.0", "other 1.0.0")
    yard.run()
    yard.settle()
    agent.crash(yard.home())
    agent.crash(yard.home("other"))
    plan_agent = planner.plan_agent

    def broken(target: Target, observed: ObservedAgent) -> Plan:
        if target.name == NAME:
            raise RuntimeError("nobody expected this")
        return plan_agent(target, observed)

    monkeypatch.setattr("reconcile.decide.evaluate.plan_agent", broken)
    record = yard.record()
    result = yard.run()
    assert ready(result) == ("False", "InternalError")
    assert types(the_agent(result, "other").outcomes) == "start=done"
    assert evolve(yard.record(), conditions=record.conditions) == record
    assert repr(the_agent(result).view.broken) == "RuntimeError('nobody expected this')"
    assert the_agent(result).view.target.run is RunState.OBSERVE, "nothing is wanted of it"
    assert (NAME, "Ready") in [(name, flip.type) for name, flip in result.transitions]
    assert NAME not in [name for name, _ in yard.run().transitions], "it is reported when it begins"
    monkeypatch.undo()
    yard.run()
    assert agent.ask(yard.home()).version == "1.0.0"


def test_trouble_becomes_a_value_and_an_interruption_does_not(log: list[str]) -> None:
    assert guarded(lambda: 1, lambda err: 2) == 1
    assert guarded(lambda: int("x"), lambda err: -1) == -1

    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, lambda err: 2)
    assert len(log) == 1


# Memory


def test_conditions_keep_the_time_of_their_last_flip(yard: Yard) -> None:
    yard.now = 1000.0
    installed(yard)
    yard.now = 2000.0
    result = yard.run()
    since = condition(result, "Ready").since
    assert since == condition(result, "Running").since == pytest.approx(1000, abs=60), "since its start"
    assert own(result, "ServerReachable").since == 1000
    yard.now = 3000.0
    yard.publish("2.0.0")
    yard.meta.vanish(NAME, "2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert (condition(result, "Ready").since, condition(result, "Running").since) == (3000, since)
    yard.now = 4000.0
    result = yard.run()
    assert condition(result, "Ready").since == 3000
    stored = read_state(yard.db)
    record = stored.record(NAME)
    assert record is not None
    assert record.conditions == the_agent(result).conditions
    assert stored.conditions == result.conditions


def test_a_memory_that_was_lost_is_made_from_the_disk(yard: Yard) -> None:
    pid = installed(yard)
    yard.db.unlink()
    result = yard.run()
    assert (result.all_ready, result.acted) == (True, False)
    assert agent.ask(yard.home()).pid == pid
    assert yard.meta.heartbeats[-1]["realAgents"] == []  # before an answer names it, it is not ours to report


def test_a_damaged_store_is_reported_once_and_passes_go_on(yard: Yard) -> None:
    installed(yard)
    yard.db.write_bytes(b"garbage" * 1000)
    result = yard.run()
    assert result.all_ready
    aside = own(result, "StateStored")
    assert (aside.status, aside.reason) == ("False", "StateSetAside")
    assert own(yard.run(), "StateStored").status == "True"


def test_a_memory_that_can_not_be_written_holds_a_change_and_never_a_heal(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    with yard.runtime() as runtime:
        fill_disk(yard.db)
        result = run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE))
        assert ready(result) == ("False", "WriteFailed")
        assert own(result, "StateStored").reason == "WriteFailed"
        assert agent.ask(yard.home()).pid == pid
        agent.crash(yard.home())
        result = run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE))
        assert "start=done" in types(the_agent(result).outcomes)
    assert agent.ask(yard.home()).version == "1.0.0"
    [trouble] = result.troubles
    assert "can't write" in trouble


def fill_disk(path: Path) -> None:
    db = sqlite3.connect(path)
    with db:
        for table in ("accepted", "records", "host"):
            db.execute(
                f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
    db.close()


# Many agents


def test_agents_are_changed_side_by_side_but_not_more_than_allowed(yard: Yard) -> None:
    names = [f"agent-{number}" for number in range(4)]
    for name in names:
        yard.publish("1.0.0", name=name)
    yard.meta.desire(*(yard.meta.agent(name, "1.0.0") for name in names))
    together = threading.Barrier(2, timeout=60)
    busy: set[str] = set()
    most = 0
    guard = threading.Lock()

    def begins(view: Any, action: Any) -> None:
        nonlocal most
        with guard:
            busy.add(view.desired.name)
            most = max(most, len(busy))
        if action.type == "switch":
            together.wait()  # two at a time, or this would never end

    def ended(view: Any, outcome: Any) -> None:
        if outcome.action.type == "start":
            with guard:
                busy.discard(view.desired.name)

    result = yard.run(parallel=2, begins=begins, ended=ended)
    assert result.all_ready
    assert most == 2


def test_what_crashed_does_not_wait_behind_a_download(yard: Yard) -> None:
    for name, version in (("other", "1.0.0"), (NAME, "1.0.0"), (NAME, "2.0.0")):
        yard.publish(version, name=name)
    wish(yard, "1.0.0", "other 1.0.0")
    assert yard.run().all_ready
    wish(yard, "2.0.0", "other 1.0.0")
    agent.crash(yard.home("other"))
    healed = threading.Event()

    def begins(view: Any, action: Any) -> None:
        if action.type == "fetch":
            assert healed.wait(20)  # so long does the server take

    def ended(view: Any, outcome: Any) -> None:
        if view.desired.name == "other":
            healed.set()

    result = yard.run(parallel=1, begins=begins, ended=ended)
    assert types(the_agent(result, "other").outcomes) == "start=done"
    assert types(the_agent(result).outcomes).startswith("fetch=done")


def test_to_end_finishes_a_change_that_is_under_way(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")

    def begins(view: object, action: Any) -> None:
        if action.type == "stop":
            yard.ending.set()

    result = yard.run(begins=begins)
    assert types(the_agent(result).outcomes).endswith("stop=done switch=done start=done")
    assert agent.ask(yard.home()).version == "2.0.0"


def test_to_end_before_a_change_leaves_it_for_the_next_run(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.ending.set()
    result = yard.run()
    assert the_agent(result).outcomes == ()
    assert (result.acted, the_agent(result).acted, result.all_ready) == (False, False, False)
    assert agent.ask(yard.home()).pid == pid


def test_start_logs_stay_bounded(yard: Yard) -> None:
    installed(yard)
    path = yard.home() / START_LOG
    path.write_bytes(b"x" * (START_LOG_LIMIT + 1))
    yard.run()
    assert path.stat().st_size <= START_LOG_LIMIT


@pytest.mark.parametrize("why", ["held", "observed only"])
def test_nothing_is_trimmed_in_the_home_of_an_agent_that_is_left_alone(yard: Yard, why: str) -> None:
    installed(yard)
    path = yard.home() / START_LOG
    path.write_bytes(b"x" * (START_LOG_LIMIT + 1))
    if why == "held":
        put_hold(yard.holds, NAME, Hold(owner="me", reason="hands off"))
    else:
        wish(yard, "1.0.0", cmd="")
    yard.run()
    assert path.stat().st_size > START_LOG_LIMIT


def test_a_held_agent_is_reported_as_held(yard: Yard) -> None:
    installed(yard)
    yard.meta.publish(NAME, "2.0.0", b"x", digest_file=False)
    wish(yard, "2.0.0", md5="")
    result = yard.run()
    assert isinstance(the_agent(result).view.verdict, Held)
    assert (result.acted, ready(result)) == (False, ("False", "FetchFailed"))
    assert (NAME, "Held") in [(name, flip.type) for name, flip in result.transitions]


@pytest.mark.parametrize("edit", [lambda path: path.write_text("{}"), lambda path: path.unlink()])
def test_a_config_that_was_changed_here_stays_until_the_remote_one_changes(
    yard: Yard, edit: Callable[[Path], object]
) -> None:
    url = yard.meta.publish_config("/conf/cfg.json", b'{"greeting": "one"}')
    keys = {"configFileName": "cfg.json", "configRemoteUrl": url}
    pid = installed(yard, **keys)
    path = yard.home() / "1.0.0" / "cfg.json"
    edit(path)
    for _ in range(2):
        result = yard.run()
        assert (result.acted, condition(result, "ConfigInSync").reason) == (False, "ConfigEdited")
    assert agent.ask(yard.home()).pid == pid
    yard.meta.publish_config("/conf/cfg.json", b'{"greeting": "two"}')
    assert yard.run().all_ready
    assert agent.ask(yard.home()).greeting == "two"


@pytest.mark.skipif(os.geteuid() != 0, reason="a rule about what root executes")
def test_root_leaves_an_agent_alone_whose_home_others_can_write(yard: Yard) -> None:
    """It goes on running, and is neither healed nor changed; once the home is root's alone all is as ever."""
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.home().chmod(0o777)
    result = yard.run()
    assert (ready(result), the_agent(result).acted) == (("Unknown", "PolicyRefused"), False)
    assert agent.ask(yard.home()).pid == pid
    assert yard.meta.heartbeats[-1]["realAgents"][0]["status"].startswith("refused by rule root_home: ")
    agent.crash(yard.home())
    assert not yard.run().acted
    yard.home().chmod(0o755)
    result = yard.run()
    assert types(the_agent(result).outcomes).startswith("start=done fetch=done")
    assert agent.ask(yard.home()).version == "2.0.0"
