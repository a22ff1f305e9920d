"""What a pass and its plans leave in memory: records, history, and the conditions that changed.

Whichever pass a plan is of, and whether it outlasts that, its result is recorded here when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve

from probes.values import frozen
from reconcile.assess.pass_context import Assessment, HostContext
from reconcile.decide.actions import Held, Result
from reconcile.decide.admission import SERVER
from reconcile.decide.conditions import FALSE, TRUE, Condition, since_actions, with_since
from reconcile.decide.desired import Refusal, refused_since
from reconcile.decide.evaluate import conditions_of
from reconcile.decide.records.changes import remember_config, remember_use
from reconcile.decide.records.record import AgentRecord, FailureKind, PendingUpgrade, UpgradePhase
from reconcile.engine.results import AgentResult, ExecutedPlan
from reconcile.errors import WriteFailed
from reconcile.source import Answer, Entry
from reconcile.storage.codec import HistoryEvent
from reconcile.storage.store import Store, StoredState


def keep_answer(host: HostContext, store: Store, answer: Answer, at: float, last_entries: Iterable[Entry]) -> None:
    """Keep an answer, and the serial of its signature. Raise WriteFailed."""
    if host.serials is None:
        store.accept(answer, at, last_entries)
        return
    host.serials.learn([] if answer.signature is None else [answer.signature])
    store.accept(answer, at, last_entries, host.serials.accepted)


def keep_serials(host: HostContext) -> str:
    """Keep the serials beside the memory, too; return why that failed, or ''. Nothing else is kept back for it."""
    try:
        if host.serials is not None:
            host.serials.keep()
    except (WriteFailed, OSError) as err:
        return str(err)
    return ""


def timed(result: AgentResult) -> AgentResult:
    """A result that says since when each condition is so, and which of them changed."""
    known = result.view.record
    before = () if known is None else known.conditions
    seen = with_since(conditions_of(result.view), before, result.at)
    conditions = since_actions(result.conditions, seen, result.outcomes, result.at)
    return evolve(result, conditions=conditions, transitions=changed(conditions, before))


def as_recorded(result: AgentResult) -> AgentResult:
    """A result with its times, and with the record as it is to be kept."""
    result = timed(result)
    return evolve(result, record=_record_after(result))


def record(store: Store, results: Iterable[AgentResult], refusals: Refusals | None = None) -> None:
    """Keep each agent's record, and in history what was done. Raise WriteFailed."""
    found = list(results)
    events = [event for result in found for event in _events(result)]
    events += [] if refusals is None else refusals.events
    # Agents go side by side, so the times of one lie among another's; the sort keeps each agent's own order.
    events.sort(key=lambda event: event.at)
    store.save((result.record for result in found if result.record is not None), events)
    if refusals is not None and refusals.remembered is not None:
        store.save_refused(refusals.remembered)


def _record_after(result: AgentResult) -> AgentRecord | None:
    """The record to store. An agent that could not even be observed keeps the one that it has, and is reported once."""
    view, record = result.view, result.record
    if view.broken is not None and view.record is not None:
        return evolve(view.record, conditions=result.conditions)
    if record is None or view.broken is not None:
        return None
    remote = view.remote
    record = remember_config(record, view.desired, result.observed, remote.config, edited=view.target.edited)
    return evolve(
        remember_use(record, result.observed),
        conditions=result.conditions,
        remote_config=remote.config if remote.config is not None else record.remote_config,
        digest_file=remote.digest_file if remote.digest_file is not None else record.digest_file,
    )


def _events(result: AgentResult) -> list[HistoryEvent]:
    """What is kept in history of an agent's part of a pass, in the order of their times."""
    if result.goes_on:
        return []
    view = result.view
    done = (
        _event_of(result, one)
        for one in result.executed
        if any(outcome.result is not Result.SKIPPED for outcome in one.outcomes)
    )
    before = (*_news_of_switches(result, result.at, [view.news]), *_news_of_operators(result))
    ended = next((o.ended_at for o in reversed(result.outcomes) if o.at), result.at)
    return [*before, *done, *_news_of_switches(result, ended, (news for news in result.news if news != view.news))]


def _event_of(result: AgentResult, one: ExecutedPlan) -> HistoryEvent:
    return HistoryEvent(
        name=result.name,
        at=one.at or result.at,
        by=one.by,
        reason=one.reason,
        message=one.plan.message,
        outcomes=one.outcomes,
    )


def _news_of_switches(result: AgentResult, at: float, messages: Iterable[str]) -> Iterable[HistoryEvent]:
    return (_news(result.name, at, message, by=_by(result, message)) for message in messages if message)


