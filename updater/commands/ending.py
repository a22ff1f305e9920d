"""What a command is, and how it ends: its exit code, and the one line of an error that a person gets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

# docs/interface.md, section 3
OK, BROKE, CHANGED, NOT_AS_DESIRED, ROLLED_BACK = 0, 1, 2, 3, 4
USAGE, NO_DESIRED_STATE, TOOL_MISSING, BUSY, CONFIG = 64, 69, 72, 75, 78


Command = Callable[[argparse.Namespace], int]
"""What a command does; it returns its exit code."""


class UsageWrong(Exception):
    """What was typed can't be meant. The message is for people."""


def say(code: int, line: str) -> int:
    """Say it on standard error; the exit code is returned, so that a command can end with it."""
    print(f"updater: {line}", file=sys.stderr)
    return code
