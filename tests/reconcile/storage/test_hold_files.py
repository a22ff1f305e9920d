"""An operator's holds as files: what is written comes back, and what can't be read holds all the same."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from reconcile.decide.hold import Hold, Requests
from reconcile.storage.hold_files import (
    ALL,
    end_hold_of_all,
    put_hold,
    put_place_release,
    put_release,
    read_requests,
    take_up,
)

NAME = "falcon-agent"
SINCE, UNTIL = 1_795_485_600.0, 1_795_492_800.0  # 2026-11-24T02:00:00Z, and two hours later
HOLD = Hold(owner="anna", reason="debugging a leak: 漏", since=SINCE, until=UNTIL)


def hold_on(folder: Path, name: str = NAME, now: float = SINCE) -> Hold | None:
    return read_requests(folder).hold_on(name, now)


def test_people_can_read_the_file_as_it_is(tmp_path: Path) -> None:
    put_hold(tmp_path, NAME, HOLD)
    assert '"reason": "debugging a leak: 漏"' in (tmp_path / f"{NAME}.json").read_text(encoding="utf-8")


def test_who_released_an_agent_is_known(tmp_path: Path) -> None:
    put_release(tmp_path, NAME, "operator:anna 漏")
    (tmp_path / "other.release").touch()
    assert read_requests(tmp_path).releasers == ((NAME, "operator:anna 漏"), ("other", "unknown"))


def test_a_place_is_asked_back_until_a_pass_took_that_up(tmp_path: Path) -> None:
    put_place_release(tmp_path, NAME)
    requests = read_requests(tmp_path)
    assert requests == Requests(place_releases=frozenset({NAME}))
    take_up(tmp_path, requests, SINCE)
    assert read_requests(tmp_path) == Requests()


@pytest.mark.parametrize("since", ["2026-11-24T02:00:00", "2026-11-24T02:00:00Z", "2026-11-24T10:00:00+08:00"])
def test_a_time_without_a_zone_is_in_utc_wherever_the_host_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        (tmp_path / f"{NAME}.json").write_text(json.dumps({"since": since}))
        hold = hold_on(tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert hold is not None
    assert hold.since == SINCE


def test_without_a_folder_nothing_is_asked_for(tmp_path: Path) -> None:
    assert read_requests(tmp_path / "holds") == Requests()
    assert not (tmp_path / "holds").exists()


@pytest.mark.parametrize("kind", ["a file", "a FIFO", "a link to itself", "a link to nothing"])
def test_what_is_no_folder_holds_nothing(tmp_path: Path, kind: str) -> None:
    holds = tmp_path / "holds"
    if kind == "a file":
        holds.touch()
    elif kind == "a FIFO":
        os.mkfifo(holds)
    else:
        holds.symlink_to("holds" if kind == "a link to itself" else "nothing")
    assert read_requests(holds) == Requests()


def test_a_folder_that_can_not_be_read_holds_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holds").mkdir()

    def refused(path: Path) -> list[str]:  # root may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refused)
    hold = hold_on(tmp_path / "holds")
    assert hold is not None
    assert (hold.everyone, hold.until) == (True, None)
    assert "can't be read" in hold.reason


def test_a_hold_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "holds"
    put_hold(folder, NAME, HOLD)
    assert hold_on(folder) == HOLD
    assert hold_on(folder, "other") is None
    assert hold_on(folder, now=UNTIL) is None  # it ended by itself
    assert json.loads((folder / f"{NAME}.json").read_text())["until"] == "2026-11-24T04:00:00Z"
    assert os.listdir(folder) == [f"{NAME}.json"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_hold_for_all_and_an_agents_own(tmp_path: Path) -> None:
    put_hold(tmp_path, ALL, Hold(owner="ben", reason="freeze"))
    assert hold_on(tmp_path, "other") == Hold(owner="ben", reason="freeze", everyone=True)
    put_hold(tmp_path, NAME, HOLD)
    assert hold_on(tmp_path) == HOLD
    assert hold_on(tmp_path, now=UNTIL) == Hold(owner="ben", reason="freeze", everyone=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", Hold(owner="unknown", reason="no reason given")),
        ('{"reason": "r", "owner": 7, "until": null}', Hold(owner="7", reason="r")),
        ('{"until": 1795492800}', Hold(owner="unknown", reason="no reason given", until=UNTIL)),
        ('{"until": "2026-11-24T04:00:00Z"}', Hold(owner="unknown", reason="no reason given", until=UNTIL)),
        ('{"until": "2026-11-24T05:00:00+01:00"}', Hold(owner="unknown", reason="no reason given", until=UNTIL)),
        ('{"until": "2026-11-24T04:00:00"}', Hold(owner="unknown", reason="no reason given", until=UNTIL)),
    ],
)
def test_a_file_that_configuration_management_dropped(tmp_path: Path, content: str, expected: Hold) -> None:
    (tmp_path / f"{NAME}.json").write_text(content)
    assert hold_on(tmp_path) == expected


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000),
        *(b'{"until": "soon"}', b'{"until": true}', b'{"until": -1}', b'{"until": 253402300800}', b'{"until": 1e300}'),
    ],
)
def test_what_can_not_be_read_holds_all_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{NAME}.json"
    path.write_bytes(content)
    hold = hold_on(tmp_path, now=UNTIL + 1e9)
    assert hold is not None
    assert (hold.owner, hold.until) == ("unknown", None)
    assert f"{path} can't be read as a hold" in hold.reason


def test_a_directory_in_its_place_holds_too(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.json").mkdir()
    assert hold_on(tmp_path) is not None


@pytest.mark.parametrize("content", [None, "theirs"])
def test_a_directory_in_the_place_of_any_of_our_files_makes_way(tmp_path: Path, content: str | None) -> None:
    """It is moved aside: what is in it is not the updater's."""

    def put_folder(name: str) -> None:
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / content).touch()

    put_folder(f"{NAME}.json")
    put_hold(tmp_path, NAME, HOLD)
    assert read_requests(tmp_path).holds == ((NAME, HOLD),)
    (tmp_path / f"{NAME}.json").unlink()
    for suffix in ("json", "release", "place"):
        put_folder(f"{NAME}.{suffix}")
    put_folder(f"{ALL}.json")
    put_release(tmp_path, NAME)
    put_place_release(tmp_path, NAME)
    end_hold_of_all(tmp_path)
    assert (tmp_path / f"{NAME}.release").is_file()
    assert (tmp_path / f"{NAME}.place").is_file()
    for suffix in ("release", "place"):
        (tmp_path / f"{NAME}.{suffix}").unlink()
        put_folder(f"{NAME}.{suffix}")
    take_up(tmp_path, read_requests(tmp_path), SINCE)
    assert read_requests(tmp_path) == Requests()


