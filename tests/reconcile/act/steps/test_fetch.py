"""Fetching from servers on loopback, decent and not: what is resumed, what is refused, what stays for the next try."""

from __future__ import annotations

import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.act.cache import Partial, part_of
from reconcile.act.context import Bounds, Interrupted, StepContext, Throttle, WrongBytes
from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.verify import verify
from reconcile.decide.actions import Fetch, ResponseFingerprint, Result, Verify
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.errors import DigestMismatch, DiskTooSmall, FetchFailed, FetchInterrupted, ReconcileError, WriteFailed
from tests.e2e.processes import until
from tests.loopback import Loopback, Peer, Story, answers
from tests.support.sample_agents import build
from tests.yard import NAME, Yard

SIZE = 300_000
TARBALL = f"{NAME}-1.0.0.tar.gz"
ANY = frozenset[Digest]({Md5("0" * 32)})


def publish(yard: Yard) -> Fetch:
    return yard.publish("1.0.0", size=SIZE)


def content(yard: Yard) -> bytes:
    return build(NAME, "1.0.0", size=SIZE)


def entry(yard: Yard, action: Fetch) -> Path:
    [digest] = action.digests
    return yard.cache / f"{NAME}@{action.version}@{str(digest).replace(':', '-')}.tar.gz"


def fetch_and_verify(action: Fetch, tools: StepContext) -> Result:
    result = fetch(action, tools)
    verify(Verify(digests=action.digests), tools)
    return result


def asked(yard: Yard) -> list[tuple[int, str | None, str | None]]:
    """Status, Range and If-Range of each request for the tarball."""
    return [
        (request.status, request.headers.get("range"), request.headers.get("if-range"))
        for request in yard.meta.requests
        if request.path.endswith(".tar.gz")
    ]


def of(server: Loopback, digests: frozenset[Digest] = ANY) -> Fetch:
    return Fetch(url=f"{server.origin}/x.tar.gz", version="1.0.0", digests=digests)


def parts(yard: Yard) -> dict[str, int]:
    """What lies in the cache: names and sizes."""
    return {path.name: path.stat().st_size for path in yard.cache.iterdir()}


# A decent server


