"""What other threads leave to the one that writes: in order, waited for, and told of where it fails."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.decide.records.record import AgentRecord
from reconcile.engine.journal import Journal
from reconcile.engine.results import AgentResult
from reconcile.errors import WriteFailed
from reconcile.storage.store import Store, read_state
from tests.reconcile.decide.worlds import record
from tests.reconcile.engine.agent_results import result_of

LONG_S = 60.0


class Journals:
    """A journal with a store of its own; `calls`: how often it told that there is something to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0
        self.journal = Journal(Store(path), self._notify)

    def _notify(self) -> None:
        self.calls += 1

    def written(self, note: AgentRecord) -> list[WriteFailed]:
        """Have another thread write a note; what it got of that."""
        failed: list[WriteFailed] = []

        def write() -> None:
            try:
                self.journal.write(note)
            except WriteFailed as err:
                failed.append(err)

        thread = threading.Thread(target=write)
        thread.start()
        assert self.journal.do_next(LONG_S) is None
        thread.join(LONG_S)
        assert not thread.is_alive(), "it has its answer"
        return failed

    def refuse(self) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk is full'); END")


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Journals]:
    journals = Journals(tmp_path / "state.db")
    yield journals
    journals.journal.store.close()


def test_work_is_done_in_its_order_one_at_a_time(journals: Journals) -> None:
    journal, done = journals.journal, list[int]()
    result = result_of()

    def work(number: int) -> AgentResult | None:
        done.append(number)
        return result if number == 2 else None

    assert not journal.waits
    journal.post(lambda: work(1))
    journal.post(lambda: work(2))
    assert (journal.waits, journals.calls, done) == (True, 2, [])
    assert (journal.do_next(0), done) == (None, [1])
    assert (journal.do_next(None), done) == (result, [1, 2])
    assert not journal.waits
    assert journal.do_next(0) is None


def test_work_is_waited_for_as_long_as_was_said_and_no_longer(journals: Journals) -> None:
    began = time.monotonic()
    assert journals.journal.do_next(0.05) is None
    assert time.monotonic() - began >= 0.05
    later = threading.Timer(0.05, lambda: journals.journal.post(result_of))
    later.start()
    assert journals.journal.do_next(LONG_S) is not None
    later.join()


def test_a_note_is_on_the_disk_when_its_thread_goes_on(journals: Journals) -> None:
    assert journals.written(record()) == []
    assert read_state(journals.path).records == (record(),)
    assert journals.journal.take_trouble() == ""


def test_a_note_that_can_not_be_written_is_known_to_its_thread_and_to_the_pass(journals: Journals) -> None:
    journals.refuse()
    [err] = journals.written(record())
    assert "disk is full" in err.message
    assert journals.journal.take_trouble() == str(err)
    assert journals.journal.take_trouble() == "", "it was taken"


def test_a_store_that_fails_as_nobody_expects_leaves_no_thread_waiting(journals: Journals) -> None:
    [err] = journals.written(record(work_dir=object()))
    assert "the memory can't be written: " in err.message
    assert journals.journal.take_trouble() != ""
    assert journals.written(record()) == [], "and the next one is written"


def test_the_first_trouble_is_the_one_that_is_told(journals: Journals) -> None:
    journal = journals.journal

    def fails(why: Exception) -> Callable[[], None]:
        def write() -> None:
            raise why

        return write

    journal.attempt(lambda: None)
    assert journal.trouble == ""
    journal.attempt(fails(WriteFailed("first")))
    journal.attempt(fails(OSError("second")))
    journals.refuse()
    journals.written(record())
    assert (journal.trouble, journal.take_trouble()) == ("first", "first")
    journal.attempt(fails(OSError("third")))
    assert journal.take_trouble() == "third"
    with pytest.raises(ValueError, match="unexpected"):
        journal.attempt(fails(ValueError("unexpected")))


def test_a_record_replaces_the_one_before(journals: Journals) -> None:
    journals.written(record())
    journals.journal.attempt(lambda: journals.journal.store.save([evolve(record(), stopped_by_us=True)]))
    assert [one.stopped_by_us for one in read_state(journals.path).records] == [True]
