"""Agents' plans side by side: each in a thread, at most so many at once, and some beyond the pass that began them.

Plans that fetch and plans that don't stand in two queues: a download lasts for as long as its server likes, and what
crashed must not wait behind it.

The threads write nothing down themselves: their notes and their results go through one queue to the thread of the
passes, the one writer of the store. What a plan does is carry_out.py's, what becomes of its result cycle.py's.
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
from loguru import logger

from probes.values import frozen
from reconcile.assess import Ask, Assessment
from reconcile.carry_out import AgentResult, Executed, Means, carry_out
from reconcile.decide.actions import Action, Outcome, Result, Start, Stop, Switch
from reconcile.decide.conditions import FALSE, Condition
from reconcile.decide.gate import Moment
from reconcile.decide.records import AgentRecord
from reconcile.decide.view import AgentView
from reconcile.errors import WriteFailed
from reconcile.store import Store

T = TypeVar("T")

_WRITTEN_S = 300.0  # how long an agent's thread waits for its note: no wait is without an end
_LOOK_S = 0.2  # between two looks at the event that ends all plans, for one that waits for its own


@frozen(kw_only=True)
class Begun:
    """The pass that began a plan: what it found, and where its desired state came from."""

    found: Assessment
    ask: Ask


@frozen(kw_only=True)
class Ended:
    """A plan that has ended, and the pass that began it."""

    result: AgentResult
    begun: Begun


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
    """A plan that has not ended. `touches`: set once it stops, switches or starts the agent."""

    future: Future[AgentResult]
    begun: Begun
    ending: _Ending
    touches: threading.Event


@frozen(kw_only=True)
class _Note:
    """An agent's thread asks for its record to be written down, and waits for `written`: None, or why not."""

    record: AgentRecord
    written: Future[None]


class SideBySide:
    """Plans under way. Only the thread of the passes may use it."""

    def __init__(self, parallel: int, ring: Callable[[], None] = lambda: None) -> None:
        """`parallel`: plans at once of those that fetch, and of those that don't. `ring`: called by an agent's thread
        when there is something to `take`."""
        self._parallel = parallel
        self._ring = ring
        self._queue: queue.SimpleQueue[_Note | Future[AgentResult]] = queue.SimpleQueue()
        self._pools: dict[bool, ThreadPoolExecutor] = {}  # made with the first plan: most passes have none
        self._begun: dict[str, _UnderWay] = {}

    @property
    def names(self) -> frozenset[str]:
        """The agents whose plan has not ended, or whose result was not taken yet."""
        return frozenset(self._begun)

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return not self._queue.empty()

    def begin(self, means: Means, view: AgentView, begun: Begun) -> None:
        """Begin an agent's plan, or queue it where `parallel` of its kind are under way."""
        fetches, ending, touches = view.due.fetches, _Ending(means.ending), threading.Event()

        def begins(view: AgentView, action: Action) -> None:
            if isinstance(action, Stop | Switch | Start):
                touches.set()
            told(view, action)

        told = means.begins
        if fetches not in self._pools:
            self._pools[fetches] = ThreadPoolExecutor(max_workers=self._parallel, thread_name_prefix="agent")
        means = evolve(means, ending=ending, begins=begins)
        future = self._pools[fetches].submit(self._one_agent, means, view, moment_of(begun.found))
        self._begun[view.desired.name] = _UnderWay(future=future, begun=begun, ending=ending, touches=touches)
        future.add_done_callback(self._hand_over)

    def give_way(self, name: str) -> None:
        """Have an agent's plan end where nothing is half done, if it has not touched the agent yet: that is down, and
        what arrived stays for the next plan."""
        plan = self._begun.get(name)
        if plan is not None and not plan.touches.is_set() and not plan.ending.is_set():
            logger.info("{} is down: its download waits until it was started", name)
            plan.ending.set()

    def withdraw(self) -> tuple[str, ...]:
        """Take back the plans that are queued: a later pass makes them anew, of what is so then."""
        names = [name for name, plan in self._begun.items() if plan.future.cancel()]
        for name in names:
            del self._begun[name]
        return tuple(names)

    def take(self, store: Store, timeout_s: float | None) -> tuple[Ended | None, str]:
        """Write down the next note, or return the next plan that has ended; wait for it at most so long.

        Also return why a note could not be written, or ''.
        """
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s != 0 else self._queue.get_nowait()
        except queue.Empty:
            return None, ""
        if isinstance(item, _Note):
            return None, _answer(store, item)  # whatever happens, the thread that waits for it gets an answer
        if item.cancelled():
            return None, ""
        result = item.result()
        plan = self._begun.pop(result.view.desired.name)
        return Ended(result=result, begun=plan.begun), ""

    def close(self) -> None:
        """End the threads; no plan may be under way."""
        assert not self._begun
        while self._pools:
            self._pools.popitem()[1].shutdown()

    def _hand_over(self, item: _Note | Future[AgentResult]) -> None:
        self._queue.put(item)
        self._ring()

    def _one_agent(self, means: Means, view: AgentView, moment: Moment) -> AgentResult:
        def journal(record: AgentRecord) -> None:
            asked = _Note(record=record, written=Future())
            self._hand_over(asked)
            try:
                asked.written.result(_WRITTEN_S)
            except NotInTime:
                raise WriteFailed(f"the memory was not written within {_WRITTEN_S:.0f} s; is its disk dead?") from None

        with logger.contextualize(agent=view.desired.name):
            return guarded(
                lambda: carry_out(means, view, moment, journal), lambda err: _broken(view, f"unexpected: {err!r}")
            )


def guarded(work: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Do `work`; what it raises unexpectedly is logged with its traceback and becomes a value. One agent's trouble is
    its own, and a pass's trouble ends that pass alone."""
    try:
        return work()
    except Exception as err:
        logger.opt(exception=True).error("unexpected, please report it: {!r}", err)
        return otherwise(err)


def moment_of(found: Assessment) -> Moment:
    """The time of an assessment, and how live its desired state is."""
    why = "" if found.failed is None else found.failed.message
    return Moment(now=found.at, answered=found.answered, why_kept=why)


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


def _broken(view: AgentView, error: str) -> AgentResult:
    """An agent whose part of the pass ended in an exception that nobody expected."""
    failed = Outcome(action=view.due.actions[0], result=Result.FAILED, reason="InternalError", error=error)
    conditions = (Condition(type="Ready", status=FALSE, reason=failed.reason, message=error),)
    executed = (Executed(plan=view.due, outcomes=(failed,)),)
    # No record: what was noted on the way stands.
    return AgentResult(view=view, after=view, executed=executed, conditions=conditions, record=None)
