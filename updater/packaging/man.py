"""The manual page updater(1), made of what the command line parses; `-m updater.packaging.man` prints it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from updater.commands.argument_parser import commands_of, helps_of
from updater.commands.examples import EXIT_CODES, examples_of
from updater.commands.parser import build
from updater.version import VERSION

_FILES = {
    "cfg.json": "the config, of the folder that you are in, or -c FILE",
    "var/": "beside the config: all that the updater writes for itself; var/app.log is the log",
}


def man_page() -> str:
    """The page, as man(7) has it."""
    return "\n".join(_lines(build())) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH UPDATER 1 "" "ops-updater {VERSION}" "User Commands"'
    yield from (".SH NAME", r"updater \- keep a host's agents as ops-meta asks")
    yield from (".SH SYNOPSIS", ".B updater", "[OPTION...] COMMAND [...]")
    yield from (".SH DESCRIPTION", _text(parser.description or ""))
    yield from (".SH OPTIONS", *_options(parser), ".SH COMMANDS")
    about = helps_of(parser)
    for name, command in commands_of(parser).choices.items():
        usage = " ".join(command.format_usage().removeprefix("usage: ").split())
        yield from (f".SS {name}", f".B {_text(usage)}", ".PP", _text(about[name]))
        yield from _options(command)
        yield from (".PP", *_verbatim(examples_of(name)))
    yield from (".SH EXIT STATUS", *_verbatim(EXIT_CODES.partition("\n")[2]), ".SH FILES")
    for path, what in _FILES.items():
        yield from (".TP", f".I {path}", _text(what))
    yield from (".SH SEE ALSO", _text("The folder docs of the program; its README.md says which page is for whom."))


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or isinstance(action, argparse._SubParsersAction):
            continue
        yield from (".TP", f".B {_text(formatter._format_action_invocation(action))}")
        yield _text(formatter._expand_help(action))


def _verbatim(text: str) -> Iterator[str]:
    yield from (".nf", *(_text(line) for line in text.splitlines()), ".fi")


def _text(words: str) -> str:
    """Words that troff takes as they are."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(man_page(), end="")
