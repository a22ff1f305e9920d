"""A whole pass: assess, keep the answer, execute, observe again, record, report.

With assess.py the only file that knows a pass's order. Each agent's plan runs in a thread of its own, at most
`parallel` at once; the store is written by the pass's own thread alone, which takes the others' notes from a queue.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen
from loguru import logger

from probes.observe import home_of
from probes.observed import ObservedHost
from reconcile.act.steps.lifecycle import trim_start_log
from reconcile.assess import (
    AgentView,
    Ask,
    Assessment,
    Surroundings,
    assess,
    conditions_of,
    managed,
    narrowed,
    own_conditions,
    report,
    stored_condition,
)
from reconcile.carry_out import AgentResult, Executed, Means, carry_out
from reconcile.decide.actions import Held, Outcome, Result
from reconcile.decide.conditions import FALSE, Condition, with_since
from reconcile.decide.gate import Moment
from reconcile.decide.hold import Requests
from reconcile.decide.records import AgentRecord, Pin, Stage, record_for, released, remember_config, remember_use
from reconcile.errors import ResponseInvalid, ServerUnreachable, WriteFailed
from reconcile.holds import read_requests, take_up
from reconcile.kept import Event
from reconcile.store import State, Store

T = TypeVar("T")


@frozen(kw_only=True)
class Workshop:
    """All that a pass may act with. `parallel`: agents changed at once."""

    means: Means
    store: Store
    parallel: int


@frozen(kw_only=True)
class PassResult:
    """What came of a pass. `flipped`: the conditions that changed their status in it, with their agent's name (empty:
    of the updater itself). `wake_at`: Unix seconds of the next watch's or hold's end; None: there is none."""

    assessment: Assessment
    agents: tuple[AgentResult, ...]
    conditions: tuple[Condition, ...]
    flipped: tuple[tuple[str, Condition], ...] = ()
    wake_at: float | None = None

    @property
    def acted(self) -> bool:
        return any(agent.acted for agent in self.agents)

    @property
    def all_ready(self) -> bool:
        """Whether all is as it should be, but for what an operator holds."""
        return not self.assessment.refused and not self.unready

    @property
    def unready(self) -> tuple[AgentResult, ...]:
        return tuple(agent for agent in self.agents if not agent.ready and not agent.is_held_by_operator)

    @property
    def confirming(self) -> tuple[str, ...]:
        """The agents whose new content has still to prove good."""
        return tuple(agent.view.desired.name for agent in self.agents if agent.after.confirming)

    @property
    def is_final(self) -> bool:
        """Whether no further pass can better it by itself: all is well and confirmed, or was taken back for good."""
        if self.confirming:
            return False
        return not self.assessment.refused and all(agent.is_quarantined and agent.runs for agent in self.unready)


@frozen(kw_only=True)
class _Note:
    """An agent's thread asks for its record to be written down, and waits for `written`: None, or why not."""

    record: AgentRecord
    written: Future[None]


@frozen(kw_only=True)
class Order:
    """What a pass is to be. `wanted`: the agents, by name. `approve` looks at what was assessed and may raise to have
    nothing done. `pins`: agents that an operator wants back at a version, to be remembered first."""

    ask: Ask
    wanted: Callable[[str], bool] = lambda name: True
    approve: Callable[[Assessment], None] = lambda found: None
    pins: tuple[tuple[str, Pin], ...] = ()


def run_pass(shop: Workshop, order: Order) -> PassResult:
    """Make one pass. Raise NoDesiredState, what `approve` raises, and WriteFailed where a pin can't be kept; nothing
    else that is expected."""
    around, store, ask, wanted = shop.means.around, shop.store, order.ask, order.wanted
    for name, pin in order.pins:
        _pin(around, store, name, pin)
    state = store.state
    found = assess(around, state, ask)
    named = len(found.agents)
    found = narrowed(found, wanted)
    order.approve(found)
    trouble = ""
    if not around.operator_source:  # what an operator tried is no word of the server's to go by later
        trouble = _remember(lambda: _keep_answer(store, found))
    for view in found.agents:
        if view.broken is not None:
            with logger.contextualize(agent=view.desired.name):
                logger.opt(exception=view.broken).error("unexpected, please report it: {!r}", view.broken)
        if not view.hands_off:
            trim_start_log(home_of(view.observed.place))
    # A boot that is counted, a verdict: what this look made of an open switch must outlive what is done now.
    trouble = _remember(lambda: store.save(_settled_now(found, state))) or trouble
    results, more_trouble = _act(shop, found)
    trouble = trouble or more_trouble
    before = {record.name: record.conditions for record in state.records}
    results = [_timed(result, before, found.at) for result in results]
    trouble = trouble or _remember(lambda: _record(store, found, results))
    aside = "" if store.set_aside is None else str(store.set_aside)
    own = own_conditions(found, state, stored=stored_condition(trouble, aside))
    _remember(lambda: store.save_conditions(own))
    if not trouble:  # else pins and quarantine stand as they were, and so must the wish to end them
        _remember(lambda: _end_requests(around.holds, found, whole=len(found.agents) == named))
    result = PassResult(
        assessment=found,
        agents=tuple(results),
        conditions=own,
        flipped=(
            *(
                (r.view.desired.name, c)
                for r in results
                for c in _changed(r.conditions, before.get(r.view.desired.name))
            ),
            *(("", c) for c in _changed(own, state.conditions)),
        ),
        wake_at=min(
            (at for result in results for at in _ends(result, around.clock(), around.rules.watch)), default=None
        ),
    )
    if result.acted and ask is Ask.EXCHANGE and found.failed is None and not around.operator_source:
        _report_at_once(shop, found.seen, results)
    return result


