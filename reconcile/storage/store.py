"""The memory between passes: last accepted desired state, records, conditions. SQLite, one file, `var/state.db`.

Only the thread of a pass writes, and each write is one committed transaction. Readers change nothing.
A database that is damaged or from a newer version never stops a pass: it is set aside by name, and the disk is the
truth. One that can't be read for another reason (EIO, no descriptor left) stays where it is. What is remembered is
decided in reconcile/decide, not here.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import evolve, field

from probes.codec import decode, encode
from probes.values import frozen
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import Refusal
from reconcile.decide.records.record import AgentRecord
from reconcile.errors import WriteFailed
from reconcile.source import Answer, DesiredSignature, Entry
from reconcile.storage import counts
from reconcile.storage.codec import (
    HistoryEntry,
    HistoryEvent,
    answer_from_json,
    answer_to_json,
    event_to_json,
    likeness,
)

SCHEMA_VERSION = 1
_BUSY_S = 5.0
_DAMAGE_CODES = (1, 11, 26)  # SQLITE_ERROR (a table is missing), _CORRUPT, _NOTADB
# Between copies: a writer that takes back what another left is done by then, on a busy machine later.
_PAUSES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.0)
_SCHEMA = """
CREATE TABLE accepted (
    id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL, names_none INTEGER NOT NULL, answer TEXT NOT NULL
);
CREATE TABLE records (name TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, first_at REAL NOT NULL, at REAL NOT NULL, count INTEGER NOT NULL,
    likeness TEXT NOT NULL, event TEXT NOT NULL
);
CREATE INDEX history_of ON history (name, id);
CREATE TABLE host (id INTEGER PRIMARY KEY CHECK (id = 1), conditions TEXT NOT NULL);
CREATE TABLE refused (id INTEGER PRIMARY KEY CHECK (id = 1), entries TEXT NOT NULL);
"""


@frozen(kw_only=True)
class Accepted:
    """The last answer that named agents. `at`: Unix seconds of the last valid answer. `nothing`: it named none."""

    answer: Answer
    at: float
    nothing: bool = False


@frozen(kw_only=True)
class StoredState:
    """All that is remembered, as a value. `last_entries`: of each agent that the last answer names the one accepted
    last. `serials`: of each trusted key the signature of a desired state accepted last. `refused`: the entries that
    were refused last. `trouble`: why memory could not be read, for people; empty: it could. `damaged`: nor ever will
    be."""

    accepted: Accepted | None = None
    last_entries: tuple[Entry, ...] = ()
    serials: tuple[DesiredSignature, ...] = ()
    records: tuple[AgentRecord, ...] = ()
    conditions: tuple[Condition, ...] = ()
    refused: tuple[Refusal, ...] = ()
    trouble: str = ""
    damaged: bool = False
    _by_name: dict[str, AgentRecord] = field(init=False, eq=False, repr=False)

    @_by_name.default
    def _index(self) -> dict[str, AgentRecord]:
        # A pass asks for each agent several times, and there may be thousands.
        return {record.name: record for record in self.records}

    def record(self, name: str) -> AgentRecord | None:
        return self._by_name.get(name)

    @property
    def named(self) -> frozenset[str]:
        """The agents that the last answer names."""
        entries = () if self.accepted is None else self.accepted.answer.entries
        return frozenset(entry.name for entry in entries)

    @property
    def delivered(self) -> frozenset[str]:
        """The agents that were ever given a remote config."""
        return frozenset(record.name for record in self.records if record.config is not None and record.config.name)


def read_state(path: Path) -> StoredState:
    """Read the memory without changing a byte of it. No file: an empty state, which is no trouble."""
    try:
        with _opened_to_read(path) as db:
            return StoredState() if db is None else _read(db)
    except _UNREADABLE as err:
        return _unreadable(path, err)


_UNREADABLE = (sqlite3.Error, OSError, ValueError, KeyError, TypeError)


def _unreadable(path: Path, err: Exception) -> StoredState:
    damaged = _is_damage(err) or _odd(path)
    next_ = "the next pass sets it aside and begins a new one" if damaged else "until it can be, nothing is remembered"
    if isinstance(err, PermissionError):
        next_ += "; run this as the user that runs the updater, or give the file to that user"
    return StoredState(trouble=f"{path} can't be read ({err}); {next_}", damaged=damaged)


def _is_damage(err: Exception) -> bool:
    """Whether it is the content that is wrong, and not the disk, the memory or the descriptors at this moment."""
    if isinstance(err, OSError):
        return False
    if not isinstance(err, sqlite3.Error):
        return True  # it was read, and is not of our form
    code = getattr(err, "sqlite_errorcode", None)  # Python 3.11 and newer
    if code is not None:
        return code & 0xFF in _DAMAGE_CODES
    # Of the errors that are met here the sqlite3 module makes all but damage an OperationalError, and that also of a
    # table that is missing and of a text that is none.
    operational = isinstance(err, sqlite3.OperationalError)
    return not operational or any(words in str(err) for words in ("no such", "decode"))


def _odd(path: Path) -> bool:
    """Whether something else than files lies where the database and its journal belong: a FIFO would be waited for."""
    return any(map(_is_no_file, _files(path)))


def _is_no_file(path: Path) -> bool:
    """Whether a name is taken by something else than a file."""
    return os.path.lexists(path) and not path.is_file()


def _files(path: Path) -> tuple[Path, ...]:
    """The database, and what belongs to it; the journal first: beside a new database it would be played back."""
    return (*(path.with_name(path.name + suffix) for suffix in ("-journal", "-wal", "-shm")), path)


@frozen(kw_only=True)
class StoreLimits:
    """How much is kept: a server that names other agents in each answer must not fill the disk, nor the memory of each
    pass. `events`: of each agent. `records`: those written last, and all that the last answer names."""

    events: int = 200
    all_events: int = 20_000
    records: int = 1000


LIMITS = StoreLimits()


class Store:
    """The one writer. `state` is what is remembered now; `damaged_copy`, where an older memory went that was of no use.

    Where not even a new file can be made, passes go on without memory: every write raises WriteFailed.
    """

    def __init__(self, path: Path, known: StoredState | None = None, limits: StoreLimits = LIMITS) -> None:
        """Open, or make a new one. A file that is damaged is renamed to `state.db.set-aside-{time}`. `known`: what this
        process knew last, and goes on with where the file can't be read at the moment."""
        self._path = path
        self._limits = limits
        self._db: sqlite3.Connection | None = None
        self._trouble = ""
        self.damaged_copy: Path | None = None
        with suppress(OSError):
            _clear_journals(path)
        self.state = read_state(path)
        if self.state.trouble and not self.state.damaged and known is not None:
            self.state = evolve(known, trouble=self.state.trouble)
        try:
            if self.state.damaged:
                self.state = StoredState()
                self.damaged_copy = _rename_damaged(path)
            db = _connect_to_write(path)
            if self.state.trouble:  # by now it may be readable, and else nothing is written beside what is not known
                self.state = _read(db)
            self._db = db
        except _UNREADABLE as err:
            self._trouble = str(err)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def accept(
        self,
        answer: Answer,
        now: float,
        last_entries: Iterable[Entry] = (),
        serials: Iterable[DesiredSignature] | None = None,
    ) -> None:
        """Keep an answer, of its agents the entries accepted last, and the serials accepted last (None: as they were).
        One that names nothing leaves the answer and the entries as they were, marked so."""
        before, entries = self.state.accepted, tuple(last_entries)
        nothing = not answer.entries
        if nothing and before is not None:
            answer, entries = evolve(before.answer, signature=answer.signature), self.state.last_entries
        signed = {"serials": encode(self.state.serials if serials is None else tuple(serials))}
        content = {**answer_to_json(answer), "kept": encode(entries), **signed}
        row = (1, now, int(nothing), json.dumps(content))
        self._write("INSERT OR REPLACE INTO accepted VALUES (?, ?, ?, ?)", row)

    def save(self, records: Iterable[AgentRecord], events: Iterable[HistoryEvent] = ()) -> None:
        """Keep these records, and add to history; other records stay as they are, except the oldest of very many that
        no answer names any more. What is kept already is not written again: most passes change nothing."""
        wanted = {record.name: record for record in records}
        changed = [record for name, record in wanted.items() if record != self.state.record(name)]
        happened = tuple(events)
        if not changed and not happened and self._db is not None:
            return
        rows = [(record.name, json.dumps(encode(record))) for record in changed]
        counted = [(record.name, counts.of_record(self.state.record(record.name), record)) for record in changed]
        named = wanted.keys() | self.state.named

        def save(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
            # A row that is replaced gets a new rowid: they are in the order of writing.
            old = db.execute("SELECT name FROM records ORDER BY rowid DESC LIMIT -1 OFFSET ?", (self._limits.records,))
            gone = [name for (name,) in old.fetchall() if name not in named]
            db.executemany("DELETE FROM records WHERE name = ?", [(name,) for name in gone])
            counts.forget(db, gone)
            for name, ends in counted:
                counts.add(db, name, ends)
            _add_events(db, happened, self._limits)

        self._change(save)

    def save_conditions(self, conditions: Iterable[Condition]) -> None:
        """Keep the updater's own conditions."""
        wanted = tuple(conditions)
        if wanted == self.state.conditions and self._db is not None:
            return
        row = (1, json.dumps(encode(wanted)))
        self._write("INSERT OR REPLACE INTO host VALUES (?, ?)", row)

    def save_refused(self, entries: Iterable[Refusal]) -> None:
        """Keep which entries are refused, so that each is reported once."""
        wanted = tuple(entries)
        if wanted == self.state.refused and self._db is not None:
            return
        row = (1, json.dumps(encode(wanted)))
        self._write("INSERT OR REPLACE INTO refused VALUES (?, ?)", row)

    def history(self, *, limit: int) -> tuple[HistoryEntry, ...]:
        """What was done lately, the oldest first. While this is open, `read_history` must not be called in this
        process: closing its connection would drop the locks of ours (POSIX locks belong to the process)."""
        try:
            return () if self._db is None else _history(self._db, (), limit)
        except (sqlite3.Error, OSError):
            return ()

    def counts(self) -> counts.Counts:
        """How often each agent was restarted, rolled back and healed. Called as `history` is."""
        try:
            return {} if self._db is None else counts.read(self._db)
        except (sqlite3.Error, OSError):
            return {}

    def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        self._change(lambda db: db.execute(statement, row))

    def _change(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Make one committed transaction. Raise WriteFailed."""
        try:
            if self._db is None:
                raise sqlite3.OperationalError(self._trouble)
            with self._db:
                change(self._db)
            self.state = _read(self._db)
        except (sqlite3.Error, OSError) as err:
            raise WriteFailed(f"can't write {self._path}: {err}; look at its disk and its rights") from err


def read_history(path: Path, names: Iterable[str] = (), *, limit: int | None = 1000) -> tuple[HistoryEntry, ...]:
    """What was done, the oldest first; of these agents, or of all. Changes nothing. Empty where it can't be read."""
    wanted = tuple(names)
    try:
        with _opened_to_read(path) as db:
            return () if db is None else _history(db, wanted, limit)
    except (sqlite3.Error, OSError):
        return ()


def _history(db: sqlite3.Connection, wanted: tuple[str, ...], limit: int | None) -> tuple[HistoryEntry, ...]:
    rows = db.execute("SELECT name, first_at, at, count, event FROM history ORDER BY id DESC")
    entries = (_entry(row) for row in rows if not wanted or row[0] in wanted)
    return tuple(reversed(tuple(islice(entries, limit))))


def _entry(row: tuple[Any, ...]) -> HistoryEntry:
    name, first_at, at, count, content = row
    event = json.loads(content)
    return HistoryEntry(
        name=name,
        first_at=first_at,
        at=at,
        count=count,
        by=event.get("by", "server"),  # older versions noted none
        reason=event["reason"],
        message=event["message"],
        actions=tuple(event["actions"]),
    )


def _add_events(db: sqlite3.Connection, events: tuple[HistoryEvent, ...], limits: StoreLimits) -> None:
    """What happened again just as before is counted, not repeated; the oldest goes."""
    for event in events:
        _add_event(db, event, limits.events)
        counts.add(db, event.name, counts.of_plan(event.outcomes))
    if events:
        oldest = "SELECT id FROM history ORDER BY id DESC LIMIT 1 OFFSET ?"
        db.execute(f"DELETE FROM history WHERE id <= ({oldest})", (limits.all_events,))


def _add_event(db: sqlite3.Connection, event: HistoryEvent, limit: int) -> None:
    like = likeness(event)
    last = db.execute(
        "SELECT id, likeness FROM history WHERE name = ? ORDER BY id DESC LIMIT 1", (event.name,)
    ).fetchone()
    content = json.dumps(event_to_json(event))
    if last is not None and last[1] == like:
        # It gets a new number: these are in the order of what happened, whatever the clock showed.
        again = "id = (SELECT max(id) + 1 FROM history), at = ?, count = count + 1, event = ?"
        db.execute(f"UPDATE history SET {again} WHERE id = ?", (event.at, content, last[0]))
        return
    db.execute(
        "INSERT INTO history (name, first_at, at, count, likeness, event) VALUES (?, ?, ?, 1, ?, ?)",
        (event.name, event.at, event.at, like, content),
    )
    db.execute(
        "DELETE FROM history WHERE name = ?"
        " AND id NOT IN (SELECT id FROM history WHERE name = ? ORDER BY id DESC LIMIT ?)",
        (event.name, event.name, limit),
    )


@contextmanager
def _opened_to_read(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The database, to be read as it was last committed; None where there is no file. Raise what _UNREADABLE names.

    What a writer that was killed amid a commit left has to be undone before it can be read: in a copy of it, since a
    reader writes nothing.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    if _odd(path):
        raise OSError(errno.EINVAL, "no regular file")
    with ExitStack() as closing_both:
        db = closing_both.enter_context(closing(_connect(path, "ro")))
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            if not any(_size(beside) for beside in _files(path)[:2]):
                raise
            db.close()
            copy = closing_both.enter_context(_copied(path))
            db = closing_both.enter_context(closing(_connect(copy, "rw")))
        yield db


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A copy of the database with its journal, while they are not written. Raise OSError."""
    import shutil  # here: they are slow to load, and this is rare
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ops-updater-") as folder:
        copy = Path(folder, path.name)
        for pause in _PAUSES_S:
            before = [_stamp(file) for file in _files(path)]
            for file in _files(path):
                with suppress(FileNotFoundError):
                    shutil.copyfile(file, copy.with_name(file.name))
            if [_stamp(file) for file in _files(path)] == before:
                break
            time.sleep(pause)
        yield copy


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written; empty: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _size(path: Path) -> int:
    return (_stamp(path) or (0,))[-1]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    name = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=_BUSY_S)
    db.execute("PRAGMA mmap_size = 0")  # a mapped file of a disk that fails ends the process by SIGBUS
    return db


def _connect_to_write(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    db = _connect(path, "rw")
    # Not a write-ahead log, whose index is a mapped file (ADR 47). The first line makes one of an older version be read
    # without it.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA locking_mode = NORMAL")
    # A note that was committed must outlive a power cut: what was begun with an agent is finished by it.
    db.execute("PRAGMA synchronous = FULL")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    counts.make_table(db)
    return db


def _clear_journals(path: Path) -> None:
    """Rename what lies in a journal's place and is no file, so that the database is read without it. Raise OSError."""
    if path.is_file():
        for beside in _files(path)[:-1]:
            if _is_no_file(beside):
                beside.rename(_free_name(beside))


def _rename_damaged(path: Path) -> Path:
    """Rename a database with all that belongs to it."""
    renamed = _free_name(path)
    for file in _files(path):
        with suppress(FileNotFoundError):
            file.rename(f"{renamed}{file.name.removeprefix(path.name)}")
    return renamed


def _free_name(path: Path) -> Path:
    """What a file that is set aside may be named."""
    base = f"{path.name}.set-aside-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))


def _read(db: sqlite3.Connection) -> StoredState:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return StoredState()
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema is {version}, this version knows {SCHEMA_VERSION}")
    accepted = db.execute("SELECT at, names_none, answer FROM accepted").fetchone()
    conditions = db.execute("SELECT conditions FROM host").fetchone()
    refused = db.execute("SELECT entries FROM refused").fetchone()
    content = {} if accepted is None else json.loads(accepted[2])
    return StoredState(
        accepted=None
        if accepted is None
        else Accepted(at=accepted[0], nothing=bool(accepted[1]), answer=answer_from_json(content)),
        last_entries=decode(tuple[Entry, ...], content.get("kept", [])),  # older memories have none, nor serials
        serials=decode(tuple[DesiredSignature, ...], content.get("serials", [])),
        records=tuple(
            decode(AgentRecord, json.loads(row[0])) for row in db.execute("SELECT record FROM records ORDER BY name")
        ),
        conditions=() if conditions is None else decode(tuple[Condition, ...], json.loads(conditions[0])),
        refused=() if refused is None else decode(tuple[Refusal, ...], json.loads(refused[0])),
    )
