"""What is remembered of an agent between passes, and what a pass makes of it. Pure; kept by reconcile/store.py.

Memory never decides what is on disk: it holds what the disk can't tell. Which content was good, which failed and how
often, and a switch whose end is still to be seen. There is no undo here: what failed is remembered, and aim.py then
names other content.
"""

from __future__ import annotations

from enum import Enum

from attrs import evolve, frozen

from probes.observed import Active, ObservedAgent, ProcessState
from reconcile.decide.actions import Configure, Outcome, Prune, Result, Start, Stop, Switch
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import DesiredAgent, RunState

# The rules of retrying (house.md, section 2). Seconds.
BEFORE_SWITCH_DELAYS = (60.0, 300.0, 900.0, 3600.0)
CRASH_FIRST_DELAY, CRASH_LONGEST_DELAY = 10.0, 300.0
CRASHES_FORGOTTEN_AFTER = 600.0
TRIES_WITHOUT_VERDICT = 3


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


@frozen(kw_only=True)
class Content:
    """What an agent can be made of: a version, the tarball's digests and the config's, as far as they are known."""

    version: str
    digests: frozenset[str] = frozenset()
    config: str | None = None

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


class Verdict(Enum):
    """What a failure says about its content: NOT_REACHED, the old one still is in use; ROLLED_BACK, it was tried."""

    NOT_REACHED = "not reached"
    ROLLED_BACK = "rolled back"


