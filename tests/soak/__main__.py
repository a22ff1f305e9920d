"""The long soak: `python -m tests.soak [PASSES [SEED]]`. Prints its figures; ends with 1 where something is not as it
must be."""

from __future__ import annotations

import sys

from tests.soak.passes import Passed
from tests.soak.soak import soak

_RSS_GROWTH = 4 << 20  # bytes; the allocator's own unrest, whatever the number of passes


def _tell(number: int, passed: Passed) -> None:
    if number % 500 == 0:
        print(f"{number} passes: {passed.descriptors} descriptors, {passed.rss >> 20} MiB", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    passes, seed = (*map(int, argv), *(10_000, 20161025)[len(argv) :])
    soaked = soak(passes, seed, _tell)
    print(f"seed {seed}: {soaked}")
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
