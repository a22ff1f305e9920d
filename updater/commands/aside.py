"""Commands that need no config and no host: `demo`, `lint`, `publish`, `completion`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from updater.commands.ending import BROKE, BUSY, NOT_AS_DESIRED, OK, TOOL_MISSING, Command, UsageWrong, say
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
            options.target,
            run=not options.static,
            given=given,
            limits=limits,
            keep=options.keep,
            say=_told_on_terminal(options),
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


def publish(options: argparse.Namespace) -> int:
    from probes.errors import ToolMissing
    from probes.host.facts import arch
    from updater.lint import tell
    from updater.publish.desired_file import EntryRefused
    from updater.publish.publish import Busy, Order, PublishRefused, faults, publish
    from updater.publish.signing import SigningFailed

    for option in ("url", "cmd", "percent"):
        if options.desired is None and getattr(options, option) is not None:
            raise UsageWrong(f"--{option} is of the entry in a desired state: give --desired FILE, too")
    order = Order(
        tarballs=tuple(options.tarballs),
        to=options.to,
        arch=options.arch or arch(),
        name=options.name,
        version=options.version,
        desired=options.desired,
        url=options.url,
        cmd=options.cmd,
        percent=options.percent,
        key=options.key,
    )
    try:
        faulty = [report for _, report in faults(order)]
        for report in faulty:
            print(tell.text(report, palette(options), quiet=True))
        if faulty:
            return say(NOT_AS_DESIRED, "nothing was published")
        publish(order, print)
    except (PublishRefused, EntryRefused) as err:
        raise UsageWrong(str(err)) from None
    except ToolMissing as err:
        return say(TOOL_MISSING, err.message)
    except Busy as err:
        return say(BUSY, str(err))
    except SigningFailed as err:
        return say(BROKE, f"{err}; nothing was published")
    except OSError as err:
        return say(BROKE, f"{err.filename or options.to}: {err.strerror or err}")
    return OK


def _told_on_terminal(options: argparse.Namespace) -> Callable[[str], None]:
    """Where progress goes: a terminal's standard error, and nowhere else."""
    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return lambda words: None
    return lambda words: print(f"lint: {words}", file=sys.stderr)


COMMANDS: Mapping[str, Command] = {"demo": demo, "lint": lint, "publish": publish, "completion": completion}
