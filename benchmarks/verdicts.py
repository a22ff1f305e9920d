"""Figures beside their goals: reached or missed, and what a change moved since the run before. No measuring here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

KEPT = Path(".bench.json")  # the run before, in the folder where the bench is run


@frozen(kw_only=True)
class Figure:
    """One goal's. `low`, `high`: of all rounds; `aim`: at most; None: the figure is for comparison alone. `unit`: empty
    for a ratio to the yardstick."""

    goal: str
    work: str
    yardstick: str
    value: float
    low: float
    high: float
    aim: float | None = None
    unit: str = ""

    @classmethod
    def exact(
        cls, goal: str, work: str, value: float, *, yardstick: str = "-", aim: float | None = None, unit: str = ""
    ) -> Figure:
        """One that has no rounds: counted, or simulated."""
        return cls(goal=goal, work=work, yardstick=yardstick, value=value, low=value, high=value, aim=aim, unit=unit)

    @property
    def shown(self) -> str:
        """The figure with its unit, in bold."""
        return f"**{self.value:.2f}**{' ' if self.unit else ''}{self.unit}"

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return "-"
        return "reached" if self.value <= self.aim else "missed"

    def moved(self, before: Figure | None) -> str:
        """What became of it since: better or worse only where the rounds of both runs don't overlap."""
        if before is None or before.unit != self.unit:
            return "new"
        if self.high < before.low:
            return f"better than {before.value:.2f}"
        return f"worse than {before.value:.2f}" if self.low > before.high else "same"


HEAD = f"| goal | work | yardstick | aim | figure | of | verdict | since the run before |\n{'|---' * 8}|"


def line(figure: Figure, before: Figure | None) -> str:
    """A row of the table."""
    aim = "-" if figure.aim is None else f"{figure.aim:g}"
    rounds = f"{figure.low:.2f} to {figure.high:.2f}"
    cells = (
        figure.goal,
        figure.work,
        figure.yardstick,
        aim,
        figure.shown,
        rounds,
        figure.verdict,
        figure.moved(before),
    )
    return f"| {' | '.join(cells)} |"


def summary(figures: Mapping[str, Figure], before: Mapping[str, Figure]) -> Iterator[str]:
    """The last lines: how many goals are reached, which are missed, and which moved."""
    aimed = [figure for figure in figures.values() if figure.aim is not None]
    missed = [figure.goal for figure in aimed if figure.verdict == "missed"]
    yield f"{len(aimed) - len(missed)} of {len(aimed)} goals reached{'; missed: ' if missed else ''}{', '.join(missed)}"
    changes = {figure.goal: figure.moved(before.get(figure.goal)) for figure in figures.values()}
    moved = [f"{goal} {change}" for goal, change in changes.items() if change not in ("same", "new")]
    if before:
        yield f"moved since the run before: {'; '.join(moved) or 'none'}"


def kept(path: Path = KEPT) -> dict[str, Figure]:
    """The figures of the run before, by goal; none where there are none of this form."""
    try:
        found = json.loads(path.read_text())
        return {name: Figure(**fields) for name, fields in found["figures"].items()}
    except (OSError, ValueError, TypeError, LookupError):
        return {}


def document(machine: str, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """The run as JSON."""
    return {
        "machine": machine,
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        "verdicts": {name: figure.verdict for name, figure in figures.items()},
    }


def keep(machine: str, figures: Mapping[str, Figure], before: Mapping[str, Figure], path: Path = KEPT) -> None:
    """Keep this run for the next one; goals that it did not measure stay as they were."""
    path.write_text(json.dumps(document(machine, {**before, **figures}), indent=2) + "\n")
