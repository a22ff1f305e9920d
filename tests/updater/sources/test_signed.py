"""A desired state that must be signed: what is taken, and each attack on it, from an URL and from a file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from reconcile.decide.desired_serial import desired_comment
from reconcile.errors import DesiredUnsigned, ServerUnreachable
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.source import Answer, DesiredSignature, HostReport
from reconcile.storage.serial_file import SerialMemory
from tests.loopback import Loopback, answers, redirects
from tests.signer import Signer
from updater.sources.file import DesiredFile
from updater.sources.signed import DesiredVerifier, file_name_of, signature_url
from updater.sources.url import DesiredUrl

REPORT = HostReport(hostname="h", ip="127.0.0.1", run_user="canary", updater_version="1")
NOW = 1_790_000_000
OURS, NEXT, STRANGER = Signer(1), Signer(2), Signer(3)
KEYS = frozenset({OURS.public, NEXT.public})
ONE = b'{"desiredAgents": [{"name": "a", "cmd": "start"}]}'
TWO = b'{"desiredAgents": [{"name": "b", "cmd": "start"}]}'


def sign(body: bytes = ONE, serial: int = NOW, name: str = "d.json", signer: Signer = OURS) -> bytes:
    return signer.sign(body, desired_comment(name, serial))


class Host:
    """A host with a memory of serials, which its operator's config makes ask for signatures."""

    def __init__(self, folder: Path) -> None:
        self.memory = SerialMemory(folder / "desired-serials.json", KEYS)

    def verifier(self, name: str = "d.json") -> DesiredVerifier:
        return DesiredVerifier(name, KEYS, self.memory, lambda: float(NOW))

    def url(self, url: str) -> DesiredUrl:
        http = HttpClient(HttpOptions(user_agent="t"))
        return DesiredUrl(url, http, 5, self.verifier(file_name_of(url)))

    def take(self, answer: Answer) -> Answer:
        """As the pass does that keeps it."""
        assert answer.signature is not None
        self.memory.learn([answer.signature])
        self.memory.keep()
        return answer


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def from_file(host: Host, folder: Path, body: bytes, minisig: bytes | None) -> Answer:
    path = folder / "d.json"
    path.write_bytes(body)
    beside = folder / "d.json.minisig"
    beside.unlink(missing_ok=True)
    if minisig is not None:
        beside.write_bytes(minisig)
    return DesiredFile(path, host.verifier()).exchange(REPORT)


def from_url(host: Host, folder: Path, body: bytes, minisig: bytes | None) -> Answer:
    signature = answers(status=404) if minisig is None else answers(minisig)
    with Loopback(answers(body), signature) as server:
        return host.url(f"{server.origin}/d.json").exchange(REPORT)


Exchange = Callable[[Host, Path, bytes, bytes | None], Answer]
both = pytest.mark.parametrize("exchange", [from_file, from_url])


@both
def test_a_signed_desired_state_is_an_answer_with_its_signature(exchange: Exchange, host: Host, tmp_path: Path) -> None:
    answer = exchange(host, tmp_path, ONE, sign())
    assert [entry.name for entry in answer.entries] == ["a"]
    assert answer.signature is not None
    assert (answer.signature.key, answer.signature.serial) == (OURS.public, NOW)
    assert answer.signature.digest == hashlib.sha256(ONE).hexdigest()
    legacy = OURS.sign(ONE, desired_comment("d.json", NOW), legacy=True)
    assert exchange(host, tmp_path, ONE, legacy).signature == answer.signature
    assert not (tmp_path / "desired-serials.json").exists(), "who only asks remembers nothing"


ATTACKS: list[tuple[str, bytes | None, str]] = [
    ("no signature", None, "a desired state must be signed here"),
    ("another file's", sign(name="other.json"), "its trusted comment is 'ops-updater desired other.json serial="),
    ("a canary's file of that name", sign(name="canary/d.json"), "its trusted comment is"),
    ("a tarball's", OURS.sign(ONE, "linux_amd64/a-1.tar.gz"), "expected ops-updater desired d.json serial=N"),
    ("a comment in a comment", sign(name="x serial=1\td.json"), "its trusted comment is"),
    ("no serial", OURS.sign(ONE, "ops-updater desired d.json"), "its trusted comment is"),
    ("other bytes", sign(TWO), "it is not of the file that is served"),
    ("a stranger's", sign(signer=STRANGER), "which is not among trusted_keys"),
    ("a stranger's under our id", sign(signer=Signer(3, key_id=bytes([1]) * 8)), "was not signed by key"),
    ("a future one", sign(serial=NOW + 90_000), "more than a day ahead of this host's clock"),
    ("huge", b"x" * 5000, "4096"),
    ("five lines", sign() + b"more\n", "expected the four lines"),
    ("empty", b"", "expected the four lines"),
    ("HTML", b"<html></html>", "expected the four lines"),
    ("a comment that was exchanged", sign().replace(str(NOW).encode(), str(NOW + 1).encode()), "was not signed by"),
]


@both
@pytest.mark.parametrize(("minisig", "words"), [case[1:] for case in ATTACKS], ids=[case[0] for case in ATTACKS])
def test_a_signature_that_is_none_of_this_file_is_no_answer(
    exchange: Exchange, host: Host, tmp_path: Path, minisig: bytes | None, words: str
) -> None:
    with pytest.raises(DesiredUnsigned) as raised:
        exchange(host, tmp_path, ONE, minisig)
    assert raised.value.reason == "SignatureInvalid"
    assert raised.value.message.startswith("the signature ")
    assert words in raised.value.message
    assert ".minisig" in raised.value.message


