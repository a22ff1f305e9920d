"""Lets one scenario go wrong at each of its operations, one after the other, and counts what did not hold."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import field, frozen

from tests.crash.mutants import MUTANTS
from tests.crash.points import Fault
from tests.crash.runner import Runner
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import Scenario, World

_BETWEEN_S = 2500.0  # from a pass to the one after it; what follows that is later still (world.py)


@frozen(kw_only=True)
class Finding:
    """A promise that did not hold: at which operation, and what was found."""

    at: int
    hit: str
    what: str

    def __str__(self) -> str:
        return f"at operation {self.at} ({self.hit}): {self.what}"


@frozen(kw_only=True)
class Swept:
    """What came of one scenario under one mode. `points`: how many operations were hit."""

    scenario: str
    mode: str
    points: int
    findings: tuple[Finding, ...] = field(factory=tuple)


def count_points(world: World) -> int:
    """How many operations the scenario's pass makes when nothing goes wrong."""
    world.restore()
    ran = world.attempt()
    assert ran.code in world.scenario.codes, (ran, world.said())
    assert "InternalError" not in world.said(), world.said()  # its exit code is that of a pass that goes back, too
    world.recover()
    assert not world.broken, world.broken
    return ran.points


def sweep(world: World, mode: str, points: Iterable[int], *, until_found: bool = False) -> Swept:
    """Hit each of the points; with `until_found` stop at the first promise that did not hold."""
    findings: list[Finding] = []
    hit = 0
    for at in points:
        world.restore()
        ran = world.attempt(Fault(mode=mode, at=at))
        if ran.hit:
            hit += 1
        else:
            continue
        world.recover()
        findings += [Finding(at=at, hit=ran.hit, what=what) for what in world.broken]
        if findings and until_found:
            break
    return Swept(scenario=world.scenario.name, mode=mode, points=hit, findings=tuple(findings))


def pairs(count: int, seconds: int, chance: random.Random) -> list[tuple[int, int]]:
    """Each operation, and for each so many of the pass after it: more of the first ones, since it may have few."""
    return [(first, 1 + int(count * chance.random() ** 2)) for first in range(1, count + 1) for _ in range(seconds)]


def sweep_twice(world: World, modes: tuple[str, str], points: Iterable[tuple[int, int]]) -> Swept:
    """Hit the pass and the pass after it, each at one operation. What comes through its second pass counts for none."""
    findings: list[Finding] = []
    hit = 0
    for first, second in points:
        world.restore()
        one = world.attempt(Fault(mode=modes[0], at=first))
        two = world.attempt(Fault(mode=modes[1], at=second), later=_BETWEEN_S) if one.hit else one
        if not (one.hit and two.hit):
            continue
        hit += 1
        world.recover()
        what_was_hit = f"{one.hit}, then operation {second}, {two.hit}"
        findings += [Finding(at=first, hit=what_was_hit, what=what) for what in world.broken]
    return Swept(scenario=world.scenario.name, mode=" / ".join(modes), points=hit, findings=tuple(findings))


@contextmanager
def a_world(scenario: Scenario, mutant: str = "", *, runner: Runner | None = None) -> Iterator[World]:
    """A world with a folder of its own and, unless one is given, a runner."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-"))
        used = stack.enter_context(Runner()) if runner is None else runner
        yield stack.enter_context(World(Path(folder), used, scenario, mutant))


def search(mutant: str, count: int) -> list[int]:
    """All operations, in the order in which a promise that the mutant breaks is soonest found."""
    begin = math.ceil(count * MUTANTS[mutant].near)
    return [*range(begin, 0, -1), *range(count, begin, -1)]


def sweep_mutant(name: str, *, runner: Runner | None = None) -> Swept:
    """Look for a promise that a mutant breaks until there is one."""
    mutant = MUTANTS[name]
    with a_world(SCENARIOS[mutant.scenario], name, runner=runner) as world:
        return sweep(world, mutant.mode, search(name, count_points(world)), until_found=True)
