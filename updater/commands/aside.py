"""Commands that need no config and no host: `demo`, `lint`, `completion`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from updater.commands.ending import NOT_AS_DESIRED, OK, TOOL_MISSING, Command, UsageWrong, say
from updater.commands.shown import palette, screen


def demo(options: argparse.Namespace) -> int:
    from updater.demo.story import tell

    return tell(color=options.color)


def completion(options: argparse.Namespace) -> int:
    from updater.commands.parser import build
    from updater.completion import script

    print(script(options.shell, build()))
    return OK


def lint(options: argparse.Namespace) -> int:
    from updater.lint import running, tell
    from updater.lint.lint import lint
    from updater.lint.scratch import LintUnusable
    from updater.lint.trials import Limits

    if not options.static and not running.can_follow():
        return say(TOOL_MISSING, "an agent's processes can be followed on Linux alone; here there is `lint --static`")
    limits = (
        Limits()
        if options.timeout is None
        else Limits(status=options.timeout, start=options.timeout, stop=options.timeout)
    )
    try:
        given = {path.name: path.read_bytes() for path in options.given}
    except OSError as err:
        raise UsageWrong(f"--with {err.filename}: {err.strerror}") from None
    try:
        report = lint(
            options.target, run=not options.static, given=given, limits=limits, say=_told_on_terminal(options)
        )
    except LintUnusable as err:
        raise UsageWrong(str(err)) from None
    told = {"json": tell.to_json, "junit": tell.to_junit}.get(options.output)
    eyes = screen(options)
    if eyes is not None:
        tell.to_terminal(report, eyes.out, quiet=options.quiet)
    else:
        print(tell.text(report, palette(options), quiet=options.quiet) if told is None else told(report))
    return NOT_AS_DESIRED if report.errors else OK


def _told_on_terminal(options: argparse.Namespace) -> Callable[[str], None]:
    """Where progress goes: a terminal's standard error, and nowhere else."""
    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return lambda words: None
    return lambda words: print(f"lint: {words}", file=sys.stderr)


COMMANDS: Mapping[str, Command] = {"demo": demo, "lint": lint, "completion": completion}
