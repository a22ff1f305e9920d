"""A terminal of a given size that a command runs on, and what stands on it at the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
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


class Terminal:
    """A terminal, and the command that runs on it. `end` must be called; `go_away` may be before."""

    def __init__(
        self, processes: Processes, argv: list[str], *, cwd: Path, columns: int = 80, env: Mapping[str, str] = {}
    ) -> None:
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        surroundings = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        surroundings |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **env}
        self._process = processes.start(argv, cwd=cwd, env=surroundings, stdin=its, output=its)
        os.close(its)
        self._written = b""

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, *words: str) -> None:
        """Read on until all the words were on the terminal at once."""
        while not any(all(word in "\n".join(rows) for word in words) for rows in screens(self.text)[-4:]):
            chunk = _read(self._ours)
            assert chunk, f"it ended without {words!r}:\n{self.text}"
            self._written += chunk

    def interrupt(self) -> None:
        """As Ctrl-C does: this terminal is no session's controlling one."""
        self._process.send_signal(signal.SIGINT)

    def go_away(self) -> None:
        """As a connection that breaks off, for one that is no session's controlling terminal: no SIGHUP comes."""
        os.close(self._ours)
        self._ours = -1

    def end(self) -> Shown:
        """Read to the end."""
        while self._ours >= 0 and (chunk := _read(self._ours)):
            self._written += chunk
        if self._ours >= 0:
            self.go_away()
        return Shown(code=self._process.wait(), text=self.text)


def on_terminal(
    processes: Processes, argv: list[str], *, cwd: Path, columns: int = 80, env: Mapping[str, str] = {}
) -> Shown:
    """Run a command on a terminal of its own, to its end."""
    return Terminal(processes, argv, cwd=cwd, columns=columns, env=env).end()


def _read(terminal: int) -> bytes:
    """What comes next; nothing when the last process has let go of the terminal (Linux: EIO)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


_PIECE = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])|([\r\n])|([^\r\n\x1b]+)")


def screens(written: str) -> list[list[str]]:
    """What stood on the terminal each time before a line was erased, and at last: as far as rich and we move about."""
    rows, row, column = [""], 0, 0
    seen: list[list[str]] = []
    for number, letter, turn, text in _PIECE.findall(written):
        if text:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
            column += len(text)
        elif turn == "\r":
            column = 0
        elif turn == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            if rows[row] and (not seen or seen[-1] != rows):
                seen.append(list(rows))
            rows[row] = ""
    return [*seen, rows]
