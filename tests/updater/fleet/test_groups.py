"""Which hosts are one group, and which groups are the odd ones out."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from updater.fleet.groups import Described, Group, group_rows, grouped
from updater.output.text import Palette, to_text


class Kind(NamedTuple):
    said: str


def groups(*sizes: int) -> tuple[Group[Kind], ...]:
    """Groups of one agent, of these sizes."""
    kinds = [kind for number, size in enumerate(sizes) for kind in [Kind(f"kind-{number}")] * size]
    return grouped(("falcon-agent", f"host-{number:03d}", kind) for number, kind in enumerate(kinds))


@pytest.mark.parametrize(
    ("sizes", "odd"),
    [
        ((5,), [False]),
        ((1,), [False]),
        ((3, 3), [False, False]),  # which of them is?
        ((4, 3), [False, True]),
        ((5, 4), [False, False]),
        ((95, 5), [False, False]),  # one in twenty
        ((96, 4), [False, True]),
        ((190, 10), [False, False]),
        ((191, 9), [False, True]),
        ((900, 40, 3), [False, True, True]),
    ],
)
def test_a_small_group_is_odd_beside_a_larger_one(sizes: tuple[int, ...], odd: list[bool]) -> None:
    found = groups(*sizes)
    assert [len(one.hosts) for one in found] == list(sizes)
    assert [one.odd for one in found] == odd


def test_agents_are_apart_and_each_has_its_largest_group_first() -> None:
    said = [("b", "h1", "x"), ("a", "h1", "y"), ("a", "h2", "x"), ("a", "h3", "x"), ("a", "h4", "w")]
    found = grouped((agent, host, Kind(kind)) for agent, host, kind in said)
    assert [(one.agent, one.kind.said, one.hosts) for one in found] == [
        ("a", "x", ("h2", "h3")),
        ("a", "w", ("h4",)),
        ("a", "y", ("h1",)),
        ("b", "x", ("h1",)),
    ]


@pytest.mark.parametrize(("count", "named", "more"), [(12, 12, False), (13, 12, True)])
def test_so_many_hosts_are_named(count: int, named: int, more: bool) -> None:
    described = Described(title="what is said", colour="", names_hosts=True)
    text = to_text(group_rows(groups(count), lambda group: described, quiet=False), Palette(False))
    assert sum(word.startswith("host-") for word in text.split()) == named
    assert ("1 more" in text) is more, text
