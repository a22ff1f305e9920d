"""Findings as text, as JSON, and laid out for a terminal. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from updater.check.subject import CheckFinding, CheckState
from updater.output.json_form import FORMAT_VERSION
from updater.output.text import Palette

if TYPE_CHECKING:
    from rich.console import Console

_KINDS = {CheckState.GOOD: "good", CheckState.NOTE: "pending", CheckState.BAD: "bad"}


def to_text(findings: Iterable[CheckFinding], paint: Palette) -> str:
    """One line each: how it is, what, and the remedy."""
    lines = []
    for finding in findings:
        remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
        state = paint(_KINDS[finding.state], finding.state.value) + " " * (4 - len(finding.state.value))
        lines.append(f"{state}  {finding.about:<10}  {finding.message}{remedy}")
    return "\n".join(lines)


def to_json(findings: Iterable[CheckFinding], host: str) -> str:
    """The one document of `check -o json`."""
    checks = [
        {"about": one.about, "state": one.state.value, "message": one.message, "remedy": one.remedy or None}
        for one in findings
    ]
    summary = {state.value: sum(one["state"] == state.value for one in checks) for state in CheckState}
    content = {"format_version": FORMAT_VERSION, "kind": "Check", "host": host, "checks": checks, "summary": summary}
    return json.dumps(content, indent=2, ensure_ascii=False)


def to_terminal(findings: tuple[CheckFinding, ...], out: Console) -> None:
    """One row each, what belongs together under one name; then how many are how."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from updater.output.rich_view import Marks

    marks = Marks(out.encoding)
    signs = {CheckState.GOOD: marks.good, CheckState.NOTE: marks.pending, CheckState.BAD: marks.bad}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="name")
    table.add_column(ratio=1, overflow="fold")
    before = ""
    for one, after in zip(findings, (*findings[1:], None), strict=True):
        told = Text(one.message)
        # What several in a row need is said once, below the last of them.
        if one.remedy and not (after and (after.about, after.remedy) == (one.about, one.remedy)):
            told.append(f"\n{marks.arrow} {one.remedy}", style="dim")
        about = "" if one.about == before else one.about
        before = one.about
        table.add_row(Text(signs[one.state], style=_KINDS[one.state]), about, told)
    out.print(table)
    counts = [(state, sum(one.state is state for one in findings)) for state in CheckState]
    words = f" {marks.dot} ".join(f"{count} {_counted(state, count)}" for state, count in counts if count)
    out.print(Padding(Text(words, style="dim"), (1, 0, 0, 0)))


def _counted(state: CheckState, count: int) -> str:
    return "notes" if state is CheckState.NOTE and count != 1 else state.value
