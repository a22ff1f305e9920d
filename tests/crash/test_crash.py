"""Killed at each of its operations, with every error of a disk and with power cuts: what is promised holds.

The form that needs no rights. The other modes are sampled here by a fixed seed; whole they run under `./control prove`.
"""

from __future__ import annotations

import random

import pytest

from tests.crash.mutants import MUTANTS
from tests.crash.points import DEATHS, ERRORS
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import a_world, count_points, sweep, sweep_mutant

# Those that differ from these in little are sampled too.
KILLED_AT_EACH = ("install", "upgrade", "replacement", "config change", "rollback", "prune")
SEED = 20161025
SAMPLE = 5

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", KILLED_AT_EACH)
def test_killed_at_each_operation(scenario: str) -> None:
    with a_world(SCENARIOS[scenario]) as world:
        count = count_points(world)
        assert count > 15
        swept = sweep(world, "kill", range(1, count + 1))
        # The second look may or may not need one more status call.
        assert swept.points >= count - 6
        assert [str(finding) for finding in swept.findings] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_else_goes_wrong(scenario: str) -> None:
    chance = random.Random(f"{SEED} {scenario}")
    modes = [*DEATHS[1:], *ERRORS]
    if scenario not in KILLED_AT_EACH:
        modes.append(DEATHS[0])
    with a_world(SCENARIOS[scenario]) as world:
        count = count_points(world)
        for mode in chance.sample(modes, 2):
            swept = sweep(world, mode, sorted(chance.sample(range(1, count + 1), SAMPLE)))
            assert [f"{mode} {finding}" for finding in swept.findings] == []


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberate_mistake_is_caught(mutant: str) -> None:
    assert sweep_mutant(mutant).findings
