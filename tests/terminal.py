"""A terminal of a given size that a command runs on, and what stands on it at the end."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from tests.e2e.processes import Processes

ROWS = 50


@frozen(kw_only=True)
class Shown:
    """What a command wrote, colours and all, and how it ended."""

    code: int
    text: str


def on_terminal(
    processes: Processes, argv: list[str], *, cwd: Path, columns: int = 80, env: Mapping[str, str] = {}
) -> Shown:
    """Run a command on a terminal of its own, to its end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    surroundings = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    surroundings |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **env}
    process = processes.start(argv, cwd=cwd, env=surroundings, stdin=its, output=its)
    os.close(its)
    written = b""
    while chunk := _read(ours):
        written += chunk
    os.close(ours)
    return Shown(code=process.wait(), text=written.decode(errors="replace").replace("\r\n", "\n"))


def _read(terminal: int) -> bytes:
    """What comes next; nothing when the last process has let go of the terminal (Linux: EIO)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