def test_a_tarball_arrives_whole_and_lies_open_on_the_bench(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    assert fetch(action, tools) is Result.DONE
    assert tools.results.path == entry(yard, action)
    assert not entry(yard, action).exists()  # its name is given to it once it is verified
    assert tools.results.seen == {str(digest) for digest in action.digests}
    verify(Verify(digests=action.digests), tools)
    assert entry(yard, action).read_bytes() == content(yard)
    assert parts(yard) == {entry(yard, action).name: len(content(yard))}
    assert yard.cache.stat().st_mode & 0o777 == 0o700


def test_a_cached_tarball_is_not_fetched_again(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    fetch_and_verify(action, tools)
    assert fetch(action, tools) is Result.UNCHANGED
    assert yard.tarball_requests() == 1


def test_an_entry_is_named_by_its_strongest_digest(yard: Yard) -> None:
    action = publish(yard)
    release = yard.meta.release(NAME, "1.0.0")
    both = Fetch(url=action.url, version="1.0.0", digests=action.digests | {Sha256(release.sha256)})
    fetch_and_verify(both, yard.tools())
    assert parts(yard) == {f"{NAME}@1.0.0@sha256-{release.sha256}.tar.gz": len(content(yard))}


def test_without_a_digest_nothing_is_fetched(yard: Yard) -> None:
    action = publish(yard)
    with pytest.raises(DigestMismatch, match="no digest is known"):
        fetch(Fetch(url=action.url, version="1.0.0", digests=frozenset()), yard.tools())
    assert yard.tarball_requests() == 0


def test_a_rate_is_kept(yard: Yard) -> None:
    waits: list[float] = []
    fetch(publish(yard), yard.tools(throttle=Throttle(1000, sleep=waits.append)))
    assert max(waits) == pytest.approx(len(content(yard)) / 1000, rel=0.1)


# Resuming


def test_a_download_that_broke_off_goes_on_where_it_ended(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    yard.meta.cut(TARBALL, after=100_000, times=1)
    with pytest.raises(FetchInterrupted):
        fetch(action, tools)
    had = part_of(entry(yard, action)).stat().st_size
    assert 0 < had <= 100_000
    assert fetch_and_verify(action, tools) is Result.DONE
    [first, (status, where, condition)] = asked(yard)
    assert first == (200, None, None)
    assert (status, where) == (206, f"bytes={had}-")
    assert condition is not None
    assert condition.startswith('"')
    assert entry(yard, action).read_bytes() == content(yard)


def test_a_server_that_knows_no_ranges_sends_all_again(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    yard.meta.cut(TARBALL, after=100_000, times=1)
    yard.meta.ignore_ranges()
    with pytest.raises(FetchInterrupted):
        fetch(action, tools)
    assert fetch_and_verify(action, tools) is Result.DONE
    assert [status for status, _, _ in asked(yard)] == [200, 200]
    assert entry(yard, action).read_bytes() == content(yard)


def test_a_part_of_other_bytes_is_not_gone_on_with(yard: Yard) -> None:
    """The tarball is published again between two tries: its ETag differs, so the server sends all of it."""
    tools = yard.tools()
    yard.publish("1.0.0", size=SIZE, extra={"old": b"old"})
    action = publish(yard)
    yard.publish("1.0.0", size=SIZE, extra={"old": b"old"})
    yard.meta.cut(TARBALL, after=100_000, times=1)
    with pytest.raises(FetchInterrupted):
        fetch(action, tools)
    publish(yard)
    assert fetch_and_verify(action, tools) is Result.DONE
    assert [status for status, _, _ in asked(yard)] == [200, 200]


def leave_part(yard: Yard, action: Fetch, size: int) -> None:
    """Leave so many bytes, and the true ETag, as if a try had broken off there."""
    etag = f'"{yard.meta.release(NAME, "1.0.0").sha256[:32]}"'
    yard.cache.mkdir()
    partial = Partial.take(entry(yard, action), action.url, action.digests)
    assert isinstance(partial, Partial)
    partial.remember(etag)
    partial.write(b"x" * size)
    partial.close()


def test_416_throws_the_part_away_and_is_worth_another_try(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    leave_part(yard, action, len(content(yard)) + 5)
    with pytest.raises(FetchInterrupted, match=r"HTTP 416.*starting again"):
        fetch(action, tools)
    assert fetch_and_verify(action, tools) is Result.DONE
    assert [status for status, _, _ in asked(yard)] == [416, 200]


def test_a_corrupted_part_costs_one_more_download_and_no_more(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    leave_part(yard, action, 1000)
    with pytest.raises(DigestMismatch):
        fetch_and_verify(action, tools)
    assert parts(yard) == {}
    assert fetch_and_verify(action, tools) is Result.DONE
    assert [status for status, _, _ in asked(yard)] == [206, 200]


@pytest.mark.parametrize("sent", ["bytes 5-9/10", "pages 4-9/10", "", "bytes " + "4" * 5000 + "-9/10"])
def test_206_with_another_range_starts_again(yard: Yard, sent: str) -> None:
    half = answers(b"0123", 'ETag: "1"', "Content-Length: 10", length=False)
    with Loopback(
        half, answers(b"567890", f"Content-Range: {sent}", status=206), answers(b"0123456789", 'ETag: "1"')
    ) as server:
        tools = yard.tools()
        with pytest.raises(FetchInterrupted):
            fetch(of(server), tools)
        with pytest.raises(FetchInterrupted, match="another range"):
            fetch(of(server), tools)
        assert fetch(of(server), tools) is Result.DONE
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=4-", None]
    assert tools.results.tarball is not None
    tools.results.tarball.seek(0)
    assert tools.results.tarball.read() == b"0123456789"


def test_206_with_fewer_bytes_than_the_range_has_is_gone_on_with(yard: Yard) -> None:
    """Its own Content-Length is kept, so that the HTTP library finds nothing missing."""
    begins = answers(b"0123", 'ETag: "1"', "Content-Length: 10", length=False)
    short = answers(b"456", "Content-Range: bytes 4-9/10", 'ETag: "1"', status=206)
    ends = answers(b"789", "Content-Range: bytes 7-9/10", 'ETag: "1"', status=206)
    with Loopback(begins, short, ends) as server:
        tools = yard.tools()
        with pytest.raises(FetchInterrupted):
            fetch(of(server), tools)
        with pytest.raises(FetchInterrupted, match="7 bytes arrived, 10 were announced"):
            fetch(of(server), tools)
        assert fetch(of(server), tools) is Result.DONE
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=4-", "bytes=7-"]
    assert tools.results.tarball is not None
    tools.results.tarball.seek(0)
    assert tools.results.tarball.read() == b"0123456789"


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        (['ETag: "1"'], '"1"'),
        (['ETag: W/"1"'], None),
        (["ETag: 1"], None),
        ([], None),
        (["Last-Modified: Sun, 06 Nov 2016 08:49:37 GMT"], "Sun, 06 Nov 2016 08:49:37 GMT"),
        (['ETag: W/"1"', "Last-Modified: Sun, 06 Nov 2016 08:49:37 GMT"], "Sun, 06 Nov 2016 08:49:37 GMT"),
    ],
)
def test_only_a_strong_validator_makes_a_part_worth_resuming(
    yard: Yard, headers: list[str], condition: str | None
) -> None:
    half = answers(b"0123", *headers, "Content-Length: 10", length=False)
    with Loopback(half, answers(b"0123456789")) as server:
        with pytest.raises(FetchInterrupted):
            fetch(of(server), yard.tools())
        fetch(of(server), yard.tools())
    again = server.requests[1].headers
    assert again.get("if-range") == condition
    assert again.get("range") == (None if condition is None else "bytes=4-")


# What is refused


def floods(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.flood(b"x" * 65536)


@pytest.mark.parametrize(
    ("story", "error", "message"),
    [
        pytest.param(answers(b"", status=404), FetchFailed, "HTTP 404", id="404"),
        pytest.param(answers(b"", status=401), FetchFailed, "auth{user", id="401"),
        pytest.param(answers(b"", status=204, length=False), FetchFailed, "HTTP 204, expected 200", id="204"),
        pytest.param(answers(b"", status=304, length=False), FetchFailed, "HTTP 304, expected 200", id="304"),
        pytest.param(answers(b"", status=416), FetchFailed, "HTTP 416", id="416-unasked"),
        pytest.param(answers(b"", status=408), FetchInterrupted, "HTTP 408", id="408"),
        pytest.param(answers(b"", "Retry-After: 7", status=429), FetchInterrupted, "asks to wait 7 s", id="429"),
        pytest.param(answers(b"", status=503), FetchInterrupted, "HTTP 503", id="503"),
        pytest.param(lambda peer: peer.request(), FetchInterrupted, "disconnected", id="closes"),
        pytest.param(answers(b"x" * 1001), FetchFailed, r"larger than max_tarball \(1000 bytes\)", id="announced"),
        pytest.param(answers(b"x" * 1001, length=False), FetchFailed, "larger than max_tarball", id="unannounced"),
        pytest.param(floods, FetchFailed, "larger than max_tarball", id="endless"),
    ],
)
def test_what_is_no_tarball(yard: Yard, story: Story, error: type[ReconcileError], message: str) -> None:
    with Loopback(story) as server, pytest.raises(error, match=message):
        fetch(of(server), yard.tools(bounds=Bounds(max_tarball=1000)))
    assert sum(size for name, size in parts(yard).items() if name.endswith(".part")) == 0


def test_the_largest_tarball_that_is_allowed(yard: Yard) -> None:
    with Loopback(answers(b"x" * 1000)) as server:
        assert fetch(of(server), yard.tools(bounds=Bounds(max_tarball=1000))) is Result.DONE


def test_a_tarball_for_which_there_is_no_room_is_not_begun(yard: Yard) -> None:
    huge = answers(b"x", f"Content-Length: {2**60}", length=False)
    with Loopback(huge) as server, pytest.raises(DiskTooSmall, match="MiB more than is free"):
        fetch(of(server), yard.tools(bounds=Bounds(max_tarball=2**61)))


def test_a_part_that_can_not_be_completed_gives_its_room_back(yard: Yard) -> None:
    half = answers(b"x" * 1000, "Content-Length: 2000", 'ETag: "a"', length=False)
    rest = answers(b"x" * 1000, "Content-Range: bytes 1000-1999/2000", status=206)
    with Loopback(half, rest) as server:
        with pytest.raises(FetchInterrupted):
            fetch(of(server), yard.tools())
        assert parts(yard)
        with pytest.raises(DiskTooSmall, match="to keep free"):
            fetch(of(server), yard.tools(bounds=Bounds(keep_free=1 << 60)))
    assert list(yard.cache.iterdir()) == []


def test_what_arrived_stays_where_the_write_fails_for_another_cause_than_room(yard: Yard) -> None:
    action = publish(yard)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    try:
        with pytest.raises(WriteFailed, match=r"write to the cache .*File too large"):
            fetch(action, yard.tools())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert parts(yard)[part_of(entry(yard, action)).name] > 0


def test_room_is_made_of_what_is_cached_for_others(yard: Yard) -> None:
    other = yard.cache / "md5-1.tar.gz"
    yard.cache.mkdir()
    other.write_bytes(b"x")
    with Loopback(answers(b"x" * 1000)) as server:
        roomy = yard.tools()
        fetch(of(server), roomy)
        roomy.results.clear()
        assert other.exists()
        with pytest.raises(DiskTooSmall):
            fetch(of(server), yard.tools(bounds=Bounds(keep_free=1 << 60)))
    assert not other.exists()


def test_parts_of_other_downloads_are_bounded_before_one_begins(yard: Yard) -> None:
    part = yard.cache / "md5-1.tar.gz.part"
    yard.cache.mkdir()
    part.write_bytes(bytes(2000))
    with Loopback(answers(b"x" * 1000)) as server:
        fetch(of(server), yard.tools(bounds=Bounds(cache_size=1500)))
    assert not part.exists()


def test_a_cache_that_is_a_file(yard: Yard) -> None:
    yard.cache.write_text("in the way")
    with pytest.raises(WriteFailed, match="cache"):
        fetch(publish(yard), yard.tools())
    assert yard.tarball_requests() == 0


def test_a_link_in_place_of_a_part(yard: Yard) -> None:
    action = publish(yard)
    yard.cache.mkdir()
    target = yard.folder / "precious"
    target.write_text("precious")
    part_of(entry(yard, action)).symlink_to(target)
    assert fetch(action, yard.tools()) is Result.DONE
    assert target.read_text() == "precious"
    assert not part_of(entry(yard, action)).is_symlink()


# With others


def test_a_fetch_ends_between_two_blocks_when_we_are_to_end(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    yard.meta.drip(TARBALL, piece=1000, pause=0.005)
    with pytest.raises(Interrupted):  # as soon as the first block is there
        fetch(action, evolve(tools, arrived=lambda size, expected: yard.ending.set()))
    assert part_of(entry(yard, action)).exists()  # what came so far is not lost
    yard.ending.clear()
    yard.meta.heal()
    assert fetch_and_verify(action, tools) is Result.DONE


def test_a_fetch_ends_between_two_pieces_of_one_block(yard: Yard) -> None:
    """At a low rate a block that came at once takes its time."""
    arrived: list[int] = []

    def told(size: int, expected: int | None) -> None:
        arrived.append(size)
        if size:
            yard.ending.set()

    with pytest.raises(Interrupted):
        fetch(publish(yard), evolve(yard.tools(), arrived=told, throttle=Throttle(1000.0, sleep=lambda seconds: None)))
    assert arrived == [0, 1000]


def test_a_fetch_that_waits_for_anothers_ends_when_we_are_to_end(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    yard.cache.mkdir()
    partial = Partial.take(entry(yard, action), action.url, action.digests)
    assert isinstance(partial, Partial)
    yard.ending.set()
    with pytest.raises(Interrupted):
        fetch(action, tools)
    partial.close()
    assert yard.tarball_requests() == 0


def test_agents_that_want_one_tarball_fetch_it_once(yard: Yard) -> None:
    action = publish(yard)
    results: list[Result] = []
    together = threading.Barrier(3)

    def run() -> None:
        tools = yard.tools()
        together.wait()
        results.append(fetch_and_verify(action, tools))
        assert tools.results.tarball is not None
        tools.results.tarball.seek(0)
        assert tools.results.tarball.read() == content(yard)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results, key=str) == [Result.DONE, Result.UNCHANGED, Result.UNCHANGED]
    assert yard.tarball_requests() == 1


def test_no_descriptor_is_left_after_a_failure(yard: Yard) -> None:
    action, tools = publish(yard), yard.tools()
    yard.meta.cut(TARBALL, after=1000)
    with pytest.raises(FetchInterrupted):
        fetch(action, tools)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FetchInterrupted):
            fetch(action, tools)
    # The server is in this process too, and closes its end of a cut connection when it comes to it.
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, "no more descriptors than after the first failure")
    assert tools.results.tarball is None


# What was refused before


def refused_of(yard: Yard, action: Fetch) -> ResponseFingerprint:
    """A download that was not it: what was kept of it."""
    tools = yard.tools()
    fetch(action, tools)
    with pytest.raises(WrongBytes) as raised:
        verify(Verify(digests=action.digests), tools)
    assert raised.value.served is not None
    return raised.value.served


def test_what_the_server_still_has_is_not_downloaded_again(yard: Yard) -> None:
    action = Fetch(url=publish(yard).url, version="1.0.0", digests=ANY)
    refused = refused_of(yard, action)
    assert refused.etag
    assert refused.length == str(len(content(yard)))
    with pytest.raises(WrongBytes, match=r"still what was refused before \(md5:\w+\), so it is not") as raised:
        fetch(action, yard.tools(refused=refused))
    assert raised.value.served == refused
    assert [status for status, _, _ in asked(yard)] == [200, 304]


def test_new_bytes_of_the_server_are_downloaded(yard: Yard) -> None:
    action = Fetch(url=publish(yard).url, version="1.0.0", digests=ANY)
    refused = refused_of(yard, action)
    yard.publish("1.0.0", size=SIZE, extra={"mended": b""})
    assert refused_of(yard, action) != refused
    assert fetch(action, yard.tools(refused=refused)) is Result.DONE
    assert [status for status, _, _ in asked(yard)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("headers", "again"),
    [
        (('ETag: "v1"', "Last-Modified: Tue, 24 Nov 2026 02:00:00 GMT"), False),
        (("Last-Modified: Tue, 24 Nov 2026 02:00:00 GMT",), False),
        ((), False),  # its length alone
        (('ETag: "v2"', "Last-Modified: Tue, 24 Nov 2026 02:00:00 GMT"), True),
        (('ETag: "v1"', "Last-Modified: Tue, 24 Nov 2026 03:00:00 GMT"), True),
    ],
)
def test_a_server_without_conditions_is_known_by_its_headers(yard: Yard, headers: tuple[str, ...], again: bool) -> None:
    """It answers 200 to everything; the body is not waited for."""
    first = ('ETag: "v1"', "Last-Modified: Tue, 24 Nov 2026 02:00:00 GMT")[-len(headers) :] if headers else ()
    with Loopback(answers(b"wrong", *first), answers(b"wrong", *headers)) as server:
        refused = refused_of(yard, of(server))
        tools = yard.tools(refused=refused)
        if again:
            assert fetch(of(server), tools) is Result.DONE
        else:
            with pytest.raises(DigestMismatch, match="not downloaded again"):
                fetch(of(server), tools)
    sent = server.requests[1].headers
    assert (sent.get("if-none-match"), sent.get("if-modified-since")) == (
        refused.etag or None,
        refused.modified or None,
    )


def test_refused_bytes_without_an_etag_are_downloaded_again(yard: Yard) -> None:
    with Loopback(answers(b"wrong", length=False)) as server:
        refused = refused_of(yard, of(server))
        assert fetch(of(server), yard.tools(refused=refused)) is Result.DONE


def test_what_was_refused_elsewhere_says_nothing(yard: Yard) -> None:
    with Loopback(answers(b"wrong", 'ETag: "v1"')) as server:
        refused = refused_of(yard, of(server))
        elsewhere = Fetch(url=f"{server.origin}/y.tar.gz", version="1.0.0", digests=ANY)
        assert fetch(elsewhere, yard.tools(refused=refused)) is Result.DONE


def test_headers_that_can_not_be_kept_are_not(yard: Yard) -> None:
    with Loopback(answers(b"wrong", f"ETag: {'x' * 300}", "Last-Modified: \xe9")) as server:
        refused = refused_of(yard, of(server))
    assert (refused.etag, refused.modified) == ("", "")
