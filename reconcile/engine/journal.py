"""What other threads leave to the thread of the passes: the one writer of the store.

An agent's thread hands over a note and waits until it is committed; answers of servers and the ends of plans come the
same way.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime  # the built-in one from Python 3.11 on
from typing import TypeVar

from reconcile.decide.records.record import AgentRecord
from reconcile.engine.results import AgentResult
from reconcile.errors import WriteFailed
from reconcile.log import logger
from reconcile.storage.store import Store

T = TypeVar("T")

_WRITTEN_S = 300.0  # how long an agent's thread waits for its note: no wait is without an end


class Journal:
    """Work for the thread of the passes, in the order in which it was handed over. `trouble`: the first reason why
    something could not be remembered, until it is taken."""

    def __init__(self, store: Store, notify: Callable[[], None] = lambda: None) -> None:
        """`notify`: called by another thread when there is something to do."""
        self.store = store
        self.trouble = ""
        self._notify = notify
        self._work: queue.SimpleQueue[Callable[[], AgentResult | None]] = queue.SimpleQueue()

    # Called by other threads

    def post(self, work: Callable[[], AgentResult | None]) -> None:
        """Have something done by the thread of the passes. `work` returns the result of a plan that ended, if one
        did."""
        self._work.put(work)
        self._notify()

    def write(self, record: AgentRecord) -> None:
        """Write a record down, and return when it is on disk. Raise WriteFailed."""
        written: Future[None] = Future()
        self.post(lambda: self._write(record, written))
        try:
            written.result(_WRITTEN_S)
        except NotInTime:
            raise WriteFailed(f"the memory was not written within {_WRITTEN_S:.0f} s; is its disk dead?") from None

    # Called by the thread of the passes alone

    @property
    def waits(self) -> bool:
        """Whether there is something to do."""
        return not self._work.empty()

    def do_next(self, timeout_s: float | None) -> AgentResult | None:
        """Do what was handed over next; wait for it at most so long. Return the result of the plan that ended."""
        try:
            work = self._work.get(timeout=timeout_s) if timeout_s != 0 else self._work.get_nowait()
        except queue.Empty:
            return None
        return work()

    def attempt(self, write: Callable[[], object]) -> None:
        """Write to memory. Where that fails all goes on, since agents matter more."""
        try:
            write()
        except (WriteFailed, OSError) as err:
            self.trouble = self.trouble or str(err)

    def take_trouble(self) -> str:
        """Why something could not be remembered since this was called last; empty: all could."""
        trouble, self.trouble = self.trouble, ""
        return trouble

    def _write(self, record: AgentRecord, written: Future[None]) -> None:
        """Write a note; whatever happens, the thread that waits for it gets an answer."""

        def refuse(err: Exception) -> None:
            self.trouble = self.trouble or str(err)
            expected = isinstance(err, WriteFailed)
            written.set_exception(err if expected else WriteFailed(f"the memory can't be written: {err!r}"))

        def save() -> None:
            try:
                self.store.save([record])
            except WriteFailed as err:
                refuse(err)
            else:
                written.set_result(None)

        guarded(save, refuse)


def guarded(work: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Do `work`; what it raises unexpectedly is logged with its traceback and becomes a value. One agent's trouble is
    its own, and a pass's trouble ends that pass alone."""
    try:
        return work()
    except Exception as err:
        logger.failure("ERROR", err, "unexpected, please report it: {!r}", err)
        return otherwise(err)
