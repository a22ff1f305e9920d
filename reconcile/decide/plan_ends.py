"""What a plan makes of what is remembered of its agent: its switch began, came up, and what came of it all. Pure."""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, Place
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune, Result, Start, Stop, Switch, Verify
from reconcile.decide.records import (
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    Confirmation,
    Content,
    Crashes,
    Failure,
    Stage,
    Verdict,
    content_in_use,
    living,
    was_never_up,
    with_failure,
    without_failure,
)
from reconcile.decide.settling import Settled, dropped, take_back


@frozen(kw_only=True)
class Move:
    """A switch to another home: out of `left`, into `into`."""

    left: Place
    into: Place


def began(
    record: AgentRecord,
    to: Content,
    active: Active | None,
    *,
    now: float,
    boot: str,
    move: Move | None = None,
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
    begun = Confirmation(to=to, before=before, at=now, boot=boot, tries=tries, left=left)
    return evolve(record, confirmation=begun)


def _leaving(record: AgentRecord, left: Place) -> AgentRecord:
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


def _in_home(content: Content | None, place: Place) -> Content | None:
    return content if content is None or content.at is not None else evolve(content, at=place)


def came_up(record: AgentRecord, *, now: float, watch: float) -> AgentRecord:
    """The new content said started: the watch begins."""
    if record.confirmation is None or record.confirmation.stage is Stage.WATCHING:
        return record
    watching = evolve(record.confirmation, stage=Stage.WATCHING, deadline=now + watch, came_up=True)
    return evolve(record, confirmation=watching, stopped_by_us=False)


def after_plan(
    record: AgentRecord,
    wanted: Content,
    outcomes: tuple[Outcome, ...],
    *,
    now: float,
    going_back: bool,
    place: Place | None = None,
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
        record = evolve(record, failures=without_failure(record.failures, content, Verdict.NOT_REACHED, place))
    if failed is not None and failed.lost and isinstance(failed.action, Start):
        return _count_lost(record, failed, now)
    # A host that was short of processes or memory says nothing of what is new.
    if failed is None or isinstance(failed.action, Prune) or any(outcome.says_nothing for outcome in outcomes):
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
        verdict=Verdict.NOT_REACHED,
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
    tried = [o for o in outcomes if o.result is not Result.SKIPPED and not o.says_nothing]
    starts = [o for o in tried if isinstance(o.action, Start)]
    if any(isinstance(o.action, Stop) for o in outcomes):
        down = not starts and any(isinstance(o.action, Stop) and o.result is Result.DONE for o in tried)
        return evolve(record, stopped_by_us=True) if down else record
    if not starts:
        return record
    ours = record.stopped_by_us and all(o.result is Result.DONE for o in starts)
    count = 0 if record.crashes is None else record.crashes.count
    return evolve(record, crashes=record.crashes if ours else Crashes(count=count + 1, at=now), stopped_by_us=False)
