"""What commands share: exit codes and the one line of an error, options -> config and one inspection of the host, and
where a command's words go.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from probes.values import frozen
from updater.output.terminal import NARROWEST, can_be_laid_out, fitted, in_colour
from updater.settings.config import Config, load
from updater.settings.preflight import refuse_loose

if TYPE_CHECKING:
    from reconcile.assess.pass_context import DesiredFrom, HostContext
    from reconcile.decide.hold import Requests
    from reconcile.storage.store import StoredState
    from updater.output.progress import Progress
    from updater.output.report import Report
    from updater.output.rich_view import Screen
    from updater.output.rows import Block
    from updater.output.text import Palette

# docs/interface.md, section 3
OK, BROKE, CHANGED, NOT_AS_DESIRED, ROLLED_BACK = 0, 1, 2, 3, 4
USAGE, NO_DESIRED_STATE, TOOL_MISSING, BUSY, CONFIG = 64, 69, 72, 75, 78


_FOR_PEOPLE = ("text", "wide")

Command = Callable[[argparse.Namespace], int]
"""What a command does; it returns its exit code."""


class UsageWrong(Exception):
    """What was typed can't be meant. The message is for people."""


def say(code: int, line: str) -> int:
    """Say it on standard error; the exit code is returned, so that a command can end with it."""
    print(fitted(f"updater: {line}", sys.stderr), file=sys.stderr)
    return code


def report(lines: Iterable[str]) -> None:
    """Print what came of a command, in lines that have room on the terminal."""
    for line in lines:
        print(fitted(line, sys.stdout))


def put(text: str) -> None:
    """Print, and no empty line where there is nothing to print."""
    print(text, end="\n" if text else "")


def palette(options: argparse.Namespace) -> Palette:
    """Colours for plain lines; none for a program."""
    from updater.output.text import Palette

    return Palette(options.output in _FOR_PEOPLE and in_colour(options.color, sys.stdout))


def screen(options: argparse.Namespace) -> Screen | None:
    """The layout for eyes, on a terminal that can show it; None: the plain lines."""
    if options.output not in _FOR_PEOPLE or not can_be_laid_out(sys.stdout):
        return None
    from updater.output.rich_view import Screen, console

    out = console(sys.stdout, colour=in_colour(options.color, sys.stdout))
    return Screen(out) if out.width >= NARROWEST else None


def show(options: argparse.Namespace, blocks: Iterable[Block], *, plain: Iterable[Block] | None = None) -> None:
    """Print rows: laid out on a terminal, else as plain lines, which are `plain` where they are others; nothing where
    there are none."""
    from updater.output.text import to_text

    eyes = screen(options)
    if eyes is not None:
        eyes.show(blocks)
    else:
        put(to_text(blocks if plain is None else plain, palette(options)))


def whoami() -> str:
    """Who typed it, for the record: through sudo, the person before."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def progress(options: argparse.Namespace) -> Progress:
    """What reports progress on standard error: a display on a terminal, lines on a simple one, else nothing."""
    from updater.output.progress import Lines, Progress

    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return Progress()
    if not can_be_laid_out(sys.stderr):
        return Lines(sys.stderr)
    from updater.output.live_view import Display

    display = Display(sys.stderr, colour=in_colour(options.color, sys.stderr))
    return display if display.width >= NARROWEST else Lines(sys.stderr)


def configured(options: argparse.Namespace, *, strict: bool = False) -> Config:
    """The config. `strict`: what is to run on and on is not begun without its password. Raise ConfigWrong, and
    FolderUnusable where root may not go by it: it says what is executed, and what is sent where."""
    config = load(options.config, strict=strict)
    refuse_loose(config)
    return config if options.log_level is None else evolve(config, log_level=options.log_level)


def host_context(config: Config, options: argparse.Namespace) -> HostContext:
    """What a pass or a look is made with. Raise UsageWrong on a desired state that can't be meant."""
    from updater.settings import composition

    desired = options.desired
    if desired is not None and options.offline:
        raise UsageWrong("--desired and --offline exclude each other")
    if desired is None:
        return composition.host_context(config, composition.SourceOverride())
    named = desired if "://" in desired else Path(desired)
    try:
        return composition.host_context(config, composition.SourceOverride(desired=named, operator=whoami()))
    except ValueError as err:
        raise UsageWrong(f"--desired {err}") from None


def missing_tools() -> str:
    """What is missing of the tools that we rely on, for people; empty: nothing."""
    from updater.settings.preflight import missing

    return "; ".join(missing())


@frozen(kw_only=True)
class Inspection:
    """What a look found, and what it was made with."""

    document: Report
    config: Config
    host: HostContext
    state: StoredState


def inspect_host(options: argparse.Namespace, kind: str, ask: DesiredFrom, *, whole: bool = True) -> Inspection | int:
    """Look, ask and plan; or the exit code where that can't be. `whole`: see `assess`."""
    from reconcile.assess.assess_host import assess, only
    from reconcile.assess.pass_context import NoDesiredState
    from reconcile.decide.conditions import own_conditions, stored_condition
    from reconcile.storage.store import read_state
    from updater.output.report import Report, assessed

    config = configured(options)
    host = host_context(config, options)
    state = read_state(config.var / "state.db")
    missing = "; ".join(filter(None, (missing_tools(), host.lacking)))
    try:
        found = assess(host, state, ask, whole=whole)
    except NoDesiredState as err:
        return say(NO_DESIRED_STATE, err.message)
    finally:
        host.workers.end()
    known = (found.refused, found.ruled_out, found.bystanders)
    asked_for = wanted(options.names, [view.desired.name for view in found.agents], *known)
    found = only(found, asked_for)
    document = Report(
        kind=kind,
        host=host.facts.hostname,
        assessment=found,
        agents=tuple(assessed(view, found.at) for view in found.agents),
        conditions=own_conditions(
            state.conditions,
            found.at,
            server=found.server,
            stored=stored_condition(state.trouble),
            missing_tools=missing,
            others=host.other_servers,
        ),
    )
    return Inspection(document=document, config=config, host=host, state=state)


def wanted(names: list[str], *known: Iterable[object]) -> Callable[[str], bool]:
    """Which agents were asked for. Raise UsageWrong on a name that no agent has."""
    unknown = no_such(names, {str(getattr(item, "name", item)) for items in known for item in items})
    if unknown:
        raise UsageWrong(unknown)
    return (lambda name: name in names) if names else (lambda name: True)


def no_such(names: Iterable[str], known: Collection[str]) -> str:
    """Say which of these names no agent has, with the nearest one that there is; empty: each has one."""
    unknown = [name for name in names if name not in known]
    if not unknown:
        return ""
    from difflib import get_close_matches

    near = {name: get_close_matches(name, known, n=1) for name in unknown}
    words = (f"{name} (did you mean `{near[name][0]}`?)" if near[name] else name for name in unknown)
    listed = "" if any(near.values()) else f"; known: {', '.join(sorted(known)) or 'none'}"
    return f"no agent is named {', '.join(words)}{listed}"


def unknown_names(names: Iterable[str], state: StoredState, requests: Requests) -> str:
    """Say which of these names no agent has: neither managed now, nor last, nor refused, nor held before it comes.
    Empty: all are known, or the memory that would tell can't be read."""
    accepted = () if state.accepted is None else state.accepted.answer.entries
    known = {item.name for items in (accepted, state.records, state.refused) for item in items}
    known |= {name for name, _ in requests.holds}
    return "" if state.trouble else no_such(names, known)
