"""An argument parser that says what may stand where, and the types of what may be typed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from updater.commands.context import UsageWrong
from updater.output.wrapping import wrapped
from updater.settings.values import parse_time

_WIDEST = 100  # columns of a help text: longer lines are hard to read


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the terminal's width by itself: argparse makes a formatter for each option that is added, and would
    load shutil, with all its compression modules, to ask."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() else os.get_terminal_size().columns
        except OSError:  # no terminal
            width = 80
        super().__init__(prog, width=min(width, _WIDEST) - 2, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines of descriptions and examples; those that are too wide go on below, further in."""
        lines = []
        for line in text.splitlines():
            beside = re.fullmatch(r"(  \S.*?) {2,}(\S.*)", line)  # an example, and what it is for
            narrow = len(line) > width and beside is not None
            for part in (beside[1], f"      {beside[2]}") if narrow and beside is not None else (line,):
                inside = len(part) - len(part.lstrip())
                lines += wrapped(part, width, hang=" " * (8 if inside == 2 else inside))
        return "\n".join(indent + line for line in lines) + "\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """An option's names, and what it takes once (as Python 3.13 does)."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        taken = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {taken}"


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        # No abbreviations: `--out`, which a later version may bring, must not mean `--output` today.
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        raise UsageWrong(f"{message}{see} `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """Say what may stand there, and of commands what was probably meant."""
        known = tuple(action.choices or ())
        if not known or value in known:
            return
        if isinstance(action, argparse._SubParsersAction):
            self.error(no_command(value, known))
        raise argparse.ArgumentError(
            action, f"expected {', '.join(map(str, known[:-1]))} or {known[-1]}, found {value!r}"
        )


def nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def no_command(word: str, known: Collection[str]) -> str:
    """There is no such command: what was probably meant, or all there are."""
    hint = nearest(word, known) or f"; known: {' '.join(known)}"
    return f"there is no command {word}{hint}"


def commands_of(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The commands that a parser knows."""
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return commands


def helps_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Each command with its line of help."""
    return {choice.dest: choice.help or "" for choice in commands_of(parser)._choices_actions}


def level(text: str) -> str:
    """Read a log level as the config does: in any case, and `warn` for `warning`."""
    return "warning" if text.lower() == "warn" else text.lower()


def seconds(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from None


def count(text: str) -> int:
    if not text.isdecimal() or not 1 <= len(text) <= 9 or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more, found {text!r}")
    return int(text)


def percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 100, found {text!r}")
    return int(percent) if percent.is_integer() else percent
