"""Read the `status -o json` of other hosts: bounded, of a form that this version knows, fit for a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import Any, TypeVar

from probes.host.home_reader import read_regular
from probes.text import sanitize

T = TypeVar("T")

_LIMIT = 64 * 1024 * 1024


class StatusUnusable(Exception):
    """The file is no status, or none of the form that is needed. The message is for people."""


def status_files(paths: Iterable[Path]) -> list[Path]:
    """The files that were named; of a folder its *.json."""
    return [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]


def complaint(hosts: Sized, unreadable: Sized, without: str) -> str:
    """Why what is said of a fleet is not whole, in one line; empty: it is. `without`: what is made of the files."""
    if unreadable:
        return f"{len(unreadable)} of the files are no usable snapshots; {without} is without them"
    return "" if hosts else "no file was given: a folder stands for its *.json"


def each_usable(files: Iterable[Path], read: Callable[[Path], T]) -> tuple[list[T], tuple[tuple[str, str], ...]]:
    """What `read` returns for each file; and each that it refused, with the reason."""
    found: list[T] = []
    unreadable: list[tuple[str, str]] = []
    for file in files:
        try:
            found.append(read(file))
        except StatusUnusable as err:
            unreadable.append((str(file), str(err)))
    return found, tuple(unreadable)


def read_status(file: Path) -> dict[str, Any]:
    """Read a host's status, narrowed to some agents or not. Raise StatusUnusable."""
    try:
        document = _fit(json.loads(read_regular(file, _LIMIT)))
    except OSError as err:
        raise StatusUnusable(f"it can't be read: {err.strerror}") from None
    except (ValueError, RecursionError) as err:
        raise StatusUnusable(f"it is not JSON: {err}") from None
    if not isinstance(document, dict) or document.get("kind") != "Status":
        raise StatusUnusable("it is not a status; make it on its host with `updater status -o json`")
    if not str(document.get("format_version", "")).startswith("1."):
        raise StatusUnusable(f"its format_version is {document.get('format_version')!r}; expected 1.x")
    return document


def _fit(value: Any) -> Any:
    """The same with every text fit for a terminal: another host wrote it."""
    if isinstance(value, dict):
        return {_fit(key): _fit(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fit(inner) for inner in value]
    return sanitize(value) if isinstance(value, str) else value
