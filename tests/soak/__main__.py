"""The long soak: `python -m tests.soak [PASSES [SEED]]`, or `--daemon SECONDS` for a real daemon. Prints its figures;
ends with 1 where something is not as it must be."""

from __future__ import annotations

import argparse
import sys

from tests.soak.daemon import soak_daemon
from tests.soak.passes import Passed
from tests.soak.soak import soak

_RSS_GROWTH = 4 << 20  # bytes; the allocator's own unrest, whatever the number of passes


def _report(number: int, passed: Passed) -> None:
    if number % 500 == 0:
        print(f"{number} passes: {passed.descriptors} descriptors, {passed.rss >> 20} MiB", file=sys.stderr, flush=True)


def _daemon(seconds: float, seed: int) -> int:
    soaked = soak_daemon(seconds, seed, lambda so_far: print(so_far, file=sys.stderr, flush=True))
    print(f"seed {seed}: {soaked}")
    wrong = list(soaked.broken)
    if len(soaked.calms) > 2:  # the first third of the storms loads what is loaded once
        first, last = soaked.calms[len(soaked.calms) // 3], soaked.calms[-1]
        wrong += ["memory grew"] if last.rss > first.rss + _RSS_GROWTH else []
        wrong += ["descriptors grew"] if last.descriptors > first.descriptors else []
        wrong += ["children were left"] if last.children else []
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition(": ")[0])
    parser.add_argument("passes", nargs="?", type=int, default=10_000)
    parser.add_argument("seed", nargs="?", type=int, default=20161025)
    parser.add_argument("--daemon", type=float, metavar="SECONDS", help="a real daemon for so long, instead")
    options = parser.parse_args(argv)
    if options.daemon is not None:
        return _daemon(options.daemon, options.seed)
    soaked = soak(options.passes, options.seed, _report)
    print(f"seed {options.seed}: {soaked}")
    wrong = list(soaked.broken)
    if soaked.descriptors > soaked.descriptors_before:
        wrong.append("descriptors grew")
    if soaked.rss > soaked.rss_before + _RSS_GROWTH:
        wrong.append("memory grew")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
