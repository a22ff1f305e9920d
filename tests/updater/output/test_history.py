"""How history and the evidence of failures read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconcile.storage.codec import HistoryEntry
from updater.output import history
from updater.output.text import Palette, to_text

PLAIN, COLOURED = Palette(False), Palette(True)


def entry_of(**changes: Any) -> HistoryEntry:
    fields: dict[str, Any] = {
        "name": "a",
        "first_at": 0.0,
        "at": 60.0,
        "count": 1,
        "reason": "VersionDiffers",
        "message": "1 -> 2",
        "actions": (),
    }
    return HistoryEntry(**{**fields, **changes})


def action(**changes: Any) -> dict[str, Any]:
    fields = {"type": "start", "version": "2", "result": "done", "attempts": 1, "seconds": 0.52}
    return {**fields, "reason": "", "error": "", "evidence": "", **changes}


FAILED = action(result="failed", reason="StartFailed", error="it ends at once", evidence="exited 0\nstatus: stoped")


def text(*events: HistoryEntry, paint: Palette = PLAIN, **more: Any) -> list[str]:
    return to_text(history.history_rows(events, **more), paint).splitlines()


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are of the host's own zone."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_no_event_of_the_kind_that_was_asked_for_is_not_no_event() -> None:
    assert text() == ["nothing was done yet"]
    assert text(narrowed=True) == ["nothing of that kind was done yet"]


def test_history_is_one_event_a_paragraph_with_the_time_of_each_action() -> None:
    lines = text(
        entry_of(actions=(action(at=60.5), {**FAILED, "at": 3725.0}, action(result="skipped"))),
        entry_of(reason="News", message="2 is good"),
    )
    assert lines == [
        "1970-01-01 01:01:00+01:00  a  VersionDiffers by server: 1 -> 2",
        "  01:01:00  start       done        0.5 s  2",
        "  02:02:05  start       failed      0.5 s  2",
        "    StartFailed: it ends at once",
        "1970-01-01 01:01:00+01:00  a  2 is good",
    ]


@pytest.mark.parametrize(
    ("by", "reason", "line"),
    [
        ("server", "VersionDiffers", "VersionDiffers by server: 1 -> 2"),
        ("heal", "NotRunning", "NotRunning by heal: 1 -> 2"),
        ("operator:ann", "RolledBack", "RolledBack by operator:ann: 1 -> 2"),
        ("rollback", "RolledBack", "RolledBack: 1 -> 2"),
        ("operator:ann", "News", "1 -> 2"),
    ],
)
def test_on_whose_word_it_was_done(by: str, reason: str, line: str) -> None:
    assert text(entry_of(by=by, reason=reason))[0].endswith(f"  a  {line}")


@pytest.mark.parametrize(
    ("event", "colour"),
    [
        (entry_of(actions=(action(),)), "32"),
        (entry_of(actions=(action(), FAILED)), "31"),
        (entry_of(by="rollback", reason="RolledBack", actions=(action(),)), "33"),
        (entry_of(by="operator:ann", reason="RolledBack", actions=(action(),)), "33"),
    ],
)
def test_a_way_back_is_never_green(event: HistoryEntry, colour: str) -> None:
    assert f"\x1b[{colour}m{event.reason}" in text(event, paint=COLOURED)[0]


def test_the_news_of_a_failure_does_not_repeat_its_error() -> None:
    news = entry_of(reason="News", by="rollback", message="it ends at once; back to 1")
    lines = text(entry_of(actions=(FAILED,)), entry_of(by="rollback", reason="RolledBack", actions=(action(),)), news)
    assert sum("it ends at once" in line for line in lines) == 1
    assert not any("back to 1" in line for line in lines), "the way back itself stands there"
    lines = text(entry_of(actions=(FAILED,)), news)
    assert lines[-1].endswith("  a  back to 1"), "where it does not, as with --failed, it is said"


def test_an_event_that_happened_often_is_printed_once_with_its_beginning() -> None:
    assert "  3 times since 1970-01-01 01:00:00+01:00" in text(entry_of(count=3))[0]
    assert "  2 times since" in text(entry_of(count=2, reason="News", message="m"))[0]


def test_a_clock_that_was_set_back_is_said_where_it_was() -> None:
    lines = text(entry_of(at=7200.0), entry_of(at=60.0, actions=(action(),)), entry_of(at=59.5))
    assert lines[1] == "(the clock was set back by 1h58m or more)"
    assert sum("set back" in line for line in lines) == 1, "half a second is none, nor is a long change's begin"


def test_an_action_about_no_version_names_none() -> None:
    assert text(entry_of(actions=(action(type="fetch", version=None),)))[1] == "  fetch       done        0.5 s"


def test_no_history_is_said_and_how_much_is_left_out() -> None:
    assert text() == ["nothing was done yet"]
    assert text(entry_of(), left_out=3)[0] == "3 older events: `updater history -n 4` has all"
    assert text(entry_of(), left_out=1)[0].startswith("1 older event: ")


def test_colours_are_for_those_who_asked() -> None:
    assert "\x1b[31mfailed" in "".join(text(entry_of(actions=(FAILED,)), paint=COLOURED))
    assert "\x1b" not in "".join(text(entry_of(actions=(FAILED,))))


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (entry_of(actions=(action(), FAILED)), True),
        (entry_of(reason="News", by="rollback", message="2 did not stay up; back to 1"), True),
        (entry_of(by="rollback", reason="RolledBack", actions=(action(),)), False),
        (entry_of(actions=(action(),)), False),
        (entry_of(reason="News", message="2 is good"), False),
    ],
)
def test_which_events_are_failures(event: HistoryEntry, failed: bool) -> None:
    assert history.has_failed(event) is failed


def test_history_as_json_keeps_all_of_it() -> None:
    [event] = history.history_json([entry_of(count=2, actions=({**FAILED, "at": 59.5},))])
    assert event == {
        "name": "a",
        "first_at": "1970-01-01T00:00:00Z",
        "at": "1970-01-01T00:01:00Z",
        "count": 2,
        "by": "server",
        "reason": "VersionDiffers",
        "message": "1 -> 2",
        "actions": [{**FAILED, "at": "1970-01-01T00:00:59Z"}],
    }


def test_evidence_is_the_scripts_own_words_and_can_not_drive_a_terminal() -> None:
    said = "\n".join([f"line {number}" for number in range(100)] + ["\x1b[2Jgone \u202e"])
    [(at, failed, lines)] = history.failures([entry_of(actions=(action(), {**FAILED, "evidence": said, "at": 61.0}))])
    assert (at, failed["reason"], len(lines)) == (61.0, "StartFailed", 40)
    assert lines[-1] == "\\x1b[2Jgone \\u202e"
    assert "line 10" not in lines
