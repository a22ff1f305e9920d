"""The tests' ops-meta with what can go wrong between a server and the updater: each fault lasts until `heal`, or for so
many `times`.

`where` is a part of the path; where it ends in `.tar.gz` it means the tarball alone, not the digest file beside it. Of
several faults of one kind on one path the newest counts.

    with FaultyOpsMeta(work_dir=tmp_path / "work") as meta:
        meta.cut("falcon-agent-2.0.0.tar.gz", after=1000, times=1)
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from attrs import define, evolve

from probes.values import frozen
from tests.support.file_server import Conversation, FileSite, Reply, ServedRequest, text
from tests.support.ops_meta import JSON, OpsMetaServer


@frozen(kw_only=True)
class Stall:
    """Half of the body, then nothing until healed; then the rest."""


@frozen(kw_only=True)
class Cut:
    """The connection ends after so many bytes of the body."""

    after: int


@frozen(kw_only=True)
class Drip:
    """The body in pieces of so many bytes, with a pause of so many seconds before each."""

    piece: int
    pause: float


@frozen(kw_only=True)
class Delay:
    """The answer waits so many seconds."""

    seconds: float


@frozen(kw_only=True)
class WholeFilesOnly:
    """Ranges are ignored."""


BodyFault = Stall | Cut | Drip
Fault = BodyFault | Reply | Delay | WholeFilesOnly
FaultT = TypeVar("FaultT", Stall, Cut, Drip, Reply, Delay, WholeFilesOnly)


@define
class _DueFault:
    fault: Fault
    where: str
    left: int | None

    def hits(self, path: str) -> bool:
        return path.endswith(self.where) if self.where.endswith(".tar.gz") else self.where in path


class FaultyConversation(Conversation):
    """Sends bodies as badly as the faults that are due ask for."""

    def send_body(self, call: ServedRequest, reply: Reply, start: int, stop: int) -> None:
        if reply.status not in (200, 206):
            super().send_body(call, reply, start, stop)
            return
        site: FileSite = self.server.site
        assert isinstance(site, FaultyOpsMeta)
        faults, healed = site.body_faults(call.path)
        for fault in faults:
            match fault:
                case Stall():
                    middle = (start + stop) // 2
                    super().send_body(call, reply, start, middle)
                    healed.wait()
                    start = middle
                case Cut(after=after):
                    super().send_body(call, reply, start, min(start + after, stop))
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                case Drip(piece=piece, pause=pause):
                    while stop - start > piece and not healed.wait(pause):
                        super().send_body(call, reply, start, start + piece)
                        start += piece
        super().send_body(call, reply, start, stop)


class FaultyOpsMeta(OpsMetaServer):
    """The server, the faults' verbs, and the memory of what is due. May be used while requests are being answered.

    Among `heartbeats` are those of failed exchanges too.
    """

    conversation = FaultyConversation

    def __init__(self, *, work_dir: str | Path | None = None, run_user: str | None = None) -> None:
        self._guard = threading.Lock()
        self._faults: list[_DueFault] = []
        self._healed = threading.Event()
        super().__init__(work_dir=work_dir, run_user=run_user)

    def __enter__(self) -> FaultyOpsMeta:
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end_faults()  # whatever stalls must end, or its thread would not
        super().__exit__(kind, error, _)

    def stall(self, where: str, *, times: int | None = None) -> None:
        """Send the headers and half of the body, then nothing; the other half when healed."""
        self._inject(Stall(), where, times)

    def cut(self, where: str, *, after: int, times: int | None = None) -> None:
        """Close the connection after so many bytes of a body."""
        self._inject(Cut(after=after), where, times)

    def drip(self, where: str, *, piece: int = 1, pause: float = 0.1) -> None:
        """Send bodies so many bytes at a time, with a pause of so many seconds before each."""
        self._inject(Drip(piece=piece, pause=pause), where, None)

    def vanish(self, name: str, version: str) -> None:
        """Answer 404 for the tarball, its digest file and its signature."""
        self.fail(404, f"/{name}-{version}.tar")

    def fail(
        self, status: int, where: str = "", *, retry_after: int | str | None = None, times: int | None = None
    ) -> None:
        """Answer with this status; everything, where no path is given. `retry_after`: seconds, or a date."""
        headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
        self._inject(text(status, f"fault: {status}\n", **headers), where, times)

    def redirect(self, where: str, to: str, *, times: int | None = None) -> None:
        """Answer 302 to another URL, of whatever scheme."""
        self._inject(text(302, "elsewhere\n", Location=to), where, times)

    def ignore_ranges(self, where: str = "") -> None:
        """Send whole files only, as a server does that never heard of ranges."""
        self._inject(WholeFilesOnly(), where, None)

    def slow_heartbeats(self, seconds: float) -> None:
        """Let each heartbeat wait so long for its answer."""
        self._inject(Delay(seconds=seconds), "/heartbeat", None)

    def answer_raw(self, status: int, body: bytes | str, content_type: str = JSON, *, times: int | None = None) -> None:
        """Answer heartbeats with these very bytes."""
        content = body.encode() if isinstance(body, str) else body
        self._inject(Reply(status=status, headers={"Content-Type": content_type}, content=content), "/heartbeat", times)

    def heal(self) -> None:
        """End every fault, `down` too. What stalls or waits goes on at once; bytes already sent stay as they were."""
        self._end_faults()
        self._corrupt.clear()
        self.up()

    def respond(self, call: ServedRequest) -> Reply:
        answer = super().respond(call)
        if answer.status == 401:
            return answer
        path = call.path.partition("?")[0]
        whole_only, _ = self._due(path, WholeFilesOnly)
        if whole_only is not None:
            answer = evolve(answer, headers={**answer.headers, "Accept-Ranges": "none"})
        delay, healed = self._due(path, Delay)
        if delay is not None:
            healed.wait(delay.seconds)
        instead, _ = self._due(path, Reply)
        return instead or answer

    def body_faults(self, path: str) -> tuple[tuple[BodyFault, ...], threading.Event]:
        """Take all that is due on a body that is about to leave, and the event that says that it is healed."""
        (drip, healed), (cut, _), (stall, _) = self._due(path, Drip), self._due(path, Cut), self._due(path, Stall)
        return tuple(fault for fault in (drip, cut, stall) if fault is not None), healed

    def _inject(self, fault: Fault, where: str, times: int | None) -> None:
        with self._guard:
            self._faults.append(_DueFault(fault, where, times))

    def _end_faults(self) -> None:
        with self._guard:
            self._faults.clear()
            self._healed.set()
            self._healed = threading.Event()

    def _due(self, path: str, kind: type[FaultT]) -> tuple[FaultT | None, threading.Event]:
        """Take the fault of this kind that is due on this path, if one is, and the event that says that it is healed.

        Both at once: a fault that is healed before it was carried out must not wait for the next healing.
        """
        with self._guard:
            for due in reversed(self._faults):
                if isinstance(due.fault, kind) and due.hits(path) and due.left != 0:
                    if due.left is not None:
                        due.left -= 1
                    return due.fault, self._healed
            return None, self._healed
