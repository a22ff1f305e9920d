"""Plans for other hosts: what a snapshot leads to is what the host itself would plan, one by one and a thousand."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.updater.conftest import Folder
from updater.commands import context
from updater.fleet.documents import status_files
from updater.fleet.plan import plan_fleet, plan_rows
from updater.output.text import Palette, to_text
from updater.sources import wire

NAME = "falcon-agent"


def snapshot(folder: Folder, path: Path) -> dict[str, Any]:
    ran = folder.run("status", "-o", "json")
    assert ran.code == 0
    path.write_text(ran.out)
    document: dict[str, Any] = json.loads(ran.out)
    return document


def write_desired(folder: Folder, path: Path, **changes: Any) -> Path:
    """What the server says now, changed, as a file."""
    entry = {**folder.meta.agent(NAME, "1.0.0"), **changes}
    path.write_text(json.dumps({"errorMessage": "", "desiredAgents": [entry]}))
    return path


def both(folder: Folder, tmp_path: Path, desired: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The agent as the host itself plans it, and as it is planned from the host's snapshot."""
    document = snapshot(folder, tmp_path / "host-1.json")
    own = json.loads(folder.run("plan", "-o", "json", "--desired", str(desired)).out)
    shutil.move(folder.work, tmp_path / "elsewhere")  # a look at the host now would show nothing
    ran = folder.run("plan", "-o", "json", "--observed", str(tmp_path / "host-1.json"), "--desired", str(desired))
    shutil.move(tmp_path / "elsewhere", folder.work)
    assert (ran.code, ran.err) == (0, "")
    fleet = json.loads(ran.out)
    assert fleet["kind"] == "FleetPlan"
    [host] = fleet["hosts"]
    assert (host["host"], host["observed_at"]) == ("host-1", document["created_at"])
    return own["agents"][0], host["agents"][0]


def same(own: dict[str, Any], foreseen: dict[str, Any]) -> bool:
    held = [agent["held"] and (agent["held"]["reason"], agent["held"]["meanwhile"]) for agent in (own, foreseen)]
    keys = ("name", "run_user", "work_dir", "observed", "desired", "reason", "message", "actions")
    assert {key: foreseen[key] for key in keys} == {key: own[key] for key in keys}
    assert held[0] == held[1]
    return True


@pytest.fixture
def host(folder: Folder) -> Folder:
    """One with an agent in use."""
    folder.want("1.0.0")
    assert folder.run("apply", "--once").code == 0
    return folder


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "AsDesired"),
        ({"version": "2.0.0", "md5": "0" * 32}, "VersionDiffers"),
        ({"md5": "0" * 32}, "DigestDiffers"),
        ({"cmd": "stop"}, "UnexpectedlyRunning"),
        ({"cmd": ""}, "ObserveOnly"),
        ({"name": "other-agent", "md5": "0" * 32}, "FirstInstall"),
    ],
)
def test_it_is_what_the_host_itself_plans(host: Folder, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    own, foreseen = both(host, tmp_path, write_desired(host, tmp_path / "new.json", **changes))
    assert same(own, foreseen)
    assert foreseen["reason"] == reason


def test_what_an_operator_holds_stays_held(host: Folder, tmp_path: Path) -> None:
    host.run("hold", NAME, "--reason", "mine", "--for", "2h")
    own, foreseen = both(host, tmp_path, write_desired(host, tmp_path / "new.json", version="2.0.0", md5="0" * 32))
    assert same(own, foreseen)
    assert foreseen["held"]["reason"] == "HeldByOperator"


@pytest.mark.slow
def test_what_was_rolled_back_is_quarantined_elsewhere_too(host: Folder, tmp_path: Path) -> None:
    host.configure(control_timeout={"start": 5})
    host.want("2.0.0", broken_start=True)
    assert host.run("apply", "--once").code == 4
    desired = write_desired(host, tmp_path / "new.json", **host.meta.agent(NAME, "2.0.0"))
    own, foreseen = both(host, tmp_path, desired)
    assert same(own, foreseen)
    assert foreseen["held"]["reason"] == "Quarantined"


def test_the_host_s_own_rules_count(host: Folder, tmp_path: Path) -> None:
    host.configure(tarball_layout="{tarball}/{name}-{version}.tar.gz")
    own, foreseen = both(host, tmp_path, write_desired(host, tmp_path / "new.json", version="2.0.0", md5="0" * 32))
    assert same(own, foreseen)
    assert foreseen["actions"][0]["url"].endswith("/releases/falcon-agent/falcon-agent-2.0.0.tar.gz")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"refuse_downgrade": True}, "PolicyRefused"),
        ({"min_version": {NAME: "0.9.5"}}, "PolicyRefused"),
        ({"allow_agents": ["other-agent"]}, "PolicyRefused"),
        ({"require_sha256": True}, "PolicyRefused"),
    ],
)
def test_what_the_host_s_policy_refuses_is_foreseen(
    host: Folder, tmp_path: Path, rule: dict[str, Any], reason: str
) -> None:
    host.configure(**rule)
    snapshot(host, tmp_path / "host-1.json")
    desired = ["--desired", str(write_desired(host, tmp_path / "new.json", version="0.9.0", md5="0" * 32, sha256=""))]
    own = json.loads(host.run("plan", "-o", "json", *desired).out)
    fleet = json.loads(host.run("plan", "-o", "json", "--observed", str(tmp_path / "host-1.json"), *desired).out)

    def refusals(plan: dict[str, Any]) -> list[str]:
        return [r["reason"] for r in plan["refused"]] + [a["held"]["reason"] for a in plan["agents"] if a["held"]]

    assert refusals(fleet["hosts"][0]) == refusals(own) == [reason]


