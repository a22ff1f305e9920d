"""What can go wrong between a server and us, as a saboteur's verbs; each lasts until `heal`, or for so many `times`.

`where` is a part of the path; where it ends in `.tar.gz` it means the tarball alone, not the digest file beside it. Of
several sabotages of one kind on one path the newest counts. What is ordered here is carried out by file_server.py.
"""

from __future__ import annotations

import threading
from typing import TypeVar

from attrs import define

from probes.values import frozen
from updater.demo.file_server import BodyFault, Corrupt, Cut, Drip, Reply, Stall

JSON = "application/json; charset=utf-8"


@frozen(kw_only=True)
class Delay:
    """The answer waits so many seconds."""

    seconds: float


@frozen(kw_only=True)
class WholeFilesOnly:
    """Ranges are ignored."""


DueFault = BodyFault | Reply | Delay | WholeFilesOnly
FaultT = TypeVar("FaultT", Corrupt, Stall, Cut, Drip, Reply, Delay, WholeFilesOnly)


@define
class _Sabotage:
    fault: DueFault
    where: str
    left: int | None

    def hits(self, path: str) -> bool:
        return path.endswith(self.where) if self.where.endswith(".tar.gz") else self.where in path


def text(status: int, words: str, **headers: str) -> Reply:
    """Make an answer of plain text. Header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8", **named}, content=words.encode())


class FaultInjector:
    """The verbs, and the memory of what is still due. May be used while requests are being answered."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sabotages: list[_Sabotage] = []
        self._healed = threading.Event()

    def corrupt(self, name: str, version: str) -> None:
        """Flip the byte in the middle of the tarball; its digests and its entity tag stay those of the true bytes."""
        self._sabotage(Corrupt(), f"/{name}-{version}.tar.gz", None)

    def stall(self, where: str, *, times: int | None = None) -> None:
        """Send the headers and half of the body, then nothing; the other half when healed."""
        self._sabotage(Stall(), where, times)

    def cut(self, where: str, *, after: int, times: int | None = None) -> None:
        """Close the connection after so many bytes of a body."""
        self._sabotage(Cut(after=after), where, times)

    def drip(self, where: str, *, piece: int = 1, pause: float = 0.1) -> None:
        """Send bodies so many bytes at a time, with a pause of so many seconds before each."""
        self._sabotage(Drip(piece=piece, pause=pause), where, None)

    def vanish(self, name: str, version: str) -> None:
        """Answer 404 for the tarball, its digest file and its signature."""
        self.fail(404, f"/{name}-{version}.tar")

    def fail(
        self, status: int, where: str = "", *, retry_after: int | str | None = None, times: int | None = None
    ) -> None:
        """Answer with this status; everything, where no path is given. `retry_after`: seconds, or a date.

        A heartbeat that fails so is among `heartbeats` nevertheless.
        """
        headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
        self._sabotage(text(status, f"sabotaged: {status}\n", **headers), where, times)

    def redirect(self, where: str, to: str, *, times: int | None = None) -> None:
        """Answer 302 to another URL, of whatever scheme."""
        self._sabotage(text(302, "elsewhere\n", Location=to), where, times)

    def ignore_ranges(self, where: str = "") -> None:
        """Send whole files only, as a server does that never heard of ranges."""
        self._sabotage(WholeFilesOnly(), where, None)

    def slow_heartbeats(self, seconds: float) -> None:
        """Let each heartbeat wait so long for its answer."""
        self._sabotage(Delay(seconds=seconds), "/heartbeat", None)

    def answer_raw(self, status: int, body: bytes | str, content_type: str = JSON, *, times: int | None = None) -> None:
        """Answer heartbeats with these very bytes."""
        content = body.encode() if isinstance(body, str) else body
        self._sabotage(
            Reply(status=status, headers={"Content-Type": content_type}, content=content), "/heartbeat", times
        )

    def heal(self) -> None:
        """Undo every sabotage. What stalls or waits goes on at once; bytes already sent stay as they were."""
        with self._guard:
            self._sabotages.clear()
            self._healed.set()
            self._healed = threading.Event()

    def _sabotage(self, fault: DueFault, where: str, times: int | None) -> None:
        with self._guard:
            self._sabotages.append(_Sabotage(fault, where, times))

    def _due(self, path: str, kind: type[FaultT]) -> tuple[FaultT | None, threading.Event]:
        """Take the fault of this kind that is due on this path, if one is, and the event that tells of its healing.

        Both at once: a fault that is healed before it was carried out must not wait for the next healing.
        """
        with self._guard:
            for sabotage in reversed(self._sabotages):
                if isinstance(sabotage.fault, kind) and sabotage.hits(path) and sabotage.left != 0:
                    if sabotage.left is not None:
                        sabotage.left -= 1
                    return sabotage.fault, self._healed
            return None, self._healed

    def body_faults(self, path: str) -> tuple[tuple[BodyFault, ...], threading.Event]:
        """Take all that is due on a body that is about to leave, and the event that tells of the healing."""
        corrupt, healed = self._due(path, Corrupt)
        (drip, _), (cut, _), (stall, _) = self._due(path, Drip), self._due(path, Cut), self._due(path, Stall)
        return tuple(fault for fault in (corrupt, drip, cut, stall) if fault is not None), healed
