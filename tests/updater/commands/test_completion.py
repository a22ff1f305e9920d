"""Real shells are asked what they offer, and it is what the parser takes: each command, option and choice."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from updater.cli import run
from updater.commands.completion import SHELLS, script
from updater.commands.context import OK
from updater.commands.parser import build

PARSER = build()


def inner() -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in PARSER._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def asked() -> dict[str, set[str]]:
    """Words before the cursor -> what must be offered there: taken from the parser, and not by way of completion.py."""
    found = {"updater ": {*inner(), *(name for action in PARSER._actions for name in action.option_strings)}}
    for name, parser in inner().items():
        plain = {str(word) for action in parser._actions if not action.option_strings for word in action.choices or ()}
        options = {s for action in parser._actions for s in action.option_strings}
        found[f"updater -c x.json {name} "] = plain | options
        for action in parser._actions:
            for option in action.option_strings:
                if action.choices:
                    found[f"updater {name} {option} "] = {str(choice) for choice in action.choices}
                elif action.nargs != 0 and action.metavar not in ("FILE", "FILE|URL", "DIR"):
                    found[f"updater {name} {option} "] = set()
    return found


def lines_of(command: list[str], tmp_path: Path) -> list[list[str]]:
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [[word.split("\t")[0] for word in part.split("\n") if word] for part in ran.stdout.split("\n==\n")[:-1]]


def ask_function(line: str) -> str:
    words = [*line.split(), ""]
    return (
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; "
        "_updater; printf '%s\\n' \"${COMPREPLY[@]}\"; printf '\\n==\\n'\n"
    )


def test_bash_offers_what_the_parser_takes(tmp_path: Path) -> None:
    text = script("bash", PARSER) + "\n" + "".join(map(ask_function, asked()))
    (tmp_path / "ask").write_text(text)
    offered = lines_of(["bash", "--norc", "ask"], tmp_path)
    assert {line: set(words) for line, words in zip(asked(), offered, strict=True)} == asked()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh; `./control test --system` installs it")
def test_zsh_offers_what_the_parser_takes(tmp_path: Path) -> None:
    # The options that bashcompinit itself sets around a completion function.
    questions = "emulate -R ksh\nsetopt kshglob braceexpand\n" + "".join(map(ask_function, asked()))
    (tmp_path / "ask").write_text(
        script("zsh", PARSER).replace("compinit && compinit", "compinit && compinit -u -D", 1)
    )
    (tmp_path / "questions").write_text(questions)
    offered = lines_of(["zsh", "-f", "-c", "source ./ask; source ./questions"], tmp_path)
    for (line, words), found in zip(asked().items(), offered, strict=True):
        assert words <= set(found), line


@pytest.mark.system
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish; `./control test --system` installs it")
def test_fish_offers_what_the_parser_takes(tmp_path: Path) -> None:
    (tmp_path / "updater.fish").write_text(script("fish", PARSER))
    lines = [line if words and not min(words).startswith("-") else f"{line}-" for line, words in asked().items()]
    lines[0] = "updater "
    questions = "".join(f"complete -C {shlex.quote(line)}; printf '\\n==\\n'\n" for line in lines)
    offered = lines_of(["fish", "--no-config", "-c", f"source updater.fish\n{questions}"], tmp_path)
    for line, words, found in zip(lines, asked().values(), offered, strict=True):
        if line == "updater ":
            words = {word for word in words if not word.startswith("-")}
        assert words <= set(found), line


def test_bash_offers_files_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text("")
    (tmp_path / "ask").write_text(script("bash", PARSER) + "\n" + ask_function("updater plan --desired"))
    assert "new.json" in lines_of(["bash", "--norc", "ask"], tmp_path)[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == OK
    assert capsys.readouterr().out == script(shell, PARSER) + "\n"
