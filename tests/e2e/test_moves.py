"""A workDir that changed at the server, by the real executable: planned, saved, made, reported, rolled back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host, snapshot
from updater.demo import agent as agents

pytestmark = [pytest.mark.slow, pytest.mark.warm]


@pytest.fixture
def elsewhere(host: Host) -> Path:
    """The new workDir; 1.0.0 is good in the old one."""
    host.install("1.0.0")
    host.settle()
    return host.work.with_name("elsewhere")


def test_a_move_with_an_upgrade_is_looked_at_saved_and_carried_out(host: Host, elsewhere: Path) -> None:
    host.publish("2.0.0")
    host.desire("2.0.0", workDir=str(elsewhere))
    before, path = snapshot(host.work), host.folder / "move.json"

    planned = host.plan("--detailed-exitcode")
    assert planned.code == 2
    assert host.updater("plan", "--out", str(path)).code == 0
    text = host.updater("plan").out

    assert snapshot(host.work) == before
    assert not elsewhere.exists()
    printed = planned.agent()
    assert (printed["reason"], printed["work_dir"]) == ("WorkDirChanged", str(elsewhere))
    assert printed["observed"]["work_dir"] == str(host.work)
    assert planned.actions() == "fetch verify unpack stop switch start"
    _, _, unpack, stop, switch, start = printed["actions"]
    assert (stop["version"], stop["work_dir"]) == ("1.0.0", str(host.work))
    assert switch["leaves"]["work_dir"] == str(host.work)
    assert [key for action in (unpack, switch, start) for key in ("work_dir", "run_user") if key in action] == []
    assert f"4. stop       1.0.0 in {host.work} as " in text
    assert f"5. switch     2.0.0, out of {host.work} as " in text

    seen = host.folder / "seen.json"
    seen.write_text(host.status().out)
    fleet = host.updater("plan", "--observed", str(seen), "--desired", str(desired_file(host, elsewhere)))
    assert "WorkDirChanged" in fleet.out, fleet

    result = host.updater("apply", "--plan", str(path), "-o", "json")
    assert (result.code, result.condition("Ready")) == (0, ("True", "Confirming"))
    assert {action["result"] for action in result.agent()["actions"]} == {"done"}
    assert agents.ask(elsewhere / NAME).version == "2.0.0"
    assert host.versions() == ["1.0.0"]
    assert not (host.home() / ".version").exists()
    assert host.updater("apply", "--plan", str(path)).code == 3, "it was carried out"
    assert host.apply().condition("Ready") == ("True", "AsDesired")
    assert [event["reason"] for event in host.history() if event["actions"]][-1] == "WorkDirChanged"
    assert f"-> 2.0.0 in {elsewhere} as " in host.updater("why", NAME).out
    reported = host.meta.reported(NAME)
    assert reported is not None
    assert (reported["version"], reported["workDir"]) == ("2.0.0", str(elsewhere))


def test_one_that_does_not_come_up_there_is_back_where_it_was(host: Host, elsewhere: Path) -> None:
    host.configure(control_timeout={"start": 4})  # the start of the way back must succeed within it
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0", workDir=str(elsewhere))
    before = len(host.meta.requests)

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (4, ("False", "RolledBack"))
    back = [(action["type"], action.get("work_dir")) for action in result.agent()["actions"][-2:]]
    assert back == [("switch", str(host.work)), ("start", str(host.work))]
    assert host.ask().version == "1.0.0"
    assert len(host.downloads(since=before)) == 1
    assert sorted(os.listdir(elsewhere / NAME)) == [".start.log", "2.0.0"]
    assert f"-> 1.0.0 in {host.work} as " in host.updater("history", NAME).out
    assert host.apply().condition("Ready") == ("False", "Quarantined")
    assert f"1.0.0 started in {host.work} as " in host.updater("status").out
    host.desire("1.0.0")
    assert host.apply().condition("Ready") == ("True", "AsDesired"), "the server thought better of it"


def desired_file(host: Host, elsewhere: Path) -> Path:
    path = host.folder / "desired.json"
    wanted = [host.meta.agent(NAME, "2.0.0", workDir=str(elsewhere))]
    path.write_text(json.dumps({"errorMessage": "", "desiredAgents": wanted}))
    return path
