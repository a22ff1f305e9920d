"""`./control bench [--json] [P1 ...]`: the table of docs/performance.md; `--profile`: where the time goes."""

from __future__ import annotations

import argparse
import gc
import json
import sys

from attrs import asdict

from benchmarks import fleet, peers, profiles, rest
from benchmarks.goals import GOALS, measured
from benchmarks.measure import machine
from updater.__main__ import OBJECTS_BEFORE_A_LOOK
from updater.pack import PackImpossible


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./control bench", description="Ratios to named yardsticks; nothing fails by them."
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "goals", metavar="P1", nargs="*", help=f"of {', '.join([*GOALS, 'P6', 'P9', 'P10'])}; all where none is named"
    )
    parser.add_argument("--install-peers", action="store_true", help="fetch the peers of P10 into .venv-peers, and end")
    parser.add_argument("--profile", action="store_true", help="draw where the time goes instead")
    options = parser.parse_args()
    if options.install_peers:
        peers.install()
        return
    if options.profile:
        profiles.main()
        return
    known = [*GOALS, "P6", "P9", "P10"]
    unknown = [name for name in options.goals if name not in known]
    if unknown:
        parser.error(f"there is no goal {', '.join(unknown)}; known: {', '.join(known)}")
    wanted = {*(options.goals or known)}
    if "P10" in wanted:
        wanted |= {name for name in GOALS if name.startswith("P10-")}
        if not peers.present():
            print("P10: no peer is there; ./control bench --install-peers fetches them", file=sys.stderr)
    gc.set_threshold(OBJECTS_BEFORE_A_LOOK)  # what is measured in this process, as a command has it
    before = machine()
    found = {}
    if not options.json:
        print(f"{before}\n\n| goal | work | yardstick | aim | min | median | max | best to best |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in [name for name in GOALS if name in wanted]:
        goal = GOALS[name]
        try:
            ratio = measured(name)
        except PackImpossible as err:
            print(f"{name}: left out, {err}", file=sys.stderr)
            continue
        found[name] = {"work": goal.work, "yardstick": goal.yardstick, "aim": goal.most, **asdict(ratio)}
        if not options.json:
            aim = "-" if goal.most is None else f"{goal.most:g}"
            cells = [name, goal.work, goal.yardstick, aim]
            cells += [f"{ratio.least:.2f}", f"**{ratio.median:.2f}**", f"{ratio.most:.2f}", f"{ratio.best:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    resting = rest.rest() if "P6" in wanted else None
    stories = fleet.report() if "P9" in wanted else {}
    rush = fleet.rush() if "P9" in wanted else {}
    locked = fleet.locked() if "P9" in wanted else {}
    if options.json:
        told = {"machine": before, "goals": found, "rest": resting and asdict(resting)}
        told |= {"fleet": stories, "rush": rush, "locked": locked}
        json.dump(told, sys.stdout, indent=2)
        print()
        return
    if resting is not None:
        print("\nP6, a daemon at rest, local HTTP off, its server on loopback:\n")
        print("\n".join(rest.told(resting)))
    if stories:
        print("\nP9, peak of a second over the mean, 100,000 hosts, simulated:\n")
        print("\n".join(f"- {name}: {value:.2f}" for name, value in stories.items()))
        print("\nA version of 200 MB for all of them, Gbit/s in the busiest minute:\n")
        print("\n".join(f"- {name}: {value:.0f}" for name, value in rush.items()))
        print("\nThe same with a fleet's lock of 150 places and a fetch_splay of 8 h:\n")
        print("\n".join(f"- {name}: {value:.2f}" for name, value in locked.items()))


if __name__ == "__main__":
    main()
