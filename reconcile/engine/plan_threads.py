"""Threads for plans of one kind: so many plans at once, beside those whose agent takes its time to come up.

Such a one only waits, for up to the limit of a start; were its place kept for that long, a few bad agents would hold up
the changes of all others.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 64  # plans of one kind at once, those included that wait
_PATIENCE_S = 10.0  # a start that takes longer makes room


class PlanThreads(Generic[T]):
    """Does what is submitted, in its order. On a host without a further thread those that there are do it all."""

    def __init__(self, kind: str, at_once: int, patience_s: float = _PATIENCE_S) -> None:
        self._kind, self._at_once, self._patience_s = kind, at_once, patience_s
        self._lock = threading.Lock()
        self._queued: deque[tuple[Future[T], Callable[[], T]]] = deque()
        self._plans: dict[threading.Thread, Future[T]] = {}
        self._waiting: set[Future[T]] = set()  # of these plans, those that made room
        self._timers: dict[Future[T], threading.Timer] = {}

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done in a thread. Raise RuntimeError where the host has none for us."""
        future: Future[T] = Future()
        with self._lock:
            self._queued.append((future, work))
            with suppress(RuntimeError):
                self._fill()
            if not self._plans:
                self._queued.clear()
                raise RuntimeError("can't start new thread")
        return future

    def make_room_later(self) -> None:
        """For a plan whose agent is about to be started, in its thread: if it is there after a while, the next one
        begins."""
        future = self._plans[threading.current_thread()]
        # Weak: a plan that has ended by then is not kept for this, nor the files that its result reads.
        timer = threading.Timer(self._patience_s, self._make_room, (weakref.ref(future),))
        timer.daemon = True
        with suppress(RuntimeError):  # without a thread it keeps its place
            timer.start()
            self._cancel_timer(future)
            self._timers[future] = timer

    def shutdown(self) -> None:
        """Wait until all is done."""
        while threads := list(self._plans):
            for thread in threads:
                thread.join()

    def _make_room(self, plan: weakref.ref[Future[T]]) -> None:
        with self._lock, suppress(RuntimeError):
            future = plan()
            if future is not None and future in self._plans.values():
                self._waiting.add(future)
                self._fill()

    def _fill(self) -> None:
        """Begin what is queued, while there is room. With the lock held. Raise RuntimeError."""
        while self._queued and self._has_room():
            future, work = self._queued[0]
            thread = threading.Thread(target=self._work, args=(future, work), name=f"{self._kind}_{len(self._plans)}")
            self._plans[thread] = future
            try:
                thread.start()
            except RuntimeError:
                del self._plans[thread]
                raise
            self._queued.popleft()

    def _has_room(self) -> bool:
        return len(self._plans) < max(_MOST, self._at_once) and len(self._plans) - len(self._waiting) < self._at_once

    def _work(self, future: Future[T], work: Callable[[], T]) -> None:
        """Do it, and go on with what is queued, as long as there is room for this thread's plan."""
        following: tuple[Future[T], Callable[[], T]] | None = (future, work)
        while following is not None:
            future, work = following
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as err:
                    future.set_exception(err)
            self._cancel_timer(future)
            following = self._following(future)

    def _cancel_timer(self, future: Future[T]) -> None:
        timer = self._timers.pop(future, None)
        if timer is not None:
            timer.cancel()

    def _following(self, done: Future[T]) -> tuple[Future[T], Callable[[], T]] | None:
        """What this thread does next; None: it ends."""
        thread = threading.current_thread()
        with self._lock:
            self._waiting.discard(done)
            del self._plans[thread]
            if not (self._queued and self._has_room()):
                return None
            following = self._queued.popleft()
            self._plans[thread] = following[0]
            return following
