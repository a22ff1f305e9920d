"""When a host may fetch: at its turn within `fetch_splay`, which waits for nothing else and makes nothing else wait."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.actions import Fetch, Held, Outcome, Plan, Result, Start
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RuleViolation
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent
from reconcile.decide.hold import Hold
from reconcile.decide.records.changes import released
from reconcile.decide.records.record import AgentRecord, Awaited, Crashes, Failure, FailureKind, LateFetch, Pin
from reconcile.decide.target import Blocker, RemoteInputs
from reconcile.decide.timing.fetch_slot import Splay, after_fetch, allowed_s, waits_for_its_slot
from tests.reconcile.decide.worlds import NOW, content, record, seen, types, wish

SPAN, TURN = 3600.0, 900.0
DUE = NOW - NOW % SPAN + TURN + (SPAN if NOW % SPAN >= TURN else 0)
SPLAY = Splay(span=SPAN, slot=TURN)
LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
AT_TURN = evolve(LIVE, now=DUE)


def view(
    asked: str,
    world: str,
    moment: EvaluationContext = LIVE,
    kept: AgentRecord | None = None,
    *,
    splay: Splay | None = SPLAY,
    hold: Hold | None = None,
    barred: RuleViolation | None = None,
    trouble: Blocker | None = None,
) -> AgentEvaluation:
    wanted = wish(asked)
    remote = wanted.remote if trouble is None else RemoteInputs(digests=wanted.remote.digests, blocker=trouble)
    sighting = AgentInputs(desired=evolve(wanted.desired, barred=barred), observed=seen(world), record=kept)
    return evaluate_agent(sighting, remote, moment, Rules(keep=99, splay=splay), hold)


def held_until(seen: AgentEvaluation) -> tuple[str, float | None]:
    assert isinstance(seen.verdict, Held)
    return seen.verdict.reason, seen.verdict.until


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.floats(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_turn_is_ahead_within_one_span_whatever_the_clock_did(
    since: float, now: float, span: float, part: float
) -> None:
    due = Splay(span=span, slot=part * span).due_at(since, now)
    assert min(since, now) < due <= min(since, now) + span + 1e-5


@pytest.mark.parametrize(("asked", "world"), [("start 2.0=A", "1.0=B started"), ("start 1.0=A", "")])
def test_a_fetch_waits_for_the_turn_and_then_goes(asked: str, world: str) -> None:
    first = view(asked, world)
    assert held_until(first) == ("BackingOff", DUE)
    assert first.verdict.meanwhile.actions == ()  # type: ignore[union-attr]
    later = view(asked, world, evolve(LIVE, now=DUE - 1), first.record)
    assert held_until(later) == ("BackingOff", DUE)
    assert types(view(asked, world, AT_TURN, later.record).due).startswith("fetch")


def test_the_message_says_how_long_and_what_ends_it() -> None:
    verdict = view("start 2.0=A", "1.0=B started", evolve(LIVE, now=DUE - 130)).verdict
    assert isinstance(verdict, Held)
    assert verdict.message.startswith("waits for this host's turn to fetch, in 2m10s (fetch_splay); `updater release")


def test_a_turn_that_came_between_passes_is_not_lost() -> None:
    first = view("start 2.0=A", "1.0=B started")
    assert isinstance(view("start 2.0=A", "1.0=B started", evolve(LIVE, now=DUE + 5000), first.record).verdict, Plan)


def test_a_host_without_the_key_waits_for_nothing_and_forgets() -> None:
    kept = view("start 2.0=A", "1.0=B started").record
    now = view("start 2.0=A", "1.0=B started", kept=kept, splay=None)
    assert isinstance(now.verdict, Plan)
    assert now.record is not None
    assert now.record.awaited is None


def test_other_content_waits_again_and_another_config_of_the_same_does_not() -> None:
    kept = view("start 2.0=A", "1.0=B started").record
    late = evolve(LIVE, now=DUE + 10)
    assert held_until(view("start 2.0=B", "1.0=B started", late, kept)) == ("BackingOff", DUE + SPAN)
    assert isinstance(view("start 2.0=A+c1", "1.0=B started", late, kept).verdict, Plan)


@pytest.mark.parametrize(
    ("asked", "world"),
    [
        ("start 2.0=A", "1.0=B started; staged 2.0=A"),
        ("start 1.0=A+c1", "1.0=A+c0 started"),
        ("stop", "1.0=A started"),
        ("start 1.0=A", "1.0=A stoped"),
        ("start 1.0=A", "1.0=A started"),
    ],
)
def test_what_needs_no_fetch_does_not_wait(asked: str, world: str) -> None:
    found = view(asked, world, kept=record())
    assert isinstance(found.verdict, Plan)
    assert found.record is not None
    assert found.record.awaited is None


def test_a_crash_is_healed_meanwhile() -> None:
    assert types(view("start 2.0=A", "1.0=B stoped").due) == "start"
    crashes = record(crashes=Crashes(count=3, at=NOW))
    assert types(view("start 2.0=A", "1.0=B stoped", kept=crashes).due) == ""


@pytest.mark.parametrize("why", ["HeldByOperator", "Pinned", "Quarantined", "PolicyRefused", "ServerUnreachable", "X"])
def test_after_what_may_end_on_a_whole_fleet_the_wait_begins(why: str) -> None:
    """The turn came while something else held the change: the next one counts."""
    waited = view("start 2.0=A", "1.0=B started").record
    assert waited is not None
    failure = Failure(
        content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="it died", at=NOW
    )
    by = {
        "HeldByOperator": ({}, {"hold": Hold(reason="r", owner="o")}),
        "Pinned": ({"pin": Pin(version="1.0", owner="o", at=NOW)}, {}),
        "Quarantined": ({"failures": (failure,)}, {}),
        "PolicyRefused": ({}, {"barred": RuleViolation(rule="mirrors", message="m")}),
        "ServerUnreachable": ({}, {}),
        "X": ({}, {"trouble": Blocker(reason="X", message="m")}),
    }
    changes, keys = by[why]
    moment = evolve(AT_TURN, answered=Freshness.LAST_ACCEPTED) if why == "ServerUnreachable" else AT_TURN
    between = view("start 2.0=A", "1.0=B started", moment, evolve(waited, **changes), **keys)  # type: ignore[arg-type]
    assert held_until(between)[0] == why
    assert between.record is not None
    after = evolve(between.record, pin=None, failures=())
    assert held_until(view("start 2.0=A", "1.0=B started", evolve(LIVE, now=DUE + 1), after)) == (
        "BackingOff",
        DUE + SPAN,
    )


def test_after_a_fetch_that_failed_at_its_turn_the_rules_of_failures_count() -> None:
    waited = view("start 2.0=A", "1.0=B started").record
    assert waited is not None
    failed = Failure(
        content=content("2.0=A"), verdict=FailureKind.NOT_REACHED, reason="FetchFailed", message="404", at=DUE
    )
    backing_off = view("start 2.0=A", "1.0=B started", AT_TURN, evolve(waited, failures=(failed,)))
    assert held_until(backing_off) == ("BackingOff", DUE + 60)
    again = view("start 2.0=A", "1.0=B started", evolve(LIVE, now=DUE + 60), backing_off.record)
    assert isinstance(again.verdict, Plan)


def test_a_release_ends_the_wait_for_what_is_wanted_now_and_for_nothing_later() -> None:
    waited = view("start 2.0=A", "1.0=B started").record
    assert waited is not None
    let_go = view("start 2.0=A", "1.0=B started", kept=released(waited))
    assert isinstance(let_go.verdict, Plan)
    assert held_until(view("start 3.0=B", "1.0=B started", kept=let_go.record)) == ("BackingOff", DUE)
    idle = view("start 1.0=B", "1.0=B started", kept=released(waited))
    assert held_until(view("start 2.0=A", "1.0=B started", kept=idle.record)) == ("BackingOff", DUE)


def test_no_server_is_asked_about_content_that_waits() -> None:
    kept = view("start 2.0=A", "1.0=B started").record
    assert kept is not None
    assert waits_for_its_slot(kept, content("2.0=A"), SPLAY, NOW)
    assert not waits_for_its_slot(kept, content("2.0=A"), SPLAY, DUE)
    assert not waits_for_its_slot(kept, content("2.0=A"), None, NOW)
    assert not waits_for_its_slot(kept, content("2.0=B"), SPLAY, NOW)
    assert not waits_for_its_slot(record(), content("2.0=A"), SPLAY, NOW)
    assert not waits_for_its_slot(record(awaited=Awaited(content=None, since=0)), content("2.0=A"), SPLAY, NOW)


# A download that goes on from run to run


def late(runs: int, of: str = "2.0=A") -> LateFetch:
    return LateFetch(content=content(of), runs=runs)


def fetched(result: Result) -> tuple[Outcome, ...]:
    fetch = Fetch(version="2.0", url="http://tar", digests=frozenset())
    return (Outcome(action=fetch, result=result), Outcome(action=Start(version="2.0"), result=Result.SKIPPED))


def test_what_can_not_be_resumed_has_double_the_time_at_each_further_run() -> None:
    def allowed(runs: int | None, *, resumed: bool = False) -> float:
        return allowed_s(evolve(record(), late_fetch=None if runs is None else late(runs)), 60, resumed=resumed)

    assert (allowed_s(None, 60, resumed=False), allowed(None), allowed(1), allowed(3)) == (60, 60, 120, 480)
    assert allowed(3, resumed=True) == 60
    assert allowed(10**6) == 60 * 2.0**20, "a number that can be waited for"


def test_a_download_that_goes_on_is_reported_when_it_begins_and_when_it_ends() -> None:
    wanted = content("2.0=A")
    first, reported = after_fetch(record(), wanted, fetched(Result.SKIPPED), time_was_up=True)
    assert (first.late_fetch, reported.startswith("the download of 2.0 is not done by now")) == (late(1), True)
    second, reported = after_fetch(first, wanted, (), time_was_up=True)
    assert (second.late_fetch, reported) == (late(2), "")
    for outcomes in ((), fetched(Result.SKIPPED), fetched(Result.FAILED)):
        assert after_fetch(second, wanted, outcomes, time_was_up=False) == (second, "")
    done, reported = after_fetch(second, wanted, fetched(Result.DONE), time_was_up=True)
    assert (done.late_fetch, reported) == (None, "the download of 2.0 is done, 2 runs later")
    assert after_fetch(first, wanted, fetched(Result.UNCHANGED), time_was_up=False)[1].endswith("one run later")
    assert after_fetch(record(), wanted, fetched(Result.DONE), time_was_up=False) == (record(), "")


def test_other_content_begins_again() -> None:
    kept = evolve(record(), late_fetch=late(3))
    other = content("3.0=B")
    assert after_fetch(kept, other, fetched(Result.SKIPPED), time_was_up=True)[0].late_fetch == late(1, "3.0=B")
    assert after_fetch(kept, other, fetched(Result.DONE), time_was_up=False) == (record(), "")
