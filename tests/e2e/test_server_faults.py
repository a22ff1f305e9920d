"""No fault of a server or of the network stops, restarts or changes a running agent; and what crashed is healed."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.e2e.host import NAME, Host, snapshot
from tests.e2e.processes import LIMIT_S, until

pytestmark = [pytest.mark.slow, pytest.mark.warm]

# A valid answer that would change much, were it taken from where it stands.
STOP = json.dumps({"errorMessage": "", "desiredAgents": [{"name": NAME, "version": "1.0.0", "cmd": "stop"}]})
HTML = "<html><head><title>504</title></head><body>Gateway Time-out</body></html>"

NO_ANSWERS = {
    "an error message": (200, STOP.replace('"errorMessage": ""', '"errorMessage": "db is down"'), "application/json"),
    "success is false": (200, '{"success": false, "message": "no such host"}', "application/json"),
    "success is false beside agents": (200, STOP.replace("{", '{"success": false, ', 1), "application/json"),
    "body is blank": (400, "body is blank", "text/plain"),
    "hostname is blank": (400, "hostname is blank", "text/plain"),
    "a page of a proxy": (200, HTML, "text/html"),
    "a page with an error status": (504, HTML, "text/html"),
    "valid JSON with 500": (500, STOP, "application/json"),
    "valid JSON with 429": (429, STOP, "application/json"),
    "nothing": (200, "", "application/json"),
    "half of an answer": (200, STOP[: len(STOP) // 2], "application/json"),
    "no desiredAgents": (200, '{"errorMessage": ""}', "application/json"),
    "desiredAgents is an object": (200, '{"errorMessage": "", "desiredAgents": {}}', "application/json"),
    "a list": (200, "[]", "application/json"),
}


def test_what_is_no_answer_touches_nothing(host: Host) -> None:
    """One host for all of them: each must leave it exactly as it was."""
    pid = host.install("1.0.0")
    host.settle()
    before = snapshot(host.work)

    for what, (status, body, kind) in NO_ANSWERS.items():
        host.meta.answer_raw(status, body, kind)
        result = host.apply()
        host.meta.heal()

        assert result.code == 0, what
        assert result.actions() == "", what
        assert result.condition("ServerReachable", None)[0] == "False", what
        assert result.condition("Ready") == ("True", "AsDesired"), what
        assert host.pid() == pid, what
    assert snapshot(host.work) == before


@pytest.mark.parametrize("fault", ["down", "an error message", "redirect"])
def test_without_an_answer_what_crashed_is_started_again_from_memory(host: Host, fault: str) -> None:
    host.install("1.0.0")
    _break(host, fault)
    host.crash()

    healed = host.apply()

    assert (healed.code, healed.actions()) == (0, "start"), healed
    assert host.ask().version == "1.0.0"
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz"]


def _break(host: Host, fault: str) -> None:
    if fault == "down":
        host.meta.down()
    elif fault == "redirect":
        host.meta.redirect("/heartbeat", f"{host.meta.url}/elsewhere")
    else:
        host.meta.answer_raw(*NO_ANSWERS[fault])


def test_without_an_answer_a_change_waits_and_a_crash_does_not(host: Host) -> None:
    """An upgrade was accepted and could not be made; then the server goes, and the agent crashes."""
    pid = host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.fail(404, f"{NAME}-2.0.0.tar.gz")
    assert host.apply().code == 3
    assert host.pid() == pid
    host.meta.heal()
    host.meta.fail(500, "/heartbeat")

    held = host.apply()
    assert (held.code, held.condition("Ready")) == (3, ("False", "ServerUnreachable"))
    assert held.agent()["held"]["reason"] == "ServerUnreachable"
    assert held.actions() == "fetch verify unpack stop switch start", "what would be done is still reported"
    assert host.pid() == pid

    host.crash()
    healed = host.apply()
    assert [action["type"] for action in healed.agent()["held"]["meanwhile"]] == ["start"]
    assert healed.agent()["held"]["meanwhile"][0]["result"] == "done"
    assert host.ask().version == "1.0.0", "at the version in use"

    host.meta.heal()
    assert host.apply().agent()["held"]["reason"] == "BackingOff", "the tarball that failed is not asked for at once"
    assert host.updater("release", NAME).code == 0
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_stop_waits_for_an_answer_too(host: Host) -> None:
    """The wish to stop was accepted, and a person started the agent by hand while the server is down."""
    host.install("1.0.0")
    host.desire("1.0.0", "stop")
    assert host.apply().code == 0
    host.meta.down()
    assert host.run(str(host.home() / "1.0.0" / "control"), "start").code == 0
    pid = host.ask().pid

    held = host.apply()

    assert (held.code, held.agent()["held"]["reason"]) == (3, "ServerUnreachable")
    assert host.pid() == pid

    done = host.apply("--offline")
    assert (done.code, done.actions()) == (0, "stop")
    assert host.pid() is None


def test_offline_does_what_was_last_accepted_on_an_operators_word(host: Host) -> None:
    """The server is down, the file server is not (here they are one, so the heartbeat alone fails)."""
    host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.fail(404, f"{NAME}-2.0.0.tar.gz")
    assert host.apply().code == 3
    host.meta.heal()
    host.meta.fail(500, "/heartbeat")
    beats = len(host.meta.heartbeats)
    assert host.plan("--offline").agent()["held"]["reason"] == "BackingOff"
    assert host.updater("release", NAME).code == 0
    assert host.plan("--offline").actions() == "fetch verify unpack stop switch start"

    done = host.apply("--offline")

    assert (done.code, done.agent()["held"]) == (0, None)
    assert host.ask().version == "2.0.0"
    assert len(host.meta.heartbeats) == beats, "offline means that no server is asked or gets a report"


def test_a_daemon_heals_from_memory_while_the_server_is_down(host: Host) -> None:
    host.install("1.0.0")
    host.crash()
    host.meta.down()
    host.configure(interval=1)
    with host.daemon() as daemon:
        until(host.pid, "the crash is healed at the daemon's start")
        host.ask()
        host.wait_for_log("ServerReachable is now False")
        host.crash()
        until(host.pid, "the crash is healed amid the outage")
        host.meta.up()
        host.meta.wait_for_heartbeat(lambda beat: bool(beat["realAgents"]), LIMIT_S, since=2)
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0


def test_a_daemon_that_never_had_an_answer_waits_for_one(host: Host) -> None:
    host.meta.down()
    host.configure(interval=1)
    host.publish("1.0.0")
    host.desire("1.0.0")
    with host.daemon("--now") as daemon:
        host.wait_for_log("no answer was accepted before")
        assert daemon.runs
        host.meta.up()
        host.meta.wait_for_heartbeat(lambda beat: bool(beat["realAgents"]), LIMIT_S)
    assert host.ask().version == "1.0.0"


def test_a_cut_download_is_resumed(host: Host) -> None:
    host.publish("1.0.0", size=3 * 1024 * 1024)
    host.desire("1.0.0")
    host.meta.cut(f"{NAME}-1.0.0.tar.gz", after=1024 * 1024, times=1)

    result = host.apply()

    assert result.code == 0
    first, second = [request for request in host.meta.requests if request.path.endswith(f"{NAME}-1.0.0.tar.gz")]
    assert "range" not in first.headers
    assert re.fullmatch(r"bytes=[1-9]\d*-", second.headers["range"])
    assert second.headers["if-range"].startswith('"')
    assert second.status == 206
    assert [action["attempts"] for action in result.agent()["actions"] if action["type"] == "fetch"] == [2]


def test_a_download_is_resumed_by_the_next_run(host: Host) -> None:
    """A killed run leaves its bytes for the next one."""
    host.publish("1.0.0", size=3 * 1024 * 1024)
    host.desire("1.0.0")
    host.meta.stall(f"{NAME}-1.0.0.tar.gz")
    run = host.begin("apply", "--once")
    parts = host.var / "cache"
    until(lambda: any(path.stat().st_size > 2**20 for path in parts.glob("*.part")), "a part of it has arrived")
    run.send(signal.SIGKILL)
    run.ended()
    host.meta.heal()

    assert host.apply().code == 0

    assert [request.status for request in host.meta.requests if request.path.endswith(".tar.gz")] == [200, 206]
    assert host.ask().version == "1.0.0"


def test_a_server_that_can_not_resume_is_begun_again_with(host: Host) -> None:
    host.publish("1.0.0", size=3 * 1024 * 1024)
    host.desire("1.0.0")
    host.meta.ignore_ranges()
    host.meta.cut(f"{NAME}-1.0.0.tar.gz", after=1024 * 1024, times=1)

    assert host.apply().code == 0

    assert [request.status for request in host.meta.requests if request.path.endswith(".tar.gz")] == [200, 200]


def test_a_busy_file_server_is_asked_again_within_the_pass(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    host.meta.fail(503, f"{NAME}-1.0.0.tar.gz", retry_after=1, times=1)

    result = host.apply()

    assert result.code == 0
    assert result.agent()["actions"][0]["attempts"] == 2


def test_a_bounded_rate_is_kept_to_and_does_its_work(host: Host) -> None:
    """The bound is a lower one for the time, and so depends on no machine's speed."""
    size = 2 * 1024 * 1024
    host.configure(max_download_rate=2 * size)
    host.publish("1.0.0", size=size)
    host.desire("1.0.0")

    result = host.apply()

    assert result.code == 0
    [seconds] = [action["seconds"] for action in result.agent()["actions"] if action["type"] == "fetch"]
    assert seconds > 0.4
    assert host.ask().version == "1.0.0"


def test_a_tarball_that_vanished_leaves_the_agent_and_its_sibling_is_served(host: Host) -> None:
    pid = host.install("1.0.0")
    for name in (NAME, "sibling"):
        host.publish("2.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent("sibling", "2.0.0"))
    host.meta.vanish(NAME, "2.0.0")

    result = host.apply()

    assert result.code == 3
    assert result.condition("Ready") == ("False", "FetchFailed")
    assert "404" in result.agent()["conditions"][0]["message"]
    assert result.condition("Ready", "sibling") == ("True", "Confirming")
    assert host.pid() == pid
    assert host.ask("sibling").version == "2.0.0"


def test_a_tarball_larger_than_allowed_is_refused(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(max_tarball="100KiB")
    host.publish("2.0.0", size=200 * 1024)
    host.desire("2.0.0")

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, ("False", "FetchFailed"))
    assert "max_tarball" in result.agent()["conditions"][0]["message"]
    assert host.pid() == pid
