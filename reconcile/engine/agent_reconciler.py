"""Control calls of an earlier run that was killed amid them: waited for, and never doubled.

What such a call was to bring about is decided by nobody here: the agent is looked at again, and planned for anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve

from probes.errors import UpdaterError
from probes.home import StatusLimits
from probes.host import procfs
from probes.host.procfs import Leader
from probes.observe import observe_agent
from probes.observed import HomeRef, ObservedAgent
from probes.values import frozen
from probes.worker.pool import WorkerPool
from reconcile.act.context import Bounds, Contents, ControlLimits, StepContext, SwitchNote, Throttle
from reconcile.act.executor import Retries, Watcher, execute
from reconcile.decide.actions import Action, Held, Outcome, Plan, ResponseFingerprint, Result, Start, Stop, Switch
from reconcile.decide.admission import EvaluationContext
from reconcile.decide.conditions import Condition, is_for_people, is_ready, ready_of, seen_stopped, with_since
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, closed_window, conditions_of, evaluate_agent
from reconcile.decide.hold import Hold
from reconcile.decide.records import (
    AgentRecord,
    ControlCall,
    FailureKind,
    call_over,
    called,
    calls_of_earlier_run,
    calls_over,
    record_for,
    remember_stuck,
)
from reconcile.decide.upgrade import HomeChange, Settled, after_plan, arrived, began, came_up, seen_up, was_made
from reconcile.engine.assess import settle_sighting
from reconcile.engine.homes import look_again
from reconcile.engine.pass_context import HostContext
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.errors import WriteFailed
from reconcile.log import logger
from reconcile.storage.hold_files import read_requests

# Between two looks at what comes of a call.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5


def wait_for_calls(
    calls: Iterable[ControlCall],
    place: HomeRef,
    limits: StatusLimits,
    given_up: Callable[[], bool],
    workers: WorkerPool | None = None,
) -> ControlCall | None:
    """Wait until each call has ended and a start has shown its effect, within the limit that it was given; what goes on
    beyond it is ended, as its own run would have done. Return the call that lives on nevertheless: `given_up` said so,
    or nothing ends it."""
    worker, pause = (workers or WorkerPool()).of(place.run_user), _FIRST_PAUSE_S

    def alive(leader: Leader) -> bool:
        try:
            return worker.ask(procfs.lives, leader)
        except UpdaterError:  # we can't become its user now: what is visible to us has to do
            return procfs.lives(leader)

    def end(leader: Leader) -> bool:
        try:
            return worker.do(procfs.end_call, leader)
        except UpdaterError:
            return False

    for call in calls:
        leader = Leader(pid=call.pid, started=call.started)
        until = time.monotonic() + call.limit_s - procfs.age(leader)
        if alive(leader):
            logger.info("waits for control {} of {} by an earlier run, process {}", call.verb, call.version, call.pid)
        if not procfs.outwait(leader, call.limit_s, given_up, alive=alive, end=end):
            return call
        while (
            call.verb == "start"
            and not (given_up() or time.monotonic() >= until)
            and _may_come_up(observe_agent(place, limits, workers), call)
        ):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return None


def _may_come_up(observed: ObservedAgent, call: ControlCall) -> bool:
    active = observed.active
    return active is not None and active.version == call.version and not active.process.is_running


# The first round, the way back after it, and the start of what one went back to, should that be needed.
_ROUNDS = 3

Journal = Callable[[AgentRecord], None]
"""Writes a record down, and returns when it is on disk. Raises WriteFailed."""


@frozen(kw_only=True)
class ExecutionContext:
    """All that agents' plans are carried out with. `begins`, `ended`: told of each action; `arrived`: of the bytes of
    a download. `alive`: called every few seconds by the pass's own thread while it waits for the agents' ones.
    `places`: in the fleet's lock, None without one."""

    host: HostContext
    cache: Path
    bounds: Bounds
    throttle: Throttle
    control: ControlLimits
    retries: Retries
    ending: threading.Event
    begins: Callable[[AgentEvaluation, Action], None] = lambda view, action: None
    ended: Callable[[AgentEvaluation, Outcome], None] = lambda view, outcome: None
    arrived: Callable[[AgentEvaluation, int, int | None], None] = lambda view, size, total: None
    alive: Callable[[], None] = lambda: None
    places: PlaceKeeper | None = None


