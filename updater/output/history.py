"""`hold`, `release`, `history`, `why`: an operator's hand on an agent, and what there is to know of it.

`hold` and `release` write plain files under `var/holds/` and need no lock; the next pass takes them up.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from probes.text import sanitize
from reconcile.decide.admission import duration
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.policy import is_name
from reconcile.decide.records import AgentRecord, FailureKind
from reconcile.storage.codec import HistoryEntry
from reconcile.storage.hold_files import ALL, end_hold_of_all, put_hold, put_place_release, put_release, read_requests
from reconcile.storage.store import StoredState
from updater.output.report import Palette, brief, rfc3339, told_result

_LINES_SHOWN = 40


class NoSuchName(Exception):
    """What was typed names no agent. The message is for people."""


def checked_names(names: Sequence[str], everyone: bool) -> tuple[str, ...]:
    """The names to hold or release; none: all agents. Raise NoSuchName."""
    if everyone == bool(names):
        raise NoSuchName("expected NAME... or --all, one of them")
    for name in names:
        if not is_name(name):
            raise NoSuchName(f"{name!r} is no agent's name")
    return tuple(dict.fromkeys(names))


def unknown_names(names: Iterable[str], state: StoredState, requests: Requests) -> str:
    """Say which of these names no agent has: neither managed now, nor lastly, nor refused, nor held before it comes.
    Empty: all are known, or the memory that would tell can't be read."""
    accepted = () if state.accepted is None else state.accepted.answer.entries
    known = {item.name for items in (accepted, state.records, state.refused) for item in items}
    known |= {name for name, _ in requests.holds}
    unknown = [] if state.trouble else [name for name in names if name not in known]
    if not unknown:
        return ""
    from difflib import get_close_matches

    near = {name: get_close_matches(name, known, n=1) for name in unknown}
    words = (f"{name} (did you mean `{near[name][0]}`?)" if near[name] else name for name in unknown)
    listed = f"; known: {', '.join(sorted(known))}" if known and not any(near.values()) else ""
    return f"no agent is named {', '.join(words)}{listed}"


def hold(folder: Path, name: str, reason: str, span_s: float | None) -> str:
    """Hold an agent, or all. What to tell the operator. Raise OSError."""
    now = time.time()
    until = None if span_s is None else now + span_s
    put_hold(folder, name, Hold(owner=whoami(), reason=reason, since=now, until=until))
    ends = "until it is released" if span_s is None else f"for {duration(span_s)}"
    return f"{_whom(name)} held {ends}: {reason}"


def release(folder: Path, name: str, state: StoredState) -> list[str]:
    """End an agent's hold, and ask the next pass for the end of the rest. Return what ends and what still stands, for
    the operator. Raise OSError."""
    now, requests = time.time(), read_requests(folder)
    put_release(folder, name, whoami())
    own = dict(requests.holds).get(name)
    lines = [] if own is None or not own.lasts(now) else [f"{name}: ended: {_held_by(own)}"]
    lines += [f"{name}: ends with the next pass: {what}" for what in _remembered(state.record(name))]
    if requests.for_all is not None and requests.for_all.lasts(now):
        lines.append(f"{name}: still stands: {_held_by(requests.for_all)}, of all agents (`updater release --all`)")
    return lines or [f"{name}: nothing held it"]


def release_place(folder: Path, name: str) -> list[str]:
    """Ask the next pass to give the place of an agent's group back. Return what is so, for the operator. Raise
    OSError."""
    put_place_release(folder, name)
    return [f"{name}: the place of its group in the fleet's lock is given back with the next pass; nothing else ends"]


def release_all(folder: Path, state: StoredState) -> list[str]:
    """End the hold of all agents. Return what ended and what still stands, for the operator. Raise OSError."""
    now, requests = time.time(), read_requests(folder)
    end_hold_of_all(folder)
    for_all = requests.for_all if requests.for_all is not None and requests.for_all.lasts(now) else None
    lines = ["all agents: there was no hold of all" if for_all is None else f"all agents: ended: {_held_by(for_all)}"]
    held = {name: [_held_by(hold)] for name, hold in requests.holds if hold.lasts(now)}
    for record in state.records:
        if record.name not in requests.releases:
            held.setdefault(record.name, []).extend(_remembered(record))
    return lines + [
        f"{name}: still stands: {what} (`updater release {name}`)" for name in sorted(held) for what in held[name]
    ]


def _held_by(hold: Hold) -> str:
    return f"the hold of {hold.owner} ({hold.reason})"


def _remembered(record: AgentRecord | None) -> list[str]:
    """What a release ends of what is remembered of an agent, for people."""
    if record is None:
        return []
    lines = [] if record.pin is None else [f"the pin to {record.pin.version} of {record.pin.owner}"]
    for failure in record.failures:
        rolled_back = failure.verdict is FailureKind.ROLLED_BACK
        lines.append(f"the {'quarantine' if rolled_back else 'delay'} of {failure.content.version} ({failure.reason})")
    crashed = record.crashes is not None and record.crashes.count > 0
    return [*lines, *(["the delay after its crashes"] if crashed else [])]


def whoami() -> str:
    """Who typed it, for the record: through sudo, the person before."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _whom(name: str) -> str:
    return "all agents" if name == ALL else name


def history_text(events: Iterable[HistoryEntry], paint: Palette) -> str:
    """What was done, one event a paragraph, the newest last."""
    lines: list[str] = []
    for event in events:
        times = f"  {event.count} times since {rfc3339(event.first_at)}" if event.count > 1 else ""
        head = f"{rfc3339(event.at)}  {paint('bold', event.name)}"
        if event.reason == "News":
            lines.append(f"{head}  {event.message}{times}")
            continue
        lines.append(f"{head}  {event.reason} by {event.by}: {event.message}{times}")
        lines += [_action_line(action, paint) for action in event.actions]
    return "\n".join(lines) or "nothing was done yet"


def _action_line(action: Any, paint: Palette) -> str:
    """As `apply` told it, and in the same columns."""
    result, error = action["result"], f"\n      {action['reason']}: {action['error']}" if action["error"] else ""
    took = paint("dim", f"{'' if result == 'skipped' else brief(action['seconds']):>6}")
    left = f"\n      status says stopped, and it still runs: {action['outlived']}" if action.get("outlived") else ""
    which = action["version"] or ", ".join(action.get("names", ()))
    return f"    {action['type']:<10} {told_result(result, paint)}  {took}  {which}".rstrip() + error + left


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


def evidence_text(events: Iterable[HistoryEntry], paint: Palette) -> str:
    """The last failures with the control script's own words."""
    lines: list[str] = []
    for at, head, said in failures(events):
        lines.append(f"  {rfc3339(at)}  {head}")
        lines += [f"    | {line}" for line in said]
    return "\n".join([paint("bold", "last failures"), *lines]) if lines else ""


def failures(events: Iterable[HistoryEntry]) -> Iterator[tuple[float, str, list[str]]]:
    """Of each failed action: when (Unix seconds), what in a line, and the last lines that its script said, escaped."""
    for event in events:
        for action in event.actions:
            if action["result"] == "failed":
                said = [sanitize(line) for line in str(action["evidence"]).splitlines()[-_LINES_SHOWN:]]
                yield event.at, f"{action['type']}: {action['reason']}: {action['error']}", said
