"""What is admitted now, what waits, and what is done meanwhile."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Held, Plan
from reconcile.decide.aim import Findings, Trouble, aim, aim_to_heal
from reconcile.decide.gate import Answered, Moment, admit, moved
from reconcile.decide.planner import plan_agent
from tests.reconcile.decide.worlds import NAME, PLACE, WORK_DIR, remembered, seen, types, wish

LIVE = Moment(now=0.0, answered=Answered.LIVE)
KEPT = Moment(now=0.0, answered=Answered.KEPT, why_kept="connection refused")
OPERATOR = Moment(now=0.0, answered=Answered.OPERATOR)
TROUBLE = Trouble(reason="FetchFailed", message="http://meta/cfg.json: HTTP 404")


def judge(asked: str, world: str, moment: Moment, trouble: Trouble | None = None, record: str = "new") -> Plan | Held:
    wanted, observed, kept = wish(asked), seen(world), remembered(record)
    findings = wanted.findings if trouble is None else Findings(digests=wanted.findings.digests, trouble=trouble)
    healing = aim_to_heal(wanted.desired, kept, observed)
    heal = None if healing is None else plan_agent(healing, observed)
    return admit(plan_agent(aim(wanted.desired, kept, observed, findings), observed), heal, trouble, moment)


@pytest.mark.parametrize("moment", [LIVE, OPERATOR])
@pytest.mark.parametrize("asked", ["start 2.0=A", "start 1.0=B", "start 1.0=A", "stop", "observe"])
def test_on_a_live_answer_or_an_operators_word_all_is_admitted(moment: Moment, asked: str) -> None:
    assert isinstance(judge(asked, "1.0=A started", moment), Plan)


@pytest.mark.parametrize(
    ("asked", "world", "record", "meanwhile"),
    [
        # fetch, stop and switch wait for an answer
        ("start 2.0=A", "1.0=B started", "new", ""),
        ("start 2.0=A", "1.0=B started; staged 2.0=A", "new", ""),
        ("start 2.0=A", "", "new", ""),
        ("start 1.0=A", "staged 1.0=A", "new", ""),
        ("start 1.0=A", "1.0=B started", "new", ""),
        ("start 1.0+c1", "1.0+c0 started", "c0", ""),
        ("stop", "1.0=A started", "new", ""),
        # but a held change never hides a crash
        ("start 2.0=A", "1.0=B stoped", "new", "start"),
        ("start 1.0=A", "1.0=B stoped", "new", "start"),
        ("start 1.0+c1", "1.0+c0 stoped", "c0", "start"),
        # nor does it start what can't be understood, unless a start was due
        ("start 2.0=A", "1.0=B unknown", "new", ""),
        ("start 2.0=A", "1.0=B unknown", "new 2.0>1.0", "start"),
        # what a crash left half exchanged is finished
        ("start 1.0=A", "names 1.0; next 1.0=A; previous 1.0=B", "new 1.0>1.0", "switch start"),
        ("start 2.0=A", "names 1.0; next 1.0=A; previous 1.0=B", "new 1.0>1.0", "switch start"),
    ],
)
def test_without_an_answer_a_change_waits(asked: str, world: str, record: str, meanwhile: str) -> None:
    held = judge(asked, world, KEPT, record=record)
    assert isinstance(held, Held)
    assert held.reason == "ServerUnreachable"
    assert held.message == "waits for an answer of ops-meta: connection refused"
    assert held.until is None
    assert types(held.meanwhile) == meanwhile
    assert held.plan.actions


@pytest.mark.parametrize(
    ("asked", "world", "pending"),
    [
        ("start 1.0=A", "1.0=A started", ""),
        ("start 1.0=A", "1.0=A stoped", "start"),
        ("start 1.0=A", "1.0=A stoped; left .stage-x", "start prune"),
        ("start 1.0=A", "1.0=A unknown", ""),
        ("stop", "1.0=A stoped", ""),
        ("observe", "1.0=A stoped", ""),
    ],
)
def test_without_an_answer_what_only_starts_goes_on(asked: str, world: str, pending: str) -> None:
    plan = judge(asked, world, KEPT)
    assert isinstance(plan, Plan)
    assert types(plan) == pending


@pytest.mark.parametrize("moment", [LIVE, OPERATOR])
@pytest.mark.parametrize(
    ("asked", "world", "meanwhile"),
    [
        ("start 2.0=A+c1", "1.0=B started", ""),
        ("start 2.0=A+c1", "1.0=B stoped", "start"),
        ("start 2.0=A+c1", "", ""),
        ("start 1.0=A+c1", "1.0=B stoped", "start"),
    ],
)
def test_what_a_change_needs_and_could_not_be_had_holds_it(
    moment: Moment, asked: str, world: str, meanwhile: str
) -> None:
    held = judge(asked, world, moment, TROUBLE)
    assert isinstance(held, Held)
    assert (held.reason, held.message) == (TROUBLE.reason, TROUBLE.message)
    assert types(held.meanwhile) == meanwhile


@pytest.mark.parametrize(("world", "pending"), [("1.0=A+c0 started", ""), ("1.0=A+c0 stoped", "start")])
def test_a_missing_remote_file_holds_nothing_for_the_version_in_use(world: str, pending: str) -> None:
    plan = judge("start 1.0=A+c1", world, LIVE, TROUBLE)
    assert isinstance(plan, Plan)
    assert types(plan) == pending


def test_no_answer_tells_more_than_a_missing_file() -> None:
    held = judge("start 2.0=A", "1.0=B started", KEPT, TROUBLE)
    assert isinstance(held, Held)
    assert held.reason == "ServerUnreachable"


def test_an_agent_that_was_never_managed_has_not_moved() -> None:
    assert moved(wish("start 1.0").desired, None, None) is None
    assert moved(wish("start 1.0").desired, remembered("new"), None) is None


def test_an_agent_at_its_place_has_not_moved() -> None:
    """Whatever config it was looked at with."""
    old = evolve(seen("1.0 started"), place=evolve(PLACE, config_name=None))
    assert moved(wish("start 1.0+c1").desired, remembered("new"), old) is None


@pytest.mark.parametrize("asked", ["start 1.0", "stop", "observe"])
@pytest.mark.parametrize("world", ["1.0 started", "1.0 stoped", "names 9.9", "names ", "stray process 7 runs in it"])
def test_no_second_copy_at_another_place(asked: str, world: str) -> None:
    record = remembered("new")
    assert record is not None
    record = evolve(record, work_dir="/srv/old")
    old = evolve(seen(world), place=evolve(PLACE, work_dir="/srv/old"))
    found = moved(wish(asked).desired, record, old)
    assert found is not None
    assert found.reason == "WorkDirChanged"
    assert f"lives in /srv/old and ops-meta now says {WORK_DIR}" in found.message
    assert f"/srv/old/{NAME}/.version" in found.message


def test_no_second_copy_under_another_user() -> None:
    record = remembered("new")
    assert record is not None
    record = evolve(record, run_user="nobody")
    old = evolve(seen("1.0 started"), place=evolve(PLACE, run_user="nobody"))
    found = moved(wish("start 1.0").desired, record, old)
    assert found is not None
    assert found.reason == "RunUserChanged"
    assert "runs as nobody and ops-meta now says falcon" in found.message


@pytest.mark.parametrize("world", ["", "staged 1.0=A"])
def test_where_nothing_is_left_an_agent_is_free_to_move(world: str) -> None:
    record = remembered("new")
    assert record is not None
    old = evolve(seen(world), place=evolve(PLACE, work_dir="/srv/old"))
    assert moved(wish("start 1.0").desired, evolve(record, work_dir="/srv/old"), old) is None
