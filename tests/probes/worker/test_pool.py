"""Operations of our own user run here, those of another in a child: here what needs no rights."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from attrs import evolve

from probes.errors import UserMissing, WorkerLost
from probes.host.facts import User, own_user
from probes.host.output_capture import open_capture
from probes.host.user_access import python_info
from probes.worker import pool
from probes.worker.bootstrap import BOOT
from probes.worker.client import WorkerClient, WorkerLimits, start_worker
from probes.worker.pool import WorkerPool, is_us, run_per_user
from tests.e2e.processes import until

pytestmark = pytest.mark.python_sensitive


def fail() -> None:
    raise ZeroDivisionError


def test_our_own_user_works_in_this_process() -> None:
    assert WorkerPool().of(own_user().name).do(os.getpid) == os.getpid()


def test_what_an_operation_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        WorkerPool().of(own_user().name).do(fail)


@pytest.mark.parametrize(("limit_s", "times"), [(600.0, 2), (0.02, 1)])
def test_what_was_lost_is_asked_once_more_and_not_what_took_its_time(limit_s: float, times: int) -> None:
    asked: list[float] = []

    def lost() -> None:
        asked.append(time.monotonic())
        time.sleep(0.02)
        raise WorkerLost("it was killed")

    with pytest.raises(WorkerLost, match="it was killed"):
        WorkerPool().of(own_user().name, limit_s).ask(lost)
    assert len(asked) == times


def test_what_was_lost_once_is_answered_the_second_time() -> None:
    asked: list[int] = []

    def lost_once() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise WorkerLost("it was killed")
        return "an answer"

    assert WorkerPool().of(own_user().name).ask(lost_once) == "an answer"


def test_a_user_that_does_not_exist_is_refused_again_and_again() -> None:
    workers = WorkerPool()
    for _ in range(3):
        with pytest.raises(UserMissing, match="'no-such-user' does not exist"):
            workers.of("no-such-user").do(os.getpid)
    workers.end()
    workers.end()


def test_only_our_own_user_is_us() -> None:
    assert is_us(own_user().name)
    assert not is_us("no-such-user")
    assert not is_us("nobody")


def test_workers_live_while_an_operation_runs() -> None:
    """A plan may outlast its pass, and its child with it; who is missing is looked up again after that."""
    workers = WorkerPool()
    with workers.at_work():
        with workers.at_work(), pytest.raises(UserMissing):
            workers.of("no-such-user").do(os.getpid)
        held_open = workers._users["no-such-user"]
        assert held_open.is_refused
        workers.forget_refused()
        assert "no-such-user" not in workers._users
        with pytest.raises(UserMissing):
            workers.of("no-such-user").do(os.getpid)
    assert "no-such-user" not in workers._users


# Many users


class Crowd:
    """Users of any name, each of which works as our own user, in a child of its own. `pids`: of the last child of each;
    `most`: that lived at one time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pids: dict[str, int] = {}
        self.most = 0
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        monkeypatch.setattr(pool, "is_us", lambda name: False)

    def start(self, name: str) -> WorkerClient:
        user = evolve(own_user(), name=name)
        return start_worker(user, spawn=self._spawn, interpreters=(sys.executable,))

    def _spawn(self, user: User, interpreter: str, limits: WorkerLimits) -> WorkerClient:
        errors = open_capture(None)
        argv = [interpreter, "-I", "-S", "-c", BOOT]
        with self._lock:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fd, bufsize=0)
            self._children[user.name] = process
            self.pids[user.name] = process.pid
            self.most = max(self.most, len(self.alive))
        return WorkerClient(user.name, process, errors, limits)

    @property
    def alive(self) -> list[str]:
        return [name for name, process in self._children.items() if process.poll() is None]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(monkeypatch)


@pytest.mark.slow
def test_only_some_of_many_users_have_a_worker_at_one_time(crowd: Crowd) -> None:
    users = [f"user-{number}" for number in range(10)]
    # On a slow machine one that makes room takes its time.
    workers = WorkerPool(at_once=3, idle_end_s=60.0, start=crowd.start)
    with workers.at_work(), workers.of("keeps").held_open():
        workers.of("keeps").do(python_info)
        keeper = crowd.pids["keeps"]
        found = run_per_user(users, lambda user: workers.of(user).do(python_info), at_once=3)
        assert [one.python for one in found.values()] == [sys.executable] * 10
        assert list(found) == users
        assert crowd.most <= 4, "three side by side, and the one that holds something"
        assert "keeps" in crowd.alive
        for _ in range(5):  # that it was ended to make room for others is no failure of its child
            for user in users[:4]:
                workers.of(user).do(python_info)
        assert crowd.most <= 4
        workers.of("keeps").do(python_info)
        assert crowd.pids["keeps"] == keeper
    until(lambda: not crowd.alive, "all children end")


def test_one_that_takes_its_time_keeps_one_place_alone() -> None:
    others = [f"user-{number}" for number in range(20)]
    done: list[str] = []
    all_done = threading.Event()

    def work(user: str) -> bool:
        if user == "slow":
            return all_done.wait(60)
        done.append(user)
        if len(done) == len(others):
            all_done.set()
        return True

    assert all(run_per_user(["slow", *others], work, at_once=2).values())


@pytest.mark.parametrize("left", [0, 1])
def test_on_a_host_without_a_further_thread_users_are_done_one_after_another(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    begin, begun = threading.Thread.start, list[threading.Thread]()

    def until_none_is_left(thread: threading.Thread) -> None:
        if len(begun) == left:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", until_none_is_left)
    users = [f"user-{number}" for number in range(5)]
    assert run_per_user(users, len) == dict.fromkeys(users, 6)
    assert len(begun) == left


def test_what_one_users_work_raises_is_raised_once_all_are_done() -> None:
    done: list[str] = []

    def work(user: str) -> None:
        done.append(user)
        if user == "a":
            raise ValueError(user)

    with pytest.raises(ValueError, match="a"):
        run_per_user("abc", work)
    assert sorted(done) == ["a", "b", "c"]
