"""What a step may use: the network, our cache, limits, the journal. Made by reconciler.py; knows no action."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from attrs import define, evolve, field

from probes.home import StatusLimits
from probes.observed import HomeRef
from probes.values import frozen
from probes.worker.pool import UserWorker, WorkerPool
from reconcile.act.host.archive import KEEP_FREE, ArchiveLimits
from reconcile.act.signatures import Signed
from reconcile.decide.actions import ResponseFingerprint
from reconcile.decide.records.record import ControlCall
from reconcile.errors import DigestMismatch
from reconcile.net.http_client import HttpClient

_PIECE = 64 * 1024


class Interrupted(Exception):
    """We were asked to end, at a point where nothing is half done. Not a failure of anything."""


class WrongBytes(DigestMismatch):
    """`served`: the server's fingerprint of them, where they came from one."""

    def __init__(self, message: str, served: ResponseFingerprint | None) -> None:
        super().__init__(message)
        self.served = served


class SwitchNote(Enum):
    """How far a switch is: it is about to begin, or what was switched to said started."""

    BEGINS = "begins"
    CAME_UP = "came up"


class Throttle:
    """The bound on all downloads together. `rate`: bytes per second, None for none. Threads share it."""

    def __init__(self, rate: float | None, sleep: Callable[[float], object] = time.sleep) -> None:
        self._rate = rate
        self._sleep = sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """A block in pieces that are each taken on their own: a wait must be so short that it can be ended."""
        size = len(block) if self._rate is None else max(1, min(_PIECE, int(self._rate)))
        return (block[at : at + size] for at in range(0, len(block), size))

    def take(self, size: int) -> None:
        """Account for `size` bytes that arrived; wait as long as the rate asks."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            wait = self._free_at - now
        self._sleep(max(0.0, wait))


@frozen(kw_only=True)
class ControlLimits:
    """Seconds for one control call and its effect, together. `recheck_s`: a start is done when status says started,
    and says so again so much later (docs/architecture.md). `outlasting_s`: how long processes of a version are waited
    for once its status says stopped. `dead_s`: how long a status must say stopped after a start before that is given
    up, where no process is left either."""

    start_s: float = 60.0
    stop_s: float = 60.0
    recheck_s: float = 0.5
    outlasting_s: float = 10.0
    dead_s: float = 5.0


@frozen(kw_only=True)
class Bounds:
    """Bytes that a download, our cache and an unpacked archive may have. `keep_free`: what is left of the
    cache's file system."""

    max_tarball: int = 512 * 1024 * 1024
    cache_size: int = 1024 * 1024 * 1024
    keep_free: int = KEEP_FREE
    archive: ArchiveLimits = field(factory=ArchiveLimits)


@define
class StepResults:
    """What one plan's steps hand to each other: the open tarball, the digests that were taken of it as it came, and its
    signature.

    The file that was verified is the file that is unpacked: it is not opened again by its name. `served`: how the
    server identified its bytes. `outlived`: the processes of the version that was stopped which are left, for people.
    """

    tarball: BinaryIO | None = None
    path: Path | None = None
    seen: frozenset[str] = frozenset()
    signed: Signed | None = None
    served: ResponseFingerprint | None = None
    outlived: str = ""

    def put(
        self,
        tarball: BinaryIO,
        path: Path,
        *,
        seen: frozenset[str] = frozenset(),
        served: ResponseFingerprint | None = None,
    ) -> None:
        self.clear()
        self.tarball, self.path, self.seen, self.served = tarball, path, seen, served

    def clear(self) -> None:
        if self.tarball is not None:
            self.tarball.close()
        self.tarball, self.path, self.seen = None, None, frozenset()
        self.served, self.signed = None, None


class Contents(Mapping[str, bytes]):
    """Remote configs by digest, read when they are needed: they lie on the disk until then."""

    def __init__(self, readers: Mapping[str, Callable[[], bytes]]) -> None:
        self._readers = readers

    def __getitem__(self, digest: str) -> bytes:
        return self._readers[digest]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


@frozen(kw_only=True)
class StepContext:
    """What the steps of one agent's plan work with.

    - `note`: writes down how far a switch is, and returns when that is on disk. Raises WriteFailed.
    - `call`: writes down a control call that was spawned, as well as it can; `over`: that its end was seen; `calls`:
      those that were spawned.
    - `refused`: bytes that are not downloaded once more if the server still has them.
    - `on_disk`: the versions in the home, by their tarballs' digests.
    - `may_begin`: asked once before the first stop or switch.
    - `contents`: remote configs by digest.
    - `ending`: set when we are to end.
    - `signed`: whether this host asks for signatures, so that a config may replace no program.
    - `workers`: the workers of other users.
    - `arrived`: called at each block with how many bytes of a download are there, and of how many; it must not block.
    """

    home: HomeRef
    http: HttpClient
    cache: Path
    bounds: Bounds
    throttle: Throttle
    control: ControlLimits
    status: StatusLimits
    contents: Mapping[str, bytes]
    note: Callable[[SwitchNote], None]
    call: Callable[[ControlCall], None] = lambda call: None
    over: Callable[[ControlCall], None] = lambda call: None
    calls: Callable[[], tuple[ControlCall, ...]] = tuple
    boot: str = ""
    refused: ResponseFingerprint | None = None
    on_disk: Mapping[str, str] = field(factory=dict)
    may_begin: Callable[[], bool] = lambda: True
    signed: bool = False
    clock: Callable[[], float] = time.time
    ending: threading.Event
    results: StepResults = field(factory=StepResults)
    workers: WorkerPool = field(factory=WorkerPool)
    arrived: Callable[[int, int | None], None] = lambda size, total: None

    @property
    def worker(self) -> UserWorker:
        """Works as the agent's user."""
        return self.workers.of(self.home.run_user)

    def at(self, home: HomeRef | None) -> StepContext:
        """The same for another home of the agent, and its user there."""
        return self if home is None else evolve(self, home=home)
