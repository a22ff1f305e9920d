"""`updater daemon`: heartbeats, signals, what it does when it is killed, and that there is one of it in a folder.

What is said of times is said as an order of events: no verdict here depends on how long anything took.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Daemon, Host
from tests.e2e.processes import LIMIT_S, until
from tests.e2e.steps import heartbeat_with
from tests.support.sample_agents import build

pytestmark = [pytest.mark.slow, pytest.mark.python_sensitive]

STARTED = "ops-updater .* started, pid"


def test_a_whole_life_with_tarballs_of_fifty_megabytes(host: Host, big_releases: dict[str, Path]) -> None:
    for version, tarball in big_releases.items():
        host.meta.publish(NAME, version, tarball)
    host.configure(interval=1)
    host.desire("1.0.0")
    with host.daemon("--now") as daemon:
        heartbeat_with(host, "1.0.0")
        assert host.ask().version == "1.0.0"

        host.desire("2.0.0")
        heartbeat_with(host, "2.0.0")
        assert host.ask().version == "2.0.0"
        host.wait_for_log("2.0.0 is good")

        host.crash()
        until(host.pid, "the crash is healed")
        assert host.ask().version == "2.0.0"
        pid = host.ask().pid

        host.desire("1.0.0")
        heartbeat_with(host, "1.0.0", since=len(host.meta.heartbeats))
        assert host.ask().version == "1.0.0"
        assert host.pid() != pid

        host.desire("1.0.0", "stop")
        until(lambda: host.pid() is None, "it is stopped")
        heartbeat_with(host, "1.0.0", "stoped", since=len(host.meta.heartbeats))

        assert daemon.runs
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz", f"{NAME}-2.0.0.tar.gz"]


def test_now_sends_the_first_heartbeat_at_once_and_others_wait_for_their_slot(host: Host) -> None:
    host.configure(interval="100d")
    with host.daemon("--now"):
        host.meta.wait_for_heartbeat(timeout=LIMIT_S)

    beats = len(host.meta.heartbeats)
    with host.daemon("--now", "--now") as again:
        host.meta.wait_for_heartbeat(timeout=LIMIT_S, since=beats)
        again.send(signal.SIGTERM)
        assert again.ended().code == 0

    beats = len(host.meta.heartbeats)
    with host.daemon() as patient:
        until(lambda: len(re.findall(STARTED, host.log)) == 3, "the third daemon has begun")
        patient.send(signal.SIGTERM)
        assert patient.ended().code == 0
    assert len(host.meta.heartbeats) == beats


def test_it_beats_again_and_again_with_the_same_content(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(interval=1)
    before = len(host.meta.heartbeats)
    with host.daemon():
        until(lambda: len(host.meta.heartbeats) >= before + 4, "four heartbeats")

    reported = [
        {**beat, "realAgents": [{**agent, "timestamp": 0} for agent in beat["realAgents"]]}
        for beat in host.meta.heartbeats[before:]
    ]
    assert all(beat == reported[0] for beat in reported)
    stamps = [beat["realAgents"][0]["timestamp"] for beat in host.meta.heartbeats[before:]]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) > 1, "each beat reports a probe of its own"
    assert host.pid() == pid


def test_what_crashed_while_it_was_away_is_healed_before_the_server_is_asked(host: Host) -> None:
    host.install("1.0.0")
    host.crash()
    host.configure(interval="100d")
    before = len(host.meta.requests)
    with host.daemon():
        until(host.pid, "the crash is healed")
        assert len(host.meta.requests) == before


def test_sigterm_amid_a_switch_finishes_it(host: Host) -> None:
    """An agent must not be left between two versions, or stopped, because its updater was asked to end."""
    host.install("1.0.0", slow_stop=1.5)
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.configure(log_level="debug")
    with host.daemon("--now") as daemon:
        host.wait_for_log("stop 1.0.0: begins")
        daemon.send(signal.SIGTERM)
        ended = daemon.ended()

    assert ended.code == 0
    assert host.version() == "2.0.0"
    assert host.ask().version == "2.0.0"
    assert host.apply().actions() == ""


def test_sigterm_amid_a_stalled_download_touches_nothing(host: Host) -> None:
    pid = host.install("1.0.0")
    tarball = build(NAME, "2.0.0", size=4 * 1024 * 1024)
    host.meta.publish(NAME, "2.0.0", tarball)
    host.desire("2.0.0")
    host.meta.stall(f"{NAME}-2.0.0.tar.gz")
    with host.daemon("--now") as daemon:
        until(lambda: _arrived(host) > len(tarball) // 2 - 16 * 1024, "half has arrived, and no more will")
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0

    assert host.downloads(since=0).count(f"{NAME}-2.0.0.tar.gz") == 1, "it does not begin again"
    assert host.pid() == pid
    assert sorted(path.name for path in host.home().iterdir()) == [".start.log", ".version", "1.0.0"]
    host.meta.heal()
    assert host.apply().code == 0, "and the next run goes on"
    assert host.ask().version == "2.0.0"


def test_sighup_with_a_bad_config_keeps_the_old_one_and_says_so(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(interval="100d")
    with host.daemon() as daemon:
        until(lambda: re.search(STARTED, host.log), "the daemon has begun")
        beats = len(host.meta.heartbeats)

        host.configure(intervall=1)
        daemon.send(signal.SIGHUP)
        host.wait_for_log("the config is wrong, the old one stays: intervall: unknown key; did you mean `interval`?")
        assert daemon.runs
        assert len(host.meta.heartbeats) == beats

        host.configure(intervall=None, interval=1, hostname="renamed-01")
        daemon.send(signal.SIGHUP)
        host.wait_for_log("config read again")
        host.meta.wait_for_heartbeat(lambda beat: beat["hostname"] == "renamed-01", LIMIT_S, since=beats)
    assert host.pid() == pid


def test_a_second_daemon_of_the_folder_ends_at_once_and_names_the_first(host: Host) -> None:
    with host.daemon("--now") as first:
        until(lambda: re.search(STARTED, host.log), "the daemon has begun")
        second = host.updater("daemon")

        assert (second.code, second.out) == (75, "")
        assert f"process {first.pid} " in second.err
        assert second.err.count("\n") == 1
        assert first.runs
        assert (host.var / "app.pid").read_text() == f"{first.pid}\n"


def test_a_daemon_that_was_killed_leaves_nothing_locked_and_its_agents_running(host: Host) -> None:
    pid = host.install("1.0.0")
    with host.daemon("--now") as daemon:
        until(lambda: re.search(STARTED, host.log), "the daemon has begun")
        daemon.send(signal.SIGKILL)
        daemon.ended()
    assert (host.var / "app.pid").read_text() == f"{daemon.pid}\n", "it was not removed"

    assert host.pid() == pid, "an agent outlives its updater"
    assert host.apply().code == 0
    before = len(host.meta.heartbeats)
    with host.daemon("--now"):
        host.meta.wait_for_heartbeat(timeout=LIMIT_S, since=before)
    assert host.pid() == pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_agents_outlive_the_daemon_that_started_them(host: Host, number: signal.Signals) -> None:
    host.publish("1.0.0", keeps_stdout=True)
    host.desire("1.0.0")
    with host.daemon("--now") as daemon:
        heartbeat_with(host, "1.0.0")
        pid = host.ask().pid
        daemon.send(number)
        assert daemon.ended().code == 0, "a child that holds its output does not hold it up"
    assert host.pid() == pid


def test_a_daemon_killed_amid_a_switch_is_finished_by_the_next_run(host: Host) -> None:
    """What was begun with an agent is written down first, so cron goes on where a killed daemon stood."""
    host.install("1.0.0")
    host.publish("2.0.0", slow_start=1.5)
    host.desire("2.0.0")
    host.configure(log_level="debug")
    with host.daemon("--now") as daemon:
        host.wait_for_log("start 2.0.0: begins")
        daemon.send(signal.SIGKILL)
        daemon.ended()

    result = host.apply()

    assert result.code == 0, result
    assert host.ask().version == "2.0.0"
    assert host.apply().actions() == ""


def test_a_pass_by_hand_beside_the_daemon_is_made_or_names_who_is_in_a_pass(host: Host) -> None:
    """Between its passes the daemon holds no lock; amid one, `apply --once` says so and touches nothing."""
    host.install("1.0.0")
    host.configure(interval="100d")
    before = len(host.meta.heartbeats)
    with host.daemon("--now") as daemon:
        host.meta.wait_for_heartbeat(timeout=LIMIT_S, since=before)
        until(lambda: _lets_in(host, daemon), "the daemon's pass has ended")


def _arrived(host: Host) -> int:
    """How many bytes of an unfinished download are in the cache; a buffer's worth may be missing."""
    return sum(path.stat().st_size for path in (host.var / "cache").glob("*.part"))


def _lets_in(host: Host, daemon: Daemon) -> bool:
    result = host.updater("apply", "--once")
    assert result.code in (0, 75), result
    if result.code == 75:
        assert f"process {daemon.pid} " in result.err
    return result.code == 0
