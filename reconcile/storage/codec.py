"""The JSON forms of what is no plain value (probes/codec.py): answers, whose entries are of two kinds, and events.

A form that can't be read raises ValueError, KeyError or TypeError; store.py takes that for a damaged memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.codec import decode, encode
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune
from reconcile.source import Answer, DesiredSignature, Entry, Malformed

EVIDENCE_LIMIT = 64 * 1024  # characters of a failure that are kept


@frozen(kw_only=True)
class HistoryEvent:
    """One line of history: a plan that was carried out, or news. `at`: Unix seconds of when it began. `by`: on whose
    word: `server`, `rollback`, `heal` or `operator:NAME`. `reason`, `message`: why it was done; of news `message` says
    what became of a switch."""

    name: str
    at: float
    by: str = "server"
    reason: str
    message: str
    outcomes: tuple[Outcome, ...] = ()


@frozen(kw_only=True)
class HistoryEntry:
    """An event as it is read back. `count`: how often it happened in a row, from `first_at` to `at`. `actions`: each
    with type, about, result, at, seconds, reason, error, evidence; the events of older versions have no `at` there."""

    name: str
    first_at: float
    at: float
    count: int
    by: str = "server"
    reason: str
    message: str
    actions: tuple[Mapping[str, Any], ...]


def event_to_json(event: HistoryEvent) -> dict[str, Any]:
    return {
        "by": event.by,
        "reason": event.reason,
        "message": event.message,
        "actions": [_outcome_to_json(outcome) for outcome in event.outcomes],
    }


def likeness(event: HistoryEvent) -> str:
    """What two events share that are listed as one, counted: all but their times. It has no half of a surrogate pair,
    whatever they say: SQLite takes none."""
    ends = "; ".join(f"{o.action.type} {o.result.value} {o.reason} {o.error}" for o in event.outcomes)
    return f"{event.by}: {event.reason}: {event.message}: {ends}".encode("utf-8", "backslashreplace").decode()


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    left = {"outlived": outcome.outlived} if outcome.outlived else {}
    removed = {"names": list(outcome.action.names)} if isinstance(outcome.action, Prune) else {}
    return {
        "type": outcome.action.type,
        **removed,
        **left,
        "version": getattr(outcome.action, "to", getattr(outcome.action, "version", None)),
        "result": outcome.result.value,
        "attempts": outcome.attempts,
        "at": outcome.at or None,
        "seconds": round(outcome.seconds, 3),
        "reason": outcome.reason,
        "error": outcome.error,
        "evidence": outcome.evidence[-EVIDENCE_LIMIT:],
    }


def answer_to_json(answer: Answer) -> dict[str, Any]:
    kinds = {Entry: "entry", Malformed: "malformed"}
    signed = {} if answer.signature is None else {"signature": encode(answer.signature)}
    return {
        **signed,
        "came_from": answer.came_from,
        "entries": [{"kind": kinds[type(entry)], **encode(entry)} for entry in answer.entries],
    }


def answer_from_json(stored: Mapping[str, Any]) -> Answer:
    kinds = {"entry": Entry, "malformed": Malformed}
    entries = [
        decode(kinds[entry["kind"]], {key: value for key, value in entry.items() if key != "kind"})
        for entry in stored["entries"]
    ]
    signature = decode(DesiredSignature | None, stored.get("signature"))
    return Answer(came_from=stored["came_from"], entries=tuple(entries), signature=signature)
