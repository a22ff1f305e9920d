"""What `hold` and `release` leave on disk, and how history and evidence read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.desired import Refusal
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.records import AgentRecord, Content, Crashes, Failure, FailureKind, Pin
from reconcile.storage.codec import HistoryEntry
from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import StoredState
from updater.output import history
from updater.output.report import Palette

PLAIN, COLOURED = Palette(False), Palette(True)


def told(**changes: Any) -> HistoryEntry:
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


# --- names ---


@pytest.mark.parametrize(
    ("names", "everyone", "are"), [(["a", "b"], False, ("a", "b")), (["a", "a"], False, ("a",)), ([], True, ())]
)
def test_names_or_all(names: list[str], everyone: bool, are: tuple[str, ...]) -> None:
    assert history.checked_names(names, everyone) == are


@pytest.mark.parametrize(
    ("names", "everyone"),
    [([], False), (["a"], True), (["a", "../evil"], False), ([""], False), (["--all"], False), (["a/b"], False)],
)
def test_what_names_no_agent(names: list[str], everyone: bool) -> None:
    with pytest.raises(history.NoSuchName):
        history.checked_names(names, everyone)


# --- hold and release ---


def test_a_hold_tells_owner_reason_and_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    folder = tmp_path / "holds"
    before = time.time()

    said = history.hold(folder, "a", "a leak", 7200)

    assert said == "a held for 2h00m: a leak"
    [(name, hold)] = read_requests(folder).holds
    assert (name, hold.owner, hold.reason, hold.everyone) == ("a", "ann", "a leak", False)
    assert hold.since is not None
    assert hold.until is not None
    assert hold.until - hold.since == 7200
    assert before - 1 <= hold.since <= time.time()  # whole seconds are kept
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(folder) == ["a.json"], "no temporary file stays"


def test_a_hold_without_an_end_lasts_until_it_is_released(tmp_path: Path) -> None:
    assert history.hold(tmp_path, "--all", "freeze", None) == "all agents held until it is released: freeze"
    hold = read_requests(tmp_path).for_all
    assert hold is not None
    assert hold.until is None
    assert json.loads((tmp_path / "--all.json").read_text())["until"] is None


def test_a_second_hold_takes_the_place_of_the_first(tmp_path: Path) -> None:
    history.hold(tmp_path, "a", "one", None)
    history.hold(tmp_path, "a", "two", 60)
    [(_, hold)] = read_requests(tmp_path).holds
    assert hold.reason == "two"


ROLLED_BACK = Failure(
    content=Content(version="2.0"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="died", at=1.0
)
REMEMBERED = StoredState(
    records=(
        AgentRecord(
            name="a",
            work_dir="/srv",
            run_user="u",
            pin=Pin(version="1.0", owner="eve", at=1.0),
            failures=(ROLLED_BACK, evolve(ROLLED_BACK, verdict=FailureKind.NOT_REACHED, reason="FetchFailed")),
            crashes=Crashes(count=2, at=1.0),
        ),
        AgentRecord(name="b", work_dir="/srv", run_user="u", failures=(ROLLED_BACK,)),
    )
)


def test_a_release_says_what_ended_and_what_still_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    for name in ("a", "b", "--all"):
        history.hold(tmp_path, name, f"why {name}", None)

    assert history.release(tmp_path, "a", REMEMBERED) == [
        "a: ended: the hold of ann (why a)",
        "a: ends with the next pass: the pin to 1.0 of eve",
        "a: ends with the next pass: the quarantine of 2.0 (StartFailed)",
        "a: ends with the next pass: the delay of 2.0 (FetchFailed)",
        "a: ends with the next pass: the delay after its crashes",
        "a: still stands: the hold of ann (why --all), of all agents (`updater release --all`)",
    ]

    requests = read_requests(tmp_path)
    assert ([name for name, _ in requests.holds], requests.for_all is None) == (["b"], False)
    assert requests.released("a")
    assert not requests.released("b")


def test_a_release_of_what_nothing_held_says_so(tmp_path: Path) -> None:
    assert history.release(tmp_path, "a", StoredState()) == ["a: nothing held it"]


def test_a_release_of_all_ends_the_hold_of_all_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    for name in ("b", "--all"):
        history.hold(tmp_path, name, f"why {name}", None)

    assert history.release_all(tmp_path, REMEMBERED) == [
        "all agents: ended: the hold of ann (why --all)",
        "a: still stands: the pin to 1.0 of eve (`updater release a`)",
        "a: still stands: the quarantine of 2.0 (StartFailed) (`updater release a`)",
        "a: still stands: the delay of 2.0 (FetchFailed) (`updater release a`)",
        "a: still stands: the delay after its crashes (`updater release a`)",
        "b: still stands: the hold of ann (why b) (`updater release b`)",
        "b: still stands: the quarantine of 2.0 (StartFailed) (`updater release b`)",
    ]

    requests = read_requests(tmp_path)
    assert ([name for name, _ in requests.holds], requests.for_all) == (["b"], None)
    assert not requests.releases
    assert history.release_all(tmp_path, StoredState())[0] == "all agents: there was no hold of all"


def test_what_ends_already_stands_no_more(tmp_path: Path) -> None:
    history.release(tmp_path, "a", REMEMBERED)
    assert not [line for line in history.release_all(tmp_path, REMEMBERED) if line.startswith("a:")]


def test_a_name_that_no_agent_has_is_answered_with_the_nearest() -> None:
    known = Requests(holds=(("held-ahead", Hold(owner="o", reason="r")),))
    state = evolve(REMEMBERED, refused=(Refusal(name="falcon-agent", reason="InvalidSpec", rule="form", message="m"),))
    assert history.unknown_names(["a", "b", "falcon-agent", "held-ahead"], state, known) == ""
    assert history.unknown_names(["a", "falcon-agnet"], state, known) == (
        "no agent is named falcon-agnet (did you mean `falcon-agent`?)"
    )
    assert history.unknown_names(["xyz"], state, known) == (
        "no agent is named xyz; known: a, b, falcon-agent, held-ahead"
    )
    assert history.unknown_names(["xyz"], StoredState(), Requests()) == "no agent is named xyz"
    assert history.unknown_names(["xyz"], StoredState(trouble="can't be read"), Requests()) == "", "in doubt it is held"


def test_who_typed_it_is_the_person_before_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    assert history.whoami() == "ann"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "bob")
    assert history.whoami() == "bob"


# --- history ---


def test_history_is_one_event_a_paragraph(tmp_path: Path) -> None:
    text = history.history_text([told(actions=(action(), FAILED)), told(reason="News", message="2 is good")], PLAIN)
    assert text.splitlines() == [
        "1970-01-01T00:01:00Z  a  VersionDiffers by server: 1 -> 2",
        "    start      done        0.5 s  2",
        "    start      failed      0.5 s  2",
        "      StartFailed: it ends at once",
        "1970-01-01T00:01:00Z  a  2 is good",
    ]


def test_what_happened_often_is_told_once_with_its_beginning() -> None:
    assert "  3 times since 1970-01-01T00:00:00Z" in history.history_text([told(count=3)], PLAIN)
    assert "  2 times since" in history.history_text([told(count=2, reason="News", message="m")], PLAIN)


def test_an_action_about_no_version_names_none() -> None:
    text = history.history_text([told(actions=(action(type="fetch", version=None),))], PLAIN)
    assert text.splitlines()[1] == "    fetch      done        0.5 s"


def test_no_history_is_said() -> None:
    assert history.history_text([], PLAIN) == "nothing was done yet"


def test_colours_are_for_those_who_asked() -> None:
    events = [told(actions=(FAILED,))]
    assert "\x1b[31mfailed" in history.history_text(events, COLOURED)
    assert "\x1b" not in history.history_text(events, PLAIN)


def test_history_as_json_keeps_all_of_it() -> None:
    [event] = history.history_json([told(count=2, actions=({**FAILED, "at": 59.5},))])
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


# --- evidence ---


def test_evidence_is_the_scripts_own_words() -> None:
    assert history.evidence_text([told(actions=(action(), FAILED))], PLAIN).splitlines() == [
        "last failures",
        "  1970-01-01T00:01:00Z  start: StartFailed: it ends at once",
        "    | exited 0",
        "    | status: stoped",
    ]


def test_without_a_failure_there_is_none() -> None:
    assert history.evidence_text([told(actions=(action(),)), told()], PLAIN) == ""


def test_evidence_can_not_drive_a_terminal_and_its_end_counts() -> None:
    words = "\n".join([f"line {number}" for number in range(100)] + ["\x1b[2Jgone \u202e"])
    text = history.evidence_text([told(actions=(action(result="failed", evidence=words),))], PLAIN)
    assert "\x1b" not in text
    assert "| \\x1b[2Jgone \\u202e" in text
    assert "| line 99" in text
    assert "| line 10\n" not in text
