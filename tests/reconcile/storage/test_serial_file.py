"""The plain file of accepted serials: beside the memory, and the higher of both counts."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from reconcile.errors import WriteFailed
from reconcile.source import DesiredSignature
from reconcile.storage.serial_file import SerialMemory

KEYS = frozenset({"K", "L"})


def signed(serial: int, key: str = "K") -> DesiredSignature:
    return DesiredSignature(key=key, serial=serial, digest=f"d{serial}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desired-serials.json"


def test_nothing_is_known_and_nothing_written_at_first(path: Path) -> None:
    memory = SerialMemory(path, KEYS)
    assert memory.accepted == ()
    memory.keep()
    assert not path.exists()


def test_what_was_kept_is_known_to_the_next_process(path: Path) -> None:
    memory = SerialMemory(path, KEYS)
    memory.learn([signed(5), signed(3, "L"), signed(9, "M")])
    memory.keep()
    assert SerialMemory(path, KEYS).accepted == (signed(5), signed(3, "L"))
    before = path.stat().st_mtime_ns
    memory.keep()
    assert path.stat().st_mtime_ns == before, "the same is not written again"
    assert stat.S_ISREG(path.lstat().st_mode)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_higher_of_both_counts(path: Path) -> None:
    memory = SerialMemory(path, KEYS)
    memory.learn([signed(5)])
    memory.keep()
    other = SerialMemory(path, KEYS)
    other.learn([signed(4), signed(7, "L")])  # as an older state.db has it
    assert other.accepted == (signed(5), signed(7, "L"))
    other.learn([signed(6)])
    assert other.accepted == (signed(6), signed(7, "L"))


def test_what_another_process_kept_meanwhile_counts_at_once(path: Path) -> None:
    daemon, cron = SerialMemory(path, KEYS), SerialMemory(path, KEYS)
    daemon.learn([signed(5)])
    cron.learn([signed(8)])
    cron.keep()
    assert daemon.accepted == (signed(8),)


def test_a_key_that_is_no_longer_trusted_is_forgotten(path: Path) -> None:
    memory = SerialMemory(path, KEYS)
    memory.learn([signed(5), signed(3, "L")])
    memory.keep()
    SerialMemory(path, frozenset({"L"})).keep()
    assert SerialMemory(path, KEYS).accepted == (signed(3, "L"),)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", "[1]", '[{"key": "K"}]', '[{"key": "K", "serial": "x"}]', "[" * 9000]
)
def test_a_file_that_can_not_be_read_is_empty_and_written_again(path: Path, content: str) -> None:
    path.write_text(content)
    memory = SerialMemory(path, KEYS)
    assert memory.accepted == ()
    memory.learn([signed(5)])
    memory.keep()
    assert json.loads(path.read_text()) == [{"key": "K", "serial": 5, "digest": "d5"}]


def test_where_it_can_not_be_written_this_process_knows_it_all_the_same(path: Path) -> None:
    path.mkdir()
    memory = SerialMemory(path, KEYS)
    memory.learn([signed(5)])
    with pytest.raises(WriteFailed, match=r"desired-serials\.json can't be written"):
        memory.keep()
    assert memory.accepted == (signed(5),)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
