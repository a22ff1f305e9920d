"""What is reported to the server: what was seen, in its words, and of the rest what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from probes.observed import Evidence, ObservedAgent, ObservedHost
from reconcile.assess.host_report import report
from reconcile.assess.pass_context import HostFacts
from reconcile.decide.conditions import FALSE, Condition
from reconcile.storage.store import StoredState
from tests.reconcile.decide.worlds import NAME, NOW, USER, WORK_DIR, record, seen

FACTS = HostFacts(hostname="host-1", ip="192.0.2.7", run_user="root", updater_version="1.2")
READY = Condition(type="Ready", status=FALSE, reason="StartFailed", message="no")


def saying(output: str) -> ObservedAgent:
    agent = seen("1.0=A unknown")
    assert agent.active is not None
    return evolve(agent, active=evolve(agent.active, status_output=output))


@pytest.mark.parametrize(
    ("agent", "status"),
    [
        (seen("1.0=A started"), "started"),
        (seen("1.0=A stoped"), "stoped"),
        (saying(""), "control status printed nothing"),
        (saying("x" * 300), "x" * 200),
        (seen("names 1.0"), "version 1.0 is not on disk"),
        (evolve(seen("1.0=A started"), blocked_by="y" * 300, evidence=Evidence.SEEN), "y" * 200),
    ],
)
def test_the_word_of_an_agent_is_what_was_seen(agent: ObservedAgent, status: str) -> None:
    [reported] = report(FACTS, StoredState(), ObservedHost(at=NOW + 0.9, agents=(agent,))).agents
    assert (reported.name, reported.version, reported.status) == (NAME, "1.0", status)
    assert (reported.timestamp, reported.run_user, reported.work_dir) == (int(NOW), USER, WORK_DIR)
    assert reported.extra == ()


def test_what_has_no_version_is_not_reported_and_each_look_has_its_time() -> None:
    first = ObservedHost(at=NOW, agents=(seen("1.0=A started"), seen("")))
    other = ObservedHost(at=NOW + 5, agents=(seen("2.0=A started"),))
    found = report(FACTS, StoredState(), first, other)
    assert [(one.version, one.timestamp) for one in found.agents] == [("1.0", int(NOW)), ("2.0", int(NOW) + 5)]
    assert (found.hostname, found.ip, found.run_user, found.updater_version) == ("host-1", "192.0.2.7", "root", "1.2")


@pytest.mark.parametrize(
    ("asks", "kept", "extra"),
    [
        (True, record(conditions=(READY,)), (("ready", FALSE), ("reason", "StartFailed"), ("message", "no"))),
        (False, record(conditions=(READY,)), ()),
        (True, record(), ()),
        (True, None, ()),
    ],
)
def test_more_is_reported_where_that_is_asked_for_and_known(asks: bool, kept: Any, extra: Any) -> None:
    state = StoredState(records=() if kept is None else (kept,))
    seen_now = ObservedHost(at=NOW, agents=(seen("1.0=A started"),))
    [reported] = report(evolve(FACTS, report_extra=asks), state, seen_now).agents
    assert reported.extra == extra
