"""An operator's hand on an agent: hold, release, and back to a version that is then kept to."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone

import pytest

from tests.e2e.host import NAME, Host, snapshot
from tests.e2e.processes import Processes, until
from tests.e2e.steps import holding

pytestmark = [pytest.mark.slow, pytest.mark.warm]

HELD = ("False", "HeldByOperator")


def hold_file(host: Host, content: bytes) -> None:
    """Drop a hold as configuration management would."""
    folder = host.var / "holds"
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.json").write_bytes(content)


def in_an_hour(hours: float = 1) -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- hold and release ---


def test_a_held_agent_is_observed_and_reported_and_nothing_else(host: Host) -> None:
    """Not upgraded, not stopped, not even healed; and 0, since that is what an operator wanted."""
    pid = host.install("1.0.0")
    host.settle()
    held = host.updater("hold", NAME, "--reason", "looking at a leak", "--for", "2h")
    assert (held.code, held.out) == (
        0,
        f"{NAME} held for 2h00m: looking at a leak (`updater release {NAME}` ends it)\n",
    )
    host.publish("2.0.0")
    host.desire("2.0.0")

    for _ in range(2):
        result = host.apply()
        assert (result.code, result.condition("Ready")) == (0, HELD)
        assert result.condition("Held") == ("True", "HeldByOperator")
        assert result.agent()["held"]["meanwhile"] == []
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz"]
    assert host.pid() == pid

    host.crash()
    assert host.apply().code == 0
    assert host.updater("status", "--detailed-exitcode").code == 0
    assert host.pid() is None, "crashes included"
    assert (host.meta.reported(NAME) or {})["status"] == "stoped", "but it is reported as it is"

    released = host.updater("release", NAME)
    assert (released.code, "ended: the hold of" in released.out) == (0, True)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_who_why_and_until_stand_in_plan_status_and_json(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.updater("hold", NAME, "--reason", "looking at a leak", "--for", "2h").code == 0

    for text in (host.updater("plan").out, host.updater("status").out, host.updater("why", NAME).out):
        assert "HeldByOperator" in text
        assert "looking at a leak" in text
    planned = host.plan("--detailed-exitcode")
    assert (planned.code, planned.actions()) == (2, "fetch verify unpack stop switch start")
    reported = planned.agent()["held"]
    assert (reported["reason"], reported["message"].endswith(": looking at a leak")) == ("HeldByOperator", True)
    assert reported["until"] > in_an_hour()
    quiet = host.updater("status", "-q", "--detailed-exitcode")
    assert (quiet.code, quiet.out) == (0, ""), "an operator's hold is no trouble"
    content = json.loads((host.var / "holds" / f"{NAME}.json").read_text())
    assert set(content) == {"owner", "reason", "since", "until"}
    assert content["reason"] == "looking at a leak"
    assert (host.var / "holds").stat().st_mode & 0o077 == 0


def test_all_are_held_and_released_at_once(host: Host) -> None:
    for name in (NAME, "other"):
        host.publish("1.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "1.0.0"))
    assert host.apply().code == 0
    host.settle()
    assert host.updater("hold", "--all", "--reason", "freeze").code == 0
    for name in (NAME, "other"):
        host.crash(name)

    result = host.apply()
    assert result.code == 0
    assert [result.condition("Ready", name) for name in (NAME, "other")] == [HELD, HELD]
    assert "(all agents)" in host.updater("plan").out

    assert host.updater("release", "--all").code == 0
    assert host.apply().code == 0
    assert host.ask("other").version == host.ask().version == "1.0.0"


def test_one_held_agent_does_not_hide_the_trouble_of_another(host: Host) -> None:
    host.publish("1.0.0")
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "9.9.9"))
    assert host.updater("hold", NAME, "--reason", "r").code == 64, "it is not known yet"
    assert host.updater("hold", NAME, "--reason", "r", "--ahead").code == 0

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, HELD)
    assert not host.home().exists()


def test_a_hold_ends_by_itself(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    assert host.updater("hold", NAME, "--reason", "for a moment", "--for", "1s").code == 0
    host.crash()

    until(lambda: host.apply().agent()["held"] is None and host.pid() is not None, "the hold ends and it is healed")

    assert os.listdir(host.var / "holds") == []


def test_a_daemon_wakes_when_a_hold_ends(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.configure(interval="100d")
    assert host.updater("hold", NAME, "--reason", "for a moment", "--for", "3s").code == 0
    host.crash()
    with host.daemon("--now"):
        until(host.pid, "the hold ends and the crash is healed, long before the next slot")


DROPPED: dict[str, tuple[bytes, str]] = {
    "plain": (b'{"owner": "puppet", "reason": "maintenance"}', "puppet: maintenance"),
    "empty object": (b"{}", "unknown: no reason given"),
    "with an end": (b'{"owner": "puppet", "reason": "r", "until": "2999-01-01T00:00:00Z"}', "puppet: r"),
    "garbage": (b"\x00\xff garbage", "can't be read as a hold"),
    "empty": (b"", "can't be read as a hold"),
    "a list": (b"[1]", "can't be read as a hold"),
    "an end that is none": (b'{"until": "tomorrow"}', "can't be read as a hold"),
}


def test_a_hold_that_was_dropped_as_a_file_holds_in_doubt(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.crash()
    for what, (content, says) in DROPPED.items():
        hold_file(host, content)

        result = host.apply()

        assert (result.code, result.condition("Ready")) == (0, HELD), what
        assert says in result.agent()["held"]["message"], what
        assert host.pid() is None, what
    assert host.updater("release", NAME).code == 0
    assert host.apply().code == 0
    assert host.pid() is not None


def test_a_dropped_hold_whose_end_has_passed_holds_nothing(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    hold_file(host, json.dumps({"owner": "puppet", "reason": "r", "until": in_an_hour(-1)}).encode())
    host.crash()

    assert host.apply().code == 0

    assert host.pid() is not None
    assert os.listdir(host.var / "holds") == []


def test_hold_and_release_need_no_lock_and_a_release_is_shown_until_it_is_taken_up(
    host: Host, processes: Processes
) -> None:
    host.install("1.0.0")
    host.settle()
    with holding(host.var / "updater.lock", processes):
        assert host.updater("hold", NAME, "--reason", "r").code == 0
        assert host.status().condition("Ready") == HELD
        assert host.updater("release", NAME).code == 0
    assert sorted(os.listdir(host.var / "holds")) == [f"{NAME}.release"]
    assert host.plan().agent()["held"] is None
    assert sorted(os.listdir(host.var / "holds")) == [f"{NAME}.release"], "a plan takes nothing up"
    assert host.apply().code == 0
    assert os.listdir(host.var / "holds") == []


def test_a_hold_amid_a_download_is_heeded_before_the_stop(host: Host) -> None:
    pid = host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", size=3 * 1024 * 1024)
    host.desire("2.0.0")
    host.meta.stall(f"{NAME}-2.0.0.tar.gz")
    run = host.begin("apply", "--once", "-o", "json")
    until(lambda: any((host.var / "cache").glob("*.part")), "the download has begun")
    assert host.updater("hold", NAME, "--reason", "not now").code == 0
    host.meta.heal()

    assert run.ended().code in (0, 3)

    assert host.pid() == pid
    assert host.version() == "1.0.0"
    assert host.apply().condition("Ready") == HELD


# --- rollback NAME ---


@pytest.fixture
def upgraded(host: Host) -> Host:
    """A host with 2.0.0 in use and good, after 1.0.0."""
    host.install("1.0.0")
    host.settle()
    host.install("2.0.0")
    host.settle()
    return host


def test_rollback_goes_to_the_last_good_version_and_stays_there(upgraded: Host) -> None:
    host = upgraded
    before, beats = len(host.meta.requests), len(host.meta.heartbeats)

    back = host.updater("rollback", NAME, "-o", "json", env={"SUDO_USER": "ann"})

    assert (back.code, back.condition("Ready")) == (0, ("False", "Pinned")), back
    assert host.ask().version == "1.0.0"
    assert host.downloads(since=before) == []
    assert len(host.meta.heartbeats) == beats, "the server is not needed for it"
    assert f"updater release {NAME}" in host.updater("plan").out
    assert "Pinned" in host.updater("status").out
    assert (host.history()[-1]["by"], host.history()[-1]["reason"]) == ("operator:ann", "RolledBack")
    assert "RolledBack by operator:ann: 2.0.0 -> 1.0.0" in host.updater("history", NAME).out

    pid = host.pid()
    for _ in range(2):
        kept = host.apply()
        assert (kept.code, kept.condition("Ready")) == (3, ("False", "Pinned"))
    assert host.pid() == pid, "the server's wish waits"

    host.crash()
    assert host.apply().code == 3
    assert host.ask().version == "1.0.0", "a pinned agent is healed"

    host.publish("3.0.0")
    host.desire("3.0.0")
    assert host.apply().agent()["held"]["reason"] == "Pinned", "a newer wish as well"
    assert host.updater("release", NAME).code == 0
    assert host.apply().code == 0
    assert host.ask().version == "3.0.0"


def test_a_second_rollback_stays_whatever_was_released_and_held_meanwhile(upgraded: Host) -> None:
    """Never forward to the version that was just left, and what is asked for."""
    host = upgraded
    assert host.updater("rollback", NAME).code == 0
    pid = host.ask().pid
    assert host.updater("release", NAME).code == 0
    again = host.updater("rollback", NAME)
    assert (again.code, "1.0.0 is in use already" in again.err) == (0, True)
    assert host.apply().condition("Ready") == ("False", "Pinned"), "that release was before it"

    assert host.updater("release", NAME).code == 0
    assert host.updater("hold", NAME, "--reason", "wait").code == 0
    assert host.apply().condition("Ready") == HELD, "the pin has ended"
    assert host.updater("release", NAME).code == 0
    assert host.updater("rollback", NAME).code == 0
    assert (host.version(), host.ask().pid) == ("1.0.0", pid)


def test_rollback_works_while_the_server_is_down(upgraded: Host) -> None:
    host = upgraded
    host.meta.down()
    assert host.updater("rollback", NAME).code == 0
    assert host.ask().version == "1.0.0"
    assert host.apply().condition("Ready") == ("False", "Pinned")


def test_rollback_to_a_version_that_is_named(host: Host) -> None:
    host.configure(keep=3)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        host.install(version)
        host.settle()

    assert host.updater("rollback", NAME, "--to", "1.0.0").code == 0
    assert host.ask().version == "1.0.0"
    assert host.updater("rollback", NAME, "--to", "2.0.0").code == 0
    assert host.ask().version == "2.0.0"
    assert host.versions() == ["1.0.0", "2.0.0", "3.0.0"]


def test_rollback_to_what_is_not_on_disk_touches_nothing_and_says_what_is(upgraded: Host) -> None:
    host = upgraded
    before = snapshot(host.work)
    refused = host.updater("rollback", NAME, "--to", "7.7.7")
    assert (refused.code, refused.out) == (3, "")
    assert "7.7.7 is not on disk (there: 1.0.0, 2.0.0)" in refused.err
    assert snapshot(host.work) == before
    assert host.apply().condition("Ready") == ("True", "AsDesired"), "and nothing is pinned"


def test_rollback_with_nothing_to_go_back_to(host: Host) -> None:
    pid = host.install("1.0.0")
    assert host.updater("rollback", NAME).code == 3
    assert host.pid() == pid


def test_a_rollback_of_what_is_not_managed_says_why_and_touches_nothing(upgraded: Host) -> None:
    host = upgraded
    pid = host.ask().pid
    entry = host.meta.agent(NAME, "2.0.0")
    host.meta.desire(entry, {**entry, "name": "bad", "md5": "ask Bob"})
    host.apply()
    refused = host.updater("rollback", "bad")
    assert (refused.code, refused.out) == (3, "")
    assert "bad: nothing was touched: refused: InvalidSpec, rule md5: " in refused.err

    host.configure(allow_agents=["bad"])
    ruled_out = host.updater("rollback", NAME)
    assert (ruled_out.code, "not for this host, by rule allow_agents" in ruled_out.err) == (3, True)
    assert "by rule allow_agents" in host.updater("why", NAME).out

    host.configure(allow_agents=None)
    host.meta.desire()
    assert host.apply().code == 0
    nothing = host.updater("rollback", NAME)
    assert (nothing.code, "the server named no agents" in nothing.err) == (3, True)
    assert "2.0.0 started" in host.updater("why", NAME).out, "it is observed all the same"
    assert host.updater("apply", "--once", NAME).code == 0
    assert host.updater("apply", "--once", "nobody").code == 64
    assert (host.ask().pid, host.version()) == (pid, "2.0.0")


def test_rollback_is_made_of_what_runs_although_it_was_stopped_by_hand(upgraded: Host) -> None:
    host = upgraded
    host.crash()
    assert host.updater("rollback", NAME).code == 0
    assert host.ask().version == "1.0.0"


def test_rollback_waits_for_who_is_in_a_pass_and_then_says_75(upgraded: Host, processes: Processes) -> None:
    host = upgraded
    with holding(host.var / "updater.lock", processes) as pid:
        busy = host.updater("rollback", NAME, "--timeout", "1")
        assert (busy.code, busy.out) == (75, "")
        assert f"process {pid} " in busy.err
        assert host.ask().version == "2.0.0"
        waiting = host.begin("rollback", NAME, "--timeout", "60")
    assert waiting.ended().code == 0
    assert host.ask().version == "1.0.0"


def test_a_held_agent_is_held_from_a_rollback_too(upgraded: Host) -> None:
    host = upgraded
    assert host.updater("hold", NAME, "--reason", "hands off").code == 0
    away = host.updater("rollback", NAME)
    assert (away.code, "not back at 1.0.0: " in away.err, "hands off" in away.err) == (3, True, True)
    assert host.ask().version == "2.0.0"


@pytest.mark.parametrize(("cmd", "why"), [("stop", "ops-meta says stop"), ("", "it is to be observed only")])
def test_a_rollback_of_what_is_not_to_be_started_says_so(upgraded: Host, cmd: str, why: str) -> None:
    host = upgraded
    host.desire("2.0.0", cmd)
    host.apply()
    away = host.updater("rollback", NAME)
    assert (away.code, away.out, away.err.count("\n")) == (3, "", 1)
    assert f"not back at 1.0.0: {why}; it stays pinned there until `updater release {NAME}`" in away.err
    host.desire("2.0.0")
    assert host.apply().condition("Ready") == ("False", "Pinned")
    assert host.ask().version == "1.0.0"


def test_what_operators_did_stands_in_history(upgraded: Host) -> None:
    host = upgraded
    assert host.updater("rollback", NAME).code == 0
    reported = host.history()
    assert any("2.0.0 -> 1.0.0" in event["message"] for event in reported[-2:])
