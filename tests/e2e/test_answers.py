"""Answers of the field, with the real executable: harmless forms are read, and a refused entry ends no agent's care."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.warm]

Entry = dict[str, Any]
MD5 = "490ac172dabecc867289079d48e84a66"


def crashed(host: Host, name: str = NAME) -> None:
    host.crash(name)
    until(lambda: host.pid(name) is None, "the agent is gone")


@pytest.mark.parametrize(
    "written",
    [
        lambda entry: {"md5": f"{entry['md5']}\n"},
        lambda entry: {"md5": f" {entry['md5'].upper()}  "},
        lambda entry: {"md5": f"{entry['md5']}  {NAME}-1.0.0.tar.gz\n"},
        lambda entry: {"cmd": "START", "version": " 1.0.0\r\n", "tarball": f"{entry['tarball']} "},
        lambda entry: {"workDir": f"{entry['workDir']} ", "runUser": f"{entry['runUser']}\n"},
    ],
)
def test_harmless_forms_change_nothing_of_what_runs(host: Host, written: Callable[[Entry], Entry]) -> None:
    pid = host.install("1.0.0")
    entry = host.meta.agent(NAME, "1.0.0")
    host.meta.desire({**entry, **written(entry)})
    applied = host.apply()
    assert (applied.code, applied.document["refused"], applied.actions()) == (0, [], "")
    assert (host.pid(), host.meta.reported(NAME)) == (pid, {**(host.meta.reported(NAME) or {}), "version": "1.0.0"})


def test_a_number_is_a_version(host: Host) -> None:
    host.publish("7")
    host.meta.desire({**host.meta.agent(NAME, "7"), "version": 7})
    assert host.apply().code == 0
    assert host.ask().version == "7"


REFUSED: dict[str, tuple[str, str, Callable[[Entry], list[Entry]]]] = {
    "free text in md5": ("InvalidSpec", "md5", lambda entry: [{**entry, "md5": "ask Bob"}]),
    "a digest cut short": ("InvalidSpec", "md5", lambda entry: [{**entry, "md5": MD5[:-1]}]),
    "a version that lost its zero": ("InvalidSpec", "form", lambda entry: [{**entry, "version": 1.1}]),
    "no version": ("InvalidSpec", "version", lambda entry: [{**entry, "version": ""}]),
    "no tarball": ("InvalidSpec", "tarball", lambda entry: [{**entry, "tarball": ""}]),
    "a tarball that is not a URL": ("InvalidSpec", "tarball", lambda entry: [{**entry, "tarball": "releases"}]),
    "a wrong type": ("InvalidSpec", "form", lambda entry: [{**entry, "md5": [entry["md5"]]}]),
    "named twice": ("InvalidSpec", "one_home", lambda entry: [entry, {**entry, "version": "2.0.0"}]),
    "another user": ("UserMissing", "run_user", lambda entry: [{**entry, "runUser": "no-such-user"}]),
    "a system folder": ("PolicyRefused", "work_dir", lambda entry: [{**entry, "workDir": "/etc"}]),
    "a relative folder": ("InvalidSpec", "work_dir", lambda entry: [{**entry, "workDir": "agents"}]),
    "the name of a config": (
        "InvalidSpec",
        "config_file_name",
        lambda entry: [{**entry, "configFileName": "../x", "configRemoteUrl": "http://127.0.0.1/x"}],
    ),
    "a blank in the name": ("InvalidSpec", "name", lambda entry: [{**entry, "name": f"{NAME} "}]),
}


@pytest.mark.parametrize(("reason", "rule", "entries"), REFUSED.values(), ids=REFUSED.keys())
def test_an_agent_whose_entry_is_refused_is_observed_reported_and_healed(
    host: Host, reason: str, rule: str, entries: Callable[[Entry], list[Entry]]
) -> None:
    pid = host.install("1.0.0")
    host.meta.desire(*entries(host.meta.agent(NAME, "1.0.0")))
    before = len(host.meta.requests)

    applied = host.apply()

    assert applied.code == 3
    assert {(one["reason"], one["rule"]) for one in applied.document["refused"]} == {(reason, rule)}
    assert (host.pid(), applied.actions()) == (pid, ""), "untouched"
    assert applied.condition("Ready") == ("False", reason)
    assert (host.meta.reported(NAME) or {})["status"] == "started"

    crashed(host)
    healed = host.apply()
    assert healed.code == 3
    assert (host.ask().version, host.ask().pid != pid) == ("1.0.0", True)
    assert {request.method for request in host.meta.requests[before:]} == {"POST"}, "nothing was fetched for it"

    host.desire("1.0.0")
    assert host.apply().code == 0


def test_the_entry_accepted_last_survives_many_refusals_and_each_process(host: Host) -> None:
    host.install("1.0.0")
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), "md5": "ask Bob"})
    for _ in range(2):
        assert host.apply().code == 3
    crashed(host)
    host.meta.down()
    assert host.apply().code == 3
    assert host.ask().version == "1.0.0", "healed without an answer, too"


def test_half_a_config_is_as_without_until_one_was_delivered(host: Host) -> None:
    pid = host.install("1.0.0")
    host.desire("1.0.0", configFileName="cfg.json")
    assert host.apply().code == 0
    url = host.meta.publish_config("cfg.json", b"{}")
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)
    assert host.apply().code == 0
    host.desire("1.0.0", configRemoteUrl=url)
    applied = host.apply()
    assert (applied.code, [one["rule"] for one in applied.document["refused"]]) == (3, ["config"])
    crashed(host)
    host.apply()
    assert host.ask().pid != pid


def test_what_says_stop_is_stopped_whatever_else_is_wrong_in_it(host: Host) -> None:
    host.install("1.0.0")
    host.meta.desire(
        {**host.meta.agent(NAME, "1.0.0"), "cmd": "Stop ", "version": 1.5, "md5": "ask Bob", "tarball": []}
    )
    assert host.apply().code == 0
    assert host.pid() is None


@pytest.mark.parametrize("keys", [{"cmd": "restart"}, {"cmd": 1}, {"cmd": "stop", "workDir": "/etc"}])
def test_what_does_not_say_start_starts_nothing(host: Host, keys: Entry) -> None:
    pid = host.install("1.0.0")
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), **keys})
    assert host.apply().code == 3
    assert host.pid() == pid
    crashed(host)
    assert host.apply().code == 3
    assert host.pid() is None
    assert (host.meta.reported(NAME) or {})["status"] == "stoped"


def test_the_kept_entry_is_forgotten_when_its_agent_vanishes_from_the_list(host: Host) -> None:
    host.install("1.0.0")
    host.publish("1.0.0", "other-agent")
    host.meta.desire(host.meta.agent("other-agent", "1.0.0"))
    assert host.apply().code == 0
    crashed(host)
    host.meta.desire(host.meta.agent("other-agent", "1.0.0"), {**host.meta.agent(NAME, "1.0.0"), "md5": "ask Bob"})
    assert host.apply().code == 3
    assert host.pid() is None
    assert host.meta.reported(NAME) is None


def test_what_an_operator_rules_out_is_looked_at_and_not_started(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(allow_work_dirs=["/srv/elsewhere"])
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (3, ("False", "PolicyRefused"))
    assert (host.pid(), (host.meta.reported(NAME) or {})["status"]) == (pid, "started")
    crashed(host)
    assert host.apply().code == 3
    assert host.pid() is None


def test_rules_of_versions_bar_no_heal_of_a_refused_entry(host: Host) -> None:
    host.install("1.0.0")
    host.configure(min_version={NAME: "9"}, require_sha256=True, mirrors=["http://files.example.com"])
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), "md5": "ask Bob"})
    crashed(host)
    assert host.apply().code == 3
    assert host.ask().version == "1.0.0"


# A host of the older line


def test_a_config_of_the_older_line_starts_unchanged_and_takes_its_agent_alone(host: Host) -> None:
    for name in (NAME, "other-agent"):
        host.publish("1.0.0", name)
    host.configure(desiredAgent=NAME, debug=True)
    host.meta.desire(
        host.meta.agent(NAME, "1.0.0"),
        host.meta.agent("other-agent", "1.0.0"),
        {**host.meta.agent("other-agent", "1.0.0"), "name": "third", "md5": "ask Bob"},
    )
    applied = host.apply()
    assert (applied.code, applied.document["refused"]) == (0, [])
    assert [agent["name"] for agent in applied.document["agents"]] == [NAME]
    assert not host.home("other-agent").exists()
    assert host.apply().code == 0
    planned = host.plan()
    assert ([agent["name"] for agent in planned.document["agents"]], planned.document["refused"]) == ([NAME], [])


def test_agents_beyond_allow_agents_are_left_alone_and_plan_and_check_list_them(host: Host) -> None:
    host.install("1.0.0")
    host.publish("1.0.0", "other-agent")
    host.configure(allow_agents=["other-agent"])
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other-agent", "1.0.0"))
    applied = host.apply()
    assert (applied.code, applied.document["refused"]) == (0, [])
    assert [agent["name"] for agent in applied.document["agents"]] == ["other-agent"]
    crashed(host)
    silent = host.updater("apply", "--once")
    assert (silent.code, silent.out, silent.err) == (0, "", ""), "no exit code and no word of it"
    assert host.pid() is None
    assert host.meta.reported(NAME) is None, "as one that vanished from the list"
    assert [(one["name"], one["rule"]) for one in host.plan().document["refused"]] == [(NAME, "allow_agents")]
    for command in ("plan", "check"):
        reported = host.updater(command).out
        assert NAME in reported
        assert "rule allow_agents" in reported
    assert host.updater("plan", "--detailed-exitcode").code == 0


# Told to stop, and then to start at another version


@pytest.fixture
def stopped_by_cmd(host: Host) -> Host:
    """1.0.0 ran, its `cmd` became stop, and it is stopped; each command is a process of its own, as from cron."""
    host.configure(watch="10m", control_timeout={"start": 2, "stop": 2})
    host.install("1.0.0")
    host.desire("1.0.0", "stop")
    assert host.apply().code == 0
    assert host.pid() is None
    return host


def versions_run(host: Host) -> list[str]:
    """Which versions the history says were started since the stop, or were to be."""
    events = host.history()
    stop = max(n for n, event in enumerate(events) for action in event["actions"] if action["type"] == "stop")
    actions = [action for event in events[stop + 1 :] for action in event["actions"]]
    return [one["version"] for one in actions if one["type"] == "start" and one["result"] != "skipped"]


def test_the_old_version_is_not_started_while_the_new_one_can_not_be_had(stopped_by_cmd: Host) -> None:
    host = stopped_by_cmd
    host.publish("2.0.0")
    host.meta.vanish(NAME, "2.0.0")
    host.desire("2.0.0")
    for _ in range(2):
        applied = host.apply()
        assert (applied.code, host.pid()) == (3, None), applied
    host.meta.down()
    assert host.apply().code == 3
    assert host.pid() is None, "nor without an answer"
    assert host.plan().agent()["held"]["meanwhile"] == []
    host.meta.up()
    host.meta.heal()
    host.updater("release", NAME)
    assert host.apply().code == 0
    assert (host.ask().version, versions_run(host)) == ("2.0.0", ["2.0.0"])


def test_a_new_version_that_fails_stays_stopped_and_is_reported_as_rolled_back(
    stopped_by_cmd: Host,
) -> None:
    host = stopped_by_cmd
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (3, ("False", "RolledBack"))
    assert host.pid() is None
    for _ in range(2):
        again = host.apply()
        assert (again.code, again.condition("Ready"), again.agent()["held"]["meanwhile"]) == (
            3,
            ("False", "Quarantined"),
            [],
        )
    assert (host.pid(), versions_run(host)) == (None, ["2.0.0"])
    assert host.updater("apply", "--timeout", "60").code == 3, "it does not wait for what is never started"

    host.desire("1.0.0")
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0", "until an answer says start at that version"


def test_an_operator_who_rolls_back_to_it_has_it_started(stopped_by_cmd: Host) -> None:
    host = stopped_by_cmd
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert host.apply().code == 3
    assert host.updater("rollback", NAME, "--to", "1.0.0").code == 0
    assert host.ask().version == "1.0.0"
    crashed(host)
    host.apply()
    assert host.ask().version == "1.0.0", "and healed there"


# The md5 that was forgotten


@pytest.mark.parametrize("cached", [True, False], ids=["in the cache", "on the disk alone"])
def test_a_digest_forgotten_at_the_server_brings_no_old_bytes_under_a_new_name(host: Host, cached: bool) -> None:
    pid = host.install("1.0.0")
    host.publish("2.0.0")
    entry = host.meta.agent(NAME, "2.0.0")
    old = host.meta.release(NAME, "1.0.0").md5
    if not cached:
        shutil.rmtree(host.var / "cache")
    host.meta.desire({**entry, "md5": old})
    before = len(host.meta.requests)

    applied = host.apply()

    assert (applied.code, applied.condition("Ready")) == (3, ("False", "DigestMismatch"))
    assert host.downloads(since=before) == [f"{NAME}-2.0.0.tar.gz"], "it was fetched"
    assert f"which is the digest of {NAME} 1.0.0" in applied.out
    assert (host.pid(), host.version(), host.versions()) == (pid, "1.0.0", ["1.0.0"])

    host.meta.desire(entry)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"
