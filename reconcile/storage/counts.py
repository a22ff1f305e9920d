"""How often each agent was restarted, rolled back and healed: a table of `var/state.db`, since cron leaves no process
behind that could count. It is read and written through the connection of the store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from enum import Enum

from reconcile.decide.actions import Outcome, Result, Start, Stop, Switch
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, FailureKind

_TABLE = "counts (name TEXT NOT NULL, event TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (name, event))"


class Counted(Enum):
    """What is counted of an agent."""

    RESTARTED = "restarted"
    """A change stopped and started it."""
    ROLLED_BACK = "rolled back"
    """What it was switched to did not come up, or died within its watch."""
    HEALED = "healed"
    """It was down and is to run: started, without a change."""


Counts = Mapping[str, Mapping[Counted, int]]
"""By the agent's name; what never happened is missing."""


def of_plan(outcomes: Iterable[Outcome]) -> tuple[Counted, ...]:
    """What to count of a plan that was carried out."""
    done = [outcome.action for outcome in outcomes if outcome.result is Result.DONE]
    if not any(isinstance(action, Start) for action in done):
        return ()
    if any(isinstance(action, Stop) for action in done):
        return (Counted.RESTARTED,)
    return () if any(isinstance(action, Switch) for action in done) else (Counted.HEALED,)


def of_record(before: AgentRecord | None, after: AgentRecord) -> tuple[Counted, ...]:
    """What to count of a record that is written over another one."""
    return tuple(Counted.ROLLED_BACK for one in _rolled_back(after) if one not in _rolled_back(before))


def _rolled_back(record: AgentRecord | None) -> list[tuple[Content, float]]:
    failures = () if record is None else record.failures
    return [(one.content, one.at) for one in failures if one.verdict is FailureKind.ROLLED_BACK]


def make_table(db: sqlite3.Connection) -> None:
    """Make the table where a memory of an older version has none."""
    db.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")


def add(db: sqlite3.Connection, name: str, counted: Iterable[Counted]) -> None:
    rows = [(name, one.value) for one in counted]
    db.executemany(
        "INSERT INTO counts VALUES (?, ?, 1) ON CONFLICT (name, event) DO UPDATE SET count = count + 1", rows
    )


def forget(db: sqlite3.Connection, names: Iterable[str]) -> None:
    db.executemany("DELETE FROM counts WHERE name = ?", [(name,) for name in names])


def read(db: sqlite3.Connection) -> Counts:
    found: dict[str, dict[Counted, int]] = {}
    known = {one.value: one for one in Counted}
    for name, event, count in db.execute("SELECT name, event, count FROM counts"):
        if event in known:
            found.setdefault(name, {})[known[event]] = count
    return found
