"""The server that everything else is tested with, over real sockets and with a client that shares no code with it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.ops_meta import host_arch

TARBALL = bytes(range(256)) * 40
BEAT = {"hostname": "liutian-01", "ip": "192.168.1.154", "realAgents": []}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(meta: FaultyOpsMeta, url: str, method: str = "GET", body: Any = None, **headers: str) -> Got:
    """One request on a connection of its own. Header names with `_` for `-`."""
    connection = http.client.HTTPConnection(meta.server, timeout=60)
    try:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        path = url.removeprefix(meta.url)
        connection.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def beat(meta: FaultyOpsMeta, path: str = "/api/heartbeat", **keys: Any) -> Any:
    return json.loads(ask(meta, path, "POST", BEAT | keys).body)


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[FaultyOpsMeta]:
    with FaultyOpsMeta(work_dir=tmp_path / "work", run_user="falcon") as running:
        yield running


@pytest.fixture(params=["from memory", "from disk"])
def url(request: pytest.FixtureRequest, meta: FaultyOpsMeta, tmp_path: Path) -> str:
    """The URL of a published tarball."""
    (tmp_path / "made.tar.gz").write_bytes(TARBALL)
    meta.publish("falcon-agent", "2.0.0", TARBALL if request.param == "from memory" else tmp_path / "made.tar.gz")
    return meta.release("falcon-agent", "2.0.0").url


# Heartbeats


@pytest.mark.parametrize("path", ["/api/heartbeat", "/heartbeat"])
def test_a_heartbeat_is_kept_and_answered_with_what_is_desired(meta: FaultyOpsMeta, tmp_path: Path, path: str) -> None:
    base = meta.publish("falcon-agent", "2.0.0", TARBALL)
    meta.desire(meta.agent("falcon-agent", "2.0.0"))
    assert beat(meta, path) == {
        "errorMessage": "",
        "desiredAgents": [
            {
                "name": "falcon-agent",
                "version": "2.0.0",
                "tarball": base,
                "md5": hashlib.md5(TARBALL).hexdigest(),
                "cmd": "start",
                "runUser": "falcon",
                "workDir": str(tmp_path / "work"),
            }
        ],
    }
    assert meta.heartbeats == [BEAT]
    assert [(request.method, request.path, request.status) for request in meta.requests] == [("POST", path, 200)]


def test_an_entry_takes_other_keys_and_loses_those_that_are_none(meta: FaultyOpsMeta) -> None:
    entry = meta.agent("falcon-agent", "2.0.0", "stop", runUser=None, workDir=None, md5=None, sha256="ab")
    assert entry == {
        "name": "falcon-agent",
        "version": "2.0.0",
        "tarball": f"{meta.url}/releases/falcon-agent",
        "cmd": "stop",
        "sha256": "ab",
    }


def test_desire_replaces_and_forget_removes(meta: FaultyOpsMeta) -> None:
    assert beat(meta)["desiredAgents"] == []
    meta.desire(meta.agent("a", "1"), meta.agent("b", "1"), meta.agent("a", "2"))
    assert [agent["name"] for agent in beat(meta)["desiredAgents"]] == ["a", "b", "a"]
    meta.forget("a")
    assert [agent["name"] for agent in beat(meta)["desiredAgents"]] == ["b"]
    with pytest.raises(KeyError):
        meta.forget("a")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body is blank"),
        (b"{", "body format error"),
        (b"[]", "body format error"),
        (b'{"ip": "127.0.0.1"}', "hostname is blank"),
    ],
)
def test_a_bad_heartbeat_is_refused_in_the_words_of_the_field(meta: FaultyOpsMeta, body: bytes, words: str) -> None:
    got = ask(meta, "/api/heartbeat", "POST", body)
    assert (got.status, got.body.decode().strip()) == (400, words)
    assert meta.heartbeats == []


def test_waiting_for_a_heartbeat_that_says_something(meta: FaultyOpsMeta) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meta.wait_for_heartbeat, lambda beat: beat["ip"] == "10.0.0.2")
        beat(meta, ip="10.0.0.1")
        beat(meta, ip="10.0.0.2", realAgents=[{"name": "falcon-agent", "version": "2.0.0"}])
        assert waiting.result(20)["ip"] == "10.0.0.2"
    assert meta.reported("falcon-agent") == {"name": "falcon-agent", "version": "2.0.0"}
    assert meta.reported("other") is None
    assert meta.wait_for_heartbeat(timeout=0)["ip"] == "10.0.0.1"
    with pytest.raises(TimeoutError, match=r"the last of 2 is .*10\.0\.0\.2"):
        meta.wait_for_heartbeat(timeout=0, since=2)


def test_older_servers_send_less_and_a_base_for_the_digest_file(meta: FaultyOpsMeta) -> None:
    base = meta.publish("falcon-agent", "2.0.0", TARBALL, layout="flat")
    meta.desire(meta.agent("falcon-agent", "2.0.0"))
    meta.older()
    (entry,) = beat(meta, "/heartbeat")["desiredAgents"]
    assert entry == {"name": "falcon-agent", "version": "2.0.0", "tarball": base, "md5": base, "cmd": "start"}
    assert ask(meta, f"{base}/falcon-agent-2.0.0.tar.gz.md5").body.startswith(hashlib.md5(TARBALL).hexdigest().encode())


# Files


def test_a_tarball_is_where_the_contract_says(meta: FaultyOpsMeta) -> None:
    base = meta.publish("falcon-agent", "2.0.0", TARBALL, base="falcon", minisig=b"signed\n")
    path = f"{base}/{host_arch()}/falcon-agent-2.0.0.tar.gz"
    assert base == f"{meta.url}/releases/falcon"
    assert ask(meta, path).body == TARBALL
    digest = hashlib.md5(TARBALL).hexdigest()
    assert ask(meta, path + ".md5").body.decode() == f"{digest}  falcon-agent-2.0.0.tar.gz\n"
    assert ask(meta, path + ".minisig").body == b"signed\n"


def test_publishing_again_replaces_all_that_was_there(meta: FaultyOpsMeta) -> None:
    meta.publish("falcon-agent", "2.0.0", TARBALL, minisig=b"signed\n", arch="linux_arm")
    first = ask(meta, meta.release("falcon-agent", "2.0.0").url)
    meta.publish("falcon-agent", "2.0.0", b"other", digest_file=False, arch="linux_arm")
    release = meta.release("falcon-agent", "2.0.0")
    second = ask(meta, release.url)
    assert "/linux_arm/" in release.url
    assert (second.body, release.sha256) == (b"other", hashlib.sha256(b"other").hexdigest())
    assert first.headers["etag"] != second.headers["etag"]
    assert ask(meta, release.url + ".md5").status == ask(meta, release.url + ".minisig").status == 404


def test_a_config_is_sent_once_per_content(meta: FaultyOpsMeta) -> None:
    url = meta.publish_config("falcon/conf/cfg.json", b'{"greeting": "hello"}')
    first = ask(meta, url)
    assert first.body == b'{"greeting": "hello"}'
    unchanged = ask(meta, url, If_None_Match=f'"x", W/{first.headers["etag"]}')
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    meta.publish_config("falcon/conf/cfg.json", b"{}")
    assert ask(meta, url, If_None_Match=first.headers["etag"])[::2] == (200, b"{}")


@pytest.mark.parametrize(
    ("wanted", "first", "past_last"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, 10240),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-99999", 10000, 10240),
        ("bytes=-10", 10230, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_a_range_is_a_part(meta: FaultyOpsMeta, url: str, wanted: str, first: int, past_last: int) -> None:
    got = ask(meta, url, Range=wanted)
    assert (got.status, got.body) == (206, TARBALL[first:past_last])
    assert got.headers["content-range"] == f"bytes {first}-{past_last - 1}/10240"
    assert got.headers["content-length"] == str(past_last - first)


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(meta: FaultyOpsMeta, url: str, wanted: str) -> None:
    got = ask(meta, url, Range=wanted)
    assert (got.status, got.body, got.headers["content-range"]) == (416, b"", "bytes */10240")


@pytest.mark.parametrize("wanted", ["bytes=-", "bytes=5-3", "bytes=0-1,5-6", "lines=1-2", "nonsense"])
def test_a_range_that_is_none_is_ignored(meta: FaultyOpsMeta, url: str, wanted: str) -> None:
    assert ask(meta, url, Range=wanted)[::2] == (200, TARBALL)


def test_if_range_gives_the_rest_of_the_same_and_the_whole_of_another(meta: FaultyOpsMeta, url: str) -> None:
    tag = ask(meta, url).headers["etag"]
    assert ask(meta, url, Range="bytes=9000-", If_Range=tag)[::2] == (206, TARBALL[9000:])
    assert ask(meta, url, Range="bytes=9000-", If_Range="W/" + tag)[::2] == (200, TARBALL)
    meta.publish("falcon-agent", "2.0.0", TARBALL[::-1])
    assert ask(meta, url, Range="bytes=9000-", If_Range=tag)[::2] == (200, TARBALL[::-1])


def test_head_has_all_headers_and_no_body(meta: FaultyOpsMeta, url: str) -> None:
    got = ask(meta, url, "HEAD", Range="bytes=1-2")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "10240")
    assert got.headers["etag"] == ask(meta, url).headers["etag"]


def test_one_connection_serves_many_requests(meta: FaultyOpsMeta, url: str) -> None:
    connection = http.client.HTTPConnection(meta.server, timeout=60)
    for method, status in [("GET", 200), ("HEAD", 200), ("POST", 404), ("GET", 200)]:
        connection.request(method, url.removeprefix(meta.url), b"body" if method == "POST" else None)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, method != "HEAD")
    connection.close()


def test_basic_auth(meta: FaultyOpsMeta, url: str) -> None:
    meta.require_basic_auth("falcon", "secret")
    refused = ask(meta, url)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="releases"')
    assert ask(meta, url, Authorization="Basic ZmFsY29uOnNlY3JldA==").status == 200
    assert meta.requests[-1].headers["authorization"] == "Basic ZmFsY29uOnNlY3JldA=="


# Faults


def test_a_corrupt_tarball_differs_in_one_byte_wherever_it_is_read_from(meta: FaultyOpsMeta, url: str) -> None:
    true_tag, true_digest = ask(meta, url).headers["etag"], ask(meta, url + ".md5").body
    meta.corrupt("falcon-agent", "2.0.0")
    broken = TARBALL[:5120] + bytes([TARBALL[5120] ^ 0xFF]) + TARBALL[5121:]
    assert ask(meta, url).body == broken
    assert ask(meta, url, Range="bytes=5120-").body == broken[5120:]
    assert ask(meta, url, Range="bytes=5121-").body == TARBALL[5121:]
    assert (ask(meta, url).headers["etag"], ask(meta, url + ".md5").body) == (true_tag, true_digest)
    meta.heal()
    assert ask(meta, url).body == TARBALL


def test_a_cut_download_is_resumed(meta: FaultyOpsMeta, url: str) -> None:
    meta.cut("falcon-agent-2.0.0.tar.gz", after=3000, times=1)
    assert ask(meta, url + ".md5").status == 200
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(meta, url)
    part = broken.value.partial
    assert part == TARBALL[:3000]
    rest = ask(meta, url, Range=f"bytes={len(part)}-")
    assert part + rest.body == TARBALL


def test_a_cut_without_a_count_lasts_until_healed(meta: FaultyOpsMeta, url: str) -> None:
    meta.cut(url, after=0)  # no path contains a whole URL
    meta.cut("/releases/", after=0)
    for _ in range(3):
        with pytest.raises(http.client.IncompleteRead):
            ask(meta, url)
    meta.heal()
    assert ask(meta, url).body == TARBALL


def test_a_stalled_download_stands_at_half_until_healed(meta: FaultyOpsMeta, url: str) -> None:
    meta.stall(".tar.gz")
    with socket.create_connection(("127.0.0.1", int(meta.server.partition(":")[2])), timeout=60) as client:
        client.sendall(f"GET {url.removeprefix(meta.url)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert meta.wait_for_request(lambda request: request.path.endswith(".tar.gz")).status == 200
        stream = client.makefile("rb")
        while stream.readline().strip():
            pass
        assert stream.read(5120) == TARBALL[:5120]
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(60)
        meta.heal()
        rest = b""
        while len(rest) < 5120:
            rest += client.recv(5120)
        assert rest == TARBALL[5120:]


def test_a_dripping_body_is_whole_in_the_end(meta: FaultyOpsMeta, url: str) -> None:
    meta.drip(".tar.gz", piece=3000, pause=0.001)
    assert ask(meta, url).body == TARBALL


def test_failures_are_counted_and_the_newest_counts(meta: FaultyOpsMeta, url: str) -> None:
    meta.fail(500, times=1)
    meta.fail(503, ".tar.gz", retry_after=7, times=2)
    for _ in range(2):
        got = ask(meta, url)
        assert (got.status, got.headers["retry-after"]) == (503, "7")
    assert ask(meta, url).status == 500
    assert ask(meta, url).status == 200


def test_a_failed_heartbeat_is_kept_nevertheless(meta: FaultyOpsMeta) -> None:
    meta.fail(500, "/heartbeat")
    assert ask(meta, "/api/heartbeat", "POST", BEAT).status == 500
    assert meta.heartbeats == [BEAT]


def test_what_vanished_is_gone_with_its_digest_and_alone(meta: FaultyOpsMeta, url: str) -> None:
    meta.publish("falcon-agent", "2.0.1", TARBALL)
    meta.vanish("falcon-agent", "2.0.0")
    assert ask(meta, url).status == ask(meta, url + ".md5").status == 404
    assert ask(meta, meta.release("falcon-agent", "2.0.1").url).status == 200
    meta.heal()
    assert ask(meta, url).status == 200


def test_redirects_and_servers_without_ranges(meta: FaultyOpsMeta, url: str) -> None:
    meta.redirect(".tar.gz", "file:///etc/passwd", times=1)
    got = ask(meta, url)
    assert (got.status, got.headers["location"]) == (302, "file:///etc/passwd")
    meta.ignore_ranges()
    got = ask(meta, url, Range="bytes=5-")
    assert (got.status, got.headers["accept-ranges"], got.body) == (200, "none", TARBALL)


def test_raw_and_slow_answers(meta: FaultyOpsMeta) -> None:
    meta.slow_heartbeats(600)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(beat, meta)
        meta.wait_for_heartbeat()
        assert not slow.done()
        meta.heal()
        assert slow.result(20)["desiredAgents"] == []
    meta.answer_raw(200, "<html>proxy</html>", "text/html")
    meta.answer_raw(400, b"body is blank", "text/plain")
    got = ask(meta, "/heartbeat", "POST", BEAT)
    assert (got.status, got.body, got.headers["content-type"]) == (400, b"body is blank", "text/plain")


def test_down_refuses_and_breaks_and_up_is_the_same_port(meta: FaultyOpsMeta) -> None:
    server = meta.server
    kept = http.client.HTTPConnection(server, timeout=60)
    kept.request("GET", "/")
    kept.getresponse().read()
    meta.down()
    with pytest.raises(ConnectionRefusedError):
        ask(meta, "/")
    assert kept.sock.recv(1) == b""
    kept.close()
    meta.up()
    assert (ask(meta, "/").status, meta.server) == (404, server)
    meta.down()
    meta.heal()
    assert ask(meta, "/").status == 404


def test_it_leaves_nothing_behind_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with FaultyOpsMeta() as meta:
        url = meta.serve("big", bytes(50_000_000))
        meta.stall("/big")
        client = socket.create_connection(("127.0.0.1", int(meta.server.partition(":")[2])), timeout=60)
        client.sendall(f"GET {url.removeprefix(meta.url)} HTTP/1.1\r\n\r\n".encode())
        meta.wait_for_request()
        address = client.getpeername()
        idle = socket.create_connection(address)
        gone = socket.create_connection(address)
        gone.sendall(b"GET /big HTTP/1.1\r\n\r\nnonsense\r\n\r\n")
        gone.close()
    assert set(threading.enumerate()) == before
    with contextlib.suppress(ConnectionResetError):  # either is an end
        assert idle.recv(1) == b""
    for one in (client, idle):
        one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_its_own_is_raised_at_the_end(tmp_path: Path) -> None:
    def lose_a_file() -> None:
        with FaultyOpsMeta() as meta:
            (tmp_path / "file").write_bytes(b"content")
            url = meta.serve("file", tmp_path / "file")
            (tmp_path / "file").unlink()
            with pytest.raises(http.client.RemoteDisconnected):
                ask(meta, url)

    with pytest.raises(FileNotFoundError):
        lose_a_file()
