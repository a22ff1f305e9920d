"""What is counted of each agent, from the plans and records that the store is given."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.decide.actions import Action, Outcome, Result, Start, Stop, SwitchVersion
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind
from reconcile.storage.codec import HistoryEvent
from reconcile.storage.counts import Counted
from reconcile.storage.store import Store, StoreLimits

STOP, SWITCH, START = Stop(version="1"), SwitchVersion(from_version="1", to="2"), Start(version="2")
RECORD = AgentRecord(name="a", work_dir="/w", run_user="u")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def carried_out(*actions: Action, failed: Action | None = None) -> HistoryEvent:
    outcomes = tuple(
        Outcome(action=action, result=Result.FAILED if action is failed else Result.DONE, attempts=1)
        for action in actions
    )
    return HistoryEvent(name="a", at=1.0, reason="r", message="m", outcomes=outcomes)


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (carried_out(STOP, SWITCH, START), {Counted.RESTARTED: 1}),
        (carried_out(STOP, START), {Counted.RESTARTED: 1}),
        (carried_out(START), {Counted.HEALED: 1}),
        (carried_out(SWITCH, START), {}),  # a first install, or a change of what was down
        (carried_out(STOP), {}),
        (carried_out(STOP, SWITCH, START, failed=START), {}),
        (carried_out(STOP, START, failed=STOP), {Counted.HEALED: 1}),
        (HistoryEvent(name="a", at=1.0, reason="News", message="m"), {}),
    ],
)
def test_what_a_plan_counts_as(path: Path, event: HistoryEvent, counted: dict[Counted, int]) -> None:
    with closing(Store(path)) as store:
        store.save((), [event])
        assert store.counts().get("a", {}) == counted


def test_counts_outlive_the_process_and_the_history(path: Path) -> None:
    for number in range(5):
        with closing(Store(path, limits=StoreLimits(events=2))) as store:
            store.save((), [evolve(carried_out(START), message=str(number), at=float(number))])
    with closing(Store(path)) as store:
        assert len(store.history(limit=50)) == 2
        assert store.counts() == {"a": {Counted.HEALED: 5}}


def test_each_rollback_is_counted_once_however_often_the_record_is_written(path: Path) -> None:
    failure = Failure(
        content=Content(version="2"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="m", at=2.0
    )
    tried = evolve(failure, verdict=FailureKind.NOT_REACHED)
    again = evolve(failure, at=3.0, count=2)
    with closing(Store(path)) as store:
        for failures in ((tried,), (failure,), (failure, tried), (), (again,), (again,)):
            store.save([evolve(RECORD, failures=failures)])
        assert store.counts() == {"a": {Counted.ROLLED_BACK: 2}}


def test_a_memory_of_an_older_version_begins_to_count(path: Path) -> None:
    with closing(Store(path)) as store:
        store.save([RECORD])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE counts")
    with closing(Store(path)) as store:
        assert store.counts() == {}
        assert store.state.records == (RECORD,)
        store.save((), [carried_out(START)])
        assert store.counts() == {"a": {Counted.HEALED: 1}}


def test_what_is_forgotten_of_very_many_agents_is_forgotten_here_too(path: Path) -> None:
    with closing(Store(path, limits=StoreLimits(records=2))) as store:
        for name in ("a", "b", "c"):
            store.save((), [evolve(carried_out(START), name=name)])
            store.save([evolve(RECORD, name=name)])
        assert set(store.counts()) == {"b", "c"}
