"""The HTTP client against real servers on loopback: what a decent one gets, and that no other one can hurt us."""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.net.http_client import (
    Auth,
    HttpClient,
    HttpOptions,
    HttpReply,
    Pins,
    check_status,
    origin_of,
    page_title,
)
from tests.certificates import Certificate, make
from tests.e2e.processes import until
from tests.hostile.peers import drips_its_body, hangs
from tests.loopback import GUARD, Loopback, Peer, Story, answers, ends, redirects

DEADLINE = 0.4  # seconds
LIMIT = 64 * 1024
ROOT = Path(__file__).parents[3]


def client(**options: object) -> HttpClient:
    return HttpClient(HttpOptions(user_agent="ops-updater/test", **options))  # type: ignore[arg-type]


def get(url: str, http: HttpClient | None = None, *, redirects: int = 0, deadline_s: float = GUARD) -> HttpReply:
    return (http or client()).small("GET", url, limit=LIMIT, deadline_s=deadline_s, redirects=redirects)


class Clock:
    """Time that passes when a test says so, and by `tick` with each look at it."""

    def __init__(self, tick: float = 0) -> None:
        self.now = 1000.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


def drain(url: str, *, stall_s: float) -> None:
    with client().download(url, stall_s=stall_s) as download:
        for _ in download.chunks():
            pass


