"""Where the log goes: the file with rotation, or standard error in the foreground. loguru is loaded here, lazily.

`diagnose` is off: it would write the values of variables, secrets among them, into tracebacks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Record

_ROTATION = 10 * 1024 * 1024
_KEPT = 5


def set_up(level: str, file: Path | None, *, to_stderr: bool) -> None:
    """Send the log to `file` and, or, to standard error; whatever was set up before ends."""
    from loguru import logger

    logger.remove()
    level = level.upper()
    if to_stderr:
        logger.add(sys.stderr, level=level, format=_line, diagnose=False, backtrace=False)
    if file is not None:
        # `watch`: a run from cron and a daemon may write to one file, and either may be the one that rotates it.
        logger.add(
            file,
            level=level,
            format=_line,
            rotation=_ROTATION,
            retention=_KEPT,
            watch=True,
            opener=_private,
            errors="backslashreplace",
            diagnose=False,
            backtrace=False,
        )


def _line(record: Record) -> str:
    """One line a message, with the agent that it is about; a traceback after it where there is one."""
    agent = "{extra[agent]}: " if record["extra"].get("agent") else ""
    return f"{{time:YYYY-MM-DD HH:mm:ss.SSS}} {{level: <7}} {agent}{{message}}\n{{exception}}"


def _private(file: str, flags: int) -> int:
    return os.open(file, flags | os.O_CLOEXEC, 0o600)
