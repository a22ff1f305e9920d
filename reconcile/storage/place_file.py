"""`var/places.json`: what is remembered of this host's places in a fleet's lock."""

from __future__ import annotations

from pathlib import Path

from attrs import asdict

from reconcile.decide.timing.fleet_places import PlaceNote, Places, PlaceWait
from reconcile.storage.json_file import UNREADABLE, read_json, write_json


def read_places(path: Path) -> Places | None:
    """What is remembered; None: nothing, or it can't be read."""
    try:
        kept = read_json(path)
        return Places(
            notes=tuple(PlaceNote(group=str(note["group"]), id=str(note["id"])) for note in kept["notes"]),
            waits=tuple(
                PlaceWait(
                    group=str(wait["group"]),
                    since=float(wait["since"]),
                    message=str(wait["message"]),
                    answered=bool(wait["answered"]),
                )
                for wait in kept["waits"]
            ),
            retry_at=None if kept["retry_at"] is None else float(kept["retry_at"]),
        )
    except UNREADABLE:
        return None


def write_places(path: Path, places: Places) -> None:
    """Write it down, whole or not at all. Raise WriteFailed."""
    write_json(path, asdict(places))
