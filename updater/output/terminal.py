"""What a terminal can show, and what its owner wants to see: the one rule for all that is printed."""

from __future__ import annotations

import os
from typing import TextIO

from updater.output.wrapping import wrapped

NARROWEST = 50  # columns; below that lines are better broken by the terminal than by us


def in_colour(choice: str, out: TextIO) -> bool:
    """Whether to colour what goes there. `choice`: `always`, `never`, or `auto`: a terminal that can, unless NO_COLOR
    (no-color.org: set, and not to nothing) speaks against it."""
    if choice == "auto":
        return can_be_laid_out(out) and not os.environ.get("NO_COLOR")
    return choice == "always"


def can_be_laid_out(out: TextIO) -> bool:
    """Whether it is a terminal that colours text and writes over it; a dumb one, or one of no name, does neither."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def fitted(text: str, out: TextIO) -> str:
    """Text whose lines are no wider than the terminal that it goes to; as it is for all else, and for a narrow one."""
    width = _columns(out)
    return text if width < NARROWEST else "\n".join(part for line in text.split("\n") for part in wrapped(line, width))


def _columns(out: TextIO) -> int:
    """How wide it is; 0: it is no terminal, or does not say."""
    if not out.isatty():
        return 0
    asked_for = os.environ.get("COLUMNS", "")
    try:
        return int(asked_for) if asked_for.isdecimal() else os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        return 0
