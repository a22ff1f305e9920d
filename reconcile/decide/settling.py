"""What a look at an agent makes of what is remembered of it: an open switch becomes good, or is taken back. Pure.

There is no undo here: what failed is remembered, and aim.py then names other content.
"""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, Astray, ObservedAgent, Origin, ProcessState
from probes.values import frozen
from reconcile.decide.records import (
    CRASHES_FORGOTTEN_AFTER,
    LONG_AFTER_WATCH,
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    Confirmation,
    Content,
    Failure,
    Stage,
    Verdict,
    content_in_use,
    is_way_back,
    living,
    remember_stuck,
    with_failure,
    with_good,
)


def seen_up(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Take up that something is seen up, held or not: from then on only its own word that it stopped counts."""
    active, open_switch = observed.active, record.confirmation
    if active is None or not active.process.is_running:
        return record
    in_use = content_in_use(active)
    if record.stopped_by_us:
        record = evolve(record, stopped_by_us=False)
    if record.never_up is not None and record.never_up.matches(in_use):
        record = evolve(record, never_up=None)
    if open_switch is not None and open_switch.to.matches(in_use):
        record = evolve(record, confirmation=evolve(open_switch, came_up=True))
    return record


@frozen(kw_only=True)
class Settled:
    """A record after a look. `news`: what became of a switch, for history; empty: nothing new."""

    record: AgentRecord
    news: str = ""


def settle(record: AgentRecord, observed: ObservedAgent, *, now: float, watch: float, boot: str) -> Settled:
    """Go on where a switch of an earlier run stands, as the disk and the agent show it now."""
    active = observed.active
    record = _forget(_anchored(record, now, watch), active, now)
    record = remember_stuck(arrived(record, observed), observed, ())
    open_switch = record.confirmation
    if open_switch is None:
        return Settled(record=_trusted(record, observed))
    if _is_hidden(open_switch, observed):
        return Settled(record=record)
    if active is None or open_switch.left is not None or not _is_in_use(open_switch, active):
        return Settled(record=_trusted(_not_made(record, open_switch, active), observed))
    over = open_switch.remaining(now, watch) <= 0
    waits = open_switch.stage is Stage.WATCHING and active.process is ProcessState.UNKNOWN and not over
    if boot != open_switch.boot and not waits:
        counted = _count_boot(record, open_switch, now, boot)
        record, open_switch = counted.record, counted.record.confirmation
        if open_switch is None:
            return evolve(counted, record=_trusted(counted.record, observed))
    if open_switch.stage is Stage.SWITCHING:
        if not active.process.is_running:
            return Settled(record=record)
        watching = evolve(open_switch, stage=Stage.WATCHING, deadline=now + watch, came_up=True)
        return Settled(record=evolve(record, confirmation=watching))
    if active.process.is_running:
        return _became_good(record, open_switch) if over else Settled(record=record)
    long_ago = open_switch.remaining(now, watch) <= -LONG_AFTER_WATCH
    if active.process is ProcessState.STOPPED and long_ago and not open_switch.again:
        # No run looked since, so nobody knows whether it died within its watch or was well for a week. Taken back it
        # might be for nothing, and left down it is no better: so it is started once more, and watched once more. If it
        # doesn't come up it goes back in this very pass, and if it ends within that watch, then.
        once_more = evolve(open_switch, stage=Stage.SWITCHING, deadline=None, again=True)
        news = f"{active.version} ended nobody knows when, long after its start: it is started and watched once more"
        return Settled(record=evolve(record, confirmation=once_more), news=news)
    if active.process is ProcessState.STOPPED or over:
        said = active.said or "nothing"
        return take_back(record, "StartFailed", f"{active.version} did not stay up: its status says {said}", now)
    return Settled(record=record)


def was_made(record: AgentRecord, observed: ObservedAgent) -> bool:
    """Whether the disk shows the open switch as made, whatever its step said: the fsync after it may have failed."""
    open_switch, active = arrived(record, observed).confirmation, observed.active
    if open_switch is None or open_switch.left is not None:
        return False
    return active is not None and _is_in_use(open_switch, active)


def arrived(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Take up that a move was made: it is seen to live where it was to move to."""
    open_switch = record.confirmation
    if open_switch is None or open_switch.left is None or not observed.place.same_spot(record.place):
        return record
    return evolve(record, confirmation=evolve(open_switch, left=None))


def _is_in_use(open_switch: Confirmation, active: Active) -> bool:
    """Whether the switch was made. Its config tells that only until it was seen up: later a person may edit it."""
    in_use = content_in_use(active)
    return in_use.same_tree(open_switch.to) if open_switch.stage is Stage.WATCHING else in_use.matches(open_switch.to)


def _trusted(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """What was found running when we came, or after memory was lost, is as good as anything that is known; it must be
    marked, since only then it can be gone back to."""
    active = observed.active
    if record.good is not None or active is None or not active.process.is_running:
        return record
    in_use = content_in_use(active)
    failed = record.failure_of(in_use, Verdict.ROLLED_BACK, observed.place) is not None
    return record if failed or active.tree.origin is Origin.FOREIGN else evolve(record, good=in_use)


def _is_hidden(open_switch: Confirmation, observed: ObservedAgent) -> bool:
    """Whether nothing can be told now: the home could not be read, or a replacement stopped between its two renames."""
    if open_switch.left is not None:  # it still has a `.version`, unless nobody can look
        return observed.version_text is None and bool(observed.stray) and observed.astray is Astray.UNSEEN
    return observed.active is None and (bool(observed.stray) or observed.version_text == open_switch.to.version)


def _not_made(record: AgentRecord, open_switch: Confirmation, active: Active | None) -> AgentRecord:
    """It never came to the switch. What ran before it is the way back all the same once it is tried again."""
    running = active is not None and active.process.is_running
    return evolve(dropped(record), interrupted=None if running else open_switch.before)


def dropped(record: AgentRecord) -> AgentRecord:
    """Without its open switch; an agent that did not move lives where it lived."""
    left = None if record.confirmation is None else record.confirmation.left
    return evolve(record if left is None else living(record, left), confirmation=None)


def _anchored(record: AgentRecord, now: float, watch: float) -> AgentRecord:
    """Nothing lies in the future: of a clock that was set back, what remains begins anew once, and not at each look."""
    open_switch, crashes = record.confirmation, record.crashes
    if open_switch is not None and open_switch.deadline is not None and open_switch.deadline > now + watch:
        open_switch = evolve(open_switch, deadline=now + watch)
    if crashes is not None and crashes.at > now:
        crashes = evolve(crashes, at=now)
    failures = tuple(
        evolve(failure, at=min(failure.at, now), downloaded_at=min(failure.downloaded_at, now))
        for failure in record.failures
    )
    return evolve(record, confirmation=open_switch, crashes=crashes, failures=failures)


def _forget(record: AgentRecord, active: Active | None, now: float) -> AgentRecord:
    """What is over once the agent is seen running: an interrupted switch at once, crashes when it was well for long."""
    if active is None or not active.process.is_running:
        return record
    crashes = record.crashes
    well = crashes is None or now - crashes.at >= CRASHES_FORGOTTEN_AFTER
    return evolve(record, interrupted=None, crashes=None if well else crashes)


def paused(record: AgentRecord, boot: str) -> AgentRecord:
    """An agent that is not asked to run can't prove itself: its watch begins anew when it is started again."""
    open_switch = record.confirmation
    if open_switch is None:
        return record
    return evolve(record, confirmation=evolve(open_switch, stage=Stage.SWITCHING, deadline=None, boot=boot))


def _count_boot(record: AgentRecord, open_switch: Confirmation, now: float, boot: str) -> Settled:
    """The host went down before there was a verdict: no failure of the content, and it is tried again. But a version
    that takes the host down must not do so for ever: three boots without a verdict are one."""
    if open_switch.tries >= TRIES_WITHOUT_VERDICT:
        message = f"{open_switch.to.version}: {open_switch.tries} times the host went down before it came up"
        return take_back(record, "StartFailed", message, now)
    again = evolve(open_switch, stage=Stage.SWITCHING, deadline=None, boot=boot, tries=open_switch.tries + 1)
    return Settled(record=evolve(record, confirmation=again))


def _became_good(record: AgentRecord, open_switch: Confirmation) -> Settled:
    kept = tuple(failure for failure in record.failures if not _is_where(record, failure, open_switch.to))
    record = with_good(record, open_switch.to, open_switch.before)
    record = evolve(record, confirmation=None, fallback=None, failures=kept, crashes=None, told_to_stop=())
    return Settled(record=record, news=f"{open_switch.to.version} is good: it stayed up for the watch")


def _is_where(record: AgentRecord, failure: Failure, content: Content) -> bool:
    return failure.is_of(content, failure.verdict, record.place)


def take_back(record: AgentRecord, reason: str, message: str, now: float, *, outlived: bool = False) -> Settled:
    """Remember that the content of an open switch failed, and where to go back to: what was in use and running when
    its replacement began, else what last became good. Where there is neither, it is only started again; but
    where it was told to stop before, it stays stopped.

    `outlived`: processes of what it replaced were left, and may be why it failed. That counts once: failing so twice
    in a row is failing.
    """
    open_switch = record.confirmation
    assert open_switch is not None
    if not open_switch.came_up:
        record = evolve(record, never_up=open_switch.to)
    former = (open_switch.before, record.good)
    back = next((found for found in former if found is not None and _leads_back(record, found, open_switch.to)), None)
    if back is None and not record.told_to_stop:
        return Settled(record=evolve(record, confirmation=None), news=f"{message}; there is nothing to go back to")
    before = record.failure_of(open_switch.to, Verdict.ROLLED_BACK, open_switch.to.at)
    failed = Failure(
        content=open_switch.to,
        verdict=Verdict.ROLLED_BACK,
        reason=reason,
        message=message,
        at=now,
        place=open_switch.to.at,
        outlived=outlived and (before is None or not before.outlived),
    )
    record = evolve(with_failure(record, failed), confirmation=None, fallback=back, crashes=None)
    if back is None:
        return Settled(record=record, news=f"{message}; it stays stopped, as it was told to before")
    where = f" in {back.at.work_dir}" if back.at is not None and not back.at.same_spot(record.place) else ""
    return Settled(record=record, news=f"{message}; back to {back.version}{where}")


def _leads_back(record: AgentRecord, back: Content, failed: Content) -> bool:
    """Whether it is a way back: other content, or the same in the home that it moved out of."""
    if back.version in record.told_to_stop:
        return False
    elsewhere = failed.at is not None and back.at is not None and not back.at.same_spot(failed.at)
    return elsewhere or is_way_back(back, failed)
