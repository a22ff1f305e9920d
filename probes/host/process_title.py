"""Keep agents' names out of our own command line: scripts look for their agent by `pgrep -f` and `ps | grep`.

A name that was typed, a config's path, an interpreter in a folder of that name: each would be found there, and taken
for the agent. The words lie in this process's own memory, where the kernel reads them; they are overwritten in place,
which needs no second start of the program. Linux only, which alone has /proc; elsewhere nothing is hidden. Workers of
other users show no name from the start (worker/interpreters.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

_CMDLINE = Path("/proc/self/cmdline")
_OWN_WORDS = (b"updater", b"updater-lib", b"daemon")  # by these words our own `control` knows the daemon
_HIDDEN = b"*"
_ARG_START, _ARG_END = 45, 46  # fields 48 and 49 of proc(5), counted behind the command's name

_lock = threading.Lock()


def hide(names: Iterable[str]) -> None:
    """Replace each word of our command line that holds one of these names: a path by its last part, else by `*`."""
    hidden = [os.fsencode(name) for name in names if name]
    with _lock:
        line = command_line()
        nameless = b"\0".join(_without(word, hidden) for word in line.split(b"\0"))
        if nameless != line:
            write_command_line(nameless)


def command_line() -> bytes:
    """The words of our command line as others see them, a zero byte between two; empty where there is no /proc."""
    try:
        return _CMDLINE.read_bytes().rstrip(b"\0")
    except OSError:
        return b""


def _without(word: bytes, names: list[bytes]) -> bytes:
    for form in (word, word.rpartition(b"/")[2]):
        if form in _OWN_WORDS or not any(name in form for name in names):
            return form
    return _HIDDEN


def write_command_line(line: bytes) -> None:
    """Have others see this instead; longer than it was at the start it can't be, and stays as it is."""
    import ctypes  # here: most command lines hold no agent's name, and it costs a start

    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, ValueError, IndexError):
        return
    if start and len(line) < end - start:  # never longer than it was
        ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)
