"""What is remembered of an agent between passes, and what a pass makes of it. Pure; kept by reconcile/store.py.

Memory never decides what is on disk: it holds what the disk can't tell. Which content was good, which failed and how
often, and a switch whose end is still to be seen. There is no undo here: what failed is remembered, and aim.py then
names other content.
"""

from __future__ import annotations

from enum import Enum

from attrs import evolve

from probes.observed import Active, Astray, ObservedAgent, Origin, Place, ProcessState
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune, Result, Served, Start, Stop, Switch, Verify
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import DesiredAgent, RunState

# The rules of retrying (docs/adr/0018). Seconds.
BEFORE_SWITCH_DELAYS = (60.0, 300.0, 900.0, 3600.0)
CRASH_FIRST_DELAY, CRASH_LONGEST_DELAY = 10.0, 300.0
CRASHES_FORGOTTEN_AFTER = 600.0
TRIES_WITHOUT_VERDICT = 3
LONG_AFTER_WATCH = 600.0  # beyond the usual pauses between two lines of cron
DOWNLOADED_AGAIN_AFTER = 6 * 3600.0
_CALLS_KEPT = 6


@frozen(kw_only=True)
class ConfigMemory:
    """The remote config that was last delivered (or found in place at the change-over). `digest`: `sha256:hex`."""

    name: str
    url: str
    digest: str
    etag: str | None = None


# What is remembered of an agent that was seen in use while no remote config was wanted for it: one that is wanted later
# is new, whatever file of that name the tarball brought.
NO_CONFIG = ConfigMemory(name="", url="", digest="")


NO_REMOTE = ""


@frozen(kw_only=True)
class DigestFile:
    """What the digest file at `url` said when it was asked last, as `md5:hex`. `unasked`: passes since then."""

    url: str
    digest: str
    etag: str | None = None
    unasked: int = 0


@frozen(kw_only=True)
class Content:
    """What an agent can be made of: a version, the tarball's digests and the config's, as far as they are known.
    `config` None is unknown; NO_REMOTE: none is wanted, and the tarball's own counts. `at`: the home where it is, or is
    to be, of an agent that moves; it is no part of what the content is. None: where the agent lives."""

    version: str
    digests: frozenset[str] = frozenset()
    config: str | None = None
    at: Place | None = None

    def matches(self, other: Content) -> bool:
        """Whether both may be the same: unknown differs from nothing."""
        same_config = self.config is None or other.config is None or self.config == other.config
        return self.same_tree(other) and same_config

    def same_tree(self, other: Content) -> bool:
        """Whether both may be of the same tarball."""
        kinds = {digest.partition(":")[0] for digest in other.digests}
        mine = {digest for digest in self.digests if digest.partition(":")[0] in kinds}
        return self.version == other.version and mine <= other.digests


def content_in_use(active: Active) -> Content:
    return Content(version=active.version, digests=active.tree.digests, config=active.tree.config)


def is_surely(content: Content, active: Active) -> bool:
    """Whether what is in use is known to be this content: it is not enough that nothing says otherwise."""
    in_use = content_in_use(active)
    if content.version != in_use.version or content.config not in (None, NO_REMOTE, in_use.config):
        return False
    # Of a tree that was found here no digest is known; a config that we put into it tells as well.
    return bool(content.digests & in_use.digests if in_use.digests else content.config)


def is_way_back(back: Content, failed: Content) -> bool:
    """Whether it is another tree, or the same one with a config that is known to be another and can be put back."""
    if not back.same_tree(failed):
        return True
    return bool(back.config) and failed.config is not None and back.config != failed.config


class Verdict(Enum):
    """What a failure says about its content: NOT_REACHED, the old one still is in use; ROLLED_BACK, it was tried."""

    NOT_REACHED = "not reached"
    ROLLED_BACK = "rolled back"


