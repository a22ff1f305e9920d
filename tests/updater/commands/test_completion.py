"""What may be typed is offered: each command, option and choice of the parser, agents' names, our own control script.

Real shells ask as they do at a Tab.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.updater.conftest import CODE, Folder
from updater.commands.completion import SCRIPTS, words
from updater.commands.parser import build
from updater.settings.values import LEVELS

PARSER = build()
CONTROL = str(CODE / "control")


def inner() -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in PARSER._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def offered(*typed: str) -> set[str] | None:
    found = words(["updater", *typed])
    return None if found is None else set(found)


def test_commands_are_offered_with_their_help() -> None:
    found = words(["updater", "-c", "x.json", ""])
    assert found is not None
    assert set(found) == set(inner())
    assert found["plan"] == "print the pending actions, each agent with its reason; change nothing"
    assert offered("pl") == {"plan"}
    assert offered("-") == {name for action in PARSER._actions for name in action.option_strings}
    assert offered("--log-level", "") == set(LEVELS)
    assert offered("--log-level", "wa") == {"warning"}


@pytest.mark.parametrize("name", inner())
def test_each_commands_options_and_choices_are_offered(name: str) -> None:
    actions = [action for action in inner()[name]._actions if action.help != argparse.SUPPRESS]
    assert offered(name, "-") == {option for action in actions for option in action.option_strings}
    for action in actions:
        choices = {str(choice) for choice in action.choices or ()}
        if choices and not action.option_strings:
            assert offered(name, "") == choices
        for option in action.option_strings:
            if action.nargs != 0:
                takes_file = action.metavar in ("FILE", "FILE|URL", "DIR")
                assert offered(name, option, "") == (None if takes_file else choices), option


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("help", "ho"), {"hold"}),
        (("plan", "--output", "=", "js"), {"json"}),
        (("plan", "--output", "="), {"text", "json"}),
        (("plan", "--desired", "x.json", "--col"), {"--color"}),
        (("lint", ""), None),
        (("publish", ""), None),
        (("plan", "--no-such", "--offl"), {"--offline"}),
        (("no-such-command", ""), None),
        (("daemon", "--n"), {"--now"}),
        (("daemon", ""), {"-h", "--help", "--now", "--check"}),
    ],
)
def test_what_comes_next(typed: tuple[str, ...], expected: set[str] | None) -> None:
    assert offered(*typed) == expected


def test_nothing_typed_is_no_error() -> None:
    assert words([]) == words(["updater"]) == words(["updater", ""])


# Agents


@pytest.fixture
def known(folder: Folder) -> Folder:
    for name in ("alpha", "beta-agent"):
        folder.meta.publish(name, "1.0.0", b"x")
    folder.meta.desire(*(folder.meta.agent(name, "1.0.0", "stop") for name in ("alpha", "beta-agent")))
    folder.run("apply", "--once")
    return folder


NAMES = {"alpha", "beta-agent"}


@pytest.mark.parametrize(
    "command", ["plan", "apply", "status", "history", "why", "logs", "hold", "release", "rollback"]
)
def test_agents_are_known_by_name_without_the_server(known: Folder, command: str) -> None:
    asked = len(known.meta.requests)
    config = str(known.path / "cfg.json")
    assert offered("-c", config, command, "") == NAMES
    assert offered("--config", config, command, "be") == {"beta-agent"}
    assert offered("-c", config, command, "--no-such", "alpha", "") == NAMES
    assert len(known.meta.requests) == asked


def test_the_config_in_use_decides_whose_agents(known: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("why", "") == set()
    monkeypatch.chdir(known.path)
    assert offered("why", "") == NAMES
    monkeypatch.setenv("HOME", str(known.path))
    monkeypatch.chdir("/")
    assert offered("-c", "~/cfg.json", "why", "") == NAMES
    monkeypatch.setenv("CONFIG", str(known.path / "cfg.json"))
    assert set(words([CONTROL, "why", ""]) or ()) == NAMES


def test_a_name_that_is_made_up_is_none_of_an_agent(known: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(known.path)
    assert offered("publish", "--name", "") == set()
    assert offered("publish", "") is None


def test_a_memory_of_another_user_is_not_read(known: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(known.path)
    monkeypatch.setattr(os, "geteuid", lambda: known.var.stat().st_uid + 1)
    assert offered("why", "") == set()


# ./control


def test_our_control_offers_its_verbs_and_those_of_the_updater(tmp_path: Path) -> None:
    found = words([CONTROL, ""])
    assert found is not None
    assert set(inner()) < set(found)
    assert {"setup", "start", "stop", "restart", "pid", "reload", "tail", "agents", "pack", "test"} < set(found)
    assert found["status"] == "print `started` or `stoped`", "what ./control itself does goes before"
    assert set(words([CONTROL, "agents", "--det"]) or ()) == {"--detailed-exitcode"}
    assert words([CONTROL, "tail", ""]) is None
    (tmp_path / "control").symlink_to(CONTROL)
    assert words([str(tmp_path / "control"), ""]) == found


def test_an_agents_control_is_neither_called_nor_taken_for_ours(tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    control.chmod(0o755)
    assert words([str(control), "st"]) is None
    assert words([str(tmp_path / "none/control"), "st"]) is None
    assert not (tmp_path / "called").exists()


# Shells

QUESTIONS = {
    "updater pl": {"plan"},
    "updater --log-level tr": {"trace"},
    "updater -c cfg.json why ": NAMES,
    "updater plan --output ": {"text", "json"},
    f"{CONTROL} rel": {"reload", "release"},
    "updater plan --desired cfg.js": {"cfg.json"},
    "updater apply --timeout ": set(),
}


def ask_in(folder: Folder, command: list[str], *, ask: dict[str, str]) -> dict[str, set[str]]:
    """Run a shell with the completion script and the questions, and take the answers apart."""
    shell = command[0]
    env = {**os.environ, "PYTHONPATH": str(CODE)}
    made = subprocess.run(
        [sys.executable, "-m", "updater", "completion", shell], env=env, cwd=folder.path, capture_output=True, text=True
    )
    assert (made.returncode, made.stderr) == (0, "")
    script = "\n".join([made.stdout, *(f"{question}; printf '\\n==\\n'" for question in ask.values())])
    (folder.path / "ask").write_text(script)
    ran = subprocess.run(
        [*command, "ask"], env=env, cwd=folder.path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    answers = ran.stdout.split("\n==\n")[:-1]
    return {
        line: {word.split("\t")[0] for word in answer.split("\n") if word}
        for line, answer in zip(ask, answers, strict=True)
    }


def test_bash_offers_it(known: Folder) -> None:
    ask = {"": "compopt() { COMP_FILES=1; }"}  # it works at a Tab alone
    for line in QUESTIONS:
        typed = line.split(" ")
        ask[line] = (
            f"COMP_FILES=; COMP_WORDS=({' '.join(map(shlex.quote, typed))}); COMP_CWORD={len(typed) - 1}; _updater; "
            'if [ "$COMP_FILES" ]; then compgen -f -- "${COMP_WORDS[COMP_CWORD]}"; '
            "else printf '%s\\n' \"${COMPREPLY[@]}\"; fi"
        )
    answers = ask_in(known, ["bash", "--norc"], ask=ask)
    assert {line: answers[line] for line in QUESTIONS} == QUESTIONS


@pytest.mark.system
@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh; `./control test --system` installs it")
def test_zsh_offers_it(known: Folder) -> None:
    ask = {"": 'compadd() { shift; print -rl -- "$@" }; _files() { print -rl -- ${words[CURRENT]}*(N) }'}
    for line in QUESTIONS:
        typed = line.split(" ")
        ask[line] = f"words=({' '.join(map(shlex.quote, typed))}); CURRENT={len(typed)}; _updater"
    command = ["zsh", "-f", "-c", "compinit() { compdef() { : }; }; autoload() { : }; source ./ask"]
    answers = ask_in(known, command, ask=ask)
    assert {line: answers[line] for line in QUESTIONS} == QUESTIONS


@pytest.mark.system
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish; `./control test --system` installs it")
def test_fish_offers_it(known: Folder) -> None:
    ask = {line: f"complete -C {shlex.quote(line)}" for line in QUESTIONS}
    assert ask_in(known, ["fish", "--no-config"], ask=ask) == QUESTIONS


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_names_the_updater_that_made_it(folder: Folder, shell: str) -> None:
    made = folder.run("completion", shell)
    assert made.code == 0
    assert "completion words" in made.out
    assert sys.executable in made.out
    assert "UPDATER" not in made.out
