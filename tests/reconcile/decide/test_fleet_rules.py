"""Rollouts and maintenance windows hold changes, and never a heal, a way back or a stop."""

from __future__ import annotations

from datetime import timezone

import pytest
from attrs import evolve

from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RuleViolation
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, Pin
from reconcile.decide.target import Blocker, RemoteInputs
from reconcile.decide.timing.fetch_slot import Splay
from reconcile.decide.timing.rollout import share_of
from reconcile.decide.timing.windows import Window, Windows
from reconcile.source import Rollout
from tests.reconcile.decide.worlds import NAME, NOW, content, record, remembered, seen, types, wish

LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
HOST = "host-1"
OPENS = NOW - NOW % 60 + 3600
MINUTE = int(OPENS // 60) % (24 * 60)
CLOSED = Windows(windows=(Window(start=MINUTE, length=1800.0),), zone=timezone.utc)
AT_OPENING = evolve(LIVE, now=OPENS)
NOBODY = Rollout(percent=0, seed="s")
FAILED = Failure(
    content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="died", at=NOW
)


def view(
    asked: str,
    world: str,
    moment: EvaluationContext = LIVE,
    kept: AgentRecord | None = None,
    *,
    rollout: Rollout | None = None,
    windows: Windows | None = None,
    splay: Splay | None = None,
    hold: Hold | None = None,
    barred: RuleViolation | None = None,
    trouble: Blocker | None = None,
) -> AgentEvaluation:
    wanted = wish(asked)
    remote = wanted.remote if trouble is None else RemoteInputs(digests=wanted.remote.digests, blocker=trouble)
    desired = evolve(wanted.desired, rollout=rollout, barred=barred)
    sighting = AgentInputs(desired=desired, observed=seen(world), record=kept)
    rules = Rules(keep=99, windows=windows, splay=splay, hostname=HOST)
    return evaluate_agent(sighting, remote, moment, rules, hold)


def reason(found: AgentEvaluation) -> str:
    return found.verdict.reason if isinstance(found.verdict, Held) else "admitted"


CHANGES = [("start 2.0=A", "1.0=B started"), ("start 1.0=A", "1.0=B started"), ("start 2.0=A", "1.0=B stoped")]


@pytest.mark.parametrize(("asked", "world"), [*CHANGES, ("start 1.0=A", "")])
def test_a_host_that_a_rollout_leaves_out_keeps_what_it_has(asked: str, world: str) -> None:
    held = view(asked, world, rollout=NOBODY)
    assert reason(held) == "NotYet"
    assert isinstance(held.verdict, Held)
    assert held.verdict.until is None
    assert "is at 0 %, without this host" in held.verdict.message
    assert held.waits_as_wanted is (world == "1.0=B started")
    assert reason(view(asked, world, rollout=Rollout(percent=100))) == "admitted"


def test_a_rollout_goes_by_the_hosts_share() -> None:
    share = share_of(HOST, NAME, "s") / 100
    assert reason(view(*CHANGES[0], rollout=Rollout(percent=share, seed="s"))) == "NotYet"
    assert reason(view(*CHANGES[0], rollout=Rollout(percent=share + 0.01, seed="s"))) == "admitted"


@pytest.mark.parametrize(
    ("asked", "world", "due"),
    [
        ("start 1.0=B", "1.0=B started", ""),  # a rollout that was narrowed takes nothing back
        ("start 1.0=B", "1.0=B stoped", "start"),
        ("start 1.0=B+new", "1.0=B+old started", "configure stop switch start"),  # configs are no part of it
        ("stop", "1.0=B started", "stop"),
        ("observe", "1.0=B started", ""),
    ],
)
def test_what_a_rollout_does_not_hold(asked: str, world: str, due: str) -> None:
    found = view(asked, world, kept=remembered("old"), rollout=NOBODY)
    assert (reason(found), types(found.due)) == ("admitted", due)


@pytest.mark.parametrize(("asked", "world"), CHANGES)
def test_a_change_of_what_is_in_use_waits_for_a_window(asked: str, world: str) -> None:
    held = view(asked, world, windows=CLOSED)
    assert reason(held) == "OutsideWindow"
    assert isinstance(held.verdict, Held)
    assert held.verdict.until == OPENS
    assert "the next one opens in" in held.verdict.message
    assert held.waits_as_wanted is ("started" in world)
    assert reason(view(asked, world, AT_OPENING, windows=CLOSED)) == "admitted"


@pytest.mark.parametrize(
    ("asked", "world", "due"),
    [
        ("start 1.0=A", "", "fetch verify unpack switch start"),
        ("start 1.0=B", "1.0=B stoped", "start"),
        ("start 1.0=B", "1.0=B started", ""),
        ("stop", "1.0=B started", "stop"),
        ("observe", "1.0=B started", ""),
    ],
)
def test_what_no_window_holds(asked: str, world: str, due: str) -> None:
    found = view(asked, world, windows=CLOSED)
    assert (reason(found), types(found.due)) == ("admitted", due)


def test_a_zone_that_is_not_known_closes_all_windows_for_good() -> None:
    held = view(*CHANGES[0], windows=evolve(CLOSED, zone=None))
    assert isinstance(held.verdict, Held)
    assert (held.verdict.reason, held.verdict.until) == ("OutsideWindow", None)
    assert "time_zone" in held.verdict.message


@pytest.mark.parametrize("rule", [{"rollout": NOBODY}, {"windows": CLOSED}])
def test_a_crash_is_healed_and_a_way_back_made_whatever_waits(rule: dict[str, object]) -> None:
    assert types(view("start 2.0=A", "1.0=B stoped", **rule).due) == "start"  # type: ignore[arg-type]
    failed = record(failures=(FAILED,), fallback=content("1.0=B"))
    back = view("start 2.0=A", "2.0=A stoped; staged 1.0=B", kept=failed, **rule)  # type: ignore[arg-type]
    assert reason(back) == "Quarantined"
    assert "switch" in types(back.due)
    pinned = record(pin=Pin(version="1.0", owner="o", at=NOW))
    rollback = view("start 2.0=A", "2.0=A started; staged 1.0=B", kept=pinned, **rule)  # type: ignore[arg-type]
    assert reason(rollback) == "Pinned"
    assert "switch" in types(rollback.due)


ORDER = "HeldByOperator Pinned Quarantined PolicyRefused ServerUnreachable NotYet OutsideWindow X BackingOff".split()


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_of_several_rules_is_reported(first: int) -> None:
    """docs/interface.md, section 7, last sentence of `windows`."""
    holds = set(ORDER[first:])
    kept = record()
    if "Pinned" in holds:
        kept = evolve(kept, pin=Pin(version="1.0", owner="o", at=NOW))
    failures = (FAILED,) if "Quarantined" in holds else ()
    kept = evolve(kept, failures=(*failures, evolve(FAILED, verdict=FailureKind.NOT_REACHED)))
    found = view(
        "start 2.0=A",
        "1.0=B started",
        evolve(LIVE, answered=Freshness.LAST_ACCEPTED) if "ServerUnreachable" in holds else LIVE,
        kept,
        rollout=NOBODY if "NotYet" in holds else None,
        windows=CLOSED if "OutsideWindow" in holds else None,
        hold=Hold(owner="o", reason="r") if "HeldByOperator" in holds else None,
        barred=RuleViolation(rule="mirrors", message="m") if "PolicyRefused" in holds else None,
        trouble=Blocker(reason="X", message="m") if "X" in holds else None,
    )
    assert reason(found) == ORDER[first]


def test_a_turn_to_fetch_begins_with_the_window() -> None:
    splay = Splay(span=600.0, slot=OPENS % 600 + 60 if OPENS % 600 < 540 else 30.0)
    held = view(*CHANGES[0], windows=CLOSED, splay=splay)
    assert held.record is None or held.record.awaited is None
    waits = view(*CHANGES[0], AT_OPENING, held.record, windows=CLOSED, splay=splay)
    assert isinstance(waits.verdict, Held)
    assert waits.verdict.reason == "BackingOff"
    assert waits.verdict.until is not None
    assert OPENS < waits.verdict.until <= OPENS + 600
    its_turn = evolve(LIVE, now=waits.verdict.until)
    assert isinstance(view(*CHANGES[0], its_turn, waits.record, windows=CLOSED, splay=splay).verdict, Plan)