@frozen(kw_only=True)
class Failure:
    """Content that failed. `count`: times in a row. `at`: Unix seconds of the last. `served`: the wrong bytes that were
    downloaded for it, `downloads` times, at `downloaded_at` lastly. `place`: the home that it was to move into, and
    failed in; None: it failed where the agent lives, and counts everywhere."""

    content: Content
    verdict: Verdict
    reason: str
    message: str
    at: float
    count: int = 1
    served: Served | None = None
    downloads: int = 0
    downloaded_at: float = 0.0
    place: Place | None = None

    def is_of(self, content: Content, verdict: Verdict, place: Place | None) -> bool:
        """Whether it says so of this content in this home; without a home, of any."""
        there = self.place is None or place is None or self.place.same_spot(place)
        return self.verdict is verdict and self.content.matches(content) and there

    def not_again(self, now: float) -> Served | None:
        """The bytes that are not downloaded now if the server still has them; None: whatever it has is.

        A transfer breaks as well as a file, so the second try is a whole one; and a cache on the way may lie, so there
        is one now and then.
        """
        lately = now - self.downloaded_at < DOWNLOADED_AGAIN_AFTER
        return self.served if self.downloads > 1 and lately else None

    def again_at(self, now: float, quarantine_for: float | None) -> float | None:
        """When it may be tried again, as Unix seconds; None: not by time. A clock set back can't stretch it."""
        if self.verdict is Verdict.ROLLED_BACK:
            delay = quarantine_for
        else:
            delay = BEFORE_SWITCH_DELAYS[min(self.count, len(BEFORE_SWITCH_DELAYS)) - 1]
        return None if delay is None else min(self.at, now) + delay


class Stage(Enum):
    """SWITCHING: written down before the stop, and nothing seen since. WATCHING: it said started, until `deadline`."""

    SWITCHING = "switching"
    WATCHING = "watching"


@frozen(kw_only=True)
class Confirmation:
    """A switch whose end is still to be seen, by whichever run comes next. `before`: what was in use and running when
    it began. `deadline`: Unix seconds, set with its span at the first status that says started. `boot`: of the host
    when it was last tried; `tries`: how many boots saw it begin without a verdict. `came_up`: it was seen up at least
    once, in whatever boot. `again`: it ended nobody knows when, and is watched for the second time. `left`: the home
    that it moves out of, until it was seen to have moved: as long as that home has a `.version`, it lives there."""

    to: Content
    before: Content | None
    stage: Stage = Stage.SWITCHING
    at: float
    deadline: float | None = None
    boot: str = ""
    tries: int = 1
    came_up: bool = False
    again: bool = False
    left: Place | None = None

    def remaining(self, now: float, watch: float) -> float:
        """Seconds of the watch that are left, never more than its span."""
        return watch if self.deadline is None else min(self.deadline - now, watch)


@frozen(kw_only=True)
class ControlCall:
    """A `control start` or `control stop` as it was spawned: whichever run comes next waits for one that still lives.
    `started`: clock ticks since the `boot`, which tell its process from a later one of the same id. `limit_s`: seconds
    that it was given. `over`: the run that made it saw what came of it."""

    version: str
    verb: str
    pid: int
    started: int
    boot: str
    limit_s: float
    over: bool = False


@frozen(kw_only=True)
class Crashes:
    """Unexpected ends of what is in use. `at`: Unix seconds of the last start that was made for it."""

    count: int
    at: float

    def again_at(self, now: float) -> float:
        """When it may be started again: at once the first time, then after 10 s doubling to 5 min."""
        if self.count < 1:
            return 0.0
        pause: float = CRASH_FIRST_DELAY * 2.0 ** min(self.count - 1, 10)
        return min(self.at, now) + min(pause, CRASH_LONGEST_DELAY)


@frozen(kw_only=True)
class Pin:
    """An operator went back to this version and stays there until `release`."""

    version: str
    owner: str
    at: float


