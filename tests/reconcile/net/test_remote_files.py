"""Configs and digest files, read from real servers on loopback."""

from __future__ import annotations

import functools
import hashlib
import threading
from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.desired import Artifact, DesiredConfig, RuleViolation
from reconcile.decide.records.content import ConfigMemory, DigestFile
from reconcile.decide.target import RemoteInputs
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.net.remote_files import (
    CachedVersion,
    RemoteConfig,
    RemoteDigest,
    RemoteFileReader,
    ask_side_by_side,
    known_inputs,
    question,
    url_asked,
    with_config,
    with_digest,
    with_known_digest,
)
from tests.loopback import GUARD, Loopback, Peer, Story, answers, ends, redirects
from tests.reconcile.decide.worlds import memory, record, seen, wish

MD5 = "490ac172dabecc867289079d48e84a66"


def remote(deadline_s: float = GUARD) -> RemoteFileReader:
    return RemoteFileReader(
        HttpClient(HttpOptions(user_agent="ops-updater/test")),
        deadline_s=deadline_s,
        keep=lambda content: lambda: content,
    )


def hangs(peer: Peer) -> None:
    peer.request()
    peer.hang()


# Configs


@pytest.mark.parametrize("content", [b'{"a": 1}', b"", bytes(range(256)), b"x" * 1024 * 1024])
def test_a_config_is_fetched_with_its_digest(content: bytes) -> None:
    with Loopback(answers(content, 'ETag: "v1"')) as server:
        found = remote().config(f"{server.origin}/cfg.json")
    assert found == RemoteConfig(digest=f"sha256:{hashlib.sha256(content).hexdigest()}", etag='"v1"')
    assert found.content is not None
    assert found.content() == content
    assert "if-none-match" not in server.requests[0].headers


def test_a_known_config_is_asked_for_conditionally() -> None:
    known = CachedVersion(digest="sha256:00", etag='W/"v1"')
    with Loopback(answers(status=304, length=False)) as server:
        found = remote().config(server.origin, known)
    assert found == RemoteConfig(digest="sha256:00", etag='W/"v1"', content=None)
    assert server.requests[0].headers["if-none-match"] == 'W/"v1"'


def test_a_known_config_that_changed_is_read_again() -> None:
    with Loopback(answers(b"new")) as server:
        found = remote().config(server.origin, CachedVersion(digest="sha256:00", etag='"v1"'))
    assert found.content is not None
    assert (found.content(), found.etag) == (b"new", None)


@pytest.mark.parametrize("etag", ['"a b"', "x" * 257, "\xe9", ""])
def test_an_etag_that_can_not_be_kept_is_none(etag: str) -> None:
    with Loopback(answers(b"x", f"ETag: {etag}")) as server:
        assert remote().config(server.origin).etag is None


@pytest.mark.parametrize(
    ("story", "error"),
    [
        pytest.param(answers(status=304, length=False), FetchFailed, id="304-unasked"),
        pytest.param(answers(status=404), FetchFailed, id="404"),
        pytest.param(answers(status=204, length=False), FetchFailed, id="204"),
        pytest.param(answers(b"part", status=206), FetchFailed, id="206"),
        pytest.param(answers(b"x" * (1024 * 1024 + 1)), FetchFailed, id="too-large"),
        pytest.param(redirects("/again"), FetchFailed, id="loop"),
        pytest.param(answers(status=503), FetchInterrupted, id="503"),
        pytest.param(answers(b"half", "Content-Length: 10", length=False), FetchInterrupted, id="half"),
        pytest.param(hangs, FetchInterrupted, id="hangs"),
    ],
)
def test_a_config_that_can_not_be_had(story: Story, error: type[Exception]) -> None:
    with Loopback(story) as server, ends(), pytest.raises(error, match=r"^http://127\.0\.0\.1"):
        remote(deadline_s=0.4).config(f"{server.origin}/cfg.json")


