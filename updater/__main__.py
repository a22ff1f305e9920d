"""`python -m updater`, and the console script `updater`."""

from __future__ import annotations

import gc
import sys

# Loading modules makes many objects and no garbage: with Python's own 700 it is looked for 50 times before `plan` has
# begun, which takes 4 ms.
_OBJECTS_BEFORE_A_LOOK = 50_000


def main() -> None:
    gc.set_threshold(_OBJECTS_BEFORE_A_LOOK)
    from updater.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
