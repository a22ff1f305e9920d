"""Carry out one agent's plan, action by action: retries, notes, and where it may be interrupted.

It stops at the first failure. What a failure means for later passes is decided elsewhere; here only one thing is done
about it: after a stop that failed, the version in use is started once, since a stop may have half worked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from attrs import evolve

from probes.errors import (
    InterpreterMissing,
    SudoRefused,
    ToolMissing,
    UpdaterError,
    UserMissing,
    WorkerLost,
)
from probes.home import home_of
from probes.observed import next_name, previous_name
from probes.values import frozen
from reconcile.act.context import Interrupted, StepContext, SwitchNote, WrongBytes
from reconcile.act.home_ops import (
    check_runs,
    check_switch,
)
from reconcile.act.homes import PlanHomes
from reconcile.act.steps.configure import configure
from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.lifecycle import start, stop, switch
from reconcile.act.steps.prune import prune
from reconcile.act.steps.unpack import unpack
from reconcile.act.steps.verify import verify
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Outcome,
    Plan,
    Prune,
    Result,
    Start,
    Stop,
    Switch,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.errors import (
    ControlFailed,
    ControlTimeout,
    HomeBusy,
    OutOfResources,
    StopFailed,
    TemporaryError,
)
from reconcile.log import logger

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

# A server that asks us to wait longer than this is asked again at a later pass; the pass goes on without it.
_LONGEST_WAIT_S = 60.0

# Failures of a stop that was tried. Those before it (a note, a marker) left the agent untouched.
_HALF_STOPPED = (StopFailed.reason, ControlTimeout.reason)


@frozen(kw_only=True)
class Retries:
    """How often a TemporaryError is tried in all, and the base of the pause between, in seconds (full jitter)."""

    attempts: int = 4
    base_s: float = 1.0


@frozen(kw_only=True)
class Watcher:
    """What is called before each action, and with each outcome right after it."""

    begins: Callable[[Action], None] = lambda action: None
    ended: Callable[[Outcome], None] = lambda outcome: None


def execute(plan: Plan, context: StepContext, retries: Retries, watcher: Watcher) -> tuple[Outcome, ...]:
    """Carry out a plan and say what came of each action.

    Once a stop has begun, it goes on to the start even if we are asked to end: an agent is not left between.
    """
    with ExitStack() as stack:
        stack.callback(context.results.clear)
        homes = PlanHomes(context, stack)
        try:
            if plan.actions:
                logger.load()
                homes.lock(plan)
        except UpdaterError as err:
            outcomes = _none_done(plan, err, context.clock())
            watcher.ended(outcomes[0])
            return outcomes
        execution = _Execution(plan, context, retries, watcher)
        for action in plan.actions:
            execution.go_on(action, homes)
        return tuple(execution.outcomes)


class _Execution:
    """A plan that is being carried out: whether it goes on, and what came of it so far."""

    def __init__(self, plan: Plan, context: StepContext, retries: Retries, watcher: Watcher) -> None:
        self.outcomes: list[Outcome] = []
        self._plan = plan
        self._context = context
        self._retries = retries
        self._watcher = watcher
        self._may_begin = True

    def go_on(self, action: Action, homes: PlanHomes) -> None:
        """Carry out the next action, or skip it."""
        if not self._is_next(action):
            self.outcomes.append(Outcome(action=action, result=Result.SKIPPED))
        elif not isinstance(action, Unpack) or self._make_home(action, homes):
            self._carry_out(action)
            if (
                isinstance(action, Stop)
                and not action.for_good
                and self._starts
                and _is_half_stopped(self.outcomes[-1])
            ):
                self._carry_out(Start(version=action.version, at=action.at))

    def _is_next(self, action: Action) -> bool:
        if any(outcome.result is Result.FAILED for outcome in self.outcomes):
            return False
        if isinstance(action, Stop | Switch) and not self._has_begun:
            # What came while we fetched counts (a hold), and what is asked last (a place in the fleet's lock).
            self._may_begin = self._may_begin and not self._context.ending.is_set() and self._context.may_begin()
        # Once the agent is down by our doing, its start is still to come. To ask for a place may have taken its time.
        is_ended = self._context.ending.is_set() and not (self._has_begun and self._starts)
        return self._may_begin and not is_ended

    def _make_home(self, action: Unpack, homes: PlanHomes) -> bool:
        try:
            homes.make(action.at)
        except UpdaterError as err:
            failed = _failed(Outcome(action=action, result=Result.FAILED, attempts=1, at=self._context.clock()), err)
            self._watcher.ended(failed)
            self.outcomes.append(failed)
            return False
        return True

    def _carry_out(self, action: Action) -> None:
        self._watcher.begins(action)
        outcome = _attempt(action, self._plan, self._context, self._retries)
        self._watcher.ended(outcome)
        self.outcomes.append(outcome)

    @property
    def _has_begun(self) -> bool:
        return any(isinstance(o.action, Stop | Switch) and o.result is not Result.SKIPPED for o in self.outcomes)

    @property
    def _starts(self) -> bool:
        return any(isinstance(action, Start) for action in self._plan.actions)


def load_all() -> None:
    """Load now what the first action would load. A daemon does so as it starts: it must heal on a disk that failed."""
    logger.load()
    for module in ("tenacity.wait", "reconcile.act.host.tar_stream"):
        import_module(module)


def _none_done(plan: Plan, err: UpdaterError, at: float) -> tuple[Outcome, ...]:
    first, *rest = plan.actions
    # A home that can't be used says nothing of the content; of a move it does: it is what fails there, and while it is
    # not tried again the agent is healed where it lives.
    attempts = int(plan.move is not None and not isinstance(err, HomeBusy))
    failed = Outcome(action=first, result=Result.FAILED, attempts=attempts, at=at, reason=err.reason, error=err.message)
    return (failed, *(Outcome(action=action, result=Result.SKIPPED) for action in rest))


def _is_half_stopped(outcome: Outcome) -> bool:
    """A stop that failed may have half worked; what was not even called has left no evidence."""
    return outcome.reason in _HALF_STOPPED and bool(outcome.evidence)


def _attempt(action: Action, plan: Plan, context: StepContext, retries: Retries) -> Outcome:
    at, began = context.clock(), time.monotonic()
    tries = 0

    def once() -> Result:
        nonlocal tries
        tries += 1
        try:
            return _do(action, plan, context)
        except MemoryError:
            raise OutOfResources("the host leaves us no memory; it is tried again") from None

    outcome = Outcome(action=action, result=Result.FAILED)
    try:
        result = _retrying(retries, context)(once)
        outlived = context.results.outlived if isinstance(action, Stop) else ""
        outcome = evolve(outcome, result=result, outlived=outlived)
    except Interrupted:
        outcome = evolve(outcome, result=Result.SKIPPED)
    except UpdaterError as err:
        outcome = _failed(outcome, err)
        if isinstance(action, Start) and context.results.outlived:
            left = f"{context.results.outlived} outlived the stop and may hold what it needs (its port)"
            outcome = evolve(outcome, error=f"{outcome.error}; {left}")
    return evolve(outcome, attempts=tries, at=at, seconds=time.monotonic() - began)


def _failed(outcome: Outcome, err: UpdaterError) -> Outcome:
    return evolve(
        outcome,
        reason=err.reason,
        error=err.message,
        evidence=err.evidence,
        was_up=isinstance(err, ControlFailed) and err.was_up,
        served=err.served if isinstance(err, WrongBytes) else None,
        host_fault=_is_host_fault(outcome.action, err),
        lost=isinstance(err, WorkerLost) or (isinstance(err, ControlFailed) and err.no_fork),
    )


def _is_host_fault(action: Action, err: UpdaterError) -> bool:
    """Whether it failed for a cause of the host's, which is no failure of the content."""
    if isinstance(action, Start | Stop) and isinstance(err, WorkerLost):
        return True
    if isinstance(action, Start) and isinstance(err, ControlFailed) and err.no_fork:
        return True
    if isinstance(action, Start) and isinstance(err, UserMissing | ToolMissing | SudoRefused | InterpreterMissing):
        return True
    return isinstance(err, OutOfResources) or (isinstance(err, ControlFailed) and err.unseen)


