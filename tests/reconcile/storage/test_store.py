"""The memory: what is kept comes back, what can't be read is set aside, and readers leave no trace."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.actions import Outcome, Result, Start
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import Refusal
from reconcile.decide.records.content import NO_CONFIG, ConfigMemory, Content
from reconcile.decide.records.record import (
    AgentRecord,
    Crashes,
    Failure,
    FailureKind,
    PendingUpgrade,
    Pin,
    UpgradePhase,
)
from reconcile.errors import WriteFailed
from reconcile.source import Answer, DesiredSignature, Entry, Malformed
from reconcile.storage import store as store_module
from reconcile.storage.codec import EVIDENCE_LIMIT, HistoryEntry, HistoryEvent
from reconcile.storage.store import (
    LIMITS,
    SCHEMA_VERSION,
    Accepted,
    Store,
    StoredState,
    StoreLimits,
    read_history,
    read_state,
)
from tests.support.nobody import as_nobody
from tests.support.odd_files import make_socket

CONDITION = Condition(type="Ready", status="False", reason="StopFailed", message="kör\n'x'", since=12.5)
OLD = Content(version="0.9.0")
CONTENT = Content(version="1.0.0", digests=frozenset({"md5:1", "sha256:2"}), config="sha256:3")
RECORD = AgentRecord(
    name="falcon-agent",
    work_dir="/home/falcon",
    run_user="falcon",
    config=ConfigMemory(name="cfg.json", url="http://meta/cfg.json", digest="sha256:1", etag='"1"'),
    remote_config=ConfigMemory(name="cfg.json", url="http://meta/cfg.json", digest="sha256:2"),
    confirmation=PendingUpgrade(
        to=CONTENT, before=OLD, stage=UpgradePhase.WATCHING, at=1.0, deadline=31.5, boot="boot-1", tries=2
    ),
    good=OLD,
    fallback=OLD,
    failures=(
        Failure(
            content=CONTENT, verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="'x'\n", at=2.0, count=3
        ),
        Failure(
            content=OLD,
            verdict=FailureKind.NOT_REACHED,
            reason="FetchFailed",
            message="",
            at=3.0,
        ),
    ),
    crashes=Crashes(count=4, at=4.0),
    pin=Pin(version="0.9.0", owner="kör", at=5.0),
    used=("1.0.0", "0.9.0"),
    conditions=(CONDITION, evolve(CONDITION, type="Held", since=0.0)),
)
BARE = AgentRecord(name="a", work_dir="/w", run_user="u", config=NO_CONFIG)
ENTRY = Entry(
    name="falcon-agent",
    version="1.0.0",
    tarball="http://meta/releases",
    md5="0" * 32,
    sha256="f" * 64,
    cmd="start",
    run_user="falcon",
    work_dir="/home/falcon",
    config_file_name="cfg.json",
    config_remote_url="http://meta/cfg.json",
)
ANSWER = Answer(
    came_from="http://meta/api/heartbeat",
    entries=(ENTRY, Entry(name="bare"), Malformed(name="#3", message="version: expected a string")),
)
NOTHING = Answer(came_from="http://meta/api/heartbeat", entries=())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder of its own, with the characters that an URI could stumble over."""
    folder = tmp_path / "var?mode=rw&x#100%"
    folder.mkdir()
    return folder / "state.db"


def fill(path: Path) -> StoredState:
    store = Store(path)
    store.accept(ANSWER, 1000.5)
    store.save([RECORD, BARE])
    store.save_conditions([CONDITION])
    state = store.state
    store.close()
    return state


def test_without_a_file_nothing_is_remembered_and_that_is_no_trouble(path: Path) -> None:
    assert read_state(path) == StoredState()
    assert os.listdir(path.parent) == []


