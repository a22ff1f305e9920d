"""A share of the harness that needs no rights: killed at operations, errors of a disk, power cuts, deliberate mistakes.

Which share is a matter of a fixed seed. The whole runs under `./control prove crash`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.crash.mutants import MUTANTS
from tests.crash.points import DEATHS, ERRORS
from tests.crash.runner import Runner
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import a_world, count_points, pairs, sweep, sweep_mutant, sweep_twice

SEED = 20161025
KILLS = 5  # operations of each scenario, spread over all of it
TWICE = ("upgrade", "rollback")  # the others: ./control prove crash
PAIRS = 4
OTHER_MODES = 2  # of each scenario, at one operation each

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as started:
        yield started


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_goes_wrong(scenario: str, runner: Runner) -> None:
    chance = random.Random(f"{SEED} {scenario}")
    with a_world(SCENARIOS[scenario], runner=runner) as world:
        count = count_points(world)
        assert count > 15
        stride = count // KILLS
        killed = sweep(world, DEATHS[0], range(1 + chance.randrange(stride), count + 1, stride))
        # Where the second look needs one more status call than it did in the count, the last may not be there.
        assert killed.points >= KILLS - 1
        findings = [f"kill {finding}" for finding in killed.findings]
        for mode in chance.sample([*DEATHS[1:], *ERRORS], OTHER_MODES):
            swept = sweep(world, mode, [chance.randint(1, count)])
            findings += [f"{mode} {finding}" for finding in swept.findings]
        assert findings == []


@pytest.mark.parametrize("scenario", TWICE)
def test_two_faults_in_a_row(scenario: str, runner: Runner) -> None:
    chance = random.Random(f"{SEED} twice {scenario}")
    with a_world(SCENARIOS[scenario], runner=runner) as world:
        points = chance.sample(pairs(count_points(world), 1, chance), PAIRS)
        swept = sweep_twice(world, (DEATHS[0], chance.choice(DEATHS[:2])), points)
        assert swept.points > 0
        assert [str(finding) for finding in swept.findings] == []


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberate_mistake_is_caught(mutant: str, runner: Runner) -> None:
    assert sweep_mutant(mutant, runner=runner).findings
