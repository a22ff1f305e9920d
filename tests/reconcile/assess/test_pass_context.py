"""What a pass knows beside its agents: on whose word it asks, which servers there are, and whose users are known."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from probes.observed import ObservedHost
from reconcile.assess.pass_context import HostSnapshot
from reconcile.decide.admission import Freshness
from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Requests
from reconcile.decide.timing.fleet_places import Groups
from reconcile.net.report_delivery import ReportDelivery
from reconcile.storage.store import StoredState
from tests.reconcile.decide.worlds import NAME, NOW, record
from tests.reconcile.engine.agent_results import BACK, LIVE, pass_found
from tests.yard import Yard


def test_who_is_asked_is_the_server_or_who_named_a_file(yard: Yard) -> None:
    assert (yard.around().asked_by, yard.around(operator="ann").asked_by) == ("server", "operator:ann")


def test_only_servers_that_the_config_names_have_a_condition(yard: Yard) -> None:
    reports = ReportDelivery("http://127.0.0.1:9", lambda report: b"", yard.http)
    locks = Rules(groups=Groups(others="web"))
    assert yard.around().other_servers == {}
    assert yard.around(rules=locks).other_servers == {"LockServerReachable": None}
    assert yard.around(reports=reports).other_servers == {"ReportDelivered": None}
    assert set(yard.around(rules=locks, reports=reports).other_servers) == {"LockServerReachable", "ReportDelivered"}


@pytest.mark.parametrize(
    ("answered", "nothing", "says"),
    [
        (Freshness.LIVE, False, True),
        (Freshness.OPERATOR, False, True),
        (Freshness.LIVE, True, False),
        (Freshness.LAST_ACCEPTED, False, False),
    ],
)
def test_a_pass_says_what_is_wanted_by_an_answer_that_wants_something(
    answered: Freshness, nothing: bool, says: bool
) -> None:
    found = pass_found(evaluation_context=evolve(LIVE, answered=answered), nothing_desired=nothing)
    assert (found.answered, found.says_what_is_wanted) == (answered, says)


def snapshot(**changes: Any) -> HostSnapshot:
    state = StoredState(records=(record(failures=(BACK,)),))
    return evolve(HostSnapshot(seen=ObservedHost(at=NOW), state=state, requests=Requests()), **changes)


def test_users_that_were_not_looked_up_are_taken_to_exist() -> None:
    uids = snapshot(users={"falcon": 7, "gone": None}).uids_of(["falcon", "gone", "root", "other"])
    assert (uids["falcon"], uids["root"], "gone" in uids) == (7, 0, False)
    assert uids["other"] not in (0, 7)


def test_a_release_counts_for_the_agent_that_is_named() -> None:
    for names, failures in ((frozenset({NAME}), 0), (frozenset({"another"}), 1)):
        kept = snapshot(requests=Requests(releases=names)).record(NAME)
        assert kept is not None
        assert len(kept.failures) == failures
    assert snapshot(requests=Requests(releases=frozenset({"another"}))).record("another") is None
