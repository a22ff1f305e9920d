"""What was done, as a list on the page, the newest first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from reconcile.storage.codec import HistoryEntry as Event
from updater.monitoring.html import Html, join, tag
from updater.monitoring.page_parts import Clock, arrows, mark, prose
from updater.output.format import brief
from updater.output.history import NEWS, on_whose_word, without_repeats

_EVENTS_AT_FIRST = 15  # the others are there to be opened
_KINDS = {NEWS: "quiet", "RolledBack": "back"}  # of events in which nothing failed, by their reason; else good
_RESULTS = {"done": "good", "unchanged": "good", "failed": "bad"}


def history_list(history: tuple[Event, ...], named: Set[str], clock: Clock) -> Html:
    """`named`: the agents that the page has, or the other view of it."""
    if not history:
        return tag("p", "Nothing was done yet.", class_="empty")
    # Agents are recorded when their plans end: the times of one lie among another's.
    found = sorted(without_repeats(history), key=lambda one: one[0].at)[::-1]
    events = [_event(event, message, clock, is_named=event.name in named) for event, message in found]
    older = events[_EVENTS_AT_FIRST:]
    return join(
        tag("ol", *events[:_EVENTS_AT_FIRST], class_="history"),
        tag("details", tag("summary", f"{len(older)} older"), tag("ol", *older, class_="history"), id="older")
        if older
        else None,
    )


def _event(event: Event, message: str, clock: Clock, *, is_named: bool) -> Html:
    tried = [action for action in event.actions if action["result"] != "skipped"]
    failed = [action for action in tried if action["result"] == "failed"]
    kind = "bad" if failed else _KINDS.get(event.reason, "good")
    name = tag("a", event.name, href=f"/#agent-{event.name}") if is_named else event.name
    return tag(
        "li",
        tag("div", clock.ago(event.at), class_="when muted"),
        tag(
            "div",
            tag("p", mark(kind), tag("b", name), " ", _why(event), prose(arrows(message)), _times(event, clock)),
            tag("p", *map(_done, tried), class_="actions") if tried else None,
            *(tag("p", prose(f"{action['reason']}: {action['error']}"), class_="error") for action in failed),
        ),
        class_=kind,
    )


def _why(event: Event) -> Html | None:
    return None if event.reason == NEWS else tag("span", f"{event.reason}{on_whose_word(event)}: ", class_="muted")


def _times(event: Event, clock: Clock) -> Html | None:
    """How often the same was done in a row, where that is more than once."""
    if event.count == 1:
        return None
    return tag("span", f" {event.count} times, first ", clock.ago(event.first_at), class_="muted")


def _done(action: Mapping[str, Any]) -> Html:
    """A step that was tried; what was skipped after it failed is left out."""
    result = str(action["result"])
    took = tag("span", f" {brief(action['seconds'])}", class_="muted")
    version = "".join(f" {name}" for name in (action["version"], *action.get("names", ())) if name)
    word = tag("span", f" {result}", class_="unseen")
    return join(tag("span", mark(_RESULTS[result]), f"{action['type']}{version}", word, took, class_="action"), " ")
