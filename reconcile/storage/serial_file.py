"""`var/desired-serials.json`: which serial of a signed desired state was accepted last, of each trusted key.

state.db has the same: where one of them is lost, or an older one was put back, the higher serial counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from probes.codec import decode, encode
from reconcile.decide.desired_serial import highest
from reconcile.source import DesiredSignature
from reconcile.storage.small_file import UNREADABLE, read_json, write_json


class SerialMemory:
    """The signatures that were accepted last. Threads may read it; who keeps an answer writes it."""

    def __init__(self, path: Path, keys: frozenset[str]) -> None:
        """`keys`: those that are trusted; what others signed is forgotten."""
        self._path = path
        self._keys = keys
        self._learnt: tuple[DesiredSignature, ...] = ()

    @property
    def accepted(self) -> tuple[DesiredSignature, ...]:
        """The last one of each key."""
        return highest(self._learnt, _read(self._path), keys=self._keys)

    def learn(self, serials: Iterable[DesiredSignature]) -> None:
        """Take into account what is remembered elsewhere. Nothing is written."""
        self._learnt = highest(self._learnt, serials, keys=self._keys)

    def keep(self) -> None:
        """Write down what is known, where the file says otherwise. Raise WriteFailed."""
        accepted = self.accepted
        if accepted != _read(self._path):
            write_json(self._path, encode(accepted))


def _read(path: Path) -> tuple[DesiredSignature, ...]:
    """What the file says; nothing where it can't be read."""
    try:
        found: tuple[DesiredSignature, ...] = decode(tuple[DesiredSignature, ...], read_json(path))
        return found
    except UNREADABLE:
        return ()