def numeric_only(monkeypatch: pytest.MonkeyPatch, otherwise: Callable[[], object] = lambda: None) -> None:
    """Let no test ask a real resolver: a name is answered by what `otherwise` does, and then is not known."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> object:
        if not flags & socket.AI_NUMERICHOST:
            host.encode("idna")  # as the real one does
            otherwise()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# A decent server


def test_a_reply_is_read_whole() -> None:
    with Loopback(answers(b"hello", "X-Thing: a", status=404)) as server:
        reply = get(f"{server.origin}/path?q=1")

    assert (reply.status, reply.body, reply.url) == (404, b"hello", f"{server.origin}/path?q=1")
    assert reply.headers["x-thing"] == reply.headers["X-THING"] == "a"
    [request] = server.requests
    assert request.line == "GET /path?q=1 HTTP/1.1"
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "ops-updater/test",
        "accept-encoding": "identity",
        "connection": "close",
    }


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a+b/falcon-1.0+2.tar.gz", "/a%2Bb/falcon-1.0%2B2.tar.gz"),
        ("/falcon-1.0%2B2%20x.tar.gz", "/falcon-1.0%2B2%20x.tar.gz"),
        ("/+?a+b=c%20+d", "/%2B?a+b=c%20+d"),
    ],
)
def test_a_plus_in_a_path_is_sent_encoded_and_in_a_query_as_it_is(path: str, sent: str) -> None:
    with Loopback(redirects("/to+there?x+y"), answers(b"ok")) as server:
        reply = get(f"{server.origin}{path}", redirects=1)

    assert [request.line for request in server.requests] == [f"GET {sent} HTTP/1.1", "GET /to%2Bthere?x+y HTTP/1.1"]
    assert reply.url == f"{server.origin}/to+there?x+y", (
        "for people, for rules and for what is remembered it is the same"
    )


def test_a_body_and_headers_are_sent() -> None:
    with Loopback(answers(b"ok")) as server:
        client().small(
            "POST",
            server.origin,
            body=b'{"a":1}',
            headers={"Content-Type": "application/json"},
            limit=LIMIT,
            deadline_s=GUARD,
        )

    [request] = server.requests
    assert (request.line, request.body) == ("POST / HTTP/1.1", b'{"a":1}')
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == "7"


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(answers(b"hello"), id="length"),
        pytest.param(answers(b"hello", length=False), id="until-close"),
        pytest.param(
            answers(b"2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False), id="chunked"
        ),
        pytest.param(answers(b"hello", "Content-Encoding: identity"), id="identity"),
    ],
)
def test_every_decent_framing_is_understood(story: Story) -> None:
    with Loopback(story) as server:
        assert get(server.origin).body == b"hello"


def test_one_client_serves_several_threads() -> None:
    http, bodies = client(), []
    with Loopback(answers(b"hello")) as server:
        threads = [threading.Thread(target=lambda: bodies.append(get(server.origin, http).body)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bodies == [b"hello"] * 8


# What must end; further behaviours are in tests/hostile


def test_a_server_that_never_reads_the_request_ends_it() -> None:
    # The kernel accepts, and no program reads.
    with socket.create_server(("127.0.0.1", 0)) as server, ends(), pytest.raises(FetchInterrupted, match="too slow"):
        client().small(
            "POST",
            f"http://127.0.0.1:{server.getsockname()[1]}/",
            body=bytes(32 * 1024 * 1024),
            limit=LIMIT,
            deadline_s=DEADLINE,
        )


def test_a_refusal_that_comes_before_the_body_was_read_is_still_an_answer() -> None:
    def refuses_early(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nhuge")
        peer.sock.shutdown(socket.SHUT_RD)
        peer.hang()

    with Loopback(refuses_early) as server, ends():
        reply = client().small("POST", server.origin, body=b"x" * 1000, limit=LIMIT, deadline_s=GUARD)
    assert (reply.status, reply.body) == (413, b"huge")


def test_a_server_that_reads_the_request_slowly_is_not_waited_for_beyond_the_deadline() -> None:
    """Each of its reads is in time, and all of them are not."""

    def sips(peer: Peer) -> None:
        while peer.sock.recv(65536) and not server.closing.wait(DEADLINE / 40):
            pass

    with Loopback(sips) as server, ends(), pytest.raises(FetchInterrupted, match="too slow"):
        client().small("POST", server.origin, body=bytes(256 * 1024 * 1024), limit=LIMIT, deadline_s=DEADLINE)


def test_a_server_that_goes_away_amid_the_request_is_interrupted() -> None:
    with Loopback(lambda peer: peer.sock.recv(1)) as server, ends(), pytest.raises(FetchInterrupted):
        client().small("POST", server.origin, body=bytes(32 * 1024 * 1024), limit=LIMIT, deadline_s=GUARD)


def test_a_server_that_goes_away_without_an_answer_is_said_within_a_sentence() -> None:
    def hangs_up(peer: Peer) -> None:
        peer.request()

    with Loopback(hangs_up) as server, ends(), pytest.raises(FetchInterrupted) as raised:
        get(server.origin)
    assert str(raised.value) == f"{server.origin}: Server disconnected without sending a response"


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    with Loopback(answers(b"hello")) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", at) for at in (dead, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        assert get("http://meta.test/").body == b"hello"


def test_a_port_without_a_listener_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchInterrupted, match="refused"):
        get(f"http://127.0.0.1:{port}/")


def test_a_name_lookup_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    numeric_only(monkeypatch, otherwise=lambda: release.wait())
    with ends(), pytest.raises(FetchInterrupted, match=r"meta\.test was not resolved in time"):
        get("http://meta.test/", deadline_s=DEADLINE)
    release.set()


def test_a_name_that_does_not_exist_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    numeric_only(monkeypatch)
    with pytest.raises(FetchInterrupted, match="Name or service not known"):
        get("http://meta.test/")


def test_a_name_without_an_address_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    with pytest.raises(FetchInterrupted, match=r"the name meta\.test has no address"):
        get("http://meta.test/")


def test_a_name_that_no_thread_is_left_to_look_up_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    numeric_only(monkeypatch)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(FetchInterrupted, match="was not looked up, the host is short of a resource: can't start"):
        get("http://meta.test/")


# Sizes


@pytest.mark.parametrize(
    ("story", "message"),
    [
        (answers(b"", f"Content-Length: {LIMIT + 1}", length=False), "announced"),
        (answers(b"x" * (LIMIT + 1), length=False), "larger than"),
        (lambda peer: (peer.request(), peer.send(b"HTTP/1.0 200 OK\r\n\r\n"), peer.flood(bytes(65536))), "larger than"),
        (answers(gzip.compress(bytes(10**7)), "Content-Encoding: gzip"), "compressed"),
        (answers(b"", "Content-Length: " + "9" * 20, length=False), "9{20} bytes announced"),
    ],
    ids=["announced", "sent", "endless", "compressed", "announced without measure"],
)
def test_too_much_is_final(story: Story, message: str) -> None:
    with Loopback(story) as server, ends(), pytest.raises(FetchFailed, match=message):
        get(server.origin)


@pytest.mark.parametrize("length", ["x", "1e3", "-1", "+5", "1_0", "\xb2", "9" * 5000])
def test_a_length_that_is_none_is_no_answer(length: str) -> None:
    with Loopback(answers(b"12345", f"Content-Length: {length}", length=False)) as server:
        with pytest.raises(FetchInterrupted):
            get(server.origin)
        with pytest.raises(FetchInterrupted), client().download(server.origin):
            pass


def test_exactly_the_limit_is_fine() -> None:
    with Loopback(answers(b"x" * LIMIT)) as server:
        assert len(get(server.origin).body) == LIMIT


def test_an_error_page_is_cut_and_never_unpacked() -> None:
    with Loopback(answers(b"x" * (LIMIT + 9), status=500)) as server:
        assert get(server.origin).body == b"x" * LIMIT
    with Loopback(answers(gzip.compress(b"page"), "Content-Encoding: gzip", status=502)) as server:
        assert get(server.origin).body == b""


# Downloads


def test_a_download_gives_the_bytes_as_they_are() -> None:
    packed = gzip.compress(bytes(300_000))
    with (
        Loopback(answers(packed, "Content-Encoding: gzip", "ETag: tag", status=206)) as server,
        client().download(server.origin, {"Range": "bytes=5-"}) as download,
    ):
        assert (download.status, download.headers["etag"], download.url) == (206, "tag", server.origin)
        assert b"".join(download.chunks()) == packed
    assert server.requests[0].headers["range"] == "bytes=5-"


def test_what_the_reader_raises_passes_unchanged() -> None:
    disk_full = OSError(28, "No space left on device")

    def reader(url: str) -> None:
        with client().download(url) as download:
            for _ in download.chunks():
                raise disk_full

    with Loopback(answers(b"hello")) as server, pytest.raises(OSError, match="No space left") as raised:
        reader(server.origin)
    assert raised.value is disk_full


def test_time_that_the_reader_takes_is_not_the_servers() -> None:
    clock = Clock()
    http = HttpClient(HttpOptions(user_agent="ops-updater/test"), clock)
    body = bytes(1_000_000)
    with Loopback(answers(body)) as server, http.download(server.origin, stall_s=30) as download:
        arrived = 0
        for chunk in download.chunks():
            arrived += len(chunk)
            clock.now += 1000
    assert arrived == len(body)


def test_a_download_goes_on_as_long_as_it_keeps_pace() -> None:
    clock = Clock(tick=0.1)
    body = bytes(8 * 1024 * 1024)
    with Loopback(answers(body)) as server:
        http = HttpClient(HttpOptions(user_agent="ops-updater/test"), clock)
        with http.download(server.origin, stall_s=1) as download:
            assert sum(map(len, download.chunks())) == len(body)
    assert clock.now > 1002  # twice the stall limit, and welcome


def test_the_deadline_holds_between_the_pieces_of_one_read() -> None:
    pieces = 10_000  # half as many would be too much
    http = HttpClient(HttpOptions(user_agent="ops-updater/test"), Clock(tick=2 * DEADLINE / pieces))
    with Loopback(in_chunks(1, pieces)) as server, pytest.raises(FetchInterrupted, match="too slow"):
        http.small("GET", server.origin, limit=2 * pieces, deadline_s=DEADLINE)


def test_a_download_below_the_least_pace_is_interrupted() -> None:
    with Loopback(drips_its_body) as server, ends(), pytest.raises(FetchInterrupted, match="too slow"):
        drain(server.origin, stall_s=DEADLINE)


def test_a_download_that_is_given_up_ends_at_once() -> None:
    is_cancelled = threading.Event()

    def goes_silent(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
        is_cancelled.set()
        peer.hang()

    with (
        Loopback(goes_silent) as server,
        ends(),
        pytest.raises(FetchInterrupted, match="asked to end"),
        client().download(server.origin, stall_s=10 * GUARD, is_cancelled=is_cancelled.is_set) as download,
    ):
        list(download.chunks())


def test_what_is_there_is_taken_at_once() -> None:
    """Read in pieces of 64 KiB, a fast link costs twice the time."""
    size = 16 * 1024 * 1024

    def is_fast(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    with Loopback(is_fast) as server, client().download(server.origin) as download:
        assert max(map(len, download.chunks())) > 64 * 1024


def in_chunks(size: int, count: int) -> Story:
    """A body in so many chunks of that size."""
    chunk = b"%x\r\n%s\r\n" % (size, bytes(size))

    def respond(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * count + b"0\r\n\r\n")

    return respond


@pytest.mark.parametrize(("size", "count", "is_taken"), [(1, 16_384, True), (1, 16_385, False), (80, 16_400, True)])
def test_many_pieces_are_taken_where_they_are_large_enough(size: int, count: int, is_taken: bool) -> None:
    with Loopback(in_chunks(size, count)) as server:
        if is_taken:
            drain(server.origin, stall_s=GUARD)
            return
        with pytest.raises(FetchFailed, match="in pieces of 1 bytes, expected 64 or more on average"):
            drain(server.origin, stall_s=GUARD)


# Redirects


def test_a_redirect_is_followed_where_it_may() -> None:
    with Loopback(redirects("/there"), answers(b"hello")) as server:
        reply = get(f"{server.origin}/here", redirects=3)
    assert (reply.body, reply.url) == (b"hello", f"{server.origin}/there")


def test_without_redirects_a_redirect_is_the_reply() -> None:
    with Loopback(redirects("/there", 307)) as server:
        reply = client().small("GET", server.origin, limit=LIMIT, deadline_s=GUARD)
    assert (reply.status, reply.headers["location"]) == (307, "/there")
    assert len(server.requests) == 1


def test_a_loop_ends() -> None:
    with Loopback(redirects("/again")) as server, pytest.raises(FetchFailed, match="more than 3 times"):
        get(server.origin, redirects=3)
    assert len(server.requests) == 4


def test_a_download_follows_three_redirects_and_no_fourth() -> None:
    with Loopback(*[redirects("/on")] * 3, answers(b"hello")) as server, client().download(server.origin) as download:
        assert b"".join(download.chunks()) == b"hello"
    with (
        Loopback(*[redirects("/on")] * 4, answers(b"hello")) as server,
        pytest.raises(FetchFailed, match="more than 3 times"),
        client().download(server.origin),
    ):
        pass


@pytest.mark.parametrize(
    "location", ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[::1", "http://127.0.0.1:99999/"]
)
def test_a_redirect_to_nowhere_good_is_final(location: str) -> None:
    with Loopback(redirects(location)) as server, pytest.raises(FetchFailed), client().download(server.origin):
        pass


def test_all_redirects_share_one_deadline() -> None:
    with Loopback(redirects("/x"), hangs) as server, ends(), pytest.raises(FetchInterrupted):
        get(server.origin, redirects=3, deadline_s=DEADLINE)


# Credentials


def with_auth(*origins: str) -> HttpClient:
    return client(auth=Auth(user="me", password="canary-pw", origins=frozenset(origins)))


def test_credentials_go_to_their_origins_alone() -> None:
    with Loopback(answers()) as ours, Loopback(answers()) as other:
        http = with_auth(ours.origin)
        get(f"{ours.origin}/a", http)
        get(f"{other.origin}/a", http)
    assert ours.requests[0].headers["authorization"] == "Basic bWU6Y2FuYXJ5LXB3"
    assert "authorization" not in other.requests[0].headers


def test_credentials_stay_off_after_a_redirect_to_another_origin() -> None:
    with Loopback(answers(b"end")) as other, Loopback(answers(b"end")) as ours:
        ours.stories.insert(0, redirects(f"{other.origin}/there"))
        other.stories.insert(0, redirects(f"{ours.origin}/back"))
        get(ours.origin, with_auth(ours.origin, other.origin), redirects=3)
    assert "authorization" in ours.requests[0].headers
    assert "authorization" not in other.requests[0].headers
    assert "authorization" not in ours.requests[1].headers


def test_credentials_stay_on_within_the_origin() -> None:
    with Loopback(redirects("/there"), answers()) as server:
        get(server.origin, with_auth(server.origin), redirects=3)
    assert ["authorization" in request.headers for request in server.requests] == [True, True]


def test_without_its_password_an_origin_is_not_asked() -> None:
    with Loopback(answers()) as server:
        auth = Auth(user="me", password=None, origins=frozenset({server.origin}), trouble="no such file: pw")
        with pytest.raises(FetchFailed, match="not asked, its password is missing: no such file: pw"):
            get(server.origin, client(auth=auth))
    assert server.requests == []


def test_credentials_in_an_url_are_neither_sent_nor_shown() -> None:
    with Loopback(answers(), hangs) as server:
        url = f"http://me:canary-pw@127.0.0.1:{server.port}/x?token=canary-pw"
        get(url)
        with pytest.raises(FetchInterrupted) as raised:
            get(url, deadline_s=DEADLINE)
    assert "authorization" not in server.requests[0].headers
    assert "canary" not in str(raised.value)


def test_no_secret_is_in_a_repr() -> None:
    auth = Auth(user="me", password="canary-pw", origins=frozenset())
    assert "canary" not in repr(HttpOptions(auth=auth, proxy="http://u:canary-pw@127.0.0.1:1", user_agent="x"))


# Bad URLs


@pytest.mark.parametrize(
    "url",
    ["http://u:zq7/x@127.0.0.1:1/x", "http://h:zq7/", "http://[::1/zq7", "http://h/?\x01zq7", "http://h:99999/zq7?zq7"],
)
def test_a_request_that_can_not_be_made_quotes_nothing_and_says_what_to_do(url: str) -> None:
    with pytest.raises(FetchFailed, match=r"a request that can be made.* correct that URL") as failed:
        get(url)
    assert "zq7" not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "meta:2000/x",
        "ftp://127.0.0.1/x",
        "http:///x",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:http/",
        "http://[::1/",
        "http://a\x00b/",
        "http://127.0.0.1/a\r\nX: y",
        f"http://127.0.0.1/{'x' * 70_000}",
        f"http://{'x' * 64}.test/",
        "http://\ud800/",
        "http://-/",
        "http://xn--/",
    ],
)
def test_a_bad_url_is_final(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numeric_only(monkeypatch)
    with pytest.raises((FetchFailed, FetchInterrupted)):
        get(url)


def test_a_header_that_can_not_be_sent_is_final() -> None:
    with Loopback(answers()) as server:
        for value in ("a\r\nX: y", "\u20ac"):
            with pytest.raises(FetchFailed):
                client().small("GET", server.origin, headers={"If-None-Match": value}, limit=LIMIT, deadline_s=GUARD)
    assert server.requests == []


# Proxies


def test_a_proxy_is_asked_for_the_whole_url() -> None:
    with Loopback(answers(b"by proxy")) as proxy:
        http = client(proxy=f"http://pu:pp@127.0.0.1:{proxy.port}")
        assert get("http://meta.test/x", http).body == b"by proxy"
    [request] = proxy.requests
    assert request.line == "GET http://meta.test/x HTTP/1.1"
    assert request.headers["host"] == "meta.test"
    assert request.headers["proxy-authorization"] == "Basic cHU6cHA="


def test_a_proxy_that_hangs_ends() -> None:
    with Loopback(hangs) as proxy:
        with ends(), pytest.raises(FetchInterrupted, match="through the proxy"):
            get("https://meta.test/x", client(proxy=proxy.origin), deadline_s=DEADLINE)
        until(lambda: proxy.requests, "the proxy has read it")  # which may still be read when we have gone
    assert proxy.requests[0].line == "CONNECT meta.test:443 HTTP/1.1"


def test_a_proxy_that_refuses_a_tunnel_is_named() -> None:
    with Loopback(answers(status=403)) as proxy, pytest.raises(FetchInterrupted, match=r"proxy .*403"):
        get("https://meta.test/x", client(proxy=proxy.origin))


@pytest.mark.parametrize("proxy", ["https://127.0.0.1:1", "socks5://127.0.0.1:1", "127.0.0.1:1"])
def test_another_kind_of_proxy_is_refused_at_once(proxy: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        client(proxy=proxy)


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary-pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Loopback(answers(b"direct", "Set-Cookie: a=b")) as server:
        http = client()
        assert get(server.origin, http).body == get(server.origin, http).body == b"direct"
    for request in server.requests:
        assert not {"authorization", "cookie"} & set(request.headers)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one PEM file; its authority is `cert.pem` beside it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "cert.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    return folder / "both.pem"


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_private_authority_is_trusted_when_named(tls: ssl.SSLContext, certificate: Path) -> None:
    http = client(ca_file=certificate.with_name("cert.pem"))
    with Loopback(answers(b"secret"), tls=tls) as server:
        assert get(server.origin, http).body == b"secret"
        with http.download(server.origin) as download:
            assert b"".join(download.chunks()) == b"secret"


def test_an_unknown_certificate_is_final(tls: ssl.SSLContext) -> None:
    with Loopback(answers(b"secret"), tls=tls) as server, pytest.raises(FetchFailed, match=r"tls\.ca_file"):
        get(server.origin)
    assert server.requests == []


def test_another_name_than_the_certificates_is_final(tls: ssl.SSLContext, certificate: Path) -> None:
    http = client(ca_file=certificate.with_name("cert.pem"))
    with Loopback(answers(), tls=tls) as server, pytest.raises(FetchFailed, match="is for another name"):
        get(f"https://localhost:{server.port}/", http)


# What the field's certificates are like


def refusal(served: Certificate, folder: Path, **options: object) -> str:
    """What is said of a server with that certificate; it gets no request."""
    with Loopback(answers(b"secret"), tls=served.serves(folder)) as server, pytest.raises(FetchFailed) as raised:
        get(server.origin, client(**options))
    assert server.requests == []
    return str(raised.value)


def pinned(*digests: str, origin: str) -> Pins:
    return Pins(digests=frozenset(digests), origins=frozenset({origin}))


def test_an_old_private_authority_without_key_identifiers_is_taken_by_each_python(tmp_path: Path) -> None:
    authority = make("old authority", is_authority=True)
    served = make(issuer=authority)
    http = client(ca_file=authority.write(tmp_path / "ca.pem"))
    with Loopback(answers(b"secret"), tls=served.serves(tmp_path)) as server:
        assert get(server.origin, http).body == b"secret"
    assert "unknown issuer" in refusal(
        make(issuer=make("other", is_authority=True)), tmp_path, ca_file=tmp_path / "ca.pem"
    )


def test_a_chain_may_end_at_an_intermediate_authority_that_is_named(tmp_path: Path) -> None:
    intermediate = make("middle", is_authority=True, issuer=make("root", is_authority=True))
    http = client(ca_file=intermediate.write(tmp_path / "ca.pem"))
    with Loopback(answers(b"secret"), tls=make(issuer=intermediate).serves(tmp_path)) as server:
        assert get(server.origin, http).body == b"secret"


@pytest.mark.parametrize(
    ("to", "from_days", "to_days", "said", "remedy"),
    [
        ("127.0.0.1", -9, -1, "has expired", "have it renewed there, or is this host's clock wrong? It says 20"),
        ("127.0.0.1", 1, 9, "is not valid yet", "is this host's clock right? It says 20"),
        ("127.0.0.2", -1, 9, "is for another name", "ask for it by a name that its certificate has"),
        ("meta.test", -1, 9, "is for another name", "or take ops-meta's own as it is by tls.pin_sha256"),
        ("", -1, 9, "is for another name", "have one issued"),
    ],
)
def test_what_is_wrong_with_a_certificate_has_its_own_remedy(
    tmp_path: Path, to: str, from_days: int, to_days: int, said: str, remedy: str
) -> None:
    authority = make("authority", is_authority=True)
    served = make(to, issuer=authority, from_days=from_days, to_days=to_days)
    message = refusal(served, tmp_path, ca_file=authority.write(tmp_path / "ca.pem"))
    what, _, what_to_do = message.rpartition("; ")
    assert f"the server's certificate {said}" in what
    assert remedy in what_to_do


@pytest.mark.parametrize("issuer", [None, make("unknown", is_authority=True)])
def test_an_unknown_issuer_is_named_by_ca_file_or_pinned(tmp_path: Path, issuer: Certificate | None) -> None:
    message = refusal(make(issuer=issuer), tmp_path)
    assert "is of an unknown issuer" in message
    assert "tls.ca_file" in message
    assert "tls.pin_sha256" in message


@pytest.mark.parametrize(("from_days", "to_days"), [(-1, 9), (-9, -1), (1, 9)])
def test_a_pinned_certificate_is_taken_whatever_its_name_time_and_issuer(
    tmp_path: Path, from_days: int, to_days: int
) -> None:
    served = make("elsewhere.test", from_days=from_days, to_days=to_days)
    with Loopback(answers(b"secret"), tls=served.serves(tmp_path)) as server:
        http = client(pins=pinned("0" * 64, served.digest, origin=server.origin))
        assert get(server.origin, http).body == b"secret"
        with http.download(server.origin) as download:
            assert b"".join(download.chunks()) == b"secret"


def test_another_certificate_than_the_pinned_one_gets_no_request(tmp_path: Path) -> None:
    authority = make("authority", is_authority=True)
    served = make(issuer=authority)
    ca_file = authority.write(tmp_path / "ca.pem")
    with Loopback(answers(b"secret"), tls=served.serves(tmp_path)) as server, pytest.raises(FetchFailed) as raised:
        get(server.origin, client(pins=pinned(make().digest, origin=server.origin), ca_file=ca_file))
    assert server.requests == [], "however good it is: exactly the pinned ones are taken"
    assert f"serves a certificate of sha256 {served.digest}, none of tls.pin_sha256" in str(raised.value)


def test_a_pin_is_of_its_origin_alone(tmp_path: Path) -> None:
    served = make("elsewhere.test")
    with (
        Loopback(answers(b"secret"), tls=served.serves(tmp_path)) as other,
        Loopback(redirects(other.origin), tls=served.serves(tmp_path)) as server,
    ):
        http = client(pins=pinned(served.digest, origin=server.origin))
        with pytest.raises(FetchFailed, match="unknown issuer"):
            get(server.origin, http, redirects=1)
    assert (len(server.requests), other.requests) == (1, [])


def test_a_pin_holds_through_a_proxy(tmp_path: Path) -> None:
    served = make("elsewhere.test")
    with Loopback(answers(b"secret"), tls=served.serves(tmp_path)) as server, Loopback(tunnel_to(server)) as proxy:
        for digest, is_taken in ((served.digest, True), ("0" * 64, False)):
            http = client(proxy=proxy.origin, pins=pinned(digest, origin=server.origin))
            if is_taken:
                assert get(server.origin, http).body == b"secret"
                continue
            with pytest.raises(FetchFailed, match="none of tls"):
                get(server.origin, http)
        assert client(proxy=proxy.origin).certificate(server.origin) == served.der
    assert len(server.requests) == 1


def test_the_certificate_that_is_served_is_seen_without_a_request(tmp_path: Path) -> None:
    served = make("elsewhere.test", from_days=-9, to_days=-1)
    with Loopback(answers(), tls=served.serves(tmp_path)) as server:
        assert client().certificate(server.origin) == served.der
    assert server.requests == []


def test_a_server_without_tls_serves_no_certificate() -> None:
    with Loopback(answers()) as server, pytest.raises(FetchFailed, match="served no certificate"):
        client().certificate(server.origin)


def test_https_to_a_port_of_http_is_named() -> None:
    with Loopback(lambda peer: (peer.sock.recv(1), peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as server:
        for ask in (get, client().certificate):
            with pytest.raises(FetchInterrupted, match="something else than TLS; does that port serve http") as raised:
                ask(server.origin.replace("http:", "https:"))
            assert raised.value.remedy


def test_a_handshake_that_is_cut_off_is_named(tmp_path: Path) -> None:
    message = r"no TLS handshake \(.*\); does it serve https at that port"
    with Loopback(lambda peer: peer.sock.recv(1)) as server, pytest.raises(FetchInterrupted, match=message):
        get(server.origin.replace("http:", "https:"))


def test_http_to_a_port_of_tls_is_named_by_its_alert(tmp_path: Path) -> None:
    def alerts(peer: Peer) -> None:
        peer.request()
        peer.send(b"\x15\x03\x01\x00\x02\x02\x46")

    with Loopback(alerts) as server, pytest.raises(FetchFailed, match="that port speaks TLS; write https://"):
        get(server.origin)


def test_a_port_of_tls_that_ends_the_connection_without_a_word_is_asked_what_it_is(tmp_path: Path) -> None:
    with Loopback(answers(b"secret"), tls=make().serves(tmp_path)) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with pytest.raises(FetchInterrupted) as raised:
            get(url)
        assert "that port speaks TLS; write https://" in str(client().explained(raised.value, url))
    with Loopback(lambda peer: peer.request()) as server, pytest.raises(FetchInterrupted) as raised:
        get(server.origin)
    assert client().explained(raised.value, server.origin) is raised.value


def test_https_is_never_left_for_http(tls: ssl.SSLContext, certificate: Path) -> None:
    http = client(ca_file=certificate.with_name("cert.pem"))
    with Loopback(answers(b"plain")) as plain, Loopback(redirects(plain.origin), tls=tls) as server:
        with pytest.raises(FetchFailed, match="from https to http"):
            get(server.origin, http, redirects=3)
        assert plain.requests == []


def test_http_may_lead_to_https(tls: ssl.SSLContext, certificate: Path) -> None:
    http = client(ca_file=certificate.with_name("cert.pem"))
    with Loopback(answers(b"secret"), tls=tls) as server, Loopback(redirects(server.origin)) as plain:
        assert get(plain.origin, http, redirects=3).body == b"secret"


def test_a_handshake_that_hangs_ends() -> None:
    with Loopback(Peer.hang) as server, ends(), pytest.raises(FetchInterrupted):
        get(f"https://127.0.0.1:{server.port}/", deadline_s=DEADLINE)


def test_a_tunnel_through_a_proxy(tls: ssl.SSLContext, certificate: Path) -> None:
    http_options = {"ca_file": certificate.with_name("cert.pem")}
    with Loopback(answers(b"secret"), tls=tls) as server, Loopback(tunnel_to(server)) as proxy:
        http = client(
            proxy=proxy.origin,
            auth=Auth(user="u", password="p", origins=frozenset({server.origin})),
            **http_options,
        )
        assert get(server.origin, http).body == b"secret"
    assert proxy.requests[0].line == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
    assert "authorization" not in proxy.requests[0].headers
    assert "authorization" in server.requests[0].headers


def tunnel_to(server: Loopback) -> Story:
    """What a proxy does that is asked for a tunnel."""

    def respond(peer: Peer) -> None:
        peer.request()
        with socket.create_connection(("127.0.0.1", server.port)) as onward:
            peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=relay, args=(onward, peer.sock))
            back.start()
            relay(peer.sock, onward)
            back.join()

    return respond


def relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.parametrize("content", [None, "", "no certificate\n"])
def test_a_bad_ca_file_is_named(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(FetchFailed, match=re.escape(str(ca_file))):
        get("https://127.0.0.1:1/", client(ca_file=ca_file))


# Statuses


def test_what_is_no_good_status_passes_for_none() -> None:
    passed = set()
    for status in range(100, 600):
        with suppress(FetchFailed, FetchInterrupted):
            check_status(status, {}, "http://h/x")
            passed.add(status)
    assert passed == {*range(200, 300), 304}


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 407, 410, 416])
def test_a_final_status(status: int) -> None:
    with pytest.raises(FetchFailed, match=rf"^http://h/x: HTTP {status}"):
        check_status(status, {}, "http://u:p@h/x?q")


@pytest.mark.parametrize(
    ("status", "retry_after", "wait"),
    [
        (408, "", None),
        (500, "soon", None),
        (503, "0", 0.0),
        (429, " 7 ", 7.0),
        (429, "-7", None),
        (429, "1.5", None),
        (429, "\u0661", None),
        (429, "9" * 5000, 3600.0),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (503, "Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        (503, "Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        (503, "Fri, 99 Dec 9999 99:59:59 GMT", None),
    ],
)
def test_a_status_that_may_pass(status: int, retry_after: str, wait: float | None) -> None:
    with pytest.raises(FetchInterrupted, match=f"HTTP {status}") as raised:
        check_status(status, {"retry-after": retry_after}, "http://h/x")
    assert raised.value.retry_after == wait


def test_a_date_to_come_is_waited_for() -> None:
    with pytest.raises(FetchInterrupted) as raised:
        check_status(503, {"retry-after": formatdate(time.time() + 1800, usegmt=True)}, "http://h/x")
    assert raised.value.retry_after is not None
    assert 1700 < raised.value.retry_after <= 1800


def test_a_retry_after_header_is_found_in_a_real_reply() -> None:
    with Loopback(answers(b"", "RETRY-AFTER: 7", status=429)) as server:
        reply = get(server.origin)
    with pytest.raises(FetchInterrupted) as raised:
        check_status(reply.status, reply.headers, reply.url)
    assert raised.value.retry_after == 7


# URLs and foreign text


@pytest.mark.parametrize("url", ["http://u:canary/x@h/", "http://u:canary/@[::1", "http://u:canary\u2100@h:x/"])
def test_an_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="can't be read") as raised:
        origin_of(url)
    assert "canary" not in str(raised.value)
    with pytest.raises((FetchFailed, FetchInterrupted)) as failed:
        client().small("GET", url, limit=10, deadline_s=GUARD)
    assert "canary" not in failed.value.message


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Host", "http://host:80"),
        ("HTTPS://host/x", "https://host:443"),
        ("http://u:p@host:8080/", "http://host:8080"),
        ("http://[FE80::1]:1/", "http://[fe80::1]:1"),
    ],
)
def test_origin_of(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "host:80", "ftp://host", "http://", "http://h:99999", "http://h:x", "http://[::1"])
def test_what_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin_of(url)


def test_importing_it_loads_no_http_library() -> None:
    code = (
        "import sys, reconcile.net.http_client, reconcile.net.remote_files; print(sorted({'httpx', 'httpcore', "
        "'ssl'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("<html><head><title>502 Bad\n Gateway</title></head><body>secret</body></html>", "502 Bad Gateway"),
        ("\ufeff \n<!DOCTYPE html><TITLE lang=en>a &amp; b</TITLE>", "a & b"),
        ("<html><title></title><h1> Not Found </h1>", "Not Found"),
        (
            "<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>It is not there.</Message></Error>",
            "It is not there.",
        ),
        ("<html><style>p {}</style><script>canary()</script>\n<p>Bad \x1b[31mGateway<br", "Bad \\x1b[31mGateway"),
        ("<html>", ""),
        ("<title>" + "a" * 1_000_000, "a" * 57 + "..."),
        ("<title" * 200_000, ""),
        ("<title>\x1b[2J</title>", "\\x1b[2J"),
        ("body is blank", None),
        ('{"a": "<html>"}', None),
        ("", None),
    ],
)
def test_a_page_is_known_by_its_title(text: str, title: str | None) -> None:
    assert page_title(text) == title


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_each_kind_of_redirect_is_followed(status: int) -> None:
    with (
        Loopback(redirects("/there", status), answers(b"hello")) as server,
        client().download(server.origin) as download,
    ):
        assert b"".join(download.chunks()) == b"hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "credentials"), (403, "credentials"), (404, "published"), (410, "published"), (400, "")],
)
def test_a_final_status_has_the_remedy_of_its_kind(status: int, remedy: str) -> None:
    with pytest.raises(FetchFailed) as failed:
        check_status(status, {}, "http://h/x")
    assert (remedy in str(failed.value)) if remedy else str(failed.value).endswith(f"HTTP {status}")