def test_a_snapshot_holds_no_secret(host: Folder, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary-1")
    host.configure(
        auth={"user": "canary-2", "password_file": str(tmp_path / "password")}, agent_env={"TOKEN": "canary-3"}
    )
    url = host.meta.publish_config("conf/cfg.json", b'{"greeting": "hello"}') + "?token=canary-4"
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), "configFileName": "cfg.json", "configRemoteUrl": url})
    assert host.run("apply", "--once").code == 0
    document = snapshot(host, tmp_path / "host-1.json")
    assert "canary" not in json.dumps(document)
    [record] = document["snapshot"]["records"]
    assert "(sha256:" in record["config"]["url"]
    # The same URL is known again, another one is not.
    desired = write_desired(host, tmp_path / "new.json", configFileName="cfg.json", configRemoteUrl=url)
    ready = {c["type"]: c for c in both(host, tmp_path, desired)[1]["conditions"]}
    assert ready["ConfigInSync"]["status"] == "True"
    write_desired(host, desired, configFileName="cfg.json", configRemoteUrl=f"{url}5")
    plan = json.loads(
        host.run("plan", "-o", "json", "--observed", str(tmp_path / "host-1.json"), "--desired", str(desired)).out
    )
    ready = {c["type"]: c for c in plan["hosts"][0]["agents"][0]["conditions"]}
    assert ready["ConfigInSync"]["status"] == "Unknown"


def fleet_of(document: dict[str, Any], folder: Path, count: int) -> None:
    """So many hosts like one; on two of them another version is in use, on one the agent is stopped."""
    folder.mkdir()
    for number in range(count):
        other = copy.deepcopy(document)
        other["host"] = f"host-{number:04d}"
        [agent] = other["snapshot"]["agents"]
        if number in (3, 7):
            agent["version_text"] = agent["active"]["tree"]["version"] = "0.9.0"
        if number == 5:
            agent["active"]["process"] = agent["active"]["said"] = "stoped"
        (folder / f"{number}.json").write_text(json.dumps(other))


def test_a_fleet_in_a_summary(host: Folder, tmp_path: Path) -> None:
    fleet_of(snapshot(host, tmp_path / "one.json"), tmp_path / "fleet", 40)
    desired = write_desired(host, tmp_path / "new.json", version="2.0.0", md5="0" * 32)
    observed = ["plan", "--desired", str(desired), "--observed", str(tmp_path / "fleet")]
    ran = host.run(*observed)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("40 hosts: 40 pending; desired from ")
    _, _, reported = ran.out.partition("\n\n")
    assert reported.splitlines() == [
        "falcon-agent",
        "  37 hosts  VersionDiffers  1.0.0 -> 2.0.0",
        "            fetch verify unpack stop switch start",
        "   2 hosts  VersionDiffers  0.9.0 -> 2.0.0  odd",
        "            fetch verify unpack stop switch start",
        "            host-0003, host-0007",
        "   1 host   VersionDiffers  1.0.0 -> 2.0.0  odd",
        "            start fetch verify unpack stop switch start",
        "            host-0005",
    ]
    text = host.run(*observed, "-o", "json").out
    fleet = json.loads(text)
    assert text == json.dumps(fleet, indent=2) + "\n"
    assert fleet["summary"] == {"hosts": 40, "pending": 40, "odd": 3, "unreadable": 0}
    assert [(group["count"], group["odd"]) for group in fleet["groups"]] == [(37, False), (2, True), (1, True)]
    assert len(fleet["groups"][0]["hosts"]) == 37
    assert host.run(*observed, "--detailed-exitcode").code == context.CHANGED


