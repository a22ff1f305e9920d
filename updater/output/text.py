"""Rows as plain lines: for pipes, mails and files, and for a terminal that can do no more."""

from __future__ import annotations

from collections.abc import Iterable

from probes.values import frozen
from updater.output.rows import Block, Cell, column_widths, plain

_COLOURS = {"good": "32", "bad": "31", "pending": "33", "downtime": "33", "dim": "2", "name": "1", "bold": "1"}
_INDENT = 2


@frozen
class Palette:
    """Colours, or none."""

    on: bool

    def __call__(self, kind: str, text: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.on and text and kind in _COLOURS else text


def to_text(blocks: Iterable[Block], paint: Palette) -> str:
    """All of it, without an end of line; empty where there is nothing."""
    return "\n".join(line for block in blocks for line in _lines(block, paint)).rstrip("\n")


def _lines(block: Block, paint: Palette) -> Iterable[str]:
    widths = column_widths([[len(plain(cell)) for cell in row.cells] for row in block.rows], block.widths)
    for row in block.rows:
        columns = zip(row.cells, (*widths[: len(row.cells) - 1], 0), strict=False)
        cells = [_padded(cell, width, number in block.right, paint) for number, (cell, width) in enumerate(columns)]
        yield (" " * _INDENT * block.indent + "  ".join(cells)).rstrip()


def _padded(cell: Cell, width: int, right: bool, paint: Palette) -> str:
    words = "".join(paint(span.kind, span.text) for span in cell)
    room = " " * (width - len(plain(cell)))
    return room + words if right else words + room
