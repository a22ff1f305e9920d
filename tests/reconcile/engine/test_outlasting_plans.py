"""Plans that outlast their pass, servers that take their time, and the time that downloads have."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import evolve

from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Action, Fetch, Outcome, Start
from reconcile.decide.admission import Freshness
from reconcile.decide.evaluate import AgentEvaluation, Rules
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, LateFetch
from reconcile.engine.agent_reconciler import PassRuntime
from reconcile.engine.download_budget import DownloadBudget
from reconcile.engine.journal import Journal
from reconcile.engine.plan_pool import PlanPool, RunningPlan, _Ending
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import AgentResult, PassResult
from reconcile.errors import ServerUnreachable
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.net.report_delivery import ReportDelivery
from reconcile.source import Answer, HostReport
from reconcile.storage.store import StoredState
from tests.loopback import GUARD, Loopback, answers
from tests.yard import NAME, Yard, ready, the_agent, types
from updater.demo import agent

BRING = "fetch=done verify=done unpack=done"
CHANGED = f"{BRING} stop=done switch=done start=done"


class Gate:
    """Where a plan waits before its download, or at its end. `reached`: it is there."""

    def __init__(self, name: str = NAME, *, at_end: bool = False) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self._name, self._at_end = name, at_end

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Fetch) and not self._at_end:
            self._wait(view)

    def ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        if isinstance(outcome.action, Start) and self._at_end:
            self._wait(view)

    def _wait(self, view: AgentEvaluation) -> None:
        if view.desired.name == self._name:
            self.reached.set()
            assert self.open.wait(GUARD)


def wish(yard: Yard, *versions: str, **keys: Any) -> None:
    wanted = [version.split() if " " in version else (NAME, version) for version in versions]
    yard.meta.desire(*(yard.meta.agent(name, version, **keys) for name, version in wanted))


def installed(yard: Yard, *names: str) -> None:
    """1.0.0 of these agents is good, and 2.0.0 is published and wanted."""
    for name in names:
        yard.publish("1.0.0", name=name)
        yard.publish("2.0.0", name=name)
    wish(yard, *(f"{name} 1.0.0" for name in names))
    yard.run()
    assert yard.settle().all_ready
    wish(yard, *(f"{name} 2.0.0" for name in names))


@contextmanager
def gated(yard: Yard, gate: Gate, **changes: Any) -> Iterator[PassRuntime]:
    with yard.runtime(begins=gate.begins, ended=gate.ended, **changes) as runtime:
        try:
            yield runtime
        finally:
            gate.open.set()
            served(runtime, lambda: not runtime.plans.running)
            runtime.plans.close()


def served(runtime: PassRuntime, until: Callable[[], bool]) -> list[AgentResult]:
    """Do what plans leave to the thread of the passes, as a daemon does; the results of those that ended."""
    found: list[AgentResult] = []
    ends = time.monotonic() + GUARD
    while not until():
        assert time.monotonic() < ends
        result = runtime.plans.next_result(0.05)
        found += [] if result is None else [result]
    return found


def brief(runtime: PassRuntime) -> PassResult:
    """A pass that waits for no plan."""
    return run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE, until=time.monotonic()))


def begun(runtime: PassRuntime, gate: Gate) -> PassResult:
    """A pass that begins a plan and waits until that is at the gate, and no longer."""

    def alive() -> None:
        assert not runtime.plans.running or gate.reached.wait(GUARD)

    return brief(evolve(runtime, context=evolve(runtime.context, alive=alive)))


# A plan that outlasts its pass


def test_a_change_goes_on_beyond_its_pass(yard: Yard) -> None:
    installed(yard, NAME)
    gate = Gate()
    with gated(yard, gate) as runtime:
        first = the_agent(begun(runtime, gate))
        assert (first.goes_on, first.outcomes, first.record) == (True, (), None)
        assert first.view.plan.actions, "it is shown what is being done"
        second = brief(runtime)
        assert the_agent(second).goes_on
        assert the_agent(second).view.plan.message == "a change is still being made"
        assert (second.transitions, second.late, second.acted) == ((), (), False)
        gate.open.set()
        [ended] = served(runtime, lambda: not runtime.plans.running)
    assert (types(ended.outcomes), ended.goes_on) == (CHANGED, False)
    assert agent.ask(yard.home()).version == "2.0.0"
    assert yard.record().confirmation is not None, "it is recorded, though its pass is over"


def test_what_ends_during_a_later_pass_is_reported_by_that(yard: Yard) -> None:
    installed(yard, NAME)
    gate = Gate(at_end=True)
    with gated(yard, gate) as runtime:
        brief(runtime)
        served(runtime, gate.reached.is_set)
        [plan] = runtime.plans.running.values()
        assert brief(runtime).late == ()
        gate.open.set()
        plan.future.result(GUARD)
        [late] = brief(runtime).late
        assert types(late.outcomes) == CHANGED
        assert brief(runtime).late == (), "once"


def test_a_download_that_outlasts_its_pass_gives_way_to_the_start_of_its_agent(yard: Yard) -> None:
    installed(yard, NAME)
    gate = Gate()
    with gated(yard, gate) as runtime:
        begun(runtime, gate)
        brief(runtime)
        [plan] = runtime.plans.running.values()
        assert not plan.ending.is_set()
        agent.crash(yard.home())
        assert the_agent(brief(runtime)).goes_on
        assert plan.ending.is_set()
        gate.open.set()
        [ended] = served(runtime, lambda: not runtime.plans.running)
        assert types(ended.outcomes).startswith("fetch=skipped verify=skipped")
        result = run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE))
    assert types(the_agent(result).outcomes) == f"start=done {CHANGED}"


def test_a_queued_plan_is_cancelled_and_made_again(yard: Yard) -> None:
    installed(yard, "a", "b")
    gate = Gate("a")
    with gated(yard, gate, parallel=1) as runtime:
        result = begun(runtime, gate)
        assert [(done.name, done.goes_on) for done in result.agents] == [("a", True), ("b", False)]
        assert set(runtime.plans.running) == {"a"}
        assert the_agent(result, "b").record is not None
        assert ready(result, "b") == ("False", "VersionDiffers")
        gate.open.set()
        served(runtime, lambda: not runtime.plans.running)
        run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE))
    assert agent.ask(yard.home("b")).version == "2.0.0"


@pytest.mark.slow
def test_a_change_is_left_to_a_later_pass_where_the_watch_of_another_agent_ends(yard: Yard) -> None:
    """The agent was healed first; its download outlasts the pass."""
    installed(yard, NAME)
    yard.publish("1.0.0", name="other")
    wish(yard, f"{NAME} 2.0.0", "other 1.0.0")
    agent.crash(yard.home())
    gate, is_watched = Gate(), threading.Event()

    def begins(view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Fetch) and view.desired.name == NAME:
            assert is_watched.wait(GUARD)
            yard.later += Rules().watch + 1
        gate.begins(view, action)

    def ended(view: AgentEvaluation, outcome: Outcome) -> None:
        if view.desired.name == "other" and isinstance(outcome.action, Start):
            is_watched.set()

    with gated(yard, gate) as runtime:
        context = evolve(runtime.context, begins=begins, ended=ended)
        request = PassRequest(ask=DesiredFrom.EXCHANGE, until=time.monotonic() + 100 * GUARD)
        result = run_pass(evolve(runtime, context=context), request)
        assert types(the_agent(result).outcomes) == "start=done", "its heal is told"
        assert (the_agent(result).record, NAME in runtime.plans.running) == (None, True)
        assert types(the_agent(result, "other").outcomes) == f"{BRING} switch=done start=done"
    assert agent.ask(yard.home()).version == "2.0.0"


# Servers that take their time


@pytest.mark.slow
def test_what_crashed_is_healed_while_the_server_takes_its_time(yard: Yard) -> None:
    installed(yard, NAME)
    agent.crash(yard.home())
    yard.meta.slow_heartbeats(100 * GUARD)
    started: list[str] = []

    def begins(view: AgentEvaluation, action: Action) -> None:
        started.append(action.type)
        if started == ["start"]:
            yard.meta.heal()  # only now does it answer

    result = yard.run(begins=begins)
    assert types(the_agent(result).outcomes) == f"start=done {CHANGED}"
    assert result.assessment.answered is Freshness.LIVE
    assert agent.ask(yard.home()).version == "2.0.0"


class Silent:
    """A source that does not answer. As it is asked, all is to end."""

    came_from = "there"
    takes_reports = True

    def __init__(self, yard: Yard) -> None:
        self.may_end = threading.Event()
        self._yard = yard

    def exchange(self, report: HostReport) -> Answer:
        self._yard.ending.set()
        self.may_end.wait(GUARD)
        raise ServerUnreachable("too late")


def test_a_pass_that_is_to_end_does_not_wait_for_a_server(yard: Yard) -> None:
    installed(yard, NAME)
    yard.run(DesiredFrom.EXCHANGE, wanted=lambda name: False)  # 2.0.0 was accepted, and nothing done for it
    source, began = Silent(yard), time.monotonic()
    result = yard.run(host=yard.around(source=source))
    assert time.monotonic() - began < GUARD / 2
    source.may_end.set()
    assert (result.assessment.answered, result.assessment.failed) == (Freshness.LAST_ACCEPTED, None)
    assert (result.acted, agent.ask(yard.home()).version) == (False, "1.0.0")


def test_a_pass_that_is_to_end_does_not_wait_for_a_config(yard: Yard) -> None:
    def hangs(peer: Any) -> None:
        peer.request()
        yard.ending.set()
        peer.hang()

    with Loopback(hangs) as server:
        yard.publish("1.0.0")
        wish(yard, "1.0.0", configFileName="cfg.json", configRemoteUrl=f"{server.origin}/cfg.json")
        result = yard.run()
    assert ready(result) == ("False", "FetchFailed")
    [said] = [c.message for c in the_agent(result).conditions if c.type == "Ready"]
    assert "no answer within the 30 s that a pass has for all remote files" in said
    assert the_agent(result).outcomes == ()


def test_what_comes_of_a_report_is_a_condition_of_its_pass(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    for status, expected in ((200, "True"), (500, "False")):
        with Loopback(answers(status=status)) as server:
            http = HttpClient(HttpOptions(user_agent="test"))
            reports = ReportDelivery(server.origin, lambda report: report.hostname.encode(), http)
            result = yard.run(host=yard.around(reports=reports))
        [delivered] = [c for c in result.conditions if c.type == "ReportDelivered"]
        assert (delivered.status, server.requests[0].body) == (expected, b"host-1")


# Time for downloads


def evaluated(yard: Yard) -> AgentEvaluation:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    [view] = assess(yard.around(), StoredState(), DesiredFrom.EXCHANGE).agents
    return view


@pytest.fixture
def pool(yard: Yard) -> Iterator[PlanPool]:
    with yard.runtime() as runtime:
        yield PlanPool(Journal(runtime.store), parallel=1)


def put(pool: PlanPool, yard: Yard, kind: str, *, queued: bool = False, **seen: bool) -> RunningPlan:
    future: Future[AgentResult] = Future()
    if not queued:
        future.set_running_or_notify_cancel()
    with yard.runtime() as runtime:
        context = runtime.context
    plan = RunningPlan(kind=kind, heal=None, context=context, ending=_Ending(threading.Event()), future=future, **seen)
    pool._running[NAME] = plan
    return plan


@pytest.mark.parametrize(
    ("kind", "queued", "fetching", "taken_back", "is_looked_at_again"),
    [
        ("fetch", False, True, [], True),
        ("fetch", False, False, [], True),
        ("fetch", True, False, [NAME], True),
        ("change", False, False, [], True),
    ],
)
def test_a_download_that_has_no_time_left_is_ended_once(
    pool: PlanPool, yard: Yard, kind: str, queued: bool, fetching: bool, taken_back: list[str], is_looked_at_again: bool
) -> None:
    view = evaluated(yard)
    plan = put(pool, yard, kind, queued=queued, fetching=fetching)
    budget = DownloadBudget(pool, 0.0)
    back, next_s = budget.end_late([view])
    assert (back, 0 < next_s < 1) == (taken_back, is_looked_at_again)
    assert plan.time_was_up is fetching
    is_ended = fetching or queued
    assert (budget.end_late([view]) == ([], math.inf)) is is_ended, "what was ended is not ended again"


def test_a_download_has_its_time_and_more_at_each_further_run(pool: PlanPool, yard: Yard) -> None:
    view = evaluated(yard)
    home = view.observed.home
    late = LateFetch(content=Content(version="1.0.0"), runs=2)
    record = AgentRecord(name=NAME, work_dir=home.work_dir, run_user=home.run_user, late_fetch=late)
    plan = put(pool, yard, "fetch", fetching=True)
    assert DownloadBudget(pool, None).end_late([view]) == ([], math.inf)
    for seen, times in ((view, 1), (evolve(view, record=record), 4)):
        back, next_s = DownloadBudget(pool, 100.0).end_late([seen])
        assert (back, 100 * times - 50 < next_s <= 100 * times) == ([], True)
    plan.resumed = True
    assert DownloadBudget(pool, 100.0).end_late([evolve(view, record=record)])[1] <= 100, "it comes to its end"
    assert not plan.time_was_up


def test_what_takes_longer_than_a_run_goes_on_in_the_next_one(yard: Yard) -> None:
    for name in ("a", "b"):
        yard.publish("1.0.0", name=name, size=400_000)
    wish(yard, "a 1.0.0", "b 1.0.0")
    yard.meta.drip(".tar.gz", piece=8192, pause=0.05)
    with yard.runtime(parallel=1) as runtime:
        result = run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE, budget_s=0.0))
    for name in ("a", "b"):
        ready_of = next(c for c in the_agent(result, name).conditions if c.type == "Ready")
        assert ready_of.message.endswith("its download takes longer than a run, and goes on in the next one")
        record = the_agent(result, name).record
        assert record is not None
        assert record.late_fetch is not None
        assert yard.record(name).late_fetch == record.late_fetch
        assert [event for event in yard.history(name) if event.startswith("the download of 1.0.0 is not done")]
    yard.meta.heal()
    assert yard.run().all_ready
    assert "the download of 1.0.0 is done, one run later" in yard.history("a")
