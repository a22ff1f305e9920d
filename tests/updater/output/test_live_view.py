"""The display of what goes on, drawn by rich on a real terminal of this process; with whole runs it is in tests/e2e."""

from __future__ import annotations

import os
import pty
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TextIO

import pytest

from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Fetch, Outcome, Result, Start, Stop
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.storage.store import StoredState
from tests.terminal import screens
from tests.updater.conftest import Folder
from updater.output.live_view import Display

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
FETCH = Fetch(url="http://meta/x-1.0.0.tar.gz", version="1.0.0", digests=frozenset())
STOP, START = Stop(version="1.0.0"), Start(version="1.0.0")
NAMES = tuple(f"agent-{number}" for number in range(6))


@pytest.fixture
def views(folder: Folder) -> list[AgentEvaluation]:
    """Agents of a real assessment."""
    folder.meta.desire(*(folder.meta.agent(name, "1.0.0") for name in NAMES))
    return list(assess(folder.around(), StoredState(), DesiredFrom.EXCHANGE).agents)


class Screen:
    """A display, and what stands on its terminal."""

    def __init__(self, ours: int, its: TextIO, *, colour: bool) -> None:
        self._ours = ours
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.display = Display(its, colour=colour)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:
                return
            self._written += piece

    @property
    def text(self) -> str:
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    def rows(self) -> list[str]:
        """What stood there when it was last drawn whole."""
        drawn = [rows for rows in screens(self.text) if any(rows)]
        return [row.rstrip() for row in drawn[-1] if row.strip()] if drawn else []

    def until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Wait until what stands there is so."""
        deadline = time.monotonic() + 60
        while not condition(self.rows()):
            assert time.monotonic() < deadline, self.rows()
            time.sleep(0.02)
        return self.rows()

    def until_shows(self, *words: str) -> list[str]:
        return self.until(lambda rows: all(any(word in row for row in rows) for word in words))

    def until_the_cursor_is_there(self) -> None:
        deadline = time.monotonic() + 60
        while self.text.rfind("\x1b[?25h") <= self.text.rfind("\x1b[?25l"):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)


@contextmanager
def screen(
    monkeypatch: pytest.MonkeyPatch, columns: int = 100, lines: int = 30, encoding: str = "utf-8", colour: bool = False
) -> Iterator[Screen]:
    for name, value in (("COLUMNS", columns), ("LINES", lines), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, str(value))
    ours, its = pty.openpty()
    try:
        with open(its, "w", encoding=encoding, errors="replace") as terminal:
            one = Screen(ours, terminal, colour=colour)
            assert one.display.width == columns
            with one.display:
                yield one
            one.until_the_cursor_is_there()
    finally:
        os.close(ours)


def test_a_row_for_each_step_that_is_under_way(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = views[:2]
    with screen(monkeypatch) as shown:
        shown.display.pass_begins()
        shown.display.begins(first, FETCH)
        shown.display.begins(second, STOP)
        shown.display.arrived(first, 10 * MIB, 40 * MIB)
        rows = shown.until_shows("agent-0  fetch", "10.0 MiB of 40.0 MiB", "agent-1  stop 1.0.0", "1s")
        assert len(rows) == 2
        assert [row[1:].startswith(f"  agent-{number}  ") for number, row in enumerate(rows)] == [True, True], rows
        assert "━" in rows[0], "a bar"
        assert "━" not in rows[1]
        shown.display.ended(first, Outcome(action=FETCH, result=Result.DONE))
        rows = shown.until(lambda rows: len(rows) == 1)
        assert "agent-1  stop 1.0.0" in rows[0]
        shown.display.arrived(first, 11 * MIB, 40 * MIB)  # of a step that is over
        shown.display.begins(second, START)
        shown.until_shows("agent-1  start 1.0.0")
        shown.display.pass_begins()
        shown.until_shows("observing the agents, asking the server")


@pytest.mark.parametrize(("columns", "has_bar"), [(84, False), (85, True)])
def test_a_bar_is_drawn_where_there_is_room(
    views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch, columns: int, has_bar: bool
) -> None:
    with screen(monkeypatch, columns=columns) as shown:
        shown.display.begins(views[0], FETCH)
        shown.display.arrived(views[0], MIB, 2 * MIB)
        [row] = shown.until_shows("1.0 MiB of 2.0 MiB")
        assert ("━" in row) is has_bar
        shown.display.arrived(views[0], MIB, None)
        [row] = shown.until(lambda rows: len(rows) == 1 and " of " not in rows[0])
        assert "1.0 MiB" in row
        assert "━" not in row


def test_more_agents_than_there_is_room_for_are_counted(
    views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    with screen(monkeypatch, lines=6) as shown:
        for view in views[:4]:
            shown.display.begins(view, STOP)
        assert len(shown.until_shows("agent-3")) == 4
        for view in views[4:]:
            shown.display.begins(view, STOP)
        rows = shown.until_shows("and 2 more agents")
        assert [row.split()[1] for row in rows[:-1]] == ["agent-0", "agent-1", "agent-2", "agent-3"]


def test_a_long_name_leaves_room_for_the_step(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.meta.desire(folder.meta.agent("a" * 60, "1.0.0"))
    [view] = assess(folder.around(), StoredState(), DesiredFrom.EXCHANGE).agents
    for columns, room in ((90, 30), (60, 20)):
        with screen(monkeypatch, columns=columns) as shown:
            shown.display.begins(view, STOP)
            [row] = shown.until(lambda rows: len(rows) == 1 and "stop" in rows[0])
            assert row.split()[1] == "a" * (room - 1) + "…"


def test_between_steps_it_says_what_it_waits_for(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    with screen(monkeypatch) as shown:
        shown.display.pass_begins()
        shown.until_shows("observing the agents, asking the server  1s")
        shown.display.waits()
        shown.until_shows("waiting for the pass of another updater  ")
        shown.until_shows("observing the agents, asking the server  ")
        shown.display.decided()
        shown.until_shows("observing again, reporting  ")
        shown.display.rests(("agent-0", "agent-1"), ("agent-2",), 9.0)
        shown.until_shows("agent-0, agent-1 started: good after a watch  in 8s")
        shown.display.rests((), ("agent-2 (refused: X)", "agent-3"), 100.0)
        shown.until_shows("not as desired yet: agent-2 (refused: X), agent-3; the next pass  in 1m39s")
        shown.display.rests((), ("agent-2",), 0.0)
        shown.until_shows("agent-2; the next pass  in 0s")
        shown.display.pass_begins()
        shown.until_shows("observing the agents")


def test_what_takes_no_time_needs_no_words(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    with screen(monkeypatch) as shown:
        for _ in range(4):  # each is too short to be named, and together they take longer than one that is
            shown.display.pass_begins()
            time.sleep(0.3)
        assert "observing" not in shown.text


def test_an_interruption_is_said_above_what_is_finished(
    views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    with screen(monkeypatch) as shown:
        shown.display.interrupted((), 30.0)
        [row] = shown.until_shows("interrupted: ")
        assert row == "interrupted: no agent is between stop and start; it ends now"
        shown.display.begins(views[0], START)
        shown.display.interrupted(("agent-0 (start 1.0.0)",), 65.0)
        rows = shown.until_shows("agent-0  start")
        assert rows[0] == "interrupted: finishes agent-0 (start 1.0.0), within 1m05s at most"


def test_nothing_stays_on_the_terminal(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    with screen(monkeypatch) as shown:
        shown.display.begins(views[0], STOP)
        shown.until_shows("agent-0  stop")
    assert not any(screens(shown.text)[-1])


def test_an_interruption_stays_on_the_terminal(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    with screen(monkeypatch) as shown:
        shown.display.begins(views[0], FETCH)
        shown.until_shows("agent-0  fetch")
        shown.display.interrupted((), 30.0)
    shown.until(lambda rows: rows == ["interrupted: no agent is between stop and start; it ends now"])


@pytest.mark.parametrize("columns", [50, 60, 80, 100, 132])
@pytest.mark.parametrize("name", ["falcon-agent", "b" * 60])
def test_a_download_has_one_row_whose_words_are_whole(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, columns: int, name: str
) -> None:
    folder.meta.desire(folder.meta.agent(name, "1.0.0"))
    [view] = assess(folder.around(), StoredState(), DesiredFrom.EXCHANGE).agents
    room, sizes = max(12, columns // 3), count(100 * MIB, MIB // 8)
    last = " left" if columns >= 80 and len(name) <= room else "/s" if columns >= 80 else " of 900 MiB"
    with screen(monkeypatch, columns=columns) as shown:
        shown.display.begins(view, FETCH)

        def is_whole(rows: list[str]) -> bool:
            shown.display.arrived(view, next(sizes), 900 * MIB)
            return bool(rows) and last in rows[0]

        [row] = shown.until(is_whole)
    assert row.split()[1] == (name if len(name) <= room else "b" * (room - 1) + "…")
    assert re.search(r"fetch  .*\b\d+ MiB of 900 MiB(  [\d.]+ .?i?B/s(  \w+ left)?)?$", row), row


@pytest.mark.parametrize(("encoding", "frames"), [("utf-8", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"), ("ascii", "|/-\\")])
def test_it_moves_by_signs_that_the_terminal_has(
    views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch, encoding: str, frames: str
) -> None:
    with screen(monkeypatch, encoding=encoding) as shown:
        shown.display.begins(views[0], STOP)
        seen: set[str] = set()

        def moved(rows: list[str]) -> bool:
            seen.update(row.split()[0] for row in rows)
            return len(seen) > 2

        shown.until(moved)
        assert seen <= set(frames)


@pytest.mark.parametrize("colour", [True, False])
def test_colours_are_those_that_were_asked_for(
    views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    with screen(monkeypatch, colour=colour) as shown:
        shown.display.begins(views[0], STOP)
        shown.until_shows("stop")
        shown.display.interrupted((), 1.0)
        shown.until_shows("interrupted")
        assert ("\x1b[1m" in shown.text or "\x1b[31m" in shown.text) is colour


def test_a_terminal_that_goes_away_is_no_error(views: list[AgentEvaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, its = pty.openpty()
    with open(its, "w", encoding="utf-8") as terminal, Display(terminal, colour=True) as display:
        display.begins(views[0], STOP)
        os.read(ours, 4096)
        os.close(ours)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(its, b"it has gone")
        display.begins(views[1], STOP)
        display.ended(views[0], Outcome(action=STOP, result=Result.DONE))