@frozen(kw_only=True)
class ExecutedPlan:
    """One plan that was carried out, for history: why, on whose word, and what came of it."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    by: str
    reason: str

    @property
    def at(self) -> float | None:
        """When its first action began; None: none did."""
        return next((outcome.at for outcome in self.outcomes if outcome.at), None)


def executed_plan(view: AgentEvaluation, outcomes: tuple[Outcome, ...]) -> ExecutedPlan:
    """What was due for an agent, with what came of it. A way back is RolledBack, whatever it makes differ."""
    reason = "RolledBack" if view.goes_back else view.due.reason
    return ExecutedPlan(plan=view.due, outcomes=outcomes, by=view.due_by, reason=reason)


@frozen(kw_only=True)
class AgentResult:
    """What became of one agent in a pass. `view`: as it was assessed; `after`: as it stands now; `record`: what is to
    be remembered; `news`: what became of a switch. `waited`: for a call of an earlier run, which may have changed
    it."""

    view: AgentEvaluation
    after: AgentEvaluation
    executed: tuple[ExecutedPlan, ...]
    conditions: tuple[Condition, ...]
    record: AgentRecord | None
    news: tuple[str, ...] = ()
    waited: bool = False

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(outcome for one in self.executed for outcome in one.outcomes)

    @property
    def observed(self) -> ObservedAgent:
        return self.after.observed

    @property
    def changed(self) -> bool:
        """Whether it may stand otherwise than it was reported in this pass."""
        return self.acted or self.waited

    @property
    def acted(self) -> bool:
        return any(outcome.result is not Result.SKIPPED for outcome in self.outcomes)

    @property
    def goes_on(self) -> bool:
        """Whether its plan outlasts this pass: of what became of it, its end will tell."""
        return self.record is None and not self.executed

    @property
    def ready(self) -> bool:
        return is_ready(self.conditions)

    @property
    def is_held_by_operator(self) -> bool:
        return isinstance(self.after.verdict, Held) and self.after.verdict.reason == "HeldByOperator"

    @property
    def runs(self) -> bool:
        return self.observed.active is not None and self.observed.active.process.is_running

    @property
    def is_quarantined(self) -> bool:
        """Whether it stays with its former content, and no time lifts that."""
        verdict = self.after.verdict
        quarantined = isinstance(verdict, Held) and verdict.reason == "Quarantined" and verdict.until is None
        return quarantined and self.after.is_back

    @property
    def is_for_people(self) -> bool:
        """Whether no further pass betters it by itself: it keeps what it has, and that runs where it is to."""
        verdict, desired, observed = self.after.verdict, self.after.desired, self.observed
        reason = verdict.reason
        if self.after.due.actions or (reason == "Pinned" and not self.after.is_back):
            return False
        waits = desired.run is RunState.START and observed.active is not None and not self.runs  # for its start
        if self.is_quarantined and self.after.record is not None and self.after.record.told_to_stop:
            return True  # it stays stopped
        return not waits and (self.is_quarantined or is_for_people(reason))

    @property
    def went_back(self) -> bool:
        """Whether it was rolled back in this pass."""
        ready = ready_of(self.conditions)
        return ready is not None and ready.reason == "RolledBack"


def carry_out(
    context: ExecutionContext, view: AgentEvaluation, moment: EvaluationContext, journal: Journal
) -> AgentResult:
    """Do what is due for one agent, in its own thread."""
    with context.host.workers.at_work():
        return _carry_out(context, view, moment, journal)


def _carry_out(
    context: ExecutionContext, view: AgentEvaluation, moment: EvaluationContext, journal: Journal
) -> AgentResult:
    assessed = view
    view, barred = _after_earlier_calls(context, view, moment)
    if barred is not None:
        return _not_begun(context, view, barred)
    record = record_for(view.observed.place, view.record)
    record = evolve(record, conditions=with_since(conditions_of(view), record.conditions, moment.now))
    executed: list[ExecutedPlan] = []
    news: list[str] = []
    after = view
    while (
        after.due.actions and len(executed) < _ROUNDS and not (context.ending.is_set() and not _is_left_down(executed))
    ):
        book = _Book(context=context, view=after, record=record, journal=journal)
        outcomes = _execute(context, after, book, go_on=_is_left_down(executed))
        executed.append(executed_plan(after, outcomes))
        seen = look_again(view.desired, book.record, context.host)
        record, after, said = _take_up(context, after, seen, outcomes, moment)
        news += said
        failed = any(outcome.result is Result.FAILED for outcome in outcomes)
        if not (failed or book.declined) or after.due.actions == executed[-1].plan.actions:
            break  # what has just failed is not done once more: that is for a later pass
        with suppress(WriteFailed):  # a verdict must outlive the way back that it asks for, but not stand in its way
            journal(record)
    return conclude(
        view,
        after,
        executed=tuple(executed),
        record=record,
        news=tuple(news),
        waited=view is not assessed,
    )


def conclude(
    view: AgentEvaluation,
    after: AgentEvaluation,
    *,
    executed: tuple[ExecutedPlan, ...],
    record: AgentRecord | None,
    news: tuple[str, ...] = (),
    waited: bool = False,
    before: AgentEvaluation | None = None,
) -> AgentResult:
    """What became of an agent. `before`: as it was when it was first acted upon, if that was not `view`."""
    conditions = conditions_of(after, _lasting(executed), rolled_back=_went_back(before or view, after))
    return AgentResult(
        view=view, after=after, executed=executed, conditions=conditions, record=record, news=news, waited=waited
    )


def _after_earlier_calls(
    context: ExecutionContext, view: AgentEvaluation, moment: EvaluationContext
) -> tuple[AgentEvaluation, ControlCall | None]:
    """Wait for control calls that a killed run left, and look again. The call that still bars the way, if one does."""
    host, record = context.host, view.record
    calls = () if record is None else calls_of_earlier_run(record, host.boot)
    if record is None or not calls:
        return view, None
    place = view.observed.place
    barred = wait_for_calls(calls, place, host.limits, context.ending.is_set, host.workers)
    if barred is not None:
        return view, barred
    moment = _now(host, moment)
    hold = read_requests(host.holds).hold_on(view.desired.name, moment.now)
    seen = look_again(view.desired, calls_over(record), host)
    seen, news = settle_sighting(seen, moment, host, held=hold is not None)
    again = evaluate_agent(seen, view.findings, moment, host.rules, hold)
    return evolve(_as_assessed(again, view, hold), news=view.news or news), None


def _not_begun(context: ExecutionContext, view: AgentEvaluation, barred: ControlCall) -> AgentResult:
    """Nothing is done beside a call that still lives: we are asked to end, or nothing ends it."""
    what = f"control {barred.verb} of {barred.version}, process {barred.pid}, of an earlier run"
    first, *rest = view.due.actions
    failed = Outcome(
        action=first,
        result=Result.FAILED,
        reason="ControlTimeout",
        at=context.host.clock(),
        error=f"{what} does not end, not even by SIGKILL; nothing is done beside it",
    )
    outcomes: tuple[Outcome, ...] = (failed, *(Outcome(action=action, result=Result.SKIPPED) for action in rest))
    if context.ending.is_set():
        outcomes = tuple(Outcome(action=action, result=Result.SKIPPED) for action in view.due.actions)
    conditions = conditions_of(view, outcomes)
    executed = (executed_plan(view, outcomes),)
    record = record_for(view.observed.place, view.record)
    return AgentResult(view=view, after=view, executed=executed, conditions=conditions, record=record)


@define(kw_only=True)
class _Book:
    """Takes the notes of one plan, and keeps the record that they make."""

    context: ExecutionContext
    view: AgentEvaluation
    record: AgentRecord
    journal: Journal
    declined: bool = False

    def may_begin(self) -> bool:
        """Whether what is in use may be touched now: no hold came meanwhile, a window is still open, and the fleet's
        lock has a place. It is asked last, so that what can fail before does not take a place."""
        context, view = self.context, self.view
        now = context.host.clock()
        held = read_requests(context.host.holds).hold_on(view.desired.name, now) is not None
        closed = not view.only_heals and closed_window(view.desired, view.observed, view.plan, context.host.rules, now)
        self.declined = bool(held or closed)
        if not self.declined and not view.only_heals and view.place_group is not None and context.places is not None:
            self.declined = not context.places.take(view.place_group)
        return not self.declined

    def note(self, kind: SwitchNote) -> None:
        """Write down how far the switch is. Raise WriteFailed."""
        if self.view.only_heals:
            return  # the way back has nothing further to go back to, and needs no watch
        host = self.context.host
        now = host.clock()
        if kind is SwitchNote.BEGINS:
            view = self.view
            move = _move_of(view)
            remote = None if view.findings.config is None else view.findings.config.digest
            active, boot = view.observed.active, host.boot
            noted = began(self.record, view.target.content, active, now=now, boot=boot, move=move, remote=remote)
        else:
            noted = came_up(self.record, now=now, watch=host.rules.watch)
        self.journal(noted)
        self.record = noted

    def call(self, call: ControlCall) -> None:
        """Write down a control call that was spawned. It goes on whether that succeeds or not, and so do we."""
        self.record = called(self.record, call)
        if call.verb == "stop":
            self.record = evolve(
                self.record, conditions=seen_stopped(self.record.conditions, self.context.host.clock())
            )
        with suppress(WriteFailed):
            self.journal(self.record)

    def over(self, call: ControlCall) -> None:
        """Remember that a call's end was seen, to be written down with what came of it."""
        self.record = call_over(self.record, call)


