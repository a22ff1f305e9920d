"""Carry out one agent's plan, action by action: retries, notes, and where it may be interrupted.

It stops at the first failure. What a failure means for later passes is decided elsewhere; here only one thing is done
about it: after a stop that failed, the version in use is started once, since a stop may have half worked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from attrs import evolve

from probes.errors import (
    InterpreterMissing,
    PolicyRefused,
    SudoRefused,
    ToolMissing,
    UpdaterError,
    UserMissing,
    WorkerLost,
)
from probes.home import home_of, refused_to_root, why_not_made
from probes.host.facts import find_user
from probes.host.paths import AgentHome
from probes.host.trusted_path import open_to_give
from probes.observed import HomeRef, next_name, previous_name
from probes.values import frozen
from probes.worker.pool import is_us
from reconcile.act.context import Interrupted, StepContext, SwitchNote, WrongBytes
from reconcile.act.home_ops import (
    check_changeable,
    check_runs,
    check_switch,
    is_there,
    lock_home,
    make_home,
    unlock_home,
    unmake_home,
)
from reconcile.act.host.root_ops import give_home, take_back_home
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
    WorkDirMissing,
    WriteFailed,
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
    """Who is told of each action before it, and of each outcome right after it."""

    begins: Callable[[Action], None] = lambda action: None
    ended: Callable[[Outcome], None] = lambda outcome: None


def execute(plan: Plan, tools: StepContext, retries: Retries, watcher: Watcher) -> tuple[Outcome, ...]:
    """Carry out a plan and say what came of each action.

    Once a stop has begun, it goes on to the start even if we are asked to end: an agent is not left between.
    """
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        stack.callback(tools.bench.clear)
        missing: set[HomeRef | None] = set()
        try:
            if plan.actions:
                logger.load()
                missing = _take_homes(plan, tools, stack)
        except UpdaterError as err:
            outcomes += _none_done(plan, err, tools.clock())
            watcher.ended(outcomes[0])
            return tuple(outcomes)
        begins = True
        for action in plan.actions:
            gone = tools.ending.is_set() and not _in_downtime(plan, outcomes)
            # What came while we fetched counts (a hold), and what is asked last (a place in the fleet's lock).
            if isinstance(action, Stop | Switch) and not (gone or _is_done_for(outcomes) or _has_begun(outcomes)):
                begins = begins and tools.may_begin()
            if not begins or gone or _is_done_for(outcomes):
                outcomes.append(Outcome(action=action, result=Result.SKIPPED))
                continue
            if isinstance(action, Unpack) and action.at in missing:
                missing.discard(action.at)
                homeless = _move_in(action, tools.at(action.at), stack)
                if homeless is not None:
                    watcher.ended(homeless)
                    outcomes.append(homeless)
                    continue
            outcomes.append(_watched(action, plan, tools, retries, watcher))
            if isinstance(action, Stop) and not action.for_good and _is_half_stopped(outcomes[-1]) and _starts(plan):
                again = Start(version=action.version, at=action.at)
                outcomes.append(_watched(again, plan, tools, retries, watcher))
    return tuple(outcomes)


def load_all() -> None:
    """Load now what the first action would load. A daemon does so as it starts: it must heal on a disk that failed."""
    logger.load()
    for module in ("tenacity.wait", "reconcile.act.host.tar_stream"):
        import_module(module)


def _take_homes(plan: Plan, tools: StepContext, stack: ExitStack) -> set[HomeRef | None]:
    """Lock every home that the plan touches, so that no other updater acts there. Return those that are still to be
    made: right before something is unpacked there, so that a tarball that can't be had leaves no empty home."""
    touching = (action for action in plan.actions if not isinstance(action, Fetch | Verify))
    # What runs from a removed home is ended without it: there may be none to lock.
    at = {action.at for action in touching if not (isinstance(action, Stop) and action.removed)}
    made = {action.at for action in plan.actions if isinstance(action, Unpack)}
    move = plan.move
    if move is not None:
        _check_apart(home_of(move.leaves), home_of(tools.at(move.at).place))
        leaving = tools.at(move.leaves)
        leaving.worker.do(check_changeable, home_of(move.leaves))
        at = {place for place in at if not (place or tools.place).same_home(move.leaves)}
        _lock(leaving, stack)
    missing: set[HomeRef | None] = set()
    for place in at:
        there = tools.at(place)
        if place in made and not there.worker.do(is_there, home_of(there.place)):
            _check_home(there)
            missing.add(place)
        else:
            _lock(there, stack)
    return missing


