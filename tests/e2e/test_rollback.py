"""A change that breaks the agent is rolled back, once, without a download; and what failed is remembered, not retried.

Each story runs by `apply --once`, as cron does: whatever the next run knows comes from the disk.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.host import NAME, Completed, Host
from tests.e2e.processes import LIMIT_S, until
from tests.e2e.steps import desire_with_config, install_as_today, marker

pytestmark = [pytest.mark.slow, pytest.mark.warm]

# It says started at its first look and never again: what died within half a second, without depending on a clock.
STARTED_ONCE = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) : >fresh ;;
status) if rm fresh 2>/dev/null; then echo started; else echo stoped; fi ;;
esac
"""
BROKEN: dict[str, dict[str, Any]] = {
    "nothing runs": {"broken_start": True},
    "start hangs": {"hangs": ("start",)},
    "it says started, and half a second later no more": {"control": STARTED_ONCE},
    "its status says what is not understood": {"status_words": ("so so", "stoped")},
}


@pytest.fixture
def patient(host: Host) -> Host:
    """A host with 1.0.0 that is good. A control call may last two seconds, and a watch longer than any test."""
    host.configure(control_timeout={"start": 2, "stop": 2})
    host.install("1.0.0")
    host.settle()
    host.configure(watch="10m")
    return host


def rolled_back(result: Completed, name: str = NAME) -> bool:
    return result.code == 4 and result.condition("Ready", name) == ("False", "RolledBack")


def is_quarantined(result: Completed) -> bool:
    return (result.code, result.agent()["held"]["reason"]) == (3, "Quarantined")


# A start that fails so many times for want of a process on its host, and a status that says so as well.
WITHOUT_A_PROCESS = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
short() { [ "$(cat ../short 2>/dev/null || echo 0)" -gt 0 ]; }
case $1 in
start) if short; then echo $(($(cat ../short) - 1)) >../short; echo "./control: 5: Cannot fork" >&2; exit 2; fi
    nohup sleep 600 >/dev/null 2>&1 & echo $! >pid ;;
