"""The plan of an agent ended: the case that this is, and what becomes of it."""

from __future__ import annotations

from attrs import evolve

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune, Result, Start, Stop, Switch, Verify
from reconcile.decide.records.changes import with_failure, without_failure
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import TRIES_WITHOUT_VERDICT, AgentRecord, Crashes, Failure, FailureKind
from reconcile.decide.upgrade.events import PlanFinished
from reconcile.decide.upgrade.steps import Advanced, dropped, take_back


@frozen(kw_only=True)
class PlanEnd:
    """A record, and what came of a plan. `outcomes`: of what was tried; `content`: what the plan was to bring; None:
    nothing. `changes`: there was a switch in it; `home`: that it was to move into."""

    record: AgentRecord
    outcomes: tuple[Outcome, ...]
    content: Content | None
    changes: bool
    now: float
    going_back: bool
    home: HomeRef | None

    @property
    def failed(self) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.result is Result.FAILED), None)

    @property
    def has_switched(self) -> bool:
        return _has_switched(self.outcomes)

    def failed_to_start(self) -> bool:
        return self.failed is not None and isinstance(self.failed.action, Start)

    def has_lost_a_start(self) -> bool:
        return self.failed is not None and self.failed.lost and self.failed_to_start()

    def has_lost_its_start(self) -> bool:
        return self.has_lost_a_start() and self._is_owed()

    def has_lost_its_starts(self) -> bool:
        pending = self.record.confirmation
        return self.has_lost_its_start() and pending is not None and pending.tries >= TRIES_WITHOUT_VERDICT

    def is_no_fault_of_content(self) -> bool:
        is_clean = self.failed is None or isinstance(self.failed.action, Prune)
        return is_clean or any(outcome.host_fault for outcome in self.outcomes)

    def has_not_started(self) -> bool:
        """Whether a start failed, also a held agent's, where an interrupted switch still owed it."""
        return self.failed_to_start() and self._is_owed() and not (self.going_back and self.has_switched)

    def changes_nothing(self) -> bool:
        return self.content is None or not self.changes

    def _is_owed(self) -> bool:
        """Whether the start that failed is the one of the pending upgrade."""
        pending, failed = self.record.confirmation, self.failed
        is_start = failed is not None and isinstance(failed.action, Start)
        return pending is not None and is_start and pending.to.version == _version_of(failed)


def _version_of(outcome: Outcome | None) -> str | None:
    return outcome.action.version if outcome is not None and isinstance(outcome.action, Start | Stop) else None


def plan_end(record: AgentRecord, event: PlanFinished) -> PlanEnd:
    """The case of a plan that ended, with a record that knows what was heard, started and switched in it."""
    # A busy home, a fault of ours says nothing.
    outcomes = tuple(outcome for outcome in event.outcomes if outcome.attempts)
    content = record.pinned_or_fallback if event.going_back else event.wanted
    end = PlanEnd(
        record=_count_start(_take_up_seen(record, outcomes), outcomes, event.now),
        outcomes=outcomes,
        content=content,
        changes=any(isinstance(outcome.action, Switch) for outcome in event.outcomes),
        now=event.now,
        going_back=event.going_back,
        home=event.home,
    )
    if end.has_switched and content is not None:
        failures = without_failure(end.record.failures, content, FailureKind.NOT_REACHED, event.home)
        end = evolve(end, record=evolve(end.record, failures=failures))
    return end


def take_back_lost(end: PlanEnd) -> Advanced:
    pending, failed = end.record.confirmation, end.failed
    assert pending is not None
    assert failed is not None
    message = f"{pending.tries} starts, and the end of none is known: {failed.error}"
    return take_back(end.record, "StartFailed", message, end.now)


def count_lost(end: PlanEnd) -> Advanced:
    pending = end.record.confirmation
    assert pending is not None
    return Advanced(record=evolve(end.record, confirmation=evolve(pending, tries=pending.tries + 1)))


