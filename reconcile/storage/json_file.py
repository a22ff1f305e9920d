"""A small JSON file below var/, read as a regular file alone and written whole or not at all."""

from __future__ import annotations

import json
import os
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
    """Write it down, whole or not at all. Raise WriteFailed."""
    import secrets

    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as err:
        beside.unlink(missing_ok=True)
        raise WriteFailed(f"{path} can't be written: {err.strerror or err}") from err
