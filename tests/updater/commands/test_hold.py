"""`hold` and `release`: what they leave on disk, and what they say."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.decide.desired import Refusal
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.records.content import EMPTY_FILE, ConfigMemory, Content
from reconcile.decide.records.record import AgentRecord, Crashes, Failure, FailureKind, Pin
from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import StoredState
from updater.commands import hold
from updater.commands.context import UsageWrong, unknown_names, whoami


@pytest.mark.parametrize(
    ("names", "everyone", "are"), [(["a", "b"], False, ("a", "b")), (["a", "a"], False, ("a",)), ([], True, ())]
)
def test_names_or_all(names: list[str], everyone: bool, are: tuple[str, ...]) -> None:
    assert hold.checked_names(Namespace(command="hold", names=names, all=everyone)) == are


@pytest.mark.parametrize(
    ("names", "everyone"),
    [([], False), (["a"], True), (["a", "../evil"], False), ([""], False), (["--all"], False), (["a/b"], False)],
)
def test_what_names_no_agent(names: list[str], everyone: bool) -> None:
    with pytest.raises(UsageWrong, match=r"^hold: .*; see `updater hold --help`$"):
        hold.checked_names(Namespace(command="hold", names=names, all=everyone))


# --- hold and release ---


def test_a_hold_has_owner_reason_and_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    folder = tmp_path / "holds"
    before = time.time()

    said = hold.hold_one(folder, "a", "a leak", 7200)

    assert said == "a held for 2h00m: a leak (`updater release a` ends it)"
    [(name, held)] = read_requests(folder).holds
    assert (name, held.owner, held.reason, held.everyone) == ("a", "ann", "a leak", False)
    assert held.since is not None
    assert held.until is not None
    assert held.until - held.since == 7200
    assert before - 1 <= held.since <= time.time()  # whole seconds are kept
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(folder) == ["a.json"], "no temporary file stays"


def test_a_hold_without_an_end_lasts_until_it_is_released(tmp_path: Path) -> None:
    assert hold.hold_one(tmp_path, "--all", "freeze", None) == (
        "all agents held until released: freeze (`updater release --all` ends it)"
    )
    held = read_requests(tmp_path).for_all
    assert held is not None
    assert held.until is None
    assert json.loads((tmp_path / "--all.json").read_text())["until"] is None


def test_a_second_hold_takes_the_place_of_the_first(tmp_path: Path) -> None:
    hold.hold_one(tmp_path, "a", "one", None)
    hold.hold_one(tmp_path, "a", "two", 60)
    [(_, held)] = read_requests(tmp_path).holds
    assert held.reason == "two"


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
        hold.hold_one(tmp_path, name, f"why {name}", None)

    assert hold.release_one(tmp_path, "a", REMEMBERED) == [
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
    assert hold.release_one(tmp_path, "a", StoredState()) == ["a: nothing held it"]


def test_a_release_says_that_a_config_was_held_for_being_empty(tmp_path: Path) -> None:
    def config(digest: str) -> ConfigMemory:
        return ConfigMemory(name="cfg.json", url="http://meta", digest=digest)

    held = AgentRecord(
        name="a", work_dir="/srv", run_user="u", config=config("sha256:1"), remote_config=config(EMPTY_FILE)
    )
    said = hold.release_one(tmp_path, "a", StoredState(records=(held,)))
    assert said == ["a: ends with the next pass: the hold of the remote cfg.json, which is empty"]
    for other in (
        evolve(held, empty_released=True),
        evolve(held, config=config(EMPTY_FILE)),
        evolve(held, remote_config=config("sha256:2")),
        evolve(held, remote_config=None),
    ):
        assert hold.release_one(tmp_path, "a", StoredState(records=(other,))) == ["a: nothing held it"]


def test_a_release_of_all_ends_the_hold_of_all_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    for name in ("b", "--all"):
        hold.hold_one(tmp_path, name, f"why {name}", None)

    assert hold.release_all(tmp_path, REMEMBERED) == [
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
    assert hold.release_all(tmp_path, StoredState())[0] == "all agents: there was no hold of all"


def test_what_ends_already_stands_no_more(tmp_path: Path) -> None:
    hold.release_one(tmp_path, "a", REMEMBERED)
    assert not [line for line in hold.release_all(tmp_path, REMEMBERED) if line.startswith("a:")]


def test_a_name_that_no_agent_has_is_answered_with_the_nearest() -> None:
    known = Requests(holds=(("held-ahead", Hold(owner="o", reason="r")),))
    state = evolve(REMEMBERED, refused=(Refusal(name="falcon-agent", reason="InvalidSpec", rule="form", message="m"),))
    assert unknown_names(["a", "b", "falcon-agent", "held-ahead"], state, known) == ""
    assert unknown_names(["a", "falcon-agnet"], state, known) == (
        "no agent is named falcon-agnet (did you mean `falcon-agent`?)"
    )
    assert unknown_names(["xyz"], state, known) == ("no agent is named xyz; known: a, b, falcon-agent, held-ahead")
    assert unknown_names(["xyz"], StoredState(), Requests()) == "no agent is named xyz; known: none"
    assert unknown_names(["xyz"], StoredState(trouble="can't be read"), Requests()) == "", "in doubt it is held"


def test_who_typed_it_is_the_person_before_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    assert whoami() == "ann"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "bob")
    assert whoami() == "bob"