def _lock(tools: StepContext, stack: ExitStack) -> None:
    stack.enter_context(tools.worker.kept())
    home = home_of(tools.place)
    lock = tools.worker.do(lock_home, home)
    stack.callback(_unless_lost, partial(tools.worker.do, unlock_home, lock))
    if os.geteuid() == 0 and is_us(tools.place.run_user):
        # It was judged when it was observed; by now it may be another folder, or the first one there.
        refused = refused_to_root(home, ())
        if refused:
            raise PolicyRefused(refused)


def _check_apart(left: AgentHome, into: AgentHome) -> None:
    """Refuse a move of a home into itself: what was in use would be in use no more."""
    if os.path.realpath(left.path) == os.path.realpath(into.path):
        raise WriteFailed(f"{left.path} and {into.path} are one directory, by a link: nothing moves; correct workDir")


def _check_home(tools: StepContext) -> None:
    """See that a home can be made, before something is fetched for it. Raise WorkDirMissing, PolicyRefused."""
    home = home_of(tools.place)
    why = tools.worker.do(why_not_made, home)
    if why and (os.geteuid() != 0 or is_us(tools.place.run_user) or not os.path.isdir(home.work_dir)):
        raise WorkDirMissing(why)
    if why:
        os.close(open_to_give(home, find_user(tools.place.run_user).uid, tools.status.given_below))


def _move_in(action: Unpack, tools: StepContext, stack: ExitStack) -> Outcome | None:
    """Make a home and lock it, for as long as something stays in it; the outcome of what was to be done there where
    that fails."""
    try:
        unmake = _make_home(home_of(tools.place), tools)
        try:
            _lock(tools, stack)
        finally:
            stack.callback(_unless_lost, unmake)  # before the lock is let go
    except UpdaterError as err:
        return _failed(Outcome(action=action, result=Result.FAILED, attempts=1, at=tools.clock()), err)
    return None


def _make_home(home: AgentHome, tools: StepContext) -> Callable[[], None]:
    """Let the agent's user make its home; where it may not, and we are root, make it and give it to that user. Return
    what removes it, if it is still empty then."""
    try:
        return partial(tools.worker.do, unmake_home, home, tools.worker.do(make_home, home))
    except WriteFailed:
        if os.geteuid() != 0 or is_us(tools.place.run_user):
            raise
    given = (home, find_user(tools.place.run_user), tools.status.given_below)
    give_home(*given)
    return partial(take_back_home, *given)


def _unless_lost(undo: Callable[[], None]) -> None:
    """Undo what a user's worker did for us; with one that was lost, what it held for us is gone, and what it made stays
    as it is."""
    with suppress(UpdaterError):
        undo()


def _none_done(plan: Plan, err: UpdaterError, at: float) -> tuple[Outcome, ...]:
    first, *rest = plan.actions
    # A home that can't be used says nothing of the content; of a move it does: it is what fails there, and while it is
    # not tried again the agent is healed where it lives.
    attempts = int(plan.move is not None and not isinstance(err, HomeBusy))
    failed = Outcome(action=first, result=Result.FAILED, attempts=attempts, at=at, reason=err.reason, error=err.message)
    return (failed, *(Outcome(action=action, result=Result.SKIPPED) for action in rest))


def _is_done_for(outcomes: list[Outcome]) -> bool:
    return any(outcome.result is Result.FAILED for outcome in outcomes)


def _is_half_stopped(outcome: Outcome) -> bool:
    """A stop that failed may have half worked; what was not even called has left no evidence."""
    return outcome.reason in _HALF_STOPPED and bool(outcome.evidence)


def _has_begun(outcomes: list[Outcome]) -> bool:
    return any(isinstance(o.action, Stop | Switch) and o.result is not Result.SKIPPED for o in outcomes)


def _in_downtime(plan: Plan, outcomes: list[Outcome]) -> bool:
    """Whether the agent is down by our doing: a stop or a switch was made, and a start is still to come."""
    return _has_begun(outcomes) and _starts(plan)


def _starts(plan: Plan) -> bool:
    return any(isinstance(action, Start) for action in plan.actions)


def _watched(action: Action, plan: Plan, tools: StepContext, retries: Retries, watcher: Watcher) -> Outcome:
    watcher.begins(action)
    outcome = _attempt(action, plan, tools, retries)
    watcher.ended(outcome)
    return outcome


