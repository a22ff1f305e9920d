"""Runs the whole crash harness, and prints what came of it as the tables of docs/reliability.md.

    python -m tests.crash                     all that this host allows
    python -m tests.crash --only simulated    what needs no rights (also: traced, images, mutants, mutants-on-images)
    python -m tests.crash --every 10          a tenth of the points
    python -m tests.crash --write FILE        put the tables between the markers of this file, too

It ends with 1 where a promise did not hold or a mutant was not caught.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from attrs import frozen

from tests.crash import images, points, traced
from tests.crash.mutants import MUTANTS
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import Swept, a_world, count_points, sweep, sweep_mutant
from tests.crash.world import Scenario

BEGIN, END = "<!-- crash harness: begin -->", "<!-- crash harness: end -->"
IMAGE_MUTANTS = "mutants-on-images"
PARTS = ("simulated", "traced", "images", "mutants", IMAGE_MUTANTS)


@frozen(kw_only=True)
class Job:
    """One piece of work. `key`: its part of the table, and its row."""

    part: str
    row: str
    work: Callable[[], Swept]


def simulate(scenario: Scenario, mode: str, every: int) -> Swept:
    with a_world(scenario) as world:
        return sweep(world, mode, range(1, count_points(world) + 1, every))


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
        works = {
            "simulated": [partial(simulate, scenario, mode, every) for mode in points.MODES],
            "traced": [partial(trace, scenario, mode, every) for mode in traced.MODES],
            "images": [partial(cut, scenario, every)],
        }
        found += [Job(part=part, row=row, work=work) for part, todo in works.items() for work in todo]
    found += [Job(part="mutants", row=name, work=partial(sweep_mutant, name)) for name in MUTANTS]
    on_images = [name for name, mutant in MUTANTS.items() if mutant.on_ext4]
    return found + [Job(part=IMAGE_MUTANTS, row=name, work=partial(images.sweep_mutant, name)) for name in on_images]


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
    """One table: a row for each scenario, a column for each mode, `points / failures` in each cell."""
    modes = tuple(dict.fromkeys(swept.mode for _, swept in results))
    cells = {(job.row, swept.mode): f"{swept.points} / {len(swept.findings)}" for job, swept in results}
    lines = [f"| {title} | {' | '.join(modes)} |", f"|---|{'---|' * len(modes)}"]
    lines += [f"| {row} | {' | '.join(cells.get((row, mode), '') for mode in modes)} |" for row in rows]
    tried = sum(swept.points for _, swept in results)
    failed = sum(len(swept.findings) for _, swept in results)
    return [*lines, "", f"Points: {tried:,}. Failures: {failed}.", ""]


def mutants_table(results: list[tuple[Job, Swept]]) -> list[str]:
    lines = ["| deliberate mistake | scenario | mode | caught at |", "|---|---|---|---|"]
    for job, swept in results:
        caught = swept.findings[0].hit.split()[0] if swept.findings else "NOT CAUGHT"
        lines.append(f"| {job.row} | {swept.scenario} | {swept.mode} | {caught} |")
    return [*lines, ""]


def report(results: list[tuple[Job, Swept]], argv: list[str]) -> str:
    """All tables, as Markdown, and the command that made them."""
    command = " ".join(("./control prove crash", *argv))
    made = f"Made by `{command}` on {time.strftime('%Y-%m-%d', time.gmtime())}"
    lines = [f"{made}, Linux {'.'.join(platform.release().split('.')[:2])}, Python {platform.python_version()}.", ""]
    titles = {
        "simulated": "at each operation of the updater's own",
        "traced": "at each system call",
        "images": "at each operation of the updater's own",
    }
    for part, title in titles.items():
        found = [(job, swept) for job, swept in results if job.part == part]
        if found:
            lines += table(title, SCENARIOS, found)
    mutants = [(job, swept) for job, swept in results if "mutants" in job.part]
    return "\n".join(lines + (mutants_table(mutants) if mutants else []))


def write(path: Path, tables: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


def _carry_out(job: Job) -> Swept:
    swept = job.work()
    said = [f"{job.part}: {job.row}, {swept.mode}: {swept.points} points, {len(swept.findings)} failures"]
    said += [] if "mutants" in job.part else [f"  {finding}" for finding in swept.findings]
    print("\n".join(said), file=sys.stderr, flush=True)
    return swept


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    parts = possible(options.only or PARTS)
    todo = [job for job in jobs(options.every) if job.part in parts]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = list(zip(todo, pool.map(_carry_out, todo), strict=True))
    tables = report(results, argv)
    print(tables)
    if options.write is not None:
        write(options.write, tables)
    wrong = [swept for job, swept in results if bool(swept.findings) is not ("mutants" in job.part)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
