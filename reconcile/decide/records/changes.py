"""How the record of an agent changes: by what is asked, seen, done and released. Pure.

What an observation or the end of a plan changes of a pending upgrade is in decide/upgrade.
"""

from __future__ import annotations

from attrs import evolve

from probes.observed import PREVIOUS_CONFIG, Active, HomeRef, ObservedAgent, next_name, previous_name
from reconcile.decide.actions import Outcome, Prune, Result
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.records.content import NO_CONFIG, ConfigMemory, Content, is_surely
from reconcile.decide.records.record import AgentRecord, Awaited, ControlCall, Failure, FailureKind, UpgradePhase

_CALLS_AT_MOST = 6
_GOOD_AT_MOST = 5
_STOPPED_AT_MOST = 20


def heed(record: AgentRecord, desired: DesiredAgent, observed: ObservedAgent) -> AgentRecord:
    """Take up what is asked: a version that was asked to stop is not started again on the way to another one, until an
    answer says start at that very version, or an operator goes back to it."""
    named, stopped = observed.version_text, record.told_to_stop
    if desired.run is RunState.STOP and named:
        return record if named in stopped else evolve(record, told_to_stop=(named, *stopped)[:_STOPPED_AT_MOST])
    if desired.run is RunState.START:
        wanted = {desired.version, None if record.pin is None else record.pin.version}
        return evolve(record, told_to_stop=tuple(version for version in stopped if version not in wanted))
    return record


def record_for(home: HomeRef, record: AgentRecord | None) -> AgentRecord:
    """The record to write notes of this agent into: the one that is kept, or a new one. `home`: where it lives. Of a
    move that was begun the record names the new home, and goes on to do so until that is settled."""
    if record is None:
        return AgentRecord(name=home.name, work_dir=home.work_dir, run_user=home.run_user)
    return record if record.left is not None and record.left.same_home(home) else living(record, home)


def living(record: AgentRecord, home: HomeRef) -> AgentRecord:
    """The same agent, living in another home."""
    return evolve(record, work_dir=home.work_dir, run_user=home.run_user)


def with_good(record: AgentRecord, content: Content, former: Content | None = None) -> AgentRecord:
    """Remember that content became good. `former`: what ran before it, where nothing of that was known to be good: it
    was found here, running."""
    before = (record.good or former, *record.good_before)
    others = tuple(dict.fromkeys(one for one in before if one is not None and not one.same_tree(content)))
    return evolve(record, good=content, good_before=others[:_GOOD_AT_MOST])


def was_never_up(record: AgentRecord | None, active: Active) -> bool:
    """Whether what is in use was switched to by us, and not seen running since. In doubt it was."""
    if record is None:
        return False
    open_switch = record.confirmation
    waits = open_switch is not None and open_switch.stage is UpgradePhase.SWITCHING and not open_switch.came_up
    unseen = (record.never_up, open_switch.to if open_switch is not None and waits else None)
    return any(content is not None and is_surely(content, active) for content in unseen)


def with_failure(record: AgentRecord, failed: Failure) -> AgentRecord:
    """Remember that content failed, once more if it had before."""
    before = record.failure_of(failed.content, failed.verdict, failed.home)
    if before is not None:
        failed = evolve(failed, count=before.count + 1)
        same = failed.served is None or (before.served is not None and before.served.is_still(failed.served))
        if same:
            # Another failure in between (a server that is down) does not make the bytes be forgotten.
            failed = evolve(
                failed,
                served=before.served,
                downloads=before.downloads + failed.downloads,
                downloaded_at=max(before.downloaded_at, failed.downloaded_at),
            )
    others = without_failure(record.failures, failed.content, failed.verdict, failed.home)
    # The newest ten are enough: content that was given up by the server is not asked for again.
    return evolve(record, failures=(failed, *others)[:10])


def without_failure(
    failures: tuple[Failure, ...], content: Content, verdict: FailureKind, home: HomeRef | None
) -> tuple[Failure, ...]:
    """The failures but for those that say so of this content in this home; without a home, in any."""
    return tuple(f for f in failures if not f.is_of(content, verdict, home))