def test_the_same_config_is_asked_for_once_in_a_pass() -> None:
    reader = remote()
    with Loopback(answers(b"one"), answers(b"two")) as server:
        assert reader.config(server.origin) == reader.config(server.origin)
        assert remote().config(server.origin).digest == f"sha256:{hashlib.sha256(b'two').hexdigest()}"
    assert len(server.requests) == 2


def test_a_failure_is_remembered_for_the_pass() -> None:
    reader = remote()
    with Loopback(answers(status=503), answers(MD5.encode())) as server:
        for _ in range(2):
            with pytest.raises(FetchInterrupted, match="503"):
                reader.config(server.origin)
    assert len(server.requests) == 1


def test_all_requests_of_a_pass_share_one_time_limit() -> None:
    now = 0.0

    def costs_half_a_minute(peer: Peer) -> None:
        nonlocal now
        peer.request()
        now += 30

    def seconds() -> float:
        return now

    reader = RemoteFileReader(HttpClient(HttpOptions(user_agent="ops-updater/test")), clock=seconds)
    with Loopback(costs_half_a_minute) as server, Loopback(answers(b"fine")) as other:
        with pytest.raises(FetchInterrupted, match="disconnected"):
            reader.config(server.origin)
        with pytest.raises(FetchInterrupted, match="not asked, the 30 s that a pass has for remote files are over"):
            reader.config(other.origin)
    assert len(other.requests) == 0


def test_bytes_that_are_not_kept_are_freed() -> None:
    with Loopback(answers(b"new")) as server:
        assert (
            RemoteFileReader(HttpClient(HttpOptions(user_agent="ops-updater/test"))).config(server.origin).content
            is None
        )


def test_threads_that_ask_for_the_same_share_one_request() -> None:
    reader, found = remote(), list[str]()
    with Loopback(answers(b"one"), answers(b"two")) as server:
        threads = [threading.Thread(target=lambda: found.append(reader.config(server.origin).digest)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert (len(found), len(set(found)), len(server.requests)) == (8, 1, 1)


# Digest files


@pytest.mark.parametrize(
    "content",
    [
        MD5,
        MD5.upper(),
        f"{MD5}  falcon-agent-5.1.3.tar.gz\n",
        f"{MD5} *falcon-agent-5.1.3.tar.gz\r\n{'0' * 32}  other\n",
        f"\ufeff {MD5}\n",
        f"\n\t{MD5}\n",
    ],
)
def test_a_digest_file(content: str) -> None:
    with Loopback(answers(content.encode())) as server:
        assert remote().digest(f"{server.origin}/a.tar.gz.md5").digest == f"md5:{MD5}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        MD5[1:].encode(),
        (MD5 + "0").encode(),
        b"MD5 (a.tar.gz) = " + MD5.encode(),
        b"<html>not found</html>",
        b"\x1b[2J" + MD5.encode(),
        MD5.encode("utf-16"),
        b"\xff" * 32,
        b"x" * 4096,
    ],
)
def test_what_is_no_digest_file_is_shown_with_what_md5_may_be(content: bytes) -> None:
    with Loopback(answers(content)) as server, pytest.raises(FetchFailed, match="URL base of digest files") as raised:
        remote().digest(f"{server.origin}/a.tar.gz.md5")
    assert str(raised.value).isprintable()
    assert "/a.tar.gz.md5" in str(raised.value)


def test_a_missing_digest_file_says_what_md5_may_be() -> None:
    with (
        Loopback(answers(status=404)) as server,
        pytest.raises(FetchFailed, match=r"HTTP 404.*may be the digest itself"),
    ):
        remote().digest(server.origin)


def test_a_digest_file_is_not_unchanged_where_none_was_known() -> None:
    with Loopback(answers(status=304, length=False)) as server, pytest.raises(FetchFailed, match="HTTP 304"):
        remote().digest(server.origin)


