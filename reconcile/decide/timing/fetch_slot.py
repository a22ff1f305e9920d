"""When a host may fetch, so that a fleet does not download a new version at once (`fetch_splay`, docs/adr/0035). Pure.

A host's turn is its slot within that span, on the wall clock: no host knows of another, and each can tell when it will
fetch. What is noted is only since when the fetch has waited for nothing else.
"""

from __future__ import annotations

from attrs import evolve

from probes.values import frozen
from reconcile.decide.actions import Fetch, Held, Outcome, Plan, Result
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, Awaited, LateFetch
from reconcile.decide.timing.schedule import next_slot


@frozen(kw_only=True)
class Splay:
    """`span`: seconds over which a fleet's fetches are spread. `slot`: this host's second within it."""

    span: float
    slot: float

    def due_at(self, since: float, now: float) -> float:
        """The first turn after `since`, as Unix seconds. A clock set back can't stretch it beyond a span."""
        return next_slot(min(since, now), self.span, self.slot)


def awaited_by(plan: Plan, wanted: Content, record: AgentRecord | None, now: float) -> Awaited | None:
    """The fetch of this plan, and since when it waits; None: there is none."""
    if not plan.fetches:
        return None
    before = None if record is None else record.awaited
    if before is None or not (before.content is None or before.content.same_tree(wanted)):
        return Awaited(content=wanted, since=now)
    return evolve(before, content=wanted)


def fetch_time(awaited: Awaited | None, splay: Splay | None, now: float) -> float | None:
    """When a fetch has its turn, as Unix seconds; None: now."""
    if awaited is None or splay is None:
        return None
    due = splay.due_at(awaited.since, now)
    return due if due > now else None


def waits_for_its_slot(record: AgentRecord, wanted: Content, splay: Splay | None, now: float) -> bool:
    """Whether a fetch of this content is known to wait: so no server need be asked about it at each pass."""
    awaited = record.awaited
    same = awaited is not None and awaited.content is not None and awaited.content.same_tree(wanted)
    return same and fetch_time(awaited, splay, now) is not None


def noted(awaited: Awaited | None, verdict: Plan | Held) -> Awaited | None:
    """What to remember of a fetch: it waits for its turn as long as nothing else holds it. After a hold, an outage or a
    rule, which end for many hosts at the same time, it has to wait for the next one."""
    waits_alone = isinstance(verdict, Plan) or verdict.reason == "BackingOff"
    return awaited if waits_alone else None


def allowed_s(record: AgentRecord | None, budget_s: float, *, resumed: bool) -> float:
    """Return how many seconds a run waits for a download: at each further run twice, for what can't be resumed."""
    late = None if record is None else record.late_fetch
    return budget_s if late is None or resumed else budget_s * 2.0 ** min(late.runs, 20)


def after_fetch(
    record: AgentRecord, wanted: Content, outcomes: tuple[Outcome, ...], *, time_was_up: bool
) -> tuple[AgentRecord, str]:
    """Remember whether a download goes on in the next run; and the news, when that begins and when it ends."""
    runs = _late_runs(record, wanted)
    fetched = next((outcome.result for outcome in outcomes if isinstance(outcome.action, Fetch)), Result.SKIPPED)
    if time_was_up and fetched is Result.SKIPPED:
        news = f"the download of {wanted.version} is not done by now; what arrived is kept for the next run"
        return evolve(record, late_fetch=LateFetch(content=wanted, runs=runs + 1)), "" if runs else news
    if record.late_fetch is None or (runs and fetched in (Result.SKIPPED, Result.FAILED)):
        return record, ""
    return evolve(record, late_fetch=None), _news_of_late(wanted, runs)


def _news_of_late(wanted: Content, runs: int) -> str:
    if not runs:
        return ""
    return f"the download of {wanted.version} is done, {'one run' if runs == 1 else f'{runs} runs'} later"


def _late_runs(record: AgentRecord, wanted: Content) -> int:
    """Count the runs in a row in which this download was not done."""
    late = record.late_fetch
    return late.runs if late is not None and late.content.same_tree(wanted) else 0
