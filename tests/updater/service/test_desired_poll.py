"""A `desired` URL is asked for changes between passes: what makes a pass, what is only logged, when it is asked next.

Real servers on loopback, and the real daemon in this process; five daemons as processes are in tests/e2e.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from reconcile.decide.conditions import Condition
from reconcile.net.http_client import HttpClient, HttpOptions
from tests.loopback import Loopback, Peer, Story, answers
from tests.support.sample_agents import build
from tests.updater.conftest import Folder
from tests.updater.service.test_daemon import live, until
from updater.service.desired_poll import DesiredPoll, PollNews
from updater.sources.url import DesiredUrl

ONE = b'{"desiredAgents": [{"name": "a", "cmd": "start"}]}'
TWO = b'{"desiredAgents": [{"name": "b", "cmd": "start"}]}'
NAME = "falcon-agent"


class Polled:
    """A poll of a server that plays these stories, one for each question. The first is for the pass before."""

    def __init__(self, server: Loopback) -> None:
        self._rung = threading.Semaphore(0)
        self.source = DesiredUrl(f"{server.origin}/d.json", HttpClient(HttpOptions(user_agent="t")), 5)
        self.poll = DesiredPoll(self.source, 1.0, self._rung.release)

    def news(self, *, pass_failed: bool = False) -> PollNews:
        self.poll.ask()
        assert self._rung.acquire(timeout=60)
        news = self.poll.news(pass_failed=pass_failed)
        assert news is not None
        assert self.poll.news(pass_failed=pass_failed) is None, "an answer is taken once"
        return news

    def accept(self) -> None:
        self.source.exchange(None)  # type: ignore[arg-type]  # a plain URL drops the report


@pytest.mark.parametrize(
    ("etag", "unchanged"),
    [('ETag: "1"', answers(status=304)), ("Last-Modified: Mon, 30 Nov 2026 00:00:00 GMT", answers(ONE))],
    ids=["ETag", "none"],
)
def test_unchanged_makes_no_pass_and_a_change_makes_passes_until_one_accepts_it(etag: str, unchanged: Story) -> None:
    new = answers(TWO, 'ETag: "2"')
    with Loopback(answers(ONE, etag), unchanged, new, new, new, answers(TWO)) as server:
        polled = Polled(server)
        polled.accept()
        assert polled.news() == PollNews()
        assert polled.news() == polled.news() == PollNews(pass_now=True)
        polled.accept()
        assert polled.news() == PollNews()
    sent = [request.headers.get("if-none-match") for request in server.requests]
    known = '"1"' if "ETag" in etag else None
    assert sent == [None, known, known, known, known, '"2"'], "the ETag is that of the last accepted file"
    assert not any("if-modified-since" in request.headers for request in server.requests), "a second is too coarse"


def test_before_anything_was_accepted_any_file_is_a_change() -> None:
    with Loopback(answers(ONE, 'ETag: "1"')) as server:
        assert Polled(server).news() == PollNews(pass_now=True)


def test_a_file_that_can_not_be_accepted_makes_one_pass_and_is_asked_again() -> None:
    broken, other = answers(b"{", 'ETag: "2"'), answers(b"[]", 'ETag: "3"')
    stories = (answers(ONE, 'ETag: "1"'), broken, broken, answers(status=503), broken, other, answers(status=304))
    with Loopback(*stories) as server:
        polled = Polled(server)
        polled.accept()
        passes = [polled.news().pass_now for _ in range(5)]
        assert passes == [True, False, False, False, True], "one for each other cause"
        assert polled.news(pass_failed=True).pass_now, "the file that was accepted is there again"
    assert {request.headers.get("if-none-match") for request in server.requests[1:]} == {'"1"'}


def test_an_outage_makes_no_pass_and_its_end_makes_one_if_a_pass_saw_it() -> None:
    down = answers(status=503)
    with Loopback(answers(ONE, 'ETag: "1"'), down, down, answers(status=304), answers(status=304)) as server:
        polled = Polled(server)
        polled.accept()
        for _ in range(2):
            news = polled.news()
            assert (news.pass_now, news.retry_after) == (False, None)
            assert news.server is not None
            assert (news.server.status, news.server.reason) == ("False", "ServerUnreachable")
        back = Condition(type="ServerReachable", status="True", reason="AsDesired", message=f"{server.origin}/d.json")
        assert polled.news(pass_failed=True) == PollNews(pass_now=True, server=back)
        assert polled.news() == PollNews()


def test_a_server_that_hangs_is_not_asked_a_second_time_meanwhile() -> None:
    asked = threading.Event()

    def hangs(peer: Peer) -> None:
        peer.request()
        asked.set()
        peer.hang()

    with Loopback(hangs) as server:
        polled = Polled(server)
        polled.poll.ask()
        assert asked.wait(60)
        for _ in range(20):
            polled.poll.ask()
            assert polled.poll.news(pass_failed=False) is None
        assert len(server.requests) == 1
        polled.poll.forget()  # a pass asked meanwhile: its answer counts
        assert polled.poll.news(pass_failed=False) is None


def test_it_asks_at_its_slot_and_not_before_what_the_server_asked_for() -> None:
    with Loopback(answers(ONE)) as server:
        poll = Polled(server).poll
    now = time.time()
    first = poll.next_at(0.25, None)
    assert 0 < first - now <= 1.1
    assert first % 1.0 == pytest.approx(0.25)
    assert poll.next_at(0.25, None) == first
    quiet = poll.next_at(0.25, now + 100)
    assert 100 <= quiet - now <= 101.1
    assert quiet % 1.0 == pytest.approx(0.25)


# The daemon


class Files:
    """A desired-state file that the test's ops-meta serves beside the tarballs."""

    def __init__(self, folder: Folder, **keys: Any) -> None:
        self.folder = folder
        url = folder.meta.serve("/desired.json", b'{"desiredAgents": []}')
        folder.configure(server=None, desired=url, work_dir=str(folder.work), **{"interval": "30d", **keys})

    def want(self, version: str, **habits: Any) -> None:
        meta = self.folder.meta
        meta.publish(NAME, version, build(NAME, version, **habits))
        self.put({"desiredAgents": [meta.agent(NAME, version)]})

    def put(self, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.folder.meta.serve("/desired.json", text.encode())

    @property
    def statuses(self) -> list[int]:
        return [request.status for request in self.folder.meta.requests if request.path == "/desired.json"]

    def runs(self, version: str) -> Callable[[], bool]:
        path = self.folder.home() / ".version"
        return lambda: path.exists() and path.read_text() == version


@pytest.fixture
def files(ready: Folder) -> Files:
    return Files(ready, desired_poll=1)


@pytest.mark.slow
def test_a_daemon_takes_up_each_change_long_before_its_slot(files: Files) -> None:
    files.want("1.0.0")

    def story() -> None:
        until(files.runs("1.0.0"))
        until(lambda: files.statuses[-2:] == [304, 304])
        files.want("2.0.0")
        until(files.runs("2.0.0"))
        until(lambda: files.statuses[-2:] == [304, 304])

    live(files.folder, story, now=False)
    assert files.folder.log().count("ServerReachable") == 0


@pytest.mark.slow
def test_a_daemon_logs_an_outage_once_and_obeys_retry_after(files: Files) -> None:
    files.want("1.0.0")
    meta = files.folder.meta

    def story() -> None:
        until(files.runs("1.0.0"))
        until(lambda: files.statuses[-2:] == [304, 304])
        meta.fail(500, "/desired.json")
        until(lambda: files.statuses[-3:] == [500, 500, 500])
        meta.heal()
        until(lambda: "ServerReachable is now True" in files.folder.log())
        meta.fail(429, "/desired.json", retry_after=3600)
        until(lambda: files.statuses[-1] == 429)
        asked = len(files.statuses)
        time.sleep(2.5)  # two of its slots: nothing is to come
        assert len(files.statuses) == asked

    live(files.folder, story, now=False)
    log = files.folder.log()
    assert log.count("ServerReachable is now False") == 2
    assert log.count("ServerReachable is now True") == 1


@pytest.mark.slow
def test_a_broken_file_is_in_the_log_once_and_its_repair_is_taken_up(files: Files) -> None:
    files.want("1.0.0")

    def story() -> None:
        until(files.runs("1.0.0"))
        files.put("{")
        until(lambda: "ServerReachable is now False (ResponseInvalid)" in files.folder.log())
        asked = len(files.statuses)
        until(lambda: len(files.statuses) >= asked + 3)
        files.want("2.0.0")
        until(files.runs("2.0.0"))

    live(files.folder, story, now=False)
    assert files.folder.log().count("ServerReachable is now False") == 1


@pytest.mark.slow
def test_a_download_that_takes_long_hides_no_further_change(files: Files) -> None:
    """The pass goes on without it; then another agent is wanted, too."""
    meta, other = files.folder.meta, files.folder.home("other-agent")
    for name in (NAME, "other-agent"):
        meta.publish(name, "1.0.0", build(name, "1.0.0"))
    slow = meta.agent(NAME, "1.0.0")
    files.put({"desiredAgents": [slow]})
    meta.stall(f"/{NAME}-1.0.0.tar.gz")

    def story() -> None:
        until(lambda: any(request.path.endswith(f"/{NAME}-1.0.0.tar.gz") for request in meta.requests))
        files.put({"desiredAgents": [slow, meta.agent("other-agent", "1.0.0")]})
        until(lambda: (other / ".version").exists())
        assert not (files.folder.home() / ".version").exists()
        meta.heal()
        until(files.runs("1.0.0"))

    live(files.folder, story, now=False, longest_pass_s=1.0)


@pytest.mark.slow
def test_a_reload_begins_and_ends_the_questions(ready: Folder) -> None:
    files = Files(ready)
    files.want("1.0.0")

    def story() -> None:
        until(files.runs("1.0.0"))
        asked = len(files.statuses)
        Files(ready, desired_poll=1)
        files.want("1.0.0")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: len(files.statuses) >= asked + 3)

    live(ready, story)
