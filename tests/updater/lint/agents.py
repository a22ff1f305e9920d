"""Agents for lint: the shipped template with a program, and what makes a bad one of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEMPLATE = (ROOT / "contrib" / "agent-template" / "control").read_text()
PROGRAM = "#!/bin/sh\nexec sleep 600\n"


def control(*changes: tuple[str, str]) -> str:
    """The template, each change made: what was there, and what comes in its place."""
    script = TEMPLATE.replace("stop_seconds=20 ", "stop_seconds=1 ")
    for old, new in changes:
        assert old in script, old
        script = script.replace(old, new)
    return script


def tarball(
    folder: Path,
    script: str | None = None,
    *,
    program: str = PROGRAM,
    name: str = "my-agent-1.0.0.tar.gz",
    mode: int = 0o755,
    more: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Pack an agent. `more`: further files, path -> content; a `control` among them takes the place of the script."""
    files = {"control": control() if script is None else script, "agent": program, **(more or {})}
    path = folder / name
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for member, content in files.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content.encode())
            entry.mode = mode if member == "control" else 0o755
            tar.addfile(entry, io.BytesIO(content.encode()))
        for member, target in (links or {}).items():
            entry = tarfile.TarInfo(member)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return path
