"""`var/places.json`: what is remembered of this host's places in a fleet's lock."""

from __future__ import annotations

from pathlib import Path

from probes.codec import decode, encode
from reconcile.decide.timing.fleet_places import Places
from reconcile.storage.small_file import UNREADABLE, read_json, write_json


def read_places(path: Path) -> Places | None:
    """What is remembered; None: nothing, or it can't be read."""
    try:
        found: Places = decode(Places, read_json(path))
        return found
    except UNREADABLE:
        return None


def write_places(path: Path, places: Places) -> None:
    """Write it down, whole or not at all. Raise WriteFailed."""
    write_json(path, encode(places))
