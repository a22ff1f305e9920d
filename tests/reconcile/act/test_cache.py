"""The cache: parts that are taken up again, shared and thrown away, and how it is kept small."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconcile.act.cache import Partial, kinds_of, part_of, remove_entry, take_digests, trim_cache
from reconcile.act.host.home_lock import try_lock
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.errors import FetchInterrupted
from tests.support.odd_files import ODD, make_folder

URL = "http://127.0.0.1/releases/falcon/x.tar.gz"
CONTENT = b"falcon" * 1000
BOTH = frozenset[Digest](
    {Md5(hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()), Sha256(hashlib.sha256(CONTENT).hexdigest())}
)
GUARD_S = 60.0  # far more than any wait here takes
NAMED = frozenset(str(digest) for digest in BOTH)


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return tmp_path / "sha256-1.tar.gz"


def taken(entry: Path, url: str = URL) -> Partial:
    partial = Partial.take(entry, url, BOTH)
    assert isinstance(partial, Partial)
    return partial


def whole(found: object) -> bytes:
    """What an entry that was there holds."""
    assert isinstance(found, io.BufferedReader)
    with found:
        return found.read()


def is_free(entry: Path) -> bool:
    """Whether the part's lock is free."""
    with part_of(entry).open("rb") as file:
        return try_lock(file.fileno())


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
    assert part_of(entry).stat().st_mode & 0o777 == 0o600
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
def test_a_part_of_unknown_origin_is_not_resumed(entry: Path, notes: bytes | None) -> None:
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
    assert whole(Partial.take(entry, URL, BOTH)) == CONTENT
    assert entry.stat().st_mtime > 1


