"""`completion`: a script for each shell, which asks for the words at each Tab; and these words, from the parser.

The words typed so far come on standard input, one a line: on a command line an agent's name could be taken for its
process.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

from attrs import Factory, define

from updater.commands.argument_parser import helps_of
from updater.commands.context import NOT_AS_DESIRED, OK
from updater.commands.parser import build

# `UPDATER` is the command that answers. The first word typed is the program's name, the last one is not complete.
# Exit code 3: what may stand there is a file.
_BASH = r"""# bash completion of updater and ./control; made by `updater completion bash`
_updater() {
    local IFS=$'\n' found
    found=$(printf '%s\n' "${COMP_WORDS[@]:0:COMP_CWORD+1}" | UPDATER completion words 2>/dev/null) ||
        compopt -o default
    COMPREPLY=($found)
    COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
}
complete -F _updater updater control"""
_ZSH = r"""# zsh completion of updater and ./control; made by `updater completion zsh`
autoload -U +X compinit && compinit
_updater() {
    local -a found
    found=("${(@f)$(print -rl -- "${(@)words[1,CURRENT]}" | UPDATER completion words 2>/dev/null)}")
    if (( ${pipestatus[-1]} == 3 )); then _files; else compadd -- "${(@)found%%$'\t'*}"; fi
}
compdef _updater updater control"""
_FISH = r"""# fish completion of updater and ./control; made by `updater completion fish`
function __updater_words
    set -l typed (commandline -opc) (commandline -ct)
    printf '%s\n' $typed | UPDATER completion words 2>/dev/null
    or __fish_complete_path (commandline -ct)
end
complete -c updater -f -a '(__updater_words)'
complete -c control -f -a '(__updater_words)'"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_FILES = re.compile(r"FILE|DIR|TARBALL")
# How our own control script is known, and where it says what it does: an agent's is called the same.
_OURS = "The updater's own control script"
_VERB = re.compile(r"^  ([a-z]+) {2,}(?:\[.*?\]: )?(.*)$", re.MULTILINE)
_LONGEST = 2**16  # of a command line that is looked at
_BEGINNING = 8192  # bytes of a control script that have its help
_VERBS_OF_UPDATER = {"plan": "plan", "agents": "status", "demo": "demo"}


def completion(options: argparse.Namespace) -> int:
    if options.shell != "words":
        print(SCRIPTS[options.shell].replace("UPDATER", " ".join(map(shlex.quote, _own_command()))))
        return OK
    found = words(sys.stdin.read(_LONGEST).split("\n")[:-1])
    if found is None:
        return NOT_AS_DESIRED
    for word, help in found.items():
        print(f"{word}\t{help}" if help else word)
    return OK


def _own_command() -> list[str]:
    """What runs this updater, from any folder."""
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    return [sys.executable, *(os.path.abspath(word) if "/" in word else word for word in ours)]


def words(typed: list[str]) -> dict[str, str] | None:
    """What may stand in place of the last of these words, each with its help; None: a file."""
    program, *before, current = [*typed, "", ""][: max(2, len(typed))]
    current = "" if current == "=" else current  # bash takes `--output=json` apart
    line = _line_of(program)
    for word in before:
        if word != "=":
            line.take(word)
    found = line.next(current)
    return None if found is None else {word: help for word, help in found.items() if word.startswith(current)}


def _line_of(program: str) -> _Line:
    """A command line that begins with this word."""
    if os.path.basename(program) != "control":
        return _Line(config=Path("cfg.json"))
    script = Path(os.path.realpath(os.path.expanduser(program)))
    config, verbs = Path(os.environ.get("CONFIG") or script.parent / "cfg.json"), _verbs_of(script)
    return _Line(config=config, verbs=verbs) if verbs else _Line(config=config, parser=None)


def _verbs_of(control: Path) -> dict[str, str]:
    """The verbs of our own control script, from its help; none where it is another's."""
    try:
        with control.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_BEGINNING)
    except OSError:
        return {}
    return dict(_VERB.findall(text.partition("\n}\n")[0])) if _OURS in text else {}


@define
class _Line:
    """A command line as far as it was typed. `verbs`: those of our control script, where that was typed. `parser`: of
    what comes next; None: nothing is known of it. `option`: whose value comes next."""

    config: Path
    verbs: dict[str, str] = Factory(dict)
    parser: argparse.ArgumentParser | None = Factory(build)
    command: str = ""
    option: argparse.Action | None = None

    def take(self, word: str) -> None:
        """Go on by one word."""
        if self.parser is None:
            return
        if self.option is not None:
            if self.option.dest == "config":
                self.config = Path(os.path.expanduser(word))
            self.option = None
        elif word.startswith("-"):
            option = self.parser._option_string_actions.get(word)
            self.option = option if option is not None and option.nargs != 0 else None
        elif not self.command:
            self.command = word
            known = word if word not in self.verbs else _VERBS_OF_UPDATER.get(word, "")
            self.parser = _commands(self.parser).get(known)

    def next(self, current: str) -> dict[str, str] | None:
        """What may come next; None: a file."""
        if self.parser is None:
            return None
        if self.option is not None:
            return self._values(self.option)
        if not current.startswith("-"):
            if not self.command:
                return {**helps_of(self.parser), **self.verbs}
            if plain := [action for action in self.parser._actions if not action.option_strings]:
                return self._values(plain[0])
        return _options(self.parser)

    def _values(self, action: argparse.Action) -> dict[str, str] | None:
        """What an option or a plain argument takes."""
        if isinstance(action.metavar, str) and _FILES.search(action.metavar):
            return None
        if action.dest == "topic":
            return helps_of(build())
        if action.metavar == "NAME" and not action.option_strings:
            return dict.fromkeys(_agents(self.config), "")
        return {str(choice): "" for choice in action.choices or ()}


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    public = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {name: one.help or "" for one in public for name in one.option_strings}


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: inner
        for one in parser._actions
        if isinstance(one, argparse._SubParsersAction)
        for name, inner in one.choices.items()
    }


def _agents(config: Path) -> list[str]:
    """The agents that this host knew at last. Nothing is asked, and nothing read that another user could have put
    there."""
    from reconcile.storage.store import read_state

    var = config.absolute().parent / "var"
    try:
        if var.stat().st_uid != os.geteuid():
            return []
    except OSError:
        return []
    state = read_state(var / "state.db")
    return sorted({*(entry.name for entry in state.last_entries), *(record.name for record in state.records)})
