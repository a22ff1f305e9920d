"""One agent's plan, carried out: after calls of an earlier run, with what is noted, and when it goes on at our end."""

from __future__ import annotations

import os
from typing import Any

import pytest
from attrs import evolve

from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Outcome, Result
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.hold import Hold
from reconcile.decide.records.content import content_in_use
from reconcile.decide.records.record import AgentRecord, ControlCall, PendingUpgrade, UpgradePhase
from reconcile.engine.execution import _is_left_down, carry_out
from reconcile.engine.results import AgentResult
from reconcile.storage.hold_files import put_hold
from reconcile.storage.store import read_state
from tests.reconcile.engine.agent_results import FETCH, PRUNE, START, STOP, executed, outcome
from tests.reconcile.engine.test_reconciler import broken_off
from tests.yard import GIVEN_UP, NAME, Yard, types
from updater.demo import agent

BY_HAND = "started by hand"
EARLIER = ControlCall(version="1.0.0", verb="stop", pid=2**22 + 1, started=1, boot="boot-1", limit_s=60)


def moment(yard: Yard) -> EvaluationContext:
    return EvaluationContext(now=yard.around().clock(), answered=Freshness.LIVE)


def down(yard: Yard, **changes: Any) -> AgentEvaluation:
    """1.0.0 has crashed, and is to be started; an earlier run left a call of which it did not see the end."""
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0"))
    yard.run()
    yard.settle()
    agent.crash(yard.home())
    [view] = assess(yard.around(), read_state(yard.db), DesiredFrom.EXCHANGE).agents
    assert [action.type for action in view.due.actions] == ["start"]
    assert view.record is not None
    return evolve(view, record=evolve(view.record, calls=(EARLIER,), **changes))


def carried_out(yard: Yard, view: AgentEvaluation, **means: Any) -> tuple[AgentResult, list[AgentRecord]]:
    """What came of it, and the records that were written on the way."""
    written: list[AgentRecord] = []
    with yard.runtime(**means) as runtime:
        result = carry_out(runtime.context, view, moment(yard), written.append)
    return result, written


def start_by_hand(yard: Yard) -> None:
    assert os.system(f"{yard.home()}/1.0.0/control start >{yard.folder}/by-hand 2>&1") == 0


def test_what_the_first_look_found_is_told_though_a_call_was_waited_for(yard: Yard) -> None:
    view = evolve(down(yard), news="found at first", released_by="eve", asks="http://meta/cfg.json")
    result, written = carried_out(yard, view)
    assert types(result.outcomes) == "start=done"
    assert (result.view.news, result.waited) == ("found at first", True)
    assert (result.after.released_by, result.after.asks) == ("eve", "http://meta/cfg.json")
    assert all(one.over for one in written[0].calls if one.pid == EARLIER.pid), "its end was seen"
    assert result.at == pytest.approx(yard.around().clock(), abs=60)


def test_what_a_second_look_finds_is_told(yard: Yard) -> None:
    """The start of an earlier run had its effect meanwhile, and so its version is good."""
    view = down(yard)
    assert view.observed.active is not None
    watched = PendingUpgrade(
        to=content_in_use(view.observed.active),
        before=None,
        stage=UpgradePhase.WATCHING,
        at=yard.around().clock() - 100,
        deadline=yard.around().clock() - 1,
        boot="boot-1",
    )
    assert view.record is not None
    start_by_hand(yard)
    result, _ = carried_out(yard, evolve(view, record=evolve(view.record, confirmation=watched)))
    assert (result.outcomes, result.waited) == ((), True)
    assert result.view.news
    assert result.record is not None
    assert result.record.confirmation is None


def test_a_hold_that_came_while_a_call_was_waited_for_is_respected(yard: Yard) -> None:
    view = down(yard)
    put_hold(yard.holds, NAME, Hold(owner="ann", reason="mine"))
    result, _ = carried_out(yard, view)
    assert (result.outcomes, result.after.verdict.reason) == ((), "HeldByOperator")
    assert result.after.hold is not None


@pytest.mark.parametrize("calls", [(), (evolve(EARLIER, over=True),), (evolve(EARLIER, boot="another"),)])
def test_without_a_call_to_wait_for_nothing_is_observed_twice(yard: Yard, calls: Any) -> None:
    view = down(yard)
    assert view.record is not None
    view = evolve(view, record=evolve(view.record, calls=calls))
    start_by_hand(yard)
    result, _ = carried_out(yard, view)
    assert (result.waited, types(result.outcomes)) == (False, "start=done"), "by what was seen before"


def test_to_end_before_anything_was_begun_begins_nothing(yard: Yard) -> None:
    view = down(yard)
    yard.ending.set()
    result, written = carried_out(yard, view)
    assert (result.executed, written) == ((), [])
    assert not agent.running_below(yard.home())


def test_conditions_are_noted_with_the_first_call_and_with_what_came_of_it(yard: Yard) -> None:
    view = down(yard)
    assert view.record is not None
    view = evolve(view, record=evolve(view.record, conditions=()))
    result, written = carried_out(yard, view)
    first = {condition.type: condition for condition in written[0].conditions}
    assert (first["Running"].status, first["Ready"].status) == ("False", "False")
    assert {condition.since for condition in first.values()} == {result.at}
    assert result.record is not None
    assert result.record.crashes is not None
    assert {condition.type: condition.status for condition in result.conditions}["Ready"] == "True"


def test_an_unexpected_crash_before_its_turn_is_not_counted_twice(yard: Yard) -> None:
    result, _ = carried_out(yard, down(yard))
    assert result.record is not None
    assert result.record.crashes is not None
    assert result.record.crashes.count == 1


def test_what_failed_alone_is_gone_back_from_at_once(yard: Yard) -> None:
    broken_off(yard)
    [view] = assess(yard.around(), read_state(yard.db), DesiredFrom.EXCHANGE).agents
    result, written = carried_out(yard, view, control=GIVEN_UP)
    assert [types(done.outcomes) for done in result.executed] == ["start=failed", "stop=done switch=done start=done"]
    assert any(record.failures for record in written), "the verdict outlives the way back"
    assert agent.ask(yard.home()).version == "1.0.0"


def test_what_is_due_after_a_plan_that_succeeded_is_for_another_one(yard: Yard) -> None:
    down(yard)
    yard.publish("2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0"))
    [view] = assess(yard.around(), read_state(yard.db), DesiredFrom.EXCHANGE).agents
    assert view.heal is not None
    result, _ = carried_out(yard, view.heal)
    assert types(result.outcomes) == "start=done"
    assert result.after.due.fetches
    assert agent.ask(yard.home()).version == "1.0.0"


@pytest.mark.parametrize(
    ("plans", "is_left_down"),
    [
        ([], False),
        ([(outcome(STOP), outcome(START, Result.FAILED))], True),
        ([(outcome(STOP, Result.FAILED), outcome(START, Result.SKIPPED))], True),
        ([(outcome(STOP), outcome(START))], False),
        ([(outcome(START, Result.FAILED),), (outcome(START),)], False),
        ([(outcome(START),), (outcome(STOP), outcome(START, Result.FAILED))], True),
        ([(outcome(FETCH, Result.FAILED), outcome(STOP, Result.SKIPPED))], False),
        ([(outcome(START, Result.FAILED), outcome(PRUNE))], True),
        ([(Outcome(action=STOP, result=Result.FAILED),)], False),  # it was not even tried
    ],
)
def test_an_agent_is_left_down_where_the_last_that_touched_it_failed(plans: Any, is_left_down: bool) -> None:
    assert _is_left_down([executed(*plan) for plan in plans]) is is_left_down
