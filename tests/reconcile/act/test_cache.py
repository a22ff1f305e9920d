"""The cache: parts that are taken up again, shared and thrown away, and how it is kept small."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from pathlib import Path

import pytest

from reconcile.act.cache import Partial, kinds_of, part_of, take_digests, trim_cache
from reconcile.decide.desired import Digest, Md5, Sha256

URL = "http://127.0.0.1/releases/falcon/x.tar.gz"
CONTENT = b"falcon" * 1000
BOTH = frozenset[Digest](
    {Md5(hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()), Sha256(hashlib.sha256(CONTENT).hexdigest())}
)
NAMED = frozenset(str(digest) for digest in BOTH)


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return tmp_path / "sha256-1.tar.gz"


def taken(entry: Path, url: str = URL) -> Partial:
    partial = Partial.take(entry, url, BOTH)
    assert partial is not None
    return partial


def left(entry: Path, content: bytes, validator: str = '"v1"', url: str = URL) -> None:
    """Leave a part behind, as a try that broke off does."""
    partial = taken(entry, url)
    partial.remember(validator)
    partial.write(content)
    partial.close()


def test_digests_of_a_file_are_taken_from_its_start() -> None:
    file = io.BytesIO(CONTENT)
    file.read(10)
    assert take_digests(kinds_of(BOTH), file) == NAMED


def test_the_kinds_of_no_digests() -> None:
    assert kinds_of(frozenset()) == frozenset()


def test_digests_are_taken_as_the_bytes_come(entry: Path) -> None:
    partial = taken(entry)
    partial.remember('"v1"')
    for at in range(0, len(CONTENT), 1000):
        partial.write(CONTENT[at : at + 1000])
    assert partial.finish() == NAMED
    assert partial.size == len(CONTENT)
    assert part_of(entry).read_bytes() == CONTENT
    assert os.listdir(entry.parent) == [part_of(entry).name]
    partial.close()


def test_a_part_is_taken_up_where_it_ended(entry: Path) -> None:
    left(entry, CONTENT[:1234])
    partial = taken(entry)
    assert (partial.size, partial.validator) == (1234, '"v1"')
    partial.write(CONTENT[1234:])
    assert partial.finish() == NAMED
    partial.close()


def test_a_part_that_starts_again_forgets_what_it_had(entry: Path) -> None:
    left(entry, b"other bytes, and more than there will be" * 1000)
    partial = taken(entry)
    partial.restart()
    assert partial.size == 0
    partial.write(CONTENT)
    assert partial.finish() == NAMED
    assert part_of(entry).read_bytes() == CONTENT
    partial.close()


@pytest.mark.parametrize(
    "notes",
    [
        None,
        b"",
        b"garbage\xff",
        b"[]",
        b"{}",
        json.dumps({"url": URL, "validator": ""}).encode(),
        json.dumps({"url": "http://elsewhere/x.tar.gz", "validator": '"v1"'}).encode(),
    ],
)
def test_a_part_of_which_nobody_knows_what_it_is_of_is_not_taken_up(entry: Path, notes: bytes | None) -> None:
    left(entry, CONTENT[:100])
    path = entry.with_name(f"{entry.name}.part.json")
    path.unlink() if notes is None else path.write_bytes(notes)
    partial = taken(entry)
    assert (partial.size, partial.validator) == (0, "")
    assert part_of(entry).stat().st_size == 0
    partial.close()


def test_an_entry_that_is_there_is_used_again_and_counts_as_used_now(entry: Path) -> None:
    entry.write_bytes(CONTENT)
    os.utime(entry, (1, 1))
    assert Partial.take(entry, URL, BOTH) is None
    assert entry.stat().st_mtime > 1


def test_a_link_in_place_of_a_part_is_not_followed(entry: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    part_of(entry).symlink_to(target)
    with pytest.raises(OSError, match="part"):
        Partial.take(entry, URL, BOTH)
    assert target.read_bytes() == b"precious"


def waiting(entry: Path) -> tuple[threading.Thread, list[Partial | None]]:
    """Another agent that wants the same entry while its part is held."""
    found: list[Partial | None] = []
    thread = threading.Thread(target=lambda: found.append(Partial.take(entry, URL, BOTH)))
    thread.start()
    thread.join(0.05)  # long enough to reach the lock; where it isn't, it finds what the one before left all the same
    assert found == []
    return thread, found


def test_whoever_waited_finds_the_finished_entry(entry: Path) -> None:
    first = taken(entry)
    thread, found = waiting(entry)
    part_of(entry).rename(entry)
    first.close()
    thread.join()
    assert found == [None]


def test_whoever_waited_for_bytes_that_were_thrown_away_gets_a_new_part(entry: Path) -> None:
    first = taken(entry)
    first.write(b"corrupt")
    thread, found = waiting(entry)
    part_of(entry).unlink()
    first.close()
    thread.join()
    [second] = found
    assert second is not None
    assert second.size == 0
    assert part_of(entry).exists()
    second.close()


def fill(cache: Path, *names: str) -> None:
    """Files of 10 bytes, the first used longest ago."""
    for age, name in enumerate(names):
        (cache / name).write_bytes(b"0123456789")
        os.utime(cache / name, (1000 + age, 1000 + age))


@pytest.mark.parametrize(
    ("limit", "stays"),
    [
        (1000, {"a", "b", "c"}),
        (30, {"a", "b", "c"}),
        (29, {"b", "c"}),
        (10, {"c"}),
        (0, {"c"}),  # what is in use stays, whatever the limit
    ],
)
def test_what_was_used_longest_ago_goes_first(tmp_path: Path, limit: int, stays: set[str]) -> None:
    fill(tmp_path, "a", "b", "c")
    trim_cache(tmp_path, limit, tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == stays


def test_what_is_in_use_stays_even_where_it_is_the_oldest(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    trim_cache(tmp_path, 5, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_cache_that_is_not_there_is_small_enough(tmp_path: Path) -> None:
    trim_cache(tmp_path / "none", 0, tmp_path / "none" / "a")


def test_a_part_that_somebody_fills_stays_and_one_that_broke_off_goes_with_its_notes(entry: Path) -> None:
    cache = entry.parent
    in_use = taken(entry)
    in_use.remember('"a"')
    in_use.write(CONTENT)
    broken_off = cache / "md5-1.tar.gz.part"
    fill(cache, broken_off.name, f"{broken_off.name}.json")
    trim_cache(cache, 0, cache / "none")
    assert {path.name for path in cache.iterdir()} == {part_of(entry).name, f"{part_of(entry).name}.json"}
    in_use.close()
    trim_cache(cache, 0, cache / "none")
    assert list(cache.iterdir()) == []


def test_whoever_takes_a_part_that_is_being_trimmed_gets_one_of_its_own(entry: Path) -> None:
    for _ in range(200):
        partial = taken(entry)
        partial.close()
        trimmer = threading.Thread(target=trim_cache, args=(entry.parent, 0, entry.parent / "none"))
        trimmer.start()
        partial = taken(entry)
        trimmer.join()
        assert os.path.samestat(os.fstat(partial.file.fileno()), part_of(entry).stat())
        partial.close()


def test_a_link_in_the_cache_is_removed_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(bytes(100))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a").symlink_to(tmp_path / "target")
    trim_cache(tmp_path / "cache", 0, tmp_path / "none")
    assert not list((tmp_path / "cache").iterdir())
    assert (tmp_path / "target").exists()


def test_what_is_discarded_leaves_nothing(entry: Path) -> None:
    partial = taken(entry)
    partial.remember('"a"')
    partial.write(CONTENT)
    partial.discard()
    partial.close()
    assert list(entry.parent.iterdir()) == []