def _take_up(
    context: ExecutionContext,
    view: AgentEvaluation,
    seen: AgentInputs,
    outcomes: tuple[Outcome, ...],
    moment: EvaluationContext,
) -> tuple[AgentRecord, AgentEvaluation, list[str]]:
    """What a plan's end makes of the record, and how the agent stands then."""
    now, observed, record = context.host.clock(), seen.observed, seen.record
    assert record is not None
    record = arrived(record, observed)
    move = _move_of(view)
    settled = Settled(record=record)
    if not (_failed_to_switch(outcomes) and was_made(record, observed)):
        settled = after_plan(
            record,
            view.target.content,
            outcomes,
            now=now,
            going_back=view.only_heals,
            place=None if move is None else move.into,
        )
    record = seen_up(settled.record, observed)
    if any(isinstance(outcome.action, Start) and outcome.result is Result.DONE for outcome in outcomes):
        record = came_up(record, now=now, watch=context.host.rules.watch)  # if an earlier run left it unstarted
    record = remember_stuck(record_for(observed.place, record), observed, outcomes)
    sighting = evolve(seen, record=record)
    hold = read_requests(context.host.holds).hold_on(view.desired.name, now)
    after = evaluate_agent(sighting, view.findings, _now(context.host, moment), context.host.rules, hold)
    return record, _as_assessed(after, view, hold), [settled.news] if settled.news else []


