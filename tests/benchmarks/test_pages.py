"""The measured parts of docs/performance.md are replaced, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks import pages
from benchmarks.verdicts import Figure


def test_a_part_is_written_again_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    pages.write("figures", "new", page)
    pages.write("figures", "newer", page)
    assert page.read_text() == "before\n<!-- figures -->\nnewer\n<!-- end of figures -->\nafter\n"


def test_the_page_has_both_parts() -> None:
    for part in ("figures", "profiles"):
        assert pages.PAGE.read_text().count(f"<!-- {part} -->\n") == 1
        assert pages.PAGE.read_text().count(f"<!-- end of {part} -->\n") == 1


def test_what_is_simulated_is_the_same_on_every_machine_and_not_in_the_table() -> None:
    found = [Figure.exact(goal, "work", 1.0, aim=2.0, unit="s") for goal in ("P1b", "P9 steady")]
    assert pages.figures("this machine", {one.goal: one for one in found}).splitlines() == [
        "this machine.",
        "",
        "| goal | work | yardstick | aim | figure | rounds | verdict |",
        "|---|---|---|---|---|---|---|",
        "| P1b | work | - | 2 | **1.00** s | - | reached |",
    ]
