"""The steps of a pass one by one: what is asked and told, what is kept before anything is done, what is trimmed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from attrs import evolve

from probes.observed import START_LOG, Evidence
from reconcile.act.home_ops import START_LOG_LIMIT
from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.hold import Hold
from reconcile.engine.reconciler import PassRequest, _left_alone, _trim_start_logs, run_pass
from reconcile.errors import ServerUnreachable
from reconcile.source import Answer, HostReport
from reconcile.storage.hold_files import put_hold, put_release, read_requests
from reconcile.storage.store import read_state
from tests.reconcile.engine.agent_results import held, pass_found, view_of
from tests.reconcile.engine.test_reconciler import fill_disk, without_threads
from tests.yard import NAME, Yard, ready, the_agent, types
from updater.demo import agent


class Counting:
    """The yard's source, which counts its exchanges; `fails_from`: from which on it does not answer."""

    def __init__(self, yard: Yard, *, takes_reports: bool = True, fails_from: int = 99) -> None:
        self._inner = yard.around().source
        self._fails_from = fails_from
        self.came_from = "there"
        self.takes_reports = takes_reports
        self.reports: list[HostReport] = []

    def exchange(self, report: HostReport) -> Answer:
        self.reports.append(report)
        if len(self.reports) >= self._fails_from:
            raise ServerUnreachable("down")
        return self._inner.exchange(report)


def crashed(yard: Yard, **keys: Any) -> None:
    """1.0.0 was confirmed, and has crashed."""
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **keys))
    yard.run()
    yard.settle()
    agent.crash(yard.home())


def test_what_was_done_is_told_to_the_server_that_answered(yard: Yard) -> None:
    crashed(yard)
    cases: list[tuple[DesiredFrom, bool, str | None, int, int]] = [
        # asked | takes reports | operator | fails from | exchanges
        (DesiredFrom.EXCHANGE, True, None, 99, 2),
        (DesiredFrom.EXCHANGE, False, None, 99, 1),
        (DesiredFrom.EXCHANGE, True, "ann", 99, 1),
        (DesiredFrom.EXCHANGE, True, None, 1, 1),  # it did not answer, and is not asked once more
        (DesiredFrom.EXCHANGE, True, None, 2, 2),
        (DesiredFrom.OFFLINE, True, None, 99, 0),
        (DesiredFrom.LAST_ACCEPTED, True, None, 99, 0),
    ]
    for case in cases:
        ask, takes_reports, operator, fails_from, exchanges = case
        source = Counting(yard, takes_reports=takes_reports, fails_from=fails_from)
        result = yard.run(ask, host=yard.around(source=source, operator=operator))
        assert types(the_agent(result).outcomes) == "start=done", case
        assert [report.agents[0].status for report in source.reports] == ["stoped", "started"][:exchanges], case
        assert result.troubles == ()
        yard.later += 3600
        agent.crash(yard.home())


def test_where_nothing_changed_nothing_more_is_told(yard: Yard) -> None:
    crashed(yard)
    yard.run()
    source = Counting(yard)
    assert not yard.run(host=yard.around(source=source)).acted
    assert len(source.reports) == 1


# --- what is kept before anything is done ---


class Killed(BaseException):
    """What `kill -9` is to a pass: nothing of ours runs after it."""


def killed_before_it_acts(yard: Yard) -> bool:
    """Whether the switch of 1.0.0, whose watch has passed, is known to be confirmed by then."""

    def die() -> None:
        raise Killed

    with yard.runtime() as runtime, pytest.raises(Killed):
        run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE, decided=die))
    return yard.record().confirmation is None


