"""`hold`, `release`, `history`, `why`: an operator's hand on an agent, and what there is to know of it.

`hold` and `release` write plain files under `var/holds/` and need no lock; the next pass takes them up.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from probes.status_text import printable
from reconcile.decide.gate import duration
from reconcile.decide.hold import Hold
from reconcile.decide.policy import is_name
from reconcile.holds import ALL, put_hold, put_release
from reconcile.kept import Told
from updater.render import Palette, brief, rfc3339, told_result

_LINES_SHOWN = 40


class NoSuchName(Exception):
    """What was typed is no agent's name. The message is for people."""


def checked_name(name: str | None, everyone: bool) -> str:
    """The name to hold or release, or the word for all. Raise NoSuchName."""
    if everyone == (name is not None):
        raise NoSuchName("expected NAME or --all, one of them")
    if name is not None and not is_name(name):
        raise NoSuchName(f"{name!r} is no agent's name")
    return ALL if name is None else name


def hold(folder: Path, name: str, reason: str, span_s: float | None) -> str:
    """Hold an agent, or all. What to tell the operator. Raise OSError."""
    now = time.time()
    until = None if span_s is None else now + span_s
    put_hold(folder, name, Hold(owner=whoami(), reason=reason, since=now, until=until))
    ends = "until it is released" if span_s is None else f"for {duration(span_s)}"
    return f"{_whom(name)} held {ends}: {reason}"


def release(folder: Path, name: str) -> str:
    """Lift holds, and ask the next pass for the end of pins and quarantine. Raise OSError."""
    lifted = "hold lifted; " if put_release(folder, name) else ""
    return f"{_whom(name)}: {lifted}pins, quarantine and delays end with the next pass"


def whoami() -> str:
    """Who typed it, for the record: through sudo, the person before."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _whom(name: str) -> str:
    return "all agents" if name == ALL else name


def history_text(events: Iterable[Told], paint: Palette) -> str:
    """What was done, one event a paragraph, the newest last."""
    lines: list[str] = []
    for event in events:
        times = f"  {event.count} times since {rfc3339(event.first_at)}" if event.count > 1 else ""
        head = f"{rfc3339(event.at)}  {paint('bold', event.name)}"
        if event.reason == "News":
            lines.append(f"{head}  {event.message}{times}")
            continue
        lines.append(f"{head}  {event.reason}: {event.message}{times}")
        lines += [_action_line(action, paint) for action in event.actions]
    return "\n".join(lines) or "nothing was done yet"


def _action_line(action: Any, paint: Palette) -> str:
    """As `apply` told it, and in the same columns."""
    result, error = action["result"], f"\n      {action['reason']}: {action['error']}" if action["error"] else ""
    took = paint("dim", f"{'' if result == 'skipped' else brief(action['seconds']):>6}")
    which = action["version"] or ", ".join(action.get("names", ()))
    return f"    {action['type']:<10} {told_result(result, paint)}  {took}  {which}".rstrip() + error


def history_json(events: Iterable[Told]) -> list[dict[str, Any]]:
    return [
        {
            "name": event.name,
            "first_at": rfc3339(event.first_at),
            "at": rfc3339(event.at),
            "count": event.count,
            "reason": event.reason,
            "message": event.message,
            "actions": list(event.actions),
        }
        for event in events
    ]


def evidence_text(events: Iterable[Told], paint: Palette) -> str:
    """The last failures with the control script's own words."""
    lines: list[str] = []
    for at, head, said in failures(events):
        lines.append(f"  {rfc3339(at)}  {head}")
        lines += [f"    | {line}" for line in said]
    return "\n".join([paint("bold", "last failures"), *lines]) if lines else ""


def failures(events: Iterable[Told]) -> Iterator[tuple[float, str, list[str]]]:
    """Of each failed action: when (Unix seconds), what in a line, and the last lines that its script said, escaped."""
    for event in events:
        for action in event.actions:
            if action["result"] == "failed":
                said = [printable(line) for line in str(action["evidence"]).splitlines()[-_LINES_SHOWN:]]
                yield event.at, f"{action['type']}: {action['reason']}: {action['error']}", said
