"""Bounded reads on a real disk: whatever a home holds, they end, cost little and report only what is certain."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.errors import Unreadable
from probes.host import home_reader
from probes.observed import MARKER, Origin, Tree

MD5, SHA256 = "md5:" + "a" * 32, "sha256:" + "5" * 64


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A directory and its open descriptor."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield tmp_path, fd
    os.close(fd)


def mark(directory: Path, content: object) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (directory / MARKER).write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("1.0", True),
        ("_x", True),
        ("5.1.3-rc1+build~2", True),
        ("a" * 64, True),
        ("", False),
        (".stage-x", False),
        ("-1", False),
        ("1..2", False),
        ("1/2", False),
        ("1.0\n", False),
        ("ä", False),
        ("a" * 65, False),
    ],
)
def test_what_can_be_a_version(name: str, is_one: bool) -> None:
    assert home_reader.is_version(name) is is_one


def test_only_a_real_directory_is_opened(home: tuple[Path, int]) -> None:
    path, fd = home
    (path / "1.0").mkdir()
    (path / "link").symlink_to("1.0")
    (path / "file").touch()
    for name, there in (("1.0", True), ("link", False), ("file", False), ("missing", False)):
        with home_reader.open_directory(name, dir_fd=fd) as opened:
            assert (opened is not None) is there
        with home_reader.open_directory(path / name) as opened:
            assert (opened is not None) is there


def test_a_directory_is_closed_again_also_after_an_error(home: tuple[Path, int]) -> None:
    path, _ = home
    before = os.listdir("/proc/self/fd")

    def fail_inside() -> None:
        with home_reader.open_directory(path) as opened:
            assert opened is not None
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert os.listdir("/proc/self/fd") == before


def test_a_file_is_read_up_to_its_limit(home: tuple[Path, int]) -> None:
    path, fd = home
    (path / "file").write_bytes(b"12345")
    assert home_reader.read_bounded("file", 5, dir_fd=fd) == b"12345"
    assert home_reader.read_bounded(path / "file", 5) == b"12345"
    assert home_reader.read_bounded("file", 4, dir_fd=fd) is None


def test_only_regular_files_are_read_and_none_is_waited_for(home: tuple[Path, int]) -> None:
    path, fd = home
    (path / "file").write_bytes(b"x")
    (path / "link").symlink_to("file")
    (path / "directory").mkdir()
    os.mkfifo(path / "fifo")  # a plain open would wait for a writer for ever
    for name in ("link", "directory", "fifo", "missing"):
        assert home_reader.read_bounded(name, 10, dir_fd=fd) is None


def test_a_read_that_fails_is_not_taken_for_absence(home: tuple[Path, int]) -> None:
    with pytest.raises(Unreadable, match="/proc/self/mem can't be read"):
        home_reader.read_bounded("/proc/self/mem", 10)


def test_a_lack_of_descriptors_is_not_taken_for_absence(home: tuple[Path, int]) -> None:
    (home[0] / "there").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        with (
            pytest.raises(Unreadable, match="limits of this process"),
            home_reader.open_directory("there", dir_fd=home[1]),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(taken[0])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"1.0.1", "1.0.1"),
        (b"1.0.1\n", "1.0.1"),
        (b" \t1.0.1 \r\n\n", "1.0.1"),
        (b"", ""),
        (b"1.0\n2.0\n", "1.0\\x0a2.0"),
        (b"1.0\0", "1.0\\x00"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"\xff1.0", "\\xff1.0"),
        ("1.0\u202e".encode(), "1.0\\x202e"),
        (b"x" * 256, "x" * 64),
        (b"x" * 257, ""),
    ],
)
def test_what_version_says(home: tuple[Path, int], content: bytes, text: str) -> None:
    path, fd = home
    (path / ".version").write_bytes(content)
    assert home_reader.read_version_file(fd) == text


def test_no_version_file_is_another_thing_than_one_that_says_nothing(home: tuple[Path, int]) -> None:
    path, fd = home
    assert home_reader.read_version_file(fd) is None
    (path / ".version").mkdir()
    assert home_reader.read_version_file(fd) == ""
    (path / ".version").rmdir()
    (path / ".version").symlink_to("elsewhere")
    assert home_reader.read_version_file(fd) == ""


def test_a_version_file_that_can_not_be_looked_at_is_there(home: tuple[Path, int]) -> None:
    path, _ = home
    file = path / "file"
    file.touch()
    not_a_directory = os.open(file, os.O_RDONLY)
    try:
        assert home_reader.read_version_file(not_a_directory) == ""
        assert not home_reader.has_control(not_a_directory)
    finally:
        os.close(not_a_directory)


@given(content=st.binary(max_size=300))
def test_no_version_file_reaches_a_terminal_raw(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("home")
    (path / ".version").write_bytes(content)
    with home_reader.open_directory(path) as fd:
        assert fd is not None
        text = home_reader.read_version_file(fd)
    assert text is not None
    assert text.isprintable()
    assert len(text) <= 64


def test_a_control_is_a_regular_file(home: tuple[Path, int]) -> None:
    path, fd = home
    assert not home_reader.has_control(fd)
    (path / "control").symlink_to("/bin/true")
    assert not home_reader.has_control(fd)
    (path / "control").unlink()
    (path / "control").write_text("#!/bin/sh\n")
    assert home_reader.has_control(fd)  # whether it can run is found out by running it


@pytest.mark.parametrize(
    ("links", "is_one"),
    [
        ({"control": "bin/ctl"}, True),
        ({"control": "./bin/../bin/ctl"}, True),
        ({"control": "current/ctl", "current": "bin"}, True),
        ({"control": "a", "a": "b", "b": "bin/ctl"}, True),
        ({"control": "bin"}, False),
        ({"control": "nothing"}, False),
        ({"control": "control"}, False),
        ({"control": "../outside"}, False),
        ({"control": "up/outside", "up": ".."}, False),
        ({"control": "/bin/sh"}, False),
    ],
)
def test_a_control_may_be_a_link_to_a_file_below(home: tuple[Path, int], links: dict[str, str], is_one: bool) -> None:
    path, fd = home
    (path.parent / "outside").write_text("#!/bin/sh\n")
    (path / "bin").mkdir()
    (path / "bin" / "ctl").write_text("#!/bin/sh\n")
    for name, target in links.items():
        (path / name).symlink_to(target)
    assert home_reader.has_control(fd) is is_one


@pytest.mark.parametrize(
    ("content", "origin", "digests"),
    [
        (
            {"origin": "unpacked", "digests": [MD5, SHA256], "at": "2026-11-24T02:00:00Z"},
            Origin.UNPACKED,
            {MD5, SHA256},
        ),
        ({"origin": "unpacked", "digests": []}, Origin.UNPACKED, set()),
        ({"origin": "adopted", "digests": []}, Origin.ADOPTED, set()),
    ],
)
def test_a_marker_says_where_a_tree_is_from(
    home: tuple[Path, int], content: object, origin: Origin, digests: set[str]
) -> None:
    path, fd = home
    mark(path, content)
    assert home_reader.read_marker(fd) == home_reader.Marker(origin=origin, digests=frozenset(digests))


@pytest.mark.parametrize(("said", "signed_by"), [("RWkey", "RWkey"), (None, None), (1, None), (["RWkey"], None)])
def test_a_marker_says_who_signed(home: tuple[Path, int], said: object, signed_by: str | None) -> None:
    path, fd = home
    mark(path, {"origin": "unpacked", "digests": [MD5], "signed_by": said})
    assert home_reader.read_marker(fd) == home_reader.Marker(
        origin=Origin.UNPACKED, digests=frozenset({MD5}), signed_by=signed_by
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,  # as a power cut leaves it
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b"[]",
        b"null",
        b"{}",
        {"origin": "unpacked"},
        {"digests": []},
        {"origin": "foreign", "digests": []},
        {"origin": "made up", "digests": []},
        {"origin": ["unpacked"], "digests": []},
        {"origin": "unpacked", "digests": MD5},
        {"origin": "unpacked", "digests": 7},
        {"origin": "unpacked", "digests": [7]},
        {"origin": "unpacked", "digests": [MD5, "md5:x"]},
        {"origin": "unpacked", "digests": [MD5.upper()]},
        {"origin": "unpacked", "digests": [f"{MD5}\n"]},
        b'{"origin": "unpacked", "digests": []' + b" " * 70_000 + b"}",
    ],
    ids=lambda content: repr(content)[:40],
)
def test_a_damaged_marker_counts_as_none(home: tuple[Path, int], content: object) -> None:
    path, fd = home
    mark(path, content)
    assert home_reader.read_marker(fd) == home_reader.Marker()


def test_a_tree_without_a_marker_is_not_ours(home: tuple[Path, int]) -> None:
    path, fd = home
    assert home_reader.read_marker(fd) == home_reader.Marker()
    (path / "real").write_text(json.dumps({"origin": "unpacked", "digests": []}))
    (path / MARKER).symlink_to("real")
    assert home_reader.read_marker(fd) == home_reader.Marker()


def test_a_configs_digest(home: tuple[Path, int]) -> None:
    path, fd = home
    (path / "cfg.json").write_bytes(b"{}")
    (path / "huge").write_bytes(b"x" * (home_reader.CONFIG_LIMIT + 1))
    (path / "largest").write_bytes(b"x" * home_reader.CONFIG_LIMIT)
    (path / "link").symlink_to("cfg.json")
    os.mkfifo(path / "fifo")
    assert home_reader.file_digest(fd, "cfg.json") == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    assert (
        home_reader.file_digest(fd, "largest")
        == f"sha256:{hashlib.sha256(b'x' * home_reader.CONFIG_LIMIT).hexdigest()}"
    )
    assert home_reader.file_digest(fd, "missing") is None
    for name in ("huge", "link", "fifo", "x" * 300):
        assert home_reader.file_digest(fd, name) == "unreadable:"


def test_a_tree_as_a_whole(home: tuple[Path, int]) -> None:
    path, fd = home
    tree = path / ".next-1.0"
    tree.mkdir()
    assert home_reader.read_tree(fd, ".next-1.0", "1.0", None) is None
    (tree / "control").touch()
    assert home_reader.read_tree(fd, ".next-1.0", "1.0", "cfg.json") == Tree(version="1.0", origin=Origin.FOREIGN)
    (tree / "cfg.json").write_bytes(b"{}")
    mark(tree, {"origin": "unpacked", "digests": [MD5]})
    config = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    expected = Tree(version="1.0", origin=Origin.UNPACKED, digests=frozenset({MD5}), config=config)
    assert home_reader.read_tree(fd, ".next-1.0", "1.0", "cfg.json") == expected
    assert home_reader.read_tree(fd, "2.0", "2.0", None) is None
    (path / "2.0").symlink_to(".next-1.0")
    assert home_reader.read_tree(fd, "2.0", "2.0", None) is None


def test_a_file_that_a_person_named_is_read_through_links_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    assert home_reader.read_regular(tmp_path / "link") == b"text"
    assert home_reader.read_regular(tmp_path / "link", 2) == b"te"
    os.mkfifo(tmp_path / "fifo")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        home_reader.read_regular(tmp_path / "none")
    for name in (".", "fifo"):
        with pytest.raises(OSError, match="it is not a regular file"):
            home_reader.read_regular(tmp_path / name)
    assert os.listdir("/proc/self/fd") == before


def test_a_link_on_the_way_to_a_config_is_no_folder(home: tuple[Path, int]) -> None:
    path, fd = home
    (path / "conf").mkdir()
    (path / "conf" / "a.json").write_text("{}")
    (path / "link").symlink_to("conf")
    for name, found in (("conf/a.json", True), ("link/a.json", False), ("none/a/b.json", False), ("a.json", True)):
        with home_reader.open_folder_of(fd, name) as (folder, leaf):
            assert (folder is not None, leaf) == (found, name.rpartition("/")[2])
