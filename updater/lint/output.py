"""A report as people, programs and CI servers read it: rows, JSON, JUnit's XML. It decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from updater.lint.checks import Level, LintFinding, LintReport, LintVerdict
from updater.output import agent_logs
from updater.output.json_form import to_document
from updater.output.rows import BLANK, Block, Row, Span, block, cell, line, row
from updater.output.text import Palette, to_text

_FEW = 3  # names of checks in a line for eyes


def rows(report: LintReport, *, eyes: bool, quiet: bool = False) -> Iterator[Block]:
    """One row a check that was judged; where it is not well, what was seen and what to do. Then why the others were
    not, each reason once, and the verdict. `eyes`: as a terminal is laid out, where more than a few names are counted.
    `quiet`: failures alone."""
    found = tuple(_judged_rows(report, eyes=eyes, quiet=quiet))
    if found:
        widest = max(len(finding.check.id) for finding in report.findings)
        yield block(found, widths=() if eyes else (7, widest))
    if found and eyes:
        yield BLANK
    if not quiet:
        yield from (line(cell(words, "dim")) for words in _skips(report, named=_FEW if eyes else None))
    yield from _below(report)
    yield line((Span(report.target, "name"), Span(f"{' ' if eyes else ':'} {summary(report)}")))


def _judged_rows(report: LintReport, *, eyes: bool, quiet: bool) -> Iterator[Row]:
    for finding, kind, word in _judged(report, quiet=quiet):
        head = [] if eyes else [cell(word, kind)]
        yield row(*head, cell(finding.check.id, "name"), finding.check.title, mark=kind)
        if finding.verdict is LintVerdict.FAILED:
            yield row("", cell(f"seen: {finding.seen}", kind))
            yield row("", cell(f"do:   {finding.check.remedy}", "dim"))


def _below(report: LintReport) -> Iterator[Block]:
    """What the agent wrote itself where it failed, and where it lies."""
    wrote = tuple(agent_logs.log_rows(report.wrote, report.unread))
    if wrote:
        yield line(cell("what it wrote itself", "name"))
        yield from wrote
    if report.scratch:
        yield line(f"kept: {report.scratch}")


def summary(report: LintReport) -> str:
    """The verdict in a line."""
    how = "only read" if report.ran_as is None else f"run as {report.ran_as}"
    counts = f"{_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}"
    skipped = f", {report.skipped} not judged" if report.skipped else ""
    return f"{counts}{skipped} in {len(report.findings)} checks, {how}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _judged(report: LintReport, *, quiet: bool) -> Iterator[tuple[LintFinding, str, str]]:
    """Each check that was judged, with its colour and its word. `quiet`: failures alone."""
    for finding in report.findings:
        if finding.verdict is LintVerdict.FAILED:
            yield finding, *(("bad", "ERROR") if finding.check.level is Level.ERROR else ("pending", "warning"))
        elif finding.verdict is LintVerdict.PASSED and not quiet:
            yield finding, "good", "good"


def _skips(report: LintReport, named: int | None = None) -> list[str]:
    """Why checks were skipped, each reason once. More than `named` checks are counted, not named."""
    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.verdict is LintVerdict.SKIPPED:
            reasons.setdefault(finding.seen, []).append(finding.check.id)
    few = {reason: named is None or len(ids) <= named for reason, ids in reasons.items()}
    grouped = {reason: ", ".join(ids) if few[reason] else f"{len(ids)} checks" for reason, ids in reasons.items()}
    return [f"skipped: {reason} ({words})" for reason, words in grouped.items()]


def to_json(report: LintReport) -> str:
    document = {
        "target": report.target,
        "ran_as": report.ran_as,
        "checks": [
            {
                "id": finding.check.id,
                "title": finding.check.title,
                "level": finding.check.level.value,
                "result": finding.verdict.value,
                "seen": finding.seen or None,
                "remedy": finding.check.remedy if finding.verdict is LintVerdict.FAILED else None,
            }
            for finding in report.findings
        ],
        "wrote": agent_logs.to_json(report.wrote),
        "kept": report.scratch or None,
        "summary": {
            "checks": len(report.findings),
            "errors": report.errors,
            "warnings": report.warnings,
            "skipped": report.skipped,
        },
    }
    return to_document("Lint", document)


def to_junit(report: LintReport) -> str:
    """JUnit's XML, one case a check. It knows no warnings: these pass, with their words as the case's output."""
    counts = f'tests="{len(report.findings)}" failures="{report.errors}" errors="0" skipped="{report.skipped}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites {counts}>",
        f"  <testsuite name={quoteattr(f'lint {report.target}')} {counts}>",
    ]
    for finding in report.findings:
        case = f'    <testcase classname="lint" name={quoteattr(f"{finding.check.id}: {finding.check.title}")}'
        inner = _inner(finding)
        lines += [f"{case}/>"] if not inner else [f"{case}>", f"      {inner}", "    </testcase>"]
    below = to_text(_below(report), Palette(on=False))
    lines += [f"    <system-out>{escape(below)}</system-out>"] if below else []
    return "\n".join([*lines, "  </testsuite>", "</testsuites>"])


def _inner(finding: LintFinding) -> str:
    if finding.verdict is LintVerdict.SKIPPED:
        return f"<skipped message={quoteattr(finding.seen)}/>"
    if finding.is_error:
        return f'<failure type="error" message={quoteattr(finding.seen)}>{escape(finding.check.remedy)}</failure>'
    if finding.is_warning:
        return f"<system-out>warning: {escape(finding.seen)}; {escape(finding.check.remedy)}</system-out>"
    return ""
