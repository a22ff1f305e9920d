"""What a pass makes of what is remembered: configs as they were delivered, switches whose end is known."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Action, Outcome, Result, Start, Stop
from reconcile.decide.aim import Findings
from reconcile.decide.planner import plan_agent
from reconcile.decide.records import (
    NO_CONFIG,
    AgentRecord,
    ConfigMemory,
    OpenSwitch,
    record_for,
    remember_config,
    settle_switch,
)
from tests.reconcile.decide.worlds import (
    NAME,
    USER,
    WORK_DIR,
    Life,
    Wish,
    aim_at,
    memory,
    remembered,
    seen,
    types,
    whole_pass,
    wish,
)


def test_the_first_record_is_of_where_the_agent_is_wanted() -> None:
    assert record_for(wish("stop").desired, None) == AgentRecord(name=NAME, work_dir=WORK_DIR, run_user=USER)


def test_a_record_follows_its_agent_and_keeps_the_rest() -> None:
    kept = AgentRecord(name=NAME, work_dir="/srv/old", run_user="nobody", config=memory("c1"))
    assert record_for(wish("stop").desired, kept) == remembered("c1")


@pytest.mark.parametrize(
    ("asked", "record", "world", "config"),
    [
        # in place, as it is at the server
        ("start 1.0+c1", "new", "1.0+c1 started", memory("c1")),
        ("start 1.0+c1", "c0", "1.0+c1 started", memory("c1")),
        ("start 1.0+c1", "c0", "1.0+c1 stoped", memory("c1")),
        # an edit that was there when we came: from now on a remote change is noticed
        ("start 1.0+c1", "new", "1.0+e started", memory("c1")),
        ("start 1.0+c1", "c1", "1.0+e started", memory("c1")),
        # still to be delivered: it must differ again at the next pass
        ("start 1.0+c1", "c0", "1.0+c0 started", memory("c0")),
        ("start 1.0+c1", "c0", "1.0+e started", memory("c0")),
        ("start 2.0+c1", "c0", "1.0+c1 started", memory("c0")),
        ("start 1.0+c1", "new", "names 1.0", None),
        # none is wanted: remembered once the version is in use, and not in the place of one that was delivered
        ("start 1.0", "new", "1.0+e started", NO_CONFIG),
        ("start 1.0", "c1", "1.0+c1 started", memory("c1")),
        ("start 2.0", "new", "1.0 started", None),
        ("start 1.0", "new", "", None),
        # not to be started: nothing is learned
        ("stop", "new", "1.0+e stoped", None),
        ("observe", "new", "1.0+e started", None),
    ],
)
def test_the_config_that_is_remembered(asked: str, record: str, world: str, config: ConfigMemory | None) -> None:
    wanted, kept, observed = wish(asked), remembered(record), seen(world)
    assert kept is not None
    edited = aim_at(wanted, Life(observed, kept)).edited
    after = remember_config(kept, wanted.desired, observed, wanted.findings.config, edited=edited)
    assert after == evolve(kept, config=config)


def test_a_config_that_could_not_be_had_is_not_remembered_as_none() -> None:
    record = remembered("new")
    assert record is not None
    assert remember_config(record, wish("start 1.0+c1").desired, seen("1.0+e started"), None, edited=False) == record


def test_an_edit_from_before_our_time_outlives_a_config_server_that_is_down_at_first() -> None:
    """The first pass over a host remembers the agent, and not whose its config is."""
    wanted = wish("start 1.0+c1")
    blind = Wish(desired=wanted.desired, findings=Findings())
    _, life = whole_pass(Life(seen("1.0?+e started"), None), blind)
    assert life.record is not None
    plan, life = whole_pass(life, wanted)
    assert types(plan) == ""
    plan, _ = whole_pass(life, wish("start 1.0+c2"))
    assert types(plan) == "configure stop switch start"


def test_an_edit_outlives_an_agent_that_is_only_looked_on_first() -> None:
    _, life = whole_pass(Life(seen("1.0?+e started"), None), wish("observe"))
    assert types(plan_agent(aim_at(wish("start 1.0+c1"), life), life.observed)) == ""


def test_a_config_that_is_wanted_later_is_delivered() -> None:
    _, life = whole_pass(Life(seen("1.0?+e started"), None), wish("start 1.0"))
    plan, life = whole_pass(life, wish("start 1.0+c1"))
    assert types(plan) == "configure stop switch start"
    assert life.record is not None
    assert life.record.config == memory("c1")


def outcome(action: Action, result: Result) -> tuple[Outcome, ...]:
    return (Outcome(action=action, result=result),)


@pytest.mark.parametrize(
    ("world", "outcomes", "closed"),
    [
        ("2.0 started", (), True),
        ("1.0 started", (), True),  # never begun, or taken back
        ("2.0 stoped", (), False),
        ("2.0 unknown", (), False),
        ("names 2.0", (), False),
        # it was tried, and that it came to nothing is its end: it is not called at every pass from now on
        ("2.0 unknown", outcome(Start(version="2.0"), Result.FAILED), True),
        ("2.0 stoped", outcome(Start(version="2.0"), Result.DONE), True),
        ("2.0 unknown", outcome(Start(version="2.0"), Result.SKIPPED), False),
        ("1.0 unknown", outcome(Stop(version="1.0"), Result.FAILED), False),
    ],
)
def test_an_open_switch_is_closed_once_its_end_is_known(
    world: str, outcomes: tuple[Outcome, ...], closed: bool
) -> None:
    record = remembered("c1 1.0>2.0")
    assert record is not None
    switch = None if closed else OpenSwitch(from_version="1.0", to="2.0")
    assert settle_switch(record, seen(world), outcomes) == evolve(record, open_switch=switch)


def test_without_an_open_switch_there_is_nothing_to_settle() -> None:
    record = remembered("c1")
    assert record is not None
    assert settle_switch(record, seen("1.0 started")) == record
    assert settle_switch(record, seen("1.0 stoped")) == record
