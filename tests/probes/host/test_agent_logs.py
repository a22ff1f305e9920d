"""What agents wrote themselves, on a real disk: whatever lies there, reading ends and leaves a version's tree never."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from probes import codec
from probes.host.agent_logs import LogEnd, Position, read_log_ends


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "1.0.0"
    path.mkdir(parents=True)
    return path


def ends(tree: Path, *, limit: int = 4096, most: int = 3, since: tuple[Position, ...] = ()) -> dict[str, list[str]]:
    found = read_log_ends(tree.parent, (tree.name,), limit=limit, most=most, since=since)
    return {os.path.relpath(end.path, tree.parent): list(end.lines) for end in found}


def test_the_last_lines_of_logs_wherever_an_agent_puts_them(tree: Path) -> None:
    (tree.parent / ".start.log").write_text("starting\n")
    for number, name in enumerate(("app.log", "var/app.log", "log/a/b/deep.log", "nohup.out", "logs/e.err")):
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"cannot open config: {name}\n")
        os.utime(file, (number, number))
    (tree / "empty.log").touch()
    (tree / "data.db").write_text("no log\n")
    reported = ends(tree, most=9)
    assert list(reported) == [
        ".start.log",
        *(f"1.0.0/{name}" for name in ("app.log", "var/app.log", "log/a/b/deep.log", "nohup.out", "logs/e.err")),
    ], "the newest last"
    assert reported["1.0.0/var/app.log"] == ["cannot open config: var/app.log"]
    assert list(ends(tree, most=2)) == [".start.log", "1.0.0/nohup.out", "1.0.0/logs/e.err"]


def test_each_file_gives_whole_last_lines_within_the_limit(tree: Path) -> None:
    (tree / "app.log").write_text("".join(f"line {number:04}\n" for number in range(100_000)))
    reported = ends(tree, limit=35)["1.0.0/app.log"]
    assert reported == ["line 99997", "line 99998", "line 99999"][-len(reported) :]
    assert 2 <= len(reported) <= 3
    (tree / "app.log").write_text("x" * 10_000_000)  # one line
    assert ends(tree, limit=35)["1.0.0/app.log"] == ["x" * 35]


def test_nothing_but_regular_files_below_the_tree_is_read_and_none_is_waited_for(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("SECRET\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "s.log").write_text("SECRET\n")
    (tree / "link.log").symlink_to(tmp_path / "secret.log")
    (tree / "logs").symlink_to(tmp_path / "elsewhere")
    (tree / "folder.log").mkdir()
    os.mkfifo(tree / "pipe.log")
    os.mkfifo(tree.parent / ".start.log")
    (tree / "app.log").write_text("mine\n")
    assert ends(tree) == {"1.0.0/app.log": ["mine"]}
    (tree.parent / "2.0.0").symlink_to(tmp_path / "elsewhere")
    assert read_log_ends(tree.parent, ("2.0.0", "missing"), limit=99, most=9) == ()
    assert read_log_ends(tree.parent / "missing", ("1.0.0",), limit=99, most=9) == ()


def test_the_version_in_use_comes_first_whatever_else_is_asked_for(tree: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        (tree.parent / version).mkdir(exist_ok=True)
        (tree.parent / version / "app.log").write_text(f"{version}\n")
    (tree.parent / ".version").write_text("2.0.0")
    assert list(ends(tree)) == ["2.0.0/app.log", "1.0.0/app.log"]
    assert [end.lines for end in read_log_ends(tree.parent, limit=99, most=3)] == [("2.0.0",)]
    for odd in ("..", ".", "../home/1.0.0", "/", ""):
        (tree.parent / ".version").write_text(odd)
        assert list(ends(tree)) == ["1.0.0/app.log"], odd


def test_what_an_agent_wrote_is_escaped(tree: Path) -> None:
    (tree / "app.log").write_bytes(b"\x1b[2Jcleared\xff\ttab\r\n\x00\xe2\x80\xae!\n")
    assert ends(tree)["1.0.0/app.log"] == ["\\x1b[2Jcleared\\xff tab", "\\x00\\u202e!"]


def test_a_tree_without_end_is_not_walked_to_its_end(tree: Path) -> None:
    deep = tree
    for _ in range(6):
        deep = deep / "d"
        deep.mkdir()
    (deep / "too-deep.log").write_text("x\n")
    for number in range(21_000):
        (tree / f"data-{number}").touch()
    (tree / "d" / "app.log").write_text("x\n")
    assert ends(tree) == {}, "20,000 entries were looked at before"


def test_reading_goes_on_where_it_ended(tree: Path) -> None:
    log = tree / "app.log"
    log.write_text("one\n")

    def follow(since: tuple[Position, ...]) -> tuple[LogEnd, ...]:
        return read_log_ends(tree.parent, (tree.name,), limit=4096, most=9, since=since)

    first = follow(())
    assert follow((first[0].seen,))[0].lines == ()
    with log.open("a") as file:
        file.write("two\nthr")
    second = follow((first[0].seen,))
    assert second[0].lines == ("two",), "the rest of a line that is being written comes with its end"
    with log.open("a") as file:
        file.write("ee\n")
    third = follow((second[0].seen,))
    assert third[0].lines == ("three",)
    log.rename(tree / "app.log.1")
    log.write_text("rotated\n")
    assert follow((third[0].seen,))[0].lines == ("rotated",)
    fourth = follow((third[0].seen,))[0]
    log.write_text("a\n")  # shortened in its place
    assert follow((fourth.seen,))[0].lines == ("a",)


def test_reading_goes_on_also_in_a_line_that_is_longer_than_the_limit(tree: Path) -> None:
    (tree / "app.log").write_text("one\n")
    since = read_log_ends(tree.parent, (tree.name,), limit=35, most=1)[0].seen
    with (tree / "app.log").open("a") as file:
        file.write("x" * 100)
    assert ends(tree, limit=35, since=(since,)) == {"1.0.0/app.log": ["x" * 35]}


def test_it_passes_to_and_from_a_child_of_another_user(tree: Path) -> None:
    (tree / "app.log").write_text("one\n")
    found = read_log_ends(tree.parent, (tree.name,), limit=99, most=9)
    assert codec.decode(tuple[LogEnd, ...], codec.parse(json.dumps(codec.encode(found)).encode())) == found
