"""An agent with an upgrade is observed: the case that this is, and what becomes of it."""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, Evidence, ObservedAgent, Origin, ProcessState
from probes.values import frozen
from reconcile.decide.records.changes import remember_stuck, with_good
from reconcile.decide.records.content import content_in_use
from reconcile.decide.records.record import (
    CRASHES_FORGOTTEN_AFTER,
    LONG_AFTER_WATCH,
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    FailureKind,
    PendingUpgrade,
    UpgradePhase,
)
from reconcile.decide.upgrade.events import Observed, StartConfirmed
from reconcile.decide.upgrade.steps import Advanced, arrived, confirm_start, dropped, take_back


@frozen(kw_only=True)
class Observation:
    """A record, and what is seen of its agent."""

    record: AgentRecord
    observed: ObservedAgent
    now: float
    watch: float
    boot: str

    @property
    def pending(self) -> PendingUpgrade:
        assert self.record.confirmation is not None
        return self.record.confirmation

    @property
    def active(self) -> Active:
        assert self.observed.active is not None
        return self.observed.active

    @property
    def is_over(self) -> bool:
        return self.pending.remaining(self.now, self.watch) <= 0

    def is_hidden(self) -> bool:
        pending, observed = self.pending, self.observed
        if pending.left is not None:  # it still has a `.version`, unless it can't be read
            return observed.version_text is None and bool(observed.blocked_by) and observed.evidence is Evidence.UNSEEN
        return observed.active is None and (bool(observed.blocked_by) or observed.version_text == pending.to.version)

    def is_not_made(self) -> bool:
        return not _is_made(self.pending, self.observed)

    def is_after_a_boot(self) -> bool:
        is_watched, process = self.pending.stage is UpgradePhase.WATCHING, self.active.process
        waits = is_watched and process is ProcessState.UNKNOWN and not self.is_over
        return self.boot != self.pending.boot and not waits

    def has_used_its_boots(self) -> bool:
        return self.is_after_a_boot() and self.pending.tries >= TRIES_WITHOUT_VERDICT

    def runs(self) -> bool:
        return self.active.process.is_running

    def is_good(self) -> bool:
        return self.runs() and self.is_over

    def ended_unseen(self) -> bool:
        long_ago = self.pending.remaining(self.now, self.watch) <= -LONG_AFTER_WATCH
        return self.active.process is ProcessState.STOPPED and long_ago and not self.pending.again

    def has_failed(self) -> bool:
        return self.active.process is ProcessState.STOPPED or self.is_over


def observation_of(record: AgentRecord, event: Observed) -> Observation:
    """The case of an agent that is observed, with a record that says nothing any more that is over."""
    observed, now, watch = event.observed, event.now, event.watch
    record = _forget(_anchored(record, now, watch), observed.active, now)
    record = remember_stuck(arrived(record, observed), observed, ())
    return Observation(record=record, observed=observed, now=now, watch=watch, boot=event.boot)


def _is_made(pending: PendingUpgrade, observed: ObservedAgent) -> bool:
    """Whether the disk shows the switch as made. Its config tells that only until it was seen running: later a person
    may edit it."""
    if observed.active is None or pending.left is not None:
        return False
    in_use = content_in_use(observed.active)
    return in_use.same_tree(pending.to) if pending.stage is UpgradePhase.WATCHING else in_use.matches(pending.to)


def was_made(record: AgentRecord, observed: ObservedAgent) -> bool:
    """Whether the disk shows the pending upgrade as made, whatever its step said: the fsync after it may have
    failed."""
    pending = arrived(record, observed).confirmation
    return pending is not None and _is_made(pending, observed)


def _anchored(record: AgentRecord, now: float, watch: float) -> AgentRecord:
    """Let nothing lie in the future: after a clock was set back, a wait begins again once, and not at each pass."""
    pending, crashes = record.confirmation, record.crashes
    if pending is not None and pending.deadline is not None and pending.deadline > now + watch:
        pending = evolve(pending, deadline=now + watch)
    if crashes is not None and crashes.at > now:
        crashes = evolve(crashes, at=now)
    failures = tuple(
        evolve(failure, at=min(failure.at, now), downloaded_at=min(failure.downloaded_at, now))
        for failure in record.failures
    )
    return evolve(record, confirmation=pending, crashes=crashes, failures=failures)


def _forget(record: AgentRecord, active: Active | None, now: float) -> AgentRecord:
    """What is over once the agent is seen running: an interrupted switch at once, crashes when it was well for long."""
    if active is None or not active.process.is_running:
        return record
    crashes = record.crashes
    well = crashes is None or now - crashes.at >= CRASHES_FORGOTTEN_AFTER
    return evolve(record, interrupted=None, crashes=None if well else crashes)


def not_made(case: Observation) -> Advanced:
    """What ran before it is the way back all the same once it is tried again."""
    active = case.observed.active
    running = active is not None and active.process.is_running
    return Advanced(record=evolve(dropped(case.record), interrupted=None if running else case.pending.before))


def after_boot(case: Observation) -> Observation:
    """The case once the boot is counted."""
    pending = case.pending
    tried = evolve(pending, stage=UpgradePhase.SWITCHING, deadline=None, boot=case.boot, tries=pending.tries + 1)
    return evolve(case, record=evolve(case.record, confirmation=tried))


def take_back_after_boots(case: Observation) -> Advanced:
    pending = case.pending
    message = f"{pending.to.version}: {pending.tries} times the host went down before it came up"
    return take_back(case.record, "StartFailed", message, case.now)


def begin_watch(case: Observation) -> Advanced:
    return Advanced(record=confirm_start(case.record, StartConfirmed(now=case.now, watch=case.watch)))


def became_good(case: Observation) -> Advanced:
    pending, record = case.pending, case.record
    other_failures = tuple(f for f in record.failures if not f.is_of(pending.to, f.verdict, record.home))
    record = with_good(record, pending.to, pending.before)
    record = evolve(record, confirmation=None, fallback=None, failures=other_failures, crashes=None, told_to_stop=())
    return Advanced(record=record, news=f"{pending.to.version} is good: it kept running through its watch")


def watch_once_more(case: Observation) -> Advanced:
    """If it doesn't start it is rolled back in this very pass, and if it ends within that watch, then."""
    once_more = evolve(case.pending, stage=UpgradePhase.SWITCHING, deadline=None, again=True)
    version = case.active.version
    news = f"{version} ended at an unknown time, long after its start: it is started and watched again"
    return Advanced(record=evolve(case.record, confirmation=once_more), news=news)


def take_back_seen(case: Observation) -> Advanced:
    active = case.active
    message = f"{active.version} did not keep running: its status says {active.status_output or 'nothing'}"
    return take_back(case.record, "StartFailed", message, case.now)


def trust(advanced: Advanced, observed: ObservedAgent) -> Advanced:
    """What was found running when we came, or after memory was lost, is as good as anything that is known; it must be
    marked, since only then it can be gone back to."""
    record, active = advanced.record, observed.active
    if record.confirmation is not None or record.good is not None or active is None or not active.process.is_running:
        return advanced
    in_use = content_in_use(active)
    failed = record.failure_of(in_use, FailureKind.ROLLED_BACK, observed.home) is not None
    if failed or active.tree.origin is Origin.FOREIGN:
        return advanced
    return evolve(advanced, record=evolve(record, good=in_use))
