"""`completion`: completion scripts for shells, made from the parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from probes.values import frozen
from updater.commands.context import (
    OK,
)

SHELLS = ("bash", "zsh", "fish")
_FILES = re.compile(r"FILE|DIR|TARBALL")


@frozen(kw_only=True)
class Option:
    """One option. `takes`: whether it wants a value; `choices`: which, where they are few; `files`: a file's name."""

    names: tuple[str, ...]
    help: str = ""
    takes: bool = False
    choices: tuple[str, ...] = ()
    files: bool = False


@frozen(kw_only=True)
class Subcommand:
    """One command, or with an empty name what stands before it. `files`, `choices`: of its plain arguments."""

    name: str
    help: str = ""
    options: tuple[Option, ...] = ()
    files: bool = False
    choices: tuple[str, ...] = ()

    @property
    def option_names(self) -> tuple[str, ...]:
        return tuple(name for option in self.options for name in option.names)


def commands_of(parser: argparse.ArgumentParser) -> tuple[Subcommand, ...]:
    """What a parser takes: its own options first, then each command's."""
    found = [_command("", "", parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            found += [_command(name, helps.get(name, ""), inner) for name, inner in action.choices.items()]
    return tuple(found)


def _command(name: str, help: str, parser: argparse.ArgumentParser) -> Subcommand:
    plain = [a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]
    return Subcommand(
        name=name,
        help=help,
        options=tuple(_option(action) for action in parser._actions if action.option_strings),
        files=any(_is_file(action) for action in plain),
        choices=tuple(str(choice) for action in plain for choice in action.choices or ()),
    )


def _option(action: argparse.Action) -> Option:
    return Option(
        names=tuple(action.option_strings),
        help=action.help or "",
        takes=action.nargs != 0,
        choices=tuple(map(str, action.choices or ())),
        files=_is_file(action),
    )


def _is_file(action: argparse.Action) -> bool:
    return isinstance(action.metavar, str) and _FILES.search(action.metavar) is not None


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script of a shell."""
    commands = commands_of(parser)
    return "\n".join({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands))


def _bash(commands: tuple[Subcommand, ...]) -> Iterator[str]:
    yield "# bash completion of updater; made by `updater completion bash`"
    yield from _function(commands)
    yield "complete -o default -F _updater updater"


def _zsh(commands: tuple[Subcommand, ...]) -> Iterator[str]:
    # zsh runs bash's completion functions by itself, and has compgen for them.
    yield "# zsh completion of updater; made by `updater completion zsh`"
    yield "autoload -U +X compinit && compinit"
    yield "autoload -U +X bashcompinit && bashcompinit"
    yield from _function(commands)
    yield "complete -o default -F _updater updater"


def _function(commands: tuple[Subcommand, ...]) -> Iterator[str]:
    top = commands[0]
    values = "|".join(name for option in top.options if option.takes for name in option.names)
    yield "_updater() {"
    yield '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="" at=1'
    yield "    while [ $at -lt $COMP_CWORD ]; do"
    yield '        case "${COMP_WORDS[at]}" in'
    yield f"        {values}) at=$((at + 1)) ;;"
    yield "        -*) ;;"
    yield '        *) command="${COMP_WORDS[at]}"; break ;;'
    yield "        esac"
    yield "        at=$((at + 1))"
    yield "    done"
    yield "    COMPREPLY=()"
    yield '    case "$command:$prev" in'
    for command in commands:
        for option in command.options:
            if option.takes:
                labels = "|".join(f"{command.name}:{name}" for name in option.names)
                yield f"    {labels}) {_values(option)} ;;"
    yield "    esac"
    yield '    case "$command" in'
    for command in commands:
        plain = [c.name for c in commands[1:]] if not command.name else command.choices
        offered = " ".join((*plain, *command.option_names))
        yield f'    "{command.name}") COMPREPLY=($(compgen -W "{offered}" -- "$cur")) ;;'
    yield "    esac"
    yield "}"


def _values(option: Option) -> str:
    if option.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$cur")); return'
    return 'COMPREPLY=($(compgen -f -- "$cur")); return' if option.files else "return"


def _fish(commands: tuple[Subcommand, ...]) -> Iterator[str]:
    yield "# fish completion of updater; made by `updater completion fish`"
    names = " ".join(command.name for command in commands[1:])
    none_yet = f"not __fish_seen_subcommand_from {names}"
    for command in commands:
        where = f"__fish_seen_subcommand_from {command.name}" if command.name else none_yet
        if command.name:
            yield f"complete -c updater -n {_quoted(none_yet)} -f -a {command.name} -d {_quoted(command.help)}"
        if command.choices:
            yield f"complete -c updater -n {_quoted(where)} -f -a {_quoted(' '.join(command.choices))}"
        for option in command.options:
            words = [f"-{'l' if name.startswith('--') else 's'} {name.lstrip('-')}" for name in option.names]
            if option.choices:
                words.append(f"-x -a {_quoted(' '.join(option.choices))}")
            elif option.takes:
                words.append("-r" if option.files else "-x")
            yield f"complete -c updater -n {_quoted(where)} {' '.join(words)} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def completion(options: argparse.Namespace) -> int:
    from updater.commands.parser import build

    print(script(options.shell, build()))
    return OK
