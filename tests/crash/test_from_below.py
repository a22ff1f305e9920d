"""A share of what the harness does with root's rights: strace at system calls, and disks whose power is cut."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.crash import images, traced
from tests.crash.mutants import MUTANTS
from tests.crash.points import DEATHS, MODES
from tests.crash.scenarios import HAND_OVERS, SCENARIOS
from tests.crash.sweep import a_world, count_points, sweep

SEED = 20161025
SYSCALLS = 3  # of each scenario and mode
HAND_OVER_KILLS = 6  # operations of each
EACH = 16  # operation at which the power is cut

pytestmark = pytest.mark.system


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_system_calls(scenario: str) -> None:
    with a_world(SCENARIOS[scenario]) as world:
        found = traced.syscalls_of(world)
        assert {call.thread for call in found} == set(traced.THREADS)
        assert {"pwrite64", "fsync", "fdatasync"} <= {call.name for call in found}
        for mode in traced.MODES:
            swept = traced.sweep_traced(world, mode, traced.share(found, SYSCALLS, SEED))
            assert swept.points
            assert [f"{mode} {finding}" for finding in swept.findings] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("scenario", HAND_OVERS)
def test_hand_overs(scenario: str) -> None:
    """At the updater's own operations, and around what it asks of the other user."""
    with a_world(HAND_OVERS[scenario]) as world:
        count = count_points(world)
        assert count > HAND_OVER_KILLS
        findings = []
        for number, mode in enumerate(MODES):
            kills = HAND_OVER_KILLS if mode == DEATHS[0] else 1
            chance = random.Random(f"{SEED} {scenario} {number}")
            swept = sweep(world, mode, sorted(chance.sample(range(1, count + 1), kills)))
            findings += [f"{mode} {finding}" for finding in swept.findings]
        assert findings == []


@pytest.fixture(scope="module")
def disks() -> None:
    obstacle = images.can_mount()
    if obstacle:
        pytest.skip(f"images can't be mounted here: {obstacle}")


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_power_cuts(scenario: str) -> None:
    with images.a_world_on_disk(SCENARIOS[scenario]) as (world, disk):
        count = count_points(world)
        swept = images.sweep_images(world, disk, range(SEED % EACH + 1, count + 1, EACH))
        assert swept.points
        assert [str(finding) for finding in swept.findings] == []


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize("mutant", [name for name, mutant in MUTANTS.items() if mutant.on_ext4])
def test_a_deliberate_mistake_is_caught(mutant: str) -> None:
    assert images.sweep_mutant(mutant).findings
