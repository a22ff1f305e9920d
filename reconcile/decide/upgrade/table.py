"""The life of an upgrade, as a table: how each event changes what is pending, and why. Pure.

An upgrade is pending from the note before its first stop until it became good or was rolled back, in whichever run:

    phase        SwitchStarted   StartConfirmed   Paused        Observed, PlanFinished
    (none)       SWITCHING       (none)           (none)        (none)
    SWITCHING    SWITCHING       WATCHING         SWITCHING     by the rows below
    WATCHING     SWITCHING       WATCHING         SWITCHING     by the rows below

What each row does is in observation.py and plan_end.py. There is no undo here: what failed is remembered, and target.py
then names other content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from reconcile.decide.actions import assert_never
from reconcile.decide.records.record import AgentRecord, UpgradePhase
from reconcile.decide.upgrade import plan_end
from reconcile.decide.upgrade.events import Observed, Paused, PlanFinished, StartConfirmed, SwitchStarted, UpgradeEvent
from reconcile.decide.upgrade.observation import (
    Observation,
    after_boot,
    became_good,
    begin_watch,
    not_made,
    observation_of,
    take_back_after_boots,
    take_back_seen,
    trust,
    watch_once_more,
)
from reconcile.decide.upgrade.plan_end import PlanEnd
from reconcile.decide.upgrade.steps import Advanced, begin, confirm_start, pause

_Case = TypeVar("_Case", Observation, PlanEnd)


@attrs.frozen
class Rule(Generic[_Case]):
    """The first one counts whose phase it is and whose case is so."""

    phases: tuple[UpgradePhase | None, ...]
    when: Callable[[_Case], bool]
    then: Callable[[_Case], Advanced]
    why: str


_NONE, _SWITCHING, _WATCHING = (None,), (UpgradePhase.SWITCHING,), (UpgradePhase.WATCHING,)
_PENDING = (*_SWITCHING, *_WATCHING)
_ANY = (*_NONE, *_PENDING)


def _else(case: object) -> bool:
    return True


def _unchanged(case: Observation | PlanEnd) -> Advanced:
    return Advanced(record=case.record)


def _go_on(case: Observation) -> Advanced:
    return _decided(OBSERVED, after_boot(case))


OBSERVED: tuple[Rule[Observation], ...] = (
    Rule(_NONE, _else, _unchanged, "nothing is pending"),
    Rule(_PENDING, Observation.is_hidden, _unchanged, "its home can't be read, or a replacement stopped half way"),
    Rule(_PENDING, Observation.is_not_made, not_made, "the disk shows that it never came to the switch"),
    Rule(_PENDING, Observation.has_used_its_boots, take_back_after_boots, "it takes the host down, but not for ever"),
    Rule(
        _PENDING,
        Observation.is_after_a_boot,
        _go_on,
        "the host went down before a verdict: no failure of it, so it goes on",
    ),
    Rule(_SWITCHING, Observation.runs, begin_watch, "it was started by a run that did not see it, or by a person"),
    Rule(_SWITCHING, _else, _unchanged, "its start is still due"),
    Rule(_WATCHING, Observation.is_good, became_good, "it stayed running for the watch"),
    Rule(_WATCHING, Observation.runs, _unchanged, "its watch is not over"),
    # Rolled back it might be for nothing, and left down it is no better.
    Rule(
        _WATCHING, Observation.ended_unseen, watch_once_more, "it may have died within its watch, or been well for long"
    ),
    Rule(
        _WATCHING, Observation.has_failed, take_back_seen, "it ended within its watch, or is not known to run after it"
    ),
    Rule(_WATCHING, _else, _unchanged, "its status is unknown, and its watch is not over"),
)

PLAN_FINISHED: tuple[Rule[PlanEnd], ...] = (
    Rule(_PENDING, PlanEnd.has_lost_its_starts, plan_end.take_back_lost, "it kills what starts it, but not for ever"),
    Rule(_PENDING, PlanEnd.has_lost_its_start, plan_end.count_lost, "what came of its start is not known: no failure"),
    Rule(_ANY, PlanEnd.has_lost_a_start, _unchanged, "what came of a start for its own sake is not known"),
    Rule(
        _ANY,
        PlanEnd.is_no_fault_of_content,
        _unchanged,
        "all is done but to clean up, or the host was short of something",
    ),
    Rule(_PENDING, PlanEnd.has_not_started, plan_end.take_back_failed, "what was switched to did not start"),
    Rule(_ANY, PlanEnd.failed_to_start, _unchanged, "a start for its own sake: it was counted as a crash"),
    Rule(_ANY, PlanEnd.changes_nothing, _unchanged, "a stop for its own sake is asked for again at each pass"),
    Rule(_ANY, _else, plan_end.hold_back, "it failed before its switch: what is in use stays; it is tried again later"),
)


def row_of(table: tuple[Rule[_Case], ...], case: _Case) -> Rule[_Case]:
    """The row that decides a case."""
    phase = None if case.record.confirmation is None else case.record.confirmation.stage
    return next(row for row in table if phase in row.phases and row.when(case))


def _decided(table: tuple[Rule[_Case], ...], case: _Case) -> Advanced:
    return row_of(table, case).then(case)


def advance(record: AgentRecord, event: UpgradeEvent) -> Advanced:
    """Apply an event to a record; return it with the news for history."""
    match event:
        case SwitchStarted():
            return Advanced(record=begin(record, event))
        case StartConfirmed():
            return Advanced(record=confirm_start(record, event))
        case Paused():
            return Advanced(record=pause(record, event))
        case Observed():
            return trust(_decided(OBSERVED, observation_of(record, event)), event.observed)
        case PlanFinished():
            return _decided(PLAN_FINISHED, plan_end.plan_end(record, event))
        case _:
            assert_never(event)
