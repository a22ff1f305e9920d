"""A share of what the harness does with root's rights: strace at system calls, and disks whose power is cut."""

from __future__ import annotations

import shutil

import pytest

from tests.crash import images, traced
from tests.crash.mutants import MUTANTS
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import a_world, count_points

SEED = 20161025
SYSCALLS = 3  # of each scenario and mode
EACH = 16  # operation at which the power is cut

pytestmark = pytest.mark.system


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_system_calls(scenario: str) -> None:
    with a_world(SCENARIOS[scenario]) as world:
        found = traced.syscalls_of(world)
        assert {call.thread for call in found} == set(traced.THREADS)
        # Of an agent's threads the first is traced: where it is healed first, that syncs nothing.
        synced = {"fdatasync"} if scenario == "heal, then an upgrade" else {"fsync", "fdatasync"}
        assert {"pwrite64", *synced} <= {call.name for call in found}
        for mode in traced.MODES:
            swept = traced.sweep_traced(world, mode, traced.share(found, SYSCALLS, SEED))
            assert swept.points
            assert [f"{mode} {finding}" for finding in swept.findings] == []


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