@frozen(kw_only=True)
class Awaited:
    """A fetch that waits for this host's turn. `content`: what is to be fetched, None: whatever is, an operator wants
    it now. `since`: Unix seconds from which on it has waited for nothing else."""

    content: Content | None
    since: float


@frozen(kw_only=True)
class AgentRecord:
    """`work_dir`, `run_user`: where it lives, or is moving to. An agent without a record is one that we never managed,
    or of which our memory was lost. `config` None: nothing is known of it yet, since it could not be asked for.
    `remote_config`, `digest_file`: as the server had them when it was asked last, delivered or not. `good`:
    what last became good. `fallback`: where to go back to while what is wanted is quarantined. `interrupted`: what ran
    when a switch began that a crash ended before it was made; until something is seen running. `never_up`: what failed
    after its switch without ever having been seen up, as long as that is so. `stopped_by_us`: what is in use is down
    since we stopped it, or were about to, and no crash. `calls`: the last control calls that start or stop, the newest
    first. `used`: versions by their last use, the newest first. `awaited`: its next fetch."""

    name: str
    work_dir: str
    run_user: str
    config: ConfigMemory | None = None
    remote_config: ConfigMemory | None = None
    digest_file: DigestFile | None = None
    confirmation: Confirmation | None = None
    good: Content | None = None
    fallback: Content | None = None
    interrupted: Content | None = None
    never_up: Content | None = None
    failures: tuple[Failure, ...] = ()
    crashes: Crashes | None = None
    stopped_by_us: bool = False
    pin: Pin | None = None
    calls: tuple[ControlCall, ...] = ()
    used: tuple[str, ...] = ()
    awaited: Awaited | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def place(self) -> Place:
        return Place(name=self.name, work_dir=self.work_dir, run_user=self.run_user)

    def failure_of(self, content: Content, verdict: Verdict, place: Place | None = None) -> Failure | None:
        """The failure of this content in this home; without a home, in any."""
        return next((f for f in self.failures if f.is_of(content, verdict, place)), None)

    def start_again_at(self, now: float) -> float:
        """When what is in use may be started again, as Unix seconds: at once what we have stopped ourselves."""
        return 0.0 if self.crashes is None or self.stopped_by_us else self.crashes.again_at(now)

    @property
    def way_back(self) -> Content | None:
        """Where it is to stay instead of what the server wants: an operator's pin, before the former content."""
        return self.fallback if self.pin is None else Content(version=self.pin.version)


def record_for(place: Place, record: AgentRecord | None) -> AgentRecord:
    """The record to write notes of this agent into: the one that is kept, or a new one. `place`: where it lives. Of a
    move that was begun the record names the new home, and goes on to do so until that is settled."""
    if record is None:
        return AgentRecord(name=place.name, work_dir=place.work_dir, run_user=place.run_user)
    left = None if record.confirmation is None else record.confirmation.left
    return record if left is not None and left.same_spot(place) else living(record, place)


def living(record: AgentRecord, place: Place) -> AgentRecord:
    """The same agent, living at another place."""
    return evolve(record, work_dir=place.work_dir, run_user=place.run_user)


# --- what a look at the agent makes of it ---


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


def was_never_up(record: AgentRecord | None, active: Active) -> bool:
    """Whether what is in use was switched to by us, and nobody saw it up since. In doubt it was."""
    if record is None:
        return False
    open_switch = record.confirmation
    waits = open_switch is not None and open_switch.stage is Stage.SWITCHING and not open_switch.came_up
    unseen = (record.never_up, open_switch.to if open_switch is not None and waits else None)
    return any(content is not None and is_surely(content, active) for content in unseen)


@frozen(kw_only=True)
class Settled:
    """A record after a look. `news`: what became of a switch, for history; empty: nothing new."""

    record: AgentRecord
    news: str = ""


