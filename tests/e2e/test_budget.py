"""`apply --once` has time for downloads: what takes longer goes on in the next run, which heals first."""

from __future__ import annotations

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def dripping(host: Host, size: int) -> None:
    """The new version comes a piece at a time: 40 KiB and more take some seconds."""
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", size=size)
    host.desire("2.0.0")
    host.meta.drip("2.0.0.tar.gz", piece=8192, pause=0.1)


def run(host: Host, timeout: str = "1s") -> str:
    """One run of cron's: what it prints."""
    return host.updater("apply", "--once", "--timeout", timeout).out


def part(host: Host) -> int:
    return max((path.stat().st_size for path in (host.var / "cache").glob("*.part*")), default=0)


def test_a_download_goes_on_from_run_to_run_and_is_reported_when_it_begins_and_ends(host: Host) -> None:
    dripping(host, 900_000)
    first = run(host)
    assert "its download takes longer than a run" in first
    kept = part(host)
    assert kept > 0
    host.crash()
    second = host.apply("--timeout", "1s")
    assert host.pid() is not None, "healed first"
    assert [action["result"] for action in second.agent()["heal"]] == ["done"]
    assert part(host) > kept, "and resumed"
    assert (second.agent()["held"], second.code) == (None, 3)
    assert run(host) == "", "printed once"
    runs, last = 0, ""
    while host.version() != "2.0.0":
        runs += 1
        assert runs < 30
        last = run(host, "2s")
    assert "fetch" in last
    assert any("the download of 2.0.0 is done" in event["message"] for event in host.history())
    assert all("BackingOff" not in event["message"] for event in host.history())


def test_what_a_server_can_not_resume_gets_double_the_time_at_each_further_run(host: Host) -> None:
    dripping(host, 300_000)
    host.meta.ignore_ranges()
    runs = 0
    while host.version() != "2.0.0":
        runs += 1
        assert runs < 8, "1, 2, 4, 8 s, and the download takes about 4"
        host.apply("--timeout", "1s")
    assert runs > 2


def test_a_run_is_not_ended_between_stop_and_start(host: Host) -> None:
    host.install("1.0.0")
    host.publish("2.0.0", slow_start=3)
    host.desire("2.0.0")
    done = host.apply("--timeout", "1s")
    assert (done.code, host.version()) == (0, "2.0.0")
    until(host.pid, "it runs")
    assert done.agent(NAME)["actions"][-1]["result"] == "done"