def _now(host: HostContext, moment: EvaluationContext) -> EvaluationContext:
    return evolve(moment, now=host.clock(), refused_places=host.refused_places())


def _as_assessed(now: AgentEvaluation, view: AgentEvaluation, hold: Hold | None) -> AgentEvaluation:
    """An agent as it stands now, with what is known of it beyond what was seen."""
    return evolve(now, content=view.content, hold=hold, asks=view.asks)


def _move_of(view: AgentEvaluation) -> HomeChange | None:
    """The homes that what is due moves it out of and into; None: it stays where it is."""
    move = view.due.move
    if move is None:
        return None
    return HomeChange(left=move.leaves, into=move.at or view.desired.place)


def _failed_to_switch(outcomes: tuple[Outcome, ...]) -> bool:
    return any(isinstance(outcome.action, Switch) and outcome.result is Result.FAILED for outcome in outcomes)


def _went_back(view: AgentEvaluation, after: AgentEvaluation) -> bool:
    """Whether it was gone back in this pass: one that was tried in an earlier pass, and succeeded now, counts."""
    was = isinstance(view.verdict, Held) and view.verdict.rolled_back and view.is_back and not view.news
    rolled_back = isinstance(after.verdict, Held) and after.verdict.rolled_back
    return rolled_back and after.is_back and not was


def _lasting(executed: tuple[ExecutedPlan, ...]) -> tuple[Outcome, ...]:
    """The outcomes that say how the agent is: those of the last plan."""
    return executed[-1].outcomes if executed else ()


def _is_left_down(executed: list[ExecutedPlan]) -> bool:
    """Whether the agent is down by our doing: then what starts it is done even if we are asked to end."""
    touched = [
        o for one in executed for o in one.outcomes if o.attempts and isinstance(o.action, Stop | Switch | Start)
    ]
    return bool(touched) and touched[-1].result is Result.FAILED


def _execute(context: ExecutionContext, view: AgentEvaluation, book: _Book, *, go_on: bool) -> tuple[Outcome, ...]:
    watcher = Watcher(
        begins=lambda action: context.begins(view, action), ended=lambda outcome: context.ended(view, outcome)
    )
    return execute(view.due, _tools(context, view, book, go_on=go_on), context.retries, watcher)


def _tools(context: ExecutionContext, view: AgentEvaluation, book: _Book, *, go_on: bool) -> StepContext:
    contents: Mapping[str, bytes] = {}
    if view.content is not None and view.findings.config is not None:
        contents = Contents({view.findings.config.digest: view.content})
    return StepContext(
        place=view.desired.place,
        http=context.host.http,
        cache=context.cache,
        bounds=context.bounds,
        throttle=context.throttle,
        control=context.control,
        status=context.host.limits,
        contents=contents,
        note=book.note,
        call=book.call,
        clock=context.host.clock,
        over=book.over,
        calls=lambda: book.record.calls,
        boot=context.host.boot,
        on_disk=_by_digest(view.observed),
        refused=_refused(book.record, view, context.host.clock()),
        signed=bool(context.host.policy.restrictions.trusted_keys),
        may_begin=book.may_begin,
        ending=threading.Event() if go_on else context.ending,
        workers=context.host.workers,
        arrived=lambda size, total: context.arrived(view, size, total),
    )


def _by_digest(observed: ObservedAgent) -> dict[str, str]:
    trees = [*observed.staged, *observed.previous, *([] if observed.active is None else [observed.active.tree])]
    return {digest: tree.version for tree in trees for digest in tree.digests}


def _refused(record: AgentRecord, view: AgentEvaluation, now: float) -> ResponseFingerprint | None:
    failure = record.failure_of(view.target.content, FailureKind.NOT_REACHED, view.target.place)
    return None if failure is None else failure.not_again(now)
