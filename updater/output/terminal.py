"""What a terminal can show, and what its owner wants to see: the one rule for all that is printed."""

from __future__ import annotations

import os
from typing import TextIO


def in_colour(choice: str, out: TextIO) -> bool:
    """Whether to colour what goes there. `choice`: `always`, `never`, or `auto`: a terminal that can, unless NO_COLOR
    (no-color.org: set, and not to nothing) speaks against it."""
    if choice == "auto":
        return can_be_laid_out(out) and not os.environ.get("NO_COLOR")
    return choice == "always"


def can_be_laid_out(out: TextIO) -> bool:
    """Whether it is a terminal that colours text and writes over it; a dumb one, or one of no name, does neither."""
    return out.isatty() and not is_dumb()


def is_dumb() -> bool:
    return os.environ.get("TERM", "dumb") == "dumb"
