"""The life of an upgrade: what a plan began, what came of it, and what a look makes of it since. Pure.

There is no undo here: what failed is remembered, and target.py then names other content.
"""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, Evidence, HomeRef, ObservedAgent, Origin, ProcessState
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune, Result, Start, Stop, Switch, Verify
from reconcile.decide.records import (
    CRASHES_FORGOTTEN_AFTER,
    LONG_AFTER_WATCH,
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    Content,
    Crashes,
    Failure,
    FailureKind,
    PendingUpgrade,
    UpgradePhase,
    content_in_use,
    is_way_back,
    living,
    remember_stuck,
    was_never_up,
    with_failure,
    with_good,
    without_failure,
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
    waits = open_switch.stage is UpgradePhase.WATCHING and active.process is ProcessState.UNKNOWN and not over
    if boot != open_switch.boot and not waits:
        counted = _count_boot(record, open_switch, now, boot)
        record, open_switch = counted.record, counted.record.confirmation
        if open_switch is None:
            return evolve(counted, record=_trusted(counted.record, observed))
    if open_switch.stage is UpgradePhase.SWITCHING:
        if not active.process.is_running:
            return Settled(record=record)
        watching = evolve(open_switch, stage=UpgradePhase.WATCHING, deadline=now + watch, came_up=True)
        return Settled(record=evolve(record, confirmation=watching))
    if active.process.is_running:
        return _became_good(record, open_switch) if over else Settled(record=record)
    long_ago = open_switch.remaining(now, watch) <= -LONG_AFTER_WATCH
    if active.process is ProcessState.STOPPED and long_ago and not open_switch.again:
        # No run looked since, so nobody knows whether it died within its watch or was well for a week. Taken back it
        # might be for nothing, and left down it is no better: so it is started once more, and watched once more. If it
        # doesn't come up it goes back in this very pass, and if it ends within that watch, then.
        once_more = evolve(open_switch, stage=UpgradePhase.SWITCHING, deadline=None, again=True)
        news = f"{active.version} ended nobody knows when, long after its start: it is started and watched once more"
        return Settled(record=evolve(record, confirmation=once_more), news=news)
    if active.process is ProcessState.STOPPED or over:
        said = active.status_output or "nothing"
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
    if open_switch is None or open_switch.left is None or not observed.place.same_home(record.place):
        return record
    return evolve(record, confirmation=evolve(open_switch, left=None))


def _is_in_use(open_switch: PendingUpgrade, active: Active) -> bool:
    """Whether the switch was made. Its config tells that only until it was seen up: later a person may edit it."""
    in_use = content_in_use(active)
    return (
        in_use.same_tree(open_switch.to)
        if open_switch.stage is UpgradePhase.WATCHING
        else in_use.matches(open_switch.to)
    )


def _trusted(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """What was found running when we came, or after memory was lost, is as good as anything that is known; it must be
    marked, since only then it can be gone back to."""
    active = observed.active
    if record.good is not None or active is None or not active.process.is_running:
        return record
    in_use = content_in_use(active)
    failed = record.failure_of(in_use, FailureKind.ROLLED_BACK, observed.place) is not None
    return record if failed or active.tree.origin is Origin.FOREIGN else evolve(record, good=in_use)


def _is_hidden(open_switch: PendingUpgrade, observed: ObservedAgent) -> bool:
    """Whether nothing can be told now: the home could not be read, or a replacement stopped between its two renames."""
    if open_switch.left is not None:  # it still has a `.version`, unless nobody can look
        return observed.version_text is None and bool(observed.blocked_by) and observed.evidence is Evidence.UNSEEN
    return observed.active is None and (bool(observed.blocked_by) or observed.version_text == open_switch.to.version)


def _not_made(record: AgentRecord, open_switch: PendingUpgrade, active: Active | None) -> AgentRecord:
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
    return evolve(record, confirmation=evolve(open_switch, stage=UpgradePhase.SWITCHING, deadline=None, boot=boot))


def _count_boot(record: AgentRecord, open_switch: PendingUpgrade, now: float, boot: str) -> Settled:
    """The host went down before there was a verdict: no failure of the content, and it is tried again. But a version
    that takes the host down must not do so for ever: three boots without a verdict are one."""
    if open_switch.tries >= TRIES_WITHOUT_VERDICT:
        message = f"{open_switch.to.version}: {open_switch.tries} times the host went down before it came up"
        return take_back(record, "StartFailed", message, now)
    again = evolve(open_switch, stage=UpgradePhase.SWITCHING, deadline=None, boot=boot, tries=open_switch.tries + 1)
    return Settled(record=evolve(record, confirmation=again))


def _became_good(record: AgentRecord, open_switch: PendingUpgrade) -> Settled:
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
    before = record.failure_of(open_switch.to, FailureKind.ROLLED_BACK, open_switch.to.at)
    failed = Failure(
        content=open_switch.to,
        verdict=FailureKind.ROLLED_BACK,
        reason=reason,
        message=message,
        at=now,
        place=open_switch.to.at,
        outlived=outlived and (before is None or not before.outlived),
    )
    record = evolve(with_failure(record, failed), confirmation=None, fallback=back, crashes=None)
    if back is None:
        return Settled(record=record, news=f"{message}; it stays stopped, as it was told to before")
    where = f" in {back.at.work_dir}" if back.at is not None and not back.at.same_home(record.place) else ""
    return Settled(record=record, news=f"{message}; back to {back.version}{where}")


def _leads_back(record: AgentRecord, back: Content, failed: Content) -> bool:
    """Whether it is a way back: other content, or the same in the home that it moved out of."""
    if back.version in record.told_to_stop:
        return False
    elsewhere = failed.at is not None and back.at is not None and not back.at.same_home(failed.at)
    return elsewhere or is_way_back(back, failed)


@frozen(kw_only=True)
class HomeChange:
    """A switch to another home: out of `left`, into `into`."""

    left: HomeRef
    into: HomeRef


def began(
    record: AgentRecord,
    to: Content,
    active: Active | None,
    *,
    now: float,
    boot: str,
    move: HomeChange | None = None,
    remote: str | None = None,
) -> AgentRecord:
    """Write down a switch before it is tried. Where an earlier one had no end, what ran before it still counts.
    `remote`: the digest of the server's config, which may be what is switched to."""
    if remote is not None and to.config == remote:
        record = evolve(record, delivering=remote)
    if move is not None:
        record, to = _leaving(record, move.left), evolve(to, at=move.into)
    known = record.confirmation
    before = record.interrupted if known is None else known.before
    if active is not None and active.process.is_running:
        before = content_in_use(active)
        record = evolve(record, stopped_by_us=True)
    if known is not None and active is not None and was_never_up(record, active):
        record = evolve(record, never_up=content_in_use(active))  # its own switch is forgotten by this one
    tries = known.tries if known is not None and known.to.matches(to) else 1
    left = None
    if move is not None:
        before, left, record = _in_home(before, move.left), move.left, living(record, move.into)
    begun = PendingUpgrade(to=to, before=before, at=now, boot=boot, tries=tries, left=left)
    return evolve(record, confirmation=begun)


def _leaving(record: AgentRecord, left: HomeRef) -> AgentRecord:
    """What is remembered of content without its home is in the one that is left."""
    open_switch = record.confirmation
    if open_switch is not None:
        open_switch = evolve(open_switch, before=_in_home(open_switch.before, left))
    return evolve(
        record,
        confirmation=open_switch,
        good=_in_home(record.good, left),
        good_before=tuple(evolve(content, at=content.at or left) for content in record.good_before),
        fallback=_in_home(record.fallback, left),
        interrupted=_in_home(record.interrupted, left),
    )


def _in_home(content: Content | None, place: HomeRef) -> Content | None:
    return content if content is None or content.at is not None else evolve(content, at=place)


def came_up(record: AgentRecord, *, now: float, watch: float) -> AgentRecord:
    """The new content said started: the watch begins."""
    if record.confirmation is None or record.confirmation.stage is UpgradePhase.WATCHING:
        return record
    watching = evolve(record.confirmation, stage=UpgradePhase.WATCHING, deadline=now + watch, came_up=True)
    return evolve(record, confirmation=watching, stopped_by_us=False)


def after_plan(
    record: AgentRecord,
    wanted: Content,
    outcomes: tuple[Outcome, ...],
    *,
    now: float,
    going_back: bool,
    place: HomeRef | None = None,
) -> Settled:
    """Take up what came of a plan: what failed before the switch is held back for a while, what was switched to and
    did not come up is taken back (where processes of what it replaced were left, to be tried again), a start for its
    own sake counts as a crash of what is in use. `going_back`: the plan was one of a held agent, and says nothing of
    what is wanted, but of the way back. `place`: the home that it was to move into, None for no move."""
    changes = any(isinstance(outcome.action, Switch) for outcome in outcomes)
    outcomes = tuple(outcome for outcome in outcomes if outcome.attempts)  # a busy home, a fault of ours says nothing
    failed = next((outcome for outcome in outcomes if outcome.result is Result.FAILED), None)
    switched = any(isinstance(o.action, Switch) and o.result is Result.DONE for o in outcomes)
    content = record.way_back if going_back else wanted
    record = _heard(record, outcomes)
    record = _count_start(record, outcomes, switched=switched, now=now)
    if switched and content is not None:
        record = evolve(record, failures=without_failure(record.failures, content, FailureKind.NOT_REACHED, place))
    if failed is not None and failed.lost and isinstance(failed.action, Start):
        return _count_lost(record, failed, now)
    # A host that was short of processes or memory says nothing of what is new.
    if failed is None or isinstance(failed.action, Prune) or any(outcome.host_fault for outcome in outcomes):
        return Settled(record=record)
    if isinstance(failed.action, Start):
        # Of a held agent too, where it is the start that an interrupted switch still owed.
        owed = record.confirmation is not None and record.confirmation.to.version == failed.action.version
        if owed and not (going_back and switched):
            outlived = any(outcome.outlived for outcome in outcomes)
            taken = take_back(record, failed.reason, failed.error, now, outlived=outlived)
            if taken.record.way_back is None and record.crashes is None and not record.told_to_stop:
                # Nothing better is there: it is started again, but not at once, since that has just been tried.
                taken = evolve(taken, record=evolve(taken.record, crashes=Crashes(count=1, at=now)))
            return taken
        return Settled(record=record)
    if content is None or not changes:
        return Settled(record=record)  # a stop for its own sake is asked for again at each pass
    if _was_begun(record, content, outcomes):
        record = dropped(record)
    downloaded = failed.served is not None and isinstance(failed.action, Verify)
    failure = Failure(
        content=content,
        verdict=FailureKind.NOT_REACHED,
        reason=failed.reason,
        message=failed.error,
        at=now,
        served=failed.served,
        downloads=int(downloaded),
        downloaded_at=now if downloaded else 0.0,
        place=place,
    )
    return Settled(record=with_failure(record, failure))


def _count_lost(record: AgentRecord, failed: Outcome, now: float) -> Settled:
    """Count a try of an open switch of whose start nobody knows what came of it: no failure of the content. But one
    that kills whoever starts it must not do so for ever: three such tries are one."""
    owed = record.confirmation
    if owed is None or not isinstance(failed.action, Start) or owed.to.version != failed.action.version:
        return Settled(record=record)
    if owed.tries >= TRIES_WITHOUT_VERDICT:
        return take_back(record, "StartFailed", f"{owed.tries} starts, and nobody knows of any: {failed.error}", now)
    return Settled(record=evolve(record, confirmation=evolve(owed, tries=owed.tries + 1)))


def _heard(record: AgentRecord, outcomes: tuple[Outcome, ...]) -> AgentRecord:
    """Take up what was seen up while an action failed: by its version, since for a doubt that is enough."""
    up = {o.action.version for o in outcomes if o.was_up and isinstance(o.action, Start | Stop)}
    if record.never_up is not None and record.never_up.version in up:
        record = evolve(record, never_up=None)
    started = {o.action.version for o in outcomes if o.was_up and isinstance(o.action, Start)}
    open_switch = record.confirmation
    if open_switch is not None and open_switch.to.version in started:
        record = evolve(record, confirmation=evolve(open_switch, came_up=True))
    return record


def _was_begun(record: AgentRecord, content: Content, outcomes: tuple[Outcome, ...]) -> bool:
    """Whether the open switch is the one of these outcomes. What failed before it leaves an older one's watch as it
    is."""
    open_switch = record.confirmation
    tried = any(isinstance(o.action, Stop | Switch) and o.result is not Result.SKIPPED for o in outcomes)
    return tried and open_switch is not None and open_switch.to.matches(content)


def _count_start(record: AgentRecord, outcomes: tuple[Outcome, ...], *, switched: bool, now: float) -> AgentRecord:
    """Count a start that no switch asked for; what is in use since a switch has no crashes yet. The start after a stop
    of ours is none, whether that failed or what was to follow it did: nothing had ended by itself."""
    if switched:
        return evolve(record, crashes=None, stopped_by_us=False)
    tried = [o for o in outcomes if o.result is not Result.SKIPPED and not o.host_fault]
    starts = [o for o in tried if isinstance(o.action, Start)]
    if any(isinstance(o.action, Stop) for o in outcomes):
        down = not starts and any(isinstance(o.action, Stop) and o.result is Result.DONE for o in tried)
        return evolve(record, stopped_by_us=True) if down else record
    if not starts:
        return record
    ours = record.stopped_by_us and all(o.result is Result.DONE for o in starts)
    count = 0 if record.crashes is None else record.crashes.count
    return evolve(record, crashes=record.crashes if ours else Crashes(count=count + 1, at=now), stopped_by_us=False)
