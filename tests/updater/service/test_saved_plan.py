"""A saved plan: written whole, read strictly, and compared with the world as it is now."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from updater.service.saved_plan import PlanMoved, PlanUnreadable, PlanUnusable, differences, names_in, read, save

PLAN: dict[str, Any] = {
    "format_version": "1.0",
    "kind": "Plan",
    "host": "h",
    "created_at": "2026-11-24T02:00:00Z",
    "desired_from": "http://meta/api/heartbeat",
    "desired_age_s": 0,
    "agents": [
        {
            "name": "a",
            "run_user": "falcon",
            "work_dir": "/work",
            "observed": {"version": "1", "status": "started", "installed": ["1"], "digest": "md5:11"},
            "desired": {"version": "2", "cmd": "start", "digest": "md5:22"},
            "reason": "VersionDiffers",
            "message": "1 -> 2",
            "actions": [{"type": "fetch", "url": "http://meta/a"}, {"type": "start", "version": "2"}],
            "held": None,
            "conditions": [{"type": "Ready", "status": "False", "since": "2026-11-24T02:00:00Z"}],
        }
    ],
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The plan of another moment."""
    plan = copy.deepcopy(PLAN)
    change(plan)
    return plan


def agent_with(**keys: Any) -> dict[str, Any]:
    return changed(lambda plan: plan["agents"][0].update(keys))


# --- the file ---


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("an older one")
    save(path, json.dumps(PLAN))
    assert read(path) == PLAN
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]
    assert names_in(read(path)) == {"a"}


def test_what_can_not_be_saved_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        save(tmp_path / "missing" / "plan.json", "{}")


NO_PLANS = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'{"kind": "Status"}',
    b'{"kind": "Plan"}',
    b"\xff\xfe\x00",
    b"[" * 200_000,
)
NO_AGENTS = (
    b'{"kind": "Plan", "agents": %s}' % agents
    for agents in (b"5", b"[5]", b'[{"name": 1}]', b'[{"name": "a", "held": 1}]')
)


@pytest.mark.parametrize("content", [*NO_PLANS, *NO_AGENTS])
def test_what_is_no_saved_plan_is_said_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanUnusable, match=r"plan\.json is not a saved plan"):
        read(path)


def test_a_file_that_is_missing_or_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanUnreadable, match=r"missing\.json can't be read: No such file"):
        read(tmp_path / "missing.json")
    with pytest.raises(PlanUnreadable, match="can't be read: it is not a regular file"):
        read(tmp_path)


# --- what moved ---


def test_the_same_world_has_no_differences() -> None:
    assert differences(PLAN, copy.deepcopy(PLAN)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(created_at="2027-01-01T00:00:00Z", desired_age_s=99, desired_from="elsewhere"),
        lambda plan: plan["agents"][0].update(message="told in other words"),
        lambda plan: plan["agents"][0]["conditions"].clear(),
        lambda plan: plan.update(conditions=[{"type": "ServerReachable"}], summary={}),
    ],
    ids=["times", "words", "conditions", "the updater itself"],
)
def test_times_and_words_may_differ(change: Callable[[dict[str, Any]], object]) -> None:
    assert differences(PLAN, changed(change)) == []
    assert differences(changed(change), PLAN) == []


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (changed(lambda plan: plan.update(host="i")), "it was made on h, this host is i"),
        (changed(lambda plan: plan["agents"].clear()), "a: not in the desired state any more"),
        (
            changed(lambda plan: plan["agents"].append({**plan["agents"][0], "name": "b"})),
            "b: new in the desired state",
        ),
        (agent_with(work_dir="/other"), 'a: work_dir: was "/work", is "/other"'),
        (agent_with(run_user="root"), 'a: run_user: was "falcon", is "root"'),
        (
            changed(lambda plan: plan["agents"][0]["observed"].update(status="stoped")),
            'a: observed.status: was "started", is "stoped"',
        ),
        (
            changed(lambda plan: plan["agents"][0]["desired"].update(digest="md5:33")),
            'a: desired.digest: was "md5:22", is "md5:33"',
        ),
        (agent_with(reason="DigestDiffers"), 'a: reason: was "VersionDiffers", is "DigestDiffers"'),
        (agent_with(actions=[]), "a: actions: was fetch start, is nothing"),
        (agent_with(actions=[{"type": "start", "version": "2"}]), "a: actions: was fetch start, is start"),
    ],
)
def test_what_moved_is_named_one_line_each(now: dict[str, Any], named: str) -> None:
    assert differences(PLAN, now) == [named]


def test_actions_of_the_same_kinds_that_are_about_something_else_are_a_difference() -> None:
    other = [{"type": "fetch", "url": "http://evil/a"}, {"type": "start", "version": "2"}]
    [line] = differences(PLAN, agent_with(actions=other))
    assert line == 'a: actions: fetch.url: was "http://meta/a", is "http://evil/a"'
    held = {"reason": "BackingOff", "meanwhile": [{"type": "start", "version": "1"}]}
    heals = {**held, "meanwhile": [{"type": "start", "version": "2"}]}
    [line] = differences(agent_with(held=held), agent_with(held=heals))
    assert line == 'a: held.meanwhile: start.version: was "1", is "2"'


def test_that_the_same_actions_are_about_another_version_follows_from_it() -> None:
    def other_version(plan: dict[str, Any]) -> None:
        plan["agents"][0]["desired"]["version"] = "3"
        plan["agents"][0]["actions"][1]["version"] = "3"

    assert differences(PLAN, changed(other_version)) == ['a: desired.version: was "2", is "3"']


def test_a_hold_is_a_difference_and_how_long_it_lasts_is_none() -> None:
    held = {"reason": "BackingOff", "until": "2026-11-24T02:01:00Z", "message": "in 1m", "meanwhile": []}
    assert differences(PLAN, agent_with(held=held))
    later = {**held, "until": "2026-11-24T02:02:00Z", "message": "in 2m"}
    assert differences(agent_with(held=held), agent_with(held=later)) == []
    heals = {**held, "meanwhile": [{"type": "start", "version": "1"}]}
    assert differences(agent_with(held=held), agent_with(held=heals))


def test_a_plan_without_its_parts_is_compared_and_never_crashes() -> None:
    assert differences({"kind": "Plan", "host": "h"}, PLAN) == ["a: new in the desired state"]
    bare = {"kind": "Plan", "host": "h", "agents": [{"name": "a"}]}
    assert any("observed" in line for line in differences(bare, PLAN))


def test_the_refusal_names_all_of_it() -> None:
    refused = PlanMoved(["one", "two"])
    assert (str(refused), refused.differences) == ("one; two", ["one", "two"])
