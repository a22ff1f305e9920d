"""`python -m updater`, and the console script `updater`."""

from __future__ import annotations

import sys

from updater.cli import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
