"""`var/places.json`: what is remembered of this host's places in a fleet's lock."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import asdict

from probes.host.home_reader import open_regular
from reconcile.decide.timing.fleet_places import PlaceNote, Places, PlaceWait
from reconcile.errors import WriteFailed

_LIMIT = 64 * 1024


def read_places(path: Path) -> Places | None:
    """What is remembered; None: nothing, or it can't be read."""
    try:
        with open(open_regular(path), "rb") as file:
            kept: Any = json.loads(file.read(_LIMIT))
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_places(path: Path, places: Places) -> None:
    """Write it down, whole or not at all. Raise WriteFailed."""
    import secrets

    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            json.dump(asdict(places), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as err:
        beside.unlink(missing_ok=True)
        raise WriteFailed(f"{path} can't be written: {err.strerror or err}") from err
