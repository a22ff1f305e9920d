"""The daemon: when it makes passes, and what its signals do. The whole of it, as a process, is in tests/e2e."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.timing import schedule
from tests.updater.conftest import Folder
from updater.demo import agent
from updater.service import log_setup
from updater.service.daemon import Daemon
from updater.service.locks import Busy, pid_file
from updater.settings.config import Config

pytestmark = [pytest.mark.slow, pytest.mark.python_sensitive]

NAME = "falcon-agent"


def daemon(
    folder: Folder, configure: Callable[[Config], None] = lambda config: None, longest_pass_s: float = 45.0
) -> Daemon:
    return Daemon(folder.config, configure, longest_pass_s=longest_pass_s)


def meanwhile(story: Callable[[], None], then: signal.Signals = signal.SIGTERM) -> threading.Thread:
    """Play a story beside the daemon, which has the main thread, and end it with a signal whatever happens."""

    def play_story() -> None:
        try:
            story()
        finally:
            os.kill(os.getpid(), then)

    thread = threading.Thread(target=play_story)
    thread.start()
    return thread


def until(condition: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.01)


def live(
    folder: Folder,
    story: Callable[[], None],
    *,
    now: bool = True,
    then: signal.Signals = signal.SIGTERM,
    longest_pass_s: float = 45.0,
) -> None:
    """Run a daemon while the story is played."""
    one = daemon(folder, longest_pass_s=longest_pass_s)
    failed: list[BaseException] = []

    pid = folder.var / "app.pid"

    def play_story() -> None:
        try:
            until(lambda: pid.exists() and bool(pid.read_text()))
            story()
        except BaseException as err:
            failed.append(err)

    thread = meanwhile(play_story, then)
    one.run(now=now)
    thread.join()
    if failed:
        raise failed[0]


# A life


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_now_makes_a_pass_at_once_and_a_signal_ends_it(ready: Folder, number: signal.Signals) -> None:
    ready.want()
    live(ready, lambda: until(lambda: ready.meta.reported(NAME) is not None), then=number)
    assert agent.ask(ready.home()).version == "1.0.0"
    assert (ready.var / "app.pid").read_text() == ""
    log = ready.log()
    assert f"started, pid {os.getpid()}, config {ready.path}/cfg.json" in log
    assert "next pass in " in log
    assert log.splitlines()[-1].endswith("INFO    ended")


def test_before_its_slot_it_heals_and_asks_no_server(ready: Folder) -> None:
    """It has a memory, and an agent that crashed while it was away."""
    ready.want()
    ready.run("apply", "--once")
    log_setup.set_up("debug", ready.var / "app.log", to_stderr=False)
    beats = len(ready.meta.heartbeats)
    agent.crash(ready.home())
    ready.configure(interval="30d")  # its slot is far away, whichever it is
    live(ready, lambda: until(lambda: "start 1.0.0: done" in ready.log().partition("ops-updater")[2]), now=False)
    assert agent.ask(ready.home()).version == "1.0.0"
    assert len(ready.meta.heartbeats) == beats


def test_without_a_memory_it_waits_for_its_slot(ready: Folder) -> None:
    ready.want()
    ready.configure(interval="30d")
    live(ready, lambda: until(lambda: "INFO    the server is asked at this host's slot, in " in ready.log()), now=False)
    assert ready.meta.requests == []


def test_it_beats_at_every_slot(ready: Folder) -> None:
    ready.want()
    ready.configure(interval=1)
    live(ready, lambda: until(lambda: len(ready.meta.heartbeats) >= 4), now=False)
    stamps = [beat["realAgents"][0]["timestamp"] for beat in ready.meta.heartbeats if beat["realAgents"]]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("enabled", [True, False])
def test_it_serves_local_http_where_the_config_says_so_until_it_ends(ready: Folder, enabled: bool) -> None:
    ready.want()
    ready.configure(http={"enabled": enabled, "listen": "127.0.0.1:0"})
    urls: list[str] = []

    def health(url: str) -> str:
        return httpx.get(f"{url}health", trust_env=False, timeout=60).text

    def story() -> None:
        until(lambda: "next pass in" in ready.log())
        urls.extend(re.findall(r"local HTTP: (http://127\.0\.0\.1:\d+/)", ready.log()))
        assert [health(url) for url in urls] == ["ok"] * enabled

    live(ready, story)
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            health(url)


def test_a_second_daemon_of_the_folder_is_refused(ready: Folder) -> None:
    with pid_file(ready.var), pytest.raises(Busy):
        daemon(ready).run(now=True)


def test_a_server_that_is_down_is_no_end(ready: Folder) -> None:
    ready.meta.down()
    live(ready, lambda: until(lambda: "next pass in" in ready.log()))
    assert "and no answer was accepted before" in ready.log()


def test_it_wakes_for_the_end_of_a_watch_and_asks_no_server_then(ready: Folder) -> None:
    ready.want()
    ready.configure(interval="30d", watch=1)
    live(ready, lambda: until(lambda: "1.0.0 is good: it kept running through its watch" in ready.log()))
    assert len(ready.meta.heartbeats) == 2  # the first, and the report of the change


def test_a_watch_that_began_before_the_daemon_wakes_it_long_before_the_slot(ready: Folder) -> None:
    ready.want()
    ready.configure(interval="30d", watch=1)
    ready.run("apply", "--once")
    log_setup.set_up("debug", ready.var / "app.log", to_stderr=False)
    beats = len(ready.meta.heartbeats)
    live(ready, lambda: until(lambda: "1.0.0 is good: it kept running through its watch" in ready.log()), now=False)
    assert len(ready.meta.heartbeats) == beats


def test_what_dies_within_its_watch_is_rolled_back_long_before_the_next_slot(ready: Folder) -> None:
    ready.want()
    for _ in range(2):
        ready.run("apply", "--once")
    log_setup.set_up("debug", ready.var / "app.log", to_stderr=False)
    ready.want("2.0.0", crash_after=1)
    ready.configure(interval="30d", watch=2)
    live(ready, lambda: until(lambda: "2.0.0 was rolled back" in ready.log()))
    assert agent.ask(ready.home()).version == "1.0.0"


def test_to_end_amid_a_change_that_outlasts_its_pass_finishes_it(ready: Folder) -> None:
    ready.configure(interval=2)
    ready.want(slow_stop=5)
    live(ready, lambda: until(lambda: ready.meta.reported(NAME) is not None))
    agent.ask(ready.home())
    ready.want("2.0.0")

    def story() -> None:
        until(lambda: "stop 1.0.0: begins" in ready.log())
        asked = len(ready.meta.requests)
        until(lambda: len(ready.meta.requests) > asked)  # a further pass was begun meanwhile

    live(ready, story)
    assert (ready.home() / ".version").read_text() == "2.0.0"
    assert agent.ask(ready.home()).version == "2.0.0"
    assert "start 2.0.0: done" in ready.log()


def test_a_change_needs_an_answer_that_is_live(ready: Folder) -> None:
    """Between two slots the last answer is acted upon, for one interval, unless a later exchange failed."""
    ready.want()
    one = daemon(ready)
    between = schedule.Next(at=0, exchange=False)
    assert one._ask(schedule.Next(at=0)) is DesiredFrom.EXCHANGE
    assert one._ask(between) is DesiredFrom.LAST_ACCEPTED  # nothing was asked yet
    one._pass(schedule.Next(at=0))
    assert one._ask(between) is DesiredFrom.LIVE
    ready.meta.fail(503, "/heartbeat")
    one._pass(schedule.Next(at=0))
    assert one._ask(between) is DesiredFrom.LAST_ACCEPTED


def test_a_pass_that_breaks_is_no_end(ready: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something unexpected, in the pass itself: it is logged with its traceback, and the next pass is made."""
    ready.want()
    ready.configure(interval=1)
    listdir: Callable[[Any], list[str]] = os.listdir
    broken = threading.Event()

    def breaks(path: Any = ".") -> list[str]:
        if not broken.is_set() and isinstance(path, int) and ready.home().exists():
            broken.set()
            raise RuntimeError("nobody expected this")
        return listdir(path)

    ready.home().mkdir(parents=True)
    monkeypatch.setattr(os, "listdir", breaks)
    live(ready, lambda: until(lambda: ready.meta.reported(NAME) is not None))
    assert "unexpected, please report it: RuntimeError('nobody expected this')" in ready.log()
    assert "Traceback" in ready.log()


