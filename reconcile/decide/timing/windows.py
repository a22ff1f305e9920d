"""When what is in use may be changed: the host's maintenance windows (docs/interface.md, section 7). Pure.

A window opens at a time of the wall clock and stays open for a span of real time. A time that daylight saving skips
or doubles is taken once: a window at 02:30 opens at 03:30 on the day that has no 02:30, and at the first 02:30 where
there are two.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone, tzinfo

from probes.values import frozen

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_S = 24 * 3600.0


@frozen(kw_only=True)
class Window:
    """`days`: of the week on which it opens, 0 for Monday. `start`: minutes after midnight. `length`: seconds."""

    days: frozenset[int] = frozenset(range(7))
    start: int
    length: float

    def opens_on(self, day: date, zone: tzinfo) -> float | None:
        """When it opens on this day, as Unix seconds; None where it does not."""
        if day.weekday() not in self.days:
            return None
        hour, minute = divmod(self.start, 60)
        # fold=0: the first of two equal times; one that is skipped is read with the offset before the gap.
        return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()


@frozen(kw_only=True)
class Windows:
    """All windows of a host. `zone` None: the host does not know the time zone, and all are closed."""

    windows: tuple[Window, ...]
    zone: tzinfo | None = timezone.utc

    def is_open(self, now: float) -> bool:
        """Whether one of them is open at `now`, Unix seconds."""
        # One that opened the day before yesterday may last until today where a day has 23 hours.
        return any(at <= now < at + window.length for window, at in self._openings(now, range(-2, 1)))

    def opens_at(self, now: float) -> float | None:
        """When the next one opens, as Unix seconds after `now`; None: that is not known."""
        return min((at for _, at in self._openings(now, range(0, 9)) if at > now), default=None)

    def _openings(self, now: float, days: Iterable[int]) -> Iterable[tuple[Window, float]]:
        if self.zone is None:
            return
        for day in days:
            try:
                on = datetime.fromtimestamp(now, self.zone).date() + timedelta(days=day)
                openings = [(window, window.opens_on(on, self.zone)) for window in self.windows]
            except (OverflowError, ValueError, OSError):  # a clock that is out of all calendars
                continue
            yield from ((window, at) for window, at in openings if at is not None)
