"""The command line as a promise: exit codes, what goes to which stream, what writes nothing, that a plan is kept."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host, snapshot
from tests.e2e.processes import LIMIT_S, Processes, until
from tests.e2e.steps import holding
from updater.version import VERSION

pytestmark = pytest.mark.slow

# --- exit codes ---


def test_0_and_2_say_whether_something_is_pending_or_was_changed(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    assert host.updater("plan").code == 0
    assert host.updater("plan", "--detailed-exitcode").code == 2
    assert host.updater("apply", "--once", "--detailed-exitcode").code == 2
    assert host.updater("apply", "--once", "--detailed-exitcode").code == 0
    assert host.updater("plan", "--detailed-exitcode").code == 0


def test_2_of_a_plan_counts_blocked_changes_too(host: Host) -> None:
    host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.vanish(NAME, "2.0.0")
    assert host.apply().code == 3
    host.meta.down()
    planned = host.plan("--detailed-exitcode")
    assert (planned.code, planned.document["summary"]["held"]) == (2, 1)


def test_3_is_for_an_agent_that_is_not_as_desired(host: Host) -> None:
    host.install("1.0.0")
    assert host.updater("status", "--detailed-exitcode").code == 0
    host.crash()
    assert host.updater("status", "--detailed-exitcode").code == 3
    assert host.updater("status").code == 0
    host.meta.desire(host.meta.agent(NAME, "1.0.0", "restart"))
    assert host.updater("apply", "--once").code == 3


MEANINGLESS: list[list[str]] = [
    ["unknown"],
    ["plan", "--unknown"],
    ["apply", "--once", "--plan", "plan.json"],
    ["apply", "--plan", "missing.json"],
    ["apply", "--splay", "5"],
    ["apply", "--once", "--splay", "soon"],
    ["plan", "--desired", "http://me:secret@elsewhere/"],
    ["plan", "--desired", "a", "--offline"],
    ["plan", "nobody"],
    ["history", "--plan"],
    ["why"],
    ["logs"],
    ["logs", "nobody"],
    ["why", "nobody"],
    ["hold", NAME],
    ["hold", "--reason", "neither a name nor all"],
    ["hold", NAME, "--all", "--reason", "both"],
    ["hold", "../evil", "--reason", "no name"],
    ["hold", NAME, "--reason", "r", "--for", "soon"],
    ["release"],
    ["rollback"],
    ["rollback", "nobody"],
]


def test_64_is_for_what_can_not_be_meant(host: Host) -> None:
    """One host for all of them: none changes it."""
    host.install("1.0.0")
    for argv in MEANINGLESS:
        refused = host.updater(*argv)
        assert (refused.code, refused.out) == (64, ""), argv
        assert refused.err.startswith("updater: "), argv
    assert not (host.var / "holds").exists()


@pytest.mark.parametrize("command", ["plan", "apply --once", "status"])
def test_69_is_for_no_desired_state_at_all(host: Host, command: str) -> None:
    host.meta.down()
    refused = host.updater(*command.split())
    assert (refused.code, refused.out) == (69, "")
    assert refused.err.count("\n") == 1
    assert command == "status" or host.meta.server in refused.err


def test_69_is_for_a_memory_that_can_not_be_seen(host: Host) -> None:
    """Its agents are not known: a report would say that none is here."""
    host.install("1.0.0")
    reports = len(host.meta.heartbeats)
    host.var.rename(host.folder / "elsewhere")
    host.var.symlink_to(host.var.name)
    for command in "status", f"why {NAME}", "history", f"logs {NAME}", "plan --offline", "plan":
        refused = host.updater(*command.split())
        assert (refused.code, refused.out) == (69, ""), command
        assert f"{host.var}/state.db can't be read (" in refused.err, command
    checked = host.updater("check")
    assert checked.code == 3
    assert "not asked: without the memory the report would say that no agent is here" in checked.out
    assert len(host.meta.heartbeats) == reports


def test_75_names_who_is_in_a_pass_and_touches_nothing(host: Host, processes: Processes) -> None:
    host.install("1.0.0")
    host.crash()
    with holding(host.var / "updater.lock", processes) as pid:
        before = snapshot(host.work)
        beats = len(host.meta.heartbeats)
        busy = host.updater("apply", "--once")
        assert (busy.code, busy.out) == (75, "")
        assert f"process {pid} " in busy.err
        assert busy.err.count("\n") == 1
        assert snapshot(host.work) == before
        assert len(host.meta.heartbeats) == beats
        assert host.updater("apply", "--timeout", "1").code == 75

        assert host.updater("plan").code == 0, "what only reads never needs the lock"
        assert host.updater("status").code == 0
    assert host.apply().code == 0


def test_apply_waits_for_who_is_in_a_pass(host: Host, processes: Processes) -> None:
    host.install("1.0.0")
    host.crash()
    with holding(host.var / "updater.lock", processes):
        waiting = host.begin("apply", "--timeout", "60")
        # Not that it waits is waited for (nothing shows that), but that it has come as far as the lock.
        until(lambda: _opened(waiting.pid, host.var / "updater.lock"), "apply waits for the lock")
        assert waiting.runs
    assert waiting.ended().code == 0
    assert host.pid() is not None


def _opened(pid: int, path: Path) -> bool:
    try:
        return any(os.readlink(entry) == str(path) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.parametrize("command", ["plan", "apply --once", "status", "daemon", "daemon --check"])
def test_78_prints_every_error_of_the_config_at_once(host: Host, command: str) -> None:
    host.configure(intervall=5, parallel=0, http={"enabled": "yes"}, server=None)

    refused = host.updater(*command.split())

    assert (refused.code, refused.out) == (78, "")
    lines = refused.err.splitlines()
    assert len(lines) == 4
    assert any("intervall: unknown key; did you mean `interval`?" in line for line in lines)
    assert any("parallel: expected a number from 1 to 1024, found 0" in line for line in lines)
    assert any("http.enabled: expected true or false" in line for line in lines)
    assert any("server: missing" in line for line in lines)
    assert not host.var.exists()


def test_78_of_a_missing_config_names_the_example(host: Host) -> None:
    (host.folder / "cfg.json").unlink()
    refused = host.updater("plan")
    assert refused.code == 78
    assert "cfg.example.json" in refused.err


def test_todays_config_starts_unchanged_and_is_served(host: Host) -> None:
    host.configure(
        log_level="info", hostname="", interval=300, watch=None, http={"enabled": True, "listen": "127.0.0.1:0"}
    )
    with host.daemon("--now") as daemon:
        beat = host.meta.wait_for_heartbeat(timeout=LIMIT_S)
        daemon.send(signal.SIGTERM)
        ended = daemon.ended()
    assert ended.code == 0
    assert ended.err == ""
    assert host.local_http().startswith("http://127.0.0.1:")
    assert beat["hostname"], "the system's own"


def test_help_and_version(host: Host) -> None:
    assert host.updater("--version").out == f"ops-updater {VERSION}\n"
    for verb in ("plan apply daemon status history why logs hold release rollback demo").split():
        assert verb in host.updater("--help").out
        helped = host.updater(verb, "--help")
        assert helped.code == 0
        assert "examples:" in helped.out


# --- what is printed ---


def test_standard_output_carries_one_document_and_nothing_else(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    kinds = {"Plan": host.plan(), "Result": host.apply(), "Status": host.status()}
    for kind, result in kinds.items():
        document = result.document
        assert (document["format_version"], document["kind"], document["host"]) == ("1.0", kind, "liutian-01")
        assert {"created_at", "desired_from", "desired_age_s", "agents", "refused", "conditions", "summary"} <= set(
            document
        )
        assert {condition["type"] for condition in document["conditions"]} == {
            "ServerReachable",
            "StateStored",
            "ToolsPresent",
        }
        assert result.err == ""
        [agent] = document["agents"]
        assert {"name", "run_user", "work_dir", "observed", "desired", "reason", "message", "actions", "held"} <= set(
            agent
        )


def test_a_reader_that_went_away_is_no_error(host: Host) -> None:
    host.install("1.0.0")
    command = f"{shlex.join(host.command('plan', '-o', 'json'))} | true"
    assert host.run("sh", "-c", command).err == ""


def test_colours_are_for_terminals_or_on_demand(host: Host) -> None:
    host.install("1.0.0")
    assert "\x1b" not in host.updater("plan").out
    assert "\x1b" in host.updater("plan", "--color", "always").out
    assert "\x1b" not in host.updater("plan", "--color", "always", "-o", "json").out


def test_quiet_prints_only_what_is_not_as_desired(host: Host) -> None:
    host.install("1.0.0")
    assert NAME not in host.updater("status", "-q").out
    host.crash()
    assert NAME in host.updater("status", "-q").out
    assert NAME in host.updater("plan", "-q").out


# --- a plan writes nothing, and is what is done ---


def kill_amid_a_pass(host: Host) -> None:
    """Kill a daemon amid a pass: its database is then left open."""
    host.publish("2.0.0", size=3 * 1024 * 1024)
    host.desire("2.0.0")
    host.meta.stall(f"{NAME}-2.0.0.tar.gz")
    with host.daemon("--now") as daemon:
        until(lambda: list((host.var / "cache").glob("*.part")), "the daemon is amid a pass")
        daemon.send(signal.SIGKILL)
        daemon.ended()
    host.meta.heal()


@pytest.mark.parametrize("killed", [False, True], ids=["at rest", "after a killed daemon"])
def test_plan_and_status_write_nothing(host: Host, killed: bool) -> None:
    host.install("1.0.0")
    if killed:
        kill_amid_a_pass(host)
    else:
        host.publish("2.0.0")
        host.desire("2.0.0")
    before = snapshot(host.folder, host.work)

    assert host.plan().actions() == "fetch verify unpack stop switch start"
    assert host.updater("plan").code == 0
    assert host.plan("--offline").code == 0
    assert host.status().agent()["observed"]["version"] == "1.0.0"
    assert host.updater("status").code == 0

    assert snapshot(host.folder, host.work) == before


def test_plan_and_status_make_not_even_the_folder(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    assert host.plan().actions() == "fetch verify unpack switch start"
    assert host.status().code == 69
    assert not host.var.exists()
    assert not host.work.exists()


def test_a_plan_reports_as_any_pass_does_and_status_asks_no_server(host: Host) -> None:
    host.install("1.0.0")
    before = len(host.meta.requests)
    host.plan()
    assert [request.path for request in host.meta.requests[before:]] == ["/api/heartbeat"]
    assert [agent["version"] for agent in host.meta.heartbeats[-1]["realAgents"]] == ["1.0.0"]
    before = len(host.meta.requests)
    host.status()
    assert host.meta.requests[before:] == []


def test_apply_does_what_plan_said_and_nothing_is_left_then(host: Host) -> None:
    """For every kind of difference: the plan's actions are those that are done, in that order."""
    url = host.meta.publish_config("/conf/cfg.json", b'{"greeting": "one"}')
    config = {"configFileName": "cfg.json", "configRemoteUrl": url}

    def check(what: str, reason: str) -> None:
        planned = host.plan()
        done = host.apply()
        assert planned.agent()["reason"] == done.agent()["reason"] == reason, what
        for key in ("actions", "heal"):
            wanted, made = (ran.agent()[key] for ran in (planned, done))
            assert [action["type"] for action in wanted] == [action["type"] for action in made], what
            assert bool(made) == ((reason == "Healing") == (key == "heal")), what
            assert {action["result"] for action in made} <= {"done", "unchanged"}, what
        assert host.plan("--detailed-exitcode").code == 0, what
        if not what.startswith("stop"):
            host.settle()

    host.publish("1.0.0")
    host.publish("2.0.0")
    host.desire("1.0.0", **config)
    check("first install", "FirstInstall")
    host.desire("2.0.0", **config)
    check("upgrade", "VersionDiffers")
    host.desire("1.0.0", **config)
    check("downgrade", "VersionDiffers")
    host.crash()
    check("crash", "Healing")
    host.meta.publish_config("/conf/cfg.json", b'{"greeting": "two"}')
    check("config", "ConfigDiffers")
    host.publish("1.0.0", extra={"more": b"x"})
    host.desire("1.0.0", **config)
    check("replacement", "DigestDiffers")
    host.desire("1.0.0", "stop", **config)
    check("stop", "UnexpectedlyRunning")


