"""The table of an upgrade's life, row by row: which one decides, and the phase after it."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Outcome, Prune, Result, Start, Stop, SwitchVersion
from reconcile.decide.records.record import LONG_AFTER_WATCH, TRIES_WITHOUT_VERDICT, PendingUpgrade, UpgradePhase
from reconcile.decide.upgrade.events import Observed, PlanFinished
from reconcile.decide.upgrade.observation import observation_of
from reconcile.decide.upgrade.plan_end import plan_end
from reconcile.decide.upgrade.table import OBSERVED, PLAN_FINISHED, advance, row_of
from tests.reconcile.decide.switches import SWITCHING, TO, WATCHING
from tests.reconcile.decide.worlds import BOOT, NOW, WATCH, record, seen

_SWITCHING, _WATCHING = UpgradePhase.SWITCHING, UpgradePhase.WATCHING
LAST_TRY = evolve(SWITCHING, tries=TRIES_WITHOUT_VERDICT)

SEEN: list[tuple[PendingUpgrade | None, str, float, str, str, UpgradePhase | None]] = [
    # pending | seen | seconds later | boot | the row's reason | the phase then
    (None, "1.0=B started", 0, BOOT, "nothing is pending", None),
    (SWITCHING, "stray pid 7", 0, BOOT, "its home can't be read", _SWITCHING),
    (SWITCHING, "1.0=B started", 0, BOOT, "the disk shows that it never came to the switch", None),
    (LAST_TRY, "2.0=A stoped", 0, "2nd", "it takes the host down, but not for ever", None),
    (SWITCHING, "2.0=A stoped", 0, "2nd", "the host went down before a verdict", _SWITCHING),
    (SWITCHING, "2.0=A started", 0, "2nd", "the host went down before a verdict", _WATCHING),
    (SWITCHING, "2.0=A started", 0, BOOT, "it was started by a run", _WATCHING),
    (SWITCHING, "2.0=A stoped", 0, BOOT, "its start is still due", _SWITCHING),
    (WATCHING, "2.0=A started", WATCH, BOOT, "it stayed running for the watch", None),
    (WATCHING, "2.0=A started", 0, BOOT, "its watch is not over", _WATCHING),
    (WATCHING, "2.0=A stoped", WATCH + LONG_AFTER_WATCH, BOOT, "it may have died within its watch", _SWITCHING),
    (WATCHING, "2.0=A stoped", 0, BOOT, "it ended within its watch", None),
    (WATCHING, "2.0=A unknown", WATCH, BOOT, "it ended within its watch", None),
    (WATCHING, "2.0=A unknown", 0, BOOT, "its status is unknown", _WATCHING),
]


def phase(pending: PendingUpgrade | None) -> UpgradePhase | None:
    return None if pending is None else pending.stage


@pytest.mark.parametrize(("pending", "world", "later", "boot", "why", "then"), SEEN)
def test_what_a_look_makes_of_an_upgrade(
    pending: PendingUpgrade | None, world: str, later: float, boot: str, why: str, then: UpgradePhase | None
) -> None:
    kept, now = record(confirmation=pending), NOW + later
    event = Observed(observed=seen(world), now=now, watch=WATCH, boot=boot)
    assert row_of(OBSERVED, observation_of(kept, event)).why.startswith(why)
    assert phase(advance(kept, event).record.confirmation) is then


STOP, SWITCH, START = Stop(version="1.0"), SwitchVersion(from_version="1.0", to="2.0"), Start(version="2.0")
DONE = [Outcome(action=action, result=Result.DONE, attempts=1) for action in (STOP, SWITCH)]
FAILED = Outcome(action=START, result=Result.FAILED, attempts=1, reason="StartFailed", error="no")
OTHER = evolve(FAILED, action=Start(version="1.0"))

ENDS: list[tuple[PendingUpgrade | None, list[Outcome], str, UpgradePhase | None]] = [
    # pending | outcomes | the row's reason | the phase then
    (LAST_TRY, [*DONE, evolve(FAILED, lost=True)], "it kills what starts it", None),
    (SWITCHING, [*DONE, evolve(FAILED, lost=True)], "what came of its start is not known", _SWITCHING),
    (None, [evolve(OTHER, lost=True)], "what came of a start for its own sake is not known", None),
    (WATCHING, DONE, "all is done but to clean up", _WATCHING),
    (SWITCHING, [*DONE, evolve(FAILED, host_fault=True)], "all is done but to clean up", _SWITCHING),
    (WATCHING, [evolve(FAILED, action=Prune(names=("1.0",)))], "all is done but to clean up", _WATCHING),
    (SWITCHING, [*DONE, FAILED], "what was switched to did not start", None),
    (None, [OTHER], "a start for its own sake", None),
    (WATCHING, [evolve(FAILED, action=STOP)], "a stop for its own sake", _WATCHING),
    (SWITCHING, [DONE[0], evolve(FAILED, action=SWITCH)], "it failed before its switch", None),
]


@pytest.mark.parametrize(("pending", "outcomes", "why", "then"), ENDS)
def test_what_the_end_of_a_plan_makes_of_an_upgrade(
    pending: PendingUpgrade | None, outcomes: list[Outcome], why: str, then: UpgradePhase | None
) -> None:
    kept, event = record(confirmation=pending), PlanFinished(wanted=TO, outcomes=tuple(outcomes), now=NOW)
    assert row_of(PLAN_FINISHED, plan_end(kept, event)).why.startswith(why)
    assert phase(advance(kept, event).record.confirmation) is then


def test_each_row_decides_something() -> None:
    cases = [(row.why, [why for *_, why, _ in SEEN]) for row in OBSERVED]
    cases += [(row.why, [why for *_, why, _ in ENDS]) for row in PLAN_FINISHED]
    assert [row for row, whys in cases if not any(map(row.startswith, whys))] == []
