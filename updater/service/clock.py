"""The wall clock, also where it shows what Python can't count with: a time beyond 2262.

What asks for the time must get one that goes on: else a daemon would end of it, or never make another pass.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_LATEST = 9_000_000_000.0  # in 2255: Python counts nanoseconds since 1970 in 63 bits, which end in 2262
_real = time.time


def now() -> float:
    """Seconds since 1970, by this host's clock; where that is of no use, by one that goes on from a far time."""
    try:
        seconds = _real()
    except (OverflowError, OSError):
        seconds = _LATEST + 1
    return seconds if seconds <= _LATEST else _LATEST + time.monotonic()


def is_of_use() -> bool:
    """Whether this host's clock shows a time that can be counted with, and so be waited for."""
    return now() <= _LATEST


def take_over() -> None:
    """Have all that asks for the time in this process ask here, the libraries that we use included."""
    time.time = now
    time.time_ns = lambda: int(now() * 1e9)
    if not is_of_use():
        _load_log()


def _load_log() -> None:
    """Load loguru, which notes the time as it is loaded, by a way that ends in an exception where the clock shows
    none."""
    import datetime

    class Far(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now(), tz)

    real, datetime.datetime = datetime.datetime, Far  # type: ignore[misc]
    try:
        import loguru  # noqa: F401
    finally:
        datetime.datetime = real  # type: ignore[misc]
