"""Our own cache of verified tarballs, and a tarball on its way into it: its bytes so far, and their digests.

It knows no network: the fetch step decides whether to go on or to start again. Other threads and runs add and remove
files here at any time, so a name is never looked at first and used then: it is opened, and the open file is asked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

from reconcile.act.host.home_lock import try_lock
from reconcile.decide.desired import Digest
from reconcile.errors import DigestMismatch, FetchInterrupted
from reconcile.storage.small_file import free_name

_BLOCK = 1024 * 1024
_POLL_S = 0.1  # how often a locked part is tried again
# How long a part may neither grow nor be given back. A download keeps a least pace; a large part is digested first.
_PATIENCE_S = 300.0
_NOTES_LIMIT = 4096  # bytes


def entry_name(agent: str, version: str, digests: frozenset[Digest]) -> str:
    """The file name of a tarball in the cache. What was fetched belongs to that agent and version, whatever other one a
    server gives its digest to. Raise DigestMismatch where no digest is known."""
    if not digests:
        raise DigestMismatch("no digest is known for the tarball, so it could not be verified; it is not fetched")
    strongest = max(str(digest) for digest in digests)  # "sha256:" sorts after "md5:"
    return f"{agent}@{version}@{strongest.replace(':', '-')}.tar.gz"  # `@` is in no agent's and no version's name


def same_digest(entry: Path) -> tuple[str, ...]:
    """What else the cache has with the digest of an entry, for people: agents and versions."""
    _, _, end = entry.name.rpartition("@")
    others = sorted(path.name for path in entry.parent.iterdir() if path.name.endswith(f"@{end}"))
    return tuple(name.rpartition("@")[0].replace("@", " ") for name in others if name != entry.name)


def take_digests(kinds: frozenset[str], file: BinaryIO) -> frozenset[str]:
    """Digest a file from its start, as `kind:hex`."""
    hashes = _new_hashes(kinds)
    file.seek(0)
    while block := file.read(_BLOCK):
        for taken in hashes.values():
            taken.update(block)
    return _named(hashes)


def kinds_of(digests: frozenset[Digest]) -> frozenset[str]:
    return frozenset(str(digest).partition(":")[0] for digest in digests)


class Partial:
    """`{entry}.part` beside its future place, and `{entry}.part.json`: the URL, and what If-Range may name.

    Locked while it is open, so that two agents (or runs) never write into one.
    """

    def __init__(self, file: BinaryIO, path: Path, url: str, digests: frozenset[Digest]) -> None:
        self.file = file
        self._part = part_of(path)
        self._notes = _notes_of(self._part)
        self._url = url
        self._kinds = kinds_of(digests)
        self._hashes = _new_hashes(self._kinds)
        self.size = 0
        self.validator = self._read_validator()
        if self.validator:
            self._take_up()
        else:
            self.restart()

    @property
    def resumes(self) -> bool:
        """Whether what an earlier try left can be gone on with: the server can say that it still has the same file."""
        return bool(self.size and self.validator)

    @classmethod
    def take(
        cls,
        path: Path,
        url: str,
        digests: frozenset[Digest],
        waiting: Callable[[], None] = lambda: None,
        patience_s: float = _PATIENCE_S,
    ) -> Partial | BinaryIO:
        """Lock the part of a cache entry, waiting for the one who has it; the open entry where that is there by then.

        The one who has it may take as long as a server likes: `waiting` is called now and then, and may raise. Raise
        FetchInterrupted where the part stands still for `patience_s` seconds, OSError.
        """
        part = part_of(path)
        for ours in (path, part, _notes_of(part)):
            free_name(ours)
        while (entry := _open_entry(path)) is None:
            file = open(_open_part(part), "r+b")  # noqa: SIM115 - stays open while it is filled
            try:
                _lock(file, part, waiting, patience_s)
                if _is_still(part, file.fileno()):
                    return cls(file, path, url, digests)
            except BaseException:
                file.close()
                raise
            file.close()  # it was finished or thrown away while we waited
        return entry

    def restart(self) -> None:
        """Forget what is there: the server has other bytes now, or can't resume."""
        self.file.seek(0)
        self.file.truncate()
        self._hashes = _new_hashes(self._kinds)
        self.size = 0

    def remember(self, validator: str) -> None:
        """Write down what the bytes belong to, before the first of them. Empty: they can't be resumed."""
        self.validator = validator
        with open(self._notes, "w", encoding="utf-8", opener=_opened) as notes:
            notes.write(json.dumps({"url": self._url, "validator": validator}))

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self._count(block)

    def finish(self) -> frozenset[str]:
        """All bytes are there: their digests, as `kind:hex`."""
        self.file.flush()
        self._notes.unlink(missing_ok=True)
        return _named(self._hashes)

    def close(self) -> None:
        """Leave it for a later try, and give its lock back. What can't be resumed goes; so does what can't even be
        written to its end."""
        with suppress(OSError), closing(self.file):
            try:
                self.file.flush()
            except OSError:
                self.discard()
            if not self.validator:
                self.discard()

    def discard(self) -> None:
        """Give its room back at once: a full disk needs that more than we the bytes."""
        with suppress(OSError):
            os.ftruncate(self.file.fileno(), 0)
        for path in (self._part, self._notes):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _read_validator(self) -> str:
        try:
            with open(self._notes, "rb", opener=_opened) as file:
                notes: Any = json.loads(file.read(_NOTES_LIMIT))
            return str(notes["validator"]) if notes["url"] == self._url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _take_up(self) -> None:
        while block := self.file.read(_BLOCK):
            self._count(block)

    def _count(self, block: bytes) -> None:
        self.size += len(block)
        for taken in self._hashes.values():
            taken.update(block)


