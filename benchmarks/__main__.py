"""`./control bench [--json] [P1 ...]`: goal by goal the figure, whether it is reached, and what moved since the run
before; `--profile`: where the time goes."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator

from benchmarks import fleet, pages, peers, profiles, rest, verdicts
from benchmarks.goals import GOALS, measured
from benchmarks.measure import machine
from benchmarks.verdicts import Figure
from updater.__main__ import OBJECTS_BEFORE_A_COLLECTION
from updater.packaging.wheels import PackImpossible

KNOWN = (*GOALS, "P6", "P9", "P10", "P12")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./control bench", description="Ratios to named yardsticks; nothing fails by them."
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("goals", metavar="P1", nargs="*", help=f"of {', '.join(KNOWN)}; all where none is named")
    parser.add_argument("--install-peers", action="store_true", help="fetch the peers of P10 into .venv-peers, and end")
    parser.add_argument("--profile", action="store_true", help="draw where the time goes instead")
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    options = parser.parse_args()
    if options.install_peers:
        peers.install()
        return
    if options.profile:
        _draw(write=options.write)
        return
    unknown = [name for name in options.goals if name not in KNOWN]
    if unknown:
        parser.error(f"there is no goal {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    if options.write and options.goals:
        parser.error("--write puts all figures into the page: name no goal")
    on, figures = _run({*(options.goals or KNOWN)}, as_json=options.json)
    if options.write:
        pages.write("figures", pages.figures(on, figures))


def _draw(*, write: bool) -> None:
    on, profiled = machine(), []
    print(on)
    for profile in profiles.drawn():
        print(f"\n{profile}", flush=True)
        profiled.append(f"```\n{profile}\n```")
    if write:
        pages.write("profiles", "\n\n".join([f"{on}.", *profiled]))


def _run(wanted: set[str], *, as_json: bool) -> tuple[str, dict[str, Figure]]:
    """Measure, print as it goes, and keep the figures for the next run. Return them, and what they were measured on."""
    gc.set_threshold(OBJECTS_BEFORE_A_COLLECTION)  # what is measured in this process, as a command has it
    on, before = machine(), verdicts.kept()
    figures: dict[str, Figure] = {}
    if not as_json:
        print(f"{on}\n\n{verdicts.HEAD}", flush=True)
    for figure in _measured(wanted):
        figures[figure.goal] = figure
        if not as_json:
            print(verdicts.line(figure, before.get(figure.goal)), flush=True)
    if as_json:
        print(json.dumps(verdicts.document(on, figures), indent=2))
    else:
        print("", *verdicts.summary(figures, before), sep="\n")
    verdicts.keep(on, figures, before)
    return on, figures


def _measured(wanted: set[str]) -> Iterator[Figure]:
    """The figures, one after the other; what can't be measured here is said on standard error."""
    if "P10" in wanted:
        wanted = {*wanted, *(name for name in GOALS if name.startswith("P10-"))}
        if not peers.present():
            print("P10: no peer is there; ./control bench --install-peers fetches them", file=sys.stderr)
    for name in [name for name in GOALS if name in wanted]:
        try:
            yield from measured(name)
        except PackImpossible as err:
            print(f"{name}: left out, {err}", file=sys.stderr)
    if "P6" in wanted:
        yield from rest.figures(rest.rest())
    if "P9" in wanted:
        yield from fleet.figures()
    if "P12" in wanted:
        yield from fleet.locked_figures()


if __name__ == "__main__":
    main()