@pytest.mark.parametrize(
    ("keys", "version", "is_kept"),
    [
        ({}, "1.0.0", False),  # nothing is to be done: its end is time enough
        ({}, "2.0.0", True),
        ({"configFileName": "cfg.json"}, "1.0.0", True),  # its config is asked for
    ],
)
def test_what_this_look_settled_is_kept_before_an_agent_is_acted_upon(
    yard: Yard, keys: dict[str, Any], version: str, is_kept: bool
) -> None:
    if keys:
        keys = {**keys, "configRemoteUrl": yard.meta.publish_config("/conf/cfg.json", b"{}")}
    for one in ("1.0.0", "2.0.0"):
        yard.publish(one)
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **keys))
    yard.run()
    yard.later += yard.around().rules.watch + 1
    yard.meta.desire(yard.meta.agent(NAME, version, **keys))
    assert killed_before_it_acts(yard) is is_kept
    state = read_state(yard.db).accepted
    assert state is not None
    assert [getattr(entry, "version", "") for entry in state.answer.entries] == [version], "and so is the answer"


def test_a_release_waits_until_what_it_ends_can_be_forgotten(yard: Yard) -> None:
    crashed(yard)
    put_release(yard.holds, NAME)
    with yard.runtime() as runtime:
        fill_disk(yard.db)
        result = run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE))
    assert len(result.troubles) == 1
    assert read_requests(yard.holds).released(NAME)


# --- what is left alone ---


def test_an_agent_whose_plan_still_runs_is_given_no_other_one() -> None:
    busy, other = view_of("start 2.0=B", news="came up", released_by="eve"), view_of("start 2.0=B")
    other = evolve(other, desired=evolve(other.desired, name="other"))
    left, kept = _left_alone(pass_found(agents=(busy, other)), frozenset({busy.desired.name})).agents
    assert (left.due.actions, left.news, left.released_by) == ((), "", None)
    assert (left.verdict.reason, left.plan.message) == (busy.plan.reason, "a change is still being made")
    assert kept is other


def test_the_log_of_starts_is_trimmed_where_something_is_in_use_and_may_be_touched(yard: Yard) -> None:
    crashed(yard)
    found = assess(yard.around(), read_state(yard.db), DesiredFrom.EXCHANGE)
    log = yard.home() / START_LOG
    [view] = found.agents
    for one, is_trimmed in (
        (evolve(view, observed=evolve(view.observed, version_text=None)), False),
        (evolve(view, observed=evolve(view.observed, blocked_by="no", evidence=Evidence.SEEN)), False),
        (evolve(view, verdict=held("HeldByOperator")), False),
        (view, True),
    ):
        log.write_bytes(b"x" * (START_LOG_LIMIT + 1))
        _trim_start_logs(yard.around(), evolve(found, agents=(one,)))
        assert (log.stat().st_size <= START_LOG_LIMIT) is is_trimmed


# --- a plan without a thread ---


def test_what_could_not_be_begun_is_named_and_not_what_was_healed_before_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed(yard)
    yard.publish("2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0"))
    without_threads(monkeypatch, "fetch")
    result = yard.run()
    assert types(the_agent(result).outcomes) == "start=done fetch=failed"
    assert agent.ask(yard.home()).version == "1.0.0"
    agent.crash(yard.home())
    monkeypatch.undo()
    without_threads(monkeypatch, "heal")
    yard.later += 3600
    assert types(the_agent(yard.run()).outcomes).startswith("start=failed")


def test_two_that_are_down_are_started_side_by_side_however_few_changes_may_be_made(yard: Yard) -> None:
    for name in ("a", "b"):
        yard.publish("1.0.0", name=name)
    yard.meta.desire(*(yard.meta.agent(name, "1.0.0") for name in ("a", "b")))
    yard.run()
    yard.settle()
    for name in ("a", "b"):
        agent.crash(yard.home(name))
    together = threading.Barrier(2, timeout=60)
    result = yard.run(parallel=1, begins=lambda view, action: together.wait())
    assert [ready(result, name)[0] for name in ("a", "b")] == ["True", "True"]


def test_a_held_agent_is_neither_healed_nor_told_of_again(yard: Yard) -> None:
    crashed(yard)
    put_hold(yard.holds, NAME, Hold(owner="ann", reason="mine"))
    for news in (1, 1):
        assert yard.run().acted is False
        assert sum("held by ann" in said for said in yard.history()) == news
