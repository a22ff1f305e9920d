"""Times, spans and sizes as people read them. Decides nothing."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from reconcile.decide.admission import duration

__all__ = ["CLOCK_SET_BACK", "age", "brief", "bytes_of", "clock_time", "duration", "local_time", "rfc3339"]

CLOCK_SET_BACK = "before the clock was set back"
_TOLERANCE_S = 1.0  # whole seconds are kept, and two clocks of one host may be read in turn


def rfc3339(seconds: float) -> str:
    """A time in UTC for programs, e.g. 2026-11-24T02:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def local_time(seconds: float) -> str:
    """A time of this host's zone for people, as the log has it: 2026-11-24 03:00:00+01:00."""
    return _local(seconds).isoformat(sep=" ", timespec="seconds")


def clock_time(seconds: float) -> str:
    """The same without its day and zone, beside a line that has them: 03:00:00."""
    return f"{_local(seconds):%H:%M:%S}"


def _local(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, ValueError, OSError):  # a zone that can't be applied to so far a time
        return datetime.fromtimestamp(seconds, timezone.utc)


def age(since: float, now: float) -> str:
    """Return how long something has been so. A clock that was set back makes none negative: it is said."""
    if since > now + _TOLERANCE_S:
        return f"since {CLOCK_SET_BACK}"
    return f"for {duration(max(0.0, now - since))}"


def bytes_of(count: float) -> str:
    """A number of bytes for eyes: 512 B, 4.2 KiB, 118 MiB."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB"):
        if count < 1000:
            break
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"


def brief(seconds: float) -> str:
    """How long an action took: 12 ms, 0.5 s, 2m03s."""
    if seconds < 0.095:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)
