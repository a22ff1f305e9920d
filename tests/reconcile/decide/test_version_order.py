"""Which version is older: a ladder, and the laws that an order keeps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.version_order import is_older, split_release

# Each rung is older than the next.
LADDER = (
    *("0.9", "1.0~rc1", "1.0-alpha", "1.0-alpha.2", "1.0-beta", "1.0.0-rc1", "1.0-RC2", "1.0.0-snapshot", "1.0"),
    *("1.0-hotfix", "1.0.1", "1.0.2", "1.0.2a", "1.0.2b", "1.0.2.1", "1.0.10", "1.2", "1.10", "5.1.3", "5.1.3-1"),
    *("5.1.3-5-gabc", "2026.11.24", "20261124"),
)
EQUAL = (
    ("1.0", "1.0.0"),
    ("v1.2", "1.2"),
    ("1.2", "1_2"),
    ("1.02", "1.2"),
    ("1.0-rc1", "1.0.0-rc.1"),
    ("1.0RC1", "1.0-rc1"),
    ("1.0", "1.0"),
)
VERSIONS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,12}", fullmatch=True)


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(LADDER, 2)))
def test_a_ladder(older: str, newer: str) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_what_is_equally_old(one: str, other: str) -> None:
    assert not is_older(one, other)
    assert not is_older(other, one)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(a: str, b: str, c: str) -> None:
    assert not (is_older(a, b) and is_older(b, a))
    if is_older(a, b) and is_older(b, c):
        assert is_older(a, c)
    if not is_older(a, b) and not is_older(b, c):
        assert not is_older(a, c)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("falcon-agent-5.1.3", ("falcon-agent", "5.1.3")),
        ("falcon-5-agent-6", ("falcon", "5-agent-6")),
        ("falcon--1", ("falcon-", "1")),
        ("-1-2", ("-1", "2")),
        ("falcon-agent-v5", None),
        ("falcon5", None),
        ("falcon-\u0665", None),
        ("", None),
    ],
)
def test_a_release_is_split_at_the_first_hyphen_before_a_digit(text: str, split: tuple[str, str] | None) -> None:
    assert split_release(text) == split


@given(VERSIONS, VERSIONS, VERSIONS, VERSIONS)
def test_no_two_releases_that_split_into_themselves_have_one_name(a: str, b: str, c: str, d: str) -> None:
    one, other = (a, b), (c, d)
    if split_release("-".join(one)) == one and split_release("-".join(other)) == other:
        assert ("-".join(one) == "-".join(other)) == (one == other)
