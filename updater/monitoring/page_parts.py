"""What the parts of the page share: marks, badges, messages as prose, and times by one clock. Pure."""

from __future__ import annotations

import re

from probes.values import frozen
from reconcile.decide.admission import duration
from reconcile.decide.conditions import FALSE, TRUE, Condition
from updater.monitoring.html import Html, join, tag
from updater.output.format import rfc3339

MARKS = {"good": "✓", "pending": "…", "held": "‖", "bad": "✕", "quiet": "·", "back": "↩"}
_COLOURS = {"good": "1a7f37", "pending": "9a6700", "held": "5b5bd6", "bad": "c4281c", "quiet": "6b7280"}
# The ages in messages of a plan (reconcile/decide/admission.py): they were right when the plan was made.
_AHEAD = re.compile(r"((?:again|opens|fetch,) in |changes, )(?:\d+[smhd]){1,2}")
_SINCE = re.compile(r"(group \S+ since )((?:\d+[smhd]){1,2})")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@frozen
class Clock:
    """`now`: when the page is made. `planned_at`: when what it tells was planned."""

    now: float
    planned_at: float

    def ago(self, at: float) -> Html:
        """A time that has passed, as people say it; in full where one points at it."""
        text = "just now" if self.now - at < 1 else f"{duration(self.now - at)} ago"
        return tag("time", text, datetime=rfc3339(at), title=rfc3339(at))

    def ahead(self, at: float) -> Html:
        text = "now" if at - self.now < 1 else f"in {duration(at - self.now)}"
        return tag("time", text, datetime=rfc3339(at), title=rfc3339(at))

    def left(self, at: float) -> Html:
        return tag("time", f"{duration(max(1.0, at - self.now))} more", datetime=rfc3339(at), title=rfc3339(at))

    def span(self, since: float) -> str:
        return duration(max(0.0, self.now - since))

    def message(self, text: str, until: float | None) -> Html:
        """What a plan says, its ages by this clock."""
        if until is not None:
            text = _AHEAD.sub(lambda found: f"{found[1]}{duration(max(1.0, until - self.now))}", text)
        return prose(_SINCE.sub(lambda found: f"{found[1]}{duration(self._grown(found[2]))}", text))

    def _grown(self, age: str) -> float:
        then = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", age))
        return then + max(0.0, self.now - self.planned_at)


def prose(text: str) -> Html:
    """A message, with what stands between its backquotes (or `these', as GNU's tools write) as what one types."""
    parts = re.split(r"`([^`'\n]+)[`']", text)
    return join(*(tag("code", part) if number % 2 else part.replace("`", "'") for number, part in enumerate(parts)))


def arrows(text: str) -> str:
    """A change of versions, as a page can write it."""
    return text.replace("->", "→")


def badge(kind: str, text: str) -> Html:
    """A state: its mark and its word; the colour only repeats them."""
    return tag("span", mark(kind), text, class_=f"badge {kind}")


def mark(kind: str) -> Html:
    return tag("span", MARKS[kind], class_=f"mark {kind}", aria_hidden="true")


def condition_kind(condition: Condition) -> str:
    if condition.type in ("Held", "Quarantined"):
        return "held" if condition.status == TRUE else "quiet"
    return {TRUE: "good", FALSE: "bad"}.get(condition.status, "pending")


def icon(kind: str) -> str:
    circle = f"%3Ccircle cx='8' cy='8' r='7' fill='%23{_COLOURS[kind]}'/%3E"
    return f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E{circle}%3C/svg%3E"