def test_a_digest_file_is_small() -> None:
    with Loopback(answers(MD5.encode() + b" " * 4096)) as server, pytest.raises(FetchFailed, match="4096"):
        remote().digest(server.origin)


def test_a_digest_file_that_breaks_off_may_come_later() -> None:
    reader = remote(deadline_s=0.4)
    with Loopback(hangs) as server, ends(), pytest.raises(FetchInterrupted):
        reader.digest(server.origin)


def test_the_same_digest_file_is_asked_for_once_in_a_pass() -> None:
    reader = remote()
    with Loopback(answers(MD5.encode())) as server:
        assert reader.digest(server.origin) == reader.digest(server.origin)
    assert len(server.requests) == 1


def test_a_known_digest_file_is_asked_for_conditionally() -> None:
    known = CachedVersion(digest=f"md5:{MD5}", etag='"v1"')
    with Loopback(answers(status=304, length=False), answers(b"0" * 32, 'ETag: "v2"')) as server:
        assert remote().digest(server.origin, known) == RemoteDigest(digest=f"md5:{MD5}", etag='"v1"')
        assert remote().digest(server.origin, known) == RemoteDigest(digest="md5:" + "0" * 32, etag='"v2"')
    assert [request.headers["if-none-match"] for request in server.requests] == ['"v1"', '"v1"']


@pytest.mark.parametrize("url", ["", "490ac172", "ftp://127.0.0.1/x", "http://[::1"])
def test_a_bad_url_is_final(url: str) -> None:
    with pytest.raises(FetchFailed):
        remote().config(url)
    with pytest.raises(FetchFailed, match="digest file"):
        remote().digest(url)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_on_a_host_without_a_further_thread_all_is_asked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    begin, begun = threading.Thread.start, list[threading.Thread]()

    def until_none_is_left(thread: threading.Thread) -> None:
        if len(begun) == left:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    asked: list[int] = []
    questions = [
        question(f"http://127.0.0.1:{number % 7}/x", functools.partial(asked.append, number)) for number in range(40)
    ]
    monkeypatch.setattr(threading.Thread, "start", until_none_is_left)
    ask_side_by_side(questions)
    for thread in begun:
        thread.join(60)
    assert sorted(asked) == list(range(40))


def test_one_server_is_asked_by_half_of_the_threads_at_most() -> None:
    guard, asking, ended = threading.Lock(), 0, 0
    most: list[int] = []
    all_ended = threading.Event()

    def ask() -> None:
        nonlocal asking, ended
        with guard:
            asking += 1
            most.append(asking)
        all_ended.wait(0.02)
        with guard:
            asking -= 1
            ended += 1
            if ended == 64:
                all_ended.set()

    ask_side_by_side([question("http://127.0.0.1/x", ask) for _ in range(64)])
    assert all_ended.wait(GUARD)
    assert max(most) <= 16


# What is known, and what is asked


def test_what_a_digest_file_said_counts_for_nine_passes_where_it_is_still_named() -> None:
    desired = wish("start 2.0=A").desired
    desired = evolve(desired, artifact=Artifact(url="http://files/a", digest_url="http://files/a.md5"))
    file = DigestFile(url="http://files/a.md5", digest=f"md5:{MD5}")
    for kept, unasked in (
        (record(digest_file=file), 1),
        (record(digest_file=evolve(file, unasked=8)), 9),
        (record(digest_file=evolve(file, unasked=9)), None),
        (record(digest_file=evolve(file, url="http://files/b.md5")), None),
        (record(), None),
        (None, None),
    ):
        found = with_known_digest(RemoteInputs(), desired, kept)
        assert (found is None) is (unasked is None)
        if found is not None and found.digest_file is not None:
            assert found.digest_file.unasked == unasked
            assert {str(digest) for digest in found.digests} == {f"md5:{MD5}"}


