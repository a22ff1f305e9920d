"""A whole pass: assess, keep the answer, execute, observe again, record, report.

With assess.py the only file that knows a pass's order. Each agent's plan runs in a thread of its own, at most
`parallel` at once; the store is written by the pass's own thread alone, which takes the others' notes from a queue.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen
from loguru import logger

from probes.observe import home_of, observe_agent
from probes.observed import ObservedAgent, ObservedHost
from reconcile.act.executor import Retries, Watcher, execute
from reconcile.act.steps.lifecycle import trim_start_log
from reconcile.act.tools import Bounds, ControlLimits, Throttle, Tools
from reconcile.assess import (
    AgentView,
    Ask,
    Assessment,
    Surroundings,
    assess,
    config_condition,
    managed,
    narrowed,
    own_conditions,
    report,
    stored_condition,
    view_agent,
)
from reconcile.decide.actions import Action, Held, Outcome, Plan, Result
from reconcile.decide.conditions import Condition, derive, is_ready, with_since
from reconcile.decide.gate import Moment
from reconcile.decide.records import AgentRecord, OpenSwitch, record_for, remember_config, settle_switch
from reconcile.errors import ResponseInvalid, ServerUnreachable, WriteFailed
from reconcile.store import Store

T = TypeVar("T")


@frozen(kw_only=True)
class Workshop:
    """All that a pass may act with. `parallel`: agents changed at once. `begins`, `ended`: told of each action."""

    around: Surroundings
    store: Store
    cache: Path
    bounds: Bounds
    throttle: Throttle
    control: ControlLimits
    retries: Retries
    parallel: int
    ending: threading.Event
    begins: Callable[[AgentView, Action], None] = lambda view, action: None
    ended: Callable[[AgentView, Outcome], None] = lambda view, outcome: None


@frozen(kw_only=True)
class AgentResult:
    """What became of one agent in a pass. `view`: as it was assessed; `conditions`: after it was acted upon."""

    view: AgentView
    outcomes: tuple[Outcome, ...]
    observed: ObservedAgent
    conditions: tuple[Condition, ...]

    @property
    def acted(self) -> bool:
        return any(outcome.result is not Result.SKIPPED for outcome in self.outcomes)

    @property
    def ready(self) -> bool:
        return is_ready(self.conditions)


@frozen(kw_only=True)
class PassResult:
    """What came of a pass. `flipped`: the conditions that changed their status in it, with their agent's name (empty:
    of the updater itself)."""

    assessment: Assessment
    agents: tuple[AgentResult, ...]
    conditions: tuple[Condition, ...]
    flipped: tuple[tuple[str, Condition], ...] = ()

    @property
    def acted(self) -> bool:
        return any(agent.acted for agent in self.agents)

    @property
    def all_ready(self) -> bool:
        return not self.assessment.refused and all(agent.ready for agent in self.agents)


@frozen(kw_only=True)
class _Note:
    """An agent's thread asks for something to be written down, and waits for `written`: None, or why not."""

    name: str
    switch: OpenSwitch | None
    written: Future[None]


def run_pass(shop: Workshop, ask: Ask, *, wanted: Callable[[str], bool] = lambda name: True) -> PassResult:
    """Make one pass over the agents that are `wanted` by name. Raise NoDesiredState; nothing else that is expected."""
    state = shop.store.state
    before = {record.name: record for record in state.records}
    assessment = assess(shop.around, state, ask)
    assessment = narrowed(assessment, wanted)
    trouble = ""
    if not shop.around.operator_source:  # what an operator tried is no word of the server's to go by later
        trouble = _remember(shop.store, lambda: _keep_answer(shop.store, assessment))
    for view in assessment.agents:
        trim_start_log(home_of(view.observed.place))
    results, more_trouble = _act(shop, assessment)
    trouble = trouble or more_trouble
    records = [_record_after(result, shop.store.state.record(result.view.desired.name)) for result in results]
    records, results = _with_times(records, results, before, assessment.at)
    trouble = trouble or _remember(shop.store, lambda: shop.store.save(records))
    aside = "" if shop.store.set_aside is None else str(shop.store.set_aside)
    own = own_conditions(assessment, state, stored=stored_condition(trouble, aside))
    _remember(shop.store, lambda: shop.store.save_conditions(own))
    result = PassResult(
        assessment=assessment,
        agents=tuple(results),
        conditions=own,
        flipped=(*_flipped(results, before), *(("", c) for c in _changed(own, state.conditions))),
    )
    if result.acted and ask is Ask.EXCHANGE and assessment.failed is None:
        _report_at_once(shop, assessment.seen, results)
    return result


