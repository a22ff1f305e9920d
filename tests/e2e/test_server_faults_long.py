"""Many intervals of every fault of a server, one after the other: no agent is stopped or started but to heal it.

The daemon makes its passes each second; what is waited for are passes, never a time.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until
from updater.demo import agent as agents

pytestmark = [pytest.mark.slow, pytest.mark.warm]

PASSES = 1  # of each fault that are whole; about as many begin before it or end after it
HTML = "<html><body>Gateway Time-out</body></html>"

FAULTS: dict[str, Callable[[Host], object]] = {
    "down": lambda host: host.meta.down(),
    "slow": lambda host: host.meta.slow_heartbeats(1.5),
    "429": lambda host: host.meta.fail(429, retry_after=2),
    "500": lambda host: host.meta.fail(500),
    "empty": lambda host: host.meta.answer_raw(200, ""),
    "no agents": lambda host: host.meta.answer_raw(200, '{"errorMessage": "", "desiredAgents": []}'),
    "null": lambda host: host.meta.answer_raw(200, '{"errorMessage": "", "desiredAgents": null}'),
    "HTML": lambda host: host.meta.answer_raw(200, HTML, "text/html"),
    "an error message that brings a wish": lambda host: host.meta.answer_raw(200, stop_all(host)),
    "half of an answer": lambda host: host.meta.answer_raw(200, '{"errorMessage": "", "desiredAg'),
}


def stop_all(host: Host) -> str:
    wishes = [host.meta.agent(name, "1.0.0", "stop") for name in (NAME, "sibling")]
    return json.dumps({"errorMessage": "db is down", "desiredAgents": wishes})


def pass_some(host: Host, count: int = PASSES) -> None:
    """Wait for so many whole passes from now on: the one that goes on now may have begun before."""
    seen = host.log.count("next pass in")
    until(lambda: host.log.count("next pass in") > seen + count, f"{count} passes")


def settled_pair(host: Host) -> dict[str, int | None]:
    """Two agents that are good; their pids."""
    for name in (NAME, "sibling"):
        host.publish("1.0.0", name)
    host.meta.desire(*(host.meta.agent(name, "1.0.0") for name in (NAME, "sibling")))
    assert host.apply().code == 0
    host.settle()
    host.configure(interval=1, log_level="debug")
    return pids(host)


def pids(host: Host) -> dict[str, int | None]:
    return {name: host.pid(name) for name in (NAME, "sibling")}


def test_no_fault_of_a_server_touches_a_running_agent(host: Host) -> None:
    before = settled_pair(host)
    done = len(host.history())
    with host.daemon("--now") as daemon:
        for what, sabotage in FAULTS.items():
            sabotage(host)
            pass_some(host)
            assert pids(host) == before, what
            host.meta.heal()
        beats = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) > beats + 1, "it speaks to the server again")
        assert daemon.runs
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0

    assert pids(host) == before
    assert agents.running_below(host.work) == tuple(sorted(pid for pid in before.values() if pid is not None))
    assert len(host.history()) == done, "nothing was done in all this time"
    assert host.versions() == ["1.0.0"]
    assert host.apply("--detailed-exitcode").code == 0


def test_amid_the_faults_what_crashed_is_healed_and_its_sibling_left_alone(host: Host) -> None:
    before = settled_pair(host)
    with host.daemon("--now"):
        for what in ("down", "HTML"):
            FAULTS[what](host)
            pass_some(host, 1)
            old = host.pid()
            host.crash()
            until(host.pid, f"{what}: the crash is healed")
            assert host.pid() != old
            assert host.ask().version == "1.0.0"
            assert host.pid("sibling") == before["sibling"], what
            host.meta.heal()
            break_of_the_second_crash(host)
    assert [event["reason"] for event in host.history("sibling")] == ["FirstInstall", "News"]


def break_of_the_second_crash(host: Host) -> None:
    """A second crash within ten seconds would be paced; an operator's release ends that."""
    assert host.updater("release", NAME).code == 0
    until(lambda: not list((host.var / "holds").iterdir()), "the release is taken up")


def test_the_answers_of_an_older_server_change_nothing(host: Host) -> None:
    """It doesn't know users, folders or digests: what runs is what it asks for."""
    before = settled_pair(host)
    host.configure(work_dir=str(host.work))
    host.meta.older()
    beats = len(host.meta.heartbeats)
    with host.daemon("--now"):
        until(lambda: len(host.meta.heartbeats) >= beats + 4, "four intervals")
    assert pids(host) == before


def test_a_file_server_that_fails_for_many_intervals_touches_nothing_and_is_spared(host: Host) -> None:
    before = settled_pair(host)
    host.publish("2.0.0")
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent("sibling", "1.0.0"))
    host.meta.fail(403, f"{NAME}-2.0.0.tar.gz")
    asked = len(host.meta.requests)
    with host.daemon("--now"):
        pass_some(host, 5)
    assert pids(host) == before
    assert host.downloads(since=asked) == [f"{NAME}-2.0.0.tar.gz"]
    assert host.versions() == ["1.0.0"]