def settle(record: AgentRecord, observed: ObservedAgent, *, now: float, watch: float, boot: str) -> Settled:
    """Go on where a switch of an earlier run stands, as the disk and the agent show it now."""
    active = observed.active
    record = _forget(_anchored(record, now, watch), active, now)
    record = arrived(record, observed)
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
    return evolve(_dropped(record), interrupted=None if running else open_switch.before)


def _dropped(record: AgentRecord) -> AgentRecord:
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
    record = evolve(record, confirmation=None, good=open_switch.to, fallback=None, failures=kept, crashes=None)
    return Settled(record=record, news=f"{open_switch.to.version} is good: it stayed up for the watch")


def _is_where(record: AgentRecord, failure: Failure, content: Content) -> bool:
    return failure.is_of(content, failure.verdict, record.place)


def take_back(record: AgentRecord, reason: str, message: str, now: float) -> Settled:
    """Remember that the content of an open switch failed, and where to go back to: what was in use and running when
    its replacement began, else what last became good. Where there is neither, it is only started again."""
    open_switch = record.confirmation
    assert open_switch is not None
    if not open_switch.came_up:
        record = evolve(record, never_up=open_switch.to)
    former = (open_switch.before, record.good)
    back = next((found for found in former if found is not None and _leads_back(record, found, open_switch.to)), None)
    if back is None:
        return Settled(record=evolve(record, confirmation=None), news=f"{message}; there is nothing to go back to")
    failed = Failure(
        content=open_switch.to,
        verdict=Verdict.ROLLED_BACK,
        reason=reason,
        message=message,
        at=now,
        place=open_switch.to.at,
    )
    record = evolve(_with_failure(record, failed), confirmation=None, fallback=back, crashes=None)
    where = f" in {back.at.work_dir}" if back.at is not None and not back.at.same_spot(record.place) else ""
    return Settled(record=record, news=f"{message}; back to {back.version}{where}")


def _leads_back(record: AgentRecord, back: Content, failed: Content) -> bool:
    """Whether it is a way back: other content, or the same in the home that it moved out of."""
    elsewhere = failed.at is not None and back.at is not None and not back.at.same_spot(failed.at)
    return elsewhere or is_way_back(back, failed)


def _with_failure(record: AgentRecord, failed: Failure) -> AgentRecord:
    before = record.failure_of(failed.content, failed.verdict, failed.place)
    if before is not None:
        failed = evolve(failed, count=before.count + 1)
        same = failed.served is None or (before.served is not None and before.served.is_still(failed.served))
        if same:
            # Another failure in between (a server that is down) makes nobody forget the bytes.
            failed = evolve(
                failed,
                served=before.served,
                downloads=before.downloads + failed.downloads,
                downloaded_at=max(before.downloaded_at, failed.downloaded_at),
            )
    others = _without(record.failures, failed.content, failed.verdict, failed.place)
    # The newest ten are enough: content that was given up by the server is not asked for again.
    return evolve(record, failures=(failed, *others)[:10])


def _without(
    failures: tuple[Failure, ...], content: Content, verdict: Verdict, place: Place | None
) -> tuple[Failure, ...]:
    return tuple(f for f in failures if not f.is_of(content, verdict, place))


# --- what a plan's outcomes make of it ---


@frozen(kw_only=True)
class Move:
    """A switch to another home: out of `left`, into `into`."""

    left: Place
    into: Place


def began(
    record: AgentRecord, to: Content, active: Active | None, *, now: float, boot: str, move: Move | None = None
) -> AgentRecord:
    """Write down a switch before it is tried. Where an earlier one had no end, what ran before it still counts."""
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
        fallback=_in_home(record.fallback, left),
        interrupted=_in_home(record.interrupted, left),
    )


def _in_home(content: Content | None, place: Place) -> Content | None:
    return content if content is None or content.at is not None else evolve(content, at=place)


