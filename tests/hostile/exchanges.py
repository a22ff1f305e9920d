"""HTTP behaviours, each met at the door where it matters, and decent ones that look like them."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from attrs import evolve, frozen

from tests.hostile import peers
from tests.hostile.case import Case, Seen
from tests.hostile.doors import MAX_TARBALL, QUICK, REAL, Door, Pace, Visit, config, digest_file, heartbeat, tarball
from tests.loopback import Loopback, Peer, Story, answers, redirects

LIMIT = 1 << 20  # bytes of a heartbeat's answer, and of a config
BODY = b"x" * 100_000
MANY = BODY * 15  # of more pieces than pass unjudged
NOTHING = b'{"errorMessage": "", "desiredAgents": []}'
DIGEST = "490ac172dabecc867289079d48e84a66"


@frozen
class Behaviour:
    """`stories`: one a connection, the last one again and again. `digest`: of a tarball that is to be served. `timed`:
    nothing but a time limit ends it."""

    door: Door
    stories: tuple[Story, ...]
    end: str
    says: str = ""
    digest: str = "0" * 32
    tries: int = 1
    timed: bool = False


def beat(story: Story, end: str = "ServerUnreachable", says: str = "no answer from") -> Behaviour:
    return Behaviour(heartbeat, (story,), end, says)


def fetched(*stories: Story, end: str = "FetchInterrupted", says: str = "", body: bytes | None = None) -> Behaviour:
    digest = "0" * 32 if body is None else hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Behaviour(tarball, stories, end, says, digest)


def timed(behaviour: Behaviour) -> Behaviour:
    return evolve(behaviour, timed=True)


def good(*stories: Story, body: bytes = BODY) -> Behaviour:
    return fetched(*stories, end="served", body=body)


def part(first: int, last: int, whole: object, body: bytes) -> tuple[int, list[str], bytes]:
    return 206, [f"Content-Range: bytes {first}-{last}/{whole}", 'ETag: "a"'], body


def resumed(answer: Callable[[str], tuple[int, list[str], bytes]], end: str, says: str = "") -> Behaviour:
    """The first connection breaks off at half; the second answers what is asked for then."""
    half = answers(BODY[:50_000], f"Content-Length: {len(BODY)}", 'ETag: "a"', length=False)
    return evolve(fetched(half, peers.by_range(answer), end=end, says=says, body=BODY), tries=2)


def rest(asked: str) -> tuple[int, list[str], bytes]:
    first = int(asked.removeprefix("bytes=").rstrip("-"))
    return part(first, len(BODY) - 1, len(BODY), BODY[first:])


HOSTILE: dict[str, Behaviour] = {
    # Time
    "hangs": timed(beat(peers.hangs, says="too slow")),
    "drips its header": timed(beat(peers.drips_its_header, says="too slow")),
    "drips its body": timed(beat(peers.drips_its_body, says="too slow")),
    "drips the body of an error": timed(beat(peers.drips_an_error, says="too slow")),
    "stops amid its body": timed(beat(peers.stops_amid_its_body, says="too slow")),
    "endless chunks of one byte": timed(beat(peers.chunked_for_ever, says="too slow")),
    "endless 103 hints": timed(beat(peers.hints_for_ever)),
    "endless 100-continue": timed(beat(peers.continues_for_ever)),
    "a handshake that hangs": timed(Behaviour(heartbeat, (Peer.hang,), "ServerUnreachable", "too slow")),
    "a download that hangs": timed(fetched(peers.hangs, says="too slow")),
    "a download whose header drips": timed(fetched(peers.drips_its_header, says="too slow")),
    "a download below the least pace": timed(fetched(peers.drips_its_body, says="too slow")),
    "a download that stops amid its body": timed(fetched(peers.stops_amid_its_body, says="too slow")),
    "a download in chunks of one byte": fetched(
        peers.chunked_fast_for_ever, end="FetchFailed", says="in pieces of 1 bytes"
    ),
    "a digest file that drips": timed(Behaviour(digest_file, (peers.drips_a_word,), "FetchInterrupted", "too slow")),
    "a config that drips": timed(Behaviour(config, (peers.drips_its_body,), "FetchInterrupted", "too slow")),
    # Size
    "an endless chunk size": beat(peers.chunk_size_for_ever),
    "endless trailers": beat(peers.trailers_for_ever),
    "an endless header": beat(peers.header_for_ever),
    "an endless status line": beat(peers.status_line_for_ever),
    "endless empty lines": beat(peers.empty_lines_for_ever),
    "an endless body": beat(peers.body_for_ever, says="larger than"),
    "a body of a megabyte and one": beat(answers(b"x" * (LIMIT + 1), length=False), says="larger than"),
    "a length of a megabyte and one": beat(
        answers(b"", f"Content-Length: {LIMIT + 1}", length=False), says="announced"
    ),
    "a gzip bomb": beat(answers(peers.gzip_bomb(10**7), "Content-Encoding: gzip"), says="compressed"),
    "a gzip bomb as an error": beat(answers(peers.gzip_bomb(10**7), "Content-Encoding: gzip", status=500), says="500"),
    "a brotli body": beat(answers(b"\x1b\x00", "Content-Encoding: br"), says="compressed"),
    "a header of a megabyte": beat(answers(NOTHING, "X-Header: " + "x" * LIMIT)),
    "twenty thousand headers": beat(answers(NOTHING, *(f"X-{number}: x" for number in range(20_000)))),
    "a digest file of five kilobytes": Behaviour(digest_file, (answers(b"4" * 5000),), "FetchFailed", "4096"),
    "a config of a megabyte and one": Behaviour(config, (answers(b"x" * (LIMIT + 1)),), "FetchFailed", "allowed"),
    "a tarball announced too large": fetched(
        answers(b"", f"Content-Length: {MAX_TARBALL + 1}", length=False), end="FetchFailed", says="max_tarball"
    ),
    "an endless tarball": fetched(peers.body_for_ever, end="FetchFailed", says="max_tarball"),
    # Lengths that lie
    "a negative length": beat(answers(NOTHING, "Content-Length: -5", length=False)),
    "a length of 5,000 digits": beat(answers(NOTHING, f"Content-Length: {'9' * 5000}", length=False)),
    "two lengths": beat(answers(NOTHING, "Content-Length: 5", "Content-Length: 6", length=False)),
    "a length in other digits": beat(answers(NOTHING, "Content-Length: \xb2", length=False)),
    "a length too short": beat(answers(NOTHING, "Content-Length: 10", length=False), "ResponseInvalid", "not JSON"),
    "a length too long": beat(answers(NOTHING, "Content-Length: 4000", length=False)),
    "a chunk of negative size": beat(peers.chunked(b"-5\r\nhello\r\n")),
    "a chunk of endless size": beat(peers.chunked(b"f" * 30 + b"\r\nhello\r\n")),
    "cut amid a chunk": beat(peers.chunked(b"a\r\nhalf")),
    "chunks without an end": beat(peers.chunked(b"2\r\n{}\r\n")),
    "a tarball cut short": fetched(answers(b"half", "Content-Length: 10", length=False), body=b"half of it"),
    "a tarball cut amid a chunk": fetched(peers.chunked(b"a\r\nhalf")),
    # No HTTP
    "closes at once": beat(lambda peer: None),
    "closes after the request": beat(lambda peer: peer.request()),
    "another protocol": beat(lambda peer: peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "binary noise": beat(lambda peer: peer.send(bytes(range(256)) * 4)),
    "a status line without a number": beat(peers.says(b"HTTP/1.1 OK\r\n\r\n")),
    "a status of five digits": beat(peers.says(b"HTTP/1.1 20000 OK\r\n\r\n")),
    "a negative status": beat(peers.says(b"HTTP/1.1 -200 OK\r\n\r\n")),
    "HTTP of the future": beat(
        peers.says(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"), "ResponseInvalid", "nothing"
    ),
    "HTTP 0.9": beat(peers.says(b"<html>hello</html>")),
    "a header without a colon": beat(peers.says(b"HTTP/1.1 200 OK\r\nX-Header\r\n\r\n")),
    "a NUL in a header": beat(answers(NOTHING, "X-Header: a\0b")),
    "another transfer coding": beat(answers(NOTHING, "Transfer-Encoding: gzip, chunked", length=False)),
    "switches protocols unasked": beat(peers.says(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"), says=""),
    # Statuses
    "a refusal before the request was read": beat(peers.answers_unasked, says=""),
    "204 to a heartbeat": beat(answers(b"", status=204, length=False), says="HTTP 204"),
    "206 to a heartbeat": beat(answers(NOTHING, status=206), says="HTTP 206"),
    "304 to a heartbeat": beat(answers(b"", status=304), says="HTTP 304"),
    "429 for ever": beat(answers(b"", "Retry-After: 99999999999", status=429), says="HTTP 429"),
    "503 with a date that is none": beat(answers(b"", "Retry-After: never", status=503), says="HTTP 503"),
    "an error that paints the terminal": beat(answers(b"\x1b[2J\x1b]0;x\x07", status=400), says=r"\\x1b\[2J"),
    "304 to a config nobody has": Behaviour(config, (answers(b"", status=304),), "FetchFailed", "not conditional"),
    "a page instead of a digest": Behaviour(
        digest_file, (answers(b"<html>hello</html>"),), "FetchFailed", "32 hex digits"
    ),
    "an empty digest file": Behaviour(digest_file, (answers(b""),), "FetchFailed", "32 hex digits"),
    "a page instead of a tarball": fetched(answers(b"<html>hello</html>"), end="WrongBytes"),
    "another tarball than was named": fetched(answers(BODY), end="WrongBytes"),
    "a tarball compressed once more": fetched(
        answers(gzip.compress(BODY), "Content-Encoding: gzip"), end="WrongBytes", body=BODY
    ),
    "204 instead of a tarball": fetched(answers(b"", status=204, length=False), end="FetchFailed", says="HTTP 204"),
    # Ranges
    "206 with the middle, to who asked for all": fetched(
        peers.by_range(lambda asked: part(5, 9, 10, b"56789")), says="another range"
    ),
    "206 with all, to who asked for a part": resumed(
        lambda asked: part(0, len(BODY) - 1, len(BODY), BODY), "FetchInterrupted", "another range"
    ),
    "206 without saying which": resumed(lambda asked: (206, [], BODY[50_000:]), "FetchInterrupted", "another range"),
    "206 in other digits": resumed(
        lambda asked: (206, ["Content-Range: bytes \xb2-3/4"], BODY[50_000:]), "FetchInterrupted", "another range"
    ),
    "206 with other bytes": resumed(lambda asked: part(50_000, len(BODY) - 1, len(BODY), b"y" * 50_000), "WrongBytes"),
    "206 with more than there is": resumed(
        lambda asked: part(50_000, len(BODY) - 1, len(BODY), b"x" * 70_000), "WrongBytes"
    ),
    "416 to what it sent itself": resumed(lambda asked: (416, [], b""), "FetchInterrupted", "416"),
    # Redirects
    "a heartbeat sent elsewhere": beat(
        redirects("http://127.0.0.1:1/"),
        says=r"HTTP 302, a redirect to http://127\.0\.0\.1:1/; a heartbeat follows none",
    ),
    "a heartbeat sent on with its body": beat(
        redirects("/other", 307),
        says=r"HTTP 307, a redirect to http://127\.0\.0\.1:\d+/other; a heartbeat follows none",
    ),
    "a redirect for ever": fetched(redirects("/again"), end="FetchFailed", says="more than 3 times"),
    "a fourth redirect": fetched(
        *(redirects(f"/{n}") for n in range(4)), answers(BODY), end="FetchFailed", says="more than 3 times", body=BODY
    ),
    "a redirect into a file": fetched(redirects("file:///etc/shadow"), end="FetchFailed"),
    "a redirect to nowhere": fetched(redirects(""), end="FetchFailed", says="without a Location"),
    "a redirect to another port of ours": fetched(redirects("http://127.0.0.1:99999/"), end="FetchFailed"),
    "a digest file redirected for ever": Behaviour(
        digest_file, (redirects("/x"),), "FetchFailed", "redirected more than 3 times"
    ),
}

BENIGN: dict[str, Behaviour] = {
    "a plain answer": beat(answers(NOTHING), "served", ""),
    "a body until the end of the connection": beat(answers(NOTHING, length=False), "served", ""),
    "chunks": beat(peers.chunked(b"29\r\n" + NOTHING + b"\r\n0\r\nX-Trailer: x\r\n\r\n"), "served", ""),
    "chunks with extensions": beat(peers.chunked(b"29;a=b\r\n" + NOTHING + b"\r\n0\r\n\r\n"), "served", ""),
    "one 100-continue and a hint": beat(
        peers.says(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n" + NOTHING
        ),
        "served",
        "",
    ),
    "HTTP 1.0": beat(peers.says(b"HTTP/1.0 200 OK\r\n\r\n" + NOTHING), "served", ""),
    "headers of 30 kilobytes": beat(answers(NOTHING, *(f"X-{n}: {'x' * 1000}" for n in range(30))), "served", ""),
    "encoded as itself": beat(answers(NOTHING, "Content-Encoding: identity"), "served", ""),
    "a status without words": beat(peers.says(b"HTTP/1.1 200\r\nContent-Length: 41\r\n\r\n" + NOTHING), "served", ""),
    "what md5sum prints": Behaviour(
        digest_file, (answers(f"{DIGEST}  x.tar.gz\n".encode()),), "served", f"md5:{DIGEST}"
    ),
    "a digest in capitals, with a mark and CR LF": Behaviour(
        digest_file, (answers(b"\xef\xbb\xbf" + DIGEST.upper().encode() + b"\r\n"),), "served", f"md5:{DIGEST}"
    ),
    "a config of a megabyte": Behaviour(config, (answers(b"x" * LIMIT),), "served", "sha256:"),
    "an empty config": Behaviour(config, (answers(b""),), "served", "sha256:"),
    "the rest of a tarball": resumed(rest, "served"),
    "all of a tarball once more": resumed(lambda asked: (200, ['ETag: "b"'], BODY), "served"),
    "a tarball": good(answers(BODY)),
    "a tarball without its length": good(answers(BODY, length=False)),
    "a tarball in small chunks": good(peers.small_chunks(MANY), body=MANY),
    "three redirects": good(redirects("/a"), redirects("b"), redirects("?c"), answers(BODY)),
}


def cases(pace: Pace = QUICK) -> list[Case]:
    """Each is met by the code of a pass, over real sockets. At the pace `REAL` the limits are those of the field."""
    found = [_case(name, behaviour, pace, benign=False) for name, behaviour in HOSTILE.items()]
    found += [_case(name, behaviour, pace, benign=True) for name, behaviour in BENIGN.items()]
    link = 50_000 * pace.speed  # bytes per second: 50 KB/s by the clock that judges
    slow = bytes(int(link * pace.stall_s * 1.2)) if pace is not QUICK else bytes(int(link * 0.6))
    steady = timed(good(peers.at_rate(slow, link), body=slow))
    found.append(_case("a link of 50 KB/s", steady, pace, benign=True))
    for name, observe, says in (
        ("https that leads to http", _downgraded, "from https to http"),
        ("a certificate of nobody", _untrusted, r"certificate is of an unknown issuer .*tls\.ca_file"),
        ("a name lookup that hangs", _unresolved, "not resolved in time"),
    ):
        end = "FetchFailed" if observe is _downgraded else "ServerUnreachable"
        at = pace if observe is _unresolved else REAL
        found.append(Case(group="http", name=name, expected=end, says=says, observe=partial(observe, at)))
    found.append(
        Case(group="http", name="http that leads to https", expected="served", observe=partial(_upgraded, REAL))
    )
    return found


def _case(name: str, behaviour: Behaviour, pace: Pace, *, benign: bool) -> Case:
    return Case(
        group="http",
        name=name,
        expected=behaviour.end,
        says=behaviour.says,
        benign=benign,
        # Where no time limit is to be met, none may be met by chance, however busy the host is.
        observe=partial(_meet, behaviour, pace if behaviour.timed else REAL),
    )


def _meet(behaviour: Behaviour, pace: Pace, folder: Path) -> Seen:
    with Loopback(*behaviour.stories) as server:
        origin = server.origin.replace("http:", "https:") if behaviour.stories == (Peer.hang,) else server.origin
        return behaviour.door(
            Visit(origin=origin, pace=pace, folder=folder, digest=behaviour.digest, tries=behaviour.tries)
        )


@contextmanager
def _secure(folder: Path) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """A server's side of TLS for 127.0.0.1, and the file of the authority that vouches for it."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    yield context, folder / "ca.pem"