def test_what_is_kept_comes_back(path: Path) -> None:
    state = StoredState(
        accepted=Accepted(answer=ANSWER, at=1000.5), records=(BARE, RECORD), conditions=(CONDITION,), trouble=""
    )
    assert fill(path) == state
    assert read_state(path) == state
    store = Store(path)
    assert (store.state, store.damaged_copy) == (state, None)
    store.close()
    assert state.record("falcon-agent") == RECORD
    assert state.record("nobody") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_memory_of_an_older_version_is_read_with_what_was_not_known_then(path: Path) -> None:
    """A record gets keys from version to version; what had none of them is no reason to forget pins and quarantine."""
    fill(path)
    with closing(sqlite3.connect(path)) as db, db:
        kept = json.loads(db.execute("SELECT record FROM records WHERE name = ?", (RECORD.name,)).fetchone()[0])
        for key in ("awaited", "late_fetch", "empty_released", "told_to_stop"):
            del kept[key]
        db.execute("UPDATE records SET record = ? WHERE name = ?", (json.dumps(kept), RECORD.name))
    store = Store(path)
    assert (store.damaged_copy, store.state.trouble) == (None, "")
    found = store.state.record(RECORD.name)
    store.close()
    assert found == evolve(RECORD, awaited=None, late_fetch=None, empty_released=False, told_to_stop=())
    assert found.failures == RECORD.failures


def test_a_store_without_an_entry_is_empty(path: Path) -> None:
    Store(path).close()
    assert read_state(path) == StoredState()


def test_records_replace_their_own_and_leave_the_others(path: Path) -> None:
    fill(path)
    store = Store(path)
    store.save([evolve(RECORD, confirmation=None, config=None, conditions=())])
    store.close()
    state = read_state(path)
    assert state.record("a") == BARE
    found = state.record("falcon-agent")
    assert found is not None
    assert (found.confirmation, found.config, found.conditions) == (None, None, ())


def test_the_oldest_of_very_many_records_go_that_no_answer_names(path: Path) -> None:
    store = Store(path)
    store.accept(evolve(ANSWER, entries=(evolve(ENTRY, name="named"),)), 1.0)
    store.save([evolve(BARE, name="named"), evolve(BARE, name="first"), evolve(BARE, name="second")])
    store.save([evolve(BARE, name=f"agent-{number}") for number in range(999)])
    store.save([evolve(BARE, name="first")])
    store.close()
    kept = {record.name for record in read_state(path).records}
    assert {"named", "first", "agent-998"} < kept
    assert "second" not in kept


def test_an_answer_that_names_nothing_keeps_the_one_before_it(path: Path) -> None:
    fill(path)
    store = Store(path)
    store.accept(NOTHING, 2000.0)
    assert store.state.accepted == Accepted(answer=ANSWER, at=2000.0, nothing=True)
    store.accept(NOTHING, 3000.0)
    assert store.state.accepted == Accepted(answer=ANSWER, at=3000.0, nothing=True)
    store.accept(ANSWER, 4000.0)
    assert store.state.accepted == Accepted(answer=ANSWER, at=4000.0)
    store.close()


def test_serials_are_kept_with_an_answer_and_stay_where_none_is_given(path: Path) -> None:
    old, new = (DesiredSignature(key="K", serial=serial, digest="d") for serial in (5, 6))
    store = Store(path)
    store.accept(evolve(ANSWER, signature=old), 1000.0, serials=[old])
    store.accept(ANSWER, 2000.0)
    assert store.state.serials == (old,)
    store.accept(evolve(NOTHING, signature=new), 3000.0, serials=[new])
    store.close()
    state = read_state(path)
    assert state.serials == (new,)
    assert state.accepted == Accepted(answer=evolve(ANSWER, signature=new), at=3000.0, nothing=True)


def test_a_first_answer_that_names_nothing(path: Path) -> None:
    store = Store(path)
    store.accept(NOTHING, 1.0)
    store.close()
    assert read_state(path).accepted == Accepted(answer=NOTHING, at=1.0, nothing=True)


# History


def news(name: str, at: float, said: str = "it came up") -> HistoryEvent:
    return HistoryEvent(name=name, at=at, reason="News", message=said)


def failed_start(at: float, *, seconds: float = 1.0, error: str = "no", evidence: str = "") -> HistoryEvent:
    outcome = Outcome(
        action=Start(version="1.0.0"),
        result=Result.FAILED,
        attempts=1,
        seconds=seconds,
        reason="StartFailed",
        error=error,
        evidence=evidence,
    )
    return HistoryEvent(name="a", at=at, reason="NotRunning", message="1.0.0 does not run", outcomes=(outcome,))


def remembered(path: Path, *events: HistoryEvent, limits: StoreLimits = LIMITS) -> tuple[HistoryEntry, ...]:
    store = Store(path, limits=limits)
    store.save((), events)
    store.close()
    return read_history(path)


