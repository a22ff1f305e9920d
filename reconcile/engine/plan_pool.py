"""Agents' plans side by side: each in a thread, at most so many at once, and some beyond the pass that began them.

Heals, plans that fetch and other changes stand in queues of their own: a download lasts for as long as its server
likes, a start that fails for its whole limit, and what crashed must not wait behind either.

The threads write nothing down themselves: their notes and their results go through one queue to the thread of the
passes, the one writer of the store. What a plan does is agent_reconciler.py's, what becomes of its result
reconciler.py's.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime  # the built-in one from Python 3.11 on
from typing import TypeVar

from attrs import evolve

from probes.values import frozen
from reconcile.decide.actions import Action, Fetch, Outcome, Result, Start, Stop, Switch
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.conditions import FALSE, Condition
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.records import AgentRecord
from reconcile.engine.agent_reconciler import AgentResult, ExecutionContext, carry_out, executed_plan
from reconcile.engine.pass_context import Assessment
from reconcile.errors import WriteFailed
from reconcile.log import logger
from reconcile.storage.store import Store

T = TypeVar("T")

_WRITTEN_S = 300.0  # how long an agent's thread waits for its note: no wait is without an end
_HEALS = 64  # at once: each mostly waits for its own agent, and one that takes its time keeps no other down
_LOOK_S = 0.2  # between two looks at the event that ends all plans, for one that waits for its own


@frozen(kw_only=True)
class PlanOrigin:
    """The pass that began a plan: what it found. `heals`: the plan is what an agent needs before its change."""

    found: Assessment
    heals: bool = False

    @property
    def moment(self) -> EvaluationContext:
        return evolve(self.found.moment, answered=Freshness.KEPT) if self.heals else self.found.moment


@frozen(kw_only=True)
class PlanEnded:
    """A plan that has ended, and the pass that began it."""

    result: AgentResult
    begun: PlanOrigin


@frozen(kw_only=True)
class Arrived:
    """What another thread found out for a pass. `of`: whose it is; `about`: an agent's name, or empty."""

    of: object
    about: str
    value: object


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
            super().wait(min(left, _LOOK_S))
        return self.is_set()


@frozen(kw_only=True)
class _UnderWay:
    """A plan that has not ended. `touches`: set once it stops, switches or starts the agent; `fetching`: while it
    downloads; `resumed`: once it goes on where an earlier download ended."""

    kind: str
    future: Future[AgentResult]
    begun: PlanOrigin
    ending: _Ending
    touches: threading.Event
    fetching: threading.Event
    resumed: threading.Event


@frozen(kw_only=True)
class _Note:
    """An agent's thread asks for its record to be written down, and waits for `written`: None, or why not."""

    record: AgentRecord
    written: Future[None]


