"""Plans side by side: when one is asked to end, and when it is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from attrs import evolve

from probes.observed import HomeRef
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.engine.journal import Journal
from reconcile.engine.plan_pool import PlanPool, RunningPlan, _Ending
from reconcile.engine.results import AgentResult
from reconcile.storage.store import read_state
from tests.reconcile.decide.worlds import record
from tests.reconcile.engine.agent_results import FETCH, LIVE, PRUNE, START, STOP, held, outcome, view_of
from tests.yard import NAME, OWN, Yard

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
            kind=kind, heal=None, context=runtime.context, ending=_Ending(threading.Event()), future=future, **seen
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


# --- what is begun ---

DOWN = "1.0=B stoped"
UP = "1.0=B started"
HEAL = view_of("start 1.0=B", DOWN)


@pytest.mark.parametrize(
    ("view", "heals", "kind"),
    [
        (view_of("start 1.0=B", DOWN, record()), False, "heal"),
        (view_of("start 2.0=A", DOWN, record(), heal=HEAL), True, "heal"),
        (view_of("start 2.0=A", DOWN, record(), heal=HEAL), False, "fetch"),  # it was healed before
        (view_of("start 2.0=A", UP, record()), False, "fetch"),
        (view_of("start 2.0=A", UP, record(), verdict=held("ServerUnreachable", STOP, START)), False, "heal"),
        (view_of("stop", UP, record()), False, "change"),
        (view_of("start 2.0=A", "1.0=B started; staged 2.0=A", record()), False, "change"),
    ],
)
def test_heals_downloads_and_changes_stand_in_queues_of_their_own(
    pool: PlanPool, yard: Yard, view: AgentEvaluation, heals: bool, kind: str
) -> None:
    """It is to end at once: nothing of it is done."""
    yard.ending.set()
    view = at_home(yard, view)
    with yard.runtime() as runtime:
        pool.start(runtime.context, view, LIVE, view.heal if heals else None)
    plan = pool.running[NAME]
    assert (plan.kind, plan.heal is not None) == (kind, heals)
    assert pool._threads[kind]._max_workers == (64 if kind == "heal" else 1), "`parallel` is no bound of heals"
    result = pool.next_result(LONG_S)
    while NAME in pool.running:
        result = pool.next_result(LONG_S) or result
    assert result is not None
    assert result.outcomes == ()
    assert read_state(yard.db).record(NAME) == result.record, "it is recorded by then"
    assert not yard.home().exists()
    pool.close()


def at_home(yard: Yard, view: AgentEvaluation) -> AgentEvaluation:
    """The same agent, in a home of our own."""
    home = HomeRef(name=NAME, work_dir=str(yard.work), run_user=OWN)
    desired = evolve(view.desired, work_dir=str(yard.work), run_user=OWN)
    heal = None if view.heal is None else at_home(yard, view.heal)
    return evolve(view, desired=desired, observed=evolve(view.observed, home=home), heal=heal)


def test_what_a_plan_does_is_seen_and_told_on(yard: Yard, pool: PlanPool) -> None:
    told: list[object] = []
    plan = put(pool, yard, "fetch")
    plan.context = evolve(
        plan.context,
        begins=lambda view, action: told.append(("begins", action)),
        ended=lambda view, outcome: told.append(("ended", outcome.action)),
        arrived=lambda view, size, total: told.append(("arrived", size, total)),
    )
    context, view = plan.watched(), view_of()
    assert context.ending is plan.ending
    seen = []
    for action in (FETCH, STOP, PRUNE):
        context.begins(view, action)
        seen.append((plan.fetching, plan.touches))
        context.ended(view, outcome(action))
        seen.append((plan.fetching, plan.touches))
    assert seen == [(True, False), (False, False), (False, True), (False, True), (False, True), (False, True)]
    context.arrived(view, 3, 9)
    assert told == [(when, action) for action in (FETCH, STOP, PRUNE) for when in ("begins", "ended")] + [
        ("arrived", 3, 9)
    ]


@pytest.mark.parametrize("action", [START, STOP])
def test_a_start_and_a_stop_touch_the_agent(yard: Yard, pool: PlanPool, action: object) -> None:
    plan = put(pool, yard, "change")
    plan.watched().begins(view_of(), action)  # type: ignore[arg-type]
    assert plan.touches


@pytest.mark.parametrize(("sizes", "resumed"), [((0, 5), False), ((5, 9), True), ((0,), False), ((), False)])
def test_a_download_that_begins_with_bytes_goes_on_where_another_ended(
    yard: Yard, pool: PlanPool, sizes: tuple[int, ...], resumed: bool
) -> None:
    plan = put(pool, yard, "fetch")
    for size in sizes:
        plan.watched().arrived(view_of(), size, None)
    assert plan.resumed is resumed