def _news_of_operators(result: AgentResult) -> Iterable[HistoryEvent]:
    """What operators asked for since the last pass: a release, a hold, a pin to what is in use."""
    name, at, record = result.name, result.at, result.after.record
    releaser, hold, verdict = result.view.released_by, result.after.hold, result.after.verdict
    if releaser is not None:
        message = f"released by {releaser}: holds, pins, quarantine and delays have ended"
        yield _news(name, at, message, by=f"operator:{releaser}")
    if not isinstance(verdict, Held) or _was_held(result.view.record, verdict.reason):
        return
    if verdict.reason == "HeldByOperator" and hold is not None:
        yield _news(name, at, f"held by {verdict.message}", by=f"operator:{hold.owner}")
    if verdict.reason == "Pinned" and record is not None and record.pin is not None and not result.executed:
        yield _news(name, at, verdict.message, by=f"operator:{record.pin.owner}")


def _by(result: AgentResult, message: str) -> str:
    """On whose word there is news of a change: of who asked for it, or none but ours, who rolled it back."""
    failures = () if result.after.record is None else result.after.record.failures
    rolled_back = any(f.verdict is FailureKind.ROLLED_BACK and message.startswith(f.message) for f in failures)
    return "rollback" if rolled_back else result.view.asked_by


def _was_held(record: AgentRecord | None, reason: str) -> bool:
    conditions = () if record is None else record.conditions
    return any(c.type == "Held" and c.status == TRUE and c.reason == reason for c in conditions)


def _news(name: str, at: float, message: str, *, by: str) -> HistoryEvent:
    return HistoryEvent(name=name, at=at, by=by, reason="News", message=message)


# Entries that are refused


@frozen(kw_only=True)
class Refusals:
    """What changed about entries that are refused, `at` Unix seconds. `remembered`: all that are by now; None: as they
    were."""

    at: float
    new: tuple[Refusal, ...] = ()
    no_more: tuple[str, ...] = ()
    remembered: tuple[Refusal, ...] | None = None

    @property
    def events(self) -> list[HistoryEvent]:
        if self.remembered is None:
            return []
        new = [_news(entry.name, self.at, entry.summary, by=SERVER) for entry in self.new]
        return new + [_news(name, self.at, "no longer refused", by=SERVER) for name in self.no_more]


def refusals_of(
    found: Assessment, state: StoredState, wanted: Callable[[str], bool], *, operator_source: bool
) -> Refusals:
    """Compare what is refused with what was. What an operator's own file names is not remembered, nor compared."""
    if operator_source:
        return Refusals(at=found.at, new=found.refused)
    before = tuple(entry for entry in state.refused if wanted(entry.name))
    others = tuple(entry for entry in state.refused if not wanted(entry.name))
    new, no_more = refused_since(before, found.refused)
    return Refusals(at=found.at, new=new, no_more=no_more, remembered=(*others, *found.refused))


# What changed, and when the next change is expected


def transitions_of(results: Iterable[AgentResult], before: StoredState) -> Iterable[tuple[str, Condition]]:
    """The conditions of agents that changed their status in a pass. Of one whose plan goes on, its end tells."""
    for result in results:
        if not result.goes_on:
            known = before.record(result.name)
            conditions = changed(result.conditions, () if known is None else known.conditions)
            yield from ((result.name, condition) for condition in conditions)


def changed(now: Iterable[Condition], before: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions whose status is another than before; those that are new count where they tell of trouble. What is
    not as desired for another cause, or where something else is wanted, counts as well: `apply --once` reports it."""
    known = {condition.type: condition for condition in before}
    usual = {"Held": "False", "Quarantined": "False"}

    def is_changed(condition: Condition) -> bool:
        earlier = known.get(condition.type)
        if earlier is None:
            return condition.status != usual.get(condition.type, TRUE)
        return condition.status != earlier.status or _is_for_another_cause(condition, earlier)

    return tuple(filter(is_changed, now))


def _is_for_another_cause(now: Condition, before: Condition) -> bool:
    """Whether an agent that still isn't as desired is so for another cause. A delay between two tries is none, nor is
    what a failure that was reported leads to."""
    if now.type == "Installed":
        return now.status == FALSE and now.message != before.message  # it names what is wanted
    goes_on = now.reason in ("BackingOff", "Quarantined") or before.reason == "BackingOff"
    return now.type == "Ready" and now.status != TRUE and now.reason != before.reason and not goes_on


def wake_times(result: AgentResult, now: float, watch: float) -> Iterable[float]:
    """When this agent is to be observed again before the next slot, as Unix seconds."""
    record, verdict = result.record, result.after.verdict
    if isinstance(verdict, Held) and verdict.until is not None:
        yield max(now, verdict.until)
    if record is None:
        return
    if record.start_again_at(now) > now and not result.runs:
        yield record.start_again_at(now)  # one whose time has come was held for another reason
    pending = record.confirmation
    if pending is not None and _is_watched(result, pending):
        yield now + max(0.0, pending.remaining(now, watch))


def _is_watched(result: AgentResult, pending: PendingUpgrade) -> bool:
    is_confirming = result.after.confirming and result.observed.active is not None
    return is_confirming and (pending.stage is UpgradePhase.WATCHING or result.runs)
