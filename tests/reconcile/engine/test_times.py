"""Since when an agent is so, and when, by whom and why something was done: what conditions and history say of it."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from attrs import evolve

from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Action, Start
from reconcile.decide.conditions import Condition
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import AgentRecord, Pin
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import PassResult
from reconcile.storage.codec import HistoryEntry
from reconcile.storage.hold_files import put_hold, put_release
from reconcile.storage.store import Store, read_history
from tests.yard import NAME, Yard, the_agent
from updater.demo import agent

TURNED = 60.0  # seconds: no test's pass takes that long


def wish(yard: Yard, version: str, **keys: Any) -> None:
    yard.meta.desire(yard.meta.agent(NAME, version, **keys))


def installed(yard: Yard, version: str = "1.0.0", **keys: Any) -> None:
    """A version that became good, an hour ago."""
    yard.publish(version)
    wish(yard, version, **keys)
    yard.run()
    yard.settle()
    yard.later += 3600


def condition(result: PassResult, kind: str) -> Condition:
    return next(c for c in the_agent(result).conditions if c.type == kind)


def age(yard: Yard, result: PassResult, kind: str) -> float:
    """For how long it is so by now."""
    return yard.around().clock() - condition(result, kind).since


def events(yard: Yard) -> tuple[HistoryEntry, ...]:
    return read_history(yard.db, [NAME])


def done_by(yard: Yard) -> list[tuple[str, str]]:
    """On whose word, and why, something was done."""
    return [(event.by, event.reason) for event in events(yard) if event.reason != "News"]


def started_at(event: HistoryEntry) -> float:
    return next(float(action["at"]) for action in event.actions if action["type"] == "start")


# --- since ---


def test_what_died_and_was_healed_within_a_pass_runs_since_its_start(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    result = yard.run()
    assert condition(result, "Running").since >= started_at(events(yard)[-1])
    assert age(yard, result, "Running") < TURNED
    assert age(yard, result, "Ready") < TURNED
    assert age(yard, result, "Installed") > 3600, "nothing else flipped"
    assert the_agent(result).record is not None
    assert yard.record().conditions == the_agent(result).conditions


def test_what_was_down_five_times_in_twelve_minutes_runs_since_the_last(yard: Yard) -> None:
    installed(yard)
    since = []
    for _ in range(5):
        yard.later += 150
        agent.crash(yard.home())
        since.append(condition(yard.run(), "Running").since)
    result = yard.run()
    assert since == sorted(set(since))
    assert condition(result, "Running").since == since[-1]
    assert age(yard, result, "Running") < TURNED


def test_what_was_healed_before_its_change_and_changed_runs_since_the_change(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    healed, changed = events(yard)[-2:]
    assert [(one.by, one.reason) for one in (healed, changed)] == [("heal", "NotRunning"), ("server", "VersionDiffers")]
    assert started_at(healed) < started_at(changed) <= condition(result, "Running").since


def test_what_was_stopped_and_started_within_a_pass_runs_since_its_start(yard: Yard) -> None:
    """An upgrade, a changed config, a move: all looks of it see it running."""
    url = yard.meta.publish_config("/conf/cfg.json", b"{}")
    keys = {"configFileName": "cfg.json", "configRemoteUrl": url}
    installed(yard, **keys)

    yard.publish("2.0.0")
    wish(yard, "2.0.0", **keys)
    ages = [age(yard, yard.run(), "Running")]
    yard.settle()
    yard.meta.publish_config("/conf/cfg.json", b'{"a": 1}')
    yard.later += 3600
    ages.append(age(yard, yard.run(), "Running"))
    yard.settle()
    yard.later += 3600
    wish(yard, "2.0.0", workDir=str(yard.folder / "new"), **keys)
    result = yard.run()

    assert max(*ages, age(yard, result, "Running")) < TURNED
    assert age(yard, result, "Ready") < TURNED
    assert [
        one for one in done_by(yard)[1:] if one != ("server", "AsDesired")
    ] == [  # else what nothing needs was removed
        ("server", "VersionDiffers"),
        ("server", "ConfigDiffers"),
        ("server", "WorkDirChanged"),
    ]


def test_a_stop_by_the_server_counts_since_then_and_its_start_is_no_heal(yard: Yard) -> None:
    installed(yard)
    wish(yard, "1.0.0", cmd="stop")
    result = yard.run()
    assert (condition(result, "Running").status, age(yard, result, "Running") < TURNED) == ("False", True)
    stopped = condition(result, "Running").since
    yard.later += 3600
    assert condition(yard.run(), "Running").since == stopped
    wish(yard, "1.0.0")
    result = yard.run()
    assert (condition(result, "Running").status, age(yard, result, "Running") < TURNED) == ("True", True)
    assert done_by(yard)[1:] == [("server", "UnexpectedlyRunning"), ("server", "NotRunning")]


def test_cleaning_up_flips_nothing(yard: Yard) -> None:
    installed(yard)
    results = []
    for version in ("2.0.0", "3.0.0"):
        yard.publish(version)
        wish(yard, version)
        results.append(yard.run())
        yard.later += 3600
        results.append(yard.settle())
    before, result = results[-2:]
    since = condition(before, "Running").since
    assert [outcome.action.type for outcome in the_agent(result).outcomes] == ["prune"]
    assert condition(result, "Running").since == condition(result, "Ready").since == since
    assert done_by(yard)[-1] == ("server", "AsDesired")


def test_a_change_that_failed_before_its_stop_flips_ready_alone(yard: Yard) -> None:
    installed(yard)
    running = condition(yard.run(), "Running").since
    yard.publish("2.0.0")
    yard.meta.vanish(NAME, "2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert condition(result, "Running").since == running
    assert age(yard, result, "Ready") < TURNED


def test_what_was_found_running_runs_since_it_was_first_seen(yard: Yard) -> None:
    tree = yard.put("1.0.0")
    agent_started = time.time()
    assert os.system(f"{tree}/control start >{yard.folder}/by-hand 2>&1") == 0
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    yard.later += 3600
    result = yard.run()
    assert condition(result, "Running").since == pytest.approx(agent_started + 3600, abs=TURNED)
    assert done_by(yard) == []


@pytest.mark.parametrize("amid", ["heal", "upgrade"])
def test_what_a_killed_pass_started_runs_since_it_was_seen_again(yard: Yard, amid: str) -> None:
    """What that pass has written down by its start is all that the next one has."""
    installed(yard)
    noted: list[AgentRecord] = []

    def ended(view: AgentEvaluation, outcome: Any) -> None:
        if isinstance(outcome.action, Start):
            noted.append(yard.record())

    if amid == "heal":
        agent.crash(yard.home())
    else:
        yard.publish("2.0.0")
        wish(yard, "2.0.0")
    yard.run(ended=ended)
    store = Store(yard.db)
    store.save([noted[-1]])
    store.close()
    yard.later += 300

    result = yard.run()

    assert (condition(result, "Running").status, age(yard, result, "Running") < TURNED) == ("True", True)


def test_a_clock_that_was_set_back_changes_no_time_that_was_noted(yard: Yard) -> None:
    """What is shown of a time that lies ahead is decided by updater/output/format.py."""
    installed(yard)
    since = condition(yard.run(), "Running").since
    yard.later -= 7200
    assert condition(yard.run(), "Running").since == since
    agent.crash(yard.home())
    result = yard.run()
    assert abs(age(yard, result, "Running")) < TURNED
    assert done_by(yard)[-1] == ("heal", "NotRunning"), "what happened last stands last, whatever its time"


# --- history ---


def test_a_failure_and_the_way_back_each_have_their_own_time(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    wish(yard, "2.0.0")
    begun: dict[tuple[str, str], float] = {}

    def begins(view: AgentEvaluation, action: Action) -> None:
        begun[(action.type, str(getattr(action, "to", getattr(action, "version", ""))))] = yard.around().clock()

    result = yard.run(begins=begins)

    failed, back, news = events(yard)[-3:]
    assert [(one.by, one.reason) for one in (failed, back)] == [
        ("server", "VersionDiffers"),
        ("rollback", "RolledBack"),
    ]
    assert (news.by, news.reason) == ("rollback", "News")
    for event in (failed, back):
        tried = [action for action in event.actions if action["result"] != "skipped"]
        assert event.at == tried[0]["at"]
        for action in tried:
            known = begun.get((action["type"], str(action["version"] or "")))
            assert known is None or action["at"] == pytest.approx(known, abs=1)
    assert failed.at < started_at(failed) < back.at < started_at(back) <= news.at
    assert condition(result, "Running").since >= started_at(back)


def test_an_operators_rollback_names_the_operator_and_so_does_what_is_taken_up(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.run()
    yard.settle()
    pin = Pin(version="1.0.0", owner="ann", at=yard.around().clock())
    with yard.runtime() as runtime:
        run_pass(runtime, PassRequest(ask=DesiredFrom.OFFLINE, pins=((NAME, pin),)))
    assert (events(yard)[-1].by, events(yard)[-1].reason) == ("operator:ann", "RolledBack")
    assert agent.ask(yard.home()).version == "1.0.0"

    agent.crash(yard.home())
    yard.run()
    assert done_by(yard)[-1] == ("heal", "NotRunning"), "a crash is healed there, without an operator"
    put_hold(yard.holds, NAME, Hold(owner="bob", reason="looking"))
    yard.run()
    assert (events(yard)[-1].by, events(yard)[-1].message) == ("operator:bob", "held by bob: looking")
    put_release(yard.holds, NAME, "eve")
    yard.run()
    released = next(event for event in events(yard) if event.message.startswith("released by eve: "))
    assert released.by == "operator:eve"


def test_a_pin_to_the_version_in_use_is_reported_though_nothing_is_done(yard: Yard) -> None:
    installed(yard)
    pin = Pin(version="1.0.0", owner="ann", at=yard.around().clock())
    with yard.runtime() as runtime:
        run_pass(runtime, PassRequest(ask=DesiredFrom.OFFLINE, pins=((NAME, pin),)))
    yard.run()
    reported = [event for event in events(yard) if "went back to 1.0.0" in event.message]
    assert [(event.by, event.reason) for event in reported] == [("operator:ann", "News")]


def test_a_release_without_a_user_has_an_owner_all_the_same(yard: Yard) -> None:
    installed(yard)
    put_release(yard.holds, NAME)
    yard.run()
    assert events(yard)[-1].by == "operator:unknown"


def test_history_is_in_the_order_of_what_happened_whatever_the_clock_showed(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.run()
    yard.later -= 7200
    wish(yard, "1.0.0", cmd="stop")
    yard.run()
    assert done_by(yard)[-2:] == [("heal", "NotRunning"), ("server", "UnexpectedlyRunning")]
    assert events(yard)[-1].at < events(yard)[-2].at


def test_history_of_several_agents_begins_with_what_began_first(yard: Yard) -> None:
    yard.publish("1.0.0")
    for name in ("b", "a"):
        yard.publish("1.0.0", name=name)
    yard.meta.desire(*(yard.meta.agent(name, "1.0.0") for name in ("b", NAME, "a")))
    yard.run(parallel=1)
    times = [event.at for event in read_history(yard.db)]
    assert times == sorted(times)
    assert len(set(times)) == 3


def test_a_record_says_nothing_of_times_that_it_does_not_know(yard: Yard) -> None:
    """A memory of an older version has no conditions of an agent that was only noted."""
    installed(yard)
    store = Store(yard.db)
    store.save([evolve(yard.record(), conditions=())])
    store.close()
    assert age(yard, yard.run(), "Running") < TURNED
