"""Which hosts a rollout includes: the formula of docs/interface.md, section 7, and what follows from it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.timing.rollout import includes, share_of
from reconcile.source import Rollout

WORDS = st.text(max_size=20)
HOSTS = [f"host-{number:04d}" for number in range(4000)]


@given(WORDS, WORDS, WORDS)
def test_a_share_is_the_formula(hostname: str, agent: str, seed: str) -> None:
    digest = hashlib.sha256(b"\0".join(word.encode() for word in (hostname, agent, seed))).digest()
    assert share_of(hostname, agent, seed) == int.from_bytes(digest[:8], "big") % 10_000


def test_a_share_is_the_same_on_each_machine_and_release() -> None:
    """Written out, so that a change of the formula shows: it would shuffle each fleet's canaries."""
    assert [share_of(host, "falcon-agent", "1.0.1") for host in ("a", "b", "c")] == [8451, 3543, 5833]


@pytest.mark.parametrize("percent", [0, 0.01, 1, 5, 12.5, 50, 99.99, 100])
def test_about_that_share_of_hosts_is_included(percent: float) -> None:
    included = sum(includes(Rollout(percent=percent, seed="x"), host, "alpha", "1.0") for host in HOSTS)
    assert abs(included / len(HOSTS) * 100 - percent) < 2.5


def test_none_and_all_are_exact() -> None:
    assert not any(includes(Rollout(percent=0), host, "alpha", "1.0") for host in HOSTS)
    assert all(includes(Rollout(percent=100), host, "alpha", "1.0") for host in HOSTS)


@given(WORDS, st.floats(0, 100), st.floats(0, 100))
def test_raising_it_only_adds_hosts(hostname: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    small, large = (includes(Rollout(percent=percent, seed="s"), hostname, "alpha", "1.0") for percent in (less, more))
    assert large or not small


def test_a_seed_keeps_the_first_hosts_and_versions_shuffle_them() -> None:
    def first(version: str, seed: str | None) -> set[str]:
        return {host for host in HOSTS if includes(Rollout(percent=5, seed=seed), host, "alpha", version)}

    assert first("1.0", "x") == first("2.0", "x")
    assert first("1.0", "") == first("2.0", "")
    assert first("1.0", None) != first("2.0", None)
    assert first("1.0", None) == first("9", "1.0")


@pytest.mark.parametrize(("percent", "share"), [(0.29, 29), (1.1, 110), (57.29, 5729), (12.345, 1235)])
def test_hundredths_are_exact_though_floats_are_not(percent: float, share: int) -> None:
    [last] = [host for host in (f"h{n}" for n in range(60_000)) if share_of(host, "a", "s") == share - 1][:1]
    [next_one] = [host for host in (f"h{n}" for n in range(60_000)) if share_of(host, "a", "s") == share][:1]
    assert includes(Rollout(percent=percent, seed="s"), last, "a", "1")
    assert not includes(Rollout(percent=percent, seed="s"), next_one, "a", "1")