def _downgraded(pace: Pace, folder: Path) -> Seen:
    with (
        _secure(folder) as (tls, ca_file),
        Loopback(answers(BODY)) as plain,
        Loopback(redirects(plain.origin), tls=tls) as server,
    ):
        digest = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
        seen = tarball(Visit(origin=server.origin, pace=pace, folder=folder, ca_file=ca_file, digest=digest))
        return Seen(end=seen.end, said=seen.said, breach="it asked by http" if plain.requests else seen.breach)


def _upgraded(pace: Pace, folder: Path) -> Seen:
    with (
        _secure(folder) as (tls, ca_file),
        Loopback(answers(BODY), tls=tls) as server,
        Loopback(redirects(server.origin)) as plain,
    ):
        digest = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
        return tarball(Visit(origin=plain.origin, pace=pace, folder=folder, ca_file=ca_file, digest=digest))


def _untrusted(pace: Pace, folder: Path) -> Seen:
    with _secure(folder) as (tls, _), Loopback(answers(NOTHING), tls=tls) as server:
        seen = heartbeat(Visit(origin=server.origin, pace=pace, folder=folder))
        return Seen(end=seen.end, said=seen.said, breach="it spoke to it" if server.requests else seen.breach)


def _unresolved(pace: Pace, folder: Path) -> Seen:
    """The resolver of the host is what no test can make hang: so the call of it does."""
    release, ask = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: int, **options: int) -> object:
        if host == "hangs.test" and not options.get("flags", 0) & socket.AI_NUMERICHOST:
            release.wait()
        return ask(host, *args, **options)

    with patch.object(socket, "getaddrinfo", getaddrinfo):
        try:
            return heartbeat(Visit(origin="http://hangs.test:1", pace=pace, folder=folder))
        finally:
            release.set()