class _Threads(ThreadPoolExecutor):
    """Where the host has no further thread for us, those that there are do the work. RuntimeError: there are none."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


class PlanPool:
    """Plans under way. Only the thread of the passes may use it."""

    def __init__(self, parallel: int, ring: Callable[[], None] = lambda: None) -> None:
        """`parallel`: plans at once of those that fetch, and of the other changes; heals are not changes. `ring`:
        called by an agent's thread when there is something to `take`."""
        self._parallel = parallel
        self._ring = ring
        self._queue: queue.SimpleQueue[_Note | Future[AgentResult] | Arrived] = queue.SimpleQueue()
        self._pools: dict[str, ThreadPoolExecutor] = {}  # made with the first plan: most passes have none
        self._begun: dict[str, _UnderWay] = {}

    @property
    def names(self) -> frozenset[str]:
        """The agents whose plan has not ended, or whose result was not taken yet."""
        return frozenset(self._begun)

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return not self._queue.empty()

    def post(self, item: Arrived) -> None:
        """Have something taken by the thread of the passes. Called by other threads."""
        self._hand_over(item)

    def begin(self, context: ExecutionContext, view: AgentEvaluation, begun: PlanOrigin) -> None:
        """Begin an agent's plan, or queue it where `parallel` of its kind are under way."""
        first = True
        ending, touches, fetching, resumed = _Ending(context.ending), *(threading.Event() for _ in range(3))
        kind = "heal" if view.only_heals or view.due.only_starts else "fetch" if view.due.fetches else "change"

        def begins(view: AgentEvaluation, action: Action) -> None:
            if isinstance(action, Stop | Switch | Start):
                touches.set()
            if isinstance(action, Fetch):
                fetching.set()
            told(view, action)

        def ended(view: AgentEvaluation, outcome: Outcome) -> None:
            fetching.clear()
            told_end(view, outcome)

        def arrived(view: AgentEvaluation, size: int, total: int | None) -> None:
            nonlocal first
            if first and size:
                resumed.set()
            first = False
            told_bytes(view, size, total)

        told, told_end, told_bytes = context.begins, context.ended, context.arrived
        if kind not in self._pools:
            at_once = max(self._parallel, _HEALS) if kind == "heal" else self._parallel
            self._pools[kind] = _Threads(max_workers=at_once, thread_name_prefix=kind)
        context = evolve(context, ending=ending, begins=begins, ended=ended, arrived=arrived)
        try:
            future = self._pools[kind].submit(self._one_agent, context, view, begun.moment)
        except RuntimeError as err:
            del self._pools[kind]  # it has no thread, and what it queued is never begun
            future = Future()
            future.set_result(_broken(view, f"not begun, the host is short of a resource: {err}", host_fault=True))
        self._begun[view.desired.name] = _UnderWay(
            kind=kind,
            future=future,
            begun=begun,
            ending=ending,
            touches=touches,
            fetching=fetching,
            resumed=resumed,
        )
        future.add_done_callback(self._hand_over)

    def yield_to_heal(self, name: str) -> None:
        """Have an agent's plan end where nothing is half done, if it has not touched the agent yet: that is down, and
        what arrived stays for the next plan."""
        plan = self._begun.get(name)
        if plan is not None and not plan.touches.is_set() and not plan.ending.is_set():
            logger.info("{} is down: its download waits until it was started", name)
            plan.ending.set()

    def is_resumed(self, name: str) -> bool:
        """Whether an agent's download goes on where an earlier one ended."""
        return name in self._begun and self._begun[name].resumed.is_set()

    def end_download(self, name: str) -> bool | None:
        """Have an agent's download end where it is, what arrived stays for the next run. Whether it ends that way;
        None: it had not begun, and was withdrawn."""
        plan = self._begun.get(name)
        if plan is None or plan.kind != "fetch":
            return False
        if plan.future.cancel():
            del self._begun[name]
            return None
        if plan.fetching.is_set():
            plan.ending.set()
        return plan.ending.is_set()

    def cancel_queued(self) -> tuple[str, ...]:
        """Take back the plans that are queued: a later pass makes them anew, of what is so then."""
        names = [name for name, plan in self._begun.items() if plan.future.cancel()]
        for name in names:
            del self._begun[name]
        return tuple(names)

    def next_event(self, store: Store, timeout_s: float | None) -> tuple[PlanEnded | Arrived | None, str]:
        """Write down the next note, or return the next plan that has ended or what arrived; wait at most so long.

        Also return why a note could not be written, or ''.
        """
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s != 0 else self._queue.get_nowait()
        except queue.Empty:
            return None, ""
        if isinstance(item, _Note):
            return None, _answer(store, item)  # whatever happens, the thread that waits for it gets an answer
        if isinstance(item, Arrived):
            return item, ""
        if item.cancelled():
            return None, ""
        result = item.result()
        plan = self._begun.pop(result.view.desired.name)
        return PlanEnded(result=result, begun=plan.begun), ""

    def close(self) -> None:
        """End the threads; no plan may be under way."""
        assert not self._begun
        while self._pools:
            self._pools.popitem()[1].shutdown()

    def _hand_over(self, item: _Note | Future[AgentResult] | Arrived) -> None:
        self._queue.put(item)
        self._ring()

    def _one_agent(self, context: ExecutionContext, view: AgentEvaluation, moment: EvaluationContext) -> AgentResult:
        def journal(record: AgentRecord) -> None:
            asked = _Note(record=record, written=Future())
            self._hand_over(asked)
            try:
                asked.written.result(_WRITTEN_S)
            except NotInTime:
                raise WriteFailed(f"the memory was not written within {_WRITTEN_S:.0f} s; is its disk dead?") from None

        with logger.contextualize(agent=view.desired.name):
            return guarded(
                lambda: carry_out(context, view, moment, journal), lambda err: _broken(view, f"unexpected: {err!r}")
            )


def guarded(work: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Do `work`; what it raises unexpectedly is logged with its traceback and becomes a value. One agent's trouble is
    its own, and a pass's trouble ends that pass alone."""
    try:
        return work()
    except Exception as err:
        logger.failure("ERROR", err, "unexpected, please report it: {!r}", err)
        return otherwise(err)


def _answer(store: Store, note: _Note) -> str:
    def deny(err: Exception) -> str:
        note.written.set_exception(WriteFailed(f"the memory can't be written: {err!r}"))
        return str(err)

    return guarded(lambda: _write_note(store, note), deny)


def _write_note(store: Store, note: _Note) -> str:
    """Write down how far a switch is; return why that could not be done, or ''."""
    try:
        store.save([note.record])
    except WriteFailed as err:
        note.written.set_exception(err)
        return err.message
    note.written.set_result(None)
    return ""


def _broken(view: AgentEvaluation, error: str, *, host_fault: bool = False) -> AgentResult:
    """An agent whose part of the pass ended in an exception that nobody expected, or could not be begun."""
    failed = Outcome(
        action=view.due.actions[0], result=Result.FAILED, reason="InternalError", error=error, host_fault=host_fault
    )
    conditions = (Condition(type="Ready", status=FALSE, reason=failed.reason, message=error),)
    executed = (executed_plan(view, (failed,)),)
    # No record: what was noted on the way stands.
    return AgentResult(view=view, after=view, executed=executed, conditions=conditions, record=None)