def _pin(around: Surroundings, store: Store, name: str, pin: Pin) -> None:
    """Remember a pin. A release that was asked for before it is taken up first: it must not end the pin."""
    desired = next((agent for agent in managed(around.policy, store.state).agents if agent.name == name), None)
    if desired is None:
        return
    record = record_for(desired, store.state.record(name))
    requests = read_requests(around.holds)
    if requests.release_all:
        store.save([released(other) for other in store.state.records])
        take_up(around.holds, evolve(requests, holds=(), for_all=None), pin.at)
    elif requests.released(name):
        take_up(around.holds, Requests(releases=frozenset({name})), pin.at)
    if requests.released(name):
        record = released(record)
    store.save([evolve(record, pin=pin)])


def guarded(work: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Do `work`; what it raises unexpectedly is logged with its traceback and becomes a value. One agent's trouble is
    its own, and a pass's trouble ends that pass alone."""
    try:
        return work()
    except Exception as err:
        logger.opt(exception=True).error("unexpected, please report it: {!r}", err)
        return otherwise(err)


# --- agents, side by side ---


def _act(shop: Workshop, found: Assessment) -> tuple[list[AgentResult], str]:
    """Carry out what is due, agents side by side; take their notes until the last has ended."""
    notes: queue.SimpleQueue[_Note | Future[AgentResult]] = queue.SimpleQueue()
    trouble = ""
    busy = [view for view in found.agents if view.due.actions]
    done: dict[str, AgentResult] = {}
    with ThreadPoolExecutor(max_workers=shop.parallel, thread_name_prefix="agent") as pool:
        for view in busy:
            pool.submit(_one_agent, shop, view, _moment(found), notes).add_done_callback(notes.put)
        while len(done) < len(busy):
            item = notes.get()
            if isinstance(item, _Note):
                # An agent's thread waits for this: whatever happens, it gets an answer.
                trouble = _answer(shop.store, item) or trouble
            else:
                result = item.result()
                done[result.view.desired.name] = result
    return [done.get(view.desired.name) or _untouched(view) for view in found.agents], trouble


def _answer(store: Store, note: _Note) -> str:
    def deny(err: Exception) -> str:
        note.written.set_exception(WriteFailed(f"the memory can't be written: {err!r}"))
        return str(err)

    return guarded(lambda: _write_note(store, note), deny)


def _one_agent(
    shop: Workshop, view: AgentView, moment: Moment, notes: queue.SimpleQueue[_Note | Future[AgentResult]]
) -> AgentResult:
    def journal(record: AgentRecord) -> None:
        asked = _Note(record=record, written=Future())
        notes.put(asked)
        asked.written.result()

    with logger.contextualize(agent=view.desired.name):
        return guarded(
            lambda: carry_out(shop.means, view, moment, journal), lambda err: _broken(view, f"unexpected: {err!r}")
        )


def _write_note(store: Store, note: _Note) -> str:
    """Write down how far a switch is; return why that could not be done, or ''."""
    try:
        store.save([note.record])
    except WriteFailed as err:
        note.written.set_exception(err)
        return err.message
    note.written.set_result(None)
    return ""


def _broken(view: AgentView, error: str) -> AgentResult:
    """An agent whose part of the pass ended in an exception that nobody expected."""
    failed = Outcome(action=view.due.actions[0], result=Result.FAILED, reason="InternalError", error=error)
    conditions = (Condition(type="Ready", status=FALSE, reason=failed.reason, message=error),)
    executed = (Executed(plan=view.due, outcomes=(failed,)),)
    # No record: what was noted on the way stands.
    return AgentResult(view=view, after=view, executed=executed, conditions=conditions, record=None)


def _untouched(view: AgentView) -> AgentResult:
    return AgentResult(
        view=view,
        after=view,
        executed=(),
        conditions=conditions_of(view),
        record=record_for(view.desired, view.record),
        news=(view.news,) if view.news else (),
    )


def _moment(found: Assessment) -> Moment:
    why = "" if found.failed is None else found.failed.message
    return Moment(now=found.at, answered=found.answered, why_kept=why)


# --- memory ---


def _remember(write: Callable[[], None]) -> str:
    """Write to memory; where that fails the pass goes on, since agents matter more. Return why it failed, or ''."""
    try:
        write()
    except (WriteFailed, OSError) as err:
        logger.warning("{}", err)
        return str(err)
    return ""


def _keep_answer(store: Store, found: Assessment) -> None:
    if found.fresh is not None:
        store.accept(found.fresh, found.at)


def _settled_now(found: Assessment, state: State) -> list[AgentRecord]:
    busy = [view.record for view in found.agents if view.record is not None and view.due.actions]
    return [record for record in busy if record != state.record(record.name)]


def _record(store: Store, found: Assessment, results: list[AgentResult]) -> None:
    """Keep each agent's record as this pass leaves it, and what was done, in history."""
    records = [_record_after(result) for result in results]
    store.save([record for record in records if record is not None])
    events = [event for result in results for event in _events(result, found)]
    store.add_events(events)


def _record_after(result: AgentResult) -> AgentRecord | None:
    """The record to keep; of an agent that is held for its place, where it was managed is kept. One that could not
    even be looked at keeps the one that it has."""
    view, verdict, record = result.view, result.after.verdict, result.record
    if record is None or view.broken is not None:
        return None
    if isinstance(verdict, Held) and verdict.reason in ("WorkDirChanged", "RunUserChanged"):
        return view.record
    record = remember_config(record, view.desired, result.observed, view.findings.config, edited=view.aim.edited)
    found = view.findings
    return evolve(
        remember_use(record, result.observed),
        conditions=result.conditions,
        remote_config=found.config if found.config is not None else record.remote_config,
        digest_file=found.digest_file if found.digest_file is not None else record.digest_file,
    )


def _timed(result: AgentResult, before: dict[str, tuple[Condition, ...]], now: float) -> AgentResult:
    earlier = before.get(result.view.desired.name, ())
    return evolve(result, conditions=with_since(result.conditions, earlier, now))


def _events(result: AgentResult, found: Assessment) -> list[Event]:
    name, now = result.view.desired.name, found.at
    done = [
        Event(name=name, at=now, reason=one.plan.reason, message=one.plan.message, outcomes=one.outcomes)
        for one in result.executed
    ]
    before = [result.view.news] if result.view.news else []
    if found.requests.released(name):
        before.append("released by an operator: holds, pins, quarantine and delays have ended")
    if result.is_held_by_operator and isinstance(result.after.verdict, Held) and not _was_held(result.view.record):
        before.append(f"held by {result.after.verdict.message}")
    after = [said for said in result.news if said not in before]
    return [*(_news(name, now, said) for said in before), *done, *(_news(name, now, said) for said in after)]


def _was_held(record: AgentRecord | None) -> bool:
    conditions = () if record is None else record.conditions
    return any(c.type == "Held" and c.status == "True" and c.reason == "HeldByOperator" for c in conditions)


def _news(name: str, now: float, said: str) -> Event:
    return Event(name=name, at=now, reason="News", message=said)


def _end_requests(folder: Path, found: Assessment, *, whole: bool) -> None:
    """Releases were taken up by this pass, of its agents; holds that ended go. `whole`: it was for all agents."""
    names = frozenset(view.desired.name for view in found.agents)
    requests = found.requests
    mine = evolve(
        requests,
        releases=requests.releases if whole else requests.releases & names,
        release_all=requests.release_all and whole,
    )
    take_up(folder, mine, found.at)


def _ends(result: AgentResult, now: float, watch: float) -> Iterable[float]:
    """When this agent is to be looked at again before the next slot."""
    record, verdict = result.record, result.after.verdict
    installed = result.observed.active is not None
    open_switch = record.confirmation if record is not None and result.after.confirming and installed else None
    if open_switch is not None and (open_switch.stage is Stage.WATCHING or result.runs):
        yield now + max(0.0, open_switch.remaining(now, watch))
    if isinstance(verdict, Held) and verdict.until is not None:
        yield max(now, verdict.until)
    if record is not None and record.crashes is not None and record.crashes.again_at(now) > now and not result.runs:
        yield record.crashes.again_at(now)  # one whose time has come was held for another reason


# --- what changed, and the report of it ---


def _changed(now: Iterable[Condition], before: Iterable[Condition] | None) -> tuple[Condition, ...]:
    """The conditions whose status is another than before; those that are new count where they tell of trouble."""
    known = {condition.type: condition.status for condition in before or ()}
    usual = {"Held": "False", "Quarantined": "False"}
    return tuple(c for c in now if known.get(c.type, usual.get(c.type, "True")) != c.status)


def _report_at_once(shop: Workshop, seen: ObservedHost, results: Iterable[AgentResult]) -> None:
    """Tell the server what changed; its answer is kept for the next pass. A failure here is not one of this pass."""
    around, state = shop.means.around, shop.store.state
    now = around.clock()
    acted = ObservedHost(at=now, agents=tuple(result.observed for result in results if result.acted))
    places = [agent.place for agent in managed(around.policy, state).agents if acted.find(agent.place) is None]
    others = evolve(seen, agents=tuple(agent for agent in map(seen.find, places) if agent is not None))
    try:
        answer = around.source.exchange(report(around.facts, state, acted, others))
    except (ServerUnreachable, ResponseInvalid) as err:
        logger.warning("the report after a change did not arrive: {}", err.message)
        return
    _remember(lambda: shop.store.accept(answer, now))