def _retrying(retries: Retries, context: StepContext) -> Retrying:
    # Loaded with the first action: a pass that finds nothing to do is spared its 30 ms, asyncio included.
    from tenacity import Retrying, retry_if_exception, stop_after_attempt
    from tenacity.wait import wait_random_exponential

    jitter = wait_random_exponential(multiplier=retries.base_s, max=30)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, TemporaryError) else None
        return jitter(state) if asked is None else asked

    def worth_it(error: BaseException) -> bool:
        return (
            isinstance(error, TemporaryError)
            and (error.retry_after or 0.0) <= _LONGEST_WAIT_S
            and not context.ending.is_set()
        )

    def pause(seconds: float) -> None:
        context.ending.wait(seconds)

    return Retrying(
        retry=retry_if_exception(worth_it),
        stop=stop_after_attempt(retries.attempts),
        wait=wait,
        sleep=pause,
        reraise=True,
    )


def _do(action: Action, plan: Plan, context: StepContext) -> Result:
    match action:
        case Fetch():
            return fetch(action, context)
        case Verify():
            return verify(action, context)
        case Unpack():
            result = unpack(action, context.at(action.at))
            _check_runs(plan, context)
            return result
        case Configure():
            return configure(action, context.at(action.at))
        case Stop():
            _check_runs(plan, context)
            _note_switch(plan, context)
            return stop(action, context.at(action.at))
        case SwitchVersion() | SwitchTree() | SwitchConfig() | MoveHome():
            if not any(isinstance(other, Stop) for other in plan.actions):
                _check_runs(plan, context)
                _note_switch(plan, context)
            return switch(action, context.at(action.at))
        case Start():
            result = start(action, context.at(action.at))
            if plan.switch is not None:
                with suppress(UpdaterError):  # it runs: that a note can't be written must not make this a failure
                    context.note(SwitchNote.CAME_UP)
            return result
        case Prune():
            return prune(action, context.at(action.at))
        case _:
            assert_never(action)


