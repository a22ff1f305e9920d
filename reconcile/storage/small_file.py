"""Small files below var/, read as regular files alone and written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from probes.host.home_reader import read_regular
from reconcile.errors import WriteFailed

_LIMIT = 64 * 1024
# What reading raises where the file, or what it holds, is not as `write_json` left it.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_json(path: Path) -> Any:
    """What it holds. Raise one of UNREADABLE."""
    return json.loads(read_regular(path, _LIMIT))


def remove(path: Path) -> None:
    """Free a name; nothing there is fine. A folder is moved aside: what is in it is not the updater's. Raise
    OSError."""
    import secrets

    try:
        path.unlink(missing_ok=True)
    except OSError:
        if path.is_symlink() or not path.is_dir():
            raise
        path.rename(path.with_name(f".{path.name[:200]}.set-aside-{secrets.token_hex(4)}"))


def free_name(path: Path) -> None:
    """Free a name that something else than a regular file has. Raise OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            remove(path)


def write_text(path: Path, content: str) -> None:
    """Put a file in place of what lies there, whole or not at all; several processes may do so at once. Raise
    OSError."""
    import secrets

    _write(path.with_name(f".{path.name}-{secrets.token_hex(4)}"), path, content)


def write_json(path: Path, value: Any) -> None:
    """Write it down, whole or not at all; once this returns, a power cut does not undo it. Raise WriteFailed."""
    beside = path.with_name(f".{path.name}.new")  # always the same name: a run that was killed leaves one at most
    try:
        remove(beside)
        _write(beside, path, json.dumps(value))
        _sync(path.parent)
    except OSError as err:
        raise WriteFailed(f"{path} can't be written: {err.strerror or err}") from err


def _write(beside: Path, path: Path, content: str) -> None:
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Bring the name to the disk: else a power cut brings the older file back, which knows of no place."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