def test_what_is_as_desired(host: Folder, tmp_path: Path) -> None:
    snapshot(host, tmp_path / "one.json")
    desired = write_desired(host, tmp_path / "new.json")
    observed = ["plan", "--desired", str(desired), "--observed", str(tmp_path / "one.json"), "--detailed-exitcode"]
    ran = host.run(*observed)
    assert ran.code == context.OK
    assert ran.out.startswith("1 host: nothing pending; ")
    assert "AsDesired" in ran.out
    assert "AsDesired" not in host.run(*observed, "-q").out


def test_what_each_host_refuses_is_a_group_too(host: Folder, tmp_path: Path) -> None:
    fleet_of(snapshot(host, tmp_path / "one.json"), tmp_path / "fleet", 3)
    desired = write_desired(host, tmp_path / "new.json", version="../x")
    ran = host.run("plan", "--desired", str(desired), "--observed", str(tmp_path / "fleet"))
    assert "3 hosts  InvalidSpec  refused by rule version: " in ran.out


def test_no_config_is_needed(host: Folder, tmp_path: Path) -> None:
    snapshot(host, tmp_path / "one.json")
    desired = write_desired(host, tmp_path / "new.json")
    (host.path / "cfg.json").unlink()
    assert host.run("plan", "--desired", str(desired), "--observed", str(tmp_path / "one.json")).code == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a status"),
        ('{"kind": "Plan"}', "it is not a status"),
        ('{"kind": "Status", "format_version": "2.0"}', "its format_version is '2.0'"),
        ('{"kind": "Status", "format_version": "1.0"}', "it has no snapshot"),
        ('{"kind": "Status", "format_version": "1.0", "host": "h", "snapshot": {}}', "it is damaged"),
    ],
)
def test_what_is_no_snapshot_is_left_out_and_named(host: Folder, tmp_path: Path, content: str, why: str) -> None:
    snapshot(host, tmp_path / "good.json")
    (tmp_path / "bad.json").write_text(content)
    desired = write_desired(host, tmp_path / "new.json")
    names = [str(tmp_path / name) for name in ("good.json", "bad.json", "missing.json")]
    ran = host.run("plan", "--desired", str(desired), "--observed", *names)
    assert ran.code == context.USAGE
    assert ran.out.startswith("1 host: nothing pending, 2 left out; ")
    assert f"bad.json: {why}" in ran.out
    assert "missing.json: it can't be read: No such file" in ran.out
    assert ran.err == "updater: 2 of the files are no usable snapshots; the plan is without them\n"


def test_a_status_of_some_agents_is_no_snapshot(host: Folder) -> None:
    assert "snapshot" in json.loads(host.run("status", "-o", "json").out)
    assert "snapshot" not in json.loads(host.run("status", NAME, "-o", "json").out)


def test_whatever_is_missing_or_of_another_type_ends_in_words(host: Folder, tmp_path: Path) -> None:
    document = snapshot(host, tmp_path / "one.json")
    answer = wire.parse_answer(write_desired(host, tmp_path / "new.json").read_bytes(), "new.json")
    folder = tmp_path / "broken"
    folder.mkdir()
    for key in document["snapshot"]:
        for number, value in enumerate((None, [], 1, "x", {}, [None], {"a": 1})):
            other = copy.deepcopy(document)
            other["snapshot"][key] = value
            (folder / f"{key}-{number}.json").write_text(json.dumps(other))
        other = copy.deepcopy(document)
        del other["snapshot"][key]
        (folder / f"{key}.json").write_text(json.dumps(other))
    files = status_files([folder])
    plan = plan_fleet(files, answer)
    assert len(plan.hosts) + len(plan.unreadable) == len(files)
    assert len(plan.unreadable) > len(document["snapshot"])