def _attempt(action: Action, plan: Plan, tools: StepContext, retries: Retries) -> Outcome:
    at, began = tools.clock(), time.monotonic()
    tries = 0

    def once() -> Result:
        nonlocal tries
        tries += 1
        try:
            return _do(action, plan, tools)
        except MemoryError:
            raise OutOfResources("the host leaves us no memory; it is tried again") from None

    outcome = Outcome(action=action, result=Result.FAILED)
    try:
        result = _retrying(retries, tools)(once)
        outlived = tools.bench.outlived if isinstance(action, Stop) else ""
        outcome = evolve(outcome, result=result, outlived=outlived)
    except Interrupted:
        outcome = evolve(outcome, result=Result.SKIPPED)
    except UpdaterError as err:
        outcome = _failed(outcome, err)
        if isinstance(action, Start) and tools.bench.outlived:
            error = f"{outcome.error}; {tools.bench.outlived} outlived the stop and may hold what it needs (its port)"
            outcome = evolve(outcome, error=error)
    return evolve(outcome, attempts=tries, at=at, seconds=time.monotonic() - began)


def _failed(outcome: Outcome, err: UpdaterError) -> Outcome:
    return evolve(
        outcome,
        reason=err.reason,
        error=err.message,
        evidence=err.evidence,
        was_up=isinstance(err, ControlFailed) and err.was_up,
        served=err.served if isinstance(err, WrongBytes) else None,
        host_fault=_says_nothing(outcome.action, err),
        lost=isinstance(err, WorkerLost) or (isinstance(err, ControlFailed) and err.no_fork),
    )


def _says_nothing(action: Action, err: UpdaterError) -> bool:
    """Whether it failed for a cause of the host's, which is no failure of the content."""
    if isinstance(action, Start | Stop) and isinstance(err, WorkerLost):
        return True
    if isinstance(action, Start) and isinstance(err, ControlFailed) and err.no_fork:
        return True
    if isinstance(action, Start) and isinstance(err, UserMissing | ToolMissing | SudoRefused | InterpreterMissing):
        return True
    return isinstance(err, OutOfResources) or (isinstance(err, ControlFailed) and err.unseen)


def _retrying(retries: Retries, tools: StepContext) -> Retrying:
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
            and not tools.ending.is_set()
        )

    def pause(seconds: float) -> None:
        tools.ending.wait(seconds)

    return Retrying(
        retry=retry_if_exception(worth_it),
        stop=stop_after_attempt(retries.attempts),
        wait=wait,
        sleep=pause,
        reraise=True,
    )


def _do(action: Action, plan: Plan, tools: StepContext) -> Result:
    match action:
        case Fetch():
            return fetch(action, tools)
        case Verify():
            return verify(action, tools)
        case Unpack():
            result = unpack(action, tools.at(action.at))
            _check_runs(plan, tools)
            return result
        case Configure():
            return configure(action, tools.at(action.at))
        case Stop():
            _check_runs(plan, tools)
            _note_switch(plan, tools)
            return stop(action, tools.at(action.at))
        case SwitchVersion() | SwitchTree() | SwitchConfig() | MoveHome():
            if not any(isinstance(other, Stop) for other in plan.actions):
                _check_runs(plan, tools)
                _note_switch(plan, tools)
            return switch(action, tools.at(action.at))
        case Start():
            result = start(action, tools.at(action.at))
            if plan.switch is not None:
                with suppress(UpdaterError):  # it runs: that a note can't be written must not make this a failure
                    tools.note(SwitchNote.CAME_UP)
            return result
        case Prune():
            return prune(action, tools.at(action.at))
        case _:
            assert_never(action)


def _check_runs(plan: Plan, tools: StepContext) -> None:
    """See that what is to be switched to can be executed by its user. Raise InterpreterMissing: it is known before the
    agent was touched."""
    if plan.switch is None:
        return
    there = tools.at(plan.switch.at)
    there.worker.ask(check_runs, home_of(there.place).tree(_lies_in(plan.switch)), tools.status.agent_env)


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


def _note_switch(plan: Plan, tools: StepContext) -> None:
    """Write down what is about to happen, so that whichever run comes next can finish it. A note that can't be
    written stops a change here, before the agent was touched, and so does what can't be renamed."""
    if plan.switch is not None:
        _check_switch(plan.switch, tools.at(plan.switch.at))
        tools.note(SwitchNote.BEGINS)


def _check_switch(switch: Switch, tools: StepContext) -> None:
    """See that what a switch renames can be renamed where it lies. Raise WriteFailed."""
    made = switch.switch if isinstance(switch, MoveHome) else switch
    names = (made.to, next_name(made.to), previous_name(made.to)) if isinstance(made, SwitchTree) else ()
    config = made.name if isinstance(made, SwitchConfig) else None
    tools.worker.do(check_switch, home_of(tools.place), made.to, names, config)
