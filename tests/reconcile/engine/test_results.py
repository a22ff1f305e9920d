"""What a pass says of its agents: who acted, who is ready, who waits for people, and whether a further pass helps."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.actions import Result
from reconcile.decide.conditions import TRUE
from reconcile.decide.desired import Refusal
from reconcile.decide.records.record import LateFetch
from reconcile.engine.results import (
    AgentResult,
    PassResult,
    conclude,
    executed_plan,
    going_on,
    untouched,
    with_late_fetch,
)
from tests.reconcile.decide.worlds import NAME, NOW, content, record
from tests.reconcile.engine.agent_results import (
    FETCH,
    START,
    STOP,
    WATCHED,
    executed,
    held,
    outcome,
    pass_found,
    ready,
    result_of,
    view_of,
)

UP, DOWN, NOTHING = "1.0=A started", "1.0=A stoped", ""


@pytest.mark.parametrize(("world", "runs"), [(UP, True), (DOWN, False), ("1.0=A unknown", False), (NOTHING, False)])
def test_only_what_says_started_runs(world: str, runs: bool) -> None:
    assert result_of(view_of(world=world)).runs is runs


@pytest.mark.parametrize(
    ("outcomes", "waited", "acted", "changed"),
    [
        ((), False, False, False),
        ((), True, False, True),
        ((Result.SKIPPED,), False, False, False),
        ((Result.SKIPPED, Result.FAILED), False, True, True),
        ((Result.UNCHANGED,), False, True, True),
    ],
)
def test_what_was_tried_or_waited_for_is_to_be_reported(
    outcomes: tuple[Result, ...], waited: bool, acted: bool, changed: bool
) -> None:
    result = result_of(None, executed(*(outcome(START, one) for one in outcomes)), waited=waited)
    assert (result.acted, result.changed) == (acted, changed)
    assert pass_of(result).acted is acted


# --- people ---

FOR_EVER = held("Quarantined")


@pytest.mark.parametrize(
    ("verdict", "is_back", "asked", "world", "told", "is_for_people"),
    [
        (held("PolicyRefused"), False, "start 2.0=A", UP, "", True),
        (held("PolicyRefused"), False, "start 2.0=A", NOTHING, "", True),
        (held("PolicyRefused"), False, "start 2.0=A", DOWN, "", False),  # its start is still to come
        (held("PolicyRefused"), False, "stop", DOWN, "", True),
        (held("PolicyRefused", START), False, "start 2.0=A", UP, "", False),  # something is due
        (held("BackingOff"), False, "start 2.0=A", UP, "", False),
        (held("Pinned"), True, "start 2.0=A", UP, "", True),
        (held("Pinned"), False, "start 2.0=A", UP, "", False),  # the way back is still to come
        (FOR_EVER, True, "start 2.0=A", UP, "", True),
        (FOR_EVER, False, "start 2.0=A", UP, "", False),
        (FOR_EVER, True, "start 2.0=A", DOWN, "", False),
        (FOR_EVER, True, "start 2.0=A", DOWN, "1.0", True),  # it was told to stop, and stays so
        (held("BackingOff"), True, "start 2.0=A", DOWN, "1.0", False),
        (held("Quarantined", until=NOW + 60), True, "start 2.0=A", UP, "", False),  # time lifts it
    ],
)
def test_what_no_further_pass_betters_waits_for_people(
    verdict: Any, is_back: bool, asked: str, world: str, told: str, is_for_people: bool
) -> None:
    kept = record(told_to_stop=tuple(told.split()))
    view = view_of(asked, world, kept, verdict=verdict, is_back=is_back)
    assert result_of(view).is_for_people is is_for_people


def test_what_was_told_to_stop_is_not_asked_of_an_agent_without_a_record() -> None:
    view = view_of("start 2.0=A", DOWN, verdict=FOR_EVER, is_back=True, record=None)
    assert not result_of(view).is_for_people


@pytest.mark.parametrize(("reason", "is_held"), [("HeldByOperator", True), ("Pinned", False)])
def test_a_hold_is_told_from_other_reasons(reason: str, is_held: bool) -> None:
    assert result_of(view_of(verdict=held(reason))).is_held_by_operator is is_held
    assert not result_of(view_of()).is_held_by_operator


# --- a way back ---


@pytest.mark.parametrize(
    ("before", "news", "was_back", "after", "is_back", "went_back"),
    [
        (view_of().verdict, "", False, held("Quarantined", rolled_back=True), True, True),
        (view_of().verdict, "", False, held("Quarantined", rolled_back=True), False, False),  # not there yet
        (view_of().verdict, "", False, held("Quarantined"), True, False),
        (view_of().verdict, "", False, view_of().verdict, True, False),
        # It was back before this pass, which is no news; or this look found it so; or the way back succeeded now.
        (held("Quarantined", rolled_back=True), "", True, held("Quarantined", rolled_back=True), True, False),
        (held("Quarantined", rolled_back=True), "rolled back", True, held("Quarantined", rolled_back=True), True, True),
        (held("Quarantined", rolled_back=True), "", False, held("Quarantined", rolled_back=True), True, True),
        (held("Quarantined"), "", True, held("Quarantined", rolled_back=True), True, True),
    ],
)
def test_a_rollback_counts_in_the_pass_that_made_it(
    before: Any, news: str, was_back: bool, after: Any, is_back: bool, went_back: bool
) -> None:
    was = view_of(verdict=before, news=news, is_back=was_back)
    now = view_of(verdict=after, is_back=is_back)
    result = conclude(was, now, executed=(), record=None, at=NOW)
    assert (result.went_back, ready_reason(result) == "RolledBack") == (went_back, went_back)
    assert conclude(now, now, executed=(), record=None, at=NOW, before=was).went_back is went_back


def test_an_agent_of_which_nothing_is_said_did_not_go_back() -> None:
    assert not result_of(conditions=()).went_back


def ready_reason(result: AgentResult) -> str:
    return next(condition.reason for condition in result.conditions if condition.type == "Ready")


def test_an_executed_plan_says_why_and_when() -> None:
    skipped, done = outcome(START, Result.SKIPPED), outcome(START, at=NOW + 5)
    plain = executed_plan(view_of(world=DOWN), (skipped, done))
    assert (plain.reason, plain.by, plain.at) == ("NotRunning", "heal", NOW + 5)
    assert executed_plan(view_of(), (skipped,)).at is None
    back = view_of(kept=record(fallback=content("1.0=A")), verdict=held("Quarantined", STOP, START))
    assert (executed_plan(back, ()).reason, executed_plan(back, ()).by) == ("RolledBack", "rollback")


# --- several plans of one pass ---


def test_what_was_healed_first_is_told_first() -> None:
    healed = result_of(view_of(news="came up"), executed(outcome(START)), news=("healed",), waited=True)
    later = result_of(None, executed(outcome(STOP)), news=("changed",))
    both = later.joined_with(healed)
    assert [one.action for one in both.outcomes] == [START, STOP]
    assert both.news == ("came up", "healed", "changed")
    assert both.waited
    assert not later.joined_with(evolve(healed, waited=False)).waited
    assert evolve(later, waited=True).joined_with(evolve(healed, waited=False)).waited
    assert later.joined_with(evolve(healed, view=view_of())).news == ("healed", "changed")
    assert later.joined_with(None) is later


def test_the_last_plan_says_how_an_agent_is() -> None:
    failed = executed(outcome(START, Result.FAILED))
    after = view_of(world=DOWN)
    assert ready_reason(result_of(view_of(), failed, after=after)) == "StartFailed"
    assert ready_reason(result_of(view_of(), failed, executed(outcome(STOP)), after=after)) == "NotRunning"
    assert ready_reason(result_of(view_of(), after=after)) == "NotRunning"


def test_what_was_left_alone_is_remembered_and_what_goes_on_is_not() -> None:
    kept = record(conditions=ready(TRUE, "AsDesired"))
    view = view_of(kept=kept)
    left, on = untouched(view, NOW), going_on(view, NOW)
    assert (left.record, left.goes_on, left.executed, left.changed) == (view.record, False, (), False)
    assert (on.record, on.goes_on, on.executed) == (None, True, ())
    assert left.conditions == on.conditions != ()
    new = untouched(evolve(view, record=None), NOW).record
    assert new is not None
    assert new.home.same_home(view.observed.home)


# --- downloads that take longer than a run ---


@pytest.mark.parametrize(
    ("time_was_up", "fetched", "runs", "says_why", "news"),
    [
        (True, Result.SKIPPED, 1, True, 1),
        (True, Result.DONE, None, False, 0),
        (False, Result.SKIPPED, None, False, 0),
    ],
)
def test_a_download_that_ended_for_want_of_time_says_so(
    time_was_up: bool, fetched: Result, runs: int | None, says_why: bool, news: int
) -> None:
    view = view_of("start 2.0=B")
    result = result_of(view, executed(outcome(FETCH, fetched)), news=("before",))
    late = with_late_fetch(result, time_was_up=time_was_up)
    assert late.record is not None
    assert late.record.late_fetch == (None if runs is None else LateFetch(content=view.target.content, runs=runs))
    said = {c.type: "takes longer than a run, and goes on in the next one" in c.message for c in late.conditions}
    assert said == {c.type: says_why and c.type == "Ready" for c in result.conditions}
    assert (late.news[0], len(late.news)) == ("before", 1 + news)


def test_a_download_that_was_late_before_and_waits_now_is_not_said_to_take_its_time() -> None:
    view = view_of("start 2.0=B")
    view = evolve(view, record=record(late_fetch=LateFetch(content=view.target.content, runs=2)))
    result = result_of(view, executed(outcome(FETCH, Result.SKIPPED)))
    assert with_late_fetch(result, time_was_up=False) == result


def test_of_an_agent_that_is_not_remembered_no_download_is() -> None:
    result = result_of(record=None)
    assert with_late_fetch(result, time_was_up=True) is result


# --- a pass ---

REFUSED = Refusal(name="other", reason="PolicyRefused", rule="name", message="no")


def pass_of(*agents: AgentResult, refused: tuple[Refusal, ...] = ()) -> PassResult:
    return PassResult(assessment=pass_found(refused=refused), agents=agents, conditions=())


def test_what_is_refused_makes_a_pass_unready_and_is_final() -> None:
    well = result_of()
    assert (pass_of(well).all_ready, pass_of(well).is_final) == (True, True)
    assert (pass_of(well, refused=(REFUSED,)).all_ready, pass_of(well, refused=(REFUSED,)).is_final) == (False, True)


@pytest.mark.parametrize(
    ("view", "unready", "is_final"),
    [
        (view_of("start 2.0=B", verdict=held("HeldByOperator")), False, True),
        (view_of("start 2.0=B", verdict=held("WaitingForPlace", as_wanted=True)), False, True),
        (view_of("start 2.0=B", DOWN, verdict=held("WaitingForPlace", as_wanted=True)), True, False),
        (view_of("start 2.0=B", verdict=held("WaitingForPlace")), True, False),
        (view_of("start 2.0=B", verdict=held("PolicyRefused")), True, True),
        (view_of(kept=record(confirmation=WATCHED)), False, False),  # it is watched
    ],
)
def test_a_pass_is_final_where_no_other_one_would_better_it(view: Any, unready: bool, is_final: bool) -> None:
    result = pass_of(result_of(view))
    assert (bool(result.unready), result.all_ready, result.is_final) == (unready, not unready, is_final)
    assert pass_of(result_of(), result_of(view)).is_final is is_final
    assert result.confirming == ((NAME,) if view.confirming else ())


@pytest.mark.parametrize(("kept", "pending"), [(None, False), (record(), False), (record(confirmation=WATCHED), True)])
def test_an_upgrade_is_pending_until_it_is_confirmed(kept: Any, pending: bool) -> None:
    assert result_of(record=kept).has_pending_upgrade is pending
