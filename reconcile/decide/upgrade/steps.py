"""What becomes of the record of a pending upgrade: it begins, it is confirmed, it is rolled back."""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, HomeRef, ObservedAgent
from probes.values import frozen
from reconcile.decide.records.changes import living, was_never_up, with_failure
from reconcile.decide.records.content import Content, content_in_use, is_fallback_for
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, PendingUpgrade, UpgradePhase
from reconcile.decide.upgrade.events import Paused, StartConfirmed, SwitchStarted


@frozen(kw_only=True)
class Advanced:
    """A record after an event. `news`: what became of an upgrade, for history; empty: nothing new."""

    record: AgentRecord
    news: str = ""


def begin(record: AgentRecord, event: SwitchStarted) -> AgentRecord:
    """Write down a switch before it is tried. Where an earlier one had no end, what ran before it still counts."""
    to, move = event.to, event.move
    if event.remote is not None and to.config == event.remote:
        record = evolve(record, delivering=event.remote)
    if move is not None:
        record, to = _leaving(record, move.left), evolve(to, at=move.into)
    known = record.confirmation
    record, before = _take_leave(record, event.active)
    if move is not None:
        before, record = _in_home(before, move.left), living(record, move.into)
    pending = PendingUpgrade(
        to=to,
        before=before,
        at=event.now,
        boot=event.boot,
        tries=known.tries if known is not None and known.to.matches(to) else 1,
        left=None if move is None else move.left,
    )
    return evolve(record, confirmation=pending)


def _take_leave(record: AgentRecord, active: Active | None) -> tuple[AgentRecord, Content | None]:
    """What is to be known of the content in use before it is replaced; and what ran before, to go back to."""
    known = record.confirmation
    before = record.interrupted if known is None else known.before
    if active is None:
        return record, before
    if active.process.is_running:
        before = content_in_use(active)
        record = evolve(record, stopped_by_us=True)
    if known is not None and was_never_up(record, active):
        record = evolve(record, never_up=content_in_use(active))  # its own switch is forgotten by this one
    return record, before


def _leaving(record: AgentRecord, left: HomeRef) -> AgentRecord:
    """What is remembered of content without its home is in the one that is left."""
    pending = record.confirmation
    if pending is not None:
        pending = evolve(pending, before=_in_home(pending.before, left))
    return evolve(
        record,
        confirmation=pending,
        good=_in_home(record.good, left),
        good_before=tuple(evolve(content, at=content.at or left) for content in record.good_before),
        fallback=_in_home(record.fallback, left),
        interrupted=_in_home(record.interrupted, left),
    )


def _in_home(content: Content | None, home: HomeRef) -> Content | None:
    return content if content is None or content.at is not None else evolve(content, at=home)


def confirm_start(record: AgentRecord, event: StartConfirmed) -> AgentRecord:
    """The new content is seen to run: its watch begins."""
    pending = record.confirmation
    if pending is None or pending.stage is UpgradePhase.WATCHING:
        return record
    watching = evolve(pending, stage=UpgradePhase.WATCHING, deadline=event.now + event.watch, came_up=True)
    return evolve(record, confirmation=watching, stopped_by_us=False)


def pause(record: AgentRecord, event: Paused) -> AgentRecord:
    pending = record.confirmation
    if pending is None:
        return record
    return evolve(record, confirmation=evolve(pending, stage=UpgradePhase.SWITCHING, deadline=None, boot=event.boot))


def arrived(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Take up that a move was made: it is seen to live where it was to move to."""
    pending = record.confirmation
    if pending is None or pending.left is None or not observed.home.same_home(record.home):
        return record
    return evolve(record, confirmation=evolve(pending, left=None))


def seen_up(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Take up that something is seen running, held or not: from then on only its own word that it stopped counts."""
    active, pending = observed.active, record.confirmation
    if active is None or not active.process.is_running:
        return record
    in_use = content_in_use(active)
    if record.stopped_by_us:
        record = evolve(record, stopped_by_us=False)
    if record.never_up is not None and record.never_up.matches(in_use):
        record = evolve(record, never_up=None)
    if pending is not None and pending.to.matches(in_use):
        record = evolve(record, confirmation=evolve(pending, came_up=True))
    return record


def take_back(record: AgentRecord, reason: str, message: str, now: float, *, outlived: bool = False) -> Advanced:
    """Remember that the content of a pending upgrade failed, and where to go back to: what was in use and running when
    its replacement began, else what last became good. Where there is neither, it is only started again; but
    where its `cmd` was stop before, it stays stopped.

    `outlived`: processes of what it replaced were left, and may be why it failed. That counts once: failing so twice
    in a row is failing.
    """
    pending = record.confirmation
    assert pending is not None
    if not pending.came_up:
        record = evolve(record, never_up=pending.to)
    back = _fallback_for(record, pending)
    if back is None and not record.told_to_stop:
        return Advanced(record=evolve(record, confirmation=None), news=f"{message}; there is nothing to go back to")
    before = record.failure_of(pending.to, FailureKind.ROLLED_BACK, pending.to.at)
    failed = Failure(
        content=pending.to,
        verdict=FailureKind.ROLLED_BACK,
        reason=reason,
        message=message,
        at=now,
        home=pending.to.at,
        outlived=outlived and (before is None or not before.outlived),
    )
    record = evolve(with_failure(record, failed), confirmation=None, fallback=back, crashes=None)
    if back is None:
        return Advanced(record=record, news=f"{message}; it stays stopped, as was desired before")
    where = f" in {back.at.work_dir}" if back.at is not None and not back.at.same_home(record.home) else ""
    return Advanced(record=record, news=f"{message}; back to {back.version}{where}")


def _fallback_for(record: AgentRecord, pending: PendingUpgrade) -> Content | None:
    former = (pending.before, record.good)
    return next((found for found in former if found is not None and _leads_back(record, found, pending.to)), None)


def _leads_back(record: AgentRecord, back: Content, failed: Content) -> bool:
    """Whether it is a way back: other content, or the same in the home that it moved out of."""
    if back.version in record.told_to_stop:
        return False
    elsewhere = failed.at is not None and back.at is not None and not back.at.same_home(failed.at)
    return elsewhere or is_fallback_for(back, failed)


def dropped(record: AgentRecord) -> AgentRecord:
    """Without its pending upgrade; an agent that did not move lives where it lived."""
    return evolve(record if record.left is None else living(record, record.left), confirmation=None)
