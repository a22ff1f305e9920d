"""Figures beside their goals."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.verdicts import Figure, keep, kept, line, summary


def figure(value: float, low: float, high: float, aim: float | None = 1.0, goal: str = "P1") -> Figure:
    return Figure(goal=goal, work="work", yardstick="yardstick", value=value, low=low, high=high, aim=aim)


def test_a_goal_is_reached_at_its_aim_and_missed_beyond() -> None:
    assert figure(1.0, 0.9, 1.1).verdict == "reached"
    assert figure(1.01, 0.9, 1.1).verdict == "missed"
    assert figure(9.0, 8.0, 9.0, aim=None).verdict == "-"


@pytest.mark.parametrize(
    ("before", "moved"),
    [
        ((2.0, 1.9, 2.1), "better than 2.00"),
        ((0.5, 0.4, 0.6), "worse than 0.50"),
        ((1.2, 1.05, 1.3), "same"),  # the rounds overlap: that may be the machine's mood
    ],
)
def test_a_goal_has_moved_where_no_round_of_one_run_is_within_the_others(
    before: tuple[float, float, float], moved: str
) -> None:
    assert figure(1.0, 0.9, 1.1).moved(figure(*before)) == moved


def test_a_run_is_kept_for_the_next_one_with_the_goals_that_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert kept(path) == {}
    keep("this machine", {"P1": figure(2.0, 1.9, 2.1), "P2": figure(1.0, 1.0, 1.0, goal="P2")}, {}, path)
    before = kept(path)
    now = {"P1": figure(1.0, 0.9, 1.1)}
    assert list(summary(now, before)) == [
        "1 of 1 goals reached",
        "moved since the run before: P1 better than 2.00",
    ]
    assert line(now["P1"], before["P1"]).endswith("| 1 | **1.00** | 0.90 to 1.10 | reached | better than 2.00 |")
    keep("this machine", now, before, path)
    assert {name: one.value for name, one in kept(path).items()} == {"P1": 1.0, "P2": 1.0}
    path.write_text("[]")
    assert kept(path) == {}


def test_what_is_missed_is_named() -> None:
    now = {"P1": figure(2.0, 1.9, 2.1), "P9": figure(1.0, 1.0, 1.0, goal="P9")}
    assert list(summary(now, {})) == ["1 of 2 goals reached; missed: P1"]
