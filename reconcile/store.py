"""The memory between passes: last accepted desired state, records, conditions. SQLite, one file, `var/state.db`.

Only the thread of a pass writes, and each write is one committed transaction. Readers never wait and change nothing.
A database that is damaged or from a newer version never stops a pass: it is set aside by name, and the disk is the
truth. What is remembered is decided in decide/records.py, not here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from reconcile.decide.conditions import Condition
from reconcile.decide.records import AgentRecord, ConfigMemory, OpenSwitch
from reconcile.errors import WriteFailed
from reconcile.source import Answer, Entry, Malformed

SCHEMA_VERSION = 1
_BUSY_S = 5.0
_LOOKS = 5
_LOOK_AGAIN_S = 0.01  # a writer that opens or leaves is done by then
_SCHEMA = """
CREATE TABLE accepted (
    id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL, names_none INTEGER NOT NULL, answer TEXT NOT NULL
);
CREATE TABLE records (name TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE host (id INTEGER PRIMARY KEY CHECK (id = 1), conditions TEXT NOT NULL);
"""


@frozen(kw_only=True)
class Accepted:
    """The last answer that named agents. `at`: Unix seconds of the last valid answer. `nothing`: it named none."""

    answer: Answer
    at: float
    nothing: bool = False


@frozen(kw_only=True)
class State:
    """All that is remembered, as a value. `trouble`: why memory could not be read, for people; empty: it could."""

    accepted: Accepted | None = None
    records: tuple[AgentRecord, ...] = ()
    conditions: tuple[Condition, ...] = ()
    trouble: str = ""

    def record(self, name: str) -> AgentRecord | None:
        return next((record for record in self.records if record.name == name), None)


def read_state(path: Path) -> State:
    """Read the memory without changing a byte on disk. No file: an empty state, which is no trouble.

    A writer that comes or goes meanwhile may have been seen half way: then it is looked at once more.
    """
    state = State()
    for _ in range(_LOOKS):
        before = _stamp(path)
        if not before:
            return State()
        try:
            with closing(_connect_to_read(path)) as db:
                state = _read(db)
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as err:
            state = State(trouble=f"{path} can't be read ({err}); the next pass sets it aside and starts anew")
        if not state.trouble and _stamp(path) == before:
            break
        time.sleep(_LOOK_AGAIN_S if state.trouble else 0)
    return state


def _stamp(path: Path) -> tuple[int, ...]:
    """What tells that a writer was at work: the database, and whether there is a log beside it. Empty: no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    except OSError as err:
        return (err.errno or 0,)
    return found.st_ino, found.st_mtime_ns, found.st_size, path.with_name(f"{path.name}-wal").exists()


class Store:
    """The one writer. `state` is what is remembered now; `set_aside`, where an older memory went that was of no use.

    Where not even a new file can be made, passes go on without memory: every write raises WriteFailed.
    """

    def __init__(self, path: Path) -> None:
        """Open, or make anew. A file that can't be used is renamed to `state.db.set-aside-{time}`."""
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._trouble = ""
        self.set_aside: Path | None = None
        self.state = read_state(path)
        try:
            if self.state.trouble:
                self.state = State()
                self.set_aside = _set_aside(path)
            self._db = _connect_to_write(path)
        except (sqlite3.Error, OSError) as err:
            self._trouble = str(err)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def accept(self, answer: Answer, now: float) -> None:
        """Keep an accepted answer. One that names nothing keeps the entries of the one before it, marked so."""
        kept = self.state.accepted
        nothing = not answer.entries
        stored = kept.answer if nothing and kept is not None else answer
        row = (1, now, int(nothing), json.dumps(_answer_to_json(stored)))
        self._write("INSERT OR REPLACE INTO accepted VALUES (?, ?, ?, ?)", [row])

    def save(self, records: Iterable[AgentRecord]) -> None:
        """Keep these records; others stay as they are."""
        rows = [(record.name, json.dumps(asdict(record))) for record in records]
        self._write("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)

    def save_conditions(self, conditions: Iterable[Condition]) -> None:
        """Keep the updater's own conditions."""
        row = (1, json.dumps([asdict(condition) for condition in conditions]))
        self._write("INSERT OR REPLACE INTO host VALUES (?, ?)", [row])

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            if self._db is None:
                raise sqlite3.OperationalError(self._trouble)
            with self._db:
                self._db.executemany(statement, rows)
            self.state = _read(self._db)
        except (sqlite3.Error, OSError) as err:
            raise WriteFailed(f"can't write {self._path}: {err}; look at its disk and its rights") from err


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # Without a write-ahead log beside it nobody has the file open to write, and `immutable` keeps SQLite from making
    # its own files; with one, its shared memory is read as it is, or passed by where its writer is dead: without
    # `readonly_shm` (SQLite 3.22 and newer) reading a log that a killed process left would write into that memory.
    extra = "&immutable=1"
    if path.with_name(f"{path.name}-wal").exists():
        extra = "&readonly_shm=1" if path.with_name(f"{path.name}-shm").exists() else ""
    uri = f"file:{_quoted(path)}?mode=ro{extra}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S)


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _connect_to_write(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_S)
    db.execute("PRAGMA journal_mode = WAL")
    # A note that was committed must outlive a power cut: what was begun with an agent is finished by it.
    db.execute("PRAGMA synchronous = FULL")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    return db


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.set-aside-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


def _read(db: sqlite3.Connection) -> State:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return State()
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema is {version}, this version knows {SCHEMA_VERSION}")
    accepted = db.execute("SELECT at, names_none, answer FROM accepted").fetchone()
    conditions = db.execute("SELECT conditions FROM host").fetchone()
    return State(
        accepted=None
        if accepted is None
        else Accepted(at=accepted[0], nothing=bool(accepted[1]), answer=_answer_from_json(json.loads(accepted[2]))),
        records=tuple(
            _record_from_json(json.loads(row[0])) for row in db.execute("SELECT record FROM records ORDER BY name")
        ),
        conditions=() if conditions is None else _conditions_from_json(json.loads(conditions[0])),
    )


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    kinds = {Entry: "entry", Malformed: "malformed"}
    return {
        "came_from": answer.came_from,
        "entries": [{"kind": kinds[type(entry)], **asdict(entry)} for entry in answer.entries],
    }


def _answer_from_json(kept: Mapping[str, Any]) -> Answer:
    classes: dict[str, type[Entry] | type[Malformed]] = {"entry": Entry, "malformed": Malformed}
    entries = [
        classes[entry["kind"]](**{key: value for key, value in entry.items() if key != "kind"})
        for entry in kept["entries"]
    ]
    return Answer(came_from=kept["came_from"], entries=tuple(entries))


def _record_from_json(kept: Mapping[str, Any]) -> AgentRecord:
    config, switch = kept["config"], kept["open_switch"]
    return AgentRecord(
        name=kept["name"],
        work_dir=kept["work_dir"],
        run_user=kept["run_user"],
        config=None if config is None else ConfigMemory(**config),
        open_switch=None if switch is None else OpenSwitch(**switch),
        conditions=_conditions_from_json(kept["conditions"]),
    )


def _conditions_from_json(kept: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    return tuple(Condition(**condition) for condition in kept)