def test_a_link_in_place_of_a_part_is_not_followed(entry: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    part_of(entry).symlink_to(target)
    left(entry, b"falcon")
    assert part_of(entry).read_bytes() == b"falcon"
    assert target.read_bytes() == b"precious"


def waiting(entry: Path) -> tuple[threading.Thread, list[object]]:
    """Another agent that wants the same entry while its part is held."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(Partial.take(entry, URL, BOTH)))
    thread.start()
    thread.join(0.05)  # long enough to reach the lock; where it isn't, it finds what the one before left all the same
    assert found == []
    return thread, found


def test_a_fetch_that_waited_finds_the_finished_entry(entry: Path) -> None:
    first = taken(entry)
    first.remember('"v1"')
    thread, found = waiting(entry)
    first.write(CONTENT)
    first.finish()
    part_of(entry).rename(entry)
    first.close()
    thread.join(GUARD_S)
    assert [whole(one) for one in found] == [CONTENT]


def test_a_fetch_that_waited_for_discarded_bytes_gets_a_new_part(entry: Path) -> None:
    first = taken(entry)
    first.write(b"corrupt")
    thread, found = waiting(entry)
    part_of(entry).unlink()
    first.close()
    thread.join(GUARD_S)
    [second] = found
    assert isinstance(second, Partial)
    assert second.size == 0
    assert part_of(entry).exists()
    second.close()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads that take turns as often as they can."""
    monkeypatch.setattr("reconcile.act.cache._POLL_S", 0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy")
def test_many_that_take_and_throw_away_the_same_part_neither_fail_nor_keep_it(entry: Path) -> None:
    """Each name here may vanish between any two looks at it; a lock that is not given back would keep all others."""
    failed: list[Exception] = []

    def agent() -> None:
        try:
            for _ in range(60):
                found = Partial.take(entry, URL, BOTH)
                if not isinstance(found, Partial):
                    whole(found)
                    continue
                found.remember('"v1"')
                found.write(CONTENT)
                found.discard()
                found.close()
        except Exception as err:
            failed.append(err)

    def trimmer() -> None:
        try:
            while any(agent.is_alive() for agent in agents):
                trim_cache(entry.parent, 0, entry.parent / "none")
        except Exception as err:
            failed.append(err)

    before = len(os.listdir("/proc/self/fd"))
    agents = [threading.Thread(target=agent, daemon=True) for _ in range(6)]
    threads = [*agents, threading.Thread(target=trimmer, daemon=True)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + GUARD_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a wait without an end"
    assert failed == []
    assert len(os.listdir("/proc/self/fd")) == before, "a file is still open, and with it a lock"
    trim_cache(entry.parent, 0, entry.parent / "none")
    assert list(entry.parent.iterdir()) == []


def test_a_part_that_stands_still_is_not_waited_for_without_an_end(entry: Path) -> None:
    first = taken(entry)
    first.write(CONTENT)
    waits: list[None] = []
    with pytest.raises(FetchInterrupted, match=r"\.part: another download of the same tarball holds it"):
        Partial.take(entry, URL, BOTH, lambda: waits.append(None), patience_s=0.3)
    assert len(waits) > 1
    first.close()


def test_a_part_that_grows_is_waited_for(entry: Path) -> None:
    first = taken(entry)

    def grow() -> None:
        first.write(b"x")
        first.file.flush()
        if first.size == 8:
            first.close()

    second = Partial.take(entry, URL, BOTH, grow, patience_s=0.15)  # of which every look takes 0.1
    assert isinstance(second, Partial)
    second.close()


class Unwilling(Exception):
    pass


def test_a_fetch_that_gives_up_waiting_leaves_nothing_open(entry: Path) -> None:
    first = taken(entry)
    before = len(os.listdir("/proc/self/fd"))
    waits: list[None] = []

    def give_up() -> None:
        waits.append(None)
        if len(waits) > 1:  # it was not heeded: so that this ends all the same
            first.close()
        raise Unwilling

    with pytest.raises(Unwilling) as caught:
        Partial.take(entry, URL, BOTH, give_up)
    assert len(os.listdir("/proc/self/fd")) == before
    first.remember('"v1"')
    first.close()
    assert is_free(entry)
    del caught


def test_a_part_that_can_not_be_read_gives_its_lock_back(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(entry, CONTENT[:100])

    def fail(self: Partial) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Partial, "_take_up", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        Partial.take(entry, URL, BOTH)
    assert is_free(entry), "while the error is still at hand, too"
    del caught


def own_names(entry: Path) -> list[Path]:
    part = part_of(entry)
    return [entry, part, part.with_name(f"{part.name}.json")]


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("number", range(3), ids=["entry", "part", "notes"])
def test_what_is_no_file_makes_way_for_a_download(entry: Path, number: int, make: Callable[[Path], None]) -> None:
    """A folder is moved aside: what is in it is not the updater's."""
    make(own_names(entry)[number])
    left(entry, b"falcon")
    partial = taken(entry)
    assert (partial.size, partial.validator) == (6, '"v1"')
    part_of(entry).rename(entry)
    partial.file.close()
    aside = list(entry.parent.glob(".*.set-aside-*/inside"))
    assert len(aside) == (1 if make is make_folder else 0)


def test_what_can_not_be_removed_is_in_the_way_of_nothing(tmp_path: Path) -> None:
    fill(tmp_path, "b", "c")
    make_folder(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 1))
    trim_cache(tmp_path, 0, tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


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


def test_an_entry_that_took_the_place_of_one_that_is_no_good_stays(entry: Path) -> None:
    entry.write_bytes(b"")
    with entry.open("rb") as bad:
        entry.unlink()
        remove_entry(entry, bad)  # nothing lies there
        entry.write_bytes(CONTENT)
        remove_entry(entry, bad)
        assert entry.read_bytes() == CONTENT
    with entry.open("rb") as bad:
        remove_entry(entry, bad)
    assert not entry.exists()


def test_a_cache_that_is_not_there_is_small_enough(tmp_path: Path) -> None:
    trim_cache(tmp_path / "none", 0, tmp_path / "none" / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_part_being_filled_stays_and_one_that_broke_off_goes_with_its_notes(entry: Path) -> None:
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


@pytest.mark.parametrize("names", [[".part"], [".part.json"]])
def test_a_part_without_notes_goes_and_so_do_notes_without_a_part(tmp_path: Path, names: list[str]) -> None:
    fill(tmp_path, *(f"md5-1.tar.gz{name}" for name in names))
    trim_cache(tmp_path, 0, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_can_not_be_written_to_its_end_goes(entry: Path) -> None:
    partial = taken(entry)
    partial.remember('"a"')
    partial.write(CONTENT[:100])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        partial.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(entry.parent.iterdir()) == []


def test_a_cache_below_a_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Partial.take(tmp_path / "file" / "x.tar.gz", URL, BOTH)


def test_what_is_in_the_cache_is_for_us_alone_whatever_the_umask(entry: Path) -> None:
    before = os.umask(0)
    try:
        left(entry, CONTENT)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in entry.parent.iterdir()} == {0o600}
    assert len(list(entry.parent.iterdir())) == 2


def test_a_part_that_is_trimmed_while_another_agent_waits_for_it_is_begun_again(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent waits for the lock that the trim holds; what it then locks has no name any more."""
    left(entry, CONTENT[:1234])
    waiters: list[tuple[threading.Thread, list[object]]] = []
    unlink = Path.unlink

    def amid_the_trim(path: Path, missing_ok: bool = False) -> None:
        if not waiters:
            waiters.append(waiting(entry))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", amid_the_trim)
    trim_cache(entry.parent, 0, entry.parent / "none")
    [(thread, found)] = waiters
    thread.join(GUARD_S)
    [partial] = found
    assert isinstance(partial, Partial)
    assert partial.size == 0
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
