"""Agents' plans side by side: each in a thread, at most so many at once, and some beyond the pass that began them.

Heals, plans that fetch and other changes stand in queues of their own: a download lasts for as long as its server
likes, a start that fails for its whole limit, and what crashed must not wait behind either.

What a plan does is execution.py's. Whatever it notes, and its result, is written down by the thread of the passes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType

from attrs import define, evolve, field

from reconcile.decide.actions import Action, Fetch, Outcome, Result, Start, Stop, Switch
from reconcile.decide.admission import EvaluationContext
from reconcile.decide.conditions import FALSE, Condition
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.engine.execution import carry_out, heal
from reconcile.engine.execution_context import ExecutionContext
from reconcile.engine.journal import Journal, guarded
from reconcile.engine.recording import as_recorded, record
from reconcile.engine.results import AgentResult, executed_plan, with_late_fetch
from reconcile.log import logger

_HEALS = 64  # at once: each mostly waits for its own agent, and one that takes its time keeps no other down
_POLL_S = 0.2  # how often the event that ends all plans is read by one that waits for its own


class _Ending(threading.Event):
    """Set for one plan, or with the event that ends all of them."""

    def __init__(self, of_all: threading.Event) -> None:
        super().__init__()
        self._of_all = of_all

    def is_set(self) -> bool:
        return super().is_set() or self._of_all.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            super().wait(min(left, _POLL_S))
        return self.is_set()


@define(eq=False)
class RunningPlan:
    """A plan that is queued or runs. `kind`: of its queue: heal, fetch or change. `heal`: what is healed, in place of
    the change; None: nothing. `touches`: it has begun to stop, switch or start the agent; `fetching`: it downloads
    now; `resumed`: it went on where an earlier download ended; `time_was_up`: its download was ended for want of
    time."""

    kind: str
    heal: AgentEvaluation | None
    context: ExecutionContext
    ending: _Ending
    future: Future[AgentResult] = field(factory=Future)
    touches: bool = False
    fetching: bool = False
    resumed: bool = False
    time_was_up: bool = False
    _has_bytes: bool = False

    def watched(self) -> ExecutionContext:
        """The context to carry it out with: what it does is seen here, too. Called in its thread."""
        return evolve(self.context, ending=self.ending, begins=self._begins, ended=self._ended, arrived=self._arrived)

    def _begins(self, view: AgentEvaluation, action: Action) -> None:
        self.touches = self.touches or isinstance(action, Stop | Switch | Start)
        self.fetching = isinstance(action, Fetch)
        self.context.begins(view, action)

    def _ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        self.fetching = False
        self.context.ended(view, outcome)

    def _arrived(self, view: AgentEvaluation, size: int, total: int | None) -> None:
        self.resumed = self.resumed or (size > 0 and not self._has_bytes)
        self._has_bytes = True
        self.context.arrived(view, size, total)


class _Threads(ThreadPoolExecutor):
    """Where the host has no further thread for us, those that there are do the work. RuntimeError: there are none."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