def _keep_answer(store: Store, assessment: Assessment) -> None:
    if assessment.fresh is not None:
        store.accept(assessment.fresh, assessment.at)


def _remember(store: Store, write: Callable[[], None]) -> str:
    """Write to memory; where that fails the pass goes on, since agents matter more. Return why it failed, or ''."""
    try:
        write()
    except WriteFailed as err:
        logger.warning("{}", err.message)
        return err.message
    return ""


def _act(shop: Workshop, assessment: Assessment) -> tuple[list[AgentResult], str]:
    """Carry out what is due, agents side by side; take their notes until the last has ended."""
    notes: queue.SimpleQueue[_Note | Future[AgentResult]] = queue.SimpleQueue()
    trouble = ""
    busy = [view for view in assessment.agents if view.due.actions]
    done: dict[str, AgentResult] = {}
    with ThreadPoolExecutor(max_workers=shop.parallel, thread_name_prefix="agent") as pool:
        for view in busy:
            pool.submit(_one_agent, shop, view, assessment, notes).add_done_callback(notes.put)
        while len(done) < len(busy):
            item = notes.get()
            if isinstance(item, _Note):
                trouble = _write_note(shop.store, item, assessment) or trouble
            else:
                result = item.result()
                done[result.view.desired.name] = result
    return [done.get(view.desired.name) or _untouched(view) for view in assessment.agents], trouble


def _write_note(store: Store, note: _Note, assessment: Assessment) -> str:
    desired = next(view.desired for view in assessment.agents if view.desired.name == note.name)
    record = evolve(record_for(desired, store.state.record(note.name)), open_switch=note.switch)
    try:
        store.save([record])
    except WriteFailed as err:
        note.written.set_exception(err)
        return err.message
    note.written.set_result(None)
    return ""


def _one_agent(
    shop: Workshop, view: AgentView, assessment: Assessment, notes: queue.SimpleQueue[_Note | Future[AgentResult]]
) -> AgentResult:
    """One agent's part of a pass, in a thread of its own."""

    def note(switch: OpenSwitch | None) -> None:
        asked = _Note(name=view.desired.name, switch=switch, written=Future())
        notes.put(asked)
        asked.written.result()

    with logger.contextualize(agent=view.desired.name):
        return guarded(
            lambda: _carry_out(shop, view, assessment, note), lambda err: _broken(view, f"unexpected: {err!r}")
        )