@pytest.mark.parametrize("kept", ["known", "of another file", "without an etag", "none"])
def test_a_digest_file_is_asked_conditionally_where_it_is_known(kept: str) -> None:
    with Loopback(answers(MD5.encode(), 'ETag: "v2"')) as server:
        url = f"{server.origin}/a.md5"
        desired = evolve(wish("start 2.0=A").desired, artifact=Artifact(url="http://files/a", digest_url=url))
        file = DigestFile(url=url, digest=f"md5:{MD5}", etag='"v1"', unasked=5)
        known = {"known": file, "of another file": evolve(file, url="x"), "without an etag": evolve(file, etag=None)}
        found = with_digest(
            RemoteInputs(), desired, record(digest_file=known[kept]) if kept in known else None, remote()
        )
    assert server.requests[0].headers.get("if-none-match") == ('"v1"' if kept == "known" else None)
    assert found.digest_file == DigestFile(url=url, digest=f"md5:{MD5}", etag='"v2"')


def test_without_asking_the_config_is_known_as_the_server_had_it_last() -> None:
    desired, known = wish("start 2.0=A+c1").desired, memory("c1")
    assert known_inputs(desired, record(config=known)).config == known
    assert known_inputs(desired, record(config=memory("c0"), remote_config=known)).config == known
    assert known_inputs(desired, record(config=evolve(known, url="http://other/cfg.json"))).config is None
    assert known_inputs(desired, record()).config is None
    assert known_inputs(desired, None) == RemoteInputs(digests=wish("start 2.0=A").remote.digests)
    barred = evolve(desired, barred=RuleViolation(rule="mirrors", message="not there"))
    assert known_inputs(barred, record(config=known)).config is None
    assert known_inputs(wish("stop").desired, record(config=known)) == RemoteInputs()


def test_what_is_asked_first_of_an_agent_that_is_to_run() -> None:
    def asked(wanted: str, there: str = "", **changes: Any) -> str | None:
        return url_asked(evolve(wish(wanted).desired, **changes), seen(there))

    config = DesiredConfig(name="cfg.json", url="http://meta/cfg.json")
    by_file = Artifact(url="http://files/a", digest_url="http://files/a.md5")
    barred = RuleViolation(rule="mirrors", message="not there")
    assert asked("start 2.0=A", config=config, artifact=by_file) == config.url
    assert asked("start 2.0=A", artifact=by_file) == by_file.digest_url
    assert asked("start 2.0=A", "2.0=A started", artifact=by_file) is None, "it is in use"
    assert asked("start 2.0=A") is None, "the response has its digest"
    for wanted in ("stop", "observe"):
        assert asked(wanted, config=config, artifact=by_file) is None
    for further in ({"barred": barred, "artifact": by_file}, {"artifact": None}):
        assert asked("start 2.0=A", config=config, **further) is None


@pytest.mark.parametrize(
    ("there", "is_known", "conditionally"),
    [
        ("2.0=A+c1 started", True, True),
        ("2.0=A+c1 started", False, False),
        ("2.0=A started", True, False),
        ("2.0=B+c1 started", True, False),
        ("1.0=A+c1 started; staged 2.0=A+c1", True, False),
        ("", True, False),
    ],
)
def test_a_config_is_asked_conditionally_where_its_bytes_are_not_needed(
    there: str, is_known: bool, conditionally: bool
) -> None:
    wanted = wish("start 2.0=A+c1")
    with Loopback(answers(b"{}")) as server:
        url = f"{server.origin}/cfg.json"
        desired = evolve(wanted.desired, config=DesiredConfig(name="cfg.json", url=url))
        known = ConfigMemory(name="cfg.json", url=url, digest="sha256:c1", etag='"v1"')
        kept = record(config=known) if is_known else None
        found, content = with_config(wanted.remote, desired, seen(there), kept, remote())
    assert ("if-none-match" in server.requests[0].headers) is conditionally
    assert (found.config is not None, content is not None) == (True, True)
