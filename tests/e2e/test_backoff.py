"""What fails is tried again at a pace that one can read off: a broken tarball costs little, a crash loop is slow."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.e2e.host import NAME, Completed, Host
from tests.e2e.processes import until
from tests.support.sample_agents import build

pytestmark = [pytest.mark.slow, pytest.mark.warm]

# Each start leaves a line in the home; nothing ever runs for long enough to be seen.
CRASHES = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) echo start >>../starts; sleep 600 & echo $! >app.pid ;;
stop) kill "$(cat app.pid)" && rm app.pid ;;
status) if [ -s app.pid ] && [ ! -e ../crash ]; then echo started; else echo stoped; fi ;;
esac
"""


def held(result: Completed) -> tuple[str, str]:
    """Why the agent is held, and until when."""
    found = result.agent()["held"]
    return found["reason"], found["until"]


def now() -> datetime:
    return datetime.now(timezone.utc)


def in_seconds(until: str, asked: datetime) -> float:
    end = datetime.strptime(until, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (end - asked.replace(microsecond=0)) / timedelta(seconds=1)


def test_broken_tarballs_sent_for_many_intervals_cost_one_download_each(host: Host) -> None:
    """One agent for each way in which a tarball can be broken."""
    faults = ("corrupt", "evil", "missing")
    for name in faults:
        host.publish("1.0.0", name)
    host.meta.desire(*(host.meta.agent(name, "1.0.0") for name in faults))
    assert host.apply().code == 0
    assert host.apply().code == 0
    pids = [host.pid(name) for name in faults]
    for name in faults:
        host.publish("2.0.0", name)
    host.meta.corrupt("corrupt", "2.0.0")
    host.meta.publish("evil", "2.0.0", build("evil", "2.0.0", no_control=True))
    host.meta.vanish("missing", "2.0.0")
    host.meta.desire(*(host.meta.agent(name, "2.0.0") for name in faults))
    host.configure(interval=1)
    before, beats = len(host.meta.requests), len(host.meta.heartbeats)

    with host.daemon("--now"):
        until(lambda: len(host.meta.heartbeats) >= beats + 6, "six intervals")
    by_cron = host.apply()

    assert by_cron.code == 3, "cron keeps to it too"
    assert {agent["held"]["reason"] for agent in by_cron.document["agents"]} == {"BackingOff"}
    assert sorted(host.downloads(since=before)) == [f"{name}-2.0.0.tar.gz" for name in faults]
    assert [host.pid(name) for name in faults] == pids
    assert [host.versions(name) for name in faults] == [["1.0.0"]] * 3, "no litter"


def test_backing_off_is_shown_with_the_time_that_is_left(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.corrupt(NAME, "2.0.0")

    failed = host.apply()
    assert (failed.code, failed.condition("Ready")) == (3, ("False", "DigestMismatch"))

    asked = now()
    for result in (host.plan("--detailed-exitcode"), host.status(), host.apply()):
        reason, end = held(result)
        assert reason == "BackingOff"
        assert 0 < in_seconds(end, asked) <= 60, "a minute after the first failure"
        assert "failed once, tried again in" in result.agent()["held"]["message"]
        assert result.agent()["held"]["meanwhile"] == []
        assert result.condition("Ready") == ("False", "BackingOff")
        assert result.condition("Held") == ("True", "BackingOff")
        assert result.actions() == "fetch verify unpack stop switch start", "what would be done is still reported"
    assert host.plan("--detailed-exitcode").code == 2
    for text in (host.updater("plan").out, host.updater("status").out, host.updater("why", NAME).out):
        assert "BackingOff" in text
        assert "tried again in" in text
        assert "DigestMismatch" in text or "digest" in text


def test_release_ends_the_delay_and_the_next_failure_waits_for_a_minute_again(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.corrupt(NAME, "2.0.0")
    assert host.apply().code == 3
    assert host.updater("release", NAME).code == 0
    assert host.plan().agent()["held"] is None
    before = len(host.meta.requests)

    assert host.apply().condition("Ready") == ("False", "DigestMismatch")

    assert host.downloads(since=before) == [f"{NAME}-2.0.0.tar.gz"]
    assert held(host.apply())[0] == "BackingOff"


def test_other_content_is_tried_at_once(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.corrupt(NAME, "2.0.0")
    assert host.apply().code == 3
    assert held(host.apply())[0] == "BackingOff"
    host.meta.heal()

    host.publish("2.0.0", extra={"fixed": b"yes"})
    host.desire("2.0.0")

    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_stop_that_failed_backs_off_with_the_old_version_running(host: Host) -> None:
    host.configure(control_timeout={"stop": 1})
    pid = host.install("1.0.0", ignores_term=True)
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.apply().condition("Ready") == ("False", "StopFailed")

    again = host.apply()

    assert held(again)[0] == "BackingOff"
    assert "StopFailed" in host.updater("history", NAME).out
    assert host.pid() == pid


def test_a_crash_is_not_hidden_by_a_change_that_backs_off(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.meta.corrupt(NAME, "2.0.0")
    assert host.apply().code == 3
    host.crash()

    healed = host.apply()

    assert held(healed)[0] == "BackingOff"
    assert [(a["type"], a["result"]) for a in healed.agent()["held"]["meanwhile"]] == [("start", "done")]
    assert host.ask().version == "1.0.0"


def test_a_crash_loop_is_paced(host: Host) -> None:
    """Started again at once the first time, then after 10 s: however often it is looked at meanwhile."""
    host.publish("1.0.0", control=CRASHES)
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.settle()
    host.configure(control_timeout={"start": 1})  # all fail from here on
    starts = host.home() / "starts"
    assert starts.read_text().count("start") == 1
    (host.home() / "crash").touch()

    first = host.apply()
    assert (first.code, first.condition("Ready")) == (3, ("False", "StartFailed"))
    assert starts.read_text().count("start") == 2, "once, and once only within a pass"
    beats = len(host.meta.heartbeats)
    host.configure(interval=1)
    with host.daemon("--now"):
        until(lambda: len(host.meta.heartbeats) >= beats + 4, "four intervals")
    tries = 1
    asked, reported = now(), host.plan()
    while reported.agent()["held"] is None:  # the delay passed meanwhile, on a slow machine: the next is twice as long
        host.apply()
        tries += 1
        asked, reported = now(), host.plan()

    # One more, if the ten seconds passed while the daemon was there.
    assert starts.read_text().count("start") in (1 + tries, 2 + tries)
    reason, end = held(reported)
    assert reason == "BackingOff"
    assert 0 < in_seconds(end, asked) <= 10 * 2**tries
    assert "started again in" in reported.agent()["held"]["message"]

    (host.home() / "crash").unlink()
    assert host.updater("release", NAME).code == 0
    host.configure(control_timeout=None)
    healed = host.apply()
    assert healed.code == 0, "an operator need not wait"


def test_a_digest_file_that_is_put_right_ends_the_wait_with_its_end(host: Host) -> None:
    """The digest stands in a file beside the tarball, as on older servers: the wait is for what that file says."""
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    release = host.meta.release(NAME, "2.0.0")
    host.meta.corrupt(NAME, "2.0.0")
    host.desire("2.0.0", md5=release.base)
    assert host.apply().condition("Ready") == ("False", "DigestMismatch")
    assert held(host.apply())[0] == "BackingOff"
    assert host.downloads().count(f"{NAME}-2.0.0.tar.gz") == 1