def test_69_is_for_a_desired_file_that_is_no_answer_and_the_server_is_no_substitute(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    wish = host.folder / "wish.json"
    host.crash()
    for content in (None, "{", '{"desiredAgents": {}}', '{"errorMessage": "no", "desiredAgents": []}'):
        if content is not None:
            wish.write_text(content)
        for command in (["plan"], ["status"], ["apply", "--once"], ["apply"]):
            refused = host.updater(*command, "--desired", str(wish))
            assert (refused.code, refused.out, refused.err.count("\n")) == (69, "", 1), (command, content)
            assert str(wish) in refused.err
    assert host.pid() is None, "nothing was touched"
    healed = host.updater("apply", "--once")
    assert (healed.code, "ServerReachable" in healed.out) == (0, False), "of the server nothing was learned"


def test_what_a_desired_file_says_is_no_news_of_the_server(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.meta.down()
    assert "ServerReachable" in host.updater("apply", "--once").out
    wish = host.folder / "wish.json"
    wish.write_text(json.dumps({"desiredAgents": [host.meta.agent(NAME, "1.0.0")]}))
    assert host.updater("apply", "--once", "--desired", str(wish)).out == ""
    assert host.updater("apply", "--once").out == "", "the outage goes on, and was printed"


def test_a_desired_file_is_planned_for_without_asking_a_server(host: Host) -> None:
    host.install("1.0.0")
    host.publish("2.0.0")
    wish = host.folder / "wish.json"
    wish.write_text(json.dumps({"desiredAgents": [host.meta.agent(NAME, "2.0.0")]}))
    before = len(host.meta.heartbeats)

    planned = host.plan("--desired", str(wish))

    assert planned.actions() == "fetch verify unpack stop switch start"
    assert len(host.meta.heartbeats) == before
    done = host.updater("apply", "--once", "--desired", str(wish), env={"SUDO_USER": "ann"})
    assert (done.code, host.ask().version) == (0, "2.0.0")
    host.apply("--desired", str(wish))  # it is good since
    reported = [(event["reason"], event["by"]) for event in host.history()]
    assert reported[0] == ("FirstInstall", "server")
    upgraded = reported.index(("VersionDiffers", "operator:ann"))
    assert {by.partition(":")[0] for _, by in reported[upgraded:]} == {"operator"}
    assert "VersionDiffers by operator:ann: 1.0.0 -> 2.0.0" in host.updater("history").out


def test_a_plan_for_a_desired_file_asks_no_agent_that_is_not_in_it(host: Host) -> None:
    """Other agents cost nothing: they may be many, and any of them may hang."""
    for name in (NAME, "other"):
        host.publish("1.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "1.0.0"))
    assert host.apply().code == 0
    calls = host.folder / "calls"
    control = host.home("other") / "1.0.0" / "control"
    control.write_text(f"#!/bin/sh\necho $1 >>{calls}\necho started\n")
    wish = host.folder / "wish.json"
    wish.write_text(json.dumps({"desiredAgents": [host.meta.agent(NAME, "1.0.0")]}))

    planned = host.plan("--desired", str(wish))
    assert [agent["name"] for agent in planned.document["agents"]] == [NAME]
    assert (planned.agent()["observed"]["status"], planned.agent()["reason"]) == ("started", "AsDesired")
    assert not calls.exists()

    assert host.plan().agent("other")["observed"]["status"] == "started"
    assert calls.read_text() == "status\n", "the server gets all"
    wish.write_text(json.dumps({"desiredAgents": []}))
    assert [agent["name"] for agent in host.plan("--desired", str(wish)).document["agents"]] == [NAME, "other"]


# --- our own folder ---


def test_var_is_private(host: Host) -> None:
    host.install("1.0.0")
    assert host.var.stat().st_mode & 0o777 == 0o700
    assert (host.var / "app.log").stat().st_mode & 0o077 == 0
    host.var.chmod(0o755)
    assert host.apply().code == 0
    assert host.var.stat().st_mode & 0o777 == 0o700


def test_the_lock_of_a_killed_run_is_free(host: Host) -> None:
    host.install("1.0.0")
    kill_amid_a_pass(host)
    with (host.var / "updater.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"
