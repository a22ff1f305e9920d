"""What stands on a terminal where foreign words hold what rich takes for markup. The layout is tests/e2e's business."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from attrs import evolve

from reconcile.decide.conditions import FALSE, Condition
from reconcile.storage.codec import HistoryEntry as Event
from reconcile.storage.store import read_history
from tests.updater.conftest import Folder
from tests.updater.output.test_report import looked
from updater.check import output
from updater.check.subject import CheckFinding, CheckState
from updater.output.agent_logs import quoted
from updater.output.explanation import why_rows
from updater.output.history import history_rows
from updater.output.rich_view import Screen, console
from updater.output.rows import Block, block, line, row
from updater.output.tables import conditions_block, plan_rows, status_rows
from updater.output.text import Palette, to_text

WORDS = "[/x] [bold]loud[/bold] [link=http://h]here[/link]"


def shown(blocks: Iterable[Block], *, columns: int = 80) -> list[str]:
    """What stands on a terminal of so many columns, without colours."""
    written = io.StringIO()
    out = console(written, colour=False)
    out.width = columns
    Screen(out).show(blocks)
    return written.getvalue().splitlines()


def test_brackets_in_foreign_words_are_brackets(folder: Folder) -> None:
    folder.want()
    document = looked(folder)
    [reported] = document.agents
    conditions = (Condition(type="Running", status=FALSE, reason="StatusUnknown", message=WORDS),)
    document = evolve(document, host=WORDS, agents=(evolve(reported, conditions=conditions),))
    assert "\n".join(shown(status_rows(document, wide=True), columns=200)).count(WORDS) == 2


@pytest.mark.parametrize("columns", [50, 60, 80, 120, 200])
def test_a_terminal_gets_the_words_of_a_pipe_and_no_line_is_too_wide(folder: Folder, columns: int) -> None:
    """But for the signs, and what a line that is cut leaves out."""
    folder.want("1.0.0")
    folder.run("apply", "--once")
    folder.want("2.0.0", broken_start=True)
    folder.configure(control_timeout={"start": 3})
    folder.run("apply", "--once")
    document, events = looked(folder), read_history(folder.var / "state.db", [])
    for rows in (
        tuple(plan_rows(document)),
        tuple(status_rows(document, wide=True)),
        tuple(history_rows(events)),
        tuple(why_rows(document, events, (), "no rights")),
    ):
        lines = shown(rows, columns=columns)
        assert max(map(len, lines)) <= columns
        signs = str.maketrans({"→": "->", "✗": "", "✓": "", "●": "", "‖": "", "|": ""})
        plain = to_text(rows, Palette(False))
        assert "".join("".join(lines).translate(signs).split()) == "".join(plain.translate(signs).split())
    lines = shown(status_rows(document), columns=columns)
    assert lines[0].startswith("✗ falcon-agent  ")
    assert "Quarantined" in "".join(lines[:2])
    assert columns < 80 or len(lines[0]) <= columns


def test_rows_stand_in_columns_while_they_have_room() -> None:
    rows = [row("a", "1.0.0 started", "AsDesired"), row("a-longer-name", "2.0.0 stopped", "NotRunning")]
    assert shown([block(rows)], columns=50) == [
        "a              1.0.0 started  AsDesired",
        "a-longer-name  2.0.0 stopped  NotRunning",
    ]
    assert shown([block(rows)], columns=20) == [
        "a  1.0.0 started",
        "   AsDesired",
        "a-longer-name",
        "   2.0.0 stopped",
        "   NotRunning",
    ]


def test_what_is_to_be_one_line_is_cut_and_says_so() -> None:
    one = Block(rows=(row("a", "b", "words that are too many for it"),), cut=True)
    assert shown([one], columns=32) == ["a  b  words that are too many f…"]
    assert shown([one], columns=16) == ["a  b"], "ten columns hold too little"


def test_what_others_wrote_keeps_its_arrows() -> None:
    assert shown([line("1 -> 2"), quoted("a -> b")]) == ["1 → 2", "      | a -> b"]


def test_what_is_redrawn_fits_the_terminal_and_ends_with_its_last_line() -> None:
    written = io.StringIO()
    out = console(written, colour=False)
    out.width, out.height = 40, 6
    Screen(out).redraw([line(f"line {number}") for number in range(9)])
    assert written.getvalue().splitlines() == ["line 0", "line 1", "line 2", "... 5 more lines", "line 8"]
    written.truncate(written.seek(0))
    Screen(out).redraw([line(f"line {number}") for number in range(5)])
    assert written.getvalue().splitlines() == [f"line {number}" for number in range(5)], "there is just room"


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (11, ["✓ a", "✓ b", "✗ c", "  its reason", "✓ d", "● e", "a count that has no room", "in one line"]),
        (8, ["✓ a", "✗ c", "  its reason", "● e", "... 2 more lines", "a count that has no room", "in one line"]),
        (7, ["✗ c", "  its reason", "● e", "... 3 more lines", "a count that has no room", "in one line"]),
        (5, ["✗ c", "... 5 more lines", "a count that has no room", "in one line"]),
        (3, ["a count that has no room", "in one line"]),
    ],
)
def test_what_is_well_gives_way_first_where_a_screen_is_too_small_and_the_count_never(
    height: int, expected: list[str]
) -> None:
    written = io.StringIO()
    out = console(written, colour=False)
    out.width, out.height = 25, height
    marks = {"a": "good", "b": "good", "c": "bad", "its reason": "", "d": "good", "e": "pending"}
    body = Block(rows=tuple(row(words, mark=mark) for words, mark in marks.items()))
    Screen(out).redraw([body, line("a count that has no room in one line")])
    assert written.getvalue().splitlines() == expected


def test_nothing_to_redraw_leaves_an_empty_screen() -> None:
    written = io.StringIO()
    Screen(console(written, colour=False)).redraw([])
    assert written.getvalue() == ""


def test_history_names_what_was_removed(folder: Folder) -> None:
    folder.configure(watch=0, keep=1)
    for version in ("1.0.0", "2.0.0"):
        folder.want(version)
        assert folder.run("apply").code == 0
    assert folder.run("apply").code == 0
    [text] = [one for one in folder.run("history").out.splitlines() if "  prune " in one]
    assert text.split()[-1] == "1.0.0"


def test_what_has_no_room_beside_its_head_stands_beneath_it_whole(folder: Folder) -> None:
    """On a terminal of 52 columns, a path of 60: no letter is lost, and none stands alone in a column."""
    path = "/srv/" + "x" * 55
    conditions = (Condition(type="Installed", status=FALSE, reason="VersionDiffers", message=f"wanted: {path}"),)
    lines = shown([conditions_block(conditions, 0.0, said=set())], columns=52)
    assert "".join(lines).replace(" ", "").count(path) == 1
    assert lines[1].startswith("      wanted:")
    lines = shown(
        history_rows([Event(name="a", first_at=0, at=0, count=1, reason="News", message=path, actions=())]), columns=52
    )
    assert lines[1].startswith("   /srv/xxx")


def test_what_several_findings_need_is_said_once_and_no_finding_is_lost() -> None:
    notes = [
        CheckFinding(about="policy", state=CheckState.NOTE, message=f"{rule} is not set", remedy="set it")
        for rule in "ab"
    ]
    full = CheckFinding(about="disk", state=CheckState.BAD, message="full", remedy="set it")
    assert [line.split() for line in shown(output.rows((*notes, full))) if line] == [
        "● policy a is not set".split(),
        "● b is not set".split(),
        "→ set it".split(),
        "✗ disk full".split(),
        "→ set it".split(),
        "2 notes, 1 bad".split(),
    ]