def test_what_happened_comes_back_the_oldest_first(path: Path) -> None:
    events = remembered(path, news("a", 1.0), failed_start(2.5, seconds=0.12345, evidence="its words"), news("b", 3.0))
    assert [(one.name, one.at, one.count) for one in events] == [("a", 1.0, 1), ("a", 2.5, 1), ("b", 3.0, 1)]
    assert (events[1].reason, events[1].message) == ("NotRunning", "1.0.0 does not run")
    [action] = events[1].actions
    assert action == {
        "type": "start",
        "version": "1.0.0",
        "result": "failed",
        "attempts": 1,
        "at": None,
        "seconds": 0.123,
        "reason": "StartFailed",
        "error": "no",
        "evidence": "its words",
    }
    assert read_history(path, ["b"]) == events[2:]
    assert read_history(path, limit=1) == events[2:]
    assert read_history(path, ["nobody"]) == ()


def test_what_happens_again_is_counted_and_not_repeated(path: Path) -> None:
    """The last times' evidence and duration stand; another agent's events between don't matter."""
    again = [failed_start(at, seconds=at, evidence=f"try at {at:g}") for at in (1.0, 2.0, 3.0)]
    reported = remembered(path, again[0], news("b", 1.5), *again[1:])
    assert [(one.name, one.first_at, one.at, one.count) for one in reported] == [("b", 1.5, 1.5, 1), ("a", 1.0, 3.0, 3)]
    assert reported[1].actions[0]["evidence"] == "try at 3"
    reported = remembered(path, failed_start(4.0, error="something else"), failed_start(5.0))
    assert [one.count for one in reported if one.name == "a"] == [3, 1, 1]


def test_an_agents_history_is_bounded_and_leaves_the_others(path: Path) -> None:
    reported = remembered(path, news("quiet", 0.0), *(news("a", float(at), f"news {at}") for at in range(1, 251)))
    assert [one.name for one in reported].count("a") == 200
    assert (reported[0].name, reported[1].message, reported[-1].message) == ("quiet", "news 51", "news 250")


def test_all_history_is_bounded(path: Path) -> None:
    few = StoreLimits(all_events=10)
    reported = remembered(path, *(news(f"agent-{at}", float(at)) for at in range(25)), limits=few)
    assert [one.name for one in reported] == [f"agent-{at}" for at in range(15, 25)]


def test_evidence_is_bounded_and_its_end_is_kept(path: Path) -> None:
    [result] = remembered(path, failed_start(1.0, evidence="x" * EVIDENCE_LIMIT + "the end"))
    evidence = result.actions[0]["evidence"]
    assert (len(evidence), evidence.endswith("the end")) == (EVIDENCE_LIMIT, True)


def test_history_is_read_without_changing_anything(path: Path) -> None:
    assert read_history(path) == ()
    assert os.listdir(path.parent) == []
    remembered(path, news("a", 1.0))
    before = snapshot(path.parent)
    assert len(read_history(path)) == 1
    assert snapshot(path.parent) == before
    path.write_bytes(b"garbage" * 1000)
    assert read_history(path) == ()


def test_what_is_refused_is_kept(path: Path) -> None:
    refused = (Refusal(name="a b", reason="InvalidSpec", rule="name", message="no"),)
    for entries in (refused, ()):
        store = Store(path)
        store.save_refused(entries)
        store.close()
        assert read_state(path).refused == entries


# Of no use


