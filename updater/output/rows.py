"""What a command prints for people, as rows of cells: the one model that text.py and rich_view.py print.

A block is a few rows whose cells stand in columns. It knows words, their colours and marks, and no terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat, zip_longest

from probes.values import frozen


@frozen
class Span:
    """Words of one colour. `kind`: good, bad, pending, dim, name, downtime; quoted: somebody else's words, which are
    printed as they are; empty: as all else."""

    text: str
    kind: str = ""


Cell = tuple[Span, ...]


@frozen(kw_only=True)
class Row:
    """`mark`: how what it is about stands: good, bad, pending or held; a terminal shows it as a sign before the row."""

    cells: tuple[Cell, ...]
    mark: str = ""


@frozen(kw_only=True)
class Block:
    """Rows whose cells stand in columns. `indent`: levels. `widths`: the least of the first columns, so that blocks
    which follow each other stand alike. `right`: the columns that are aligned to the right. `cut`: on a terminal each
    row is one line, two on a narrow one, whatever has no room in them. `hang`: what each further line of a row begins
    with."""

    rows: tuple[Row, ...]
    indent: int = 0
    widths: tuple[int, ...] = ()
    right: frozenset[int] = frozenset()
    cut: bool = False
    hang: str = ""


BLANK = Block(rows=(Row(cells=()),))


def cell(text: str, kind: str = "") -> Cell:
    return (Span(text, kind),) if text else ()


def row(*cells: Cell | str, mark: str = "") -> Row:
    """A row; of words that have no colour the string is enough."""
    return Row(cells=tuple(cell(one) if isinstance(one, str) else one for one in cells), mark=mark)


def line(*cells: Cell | str, indent: int = 0, mark: str = "") -> Block:
    """One row that stands for itself."""
    return Block(rows=(row(*cells, mark=mark),), indent=indent)


def block(rows: Iterable[Row], *, indent: int = 0, widths: tuple[int, ...] = (), right: Iterable[int] = ()) -> Block:
    return Block(rows=tuple(rows), indent=indent, widths=widths, right=frozenset(right))


def column_widths(lengths: Sequence[Sequence[int]], least: Sequence[int]) -> list[int]:
    """How wide each column is, by the lengths of the cells in each row; a row's last cell is as long as it is."""
    columns = zip_longest(*(cells[:-1] for cells in lengths), fillvalue=0)
    return [max(floor, *column) for floor, column in zip(chain(least, repeat(0)), columns, strict=False)]


def plain(words: Cell) -> str:
    """A cell's words alone."""
    return "".join(span.text for span in words)
