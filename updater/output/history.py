"""History as rows and as JSON: what was done, when, why, on whose word, how long it took and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from probes.text import sanitize
from reconcile.storage.codec import HistoryEntry
from updater.output.format import clock_time, duration, local_time, rfc3339
from updater.output.rows import Block, Cell, Span, cell, line
from updater.output.tables import step_block
from updater.output.words import still_runs

_LINES_AT_MOST = 40
_TOLERANCE_S = 1.0  # of two clocks of one host that are read in turn
NEWS = "News"


def history_rows(events: Iterable[HistoryEntry], *, left_out: int = 0, narrowed: bool = False) -> Iterator[Block]:
    """One event a paragraph, the newest last. `left_out`: how many older ones are not among them. `narrowed`: whether
    there are others, of another kind than was asked for."""
    listed = tuple(events)
    before: HistoryEntry | None = None
    if left_out:
        older = "1 older event" if left_out == 1 else f"{left_out} older events"
        yield line(cell(f"{older}: `updater history -n {left_out + len(listed)}` has all", "dim"))
    for event, message in without_repeats(listed):
        yield from _set_back(before, event)
        before = event
        yield line(*event_cells(event, message))
        for action in event.actions:
            yield from _action_blocks(action)
    if before is None:
        yield line("nothing of that kind was done yet" if narrowed else "nothing was done yet")


def without_repeats(events: Iterable[HistoryEntry], said: Sequence[str] = ()) -> Iterator[tuple[HistoryEntry, str]]:
    """Each event, the oldest first, with its message. News of a change does not repeat the error of its action, nor a
    sentence of `said`, and is left out where it only says that a version was gone back to, as the event before it
    does."""
    errors: dict[str, list[str]] = {}  # of each agent, as `went_back` is
    went_back: set[str] = set()
    for event in events:
        name, message = event.name, event.message
        if event.reason == NEWS:
            for sentence in (*said, *errors.get(name, ())):
                message = message.replace(f"{sentence}; ", "")
        if not (name in went_back and _is_return(event, message)):
            yield event, message
        errors[name] = [str(a["error"]) for a in event.actions if a["error"]] or errors.get(name, [])
        (went_back.add if event.reason == "RolledBack" else went_back.discard)(name)


def _is_return(event: HistoryEntry, message: str) -> bool:
    """Whether it is news, once, of a version that was gone back to."""
    return event.reason == NEWS and event.count == 1 and message.startswith("back to ")


def event_cells(event: HistoryEntry, message: str) -> Iterator[Cell]:
    """An event in a line: when, of which agent, why, on whose word, what."""
    yield cell(local_time(event.at), "dim")
    yield cell(event.name, "name")
    times = f"  {event.count} times since {local_time(event.first_at)}" if event.count > 1 else ""
    if event.reason == NEWS:
        yield cell(message + times)
    else:
        yield (Span(event.reason, _kind(event)), Span(f"{on_whose_word(event)}: {message}{times}"))


def on_whose_word(event: HistoryEntry) -> str:
    """Who asked for it, where its reason does not say so."""
    return "" if event.by == "rollback" else f" by {event.by}"


def has_failed(event: HistoryEntry) -> bool:
    """Whether it reports a failure: an action's, or of what was rolled back since."""
    failed = any(action["result"] == "failed" for action in event.actions)
    return failed or (event.reason == NEWS and event.by == "rollback")


def _kind(event: HistoryEntry) -> str:
    return "bad" if has_failed(event) else "pending" if event.reason == "RolledBack" else "good"


def _set_back(before: HistoryEntry | None, event: HistoryEntry) -> Iterator[Block]:
    """Events stand in the order in which they happened, whatever the clock showed: where it was set back, say so."""
    if before is None or not event.actions:  # news has the time of a pass's begin, though other things ended meanwhile
        return
    ended = event.at + sum(float(action["seconds"]) for action in event.actions)
    if ended < before.at - _TOLERANCE_S:
        yield line(cell(f"(the clock was set back by {duration(before.at - ended)} or more)", "dim"))


def _action_blocks(action: Mapping[str, Any]) -> Iterator[Block]:
    """An action as `apply` reports it, with its time. What was skipped, after a failure, is left out."""
    if action["result"] == "skipped":
        return
    which = action["version"] or ", ".join(action.get("names", ()))
    at = clock_time(action["at"]) if action.get("at") else ""
    yield step_block(action["type"], action["result"], action["seconds"], which, at=at)
    if action["error"]:
        yield line((Span(f"{action['reason']}: ", "bad"), Span(action["error"])), indent=2)
    if action.get("outlived"):
        yield line(still_runs(action["outlived"]), indent=2)


def history_json(events: Iterable[HistoryEntry]) -> list[dict[str, Any]]:
    return [
        {
            "name": event.name,
            "first_at": rfc3339(event.first_at),
            "at": rfc3339(event.at),
            "count": event.count,
            "by": event.by,
            "reason": event.reason,
            "message": event.message,
            "actions": [
                {**action, "at": rfc3339(action["at"]) if action.get("at") else None} for action in event.actions
            ],
        }
        for event in events
    ]


def failures(events: Iterable[HistoryEntry]) -> Iterator[tuple[float, Mapping[str, Any], list[str]]]:
    """Each failed action: when (Unix seconds), the action, and the last lines that its script printed, escaped."""
    for event in events:
        for action in event.actions:
            if action["result"] == "failed":
                said = [sanitize(line) for line in str(action["evidence"]).splitlines()[-_LINES_AT_MOST:]]
                yield float(action.get("at") or event.at), action, said