def sql(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "newer": lambda path: sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}"),
    "foreign": lambda path: sql(path, "PRAGMA user_version = 0"),
    "no table": lambda path: sql(path, "DROP TABLE host"),
    "no JSON": lambda path: sql(path, "UPDATE records SET record = '{' WHERE name = 'a'"),
    "other JSON": lambda path: sql(path, "UPDATE records SET record = '[]' WHERE name = 'a'"),
    "a key is missing": lambda path: sql(path, "UPDATE records SET record = '{}' WHERE name = 'a'"),
    "a key too many": lambda path: sql(path, """UPDATE host SET conditions = '[{"type": "Ready", "x": 1}]'"""),
    "an unknown kind": lambda path: sql(
        path, """UPDATE accepted SET answer = '{"came_from": "", "entries": [{"kind": "x"}]}'"""
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_memory_that_is_of_no_use_is_set_aside_by_name_and_passes_go_on(path: Path, damage: str) -> None:
    fill(path)
    DAMAGE[damage](path)
    damaged = path.read_bytes()
    trouble = read_state(path).trouble
    assert trouble.startswith(f"{path} can't be read (")
    assert "sets it aside" in trouble
    assert path.read_bytes() == damaged
    store = Store(path)
    assert store.damaged_copy is not None
    assert store.damaged_copy.name.startswith("state.db.set-aside-2")
    assert store.damaged_copy.read_bytes() == damaged
    assert store.state == StoredState()
    store.save([BARE])
    store.close()
    assert read_state(path) == StoredState(records=(BARE,))


@pytest.mark.parametrize("made", [fill, lambda path: sql(path, "VACUUM")], ids=["full", "empty"])
def test_a_newer_schema_is_named(path: Path, made: Callable[[Path], object]) -> None:
    made(path)
    sql(path, "PRAGMA user_version = 7")
    assert "its schema is 7, this version knows 1" in read_state(path).trouble


def test_a_database_of_another_program_is_none_of_ours(path: Path) -> None:
    """Most write no version; one in which there is nothing yet is taken."""
    sql(path, "VACUUM")
    assert read_state(path) == StoredState()
    sql(path, "CREATE TABLE theirs (x)")
    found = read_state(path)
    assert "its schema is 0, this version knows 1" in found.trouble
    assert found.damaged


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
    "a directory": os.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_in_its_place_is_set_aside_too(path: Path, make: Callable[[Path], object]) -> None:
    make(path)
    assert read_state(path).trouble
    assert read_history(path) == ()
    store = Store(path)
    assert store.damaged_copy is not None
    assert os.path.lexists(store.damaged_copy)
    store.save([BARE])
    store.close()
    assert read_state(path).records == (BARE,)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The host gives us no further descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_this_process_knew_goes_on_where_the_file_can_not_be_read_at_the_moment(path: Path) -> None:
    known = fill(path)
    with no_descriptor_left():
        store = Store(path, known)
        assert store.state.trouble
        assert (store.state.records, store.state.accepted) == (known.records, known.accepted)
    store.close()
    store = Store(path, StoredState())
    assert store.state == known, "what can be read counts"
    store.close()


def test_what_is_damaged_is_not_gone_on_with_beside_what_this_process_knew(path: Path) -> None:
    known = fill(path)
    DAMAGE["garbage"](path)
    store = Store(path, known)
    store.close()
    assert (store.state.records, store.damaged_copy is not None) == ((), True)


def test_what_can_not_even_be_looked_for_is_no_empty_memory(tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to("var")
    path = tmp_path / "var/state.db"
    state = read_state(path)
    assert state.trouble.startswith(f"{path} can't be read (")
    assert not state.damaged


@pytest.mark.system
def test_another_users_memory_is_not_empty_and_whose_it_is_is_said(tmp_path: Path) -> None:
    for name in "var", "home":
        (tmp_path / name).mkdir(mode=0o700)
    fill(tmp_path / "var/state.db")
    trouble = as_nobody(tmp_path / "home", "read_state(Path('var/state.db')).trouble")
    assert "Permission denied" in trouble
    assert trouble.endswith("run this as the user that runs the updater, or give the file to that user")


def test_what_can_not_be_read_at_the_moment_stays_where_it_is(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    with no_descriptor_left():
        state = read_state(path)
        store = Store(path)
        with pytest.raises(WriteFailed):
            store.save([RECORD])
    assert "until it can be, nothing is remembered" in state.trouble
    assert (store.damaged_copy, store.state.records) == (None, ())
    assert path.read_bytes() == content
    store.close()

    store = Store(path)
    assert (store.damaged_copy, store.state.record("a")) == (None, BARE)
    store.close()


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        (OSError(errno.EIO, "Input/output error"), False),
        (sqlite3.OperationalError("disk I/O error"), False),
        (sqlite3.OperationalError("database is locked"), False),
        (sqlite3.OperationalError("unable to open database file"), False),
        (sqlite3.OperationalError("no such table: host"), True),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'record'"), True),
        (sqlite3.DatabaseError("database disk image is malformed"), True),
        (sqlite3.DatabaseError("file is not a database"), True),
        (ValueError("its schema is 7"), True),
    ],
)
def test_what_counts_as_damage_without_a_code(error: Exception, damage: bool) -> None:
    """As Python 3.10 reports it."""
    assert store_module._is_damage(error) is damage


@pytest.mark.slow
def test_a_memory_that_another_process_locked_is_not_waited_for_without_an_end(path: Path) -> None:
    store = Store(path)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        guard = threading.Timer(60, other.rollback)
        guard.start()
        with pytest.raises(WriteFailed, match="locked"):
            store.save([BARE])
        assert "locked" in read_state(path).trouble, "nor is a copy of it read"
        guard.cancel()
    store.save([BARE])
    store.close()


def test_what_was_set_aside_is_not_overwritten_and_keeps_its_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 12, 1, 0, 0, 0, 1, 335, 0)))
    kept = []
    for number in range(3):
        path.write_bytes(b"garbage %d" % number * 1000)
        path.with_name("state.db-wal").write_bytes(b"log %d" % number)
        store = Store(path)
        store.close()
        assert store.damaged_copy is not None
        kept.append(store.damaged_copy)
    first = "state.db.set-aside-20261201T000000"
    assert [aside.name for aside in kept] == [first, f"{first}-2", f"{first}-3"]
    for number, aside in enumerate(kept):
        assert aside.read_bytes() == b"garbage %d" % number * 1000
        assert Path(f"{aside}-wal").read_bytes() == b"log %d" % number


