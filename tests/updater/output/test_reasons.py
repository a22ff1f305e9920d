"""The table of reasons as `why` uses it. That it is whole, and the page made from it, tests/test_docs.py holds."""

from __future__ import annotations

import re

import pytest

from updater.output.reasons import REASONS, remedies


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
