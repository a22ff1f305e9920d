"""The tables of docs/reliability.md: what failed is in its cell, and modes with the same figures share a column."""

from __future__ import annotations

from tests.crash.__main__ import Job, table
from tests.crash.sweep import Finding, Swept


def result(row: str, mode: str, points: int, failures: int = 0) -> tuple[Job, Swept]:
    found = tuple(Finding(at=number, hit="fsync", what="lost") for number in range(failures))
    swept = Swept(scenario=row, mode=mode, points=points, findings=found)
    return Job(part="simulated", row=row, mode=mode, work=lambda: swept), swept


def test_a_failure_is_in_its_cell() -> None:
    results = [result("install", "kill", 65), result("install", "EIO", 55, failures=2)]
    assert table("at each", ["upgrade", "install"], results) == [
        "| at each | kill | EIO |",
        "|---|---|---|",
        "| install | 65 | 55 / 2 |",
        "",
        "Points: 120. Failures: 2.",
        "",
    ]


def test_modes_with_the_same_figures_share_a_column() -> None:
    figures = {"kill": (65, 68), "power cut": (65, 68), "EIO": (65, 56)}
    results = [
        result(row, mode, figures[mode][at]) for at, row in enumerate(["install", "upgrade"]) for mode in figures
    ]
    assert table("at each", ["install", "upgrade"], results)[:4] == [
        "| at each | kill; power cut: each | EIO |",
        "|---|---|---|",
        "| install | 65 | 65 |",
        "| upgrade | 68 | 56 |",
    ]
