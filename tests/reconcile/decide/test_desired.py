"""What is desired, as values: which refusals are news."""

from __future__ import annotations

import pytest

from reconcile.decide.desired import Refusal, refused_since


def refused(*entries: str) -> tuple[Refusal, ...]:
    """`NAME RULE` each."""
    return tuple(
        Refusal(name=name, reason="InvalidSpec", rule=rule, message="no")
        for name, rule in (entry.split() for entry in entries)
    )


@pytest.mark.parametrize(
    ("before", "now", "anew", "no_more"),
    [
        ((), ("a cmd",), ("a cmd",), ()),
        (("a cmd",), ("a cmd",), (), ()),
        (("a cmd",), ("a name",), ("a name",), ()),
        (("a cmd", "b cmd"), ("b cmd", "c cmd"), ("c cmd",), ("a",)),
        ((), ("a one_home", "a one_home"), ("a one_home",), ()),  # two entries of one name
        (("a one_home", "a one_home"), (), (), ("a",)),
        (("a cmd", "a name"), ("a name",), (), ()),
    ],
)
def test_which_refusals_are_news(
    before: tuple[str, ...], now: tuple[str, ...], anew: tuple[str, ...], no_more: tuple[str, ...]
) -> None:
    assert refused_since(refused(*before), refused(*now)) == (refused(*anew), no_more)


def test_a_refusal_in_a_line() -> None:
    assert refused("a cmd")[0].summary == "refused: InvalidSpec, rule cmd: no"