@frozen(kw_only=True)
class Failure:
    """Content that failed. `count`: times in a row. `at`: Unix seconds of the last. `digest_url`: where its digest came
    from, if from a file: it need not be asked again at each pass."""

    content: Content
    verdict: Verdict
    reason: str
    message: str
    at: float
    count: int = 1
    digest_url: str | None = None

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
    when it was last tried; `tries`: how many boots saw it begin without a verdict."""

    to: Content
    before: Content | None
    stage: Stage = Stage.SWITCHING
    at: float
    deadline: float | None = None
    boot: str = ""
    tries: int = 1

    def remaining(self, now: float, watch: float) -> float:
        """Seconds of the watch that are left, never more than its span."""
        return watch if self.deadline is None else min(self.deadline - now, watch)


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
class AgentRecord:
    """`work_dir`, `run_user`: where it was managed last. An agent without a record is one that we never managed, or
    of which our memory was lost. `config` None: nothing is known of it yet, since it could not be asked for.
    `remote_config`: as the server had it when it was asked last, delivered or not. `good`:
    what last became good. `fallback`: where to go back to while what is wanted is quarantined. `used`: versions by
    their last use, the newest first."""

    name: str
    work_dir: str
    run_user: str
    config: ConfigMemory | None = None
    remote_config: ConfigMemory | None = None
    confirmation: Confirmation | None = None
    good: Content | None = None
    fallback: Content | None = None
    failures: tuple[Failure, ...] = ()
    crashes: Crashes | None = None
    pin: Pin | None = None
    used: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def failure_of(self, content: Content) -> Failure | None:
        return next((failure for failure in self.failures if failure.content.matches(content)), None)


def record_for(desired: DesiredAgent, record: AgentRecord | None) -> AgentRecord:
    """The record to write notes of this agent into: the one that is kept, or a new one at its place."""
    if record is not None:
        return evolve(record, work_dir=desired.work_dir, run_user=desired.run_user)
    return AgentRecord(name=desired.name, work_dir=desired.work_dir, run_user=desired.run_user)


# --- what a look at the agent makes of it ---


@frozen(kw_only=True)
class Settled:
    """A record after a look. `news`: what became of a switch, for history; empty: nothing new."""

    record: AgentRecord
    news: str = ""


def settle(record: AgentRecord, observed: ObservedAgent, *, now: float, watch: float, boot: str) -> Settled:
    """Go on where a switch of an earlier run stands, as the disk and the agent show it now."""
    active = observed.active
    record = _forget_crashes(record, active, now)
    open_switch = record.confirmation
    if open_switch is None:
        return Settled(record=record)
    if active is None or not _is_in_use(open_switch, active):
        return Settled(record=evolve(record, confirmation=None))  # it never came to the switch
    if open_switch.stage is Stage.SWITCHING:
        if active.process.is_running:
            watching = evolve(open_switch, stage=Stage.WATCHING, deadline=now + watch)
            return Settled(record=evolve(record, confirmation=watching))
        return _count_boot(record, open_switch, now, boot)
    over = open_switch.remaining(now, watch) <= 0
    if active.process.is_running:
        return _became_good(record, open_switch) if over else Settled(record=record)
    if active.process is ProcessState.STOPPED or over:
        said = active.said or "nothing"
        return take_back(record, "StartFailed", f"{active.version} did not stay up: its status says {said}", now)
    return Settled(record=record)


def _is_in_use(open_switch: Confirmation, active: Active) -> bool:
    """Whether the switch was made. Its config tells that only until it was seen up: later a person may edit it."""
    in_use = content_in_use(active)
    return in_use.same_tree(open_switch.to) if open_switch.stage is Stage.WATCHING else in_use.matches(open_switch.to)


def _forget_crashes(record: AgentRecord, active: Active | None, now: float) -> AgentRecord:
    crashes = record.crashes
    if crashes is None or active is None or not active.process.is_running:
        return record
    well_for = now - min(crashes.at, now)
    return evolve(record, crashes=None) if well_for >= CRASHES_FORGOTTEN_AFTER else record


def _count_boot(record: AgentRecord, open_switch: Confirmation, now: float, boot: str) -> Settled:
    """A version that takes the host down must not do so for ever: three boots without a verdict are one."""
    if boot == open_switch.boot:
        return Settled(record=record)
    if open_switch.tries >= TRIES_WITHOUT_VERDICT:
        message = f"{open_switch.to.version}: {open_switch.tries} times the host went down before it came up"
        return take_back(record, "StartFailed", message, now)
    return Settled(record=evolve(record, confirmation=evolve(open_switch, boot=boot, tries=open_switch.tries + 1)))


def _became_good(record: AgentRecord, open_switch: Confirmation) -> Settled:
    kept = tuple(failure for failure in record.failures if not failure.content.matches(open_switch.to))
    record = evolve(record, confirmation=None, good=open_switch.to, fallback=None, failures=kept, crashes=None)
    return Settled(record=record, news=f"{open_switch.to.version} is good: it stayed up for the watch")


def take_back(record: AgentRecord, reason: str, message: str, now: float) -> Settled:
    """Remember that the content of an open switch failed, and where to go back to: what was in use and running when
    its replacement began, else what last became good. Where there is neither, it is only started again."""
    open_switch = record.confirmation
    assert open_switch is not None
    back = open_switch.before or record.good
    if back is None or back.matches(open_switch.to):
        return Settled(record=evolve(record, confirmation=None), news=f"{message}; there is nothing to go back to")
    failed = Failure(content=open_switch.to, verdict=Verdict.ROLLED_BACK, reason=reason, message=message, at=now)
    record = evolve(_with_failure(record, failed), confirmation=None, fallback=back, crashes=None)
    return Settled(record=record, news=f"{message}; back to {back.version}")


def _with_failure(record: AgentRecord, failed: Failure) -> AgentRecord:
    before = record.failure_of(failed.content)
    count = before.count + 1 if before is not None and before.verdict is failed.verdict else 1
    others = tuple(failure for failure in record.failures if not failure.content.matches(failed.content))
    # The newest ten are enough: content that was given up by the server is not asked for again.
    return evolve(record, failures=(evolve(failed, count=count), *others)[:10])


# --- what a plan's outcomes make of it ---


def began(record: AgentRecord, to: Content, active: Active | None, *, now: float, boot: str) -> AgentRecord:
    """Write down a switch before it is tried."""
    running = active is not None and active.process.is_running
    before = content_in_use(active) if running and active is not None else None
    known = record.confirmation
    tries = known.tries if known is not None and known.to.matches(to) else 1
    return evolve(record, confirmation=Confirmation(to=to, before=before, at=now, boot=boot, tries=tries))


def came_up(record: AgentRecord, *, now: float, watch: float) -> AgentRecord:
    """The new content said started: the watch begins."""
    if record.confirmation is None:
        return record
    return evolve(record, confirmation=evolve(record.confirmation, stage=Stage.WATCHING, deadline=now + watch))


def after_plan(
    record: AgentRecord,
    wanted: Content,
    outcomes: tuple[Outcome, ...],
    *,
    now: float,
    digest_url: str | None,
    going_back: bool,
) -> Settled:
    """Take up what came of a plan: what failed before the switch is held back for a while, what was switched to and
    did not come up is taken back, a start for its own sake counts as a crash of what is in use. `going_back`: the plan
    was one of a held agent, and says nothing of what is wanted."""
    outcomes = tuple(
        outcome for outcome in outcomes if outcome.attempts
    )  # a busy home, or a fault of ours, says nothing
    failed = next((outcome for outcome in outcomes if outcome.result is Result.FAILED), None)
    switched = any(isinstance(o.action, Switch) and o.result is Result.DONE for o in outcomes)
    record = _count_start(record, outcomes, switched=switched, now=now)
    if failed is None:
        kept = record.failures
        if switched:
            kept = tuple(f for f in kept if f.verdict is Verdict.ROLLED_BACK or not f.content.matches(wanted))
        return Settled(record=evolve(record, failures=kept))
    if isinstance(failed.action, Start):
        if record.confirmation is not None and not going_back:
            return take_back(record, failed.reason, failed.error, now)
        return Settled(record=record)
    if isinstance(failed.action, Stop) and not any(isinstance(o.action, Switch | Configure) for o in outcomes):
        return Settled(record=record)  # a stop for its own sake is asked for again at each pass
    if going_back or isinstance(failed.action, Prune):
        return Settled(record=record)
    failure = Failure(
        content=wanted,
        verdict=Verdict.NOT_REACHED,
        reason=failed.reason,
        message=failed.error,
        at=now,
        digest_url=digest_url,
    )
    return Settled(record=evolve(_with_failure(record, failure), confirmation=None))


def _count_start(record: AgentRecord, outcomes: tuple[Outcome, ...], *, switched: bool, now: float) -> AgentRecord:
    """Count a start that no switch asked for, or that failed with nothing to go back to."""
    starts = [o for o in outcomes if isinstance(o.action, Start) and o.result is not Result.SKIPPED]
    if not starts or switched:
        return record
    count = 0 if record.crashes is None else record.crashes.count
    return evolve(record, crashes=Crashes(count=count + 1, at=now))


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
    """An operator's release: pins, quarantine and delays end."""
    return evolve(record, pin=None, failures=(), fallback=None, crashes=None)
