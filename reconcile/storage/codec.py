"""The JSON forms of what the store keeps: answers, records, conditions, events. No SQL, no files.

A form that can't be read raises ValueError, KeyError or TypeError; store.py takes that for a damaged memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import asdict

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.actions import Outcome, Prune, ResponseFingerprint
from reconcile.decide.conditions import Condition
from reconcile.decide.records import (
    AgentRecord,
    Awaited,
    ConfigMemory,
    Content,
    ControlCall,
    Crashes,
    DigestFile,
    Failure,
    FailureKind,
    LateFetch,
    PendingUpgrade,
    Pin,
    UpgradePhase,
)
from reconcile.source import Answer, DesiredSignature, Entry, Fault, Malformed, Rollout

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
    """What two events share that are told as one, counted: all but their times. It has no half of a surrogate pair,
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
    signed = {} if answer.signature is None else {"signature": asdict(answer.signature)}
    return {
        **signed,
        "came_from": answer.came_from,
        "entries": [{"kind": kinds[type(entry)], **asdict(entry)} for entry in answer.entries],
    }


def entries_to_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [asdict(entry) for entry in entries]


def entries_from_json(kept: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    return tuple(map(_entry, kept))


def _entry(kept: Mapping[str, Any]) -> Entry:
    rollout, faults = kept.get("rollout"), tuple(Fault(**fault) for fault in kept.get("faults", ()))
    return Entry(**{**kept, "rollout": None if rollout is None else Rollout(**rollout), "faults": faults})


def answer_from_json(kept: Mapping[str, Any]) -> Answer:
    classes: dict[str, Callable[[Mapping[str, Any]], Entry | Malformed]] = {
        "entry": _entry,
        "malformed": lambda fields: Malformed(**fields),
    }
    entries = [
        classes[entry["kind"]]({key: value for key, value in entry.items() if key != "kind"})
        for entry in kept["entries"]
    ]
    signature = kept.get("signature")
    return Answer(
        came_from=kept["came_from"],
        entries=tuple(entries),
        signature=None if signature is None else DesiredSignature(**signature),
    )


def record_to_json(record: AgentRecord) -> dict[str, Any]:
    def plain(_: object, __: object, value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        return sorted(value) if isinstance(value, frozenset) else value

    return asdict(record, value_serializer=plain)


def record_from_json(kept: Mapping[str, Any]) -> AgentRecord:
    fields = dict(kept)
    config, pin, crashes = fields["config"], fields["pin"], fields["crashes"]
    digest_file = fields["digest_file"]
    return AgentRecord(
        name=fields["name"],
        work_dir=fields["work_dir"],
        run_user=fields["run_user"],
        config=None if config is None else ConfigMemory(**config),
        delivering=fields["delivering"],
        remote_config=None if fields["remote_config"] is None else ConfigMemory(**fields["remote_config"]),
        digest_file=None if digest_file is None else DigestFile(**digest_file),
        confirmation=_confirmation(fields["confirmation"]),
        good=_content(fields["good"]),
        good_before=tuple(_known_content(content) for content in fields["good_before"]),
        fallback=_content(fields["fallback"]),
        interrupted=_content(fields["interrupted"]),
        never_up=_content(fields["never_up"]),
        failures=tuple(_failure(failure) for failure in fields["failures"]),
        crashes=None if crashes is None else Crashes(**crashes),
        stopped_by_us=fields["stopped_by_us"],
        pin=None if pin is None else Pin(**pin),
        calls=tuple(ControlCall(**call) for call in fields["calls"]),
        used=tuple(fields["used"]),
        told_to_stop=tuple(fields["told_to_stop"]),
        stuck=frozenset(fields["stuck"]),
        empty_released=fields["empty_released"],
        awaited=_awaited(fields["awaited"]),
        late_fetch=_late_fetch(fields["late_fetch"]),
        conditions=conditions_from_json(fields["conditions"]),
    )


def _content(kept: Mapping[str, Any] | None) -> Content | None:
    if kept is None:
        return None
    fields = {**kept, "digests": frozenset(kept["digests"]), "at": _place(kept.get("at"))}
    return Content(**fields)


def _place(kept: Mapping[str, Any] | None) -> HomeRef | None:
    return None if kept is None else HomeRef(**kept)


def _awaited(kept: Mapping[str, Any] | None) -> Awaited | None:
    return None if kept is None else Awaited(content=_content(kept["content"]), since=kept["since"])


def _late_fetch(kept: Mapping[str, Any] | None) -> LateFetch | None:
    return None if kept is None else LateFetch(content=_known_content(kept["content"]), runs=kept["runs"])


def _known_content(kept: Mapping[str, Any]) -> Content:
    content = _content(kept)
    if content is None:
        raise ValueError("content is missing")
    return content


def _confirmation(kept: Mapping[str, Any] | None) -> PendingUpgrade | None:
    if kept is None:
        return None
    fields = {
        **kept,
        "to": _known_content(kept["to"]),
        "before": _content(kept["before"]),
        "stage": UpgradePhase(kept["stage"]),
        "left": _place(kept.get("left")),
    }
    return PendingUpgrade(**fields)


def _failure(kept: Mapping[str, Any]) -> Failure:
    fields = {
        **kept,
        "content": _known_content(kept["content"]),
        "verdict": FailureKind(kept["verdict"]),
        "served": None if kept["served"] is None else ResponseFingerprint(**kept["served"]),
        "place": _place(kept.get("place")),
    }
    return Failure(**fields)


def conditions_from_json(kept: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    return tuple(Condition(**condition) for condition in kept)
