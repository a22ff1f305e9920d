"""The table of reasons as `why` uses it. That it is whole, and the page made from it, tests/test_docs.py holds."""

from __future__ import annotations

import re

import pytest

from tests.updater.conftest import Folder
from updater.output.reasons import REASONS, remedies

NAME = "falcon-agent"


def test_a_remedy_names_the_agent() -> None:
    [remedy] = remedies("falcon-agent", "Pinned", "root went back to 1.0.0")
    assert remedy == "`updater release falcon-agent` ends the pin."


def test_a_name_is_taken_as_it_is() -> None:
    assert remedies(r"a\1b", "Pinned", "")[0].startswith(r"`updater release a\1b`")


def test_what_the_message_says_comes_before_the_remedy() -> None:
    usual = remedies("a", "HeldByOperator", "root holds it")
    assert len(usual) == 1
    damaged = remedies("a", "HeldByOperator", "var/holds/a.json can't be read as a hold (...)")
    assert damaged[1:] == usual
    assert "correct or remove it" in damaged[0]


@pytest.mark.parametrize("reason", ["AsDesired", "Confirming", "NoSuchReason"])
def test_where_nothing_is_to_be_done_there_is_no_remedy(reason: str) -> None:
    assert remedies("a", reason, "") == []


@pytest.mark.parametrize("reason", REASONS)
def test_what_a_terminal_shows_has_no_links(reason: str) -> None:
    one = REASONS[reason]
    shown = [one.meaning, one.by_itself, one.remedy, *one.cases.values()]
    assert not [text for text in shown if re.search(r"\]\(|\*\*", text)]


# What `why` prints of them


def to_do(folder: Folder) -> list[tuple[str, str]]:
    """The rows under `what to do`: reason and remedy."""
    section = folder.run("why", NAME).out.partition("\nwhat to do\n")[2].partition("\n\n")[0]
    return re.findall(r"^  (\w+) +(\S.*)$", section, flags=re.MULTILINE)


def test_an_agent_as_desired_needs_no_remedy(folder: Folder) -> None:
    folder.want("1.0.0")
    assert folder.run("apply", "--once").code == 0
    assert to_do(folder) == []


def test_a_held_agent_an_entry_that_is_refused_and_a_server_that_is_away(folder: Folder) -> None:
    folder.want("1.0.0")
    folder.run("apply", "--once")
    folder.run("hold", NAME, "--reason", "by hand")
    [(reason, remedy)] = to_do(folder)
    assert (reason, remedy.partition(" lifts")[0]) == ("HeldByOperator", f"Ask that operator. `updater release {NAME}`")
    folder.run("release", NAME)
    folder.configure(allow_work_dirs=["/srv/elsewhere"])
    folder.run("apply", "--once")
    assert [reason for reason, _ in to_do(folder)] == ["PolicyRefused"]
    folder.configure(server="127.0.0.1:9")
    folder.want("2.0.0")
    folder.run("apply", "--once")
    assert "ServerUnreachable" in [reason for reason, _ in to_do(folder)]


def test_an_entry_that_is_refused_from_the_first(folder: Folder) -> None:
    folder.configure(allow_work_dirs=["/srv/elsewhere"])
    folder.want("1.0.0")
    folder.run("apply", "--once")
    [(reason, remedy)] = to_do(folder)
    assert (reason, remedy.partition(",")[0]) == ("PolicyRefused", "Correct the entry at ops-meta")


def test_a_failure_that_is_over_is_nothing_to_do(folder: Folder) -> None:
    folder.configure(control_timeout={"start": 3})
    folder.want("1.0.0", broken_start=True)
    folder.run("apply", "--once")
    assert "StartFailed" in [reason for reason, _ in to_do(folder)]
    folder.want("1.0.1")
    folder.run("apply", "--once")
    assert to_do(folder) == []