@both
def test_an_older_serial_and_a_used_one_are_refused_and_another_key_has_its_own(
    exchange: Exchange, host: Host, tmp_path: Path
) -> None:
    host.take(exchange(host, tmp_path, ONE, sign(serial=NOW - 10)))
    host.take(exchange(host, tmp_path, ONE, sign(serial=NOW - 10)))
    with pytest.raises(DesiredUnsigned, match="is older than"):
        exchange(host, tmp_path, TWO, sign(TWO, NOW - 11))
    with pytest.raises(DesiredUnsigned, match="with other bytes"):
        exchange(host, tmp_path, TWO, sign(TWO, NOW - 10))
    host.take(exchange(host, tmp_path, TWO, sign(TWO, NOW - 20, signer=NEXT)))
    host.take(exchange(host, tmp_path, TWO, sign(TWO, NOW - 9)))


def test_without_pynacl_nothing_is_an_answer_and_the_remedy_is_said(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nacl.signing", None)
    with pytest.raises(DesiredUnsigned, match=r"run `\./control setup --with signatures`"):
        from_file(host, tmp_path, ONE, sign())


def test_an_unsigned_file_is_not_even_parsed(host: Host, tmp_path: Path) -> None:
    with pytest.raises(DesiredUnsigned):
        from_file(host, tmp_path, b"{", sign())


def test_the_etag_is_that_of_the_last_accepted_file(host: Host) -> None:
    """A reader who comes in between has a mismatch: it counts as no answer, and is asked again."""
    old, new = answers(ONE, 'ETag: "1"'), answers(TWO, 'ETag: "2"')
    first, second = answers(sign(serial=NOW - 1)), answers(sign(TWO))
    with Loopback(old, first, new, first, new, second, answers(status=304)) as server:
        source = host.url(f"{server.origin}/d.json")
        host.take(source.exchange(REPORT))
        with pytest.raises(DesiredUnsigned, match="and is asked for again"):
            source.exchange(REPORT)
        host.take(source.exchange(REPORT))
        assert source.exchange(REPORT).entries[0].name == "b"
    asked = [(request.line.split()[1], request.headers.get("if-none-match")) for request in server.requests]
    assert asked == [
        *[("/d.json", None), ("/d.json.minisig", None)],
        *[("/d.json", '"1"'), ("/d.json.minisig", None)],
        *[("/d.json", '"1"'), ("/d.json.minisig", None)],
        ("/d.json", '"2"'),
    ]


def test_a_refused_file_is_asked_again_by_the_etag_of_the_accepted_one(host: Host) -> None:
    host.memory.learn([from_signature(serial=NOW)])
    with Loopback(answers(TWO, 'ETag: "2"'), answers(sign(TWO, NOW - 5))) as server:
        source = host.url(f"{server.origin}/d.json")
        server.stories = [answers(TWO, 'ETag: "2"'), answers(sign(TWO, NOW - 5))] * 2
        for ask in (source.is_changed, lambda: source.exchange(REPORT)):
            with pytest.raises(DesiredUnsigned, match="is older than"):
                ask()
    assert not any("if-none-match" in request.headers for request in server.requests)


def from_signature(serial: int) -> DesiredSignature:
    return DesiredSignature(key=OURS.public, serial=serial, digest=hashlib.sha256(ONE).hexdigest())


def test_an_unchanged_file_is_refused_where_another_process_accepted_a_newer_one(host: Host) -> None:
    with Loopback(answers(ONE, 'ETag: "1"'), answers(sign(serial=NOW - 5)), answers(status=304)) as server:
        source = host.url(f"{server.origin}/d.json")
        host.take(source.exchange(REPORT))
        host.memory.learn([from_signature(serial=NOW)])
        with pytest.raises(DesiredUnsigned, match="is older than"):
            source.exchange(REPORT)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_signature_that_can_not_be_had_now_is_trouble_of_the_server(host: Host, status: int) -> None:
    stories = answers(ONE), answers(b"", "Retry-After: 7", status=status)
    with Loopback(*stories) as server, pytest.raises(ServerUnreachable, match=f"HTTP {status}") as raised:
        host.url(f"{server.origin}/d.json").exchange(REPORT)
    assert raised.value.retry_after == 7


def test_a_signature_is_not_taken_from_elsewhere(host: Host) -> None:
    with Loopback(answers(sign())) as other:
        stories = answers(ONE), redirects(f"{other.origin}/x")
        with Loopback(*stories) as server, pytest.raises(DesiredUnsigned, match="HTTP 302"):
            host.url(f"{server.origin}/d.json").exchange(REPORT)
        assert other.requests == []


@pytest.mark.parametrize(
    ("url", "name", "signature"),
    [
        ("http://h/d.json", "d.json", "http://h/d.json.minisig"),
        ("http://h/a/b/web%20hosts.json", "web hosts.json", "http://h/a/b/web%20hosts.json.minisig"),
        ("http://h/d.json?token=x/y.json", "d.json", "http://h/d.json.minisig?token=x/y.json"),
        ("http://h/%64.json", "d.json", "http://h/%64.json.minisig"),
        ("http://h/caf%C3%A9.json", "caf\u00e9.json", "http://h/caf%C3%A9.json.minisig"),
        ("http://h/a%2520b", "a%20b", "http://h/a%2520b.minisig"),
    ],
)
def test_the_file_is_the_last_segment_and_its_signature_lies_beside_it(url: str, name: str, signature: str) -> None:
    assert (file_name_of(url), signature_url(url)) == (name, signature)


@pytest.mark.parametrize(
    "path", ["", "/", "/a/", "/?d", "/x%2Fd", "/..", "/%2e", "/%00", "/a%0Ab", "/%ff", "/%E2%80%AE"]
)
def test_an_url_whose_file_could_be_read_in_two_ways_names_none(path: str) -> None:
    with pytest.raises(ValueError, match="is not a file's name"):
        file_name_of(f"http://h{path}")
