"""Carry out what is due for one agent, in its own thread: execute a plan, observe again, and go back where that failed.

Control calls of an earlier run are waited for first. What is noted on the way is written down by another thread.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from attrs import evolve

from reconcile.act.executor import Watcher, execute
from reconcile.assess.assess_agent import settle_inputs, with_healed
from reconcile.assess.homes import observe_now
from reconcile.assess.pass_context import HostContext
from reconcile.decide.actions import Outcome, Result, Start, Stop, Switch
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.conditions import with_since
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, conditions_of, evaluate_agent
from reconcile.decide.hold import Hold
from reconcile.decide.records.changes import calls_of_earlier_run, calls_over, record_for, remember_stuck
from reconcile.decide.records.record import AgentRecord, ControlCall
from reconcile.decide.upgrade.events import PlanFinished, StartConfirmed
from reconcile.decide.upgrade.observation import was_made
from reconcile.decide.upgrade.steps import Advanced, arrived, seen_up
from reconcile.decide.upgrade.table import advance
from reconcile.engine.earlier_calls import wait_for_calls
from reconcile.engine.execution_context import ExecutionContext, PlanNotes, WriteNote, move_of
from reconcile.engine.results import AgentResult, ExecutedPlan, conclude, executed_plan
from reconcile.errors import WriteFailed
from reconcile.storage.hold_files import read_requests

# The first round, the way back after it, and the start of what one went back to, should that be needed.
_ROUNDS = 3


def heal(
    context: ExecutionContext, view: AgentEvaluation, evaluation: EvaluationContext, write: WriteNote
) -> AgentResult:
    """Start what is down, by the plan of a pass without an answer; and say how the agent stands then by what is
    wanted."""
    assert view.heal is not None
    done = carry_out(context, view.heal, evolve(evaluation, answered=Freshness.LAST_ACCEPTED), write)
    seen = evolve(done.after.agent_inputs, record=done.record)
    return conclude(
        view,
        with_healed(context.host, view, seen, _now(context.host, evaluation)),
        executed=done.executed,
        record=done.record,
        at=evaluation.now,
        news=done.news,
        waited=done.waited,
        before=view.heal,
    )


def carry_out(
    context: ExecutionContext, view: AgentEvaluation, evaluation: EvaluationContext, write: WriteNote
) -> AgentResult:
    """Do what is due for one agent: the first round, and where that failed the way back."""
    with context.host.workers.at_work():
        assessed = view
        view, barred = _after_earlier_calls(context, view, evaluation)
        if barred is not None:
            return _not_begun(context, view, barred, evaluation)
        return evolve(_rounds(context, view, evaluation, write), waited=view is not assessed)


def _rounds(
    context: ExecutionContext, view: AgentEvaluation, evaluation: EvaluationContext, write: WriteNote
) -> AgentResult:
    record, after = record_for(view.observed.home, view.record), view
    record = evolve(record, conditions=with_since(conditions_of(view), record.conditions, evaluation.now))
    executed: list[ExecutedPlan] = []
    news: list[str] = []
    while after.due.actions and len(executed) < _ROUNDS:
        left_down = _is_left_down(executed)
        if context.ending.is_set() and not left_down:
            break
        notes = PlanNotes(context=context, view=after, record=record, write=write)
        # What starts an agent that is down by our doing is done even if we are asked to end.
        outcomes = _execute(notes, threading.Event() if left_down else context.ending)
        executed.append(executed_plan(after, outcomes))
        seen = observe_now(view.desired, notes.record, context.host)
        record, after, said = _take_up(context, after, seen, outcomes, evaluation)
        news += said
        failed = any(outcome.result is Result.FAILED for outcome in outcomes)
        if not (failed or notes.declined) or after.due.actions == executed[-1].plan.actions:
            break  # what has just failed is not done once more: that is for a later pass
        with suppress(WriteFailed):  # a verdict must outlive the way back that it asks for, but not stand in its way
            write(record)
    return conclude(view, after, executed=tuple(executed), record=record, at=evaluation.now, news=tuple(news))


def _execute(notes: PlanNotes, ending: threading.Event) -> tuple[Outcome, ...]:
    context, view = notes.context, notes.view
    watcher = Watcher(
        begins=lambda action: context.begins(view, action), ended=lambda outcome: context.ended(view, outcome)
    )
    return execute(view.due, notes.step_context(ending), context.retries, watcher)


def _after_earlier_calls(
    context: ExecutionContext, view: AgentEvaluation, evaluation: EvaluationContext
) -> tuple[AgentEvaluation, ControlCall | None]:
    """Wait for control calls that a killed run left, and observe again. The call that still bars the way, if one
    does."""
    host, record = context.host, view.record
    calls = () if record is None else calls_of_earlier_run(record, host.boot)
    if record is None or not calls:
        return view, None
    barred = wait_for_calls(calls, view.observed.home, host.limits, context.ending.is_set, host.workers)
    if barred is not None:
        return view, barred
    evaluation = _now(host, evaluation)
    hold = read_requests(host.holds).hold_on(view.desired.name, evaluation.now)
    seen = observe_now(view.desired, calls_over(record), host)
    seen, news = settle_inputs(seen, evaluation, host, held=hold is not None)
    again = evaluate_agent(seen, view.remote, evaluation, host.rules, hold)
    return evolve(_as_assessed(again, view, hold), news=view.news or news), None


def _not_begun(
    context: ExecutionContext, view: AgentEvaluation, barred: ControlCall, evaluation: EvaluationContext
) -> AgentResult:
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
    return AgentResult(
        view=view,
        after=view,
        executed=(executed_plan(view, outcomes),),
        conditions=conditions_of(view, outcomes),
        record=record_for(view.observed.home, view.record),
        at=evaluation.now,
    )


def _take_up(
    context: ExecutionContext,
    view: AgentEvaluation,
    seen: AgentInputs,
    outcomes: tuple[Outcome, ...],
    evaluation: EvaluationContext,
) -> tuple[AgentRecord, AgentEvaluation, list[str]]:
    """Update the record by how a plan ended, and evaluate the agent again; the news, too."""
    now, observed, record = context.host.clock(), seen.observed, seen.record
    assert record is not None
    record = arrived(record, observed)
    move = move_of(view)
    settled = Advanced(record=record)
    if not (_failed_to_switch(outcomes) and was_made(record, observed)):
        settled = advance(
            record,
            PlanFinished(
                wanted=view.target.content,
                outcomes=outcomes,
                now=now,
                going_back=view.only_heals,
                home=None if move is None else move.into,
            ),
        )
    record = seen_up(settled.record, observed)
    if any(isinstance(outcome.action, Start) and outcome.result is Result.DONE for outcome in outcomes):
        # An earlier run may have left it unstarted.
        record = advance(record, StartConfirmed(now=now, watch=context.host.rules.watch)).record
    record = remember_stuck(record_for(observed.home, record), observed, outcomes)
    hold = read_requests(context.host.holds).hold_on(view.desired.name, now)
    after = evaluate_agent(
        evolve(seen, record=record), view.remote, _now(context.host, evaluation), context.host.rules, hold
    )
    return record, _as_assessed(after, view, hold), [settled.news] if settled.news else []


def _now(host: HostContext, evaluation: EvaluationContext) -> EvaluationContext:
    return evolve(evaluation, now=host.clock(), refused_places=host.refused_places())


def _as_assessed(now: AgentEvaluation, view: AgentEvaluation, hold: Hold | None) -> AgentEvaluation:
    """An agent as it stands now, with what is known of it beyond what was seen."""
    return evolve(now, content=view.content, hold=hold, asks=view.asks, released_by=view.released_by)


def _failed_to_switch(outcomes: tuple[Outcome, ...]) -> bool:
    return any(isinstance(outcome.action, Switch) and outcome.result is Result.FAILED for outcome in outcomes)


def _is_left_down(executed: list[ExecutedPlan]) -> bool:
    """Whether the agent is down by our doing."""
    touched = [
        o for one in executed for o in one.outcomes if o.attempts and isinstance(o.action, Stop | Switch | Start)
    ]
    return bool(touched) and touched[-1].result is Result.FAILED
