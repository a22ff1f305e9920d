"""`python -m updater`, and the console script `updater`."""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys

# Loading modules makes many objects and no garbage: with Python's own 700 it is looked for 50 times before `plan` has
# begun, which takes 4 ms.
OBJECTS_BEFORE_A_LOOK = 50_000


def escape(error: UnicodeError) -> tuple[str, int]:
    """What an output's encoding has no bytes for, as JSON writes it: so a document stays one where LANG is C."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


SHORT = b"updater: the host leaves the updater no memory to begin; raise its limit (ulimit -v, MemoryMax of its unit)\n"


def main() -> None:
    try:
        _main()
    except MemoryError:  # a traceback would need more of it
        os.write(2, SHORT)
        sys.exit(1)


def _main() -> None:
    if "daemon" in sys.argv:
        from updater.service.waiter import wait_if_left

        wait_if_left()
    if os.getpid() == 1:
        from updater.service.reaper import run_below_pid_1  # here: in a container alone

        run_below_pid_1()
    codecs.register_error("escape", escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="escape")
    gc.set_threshold(OBJECTS_BEFORE_A_LOOK)
    from updater.cli import run
    from updater.service import clock

    clock.take_over()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
