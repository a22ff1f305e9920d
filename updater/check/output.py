"""Findings as rows, for plain lines and for a terminal, and as JSON. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from updater.check.subject import CheckFinding, CheckState
from updater.output.json_form import to_document
from updater.output.rows import BLANK, Block, Row, block, cell, line, row

_KINDS = {CheckState.GOOD: "good", CheckState.NOTE: "pending", CheckState.BAD: "bad"}


def lines(findings: Iterable[CheckFinding]) -> Block:
    """One plain line each: how it is, what, and the remedy."""

    def one(finding: CheckFinding) -> Row:
        remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
        return row(cell(finding.state.value, _KINDS[finding.state]), finding.about, f"{finding.message}{remedy}")

    return block(map(one, findings), widths=(4, 10))


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