def part_of(path: Path) -> Path:
    """Where an entry's bytes are until they are verified."""
    return path.with_name(f"{path.name}.part")


def _notes_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _opened(path: str, flags: int) -> int:
    """Open notes for `open`, which closes them where they are a folder. Follow no link, and wait for no FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def trim_cache(cache: Path, limit: int, keep: Path) -> None:
    """Remove what was used longest ago until at most `limit` bytes are left: entries, and parts of downloads that broke
    off. Never `keep`, nor a part that somebody fills; so more than `limit` may stay."""
    spared = (keep, part_of(keep), _notes_of(part_of(keep)))
    total = 0
    found: list[tuple[float, int, Path]] = []
    try:
        for path in cache.iterdir():
            with suppress(FileNotFoundError):  # another agent's thread is at work, too
                at = path.lstat()
                total += at.st_size
                found.append((at.st_mtime, at.st_size, path))
    except FileNotFoundError:
        return
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path not in spared and _remove(path):
            total -= size


def remove_entry(path: Path, entry: BinaryIO) -> None:
    """Remove an entry that is no good, unless another one has taken its place meanwhile."""
    if _is_still(path, entry.fileno()):
        path.unlink(missing_ok=True)


def _remove(path: Path) -> bool:
    """Remove a file of the cache, a part with its notes; say whether it is gone. What can't be removed stays."""
    name = path.name.removesuffix(".json")
    try:
        if name.endswith(".part"):
            return _remove_part(path.with_name(name))
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _remove_part(part: Path) -> bool:
    """Remove a part that is not locked, under its lock, and its notes; one that waits for it begins a new one (see
    `Partial.take`). Notes without a part are removed under the lock of one that is made for that."""
    fd = _open_part(part)
    try:
        if not try_lock(fd):
            return False
        if _is_still(part, fd):
            _notes_of(part).unlink(missing_ok=True)
            part.unlink()
        return True
    finally:
        os.close(fd)


def _open_entry(path: Path) -> BinaryIO | None:
    """Open an entry, which counts as used by that; None where none is there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # nothing, a link, a socket
            return None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    with suppress(OSError):
        os.utime(fd)  # the cache keeps what was used last
    return open(fd, "rb")


def _open_part(part: Path) -> int:
    """Open a part, made where it is missing. Raise OSError, also on what is not a regular file."""
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileExistsError(errno.EEXIST, "it is in the way, and no regular file; remove it", str(part))
    return fd


def _is_still(path: Path, fd: int) -> bool:
    """Whether a name still is that of an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO, part: Path, waiting: Callable[[], None], patience_s: float) -> None:
    size, until = -1, 0.0
    while not try_lock(file.fileno()):
        waiting()
        if (now := os.fstat(file.fileno()).st_size) != size:
            size, until = now, time.monotonic() + patience_s
        elif time.monotonic() >= until:
            raise FetchInterrupted(
                f"{part}: another download of the same tarball holds it, and has stood still for {patience_s:.0f} s"
            )
        time.sleep(_POLL_S)


def _new_hashes(kinds: frozenset[str]) -> dict[str, Any]:
    return {
        # md5 is all that the field's servers give; it protects from accidents only, and FIPS hosts must not refuse it.
        kind: hashlib.md5(usedforsecurity=False) if kind == "md5" else hashlib.new(kind)
        for kind in kinds
    }


def _named(hashes: dict[str, Any]) -> frozenset[str]:
    return frozenset(f"{kind}:{taken.hexdigest()}" for kind, taken in hashes.items())