def take_back_failed(end: PlanEnd) -> Advanced:
    failed, before = end.failed, end.record
    assert failed is not None
    outlived = any(outcome.outlived for outcome in end.outcomes)
    taken = take_back(before, failed.reason, failed.error, end.now, outlived=outlived)
    if taken.record.pinned_or_fallback is None and before.crashes is None and not before.told_to_stop:
        # Nothing better is there: it is started again, but not at once, since that has just been tried.
        taken = evolve(taken, record=evolve(taken.record, crashes=Crashes(count=1, at=end.now)))
    return taken


def hold_back(end: PlanEnd) -> Advanced:
    """Remember what failed before its switch. Where processes of what it replaces were left it is tried again."""
    failed, content, record = end.failed, end.content, end.record
    assert failed is not None
    assert content is not None
    if _was_begun(record, content, end.outcomes):
        record = dropped(record)
    downloaded = failed.served is not None and isinstance(failed.action, Verify)
    failure = Failure(
        content=content,
        verdict=FailureKind.NOT_REACHED,
        reason=failed.reason,
        message=failed.error,
        at=end.now,
        served=failed.served,
        downloads=int(downloaded),
        downloaded_at=end.now if downloaded else 0.0,
        home=end.home,
    )
    return Advanced(record=with_failure(record, failure))


def _take_up_seen(record: AgentRecord, outcomes: tuple[Outcome, ...]) -> AgentRecord:
    """Take up what was seen running while an action failed: by its version, since for a doubt that is enough."""
    seen = [outcome for outcome in outcomes if outcome.was_up]
    if record.never_up is not None and record.never_up.version in _versions(seen, Start, Stop):
        record = evolve(record, never_up=None)
    pending = record.confirmation
    if pending is not None and pending.to.version in _versions(seen, Start):
        record = evolve(record, confirmation=evolve(pending, came_up=True))
    return record


def _versions(outcomes: list[Outcome], *kinds: type[Start | Stop]) -> frozenset[str]:
    """The versions that such actions were for."""
    actions = (outcome.action for outcome in outcomes)
    return frozenset(action.version for action in actions if isinstance(action, Start | Stop) and type(action) in kinds)


def _was_begun(record: AgentRecord, content: Content, outcomes: tuple[Outcome, ...]) -> bool:
    """Whether the pending upgrade is the one of these outcomes. What failed before it leaves an older one's watch as it
    is."""
    pending = record.confirmation
    tried = any(isinstance(o.action, Stop | Switch) and o.result is not Result.SKIPPED for o in outcomes)
    return tried and pending is not None and pending.to.matches(content)


def _count_start(record: AgentRecord, outcomes: tuple[Outcome, ...], now: float) -> AgentRecord:
    """Count a start that no switch asked for; what is in use since a switch has no crashes yet. The start after a stop
    of ours is none, whether that failed or what was to follow it did: nothing had ended by itself."""
    if _has_switched(outcomes):
        return evolve(record, crashes=None, stopped_by_us=False)
    starts = _results(outcomes, Start)
    if any(isinstance(outcome.action, Stop) for outcome in outcomes):
        is_left_stopped = not starts and Result.DONE in _results(outcomes, Stop)
        return evolve(record, stopped_by_us=True) if is_left_stopped else record
    if not starts:
        return record
    if record.stopped_by_us and starts == {Result.DONE}:
        return evolve(record, stopped_by_us=False)
    count = 0 if record.crashes is None else record.crashes.count
    return evolve(record, crashes=Crashes(count=count + 1, at=now), stopped_by_us=False)


def _has_switched(outcomes: tuple[Outcome, ...]) -> bool:
    return any(isinstance(outcome.action, Switch) and outcome.result is Result.DONE for outcome in outcomes)


def _results(outcomes: tuple[Outcome, ...], kind: type[Start | Stop]) -> set[Result]:
    """How such actions ended, except what a host that was short of something kept from being done."""
    ended = (o for o in outcomes if isinstance(o.action, kind) and not o.host_fault)
    return {outcome.result for outcome in ended} - {Result.SKIPPED}
