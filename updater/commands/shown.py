"""Where a command's words go, and in which form: laid out on a terminal, in colour or not, or plain lines."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from updater.terminal import can_be_laid_out, in_colour

if TYPE_CHECKING:
    from updater.progress import Progress
    from updater.render import Palette
    from updater.screen import Screen


def put(text: str) -> None:
    """Print, and no empty line where there is nothing to print."""
    print(text, end="\n" if text else "")


def palette(options: argparse.Namespace) -> Palette:
    """Colours for plain lines; none for a program."""
    from updater.render import Palette

    return Palette(options.output == "text" and in_colour(options.color, sys.stdout))


def screen(options: argparse.Namespace) -> Screen | None:
    """The layout for eyes, on a terminal that can show it; None: the plain lines."""
    if options.output != "text" or not can_be_laid_out(sys.stdout):
        return None
    from updater.screen import NARROWEST, Screen, console

    out = console(sys.stdout, colour=in_colour(options.color, sys.stdout))
    return Screen(out) if out.width >= NARROWEST else None


def progress(options: argparse.Namespace) -> Progress:
    """Who tells what goes on, on standard error: a display, on a terminal that knows nothing lines, else nobody."""
    from updater.progress import Lines, Progress

    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return Progress()
    if not can_be_laid_out(sys.stderr):
        return Lines(sys.stderr)
    from updater.live import Display
    from updater.screen import NARROWEST

    display = Display(sys.stderr, colour=in_colour(options.color, sys.stderr))
    return display if display.width >= NARROWEST else Lines(sys.stderr)
