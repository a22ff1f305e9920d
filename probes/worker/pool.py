"""Carry out operations in an agent's home as the agent's user: here where that is us, else in one child per user.

An operation is a function of a module's top level whose parameters and result have a form on the wire (protocol.py), so
it is the same whether it runs here or there. They are handed in: this module knows none of them. Children are started
when first needed and live while anybody is `at_work`: a pass, a plan; where there are many users, those in use alone.
One that is lost is replaced, a few times.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from probes.errors import UpdaterError, WorkerLost
from probes.host.facts import find_user, own_user

if TYPE_CHECKING:
    from probes.worker.client import WorkerClient

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 120.0  # of an operation that only reads or renames; a disk that hangs must not hold a pass for ever
AT_ONCE = 16  # users that are worked as side by side: each has a child of 15 MB
_MOST_CHILDREN = 3  # of one user in one pass: a change under way outlives a killed child, and a loop of them ends
_IDLE_END_S = 0.5  # to end for one that makes room: the others are reaped later


class WorkerPool:
    """The users that we work as in one pass. Safe from several threads at once."""

    def __init__(
        self,
        at_once: int = AT_ONCE,
        idle_end_s: float = _IDLE_END_S,
        start: Callable[[str], WorkerClient] | None = None,
    ) -> None:
        """`at_once`: users that have a child at one time; `idle_end_s`: to end for one that makes room; `start`: starts
        a child, where that is not the usual way."""
        self._at_once, self._idle_end_s, self._start = at_once, idle_end_s, start or _start_worker
        self._lock = threading.Lock()
        self._users: dict[str, _UserWorkers] = {}  # in the order of their last use
        self._at_work = 0

    def of(self, run_user: str, limit_s: float = LIMIT_S) -> UserWorker:
        """Whom to let work as `run_user`, each operation at most `limit_s` seconds where it is not us."""
        return UserWorker(self, run_user, limit_s)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let children live for as long as the block lasts, and as others last: a plan may outlast its pass."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                over = self._at_work == 0
            if over:
                self.end()

    def forget_refused(self) -> None:
        """Look those users up again of which there is no child."""
        with self._lock:
            self._users = {name: user for name, user in self._users.items() if not user.is_refused}

    def end(self) -> None:
        """End all children: what is asked later starts new ones, and looks users up again."""
        with self._lock:
            users, self._users = list(self._users.values()), {}
        if not users:
            return
        from probes.worker.client import LIMITS  # loaded by the child that ends

        for user in users:
            user.close_input()
        until = time.monotonic() + LIMITS.end_s  # for all of them: one that does not end delays the others little
        for user in users:
            user.end(until)

    @contextmanager
    def _used(self, name: str) -> Iterator[_UserWorkers]:
        """The hands of a user, whose child is not ended meanwhile. Idle ones make room for it."""
        with self._lock:
            user = self._users.pop(name) if name in self._users else _UserWorkers(name, self._start)
            self._users[name] = user
            user.uses += 1
            idle = [other for other in self._users.values() if other.has_child and not other.uses]
            in_use = sum(other.uses > 0 for other in self._users.values())
            surplus = [other.give_up() for other in idle[: max(0, len(idle) + in_use - self._at_once)]]
        until = time.monotonic() + self._idle_end_s
        for child in surplus:
            child.end(until)
        try:
            yield user
        finally:
            with self._lock:
                user.uses -= 1


def run_per_user(users: Iterable[str], work: Callable[[str], T], at_once: int = AT_ONCE) -> dict[str, T]:
    """Have `work` done for each user, so many at the same time: one that takes its time keeps one place of them, and
    does not stand before the others. On a host without a further thread they are done one after another, here."""
    users = tuple(users)
    waiting = deque(users)
    done: dict[str, T] = {}
    failed: list[BaseException] = []

    def work_off() -> None:
        with suppress(IndexError):
            while True:
                user = waiting.popleft()
                try:
                    done[user] = work(user)
                except BaseException as err:
                    failed.append(err)

    threads: list[threading.Thread] = []
    with suppress(RuntimeError):
        for number in range(1, min(len(waiting), at_once)):
            thread = threading.Thread(target=work_off, name=f"as_{number}")
            thread.start()
            threads.append(thread)
    work_off()
    for thread in threads:
        thread.join()
    for err in failed:
        raise err
    return {user: done[user] for user in users}


class UserWorker:
    """Works as one user."""

    def __init__(self, workers: WorkerPool, run_user: str, limit_s: float) -> None:
        self._workers = workers
        self._run_user = run_user
        self._limit_s = limit_s

    def do(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Carry out an operation. Raise what it raises; UserMissing, SudoRefused, ToolMissing, InterpreterMissing where
        we can't become that user, WorkerLost where its child fails us."""
        if is_us(self._run_user):
            return operation(*args, **kwargs)
        with self._workers._used(self._run_user) as user:
            return user.child().call(operation, args, kwargs, self._limit_s)

    def ask(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what changes nothing: asked once more where the child was lost meanwhile (killed, for one), and
        not where it only took its time."""
        began = time.monotonic()
        try:
            return self.do(operation, *args, **kwargs)
        except WorkerLost:
            if time.monotonic() - began > self._limit_s / 2:
                raise
            return self.do(operation, *args, **kwargs)

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Let the child of this user live for as long as the block lasts, since it holds something for us."""
        if is_us(self._run_user):
            yield
            return
        with self._workers._used(self._run_user):
            yield


def is_us(run_user: str) -> bool:
    """Whether a user is the one that we run as."""
    return run_user == own_user().name or _uid(run_user) == os.geteuid()


def _uid(name: str) -> int | None:
    try:
        return find_user(name).uid
    except UpdaterError:
        return None


def _start_worker(name: str) -> WorkerClient:
    from probes.worker.client import start_worker  # here: most hosts have no other users, and no use for it

    return start_worker(find_user(name))


class _UserWorkers:
    """The child of one user, and why there is none. `uses`: by whom just now; counted by WorkerPool."""

    def __init__(self, name: str, start: Callable[[str], WorkerClient]) -> None:
        self.uses = 0
        self._name, self._start = name, start
        self._lock = threading.Lock()
        self._child: WorkerClient | None = None
        self._started = 0
        self._refused: UpdaterError | None = None

    @property
    def is_refused(self) -> bool:
        return self._refused is not None

    @property
    def has_child(self) -> bool:
        return self._child is not None

    def give_up(self) -> WorkerClient:
        """Hand over the child, to be ended. For one that is not in use."""
        child, self._child = self._child, None
        assert child is not None
        if not child.is_lost:
            self._started -= 1  # that it is needed again is no failure of it
        return child

    def child(self) -> WorkerClient:
        """The child that lives, else a new one. Raise why there can be none."""
        with self._lock:
            if self._refused is not None:
                raise self._refused
            if self._child is None or self._child.is_lost:
                if self._child is not None:
                    self._child.end()
                self._child = self._next_child()
            return self._child

    def close_input(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.close_input()

    def end(self, until: float) -> None:
        with self._lock:
            if self._child is not None:
                self._child.end(until)
            self._child = None

    def _next_child(self) -> WorkerClient:
        try:
            if self._started == _MOST_CHILDREN:
                raise WorkerLost(f"what works as {self._name} ended {self._started} times; it is left for this pass")
            self._started += 1
            return self._start(self._name)
        except UpdaterError as err:
            self._refused = err  # of this pass: sudo is not asked again for each step of each agent
            raise
