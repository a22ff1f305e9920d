"""How the demo's story looks: in colours, one act a screen and at a reader's pace on a terminal; plain in a pipe.

It knows nothing of the story.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Mapping

from updater.output.terminal import can_be_laid_out, in_colour
from updater.output.text import Palette

_WIDEST = 100
_NARROWEST = 20  # some terminals have no width, or that of a letter
_MARGIN = 4
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# Seconds: time to read what was just said before it happens, and to see what came of it before the next act. With the
# work itself, some fifteen, the whole stays under a minute.
_AFTER_WORDS_S, _AFTER_AN_ACT_S = 1.0, 2.5
_WAIT_S = 3600.0  # for a reader who asked for time


class Narrator:
    """Coloured and folded to the width of a terminal, plain where there is none."""

    def __init__(self, color: str, after_an_act_s: float = _AFTER_AN_ACT_S) -> None:
        """`color`: auto, always or never. `after_an_act_s`: until the next act begins by itself."""
        self._after_an_act_s = after_an_act_s
        terminal = sys.stdout.isatty()
        able = can_be_laid_out(sys.stdout)
        self.coloured = in_colour(color, sys.stdout)
        self._paint = Palette(self.coloured)
        self._terminal = terminal
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns if terminal else _WIDEST
        self._width = min(_WIDEST, max(_NARROWEST, columns))
        self._paragraph = "nothing yet"
        self._paced = able and sys.stdin is not None and sys.stdin.isatty()
        self.columns = self._width - _MARGIN if able else None
        """What is left for a command that is to lay out its output for this terminal; None: it shall print plainly."""

    def headline(self, text: str) -> None:
        """Begin an act, on a terminal on a new screen, once the reader has seen the last one."""
        self.next_screen()
        rule = "─" * max(0, self._width - len(text) - 1) if self._terminal and self._can_draw() else ""
        self._show("headline", f"{self._paint('bold', text)} {self._paint('dim', rule)}".rstrip())

    def next_screen(self) -> None:
        """Give time to look, then go on on a new screen. What stood there can be scrolled back to."""
        if self._paced and self._paragraph != "nothing yet":
            self._wait(self._after_an_act_s, f"  {self._paint('dim', 'Enter: go on    space: wait')}")
            height = shutil.get_terminal_size().lines
            print("\n" * height + "\x1b[H", end="", flush=True)
            self._paragraph = "headline"

    def say(self, text: str) -> None:
        self._show("words", *fold(f"  {text}", self._width, hang=0))
        if self._paced:
            self._wait(_AFTER_WORDS_S, "")

    def command(self, text: str) -> None:
        self._show("command", f"  {self._paint('dim', '$')} {self._paint('bold', text)}")
        self._paragraph = "output"

    def output(self, text: str) -> None:
        """Show what a program printed, word for word; a terminal gets long lines folded, so that the margin stays."""
        for line in text.rstrip().split("\n"):
            indented = f"{' ' * _MARGIN}{line}".rstrip()
            self._show("output", *(fold(indented, self._width, hang=4) if self._terminal else [indented]))

    def fact(self, text: str, *, holds: bool = True) -> None:
        mark = self._paint("good", "ok") if holds else self._paint("bad", "NO")
        self._show("facts", *fold(f"  {mark}  {text}", self._width, hang=4))

    def signposts(self, pages: Mapping[str, str]) -> None:
        widest = max(map(len, pages))
        lines = (f"  {self._paint('bold', page)}{' ' * (widest - len(page))}  {why}" for page, why in pages.items())
        self._show("pages", *lines)

    def _show(self, paragraph: str, *lines: str) -> None:
        """Print, with an empty line between paragraphs; flushed, so that a pipe too gets it as it happens."""
        if self._paragraph not in ("headline", paragraph):
            print()
        self._paragraph = paragraph
        print(*lines, sep="\n", flush=True)

    def _can_draw(self) -> bool:
        try:
            "─".encode(sys.stdout.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def _wait(self, seconds: float, hint: str) -> None:
        """Wait so long, or until a key: Enter goes on, space waits for the next one. `hint`: stands there meanwhile."""
        if hint:
            print(f"\n{hint}", end="", flush=True)
        end = time.monotonic() + seconds
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        try:
            tty.setcbreak(keyboard, termios.TCSADRAIN)
            while (left := end - time.monotonic()) > 0 and select.select([keyboard], [], [], left)[0]:
                if os.read(keyboard, 1) != b" " or not hint:
                    break
                end = time.monotonic() + _WAIT_S
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        if hint:
            print("\r\x1b[K\x1b[A", end="", flush=True)


def fold(line: str, width: int, *, hang: int) -> list[str]:
    """Break a line between words where it is wider, and go on below its beginning, so much further in."""
    margin = " " * (len(line) - len(line.lstrip()) + hang)
    rows = [""]
    for word in re.findall(r"\s*\S+", line):
        if rows[-1] and len(_ESCAPE.sub("", rows[-1] + word)) > width:
            rows.append(margin + word.lstrip())
        else:
            rows[-1] += word
    return rows
