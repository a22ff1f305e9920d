"""Rows on a terminal, laid out for eyes with rich: signs, colours, and lines that are broken where they can be.

The rows are those that a pipe gets as plain lines. Nothing is decided here. rich costs some 50 ms to load, so only the
commands that print to a terminal import this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.text import Text
from rich.theme import Theme

from updater.output.rows import Block, Cell, Row, column_widths
from updater.output.wrapping import breaks

_INDENT, _GAP = 3, 2
_LEAST_ROOM = 24  # columns for words beside others; where there are fewer, they stand beneath
_LEAST_CUT = 20  # columns for words that are cut; where there are fewer, they are left out
_THEME = Theme(
    {
        "good": "green",
        "bad": "red",
        "pending": "yellow",
        "name": "bold",
        "downtime": "yellow",
        "bold": "bold",
        "quoted": "default",
    }
)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line, as for plain lines."""
        raise


def console(file: TextIO, *, colour: bool) -> Console:
    """A console for a terminal. Without `colour` (NO_COLOR, --color never) the layout stays, and no escape for bold or
    dim either.

    No `markup`: what a script says or a server names may hold brackets, which must neither style nor break anything.
    """
    system: Literal["auto"] | None = "auto" if colour else None
    return _Console(
        file=file,
        theme=_THEME,
        color_system=system,
        no_color=not colour,
        highlight=False,
        soft_wrap=False,
        emoji=False,
        markup=False,
    )


class Marks:
    """Signs of how an agent stands; plain ones where the terminal's encoding has no others."""

    def __init__(self, encoding: str) -> None:
        try:
            "✓✗●‖→·│".encode(encoding)
            self.good, self.bad, self.pending, self.held = "✓", "✗", "●", "‖"
            self.arrow, self.dot, self.bar = "→", "·", "│"
        except (UnicodeEncodeError, LookupError):
            self.good, self.bad, self.pending, self.held = "+", "x", "*", "="
            self.arrow, self.dot, self.bar = "->", "-", "|"


