"""Plans side by side: when one is asked to end, and when it is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from reconcile.engine.journal import Journal
from reconcile.engine.plan_pool import PlanPool, RunningPlan, _Ending
from reconcile.engine.results import AgentResult
from tests.yard import NAME, Yard

LONG_S = 20.0


@pytest.fixture
def pool(yard: Yard) -> Iterator[PlanPool]:
    with yard.runtime() as runtime:
        yield PlanPool(Journal(runtime.store, lambda: None), parallel=1)


def put(pool: PlanPool, yard: Yard, kind: str, *, queued: bool = False, **seen: bool) -> RunningPlan:
    """A plan in the pool, as it stands while its thread is at work."""
    future: Future[AgentResult] = Future()
    if not queued:
        future.set_running_or_notify_cancel()
    with yard.runtime() as runtime:
        plan = RunningPlan(
            kind=kind, heals=False, context=runtime.context, ending=_Ending(threading.Event()), future=future, **seen
        )
    pool._running[NAME] = plan
    return plan


@pytest.mark.parametrize("whose", ["its own", "of all"])
def test_a_wait_ends_at_once_when_its_plan_is_to_end(whose: str) -> None:
    of_all = threading.Event()
    ending = _Ending(of_all)
    assert not ending.wait(0.01)
    end = threading.Timer(0.1, ending.set if whose == "its own" else of_all.set)
    end.start()
    began = time.monotonic()
    assert ending.wait(LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    assert ending.wait(), "and from then on"
    end.join()
    assert of_all.is_set() is (whose == "of all"), "the others go on"


@pytest.mark.parametrize("touches", [True, False])
def test_a_plan_that_has_touched_its_agent_gives_way_to_no_heal(pool: PlanPool, yard: Yard, touches: bool) -> None:
    plan = put(pool, yard, "change", touches=touches)
    pool.yield_to_heal(NAME)
    pool.yield_to_heal("one that has no plan")
    assert plan.ending.is_set() is not touches


@pytest.mark.parametrize(
    ("kind", "fetching", "queued", "ends"),
    [
        ("fetch", True, False, True),
        ("fetch", False, False, False),
        ("change", True, False, False),
        ("change", False, True, False),
        ("fetch", False, True, None),
    ],
)
def test_only_a_download_is_ended_for_want_of_time(
    pool: PlanPool, yard: Yard, kind: str, fetching: bool, queued: bool, ends: bool | None
) -> None:
    plan = put(pool, yard, kind, queued=queued, fetching=fetching)
    assert pool.end_download(NAME) is ends
    assert (plan.time_was_up, plan.ending.is_set()) == (ends is True, ends is True)
    assert (NAME in pool.running) is (ends is not None), "what had not begun is cancelled"
    assert pool.end_download("one that has no plan") is False


def test_a_queued_plan_is_cancelled_and_a_running_one_is_not(pool: PlanPool, yard: Yard) -> None:
    put(pool, yard, "change")
    assert pool.cancel_queued() == frozenset()
    put(pool, yard, "change", queued=True)
    assert pool.cancel_queued() == {NAME}
    assert not pool.running