stop) kill "$(cat pid)" ;;
status) if [ -f pid ] && kill -0 "$(cat pid)"; then echo started; else echo stoped; fi ;;
esac
"""


@pytest.mark.parametrize("times", [1, 2, 9])
def test_a_start_that_could_not_fork_is_no_failure_of_its_version_but_three_are_one(patient: Host, times: int) -> None:
    host = patient
    host.configure(control_timeout={"start": 1, "stop": 2})
    (host.home() / "short").write_text(f"{times}\n")
    host.publish("2.0.0", control=WITHOUT_A_PROCESS)
    host.desire("2.0.0")
    passes = [host.apply() for _ in range(4)]
    if times < 3:
        assert not any(rolled_back(one) for one in passes)
        assert (passes[-1].code, host.version()) == (0, "2.0.0"), passes[-1]
    else:
        assert any(rolled_back(one) for one in passes)
        assert (host.version(), host.ask().version) == ("1.0.0", "1.0.0")


@pytest.mark.parametrize("how", BROKEN)
def test_a_version_that_does_not_come_up_is_rolled_back_in_the_same_pass(patient: Host, how: str) -> None:
    host = patient
    host.publish("2.0.0", **BROKEN[how])
    host.desire("2.0.0")
    before = len(host.meta.requests)

    result = host.apply()

    assert rolled_back(result), result
    assert result.condition("Quarantined") == ("True", "Quarantined")
    assert result.condition("Running") == ("True", "AsDesired")
    assert host.ask().version == host.version() == "1.0.0"
    assert host.downloads(since=before) == [f"{NAME}-2.0.0.tar.gz"], "the old version needs none"
    assert host.versions() == ["1.0.0", "2.0.0"]
    assert (host.meta.reported(NAME) or {})["version"] == "1.0.0", "the server gets it at once"
    pid = host.pid()

    before = len(host.meta.requests)
    for _ in range(2):
        again = host.apply()
        assert is_quarantined(again), again
        assert again.actions() == "stop switch start", "what would be done is still reported"
        assert again.agent()["held"]["meanwhile"] == []
    assert host.downloads(since=before) == []
    assert host.pid() == pid


@pytest.mark.parametrize(
    "habits",
    [{"control": "#!/bin/sh\nif then\n"}, {"hangs": ("status",)}],
    ids=["a syntax error", "status hangs"],
)
def test_a_version_whose_control_never_says_anything_is_rolled_back_too(patient: Host, habits: dict[str, Any]) -> None:
    host = patient
    host.configure(control_timeout={"start": 2, "stop": 2, "status": 2})
    host.publish("2.0.0", **habits)
    host.desire("2.0.0")

    assert rolled_back(host.apply())

    assert host.ask().version == "1.0.0"


def test_a_version_whose_interpreter_is_missing_stops_nothing(patient: Host) -> None:
    host = patient
    pid = host.pid()
    host.publish("2.0.0", control="#!/nonexistent/sh\n")
    host.desire("2.0.0")

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, ("False", "InterpreterMissing")), result
    assert result.condition("Quarantined") == ("False", "AsDesired")
    assert (host.ask().version, host.version(), host.pid()) == ("1.0.0", "1.0.0", pid)


def test_a_rollback_is_reported_with_the_scripts_own_words(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert rolled_back(host.apply())

    why = host.updater("why", NAME)
    reported = host.history()

    assert why.code == 0
    assert "last failures" in why.out
    assert f"| exited 0\n    | {NAME} started..., pid=1\n" in why.out, "how control start ended, and its words once"
    assert "| status: stoped" in why.out, "what its status said then"
    assert "RolledBack: 2.0.0 -> 1.0.0  done" in why.out
    assert f"updater release {NAME}" in why.out, "and what an operator can do"
    failed = [action for event in reported for action in event["actions"] if action["result"] == "failed"]
    assert [(action["type"], action["version"], action["reason"]) for action in failed] == [
        ("start", "2.0.0", "StartFailed")
    ]
    assert failed[0]["seconds"] > 0
    assert "status: stoped" in failed[0]["evidence"]
    assert "evidence" not in host.updater("history", NAME).out
    assert [event["reason"] for event in reported[-3:]] == ["VersionDiffers", "RolledBack", "News"]
    assert reported[-1]["message"].endswith("back to 1.0.0")
    document = host.updater("why", NAME, "-o", "json").document
    assert (document["kind"], document["history"]) == ("Why", reported)


def test_repeated_events_are_counted_and_not_repeated(host: Host) -> None:
    """A stop that fails is asked for again at each pass."""
    host.configure(control_timeout={"stop": 1})
    host.install("1.0.0", ignores_term=True)
    host.desire("1.0.0", "stop")
    for _ in range(3):
        assert host.apply().code == 3

    [reported] = [event for event in host.history() if event["reason"] == "UnexpectedlyRunning"]
    assert reported["count"] == 3
    assert reported["first_at"] < reported["at"]
    assert "3 times since" in host.updater("history", NAME).out


def test_a_replacement_that_breaks_goes_back_to_the_tree_that_it_displaced(patient: Host) -> None:
    host = patient
    inode = (host.home() / "1.0.0").stat().st_ino
    host.publish("1.0.0", broken_start=True)
    host.desire("1.0.0")
    before = len(host.meta.requests)

    result = host.apply()

    assert rolled_back(result), result
    assert host.ask().version == "1.0.0"
    assert (host.home() / "1.0.0").stat().st_ino == inode, "the very tree, not another copy"
    assert host.downloads(since=before) == [f"{NAME}-1.0.0.tar.gz"]
    pid = host.pid()
    assert is_quarantined(host.apply())
    assert host.versions() == ["1.0.0"], "no litter"
    assert host.pid() == pid


def test_a_config_that_breaks_the_agent_goes_back_to_the_old_bytes(host: Host) -> None:
    """The agent reads its config at its start, and ends at one that it can't read."""
    host.publish("1.0.0")
    desire_with_config(host, "1.0.0", "hello")
    assert host.apply().code == 0
    host.settle()
    host.configure(control_timeout={"start": 2}, watch="10m")
    config = host.home() / "1.0.0" / "cfg.json"
    good = config.read_bytes()
    host.meta.publish_config("/conf/falcon-agent-cfg.json", b"{broken")

    result = host.apply()
    if result.code == 0:  # a slow machine: it was up for half a second before it read its config
        until(lambda: host.pid() is None, "the agent ends")
        result = host.apply()

    assert rolled_back(result), result
    assert config.read_bytes() == good
    assert host.ask().greeting == "hello"
    pid = host.pid()
    again = host.apply()
    assert is_quarantined(again)
    assert again.condition("ConfigInSync") == ("False", "ConfigDiffers")
    assert host.pid() == pid
    assert host.versions() == ["1.0.0"]
    assert host.status("--detailed-exitcode").code == 3, "status says so too, without asking a server"

    desire_with_config(host, "1.0.0", "mended")
    mended = host.apply()
    assert (mended.code, mended.actions()) == (0, "configure stop switch start")
    assert host.ask().greeting == "mended"