def called(record: AgentRecord, call: ControlCall) -> AgentRecord:
    """Write down a control call right after its spawn. Those of another boot are over."""
    others = tuple(other for other in record.calls if other.boot == call.boot)
    return evolve(record, calls=(call, *others)[:_CALLS_KEPT])


def calls_over(record: AgentRecord) -> AgentRecord:
    """What came of all control calls was seen."""
    return evolve(record, calls=tuple(evolve(call, over=True) for call in record.calls))


def calls_of_earlier_run(record: AgentRecord, boot: str) -> tuple[ControlCall, ...]:
    """The calls of which nobody saw what came of them, since their run was killed; the oldest first."""
    return tuple(call for call in reversed(record.calls) if not call.over and call.boot == boot)


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
    did not come up is taken back, a start for its own sake counts as a crash of what is in use. `going_back`: the plan
    was one of a held agent, and says nothing of what is wanted, but of the way back. `place`: the home that it was to
    move into, None for no move."""
    changes = any(isinstance(outcome.action, Switch) for outcome in outcomes)
    outcomes = tuple(outcome for outcome in outcomes if outcome.attempts)  # a busy home, a fault of ours says nothing
    failed = next((outcome for outcome in outcomes if outcome.result is Result.FAILED), None)
    switched = any(isinstance(o.action, Switch) and o.result is Result.DONE for o in outcomes)
    content = record.way_back if going_back else wanted
    record = _heard(record, outcomes)
    record = _count_start(record, outcomes, switched=switched, now=now)
    if switched and content is not None:
        record = evolve(record, failures=_without(record.failures, content, Verdict.NOT_REACHED, place))
    # A host that was short of processes or memory says nothing of what is new.
    if failed is None or isinstance(failed.action, Prune) or any(outcome.says_nothing for outcome in outcomes):
        return Settled(record=record)
    if isinstance(failed.action, Start):
        # Of a held agent too, where it is the start that an interrupted switch still owed.
        owed = record.confirmation is not None and record.confirmation.to.version == failed.action.version
        if owed and not (going_back and switched):
            taken = take_back(record, failed.reason, failed.error, now)
            if taken.record.way_back is None and record.crashes is None:
                # Nothing better is there: it is started again, but not at once, since that has just been tried.
                taken = evolve(taken, record=evolve(taken.record, crashes=Crashes(count=1, at=now)))
            return taken
        return Settled(record=record)
    if content is None or not changes:
        return Settled(record=record)  # a stop for its own sake is asked for again at each pass
    if _was_begun(record, content, outcomes):
        record = _dropped(record)
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
    return Settled(record=_with_failure(record, failure))


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


def remember_config(
    record: AgentRecord, desired: DesiredAgent, observed: ObservedAgent, found: ConfigMemory | None, *, edited: bool
) -> AgentRecord:
    """Take up what the remote config is now, once the version in use has it, or has a local edit in its place.

    A change that is still to be delivered is not taken up: it must differ again at the next pass.
    """
    if desired.run is not RunState.START or observed.active is None or observed.active.version != desired.version:
        return record
    if desired.config is None and record.config is None:
        return evolve(record, config=NO_CONFIG)
    if found is None:
        return record
    if edited or observed.active.tree.config == found.digest:
        return evolve(record, config=found)
    return record


def remember_use(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Keep the order in which versions were in use, the newest first, for retention."""
    if observed.active is None:
        return record
    version = observed.active.version
    if record.used[:1] == (version,):
        return record
    return evolve(record, used=(version, *(other for other in record.used if other != version))[:20])


def released(record: AgentRecord) -> AgentRecord:
    """An operator's release: pins, quarantine and delays end. A way back to another home tells where the agent may be,
    and stays."""
    back = record.fallback
    if back is not None and (back.at is None or back.at.same_spot(record.place)):
        back = None
    at_once = Awaited(content=None, since=0.0)
    return evolve(record, pin=None, failures=(), fallback=back, crashes=None, awaited=at_once)