def test_a_folder_in_the_place_of_the_lock_keeps_no_pass_away(ready: Folder) -> None:
    ready.want()
    ready.configure(interval=1)
    lock = ready.var / "updater.lock"

    def passes_go_on() -> None:
        beats = len(ready.meta.heartbeats)
        until(lambda: len(ready.meta.heartbeats) > beats + 1)

    def story() -> None:
        until(lambda: ready.meta.reported(NAME) is not None)
        lock.unlink()
        lock.mkdir()
        passes_go_on()
        lock.rmdir()
        passes_go_on()
        assert "no pass was made: " not in ready.log()

    live(ready, story)


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_var_that_is_lost_is_made_again(ready: Folder, how: str) -> None:
    ready.want()
    ready.configure(interval=1)

    def story() -> None:
        until(lambda: ready.meta.reported(NAME) is not None)
        ready.var.rename(ready.path / "elsewhere")  # while a pass may be writing into it
        if how == "removed":
            shutil.rmtree(ready.path / "elsewhere", ignore_errors=True)
        pid = ready.var / "app.pid"
        until(lambda: pid.exists() and pid.read_text() == f"{os.getpid()}\n")
        beats = len(ready.meta.heartbeats)
        until(lambda: len(ready.meta.heartbeats) > beats + 1)
        until(lambda: agent.ask(ready.home()).version == "1.0.0")
        with pytest.raises(Busy), pid_file(ready.var):
            pytest.fail("two of them")

    live(ready, story)


