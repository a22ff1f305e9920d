"""`python -m updater`, and the console script `updater`."""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Loading modules makes many objects and no garbage: with Python's own 700 it is collected 50 times before `plan` has
# begun, which takes 4 ms.
OBJECTS_BEFORE_A_COLLECTION = 50_000


def escape(error: UnicodeError) -> tuple[str, int]:
    """What an output's encoding has no bytes for, as JSON writes it: so a document stays one where LANG is C."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


class _StandardOutput(io.FileIO):
    """What can't be written ends it as a pipe whose reader has gone: a terminal that has (EIO) wants the rest no more,
    and any other trouble (a full disk) is stored, to be reported at the end."""

    trouble: OSError | None = None

    def write(self, content: Buffer) -> int:
        try:
            return super().write(content)
        except OSError as err:
            if err.errno not in (errno.EIO, errno.EPIPE):
                self.trouble = err
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None


class _StandardError(io.FileIO):
    """What can't be written there is lost: it could be reported nowhere, and nothing depends on it."""

    def write(self, content: Buffer) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def own_streams() -> _StandardOutput:
    """Have standard streams that a terminal or a reader may leave, and that exist: else the next file that is opened
    would take the place of one that was closed, and get what is printed. Return standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    out = _StandardOutput(1, "w", closefd=False)
    sys.stdout = _stream(sys.stdout, out)
    sys.stderr = _stream(sys.stderr, _StandardError(2, "w", closefd=False))
    return out


def _stream(as_made: TextIO | None, raw: io.FileIO) -> io.TextIOWrapper:
    """A text stream such as Python made, over other bytes."""
    encoding = "utf-8" if as_made is None else as_made.encoding
    at_once = raw.isatty() or raw.fileno() == 2
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="escape", line_buffering=at_once)
    return stream


SHORT = b"updater: the host leaves the updater no memory to begin; raise its limit (ulimit -v, MemoryMax of its unit)\n"


def main() -> None:
    try:
        _main()
    except (MemoryError, SystemError):  # a traceback would need more of it; SystemError: one that an import lost
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
    out = own_streams()
    gc.set_threshold(OBJECTS_BEFORE_A_COLLECTION)
    from updater.cli import run
    from updater.service import clock

    clock.take_over()
    try:
        code = run(sys.argv[1:])
    except SystemExit as end:  # after `--help` and `--version` argparse ends by itself
        code = int(end.code or 0)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # its reader has gone: Python would complain of that at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if out.trouble is not None:
        print(f"updater: standard output can't be written: {out.trouble.strerror}", file=sys.stderr)
        code = 1
    gc.freeze()  # else Python looks through all that was loaded once more before it ends
    sys.exit(code)


if __name__ == "__main__":
    main()