def test_what_another_host_says_is_fit_for_a_terminal(host: Folder, tmp_path: Path) -> None:
    document = snapshot(host, tmp_path / "one.json")
    answer = wire.parse_answer(write_desired(host, tmp_path / "new.json").read_bytes(), "new.json")
    document["host"] = "\x1b[2J\ud800"
    document["snapshot"]["agents"][0]["active"] = None
    document["snapshot"]["agents"][0]["stray"] = "\x9b2J"
    (tmp_path / "one.json").write_text(json.dumps(document))
    reported = to_text(plan_rows(plan_fleet([tmp_path / "one.json"], answer)), Palette(False))
    assert "\\x9b2J" in reported
    assert reported.replace("\n", "").isprintable()
    document["snapshot"]["own_uid"] = float("inf")
    (tmp_path / "one.json").write_text(json.dumps(document))
    plan = plan_fleet([tmp_path / "one.json"], answer)
    assert [file for file, _ in plan.unreadable] == [str(tmp_path / "one.json")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--observed", "x"], "--observed needs --desired FILE"),
        (["--observed", "x", "--desired", "http://meta/x"], "--observed needs --desired FILE"),
        (["--desired", "x", "--offline", "--observed", "x"], "--observed goes with --desired alone"),
        (["--desired", "x", "--out", "y", "--observed", "x"], "--observed goes with --desired alone"),
        (["some-agent", "--desired", "x", "--observed", "x"], "--observed goes with --desired alone"),
    ],
)
def test_what_does_not_go_together(host: Folder, words: list[str], said: str) -> None:
    ran = host.run("plan", *words)
    assert ran.code == context.USAGE
    assert said in ran.err


def test_a_response_that_is_none(host: Folder, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text("{}")
    ran = host.run("plan", "--observed", str(tmp_path), "--desired", str(tmp_path / "new.json"))
    assert ran.code == context.NO_DESIRED_STATE
    assert "without the key desiredAgents" in ran.err


# Users


def planned_for(host: Folder, tmp_path: Path, users: dict[str, int | None] | None) -> dict[str, Any]:
    """The host's plan by a snapshot in which the agent is the user falcon's, and the updater is not root."""
    document = snapshot(host, tmp_path / "host-1.json")
    kept = document["snapshot"]
    kept["own_uid"] = 1234
    for reported in (*kept["records"], *(agent["place"] for agent in kept["agents"])):
        reported["run_user"] = "falcon"
    if users is None:
        del kept["users"]
    else:
        kept["users"] = users
    (tmp_path / "host-1.json").write_text(json.dumps(document))
    changes = {"version": "2.0.0", "md5": "0" * 32, "runUser": "falcon"}
    desired = write_desired(host, tmp_path / "new.json", **changes)
    ran = host.run("plan", "-o", "json", "--observed", str(tmp_path / "host-1.json"), "--desired", str(desired))
    [planned] = json.loads(ran.out)["hosts"]
    return dict(planned)


@pytest.mark.parametrize("users", [{"falcon": 1000}, {}, None])
def test_an_agent_of_another_user_is_planned(host: Folder, tmp_path: Path, users: dict[str, int | None] | None) -> None:
    """By the uid that the host reported; a user of whom it reported nothing is taken to exist."""
    [agent] = planned_for(host, tmp_path, users)["agents"]
    assert (agent["reason"], agent["actions"][-1]["type"]) == ("VersionDiffers", "start")


@pytest.mark.parametrize(("uid", "reason"), [(None, "UserMissing"), (0, "PolicyRefused")])
def test_a_user_that_the_host_lacks_or_that_is_root_is_refused(
    host: Folder, tmp_path: Path, uid: int | None, reason: str
) -> None:
    planned = planned_for(host, tmp_path, {"falcon": uid})
    assert [refused["reason"] for refused in planned["refused"]] == [reason]


def test_a_snapshot_names_the_users_that_the_host_had_to_do_with(host: Folder, tmp_path: Path) -> None:
    assert snapshot(host, tmp_path / "host-1.json")["snapshot"]["users"] == {}, "its own is reported beside"
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), "runUser": "no-such-user"})
    host.run("apply", "--once")
    assert snapshot(host, tmp_path / "host-1.json")["snapshot"]["users"] == {"no-such-user": None}


def test_an_agent_whose_new_place_is_refused_is_healed_where_it_lives(host: Folder, tmp_path: Path) -> None:
    control = host.home() / "1.0.0" / "control"
    subprocess.run([str(control), "stop"], check=True, stdout=subprocess.DEVNULL)
    own, foreseen = both(host, tmp_path, write_desired(host, tmp_path / "new.json", workDir="/etc"))
    assert same(own, foreseen)
    assert foreseen["held"]["reason"] == "PolicyRefused"
    assert [action["type"] for action in foreseen["held"]["meanwhile"]] == ["start"]