def test_an_upgrade_whose_config_breaks_it_goes_back_and_another_config_lifts_that(host: Host) -> None:
    host.publish("1.0.0")
    desire_with_config(host, "1.0.0", "one")
    assert host.apply().code == 0
    host.settle()
    host.configure(control_timeout={"start": 2}, watch="10m")
    host.publish("2.0.0")
    url = host.meta.publish_config("/conf/two", b"{broken")
    host.desire("2.0.0", configFileName="cfg.json", configRemoteUrl=url)

    result = host.apply()
    if result.code == 0:
        until(lambda: host.pid() is None, "the agent ends")
        result = host.apply()
    assert rolled_back(result), result
    assert (host.ask().version, host.ask().greeting) == ("1.0.0", "one")
    assert is_quarantined(host.apply())

    host.meta.publish_config("/conf/two", b'{"greeting": "two"}')
    mended = host.apply()
    assert (mended.code, mended.actions()) == (0, "configure stop switch start")
    assert (host.ask().version, host.ask().greeting) == ("2.0.0", "two")


def test_what_todays_updater_installed_is_gone_back_to_as_it_was(host: Host) -> None:
    """The change-over: its digest is unknown, and there is nowhere to download it from."""
    host.configure(control_timeout={"start": 2}, watch="10m")
    install_as_today(host, "1.0.0", extra={"what": b"field"})
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    host.meta.vanish(NAME, "1.0.0")

    assert rolled_back(host.apply())

    assert host.ask().version == "1.0.0"
    assert marker(host.home() / "1.0.0")["origin"] == "adopted"
    assert (host.home() / "1.0.0" / "what").read_bytes() == b"field"
    assert (host.home() / "1.0.0" / f"{NAME}-1.0.0.tar.gz").exists()
    assert host.downloads() == [f"{NAME}-2.0.0.tar.gz"]


@pytest.mark.parametrize("by", ["a fixed tarball", "release", "another version"])
def test_quarantine_is_lifted(patient: Host, by: str) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert rolled_back(host.apply())
    assert is_quarantined(host.apply())

    if by == "a fixed tarball":
        host.publish("2.0.0", extra={"fixed": b"yes"})
        host.desire("2.0.0")
    elif by == "another version":
        host.publish("2.0.1")
        host.desire("2.0.1")
    else:
        host.publish("2.0.0", broken_start=True)
        assert host.updater("release", NAME).code == 0
        assert rolled_back(host.apply()), "it is tried again, and rolled back again"
        assert is_quarantined(host.apply())
        assert host.ask().version == "1.0.0"
        return
    assert host.apply().code == 0
    assert host.ask().version in ("2.0.0", "2.0.1")