def unwritable(path: Path, kind: str) -> None:
    if kind == "no folder":
        path.parent.rmdir()
    else:
        path.parent.rmdir()
        path.parent.write_text("in the way")


@pytest.mark.parametrize("kind", ["no folder", "a file as folder"])
def test_without_a_file_passes_go_on_without_memory(path: Path, kind: str) -> None:
    unwritable(path, kind)
    store = Store(path)
    assert store.state == StoredState()
    writes: tuple[Callable[[], None], ...] = (
        lambda: store.accept(ANSWER, 1.0),
        lambda: store.save([BARE]),
        lambda: store.save_conditions([CONDITION]),
        lambda: store.save((), [news("a", 1.0)]),
    )
    for write in writes:
        with pytest.raises(WriteFailed, match="look at its disk and its rights"):
            write()
    store.close()


def test_a_database_that_stops_taking_writes(path: Path) -> None:
    fill(path)
    store = Store(path)
    sql(path, "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(WriteFailed, match="disk full"):
        store.save([evolve(RECORD, used=("9.9",))])
    assert store.state.record("a") == BARE
    store.save_conditions([])
    store.close()


def test_what_is_kept_already_is_not_written_again(path: Path) -> None:
    fill(path)
    store = Store(path)
    store.save_conditions([CONDITION])
    sql(path, "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'written') ; END")
    sql(path, "CREATE TRIGGER too BEFORE INSERT ON host BEGIN SELECT RAISE(ABORT, 'written') ; END")
    store.save(store.state.records)
    store.save([])
    store.save_conditions([CONDITION])
    with pytest.raises(WriteFailed, match="written"):
        store.save([*store.state.records, evolve(RECORD, name="new")])
    with pytest.raises(WriteFailed, match="written"):
        store.save_conditions([])
    store.close()


# Readers


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Names, bytes and times of a folder, SQLite's own files included."""
    return {
        name: ((folder / name).read_bytes(), (folder / name).stat().st_mtime_ns) for name in sorted(os.listdir(folder))
    }


def test_a_reader_changes_nothing(path: Path) -> None:
    state = fill(path)
    before = snapshot(path.parent)
    for _ in range(3):
        assert read_state(path) == state
    assert snapshot(path.parent) == before
    assert list(before) == ["state.db", "state.db-journal"]


AMID_A_COMMIT = """
import os, signal, sqlite3, sys
from pathlib import Path
from reconcile.storage.store import _connect_to_write
db = _connect_to_write(Path(sys.argv[1]))
db.execute("PRAGMA cache_size = 1")  # so that what is not yet committed is in the file already
db.execute("BEGIN")
db.execute("UPDATE records SET record = '{}'")
db.executemany("INSERT INTO records VALUES (?, ?)", [(f"half-{number}", "x" * 3000) for number in range(200)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_amid_a_commit(path: Path) -> dict[str, tuple[bytes, int]]:
    """What lies there then."""
    killed = subprocess.run([sys.executable, "-c", AMID_A_COMMIT, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert b"half-" in path.read_bytes()
    assert path.with_name("state.db-journal").read_bytes()
    return snapshot(path.parent)


def test_what_was_not_committed_is_not_read_and_left_as_it_is(path: Path) -> None:
    state = fill(path)
    before = killed_amid_a_commit(path)
    for _ in range(3):
        assert read_state(path) == state
    assert snapshot(path.parent) == before
    store = Store(path)
    assert (store.damaged_copy, store.state) == (None, state)
    store.save([RECORD])
    store.close()
    assert read_state(path).record(RECORD.name) == RECORD


def test_uncommitted_rows_are_not_read_where_they_can_not_be_rolled_back(path: Path) -> None:
    """A disk that became read-only amid a commit: what was known before heals."""
    state = fill(path)
    killed_amid_a_commit(path)
    command = [sys.executable, "-c", KNOWN, str(path)]
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", READ_ONLY, str(path.parent), *command], **CAPTURED)
    if "unshare" in ended.stderr or "mount" in ended.stderr:
        pytest.skip(f"no mount of our own: {ended.stderr}")
    assert (ended.stdout, ended.stderr) == (f"{len(state.records)} WriteFailed\n", "")


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
CAPTURED: dict[str, Any] = {"check": False, "capture_output": True, "text": True}
KNOWN = """
import sys
from pathlib import Path
from reconcile.errors import WriteFailed
from reconcile.storage.store import Store
store = Store(Path(sys.argv[1]))
try:
    store.save_conditions([])
except WriteFailed as err:
    print(len(store.state.records), type(err).__name__)
"""


def test_no_file_of_the_memory_is_mapped(path: Path) -> None:
    """A mapped file of a disk that fails ends the process that touches it, by SIGBUS."""
    fill(path)
    store = Store(path)
    store.save([evolve(RECORD, used=("9.9",))])
    read_state(path)
    assert str(path.parent) not in Path("/proc/self/maps").read_text()
    assert sorted(os.listdir(path.parent)) == ["state.db", "state.db-journal"]
    store.close()


def test_a_memory_of_an_older_version_with_its_log_is_taken_over_without_mapping_it(path: Path) -> None:
    state = fill(path)
    sql(path, "PRAGMA journal_mode = WAL")
    killed = subprocess.run([sys.executable, "-c", WITH_A_LOG, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("state.db-wal").stat().st_size
    store = Store(path)
    assert store.damaged_copy is None
    assert store.state.record("a") is None
    assert len(store.state.records) == len(state.records) - 1
    store.save([RECORD])
    assert str(path.parent) not in Path("/proc/self/maps").read_text()
    store.close()
    assert not path.with_name("state.db-wal").exists()


WITH_A_LOG = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
with db:
    db.execute("DELETE FROM records WHERE name = 'a'")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["state.db-journal", "state.db-wal"])
def test_what_is_no_file_in_a_journals_place_goes_and_the_memory_stays(
    path: Path, name: str, make: Callable[[Path], object]
) -> None:
    fill(path)
    kept = read_state(path).records
    beside = path.with_name(name)
    beside.unlink(missing_ok=True)
    make(beside)
    assert "can't be read" in read_state(path).trouble
    store = Store(path)
    assert (store.damaged_copy, store.state.records) == (None, kept)
    store.save([BARE])
    store.close()
    assert BARE in read_state(path).records


WRITER = """
import sys
from pathlib import Path
from reconcile.decide.records.record import AgentRecord
from reconcile.storage.store import Store
for number in range(int(sys.argv[2])):
    store = Store(Path(sys.argv[1]))
    assert store.damaged_copy is None
    store.save(AgentRecord(name=f"agent-{one}", work_dir="/w" * 100, run_user=str(number)) for one in range(20))
    store.close()
"""


def test_two_readers_and_a_writer_that_comes_and_goes(path: Path) -> None:
    """All records are written in one go: a reader sees them all of one kind. The writer is another process, as
    a pass is to `status`."""
    subprocess.run([sys.executable, "-c", WRITER, str(path), "1"], check=True)
    done = threading.Event()
    seen: list[StoredState] = []

    def read() -> None:
        while not done.is_set():
            seen.append(read_state(path))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        subprocess.run([sys.executable, "-c", WRITER, str(path), "100"], check=True)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert {state.trouble for state in seen} == {""}
    assert {len(state.records) for state in seen} == {20}
    assert {len({record.run_user for record in state.records}) for state in seen} == {1}


def test_the_agents_that_were_ever_given_a_remote_config() -> None:
    given = ConfigMemory(name="cfg.json", url="http://h/cfg.json", digest="sha256:1")
    kept = {"given": given, "never asked for": NO_CONFIG, "not known": None}
    records = (AgentRecord(name=name, work_dir="/w", run_user="u", config=config) for name, config in kept.items())
    assert StoredState(records=tuple(records)).delivered == {"given"}
