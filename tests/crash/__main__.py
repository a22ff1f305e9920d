"""Runs the whole crash harness, and prints what came of it as the tables of docs/reliability.md.

    python -m tests.crash                     all that this host allows
    python -m tests.crash --only simulated    what needs no rights (also: twice, and with rights: traced, images;
                                              mutants, mutants-on-images)
    python -m tests.crash --every 10          a tenth of the points
    python -m tests.crash --scenario move     this scenario alone
    python -m tests.crash --write FILE        put each table between its markers in this file, too

It ends with 1 where a promise did not hold or a mutant was not caught.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from attrs import frozen

from tests.crash import images, points, traced
from tests.crash.mutants import MUTANTS
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import Finding, Swept, a_world, count_points, pairs, sweep, sweep_mutant, sweep_twice
from tests.crash.world import Scenario

IMAGE_MUTANTS = "mutants-on-images"
MISTAKES = ("mutants", IMAGE_MUTANTS)
PARTS = ("simulated", "twice", "traced", "images", *MISTAKES)
TWICE = ((points.DEATHS[0], points.DEATHS[0]), (points.DEATHS[0], points.DEATHS[1]))
SECONDS = 3  # operations of the second pass, for each of the first
TITLES = {
    "twice": "at an operation, and at one of the pass after it",
    "simulated": "at each operation of the updater's own",
    "traced": "at each system call",
    "images": "at each operation of the updater's own",
}


@frozen(kw_only=True)
class Job:
    """One piece of work, and where in the tables what comes of it stands."""

    part: str
    row: str
    mode: str
    work: Callable[[], Swept]


def simulate(scenario: Scenario, mode: str, every: int) -> Swept:
    with a_world(scenario) as world:
        return sweep(world, mode, range(1, count_points(world) + 1, every))


def simulate_twice(scenario: Scenario, modes: tuple[str, str], every: int) -> Swept:
    with a_world(scenario) as world:
        chance = random.Random(f"{scenario.name} {modes}")
        return sweep_twice(world, modes, pairs(count_points(world), SECONDS, chance)[::every])


def trace(scenario: Scenario, mode: str, every: int) -> Swept:
    with a_world(scenario) as world:
        return traced.sweep_traced(world, mode, traced.syscalls_of(world)[::every])


def cut(scenario: Scenario, every: int) -> Swept:
    with images.a_world_on_disk(scenario) as (world, disk):
        return images.sweep_images(world, disk, range(1, count_points(world) + 1, every))


def jobs(every: int) -> list[Job]:
    """All that there is to do, by part, scenario and mode."""
    found = []
    for row, scenario in SCENARIOS.items():
        at = partial(Job, row=row)
        found += [
            at(part="simulated", mode=mode, work=partial(simulate, scenario, mode, every)) for mode in points.MODES
        ]
        found += [
            at(part="twice", mode=" / ".join(modes), work=partial(simulate_twice, scenario, modes, every))
            for modes in TWICE
        ]
        found += [at(part="traced", mode=mode, work=partial(trace, scenario, mode, every)) for mode in traced.MODES]
        found.append(at(part="images", mode=images.MODE, work=partial(cut, scenario, every)))
    for row, mutant in MUTANTS.items():
        at = partial(Job, row=row)
        found.append(at(part="mutants", mode=mutant.mode, work=partial(sweep_mutant, row)))
        if mutant.on_ext4:
            found.append(at(part=IMAGE_MUTANTS, mode=images.MODE, work=partial(images.sweep_mutant, row)))
    return found


def possible(parts: Iterable[str]) -> tuple[str, ...]:
    """The parts that this host allows; of the others it is said why not."""
    no_images = images.can_mount() if {"images", IMAGE_MUTANTS} & set(parts) else ""
    no_strace = "" if shutil.which("strace") else "there is no strace"
    obstacles = {"traced": no_strace, "images": no_images, IMAGE_MUTANTS: no_images}
    for part, why in obstacles.items():
        if why and part in parts:
            print(f"left out: {part}: {why}", file=sys.stderr)
    return tuple(part for part in parts if not obstacles.get(part))


def table(title: str, rows: Iterable[str], results: list[tuple[Job, Swept]]) -> list[str]:
    """One table: a row for each mode, with its points and failures over all scenarios, and in which these were.

    Modes with the same figures share a row.
    """
    figures: dict[tuple[int, str], list[str]] = {}
    for mode in dict.fromkeys(job.mode for job, _ in results):
        own = [(job.row, swept) for job, swept in results if job.mode == mode]
        failed = [f"{len(swept.findings)} in {row}" for row, swept in own if swept.findings]
        figures.setdefault((sum(swept.points for _, swept in own), ", ".join(failed) or "0"), []).append(mode)
    lines = [f"| {title} | points | failures |", "|---|---|---|"]
    for (tried, failed_in), modes in figures.items():
        lines.append(f"| {'; '.join(modes)}{': each' if len(modes) > 1 else ''} | {tried:,} | {failed_in} |")
    scenarios = [row for row in rows if any(job.row == row for job, _ in results)]
    return [*lines, "", f"Scenarios: {', '.join(scenarios)}.", ""]


def mutants_table(results: list[tuple[Job, Swept]]) -> list[str]:
    lines = ["| deliberate mistake | scenario | mode | caught at |", "|---|---|---|---|"]
    for job, swept in results:
        caught = swept.findings[0].hit.split()[0] if swept.findings else "NOT CAUGHT"
        lines.append(f"| {job.row} | {swept.scenario} | {swept.mode} | {caught} |")
    return [*lines, ""]


def report(results: list[tuple[Job, Swept]], argv: list[str]) -> dict[str, str]:
    """The table of each part that was run, as Markdown, with the command that made it."""
    command = f"./control prove crash {shlex.join(argv)}"
    kernel = ".".join(platform.release().split(".")[:2])
    made = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, Linux {kernel}, Python {platform.python_version()}: `{command}`"
    )
    tables = {}
    for part in PARTS:
        found = [(job, swept) for job, swept in results if job.part == part]
        if found:
            lines = mutants_table(found) if part in MISTAKES else table(TITLES[part], SCENARIOS, found)
            tables[part] = "\n".join((*lines, made))
    return tables


def write(path: Path, tables: dict[str, str]) -> None:
    """Put each table between the markers of its part; those of other parts stay."""
    page = path.read_text(encoding="utf-8")
    for part, lines in tables.items():
        begin, end = (f"<!-- crash harness: {part}: {mark} -->" for mark in ("begin", "end"))
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{lines}\n\n{end}{rest.partition(end)[2]}"
    path.write_text(page, encoding="utf-8")


def _carry_out(job: Job) -> Swept:
    try:
        swept = job.work()
    except Exception as err:  # of the harness; the other jobs are worth their hour
        wrong = Finding(at=0, hit="none: the harness itself broke", what=repr(err))
        findings = () if job.part in MISTAKES else (wrong,)
        swept = Swept(scenario=job.row, mode=job.mode, points=0, findings=findings)
    said = [f"{job.part}: {job.row}, {job.mode}: {swept.points} points, {len(swept.findings)} failures"]
    said += [] if job.part in MISTAKES else [f"  {finding}" for finding in swept.findings]
    print("\n".join(said), file=sys.stderr, flush=True)
    return swept


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--scenario", choices=tuple(SCENARIOS), action="append")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    parts = possible(options.only or PARTS)
    rows = {*(options.scenario or SCENARIOS), *MUTANTS}
    todo = [job for job in jobs(options.every) if job.part in parts and job.row in rows]
    # Not threads: a child of one would hold a script open that another has just copied, and it could not be executed.
    with ProcessPoolExecutor(max_workers=os.cpu_count() or 1, mp_context=get_context("fork")) as pool:
        results = list(zip(todo, pool.map(_carry_out, todo), strict=True))
    tables = report(results, argv)
    print("\n\n".join(tables.values()))
    if options.write is not None:
        write(options.write, tables)
    wrong = [swept for job, swept in results if bool(swept.findings) is not (job.part in MISTAKES)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