def test_a_hold_that_is_being_written_is_none_yet(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.json-1a2b").write_text("{")
    (tmp_path / ".hidden.json").write_text("{}")
    assert read_requests(tmp_path) == Requests()


# Release


def test_a_release_lifts_the_hold_and_is_taken_up_by_a_pass(tmp_path: Path) -> None:
    put_hold(tmp_path, NAME, HOLD)
    put_release(tmp_path, NAME)
    put_release(tmp_path, NAME)
    requests = read_requests(tmp_path)
    assert (requests.released(NAME), requests.released("other"), requests.holds) == (True, False, ())
    take_up(tmp_path, requests, SINCE)
    assert os.listdir(tmp_path) == []
    take_up(tmp_path, requests, SINCE)  # another run was quicker


def test_the_end_of_the_hold_of_all_ends_no_other(tmp_path: Path) -> None:
    for name in (NAME, "other", ALL):
        put_hold(tmp_path, name, HOLD)
    end_hold_of_all(tmp_path)
    end_hold_of_all(tmp_path)
    requests = read_requests(tmp_path)
    assert ([name for name, _ in requests.holds], requests.for_all, requests.releases) == (
        [NAME, "other"],
        None,
        frozenset(),
    )


def test_a_release_that_came_after_the_look_is_left_for_the_next_pass(tmp_path: Path) -> None:
    requests = read_requests(tmp_path)
    put_release(tmp_path, NAME)
    take_up(tmp_path, requests, SINCE)
    assert read_requests(tmp_path).released(NAME)


def test_holds_that_ended_go_and_the_others_stay(tmp_path: Path) -> None:
    put_hold(tmp_path, NAME, HOLD)
    put_hold(tmp_path, "other", Hold(owner="ben", reason="for ever"))
    put_hold(tmp_path, ALL, HOLD)
    take_up(tmp_path, read_requests(tmp_path), UNTIL - 1)
    assert len(os.listdir(tmp_path)) == 3
    take_up(tmp_path, read_requests(tmp_path), UNTIL)
    assert os.listdir(tmp_path) == ["other.json"]


def test_a_fifo_under_a_holds_name_holds_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{NAME}.json")
    hold = hold_on(tmp_path, now=SINCE)
    assert hold is not None
    assert "can't be read as a hold" in hold.reason


def test_a_hold_put_again_during_a_pass_stays(tmp_path: Path) -> None:
    put_hold(tmp_path, NAME, HOLD)
    requests = read_requests(tmp_path)
    put_hold(tmp_path, NAME, Hold(owner="ben", reason="for ever"))
    take_up(tmp_path, requests, UNTIL)
    hold = hold_on(tmp_path, now=UNTIL)
    assert hold is not None
    assert hold.owner == "ben"


def test_a_hold_from_a_clock_that_is_a_minute_ahead_stays_as_it_is(tmp_path: Path) -> None:
    for ahead_s, is_moved in ((60.0, False), (61.0, True)):
        put_hold(tmp_path, NAME, HOLD)
        take_up(tmp_path, read_requests(tmp_path), SINCE - ahead_s)
        hold = hold_on(tmp_path, now=SINCE)
        assert hold is not None
        assert (hold.since != SINCE) is is_moved


def test_a_clock_that_was_set_back_can_not_stretch_a_hold(tmp_path: Path) -> None:
    """Two hours stay two hours, from the first pass on that sees it."""
    put_hold(tmp_path, NAME, HOLD)
    day_before = SINCE - 86400
    take_up(tmp_path, read_requests(tmp_path), day_before)
    hold = hold_on(tmp_path, now=day_before)
    assert hold is not None
    assert (hold.since, hold.until) == (day_before, day_before + UNTIL - SINCE)
    assert (hold.owner, hold.reason) == (HOLD.owner, HOLD.reason)
