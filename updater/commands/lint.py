"""`lint`: whether an agent keeps the convention."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from updater.commands.context import NOT_AS_DESIRED, OK, TOOL_MISSING, UsageWrong, say, show


def lint(options: argparse.Namespace) -> int:
    from probes.host import procfs
    from updater.lint import output
    from updater.lint.lint import lint
    from updater.lint.runtime_checks import CallLimits
    from updater.lint.sandbox import LintUnusable

    if not options.static and not procfs.is_there():
        return say(TOOL_MISSING, "an agent's processes can be followed on Linux alone; here there is `lint --static`")
    limits = (
        CallLimits()
        if options.timeout is None
        else CallLimits(status=options.timeout, start=options.timeout, stop=options.timeout)
    )
    try:
        delivered = {path.name: path.read_bytes() for path in options.given}
    except OSError as err:
        raise UsageWrong(f"--with {err.filename}: {err.strerror}") from None
    try:
        report = lint(
            options.target,
            run=not options.static,
            delivered=delivered,
            limits=limits,
            keep=options.keep,
            say=_progress(options),
        )
    except LintUnusable as err:
        raise UsageWrong(str(err)) from None
    form = {"json": output.to_json, "junit": output.to_junit}.get(options.output)
    if form is not None:
        print(form(report))
    else:
        eyes, plain = (output.rows(report, eyes=eyes, quiet=options.quiet) for eyes in (True, False))
        show(options, eyes, plain=plain)
    return NOT_AS_DESIRED if report.errors else OK


def _progress(options: argparse.Namespace) -> Callable[[str], None]:
    """Where progress goes: a terminal's standard error, and nowhere else."""
    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return lambda words: None
    return lambda words: print(f"lint: {words}", file=sys.stderr)