def guarded(work: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Do `work`; what it raises unexpectedly is logged with its traceback and becomes a value. One agent's trouble is
    its own, and a pass's trouble ends that pass alone."""
    try:
        return work()
    except Exception as err:
        logger.opt(exception=True).error("unexpected, please report it: {!r}", err)
        return otherwise(err)


def _broken(view: AgentView, error: str) -> AgentResult:
    """An agent whose part of the pass ended in an exception that nobody expected."""
    first = view.due.actions[0]
    failed = Outcome(action=first, result=Result.FAILED, reason="InternalError", error=error)
    conditions = derive(view.desired, view.observed, view.verdict, outcomes=(failed,))
    return AgentResult(view=view, outcomes=(failed,), observed=view.observed, conditions=conditions)


def _carry_out(
    shop: Workshop, view: AgentView, assessment: Assessment, note: Callable[[OpenSwitch | None], None]
) -> AgentResult:
    tools = _tools(shop, view, note)
    outcomes = _execute(shop, view, view.due, tools)
    observed = observe_agent(view.desired.place, shop.around.limits)
    if any(outcome.result is Result.FAILED for outcome in outcomes):
        # Once more round for this agent alone: whatever went wrong, what must run and can be started is started.
        after = view_agent(view.desired, observed, view.record, view.findings, _moment(assessment))
        tried = {type(outcome.action) for outcome in outcomes if outcome.result is Result.FAILED}
        if after.heal is not None and after.heal.actions and type(after.heal.actions[0]) not in tried:
            outcomes += _execute(shop, view, after.heal, tools)
            observed = observe_agent(view.desired.place, shop.around.limits)
    after = view_agent(view.desired, observed, view.record, view.findings, _moment(assessment))
    conditions = derive(view.desired, observed, after.verdict, outcomes=outcomes, config=config_condition(after))
    return AgentResult(view=view, outcomes=outcomes, observed=observed, conditions=conditions)


def _execute(shop: Workshop, view: AgentView, plan: Plan, tools: Tools) -> tuple[Outcome, ...]:
    watcher = Watcher(begins=lambda action: shop.begins(view, action), ended=lambda outcome: shop.ended(view, outcome))
    return execute(plan, tools, shop.retries, watcher)


def _moment(assessment: Assessment) -> Moment:
    why = "" if assessment.failed is None else assessment.failed.message
    return Moment(now=assessment.at, answered=assessment.answered, why_kept=why)


def _tools(shop: Workshop, view: AgentView, note: Callable[[OpenSwitch | None], None]) -> Tools:
    contents: Mapping[str, bytes] = {}
    if view.content is not None and view.findings.config is not None:
        contents = {view.findings.config.digest: view.content}
    return Tools(
        place=view.desired.place,
        http=shop.around.http,
        cache=shop.cache,
        bounds=shop.bounds,
        throttle=shop.throttle,
        control=shop.control,
        status=shop.around.limits,
        contents=contents,
        note=note,
        ending=shop.ending,
    )


def _untouched(view: AgentView) -> AgentResult:
    conditions = derive(view.desired, view.observed, view.verdict, config=config_condition(view))
    return AgentResult(view=view, outcomes=(), observed=view.observed, conditions=conditions)


def _record_after(result: AgentResult, record: AgentRecord | None) -> AgentRecord:
    """The record as this pass leaves it; of an agent that is held for its place, where it was managed is kept."""
    view = result.view
    if isinstance(view.verdict, Held) and view.verdict.reason in ("WorkDirChanged", "RunUserChanged"):
        assert record is not None
        return record
    kept = record_for(view.desired, record)
    kept = remember_config(kept, view.desired, result.observed, view.findings.config, edited=view.aim.edited)
    tried = tuple(outcome for outcome in result.outcomes if outcome.attempts)  # not what a busy home kept from us
    return settle_switch(kept, result.observed, tried)


def _with_times(
    records: list[AgentRecord], results: list[AgentResult], before: Mapping[str, AgentRecord], now: float
) -> tuple[list[AgentRecord], list[AgentResult]]:
    """Give the conditions their `since`, in the records and in what is told."""
    timed_records, timed_results = [], []
    for record, result in zip(records, results, strict=True):
        earlier = before.get(record.name)
        conditions = with_since(result.conditions, () if earlier is None else earlier.conditions, now)
        timed_records.append(evolve(record, conditions=conditions))
        timed_results.append(evolve(result, conditions=conditions))
    return timed_records, timed_results


def _changed(now: Iterable[Condition], before: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions whose status is another than before; those that are new count where they tell of trouble."""
    known = {condition.type: condition.status for condition in before}
    return tuple(c for c in now if known.get(c.type, "False" if c.type == "Held" else "True") != c.status)


def _flipped(results: Iterable[AgentResult], before: Mapping[str, AgentRecord]) -> list[tuple[str, Condition]]:
    return [
        (result.view.desired.name, condition)
        for result in results
        for condition in _changed(
            result.conditions,
            before[result.view.desired.name].conditions if result.view.desired.name in before else (),
        )
    ]


def _report_at_once(shop: Workshop, seen: ObservedHost, results: Iterable[AgentResult]) -> None:
    """Tell the server what changed; its answer is kept for the next pass. A failure here is not one of this pass."""
    around, state = shop.around, shop.store.state
    now = around.clock()
    acted = ObservedHost(at=now, agents=tuple(result.observed for result in results if result.acted))
    places = [agent.place for agent in managed(around.policy, state).agents if acted.find(agent.place) is None]
    others = evolve(seen, agents=tuple(agent for agent in map(seen.find, places) if agent is not None))
    try:
        answer = around.source.exchange(report(around.facts, state, acted, others))
    except (ServerUnreachable, ResponseInvalid) as err:
        logger.warning("the report after a change did not arrive: {}", err.message)
        return
    _remember(shop.store, lambda: shop.store.accept(answer, now))
