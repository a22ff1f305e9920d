"""What stands on a terminal where foreign words hold what rich takes for markup. The layout is tests/e2e's business."""

from __future__ import annotations

import io

from attrs import evolve

from reconcile.decide.conditions import FALSE, Condition
from reconcile.storage.codec import HistoryEntry as Event
from reconcile.storage.store import read_history
from tests.updater.conftest import Folder
from tests.updater.output.test_report import looked
from updater.check import output
from updater.check.subject import CheckFinding, CheckState
from updater.output.rich_view import Screen, console

WORDS = "[/x] [bold]loud[/bold] [link=http://h]here[/link]"


def test_brackets_in_foreign_words_are_brackets(folder: Folder) -> None:
    folder.want()
    document = looked(folder)
    [told] = document.agents
    conditions = (Condition(type="Running", status=FALSE, reason="StatusUnknown", message=WORDS),)
    document = evolve(document, host=WORDS, agents=(evolve(told, conditions=conditions),))
    shown = io.StringIO()
    out = console(shown, colour=False)
    out.width = 200
    Screen(out).status(document)
    assert shown.getvalue().count(WORDS) == 2


def test_history_tells_how_long_each_step_took_and_which_failed_without_colours() -> None:
    actions = (("fetch", "done", 1.25), ("verify", "failed", 0.002), ("unpack", "skipped", 0.0))
    event = Event(
        name="falcon-agent",
        first_at=0.0,
        at=60.0,
        count=1,
        reason="VersionDiffers",
        message="1.0 -> 2.0",
        actions=tuple(
            {"type": type, "version": None, "result": result, "seconds": seconds, "reason": "", "error": ""}
            for type, result, seconds in actions
        ),
    )
    shown = io.StringIO()
    Screen(console(shown, colour=False)).history([event])
    assert [line.split() for line in shown.getvalue().splitlines()] == [
        "1970-01-01 00:01:00Z falcon-agent VersionDiffers by server: 1.0 → 2.0".split(),
        "fetch 1.2 s verify failed 2 ms".split(),
    ]


def test_history_names_what_was_removed(folder: Folder) -> None:
    folder.configure(watch=0, keep=1)
    for version in ("1.0.0", "2.0.0"):
        folder.want(version)
        assert folder.run("apply").code == 0
    assert folder.run("apply").code == 0
    [text] = [line for line in folder.run("history").out.splitlines() if line.startswith("    prune")]
    assert text.split()[-1] == "1.0.0"
    events = read_history(folder.var / "state.db", [])
    [event] = [event for event in events if any(action["type"] == "prune" for action in event.actions)]
    shown = io.StringIO()
    Screen(console(shown, colour=False)).history([event])
    assert "prune 1.0.0 " in shown.getvalue()


def test_what_has_no_room_beside_its_head_stands_beneath_it_whole(folder: Folder) -> None:
    """On a terminal of 52 columns, a path of 60: no letter is lost, and none stands alone in a column."""
    folder.want()
    document = looked(folder)
    [told] = document.agents
    path = "/srv/" + "x" * 55
    conditions = (Condition(type="Installed", status=FALSE, reason="VersionDiffers", message=f"wanted: {path}"),)
    shown = io.StringIO()
    out = console(shown, colour=False)
    out.width = 52
    Screen(out).status(evolve(document, agents=(evolve(told, conditions=conditions),)))
    Screen(out).history([Event(name="a", first_at=0, at=0, count=1, reason="News", message=path, actions=())])
    assert shown.getvalue().replace("\n", "").replace(" ", "").count(path) == 2
    assert "      wanted:" in shown.getvalue()
    assert "\n   /srv/xxx" in shown.getvalue()


def test_what_several_findings_need_is_said_once_and_no_finding_is_lost() -> None:
    notes = [
        CheckFinding(about="policy", state=CheckState.NOTE, message=f"{rule} is not set", remedy="set it")
        for rule in "ab"
    ]
    full = CheckFinding(about="disk", state=CheckState.BAD, message="full", remedy="set it")
    shown = io.StringIO()
    output.to_terminal((*notes, full), console(shown, colour=False))
    assert [line.split() for line in shown.getvalue().splitlines() if line.strip()] == [
        "● policy a is not set".split(),
        "● b is not set".split(),
        "→ set it".split(),
        "✗ disk full".split(),
        "→ set it".split(),
        "2 notes · 1 bad".split(),
    ]
