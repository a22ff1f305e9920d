"""How many plans run at once, and what makes room for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from reconcile.engine.plan_threads import PlanThreads

LIMIT_S = 60


class Plans:
    """Plans that run until they are told to end."""

    def __init__(self, at_once: int, patience_s: float = LIMIT_S) -> None:
        self.begun: list[str] = []
        self.changed = threading.Condition()
        self.threads: PlanThreads[str] = PlanThreads("plan", at_once, patience_s)
        self._ends: dict[str, threading.Event] = {}

    def submit(self, name: str, first: Callable[[], object] = lambda: None) -> Future[str]:
        end = self._ends[name] = threading.Event()

        def work() -> str:
            first()
            with self.changed:
                self.begun.append(name)
                self.changed.notify_all()
            assert end.wait(LIMIT_S)
            return name

        return self.threads.submit(work)

    def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()

    def wait(self, *names: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(names) <= set(self.begun), LIMIT_S), self.begun


def test_so_many_run_at_once_in_the_order_in_which_they_came() -> None:
    plans = Plans(at_once=2)
    futures = [plans.submit(name) for name in "abcd"]
    plans.wait("a", "b")
    assert sorted(plans.begun) == ["a", "b"]
    plans.end("b")
    plans.wait("c")
    assert "d" not in plans.begun
    plans.end("a", "c", "d")
    assert [future.result(LIMIT_S) for future in futures] == ["a", "b", "c", "d"]
    plans.threads.shutdown()


def test_one_whose_start_takes_its_time_makes_room_for_one_and_no_more() -> None:
    plans = Plans(at_once=1, patience_s=0.01)
    slow = plans.submit("slow", plans.threads.make_room_later)
    plans.submit("next")
    plans.submit("last")
    plans.wait("slow", "next")
    assert "last" not in plans.begun
    plans.end("slow")
    assert slow.result(LIMIT_S) == "slow"
    assert "last" not in plans.begun, "the room that it made is taken"
    plans.end("next", "last")
    plans.wait("last")
    plans.threads.shutdown()


def test_one_whose_start_is_over_in_time_makes_none() -> None:
    plans = Plans(at_once=1, patience_s=0.01)
    quick = plans.submit("quick", plans.threads.make_room_later)
    plans.end("quick")
    assert quick.result(LIMIT_S) == "quick"
    plans.submit("a")
    plans.submit("b")
    plans.wait("a")
    assert not threading.Event().wait(0.1)
    assert "b" not in plans.begun
    plans.end("a", "b")
    plans.wait("b")
    plans.threads.shutdown()


def test_what_was_taken_back_is_never_begun_and_a_failure_is_the_futures() -> None:
    plans = Plans(at_once=1)
    plans.submit("a")
    taken_back = plans.submit("b")
    assert taken_back.cancel()

    def fails() -> None:
        raise ValueError("c")

    failed = plans.submit("c", fails)
    plans.end("a")
    with pytest.raises(ValueError, match="c"):
        failed.result(LIMIT_S)
    assert plans.begun == ["a"]
    plans.threads.shutdown()


@pytest.mark.parametrize("left", [0, 1])
def test_on_a_host_without_a_further_thread_those_that_there_are_do_it(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    begin, begun = threading.Thread.start, list[threading.Thread]()

    def until_none_is_left(thread: threading.Thread) -> None:
        if len(begun) == left:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", until_none_is_left)
    plans = Plans(at_once=4)
    if left == 0:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            plans.submit("a")
        return
    futures = [plans.submit(name, plans.threads.make_room_later) for name in "abc"]
    plans.end("a", "b", "c")
    assert [future.result(LIMIT_S) for future in futures] == ["a", "b", "c"]
    plans.threads.shutdown()