class PlanPool:
    """The plans that run, by agent. Only the thread of the passes may use it."""

    def __init__(self, journal: Journal, parallel: int) -> None:
        """`parallel`: plans at once of those that fetch, and of the other changes; heals are not changes."""
        self.journal = journal
        self._parallel = parallel
        self._running: dict[str, RunningPlan] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}  # made with the first plan: most passes have none

    @property
    def running(self) -> Mapping[str, RunningPlan]:
        """The plans that have not ended, or whose result was not taken yet, by agent."""
        return MappingProxyType(self._running)

    def start(
        self,
        context: ExecutionContext,
        view: AgentEvaluation,
        evaluation: EvaluationContext,
        heal: AgentEvaluation | None = None,
    ) -> None:
        """Begin an agent's plan, or queue it where enough of its kind run. `heal`: what of the view is healed, in place
        of its change."""
        due = heal or view
        kind = "heal" if due.only_heals or due.due.only_starts else "fetch" if due.due.fetches else "change"
        if kind not in self._threads:
            at_once = max(self._parallel, _HEALS) if kind == "heal" else self._parallel
            self._threads[kind] = _Threads(max_workers=at_once, thread_name_prefix=kind)
        plan = RunningPlan(kind=kind, heal=heal, context=context, ending=_Ending(context.ending))
        name = view.desired.name
        self._running[name] = plan
        try:
            plan.future = self._threads[kind].submit(self._carry_out, plan, view, evaluation)
        except RuntimeError as err:
            del self._threads[kind]  # it has no thread, and what it queued is never begun
            why = f"not begun, the host is short of a resource: {err}"
            plan.future.set_result(_broken(plan, view, evaluation, why, host_fault=True))
        plan.future.add_done_callback(lambda future: self.journal.post(lambda: self._take(name, future)))

    def next_result(self, timeout_s: float | None) -> AgentResult | None:
        """Do what another thread waits for, at most one thing, and wait for that at most so long. Return the result of
        the plan that ended, if one did: it is recorded by then."""
        return self.journal.do_next(timeout_s)

    def yield_to_heal(self, name: str) -> None:
        """Have an agent's plan end where nothing is half done, if it has not touched the agent yet: that is down, and
        what arrived stays for the next plan."""
        plan = self._running.get(name)
        if plan is not None and not plan.touches and not plan.ending.is_set():
            logger.info("{} is down: its download waits until it was started", name)
            plan.ending.set()

    def end_download(self, name: str) -> bool | None:
        """Have an agent's download end where it is: what arrived stays for the next run. Whether it ends that way;
        None: it had not begun, and was cancelled."""
        plan = self._running.get(name)
        if plan is None or plan.kind != "fetch":
            return False
        if plan.future.cancel():
            del self._running[name]
            return None
        if plan.fetching:
            plan.time_was_up = True
            plan.ending.set()
        return plan.ending.is_set()

    def cancel_queued(self) -> frozenset[str]:
        """Cancel the plans that are queued: a later pass plans for their agents again. Return these agents."""
        names = frozenset(name for name, plan in self._running.items() if plan.future.cancel())
        for name in names:
            del self._running[name]
        return names

    def close(self) -> None:
        """End the threads; no plan may be running."""
        assert not self._running
        while self._threads:
            self._threads.popitem()[1].shutdown()

    def _take(self, name: str, future: Future[AgentResult]) -> AgentResult | None:
        """Record the result of a plan that ended. In the thread of the passes."""
        if future.cancelled():
            return None
        del self._running[name]
        result = future.result()
        result = as_recorded(result)
        self.journal.attempt(lambda: record(self.journal.store, [result]))
        return result

    def _carry_out(self, plan: RunningPlan, view: AgentEvaluation, evaluation: EvaluationContext) -> AgentResult:
        """Carry a plan out, in the plan's own thread."""
        do = carry_out if plan.heal is None else heal

        def work() -> AgentResult:
            result = do(plan.watched(), view, evaluation, self.journal.write)
            return with_late_fetch(result, time_was_up=plan.time_was_up)

        with logger.contextualize(agent=view.desired.name):
            return guarded(work, lambda err: _broken(plan, view, evaluation, f"unexpected: {err!r}"))


def _broken(
    plan: RunningPlan, view: AgentEvaluation, evaluation: EvaluationContext, error: str, *, host_fault: bool = False
) -> AgentResult:
    """An agent whose plan ended in an unexpected exception, or could not be begun."""
    acted_on = plan.heal or view
    failed = Outcome(
        action=acted_on.due.actions[0], result=Result.FAILED, reason="InternalError", error=error, host_fault=host_fault
    )
    return AgentResult(
        view=view,
        after=view,
        executed=(executed_plan(acted_on, (failed,)),),
        conditions=(Condition(type="Ready", status=FALSE, reason=failed.reason, message=error),),
        record=None,  # what was noted on the way stands
        at=evaluation.now,
    )
