"""Where text is broken into lines for a terminal of so many columns. It knows neither colours nor a terminal.

A word is not cut, a command in backticks stays whole so that it can be copied, and what is wider than a whole line is
broken where it has joints: behind a slash, or between two wide letters, which are written without blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

_WORDS = re.compile(r"\s*(?:[^\s`]*`[^`\n]*`\S*|\S+)\s*")
_BARE = re.compile(r"\s*\S+\s*")
_JOINTS = re.compile(r"[^/]*/+|[^/]+")


def columns_of(text: str) -> int:
    """How many columns a text takes: wide letters take two, what stands on the letter before it takes none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def breaks(text: str, width: int, measure: Callable[[str], int] = columns_of) -> list[int]:
    """The offsets at which a new line begins. `measure`: how many columns a text takes."""
    found: list[int] = []
    offset = used = 0
    for piece, joined in _pieces(text, max(1, width), measure):
        bare, whole = measure(piece.rstrip()), measure(piece)
        # The first piece of a long word begins a line: most of it may stand there.
        if used and (used + bare > width or joined):
            found.append(offset)
            used = 0
        offset, used = offset + len(piece), used + whole
    return found


def wrapped(text: str, width: int, *, hang: str = "  ") -> list[str]:
    """Text in lines of that width, those after the first behind `hang`."""
    if columns_of(text) <= width:
        return [text]
    offsets = [0, *breaks(text, width - columns_of(hang)), len(text)]
    lines = [text[start:end].rstrip() for start, end in pairwise(offsets)]
    return [lines[0], *(hang + line for line in lines[1:])]


def _pieces(text: str, width: int, measure: Callable[[str], int]) -> Iterator[tuple[str, bool]]:
    """What is not broken, with the blanks behind it; and whether it must begin a line."""
    for word in _WORDS.findall(text):
        fits = measure(word.rstrip()) <= width
        for one in [word] if fits else _BARE.findall(word):  # of a command that has no room in a line
            if _has_wide(one) or measure(one.rstrip()) > width:
                yield from _parts(one, width, measure)
            else:
                yield one, False


def _parts(word: str, width: int, measure: Callable[[str], int]) -> Iterator[tuple[str, bool]]:
    """A long word's parts, as long as they may be; the first begins a line, but for one of wide letters."""
    first = not _has_wide(word)
    for joint in _joints(word) if not first else _filled(_JOINTS.findall(word), width, measure):
        while measure(joint.rstrip()) > width:
            length = _fitting(joint, width, measure)
            yield joint[:length], first
            joint, first = joint[length:], False
        yield joint, first
        first = False


def _filled(joints: list[str], width: int, measure: Callable[[str], int]) -> Iterator[str]:
    """Joints in parts that fill a line each; what is itself wider than a line is no reason to end one."""
    part = ""
    for joint in joints:
        if part and measure(part + joint) > width >= measure(joint):
            yield part
            part = ""
        part += joint
    yield part


def _joints(word: str) -> Iterator[str]:
    """A word of wide letters in the parts between which it may be broken."""
    part = ""
    for letter in word:
        # What closes a phrase does not begin a line.
        if part and letter.isalnum() and (_has_wide(letter) or _has_wide(part[-1])):
            yield part
            part = ""
        part += letter
    yield part


def _has_wide(text: str) -> bool:
    return columns_of(text) > len(text)


def _fitting(text: str, width: int, measure: Callable[[str], int]) -> int:
    """How many of its letters have room, one at least."""
    length = 1
    while length < len(text) and measure(text[: length + 1]) <= width:
        length += 1
    return length
