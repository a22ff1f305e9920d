"""Our own cache of verified tarballs, and a tarball on its way into it: its bytes so far, and their digests.

It knows no network: the fetch step decides whether to go on or to start again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from reconcile.act.host.write import try_lock
from reconcile.decide.desired import Digest

_BLOCK = 1024 * 1024
_LOOK_S = 0.1  # between two looks whether a part is free


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

    @classmethod
    def take(
        cls, path: Path, url: str, digests: frozenset[Digest], waiting: Callable[[], None] = lambda: None
    ) -> Partial | None:
        """Lock the part of a cache entry, waiting for whoever has it; None where the entry itself is there by then.

        Whoever has it may take as long as a server likes: `waiting` is called now and then, and may raise.
        """
        part = part_of(path)
        while not path.is_file():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = open(os.open(part, flags, 0o600), "r+b")  # noqa: SIM115 - stays open while it is filled
            _lock(file, waiting)
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return cls(file, path, url, digests)
            file.close()  # it was finished or thrown away while we waited
        os.utime(path)  # the cache keeps what was used last
        return None

    def restart(self) -> None:
        """Forget what is there: the server has other bytes now, or can't resume."""
        self.file.seek(0)
        self.file.truncate()
        self._hashes = _new_hashes(self._kinds)
        self.size = 0

    def remember(self, validator: str) -> None:
        """Write down what the bytes belong to, before the first of them. Empty: they can't be resumed."""
        self.validator = validator
        self._notes.write_text(json.dumps({"url": self._url, "validator": validator}))

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self._count(block)

    def finish(self) -> frozenset[str]:
        """All bytes are there: their digests, as `kind:hex`."""
        self.file.flush()
        self._notes.unlink(missing_ok=True)
        return _named(self._hashes)

    def close(self) -> None:
        """Leave it for a later try. What can't be resumed goes; so does what not even can be written to its end."""
        try:
            self.file.flush()
        except OSError:
            self.discard()
        if not self.validator:
            self.discard()
        self.file.close()

    def discard(self) -> None:
        """Give its room back at once: a full disk needs that more than we the bytes."""
        with suppress(OSError):
            os.ftruncate(self.file.fileno(), 0)
        self._part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def _read_validator(self) -> str:
        try:
            notes: Any = json.loads(self._notes.read_bytes())
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


def trim_cache(cache: Path, limit: int, keep: Path) -> None:
    """Remove what was used longest ago until at most `limit` bytes are left: entries, and parts of downloads that broke
    off. Never `keep`, nor a part that somebody fills; so more than `limit` may stay."""
    kept = (keep, part_of(keep), _notes_of(part_of(keep)))
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
        if path not in kept and _remove(path):
            total -= size


def _remove(path: Path) -> bool:
    """Remove a file of the cache, a part with its notes; say whether it is gone."""
    if path.name.endswith(".part"):
        return _remove_part(path)
    if path.name.endswith(".part.json") and os.path.lexists(path.with_suffix("")):
        return False  # it goes with its part
    path.unlink(missing_ok=True)
    return True


def _remove_part(part: Path) -> bool:
    """Remove a part that nobody has locked, under its lock: who waits for it begins a new one (see `Partial.take`)."""
    try:
        fd = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:  # a link, or a file of somebody else
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(part) and os.path.samestat(os.fstat(fd), part.lstat()):
            _notes_of(part).unlink(missing_ok=True)
            part.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _lock(file: BinaryIO, waiting: Callable[[], None]) -> None:
    try:
        while not try_lock(file.fileno()):
            waiting()
            time.sleep(_LOOK_S)
    except BaseException:
        file.close()
        raise


def _new_hashes(kinds: frozenset[str]) -> dict[str, Any]:
    return {
        # md5 is all that the field's servers give; it protects from accidents only, and FIPS hosts must not refuse it.
        kind: hashlib.md5(usedforsecurity=False) if kind == "md5" else hashlib.new(kind)
        for kind in kinds
    }


def _named(hashes: dict[str, Any]) -> frozenset[str]:
    return frozenset(f"{kind}:{taken.hexdigest()}" for kind, taken in hashes.items())
