"""A small JSON file below var/, read as a regular file alone and written whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from probes.host.home_reader import open_regular
from reconcile.errors import WriteFailed

_LIMIT = 64 * 1024
# What reading raises where the file, or what it holds, is not as `write_json` left it.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_json(path: Path) -> Any:
    """What it holds. Raise one of UNREADABLE."""
    with open(open_regular(path), "rb") as file:
        return json.loads(file.read(_LIMIT))


def write_json(path: Path, value: Any) -> None:
    """Write it down, whole or not at all; once this returns, a power cut does not undo it. Raise WriteFailed."""
    beside = path.with_name(f".{path.name}.new")  # always the same name: a run that was killed leaves one at most
    try:
        beside.unlink(missing_ok=True)
        with beside.open("x", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync(path.parent)
    except OSError as err:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise WriteFailed(f"{path} can't be written: {err.strerror or err}") from err


def _sync(folder: Path) -> None:
    """Bring the name to the disk: else a power cut brings the older file back, which knows of no place."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
