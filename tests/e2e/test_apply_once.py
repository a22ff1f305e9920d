"""`updater apply --once`, as cron runs it: a whole life of an agent, and what cron gets to read of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.host import EXECUTABLE, NAME, Host
from tests.e2e.processes import until

pytestmark = pytest.mark.python_sensitive


@pytest.mark.slow
def test_a_whole_life_with_tarballs_of_fifty_megabytes(host: Host, big_releases: dict[str, Path]) -> None:
    for version, tarball in big_releases.items():
        assert tarball.stat().st_size > 50 * 1024 * 1024
        host.meta.publish(NAME, version, tarball)

    host.desire("1.0.0")
    installed = host.apply("--detailed-exitcode")
    assert (installed.code, installed.actions()) == (2, "fetch verify unpack switch start")
    assert host.ask().version == "1.0.0"
    assert (host.home() / "1.0.0" / "padding").stat().st_size == 50 * 1024 * 1024

    host.desire("2.0.0")
    upgraded = host.apply()
    assert (upgraded.code, upgraded.actions()) == (0, "fetch verify unpack stop switch start")
    assert host.ask().version == "2.0.0"

    before = len(host.meta.requests)
    host.desire("1.0.0")
    downgraded = host.apply()
    assert (downgraded.code, downgraded.actions()) == (0, "stop switch start")
    assert host.ask().version == "1.0.0"
    assert host.downloads(since=before) == [], "what is on disk needs no download"
    host.settle()

    host.crash()
    healed = host.apply()
    assert (healed.code, healed.actions()) == (0, "start")
    pid = host.ask().pid

    unchanged = host.apply("--detailed-exitcode")
    assert (unchanged.code, unchanged.actions()) == (0, "")
    assert host.pid() == pid

    host.desire("1.0.0", "stop")
    stopped = host.apply()
    assert (stopped.code, stopped.actions()) == (0, "stop")
    assert host.pid() is None


@pytest.mark.slow
def test_the_same_version_with_another_digest_is_exchanged(host: Host) -> None:
    pid = host.install("1.0.0", extra={"what": b"old"})
    host.publish("1.0.0", extra={"what": b"new"})
    host.desire("1.0.0")

    replaced = host.apply()

    assert replaced.code == 0
    assert replaced.agent()["reason"] == "DigestDiffers"
    assert replaced.actions() == "fetch verify unpack stop switch start"
    assert (host.home() / "1.0.0" / "what").read_bytes() == b"new"
    assert host.ask().pid != pid
    assert (host.home() / ".previous-1.0.0" / "what").read_bytes() == b"old", "the way back, until the new one is good"
    assert host.apply().actions() == "prune"
    assert sorted(path.name for path in host.home().iterdir()) == [".start.log", ".version", "1.0.0"]
    assert host.apply().actions() == ""


def test_a_stop_of_another_version_than_the_one_in_use_stops_it_and_fetches_nothing(host: Host) -> None:
    host.install("1.0.0")
    before = len(host.meta.requests)
    host.desire("9.9.9", "stop")

    assert host.apply().actions() == "stop"

    assert host.pid() is None
    assert host.downloads(since=before) == []
    assert host.meta.reported(NAME) is not None
    assert host.version() == "1.0.0"


def test_an_empty_cmd_observes_and_reports_and_does_nothing(host: Host) -> None:
    host.install("1.0.0")
    host.crash()
    host.desire("2.0.0", "")

    looked = host.apply()

    assert (looked.code, looked.agent()["reason"]) == (0, "ObserveOnly")
    assert host.pid() is None
    assert (host.meta.reported(NAME) or {})["status"] == "stoped"


@pytest.mark.slow
def test_an_agent_that_the_server_does_not_name_is_never_touched(host: Host) -> None:
    host.publish("1.0.0", "theirs")
    host.publish("1.0.0")
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("theirs", "1.0.0"))
    assert host.apply().code == 0
    pid = host.ask("theirs").pid

    host.meta.forget("theirs")
    result = host.apply()

    assert [agent["name"] for agent in result.document["agents"]] == [NAME]
    assert host.pid("theirs") == pid
    host.apply()
    assert [agent["name"] for agent in host.meta.heartbeats[-1]["realAgents"]] == [NAME]
    host.crash("theirs")
    assert host.apply().code == 0
    assert host.pid("theirs") is None, "an unmanaged agent is not healed either"
    assert not host.meta.reported("theirs")


@pytest.mark.slow
def test_an_empty_answer_manages_nothing_and_still_reports_what_was_managed(host: Host) -> None:
    pid = host.install("1.0.0")
    host.meta.desire()

    result = host.apply()

    assert result.code == 0
    assert [(agent["name"], agent["reason"]) for agent in result.document["agents"]] == [(NAME, "NothingDesired")]
    assert host.pid() == pid
    host.crash()
    host.apply()
    assert host.pid() is None, "nothing is healed while nothing is desired"
    assert (host.meta.reported(NAME) or {})["status"] == "stoped"
    assert "NothingDesired" in host.updater("plan").out
    assert "NothingDesired" in host.updater("status").out


@pytest.mark.slow
def test_an_answer_of_null_is_an_empty_one(host: Host) -> None:
    host.install("1.0.0")
    host.crash()
    host.meta.answer_raw(200, '{"errorMessage": "", "desiredAgents": null}')

    assert host.apply().agent()["reason"] == "NothingDesired"

    host.meta.heal()
    host.meta.down()
    assert host.apply().agent()["reason"] == "NothingDesired", "a failed exchange changes nothing in this"
    assert host.pid() is None


def test_a_change_is_reported_at_once_and_in_the_words_of_the_contract(host: Host) -> None:
    assert host.apply().code == 0
    assert [beat["realAgents"] for beat in host.meta.heartbeats] == [[]], "a list, even when empty"
    host.publish("1.0.0")
    host.desire("1.0.0")
    before = len(host.meta.heartbeats)

    host.apply()

    asked, reported = host.meta.heartbeats[before:]
    assert asked["realAgents"] == []
    assert set(reported) == {"hostname", "ip", "runUser", "updaterVersion", "realAgents"}
    assert reported["hostname"] == "liutian-01"
    assert reported["runUser"] == host.meta.run_user
    assert all(isinstance(reported[key], str) and reported[key] for key in ("ip", "updaterVersion"))
    [agent] = reported["realAgents"]
    assert isinstance(agent.pop("timestamp"), int)
    assert agent == {
        "name": NAME,
        "version": "1.0.0",
        "status": "started",
        "runUser": host.meta.run_user,
        "workDir": str(host.work),
    }

    host.apply()
    assert len(host.meta.heartbeats) == before + 3, "where nothing was done one exchange is enough"


@pytest.mark.slow
def test_cron_gets_no_mail_without_a_change_and_one_line_at_each_end_of_an_outage(host: Host) -> None:
    pid = host.install("1.0.0")
    once = ("apply", "--once")
    silent = host.updater(*once)
    assert (silent.code, silent.out, silent.err) == (0, "", "")

    host.meta.down()
    begins = host.updater(*once)
    lasts = host.updater(*once)
    host.meta.up()
    ends = host.updater(*once)
    after = host.updater(*once)

    assert [begins.code, lasts.code, ends.code, after.code] == [0, 0, 0, 0]
    assert begins.out.count("\n") == 1
    assert begins.out.startswith("ServerReachable: ServerUnreachable: ")
    assert host.meta.server in begins.out
    assert ends.out.count("\n") == 1
    assert ends.out.startswith("ServerReachable: AsDesired: ")
    assert (lasts.out, after.out) == ("", "")
    assert begins.err + lasts.err + ends.err + after.err == ""
    assert host.pid() == pid
    assert "control status" not in host.log
    assert "ServerReachable is now False" in host.log


def test_cron_gets_what_was_done(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")

    result = host.updater("apply", "--once")

    assert result.err == ""
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [
        [action, "done"] for action in ("fetch", "verify", "unpack", "switch", "start")
    ]
    assert "\x1b" not in result.out


def test_only_the_named_agent_is_acted_upon(host: Host) -> None:
    for name in (NAME, "other"):
        host.publish("1.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "1.0.0"))

    assert host.apply("other").code == 0

    assert host.ask("other").version == "1.0.0"
    assert not host.home().exists()
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0"


@pytest.mark.slow
def test_apply_without_once_goes_on_until_all_is_as_desired(host: Host) -> None:
    """The config can't be had at first; then the new version is within its watch, for which it waits too."""
    host.configure(watch=1)
    host.publish("1.0.0")
    url = host.meta.publish_config("/conf/cfg.json", b'{"greeting": "hello"}')
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)
    host.meta.fail(404, "/conf/cfg.json", times=1)

    applied = host.updater("apply", "--timeout", "60", "-o", "json")

    assert (applied.code, applied.condition("Ready")) == (0, ("True", "AsDesired"))
    assert [request.status for request in host.meta.requests if request.path == "/conf/cfg.json"][:2] == [404, 200]
    assert (host.ask().version, host.ask().greeting) == ("1.0.0", "hello")


@pytest.mark.slow
def test_two_config_folders_can_each_have_their_updater(host: Host) -> None:
    """Everything that it writes for itself is beside the config; the lock of one folder is no other's."""
    host.install("1.0.0")
    other = host.folder.parent / "other"
    other.mkdir()
    (other / "cfg.json").write_text((host.folder / "cfg.json").read_text())
    pid = host.pid()

    second = host.run(*EXECUTABLE, "-c", str(other / "cfg.json"), "apply", "--once")

    assert (second.code, second.out) == (0, ""), second
    assert {"app.log", "state.db", "updater.lock"} <= {path.name for path in (other / "var").iterdir()}
    assert host.pid() == pid


def test_a_signal_during_the_splay_ends_the_run_before_its_pass(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    run = host.begin("apply", "--once", "--splay", "365d")
    until(lambda: run.catches(signal.SIGTERM), "it listens to signals")
    run.send(signal.SIGTERM)
    ended = run.ended()
    assert ended.code == 128 + signal.SIGTERM
    assert ended.err.startswith("updater: ended by a signal before its pass began")
    assert host.meta.heartbeats == []