def called(record: AgentRecord, call: ControlCall) -> AgentRecord:
    """Write down a control call right after its spawn. Those of another boot are over."""
    others = tuple(other for other in record.calls if other.boot == call.boot)
    return evolve(record, calls=(call, *others)[:_CALLS_AT_MOST])


def call_over(record: AgentRecord, over: ControlCall) -> AgentRecord:
    """What came of one control call was seen."""
    return evolve(record, calls=tuple(evolve(call, over=True) if call == over else call for call in record.calls))


def calls_over(record: AgentRecord) -> AgentRecord:
    """What came of all control calls was seen."""
    return evolve(record, calls=tuple(evolve(call, over=True) for call in record.calls))


def calls_of_earlier_run(record: AgentRecord, boot: str) -> tuple[ControlCall, ...]:
    """The calls whose outcome was not seen, since their run was killed; the oldest first."""
    return tuple(call for call in reversed(record.calls) if not call.over and call.boot == boot)


def remember_config(
    record: AgentRecord, desired: DesiredAgent, observed: ObservedAgent, remote: ConfigMemory | None, *, edited: bool
) -> AgentRecord:
    """Take up what the remote config is now, once the version in use has it, or has a local edit in its place.

    A change that is still to be delivered is not taken up: it must differ again at the next pass. Nor is anything while
    a rule of this host bars the change: nothing was asked then.
    """
    record, active = _emptying_ended(record, remote), observed.active
    if desired.barred is not None or active is None or not desired.is_to_run(active.version):
        return record
    if desired.config is None and record.config is None:
        return evolve(record, config=NO_CONFIG)
    is_taken_up = remote is not None and (edited or active.tree.config == remote.digest)
    return evolve(record, config=remote) if is_taken_up else record


def _emptying_ended(record: AgentRecord, remote: ConfigMemory | None) -> AgentRecord:
    return record if remote is None or remote.is_empty else evolve(record, empty_released=False)


def remember_use(record: AgentRecord, observed: ObservedAgent) -> AgentRecord:
    """Keep the order in which versions were in use, the newest first, for retention."""
    if observed.active is None:
        return record
    version = observed.active.version
    if record.used[:1] == (version,):
        return record
    return evolve(record, used=(version, *(other for other in record.used if other != version))[:20])


def remember_stuck(record: AgentRecord, observed: ObservedAgent, outcomes: tuple[Outcome, ...]) -> AgentRecord:
    """Take up what could not be removed, and forget what is there no more. A tree that goes has a leftover's name by
    then, so of a home in which a removal has just failed all leftovers are such."""
    if observed.blocked_by:
        return record
    there = observed.leftovers | {tree.version for tree in observed.staged}
    there |= {next_name(tree.version) for tree in observed.next}
    there |= {previous_name(tree.version) for tree in observed.previous}
    there |= {PREVIOUS_CONFIG} if observed.previous_config is not None else set()
    stuck = record.stuck
    for outcome in outcomes:
        if isinstance(outcome.action, Prune) and outcome.result is Result.FAILED:
            stuck |= observed.leftovers.union(outcome.action.names)
    return evolve(record, stuck=stuck & there)


def released(record: AgentRecord) -> AgentRecord:
    """An operator's release: pins, quarantine and delays end, and what could not be removed is tried again. A way back
    to another home tells where the agent may be, and stays."""
    back = record.fallback
    if back is not None and (back.at is None or back.at.same_home(record.home)):
        back = None
    at_once = Awaited(content=None, since=0.0)
    # Only what is held for being empty now: a release for another cause must not let a later upload pass.
    empty = record.remote_config is not None and record.remote_config.is_empty
    record = evolve(record, empty_released=record.empty_released or empty)
    return evolve(record, pin=None, failures=(), fallback=back, crashes=None, stuck=frozenset(), awaited=at_once)
