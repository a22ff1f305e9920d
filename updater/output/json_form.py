"""Reports as JSON: docs/interface.md, section 4."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from probes.observed import HomeRef, ObservedAgent
from probes.text import redact_url
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    Held,
    MoveHome,
    Outcome,
    Prune,
    Result,
    Start,
    Stop,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import DesiredAgent, Digest, Refusal
from updater.output.format import rfc3339
from updater.output.report import NOTHING, AgentReport, Report, healing, ruled_out
from updater.output.words import place_asked, strongest

FORMAT_VERSION = "1.0"


def to_document(kind: str, content: Mapping[str, Any]) -> str:
    """The one document that goes to standard output with `-o json`."""
    return json.dumps({"format_version": FORMAT_VERSION, "kind": kind, **content}, indent=2, ensure_ascii=False)


def to_json(document: Report) -> str:
    found = document.assessment
    content: dict[str, Any] = {
        "host": document.host,
        "created_at": rfc3339(found.at),
        "desired_from": found.came_from,
        "desired_age_s": round(max(0.0, found.at - found.desired_at)),
        **({} if found.signature is None else {"desired_serial": found.signature.serial}),
        "agents": [agent_to_json(agent, found.at, executed=document.kind == "Result") for agent in document.agents],
        "refused": refused_to_json((*found.refused, *ruled_out(document))),
        "conditions": [_condition_to_json(condition) for condition in document.conditions],
        "releases": sorted(found.requests.releases),
    }
    if found.nothing_desired:
        content["agents"] = [_bystander_to_json(agent) for agent in found.bystanders]
    content["summary"] = {
        "agents": len(content["agents"]),
        "pending": document.pending,
        "held": document.held,
        "actions": sum(len(agent["actions"]) + len(agent["heal"]) for agent in content["agents"]),
    }
    return to_document(document.kind, content)


def agent_to_json(agent: AgentReport, now: float, *, executed: bool = False) -> dict[str, Any]:
    """`executed`: each action has a result; one that was not begun, since its change is held, was skipped."""
    view = agent.view
    acted = {id(outcome.action): outcome for outcome in agent.outcomes}

    def to_json(action: Action) -> dict[str, Any]:
        skipped = Outcome(action=action, result=Result.SKIPPED) if executed else None
        return _action_to_json(action, acted.get(id(action), skipped))

    planned, heal = view.plan.actions, healing(view)
    known = (*planned, *view.due.actions, *heal)
    extra = [o.action for o in agent.outcomes if not any(o.action is a for a in known)]
    return {
        "name": view.desired.name,
        "run_user": view.desired.run_user,
        "work_dir": view.desired.work_dir,
        "observed": _observed_to_json(agent.observed) | _elsewhere_to_json(agent),
        "desired": _desired_to_json(view.desired, view.remote.digests),
        "reason": view.plan.reason,
        "message": view.plan.message,
        "actions": [
            to_json(action) | ({"asks_place_of": view.place_group} if place_asked(view, action) else {})
            for action in (*planned, *extra)
        ],
        "held": None if agent.held is None else _held_to_json(agent.held, to_json),
        "heal": [to_json(action) for action in heal],
        "conditions": [_condition_to_json(condition) for condition in agent.conditions],
    }


def refused_to_json(refused: Iterable[Refusal]) -> list[dict[str, str]]:
    return [{"name": r.name, "reason": r.reason, "rule": r.rule, "message": r.message} for r in refused]


def _held_to_json(held: Held, to_json: Callable[[Action], dict[str, Any]]) -> dict[str, Any]:
    return {
        "reason": held.reason,
        "until": None if held.until is None else rfc3339(held.until),
        "message": held.message,
        "meanwhile": [to_json(action) for action in held.meanwhile.actions],
    }


def _bystander_to_json(agent: ObservedAgent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "run_user": agent.home.run_user,
        "work_dir": agent.home.work_dir,
        "observed": _observed_to_json(agent),
        "desired": None,
        "reason": "NothingDesired",
        "message": NOTHING,
        "actions": [],
        "held": None,
        "heal": [],
        "conditions": [],
    }


def _observed_to_json(agent: ObservedAgent) -> dict[str, Any]:
    active = agent.active
    return {
        "version": agent.version_text,
        "status": None if active is None else active.process.value,
        "installed": list(agent.installed),
        "digest": None if active is None else strongest(active.tree.digests),
    }


def _elsewhere_to_json(agent: AgentReport) -> dict[str, str]:
    """Where it lives, if that is not where it is wanted."""
    lives, wanted = agent.observed.home, agent.view.desired.home
    return {} if lives.same_home(wanted) else _home_to_json(lives)


def _home_to_json(home: HomeRef) -> dict[str, str]:
    return {"work_dir": home.work_dir, "run_user": home.run_user}


def _desired_to_json(desired: DesiredAgent, digests: Iterable[Digest]) -> dict[str, Any]:
    return {
        "version": desired.version,
        "cmd": desired.run.value,
        "digest": strongest(str(digest) for digest in digests),
    }


def _action_to_json(action: Action, outcome: Outcome | None) -> dict[str, Any]:
    content: dict[str, Any] = {"type": action.type}
    match action:
        case Fetch():
            content |= _url_to_json(action.url)
        case Verify():
            content["digest"] = strongest(str(digest) for digest in action.digests)
            if action.signing is not None:
                content["signature"] = redact_url(action.signing.url)
        case Unpack():
            content["version"] = action.version
        case Configure():
            content |= {"file": action.name, "digest": action.digest}
        case Stop() | Start():
            content["version"] = action.version
        case SwitchVersion() | SwitchTree() | SwitchConfig():
            content |= {"from": action.from_version, "to": action.to}
        case MoveHome():
            content |= {"from": action.from_version, "to": action.to, "leaves": _home_to_json(action.leaves)}
        case Prune():
            content["names"] = list(action.names)
        case _:
            assert_never(action)
    if not isinstance(action, Fetch | Verify) and action.at is not None:
        content |= _home_to_json(action.at)
    return content if outcome is None else content | _outcome_to_json(outcome)


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "result": outcome.result.value,
        "attempts": outcome.attempts,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error or None,
        **({"outlived": outcome.outlived} if outcome.outlived else {}),
    }


def _url_to_json(url: str) -> dict[str, str]:
    """An URL as people may see it. Of the secrets left out of it, 32 bits of a digest tell only that they changed."""
    if not url or redact_url(url) == url:
        return {"url": url}
    import hashlib

    return {"url": redact_url(url), "url_digest": hashlib.sha256(url.encode()).hexdigest()[:8]}


def _condition_to_json(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "since": rfc3339(condition.since),
    }