def _check_runs(plan: Plan, context: StepContext) -> None:
    """See that what is to be switched to can be executed by its user. Raise InterpreterMissing: it is known before the
    agent was touched."""
    if plan.switch is None:
        return
    there = context.at(plan.switch.at)
    there.worker.ask(check_runs, home_of(there.home).tree(_lies_in(plan.switch)), context.status.agent_env)


def _lies_in(switch: Switch) -> str:
    """The directory that the content to switch to lies in before the switch."""
    match switch:
        case MoveHome():
            return _lies_in(switch.switch)
        case SwitchTree():
            return previous_name(switch.version) if switch.previous else next_name(switch.version)
        case SwitchVersion() | SwitchConfig():
            return switch.to
        case _:
            assert_never(switch)


def _note_switch(plan: Plan, context: StepContext) -> None:
    """Write down what is about to happen, so that whichever run comes next can finish it. A note that can't be
    written stops a change here, before the agent was touched, and so does what can't be renamed."""
    if plan.switch is not None:
        _check_switch(plan.switch, context.at(plan.switch.at))
        context.note(SwitchNote.BEGINS)


def _check_switch(switch: Switch, context: StepContext) -> None:
    """See that what a switch renames can be renamed where it lies. Raise WriteFailed."""
    made = switch.switch if isinstance(switch, MoveHome) else switch
    names = (made.to, next_name(made.to), previous_name(made.to)) if isinstance(made, SwitchTree) else ()
    config = made.name if isinstance(made, SwitchConfig) else None
    context.worker.do(check_switch, home_of(context.home), made.to, names, config)