def test_quarantine_for_a_while_is_lifted_by_time(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    host.configure(quarantine_for="1h")
    assert rolled_back(host.apply())
    held = host.plan().agent()["held"]
    assert (held["reason"], held["until"] is not None) == ("Quarantined", True)

    host.configure(quarantine_for=1)
    until(lambda: rolled_back(host.apply()), "it is tried again, and rolled back again")
    assert host.ask().version == "1.0.0"


def test_quarantine_outlives_a_new_process_of_another_kind(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert rolled_back(host.apply())
    pid, before, beats = host.pid(), len(host.meta.requests), len(host.meta.heartbeats)
    host.configure(interval=1)

    with host.daemon():
        until(lambda: len(host.meta.heartbeats) >= beats + 3, "three passes of a daemon")

    assert host.downloads(since=before) == []
    assert host.pid() == pid


def test_the_old_version_is_healed_while_the_new_one_is_in_quarantine(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert rolled_back(host.apply())

    host.crash()
    healed = host.apply()

    assert healed.code == 3
    assert [(a["type"], a["result"]) for a in healed.agent()["held"]["meanwhile"]] == [("start", "done")]
    assert host.ask().version == "1.0.0"


def test_the_server_that_gives_the_broken_version_up_ends_it_all(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    assert rolled_back(host.apply())
    pid = host.pid()

    host.desire("1.0.0")
    result = host.apply()

    assert result.code == 0
    assert result.condition("Ready") == ("True", "AsDesired")
    assert result.condition("Quarantined")[0] == "False"
    assert host.pid() == pid, "nothing had to be done"


def test_a_first_version_that_is_broken_has_nothing_to_go_back_to(host: Host) -> None:
    host.configure(control_timeout={"start": 1}, watch="10m")
    host.publish("1.0.0", broken_start=True)
    host.desire("1.0.0")

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, ("False", "StartFailed")), "3: no old one runs"
    assert any("nothing to go back to" in event["message"] for event in host.history())
    held = host.apply().agent()["held"]
    assert (held["reason"], held["until"] is not None) == ("BackingOff", True), "it is started again, at a pace"


def test_what_had_crashed_before_its_upgrade_is_gone_back_to_since_it_was_good(patient: Host) -> None:
    host = patient
    host.crash()
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")

    assert rolled_back(host.apply())

    assert host.ask().version == "1.0.0"


def test_3_and_4_side_by_side(patient: Host) -> None:
    """4 says that every agent which isn't as desired was rolled back in this run; one other trouble makes it a 3."""
    host = patient
    host.publish("1.0.0", "sibling")
    good = host.meta.agent("sibling", "1.0.0")
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), good)
    assert host.apply().code == 0
    host.publish("2.0.0", broken_start=True)
    broken = host.meta.agent(NAME, "2.0.0")

    host.meta.desire(broken, good)
    assert host.apply().code == 4
    assert host.ask("sibling").version == "1.0.0"

    assert host.updater("release", NAME, "sibling").code == 0
    host.meta.desire(broken, host.meta.agent("sibling", "3.0.0"))  # never published
    mixed = host.apply()
    assert mixed.condition("Ready")[1] == "RolledBack"
    assert mixed.condition("Ready", "sibling")[1] == "FetchFailed"
    assert mixed.code == 3

    assert host.updater("release", NAME, "sibling").code == 0
    host.meta.desire(broken, host.meta.agent("evil", "1.0.0", "dance"))
    refused = host.apply()
    assert refused.condition("Ready")[1] == "RolledBack"
    assert refused.code == 3


def test_keep_leaves_the_active_and_the_last_good_one(host: Host) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        host.install(version)
        host.settle()
    assert host.versions() == ["2.0.0", "3.0.0"]

    host.configure(keep=3)
    host.install("4.0.0")
    host.settle()
    assert host.versions() == ["2.0.0", "3.0.0", "4.0.0"]

    host.configure(keep=2)
    assert host.apply().actions() == "prune"
    assert host.versions() == ["3.0.0", "4.0.0"]
    assert host.apply().actions() == ""


def test_the_way_back_is_never_pruned_for_a_version_that_is_not_good_yet(host: Host) -> None:
    host.configure(keep=2, control_timeout={"start": 2})
    for version in ("1.0.0", "2.0.0"):
        host.install(version)
        host.settle()
    host.configure(watch="10m")
    host.publish("3.0.0", broken_start=True)
    host.desire("3.0.0")
    assert rolled_back(host.apply())
    assert host.ask().version == "2.0.0"
    host.apply()
    assert "2.0.0" in host.versions()


def test_a_daemon_rolls_back_in_the_same_pass_too(patient: Host) -> None:
    host = patient
    host.publish("2.0.0", broken_start=True)
    host.desire("2.0.0")
    host.configure(interval="100d")
    with host.daemon("--now"):
        host.wait_for_log("2.0.0 was rolled back")
        host.meta.wait_for_heartbeat(
            lambda beat: [(a["version"], a["status"]) for a in beat["realAgents"]] == [("1.0.0", "started")],
            LIMIT_S,
            since=len(host.meta.heartbeats) - 1,
        )
    assert host.ask().version == "1.0.0"
    assert host.downloads().count(f"{NAME}-2.0.0.tar.gz") == 1