# The next pass


def test_after_a_failed_exchange_there_is_one_further_try_and_then_the_slot(ready: Folder) -> None:
    ready.want()
    ready.configure(interval="30d")
    one = daemon(ready)
    ready.meta.fail(503, "/heartbeat")
    first = one._pass(schedule.Next(at=0))
    second = one._pass(first)
    assert first.at < one._next_slot()
    assert second.at == pytest.approx(one._next_slot())
    third = one._pass(second)  # an interval later it is still down: it is asked once
    assert third.at == pytest.approx(one._next_slot())
    assert len(ready.meta.heartbeats) == 3
    ready.meta.heal()
    following = one._pass(third)
    assert following.exchange is False  # what was installed now is looked at once more, when its watch is over
    assert one._pass(following).at == pytest.approx(one._next_slot())
    ready.meta.fail(503, "/heartbeat")
    again = one._pass(schedule.Next(at=0))  # an outage of its own
    assert (again.exchange, again.at < one._next_slot()) == (True, True)


def test_a_server_that_asks_for_quiet_gets_it(ready: Folder) -> None:
    ready.want()
    for _ in range(2):  # the second finds it good: no watch is open, for which it would wake
        ready.run("apply", "--once")
    one = daemon(ready)
    ready.meta.fail(503, "/heartbeat", retry_after=3600)
    following = one._pass(schedule.Next(at=0))
    assert following.exchange is False
    assert following.at == pytest.approx(one._next_slot())
    beats = len(ready.meta.heartbeats)
    one._pass(following)
    assert len(ready.meta.heartbeats) == beats
    ready.meta.heal()
    assert one._pass(schedule.Next(at=0)).exchange is True


def test_a_pass_that_another_run_makes_is_waited_for_and_then_given_up(ready: Folder) -> None:
    ready.configure(interval=1)
    from updater.service.locks import pass_lock

    with pass_lock(ready.var):
        assert daemon(ready)._try_pass(DesiredFrom.EXCHANGE) is None
    assert "another updater is in a pass" in ready.log()
    assert ready.meta.requests == []


# SIGHUP


def test_a_reload_takes_the_new_config(ready: Folder) -> None:
    ready.want()
    configured: list[Config] = []
    one = daemon(ready, configured.append)

    def story() -> None:
        until(lambda: len(ready.meta.heartbeats) >= 1)
        ready.configure(hostname="renamed", interval=1)
        os.kill(os.getpid(), signal.SIGHUP)
        ready.meta.wait_for_heartbeat(lambda beat: beat["hostname"] == "renamed")

    thread = meanwhile(story)
    one.run(now=True)
    thread.join()
    assert [config.hostname for config in configured] == ["renamed"]
    assert "config read again" in ready.log()


def test_a_flood_of_reloads_keeps_no_pass_away(ready: Folder) -> None:
    ready.want()
    ready.configure(interval=1)
    began, enough = time.monotonic(), threading.Event()

    def flood() -> None:
        while not enough.wait(0.0005):
            os.kill(os.getpid(), signal.SIGHUP)

    def story() -> None:
        ready.meta.wait_for_heartbeat()
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            until(lambda: len(ready.meta.heartbeats) >= 8)
        finally:
            enough.set()
            flooding.join()

    live(ready, story)
    reloads = ready.log().count("config read again")
    assert 1 <= reloads <= (time.monotonic() - began) / 3 + 1
    assert reloads <= 8, "each is made beside passes, not in their place"


@pytest.mark.parametrize("content", ["{", '{"server": "a:1", "auth": {"user": "u", "password_file": "none"}}'])
def test_a_bad_config_keeps_the_old_one(ready: Folder, content: str) -> None:
    ready.want()
    ready.configure(interval=1)

    def story() -> None:
        until(lambda: len(ready.meta.heartbeats) >= 1)
        (ready.path / "cfg.json").write_text(content)
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: "the config is wrong, the old one stays: " in ready.log())
        beats = len(ready.meta.heartbeats)
        until(lambda: len(ready.meta.heartbeats) > beats)

    live(ready, story)
    assert "config read again" not in ready.log()
