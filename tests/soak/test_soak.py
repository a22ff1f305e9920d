"""A short soak, always of the same weather. Ten thousand passes of it are `./control prove`'s."""

from __future__ import annotations

import pytest

from tests.soak import daemon
from tests.soak.soak import soak

PASSES = 150
SEED = 20161025


@pytest.mark.slow
def test_bad_weather() -> None:
    soaked = soak(PASSES, SEED)
    assert soaked.broken == ()
    assert soaked.acted > PASSES // 10
    assert soaked.descriptors <= soaked.descriptors_before
    assert soaked.rss < soaked.rss_before + (8 << 20)


@pytest.mark.slow
def test_a_daemon_in_bad_weather() -> None:
    """One storm of a few seconds; `./control prove soak --daemon SECONDS` goes on for as long as one likes."""
    soaked = daemon.soak_daemon(1.0, SEED, storm_s=4.0)
    assert soaked.broken == ()
    assert [held.children for held in soaked.calms] == [0]
    assert soaked.heartbeats > 3
