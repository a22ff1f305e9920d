"""Holds: whom they hold, how long, and what a clock that was set makes of it."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.hold import Hold, Requests

HOLD = Hold(owner="ann", reason="looking", since=1000.0, until=1600.0)
EVER = Hold(owner="cm", reason="frozen")
times = st.floats(0, 1e10)


@pytest.mark.parametrize(
    ("hold", "now", "left"),
    [
        (HOLD, 1000, 600),
        (HOLD, 1599, 1),
        (HOLD, 1600, 0),
        (HOLD, 2000, -400),
        (HOLD, 10, 600),  # the clock was set back: never more than its span
        (evolve(HOLD, since=None), 1000, 600),
        (evolve(HOLD, since=None), 10, 1590),  # its span isn't known
        (EVER, 1e12, None),
        (evolve(EVER, since=5.0), 1e12, None),
    ],
)
def test_what_is_left_of_a_hold(hold: Hold, now: float, left: float | None) -> None:
    assert hold.remaining(now) == left
    assert hold.lasts(now) is (left is None or left > 0)


@given(times, times, times)
def test_a_hold_never_has_more_left_than_its_span(since: float, span: float, now: float) -> None:
    left = evolve(HOLD, since=since, until=since + span).remaining(now)
    assert left is not None
    assert left <= span * (1 + 1e-9) + 1e-3


def test_an_agents_own_hold_goes_before_the_one_for_all() -> None:
    everyone = evolve(EVER, everyone=True)
    asked = Requests(holds=(("a", HOLD), ("b", evolve(HOLD, until=1100.0))), for_all=everyone)
    assert asked.hold_on("a", 1050.0) is HOLD
    assert asked.hold_on("b", 1200.0) is everyone
    assert asked.hold_on("c", 1050.0) is everyone
    assert evolve(asked, for_all=None).hold_on("c", 1050.0) is None
    assert evolve(asked, for_all=None).hold_on("a", 1700.0) is None
    assert Requests().hold_on("a", 0.0) is None


def test_whom_a_release_is_for() -> None:
    assert Requests(releases=frozenset({"a"})).released("a")
    assert not Requests(releases=frozenset({"a"})).released("b")
    assert not Requests().released("a")


def test_who_asked_for_a_release() -> None:
    asked = Requests(releases=frozenset({"a", "b"}), releasers=(("a", "ann"),))
    assert [asked.releaser(name) for name in ("a", "b", "c")] == ["ann", "unknown", None]
