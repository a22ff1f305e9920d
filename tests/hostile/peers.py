"""What servers do to the one who asks them: stories for tests/loopback.py."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

from tests.loopback import Peer, Story, answers


def hangs(peer: Peer) -> None:
    peer.request()
    peer.hang()


def drips_its_header(peer: Peer) -> None:
    peer.request()
    peer.drip(b"HTTP/1.1 200 OK\r\n", for_ever=b"X")


def drips_its_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    peer.drip(for_ever=b"x")


def drips_a_word(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
    peer.drip(for_ever=b"4")


def drips_an_error(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 60000\r\n\r\n")
    peer.drip(for_ever=b"x")


def stops_amid_its_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    peer.hang()


def chunked_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(for_ever=b"1\r\nx\r\n")


def chunked_fast_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.flood(b"1\r\nx\r\n" * 10_000)


def small_chunks(body: bytes) -> Story:
    """All of a body, in pieces as small as they may be for ever, and its beginning byte by byte."""

    def story(peer: Peer) -> None:
        peer.request()
        head, rest = body[:1000], body[1000:]
        pieces = [bytes([byte]) for byte in head] + [rest[at : at + 80] for at in range(0, len(rest), 80)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

    return story


def chunk_size_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    peer.flood(b"extension" * 1000)


def trailers_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    peer.flood(b"X-Trailer: " + b"x" * 1000 + b"\r\n")


def continues_for_ever(peer: Peer) -> None:
    peer.request()
    peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)


def hints_for_ever(peer: Peer) -> None:
    peer.request()
    peer.drip(for_ever=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")


def header_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n")
    peer.flood(b"X-Header: " + b"x" * 1000 + b"\r\n")


def status_line_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 ")
    peer.flood(b"O" * 1000)


def empty_lines_for_ever(peer: Peer) -> None:
    peer.request()
    peer.flood(b"\r\n" * 1000)


def body_for_ever(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.0 200 OK\r\n\r\n")
    peer.flood(bytes(65536))


def answers_unasked(peer: Peer) -> None:
    """Before the request was read, and then it cuts the connection."""
    peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nhuge")


def says(raw: bytes) -> Story:
    """A story: read the request, say this word for word, close."""

    def respond(peer: Peer) -> None:
        peer.request()
        peer.send(raw)

    return respond


def chunked(*chunks: bytes) -> Story:
    """A story: answer with these chunks, whatever they are, and close."""
    return answers(b"".join(chunks), "Transfer-Encoding: chunked", length=False)


def gzip_bomb(size: int) -> bytes:
    return gzip.compress(bytes(size))


def at_rate(body: bytes, rate: float) -> Story:
    """A story: send a body evenly, at `rate` bytes per second."""

    def respond(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        step = max(1, int(rate * 0.05))
        for at in range(0, len(body), step):
            peer.send(body[at : at + step])
            time.sleep(0.05)  # it is the behaviour that is tried, and no wait of a test

    return respond


def by_range(answer: Callable[[str], tuple[int, list[str], bytes]]) -> Story:
    """A story: answer by what `Range` asks for, with a status, header lines and a body."""

    def respond(peer: Peer) -> None:
        asked = peer.request().headers.get("range", "")
        status, headers, body = answer(asked)
        lines = [f"HTTP/1.1 {status} Words", *headers, f"Content-Length: {len(body)}", "", ""]
        peer.send("\r\n".join(lines).encode("latin-1") + body)

    return respond