class Screen:
    """One command's output on a terminal."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._marks = Marks(out.encoding)

    @property
    def out(self) -> Console:
        """Where it prints."""
        return self._out

    def show(self, blocks: Iterable[Block]) -> None:
        """Print all of it."""
        for text in self.lines(blocks):
            self._out.print(text, no_wrap=True, overflow="ignore", crop=False)

    def redraw(self, blocks: Iterable[Block]) -> None:
        """Print all of it in the place of what stood on the terminal, as much as there is room for."""
        fitting = self._fitting(tuple(blocks), max(1, self._out.height - 1))
        with self._out.capture() as drawn:  # to be written at once: what is interrupted amid it would stand there half
            self._out.control(Control.home(), Control.clear())
            for text in fitting:
                self._out.print(text, no_wrap=True, overflow="ignore", crop=True)
        self._out.file.write(drawn.get())
        self._out.file.flush()

    def lines(self, blocks: Iterable[Block]) -> Iterator[Text]:
        """Line by line, none wider than the terminal."""
        for block in blocks:
            yield from (text for _, text in self._marked(block))

    def _fitting(self, blocks: tuple[Block, ...], room: int) -> list[Text]:
        """Return as many lines as have room: the last block, and of the others before all what is not well."""
        foot = list(self.lines(blocks[-1:]))
        lines, wells, mark = [], [], ""
        for block in blocks[:-1]:
            for its_own, text in self._marked(block):
                mark = its_own or mark  # what has no sign belongs to what stands above
                lines.append(text)
                wells.append(mark == "good")
        too_many = len(lines) + len(foot) - room
        if too_many <= 0:
            return [*lines, *foot]
        dropped = sorted(range(len(lines)), key=lambda at: (wells[at], at), reverse=True)[: too_many + 1]
        remaining = [text for at, text in enumerate(lines) if at not in dropped]
        return [*remaining, Text(f"... {len(dropped)} more lines", style="dim"), *foot][-room:]

    def _marked(self, block: Block) -> Iterator[tuple[str, Text]]:
        """The lines of a block, each with the sign of its row."""
        rows = [[self._text(cell) for cell in row.cells] for row in block.rows]
        marked = any(row.mark for row in block.rows)
        widths = column_widths([[cell.cell_len for cell in cells] for cells in rows], block.widths)
        for row, cells in zip(block.rows, rows, strict=True):
            margin = self._margin(row, block, marked=marked)
            room = self._out.width - margin.cell_len
            lines = self._row(cells, widths, block, room)
            for number, text in enumerate(lines):
                text.rstrip()
                head = margin if number == 0 else Text(" " * margin.cell_len)
                yield row.mark, Text.assemble(head, text) if text else Text()

    def _margin(self, row: Row, block: Block, *, marked: bool) -> Text:
        """What stands before a row: its indent, or its sign, or the room of one where other rows have one."""
        if not row.mark:
            return Text("  " if marked else " " * _INDENT * block.indent)
        return Text(f"{getattr(self._marks, row.mark)} ", style="pending" if row.mark == "held" else row.mark)

    def _row(self, cells: list[Text], widths: list[int], block: Block, room: int) -> list[Text]:
        """A row in its columns, where they have room; else as many cells a line as have."""
        if block.hang:
            return self._hanging(_joined(cells), block.hang, room)
        if sum(widths) + _GAP * len(widths) > room:
            return self._few(cells, widths, block, room) if block.cut else self._flowing(cells, room)
        head = _in_columns(cells[:-1], widths, block)
        last, left = cells[-1] if cells else Text(), room - head.cell_len
        if block.cut:
            last = _cut(last, left)
        if last.cell_len <= left:
            return [Text.assemble(head, last)]
        if beside := self._beside(last, left, room):
            return [Text.assemble(head, beside[0]), *(Text.assemble(" " * head.cell_len, one) for one in beside[1:])]
        return [head, *(Text.assemble(" " * _INDENT, one) for one in self._broken(last, room - _INDENT))]

    def _hanging(self, text: Text, hang: str, room: int) -> list[Text]:
        """A text whose further lines begin with `hang`."""
        first, *others = self._broken(text, room - len(hang)) or [Text()]
        return [first, *(Text.assemble((hang, "dim"), one) for one in others)]

    def _beside(self, last: Text, left: int, room: int) -> list[Text]:
        """A row's last cell in the columns that the others left; none where it is read better beneath them: in lines
        that are too short, in a long strip, or with a word cut that has room in a whole line."""
        lines = self._broken(last, left) if left >= _LEAST_ROOM else []
        longest = max(map(cell_len, last.plain.split()), default=0)
        cuts_a_word = left < longest <= room - _INDENT
        is_strip = longest <= left < room // 2 and len(lines) > 2
        return [] if is_strip or cuts_a_word else lines

    def _few(self, cells: list[Text], widths: list[int], block: Block, room: int) -> list[Text]:
        """Lay out as many columns as have room, and beneath them the other cells, where these are more than remarks."""
        number = max((n for n in range(1, len(widths)) if sum(widths[:n]) + _GAP * (n - 1) <= room), default=1)
        others = [cell for cell in cells[number:] if cell]
        head = _in_columns(cells[:number], widths, block)
        lines = [head] if head.cell_len <= room + _GAP else self._broken(head, room)
        if all(span.style == "dim" for cell in others for span in cell.spans):
            return lines
        return [*lines, Text.assemble(" " * _INDENT, _cut(_joined(others), room - _INDENT))]

    def _flowing(self, cells: list[Text], room: int) -> list[Text]:
        lines: list[Text] = []
        for cell in filter(None, cells):
            if lines and lines[-1].cell_len + _GAP + cell.cell_len <= room:
                lines[-1] = Text.assemble(lines[-1], " " * _GAP, cell)
            else:
                indent = " " * _INDENT if lines else ""
                lines += [Text.assemble(indent, one) for one in self._broken(cell, room - len(indent))]
        return lines or [Text()]

    def _broken(self, text: Text, width: int) -> list[Text]:
        """Words in lines of that width; no letter is lost."""
        lines = list(text.divide(breaks(text.plain, width, cell_len)))
        for line in lines:
            line.rstrip()
        return lines

    def _text(self, cell: Cell) -> Text:
        text = Text()
        for span in cell:
            words = span.text if span.kind == "quoted" else span.text.replace("->", self._marks.arrow)
            text.append(words, style=span.kind)
        return text


def _in_columns(cells: list[Text], widths: list[int], block: Block) -> Text:
    """The first cells of a row, each as wide as its column, with what stands between it and the next."""
    head = Text()
    for number, cell in enumerate(cells):
        space = " " * (widths[number] - cell.cell_len)
        head = Text.assemble(head, *((space, cell) if number in block.right else (cell, space)), " " * _GAP)
    return head


def _joined(cells: list[Text]) -> Text:
    return Text(" " * _GAP).join(cells)


def _cut(text: Text, width: int) -> Text:
    """What has room of it; nothing where that is too little to read."""
    if text.cell_len <= width:
        return text
    cut = text.copy() if width >= _LEAST_CUT else Text()
    cut.truncate(max(0, width), overflow="ellipsis")
    return cut
