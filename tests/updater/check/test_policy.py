"""`check` of what the config says and of what lies beside it: a line each, with its remedy; rules, rights, secrets."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from tests.updater.check.findings import found, shown
from tests.updater.conftest import Folder
from updater.check.subject import CheckState

KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
RULES: dict[str, Any] = {
    "allow_agents": ["falcon-agent"],
    "allow_users": ["falcon"],
    "allow_work_dirs": ["/srv/agents"],
    "mirrors": ["https://files.example.com/"],
    "min_version": {"falcon-agent": "5.1.0"},
    "refuse_downgrade": True,
    "require_https": True,
    "require_sha256": True,
    "trusted_keys": [KEY],
}


def test_an_old_config_is_no_fault_and_what_it_leaves_open_is_said(folder: Folder) -> None:
    ran = folder.run("check")
    assert ran.err == ""
    lines = ran.out.splitlines()
    # What else runs on the machine of the tests, its room and who reaps there is not ours to say.
    assert {line.split()[1] for line in lines if line.startswith("bad")} <= {"others", "disk", "orphans"}
    note = next(line for line in lines if "md5 over http" in line)
    assert note.startswith("note  protection  md5 over http protects from accidents, not from an attacker")
    assert "->  https to ops-meta and require_sha256, or require_https, or trusted_keys" in note
    [unset] = [line for line in lines if line.split()[:2] == ["note", "policy"]]
    assert f"9 of 9 rules of this host are not set: {', '.join(RULES)}  ->  set those that hold" in unset


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_shown_as_it_is_set(folder: Folder, rule: str) -> None:
    server = {"server": "https://meta.example.com"} if rule == "require_https" else {}
    folder.configure(**{rule: RULES[rule]}, **server)
    [set_now] = found(folder, "policy", CheckState.GOOD)
    assert set_now.message.startswith(f"{rule}: ")
    [unset] = found(folder, "policy", CheckState.NOTE)
    assert (
        unset.message == f"8 of 9 rules of this host are not set: {', '.join(name for name in RULES if name != rule)}"
    )


def test_nothing_is_said_of_rules_that_are_not_set_where_all_are(folder: Folder) -> None:
    folder.configure(server="https://meta.example.com", **RULES)
    assert found(folder, "policy", CheckState.NOTE) == []
    assert len(found(folder, "policy", CheckState.GOOD)) == len(RULES)


def test_what_is_wrong_stands_first(folder: Folder) -> None:
    folder.configure(server="127.0.0.1:1")
    states = [line.split()[0] for line in folder.run("check").out.splitlines()]
    assert {"bad", "note", "good"} == set(states)
    assert states == sorted(states, key=["bad", "note", "good"].index)
    states = [one["state"] for one in json.loads(folder.run("check", "-o", "json").out)["checks"]]
    assert states == sorted(states, key=["bad", "note", "good"].index)


def test_a_desired_file_is_shown_as_signed_or_not(folder: Folder) -> None:
    (folder.path / "desired.json").write_text('{"desiredAgents": []}')
    folder.configure(server=None, desired="desired.json", trusted_keys=[KEY])
    assert shown(folder, "policy").splitlines()[0].endswith(", require_signed_desired"), "among those that are not set"
    assert "who serves `desired` decides which of the signed versions runs" in shown(folder, "protection")
    folder.configure(server=None, desired="desired.json", trusted_keys=[KEY], require_signed_desired=True)
    assert "require_signed_desired: on" in shown(folder, "policy")
    assert "who serves `desired` decides" not in shown(folder, "protection")
    assert "is taken for the latest" in shown(folder, "protection")
    [bad] = found(folder, "server", CheckState.BAD)
    assert bad.message.startswith("the signature ")
    assert bad.remedy.startswith("a desired state must be signed here")


def test_an_empty_list_is_shown_as_what_it_is(folder: Folder) -> None:
    folder.configure(mirrors=[])
    assert "mirrors: none, so nothing passes" in shown(folder, "policy")


def test_what_stays_open_gets_less_by_each_step(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    server = "https://meta.example.com"
    assert "ops-meta is asked over http" in shown(folder, "protection")
    folder.configure(server=server)
    assert "ops-meta is asked over http" not in shown(folder, "protection")
    assert "md5 over http" in shown(folder, "protection")
    folder.configure(server=server, require_sha256=True)
    assert "md5" not in shown(folder, "protection")
    assert "configs (configRemoteUrl) may come over http" in shown(folder, "protection")
    folder.configure(server=server, require_sha256=True, require_https=True)
    assert "over http" not in shown(folder, "protection")
    folder.configure(server=server, require_https=True, trusted_keys=[KEY])
    assert "configs (configRemoteUrl) are not signed: none takes the place of a program" in shown(folder, "protection")
    assert "an old version that was signed once" in shown(folder, "protection")
    folder.configure(server=server, require_https=True, trusted_keys=[KEY], refuse_downgrade=True)
    assert "an old version" not in shown(folder, "protection")
    assert ("the updater runs as root" in shown(folder, "protection")) == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("keys", "is_open"),
    [
        ({}, True),
        ({"require_sha256": True}, True),  # the digest comes over http, too
        ({"server": "https://meta.example.com"}, True),
        ({"server": "HTTPS://meta.example.com", "require_sha256": True}, False),
        ({"server": "https://meta.example.com", "require_https": True}, False),
        ({"trusted_keys": [KEY]}, False),
        ({"trusted_keys": [KEY], "server": "https://meta.example.com"}, False),
    ],
)
def test_an_attacker_on_the_network_is_named_while_there_may_be_one(
    folder: Folder, keys: dict[str, Any], is_open: bool
) -> None:
    folder.configure(**keys)
    assert ("md5 over http" in shown(folder, "protection")) is is_open
    assert ("ops-meta is asked over http:" in shown(folder, "protection")) is ("server" not in keys)


def test_a_wrong_config_is_bad_each_error_a_line(folder: Folder) -> None:
    folder.configure(interval=0, wrok_dir="/x")
    ran = folder.run("check")
    assert ran.code == 3
    assert [line.split()[:2] for line in ran.out.splitlines()] == [["bad", "config"]] * 2


def test_a_missing_library_is_bad_and_agents_are_kept_without_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    assert [one.state for one in found(folder, "tools")] == [CheckState.GOOD]
    folder.configure(trusted_keys=[KEY])
    [lacking] = found(folder, "tools", CheckState.BAD)
    assert lacking.message == "trusted_keys needs PyNaCl, which is not installed"
    assert lacking.remedy == "run `./control setup --with signatures`"
    assert folder.run("check").code == 3
    ran = folder.run("daemon", "--check")
    assert (ran.code, "./control setup --with signatures" in ran.err) == (0, True)
    assert folder.run("apply", "--once").code == 0


def test_a_time_zone_that_the_host_lacks_is_bad_where_windows_are_set(folder: Folder) -> None:
    folder.configure(time_zone="Mars/Olympus")
    assert [one.state for one in found(folder, "tools")] == [CheckState.GOOD]
    folder.configure(time_zone="Mars/Olympus", windows=[{"start": "00:00", "length": "24h"}])
    [lacking] = found(folder, "tools", CheckState.BAD)
    assert lacking.message == (
        "the time zone Mars/Olympus (time_zone) is not known on this host, so its maintenance windows count as closed"
    )
    assert lacking.remedy == "install tzdata, or name another"


def test_rights_that_others_have_are_bad_and_refused_as_root(folder: Folder) -> None:
    (folder.path / "cfg.json").chmod(0o666)
    [bad] = found(folder, "rights", CheckState.BAD)
    assert bad.remedy == f"chmod o-w {(folder.path / 'cfg.json').resolve()}"
    assert folder.run("check").code == 3
    for command in (["apply", "--once"], ["daemon", "--check"]):
        ran = folder.run(*command)
        assert (ran.code == 78) == (os.geteuid() == 0), ran


def test_secrets_that_everybody_can_read_are_bad(folder: Folder) -> None:
    (folder.path / "secret").write_text("canary")
    (folder.path / "secret").chmod(0o644)
    folder.configure(auth={"user": "me", "password_file": "secret"}, proxy="http://me:canary@proxy.example.com:3128")
    (folder.path / "cfg.json").chmod(0o644)
    ran = folder.run("check")
    assert ran.code == 3
    assert "auth.password_file stands in" in ran.out
    assert "proxy, with a password in its URL, stands in" in ran.out
    assert "canary" not in ran.out
    for name in ("secret", "cfg.json"):
        (folder.path / name).chmod(0o600)
    assert found(folder, "rights", CheckState.BAD) == []


def test_json(folder: Folder) -> None:
    folder.configure(mirrors=["http://files.example.com/"])
    ran = folder.run("check", "-o", "json")
    document = json.loads(ran.out)
    assert (document["format_version"], document["kind"]) == ("1.0", "Check")
    assert ran.code == (3 if document["summary"]["bad"] else 0)
    assert {one["about"] for one in document["checks"] if one["state"] == "bad"} <= {"others", "disk", "orphans"}
    assert sum(document["summary"].values()) == len(document["checks"])
    mirrors = {"about": "policy", "state": "good", "message": "mirrors: http://files.example.com/", "remedy": None}
    assert mirrors in document["checks"]
