"""The tables of docs/reliability.md: what failed is named, and modes with the same figures share a row."""

from __future__ import annotations

from tests.crash.__main__ import Job, table
from tests.crash.sweep import Finding, Swept


def result(row: str, mode: str, points: int, failures: int = 0) -> tuple[Job, Swept]:
    found = tuple(Finding(at=number, hit="fsync", what="lost") for number in range(failures))
    swept = Swept(scenario=row, mode=mode, points=points, findings=found)
    return Job(part="simulated", row=row, mode=mode, work=lambda: swept), swept


def test_points_are_added_up_and_a_failure_names_its_scenario() -> None:
    results = [
        result("install", "kill", 65),
        result("install", "EIO", 55, failures=2),
        result("upgrade", "kill", 1_000),
        result("upgrade", "EIO", 56),
    ]
    assert table("at each", ["prune", "install", "upgrade"], results) == [
        "| at each | points | failures |",
        "|---|---|---|",
        "| kill | 1,065 | 0 |",
        "| EIO | 111 | 2 in install |",
        "",
        "Scenarios: install, upgrade.",
        "",
    ]


def test_modes_with_the_same_figures_share_a_row() -> None:
    results = [
        result("install", "kill", 65),
        result("install", "power cut", 65),
        result("install", "EIO", 65, failures=1),
    ]
    assert table("at each", ["install"], results)[2:4] == [
        "| kill; power cut: each | 65 | 0 |",
        "| EIO | 65 | 1 in install |",
    ]
