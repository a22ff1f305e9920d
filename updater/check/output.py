"""Findings as text, as JSON, and as rows for a terminal. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from updater.check.subject import CheckFinding, CheckState
from updater.output.json_form import to_document
from updater.output.rows import BLANK, Block, block, cell, line, row
from updater.output.text import Palette

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
    return to_document("Check", {"host": host, "checks": checks, "summary": summary})


def rows(findings: tuple[CheckFinding, ...]) -> Iterator[Block]:
    """One row each, what belongs together under one name; then how many are how."""
    found = []
    before = ""
    for one, after in zip(findings, (*findings[1:], None), strict=True):
        found.append(row(cell("" if one.about == before else one.about, "name"), one.message, mark=_KINDS[one.state]))
        before = one.about
        # What several in a row need is said once, below the last of them.
        if one.remedy and not (after and (after.about, after.remedy) == (one.about, one.remedy)):
            found.append(row("", cell(f"-> {one.remedy}", "dim")))
    yield block(found)
    counts = [(state, sum(one.state is state for one in findings)) for state in CheckState]
    yield BLANK
    yield line(cell(", ".join(f"{count} {_counted(state, count)}" for state, count in counts if count), "dim"))


def _counted(state: CheckState, count: int) -> str:
    return "notes" if state is CheckState.NOTE and count != 1 else state.value
