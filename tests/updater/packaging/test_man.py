"""The manual page: every command and option that can be typed, and nothing that troff complains about."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from updater.commands.parser import build
from updater.packaging.man import man_page


def test_every_command_and_option_is_in_it() -> None:
    page = man_page().replace(r"\-", "-")
    [commands] = [action.choices for action in build()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in commands.items():
        begin = page.index(f"\n.SS {name}\n")
        part = page[begin : page.find("\n.S", begin + 1)]
        for action in command._actions:
            if action.help != argparse.SUPPRESS:
                assert all(option in part for option in action.option_strings), (name, action.option_strings)
    assert "stand-by-from" not in page, "what the help hides"


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_it_is_laid_out_without_a_complaint() -> None:
    ran = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=man_page(), capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" in ran.stdout or "NAME" in ran.stdout
