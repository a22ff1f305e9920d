"""docs/performance.md: its measured parts, written anew from a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.verdicts import Figure

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_LEFT_OUT = ("P9", "P12", "pack-")  # the same on every machine, or of other pages
_HEAD = "| goal | work | yardstick | aim | figure | rounds | verdict |"


def figures(on: str, found: Mapping[str, Figure]) -> str:
    """The table, and what it was measured on."""
    rows = [_row(one) for one in found.values() if not one.goal.startswith(_LEFT_OUT)]
    return "\n".join([f"{on}.", "", _HEAD, "|---" * 7 + "|", *rows])


def _row(figure: Figure) -> str:
    rounds = "-" if figure.low == figure.high else f"{figure.low:.2f} to {figure.high:.2f}"
    aim = "-" if figure.aim is None else f"{figure.aim:g}"
    cells = (figure.goal, figure.work, figure.yardstick, aim, figure.shown, rounds, figure.verdict)
    return f"| {' | '.join(cells)} |"


def write(part: str, content: str, page: Path = PAGE) -> None:
    """Put it between the marks of this part."""
    before, rest = page.read_text().split(f"<!-- {part} -->\n")
    _, after = rest.split(f"<!-- end of {part} -->\n")
    page.write_text(f"{before}<!-- {part} -->\n{content}\n<!-- end of {part} -->\n{after}")
