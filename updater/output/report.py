"""Plans, results and states as people and programs read them: text, and JSON as docs/interface.md, section 4, has it.

It formats values; it decides nothing and reads nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from probes.observed import HomeRef, ObservedAgent
from probes.text import redact_url
from probes.values import frozen
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
    Switch,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.decide.admission import duration
from reconcile.decide.conditions import Condition, is_ready, ready_of, with_since
from reconcile.decide.desired import DesiredAgent, Digest, Refusal, RunState
from reconcile.decide.evaluate import AgentEvaluation, conditions_of
from reconcile.engine.pass_context import Assessment

FORMAT_VERSION = "1.0"
# In which colour of a Palette the result of an action is told.
RESULTS = {"done": "good", "unchanged": "good", "failed": "bad", "skipped": "dim"}
_COLOURS = {"good": "32", "bad": "31", "pending": "33", "dim": "2", "bold": "1"}


@frozen(kw_only=True)
class AgentReport:
    """One agent as it is told: what was assessed, what came of it (of `plan` and `status`: nothing), how it is now."""

    view: AgentEvaluation
    observed: ObservedAgent
    conditions: tuple[Condition, ...]
    outcomes: tuple[Outcome, ...] = ()

    @property
    def ready(self) -> bool:
        return is_ready(self.conditions)

    @property
    def acted(self) -> bool:
        """Whether an action came to something."""
        return any(outcome.result is not Result.SKIPPED for outcome in self.outcomes)

    @property
    def held_by_operator(self) -> bool:
        verdict = self.view.verdict
        return isinstance(verdict, Held) and verdict.reason == "HeldByOperator"

    @property
    def waits_as_wanted(self) -> bool:
        """Whether it is no trouble that it is not as desired: an operator holds it, or it waits as is wanted."""
        return self.held_by_operator or self.view.waits_as_wanted


@frozen(kw_only=True)
class Report:
    """All that a command tells. `kind`: Plan, Result or Status. `conditions`: of the updater itself."""

    kind: str
    host: str
    assessment: Assessment
    agents: tuple[AgentReport, ...]
    conditions: tuple[Condition, ...]

    @property
    def pending(self) -> int:
        return sum(is_pending(told.view) for told in self.agents)

    @property
    def held(self) -> int:
        return sum(isinstance(told.view.verdict, Held) for told in self.agents)

    def has_news(self, of_agents: Iterable[bool]) -> bool:
        """Whether there is something to tell who wants to hear of nothing usual: of an agent, or besides them."""
        found = self.assessment
        troubled = any(c.status == "False" for c in self.conditions)
        besides = found.refused or found.nothing_desired or found.requests.releases or troubled
        return any(of_agents) or bool(besides)


@frozen
class Palette:
    """Colours, or none."""

    on: bool

    def __call__(self, kind: str, text: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.on and text else text


def assessed(view: AgentEvaluation, now: float) -> AgentReport:
    """An agent before anything is done with it."""
    before = () if view.record is None else view.record.conditions
    return AgentReport(view=view, observed=view.observed, conditions=with_since(conditions_of(view), before, now))


def is_pending(view: AgentEvaluation) -> bool:
    """Whether something is to be done, or would be if it were not held for another reason than an operator's."""
    held = isinstance(view.verdict, Held) and view.verdict.reason != "HeldByOperator"
    return view.plan.touches_agent or view.heal is not None or held


# --- JSON ---


def to_json(document: Report) -> str:
    """The one document that goes to standard output with `-o json`."""
    found = document.assessment
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": document.kind,
        "host": document.host,
        "created_at": rfc3339(found.at),
        "desired_from": found.came_from,
        "desired_age_s": round(max(0.0, found.at - found.desired_at)),
        **({} if found.signature is None else {"desired_serial": found.signature.serial}),
        "agents": [agent_to_json(told, found.at) for told in document.agents],
        "refused": [
            {"name": r.name, "reason": r.reason, "rule": r.rule, "message": r.message}
            for r in (*found.refused, *ruled_out(document))
        ],
        "conditions": [_condition_to_json(condition) for condition in document.conditions],
        "releases": sorted(found.requests.releases),
    }
    if found.nothing_desired:
        content["agents"] = [_bystander_to_json(agent) for agent in found.bystanders]
    content["summary"] = {
        "agents": len(content["agents"]),
        "pending": document.pending,
        "held": document.held,
        "actions": sum(len((*told.view.plan.actions, *healing(told.view))) for told in document.agents),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def rfc3339(seconds: float) -> str:
    """A time in UTC, e.g. 2026-11-24T02:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def agent_to_json(told: AgentReport, now: float) -> dict[str, Any]:
    view = told.view
    verdict = view.verdict
    acted = {id(outcome.action): outcome for outcome in told.outcomes}
    held = None
    if isinstance(verdict, Held):
        held = {
            "reason": verdict.reason,
            "until": None if verdict.until is None else rfc3339(verdict.until),
            "message": verdict.message,
            "meanwhile": [_action_to_json(action, acted.get(id(action))) for action in verdict.meanwhile.actions],
        }
    planned, heal = view.plan.actions, healing(view)
    known = (*planned, *view.due.actions, *heal)
    extra = [o.action for o in told.outcomes if not any(o.action is a for a in known)]
    return {
        "name": view.desired.name,
        "run_user": view.desired.run_user,
        "work_dir": view.desired.work_dir,
        "observed": _observed_to_json(told.observed) | _elsewhere_to_json(told),
        "desired": _desired_to_json(view.desired, view.remote.digests),
        "reason": view.plan.reason,
        "message": view.plan.message,
        "actions": [
            _action_to_json(action, acted.get(id(action)))
            | ({"asks_place_of": view.place_group} if place_asked(view, action) else {})
            for action in (*planned, *extra)
        ],
        "held": held,
        "heal": [_action_to_json(action, acted.get(id(action))) for action in heal],
        "conditions": [_condition_to_json(condition) for condition in told.conditions],
    }


def healing(view: AgentEvaluation) -> tuple[Action, ...]:
    """What is done before the change is made."""
    return () if view.heal is None else view.heal.due.actions


def _bystander_to_json(agent: ObservedAgent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "run_user": agent.place.run_user,
        "work_dir": agent.place.work_dir,
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


def _elsewhere_to_json(told: AgentReport) -> dict[str, str]:
    """Where it lives, if that is not where it is wanted."""
    lives, wanted = told.observed.place, told.view.desired.place
    return {} if lives.same_home(wanted) else _place_to_json(lives)


def _place_to_json(place: HomeRef) -> dict[str, str]:
    return {"work_dir": place.work_dir, "run_user": place.run_user}


def _desired_to_json(desired: DesiredAgent, digests: Iterable[Digest]) -> dict[str, Any]:
    return {
        "version": desired.version,
        "cmd": desired.run.value,
        "digest": strongest(str(digest) for digest in digests),
    }


def strongest(digests: Iterable[str]) -> str | None:
    """The digest to name where one is enough; None: none is known."""
    return max(digests, default=None)  # "sha256:" sorts after "md5:"


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
            content |= {"from": action.from_version, "to": action.to, "leaves": _place_to_json(action.leaves)}
        case Prune():
            content["names"] = list(action.names)
        case _:
            assert_never(action)
    if not isinstance(action, Fetch | Verify) and action.at is not None:
        content |= _place_to_json(action.at)
    if outcome is not None:
        content |= {
            "result": outcome.result.value,
            "attempts": outcome.attempts,
            "seconds": round(outcome.seconds, 3),
            "error": outcome.error or None,
        }
        if outcome.outlived:
            content["outlived"] = outcome.outlived
    return content


def _url_to_json(url: str) -> dict[str, str]:
    """An URL as people may see it. Of the secrets left out of it, 32 bits of a digest tell only that they changed."""
    if redact_url(url) == url:
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


# --- text ---

RELEASE_ASKED = "release asked for: the next pass ends pins, quarantine and delays"
NOTHING = "the server named no agents: nothing is managed, nothing is touched"


def what(action: Action) -> str:
    """What an action is about, in a few words; and in which home, where that is not the entry's."""
    at = None if isinstance(action, Fetch | Verify) else action.at
    return _about(action) if at is None else f"{_about(action)} in {_home(at)}"


def _home(place: HomeRef) -> str:
    return f"{place.work_dir} as {place.run_user}"


def _about(action: Action) -> str:
    match action:
        case Fetch():
            return redact_url(action.url)
        case Verify():
            digest = strongest(str(digest) for digest in action.digests) or "digest not known yet"
            return digest if action.signing is None else f"{digest}, and its signature"
        case Unpack():
            return action.version
        case Configure():
            return action.name
        case Stop() | Start():
            return action.version
        case MoveHome():
            return f"{action.to}, out of {_home(action.leaves)}"
        case SwitchConfig():
            return f"{action.version}, with the new {action.name}"
        case SwitchTree():
            return f"{action.version}, {'back to its former tree' if action.previous else 'its new tarball'}"
        case SwitchVersion():
            return f"{action.from_version} -> {action.to}" if action.from_version else action.to
        case Prune():
            return ", ".join(action.names)
        case _:
            assert_never(action)


def plan_text(document: Report, paint: Palette, *, quiet: bool = False) -> str:
    """The pending actions in order, each agent with its reason, and why the others are not acted upon.

    `quiet`: what is pending alone, and what is wrong; empty where nothing is.
    """
    found = document.assessment
    if quiet and not document.has_news(is_pending(told.view) for told in document.agents):
        return ""
    lines = [_headline(document, paint), ""]
    for told in document.agents:
        if quiet and not is_pending(told.view):
            continue
        lines += [*_agent_plan(told.view, paint), ""]
    return _closed(lines, found, document, paint)


def status_text(document: Report, paint: Palette, *, quiet: bool = False) -> str:
    """What is observed now, beside what is desired, and each agent's conditions.

    `quiet`: of those that are not as desired alone, and what else is wrong; empty where nothing is.
    """
    found = document.assessment
    if quiet and not document.has_news(not told.ready for told in document.agents):
        return ""
    lines = [_headline(document, paint), ""]
    for told in document.agents:
        if quiet and told.ready:
            continue
        lines += [*_agent_status(told, found.at, paint), ""]
    for agent in found.bystanders:
        lines.append(f"{paint('bold', agent.name)}  {seen(agent)}")
    return _closed(lines, found, document, paint)


def result_text(
    document: Report,
    paint: Palette,
    *,
    flipped: Iterable[tuple[str, Condition]] = (),
    refused_anew: bool = False,
    everything: bool = False,
) -> str:
    """What was done and what changed; empty where there was neither, but for `everything`, which tells each agent.
    `refused_anew`: whether what is refused is news."""
    changed = tuple(flipped)
    lines: list[str] = []
    for told in document.agents:
        own = [condition for name, condition in changed if name == told.view.desired.name]
        if not told.acted and not own and not everything:
            continue
        lines.append(_result_headline(told, paint))
        lines += [_outcome_line(outcome, paint) for outcome in told.outcomes]
    for name, condition in changed:
        if not name:
            lines.append(f"{condition.type}: {_verdict(condition, paint)}")
    if lines or everything or refused_anew:
        lines += _refusals(document.assessment, paint)
    return "\n".join(lines)


def _headline(document: Report, paint: Palette) -> str:
    return f"{paint('bold', document.host)}: {', '.join(counts(document))}; {paint('dim', where_from(document))}"


def counts(document: Report) -> list[str]:
    """How many agents there are, how many are pending and held, and how many entries of the answer are refused."""
    count = len(document.agents)
    words = ["no agent" if count == 0 else "1 agent" if count == 1 else f"{count} agents"]
    words.append(f"{document.pending} pending" if document.pending else "nothing pending")
    if document.held:
        words.append(f"{document.held} held")
    refused = len(document.assessment.refused)
    return [*words, f"{refused} refused"] if refused else words


def where_from(document: Report) -> str:
    """Where the desired state comes from, and its age."""
    found = document.assessment
    age = found.at - found.desired_at
    signed = "" if found.signature is None else f", signed with serial {found.signature.serial}"
    return f"desired from {found.came_from}{signed}" + (f", {duration(age)} old" if age >= 1 else "")


def _agent_plan(view: AgentEvaluation, paint: Palette) -> list[str]:
    held = isinstance(view.verdict, Held)
    kind = "pending" if is_pending(view) else "good" if view.plan.reason in ("AsDesired", "ObserveOnly") else "bad"
    lines = [f"{paint('bold', view.desired.name)}  {paint(kind, view.plan.reason)}  {view.plan.message}"]
    if view.heal is not None:
        lines.append("  heal: " + ", ".join(f"{action.type} {what(action)}" for action in healing(view)))
    lines += _numbered(view)
    if isinstance(view.verdict, Held):
        lines.append(f"  {paint('bad', 'held')}: {view.verdict.reason}: {view.verdict.message}")
        if view.verdict.meanwhile.actions:
            doing = ", ".join(f"{action.type} {what(action)}" for action in view.verdict.meanwhile.actions)
            lines.append(f"  meanwhile: {doing}")
    if not view.plan.actions and not held and view.heal is None:
        lines.append(paint("dim", "  nothing to do"))
    return lines


def _numbered(view: AgentEvaluation) -> list[str]:
    return [
        f"  {number}. {action.type:<10} {what(action)}{place_asked(view, action)}"
        for number, action in enumerate(view.plan.actions, 1)
    ]


def place_asked(view: AgentEvaluation, action: Action) -> str:
    """Say that a place in the fleet's lock is asked for right before this action; empty: none is."""
    first = next((one for one in view.plan.actions if isinstance(one, Stop | Switch)), None)
    asked = view.place_group is not None and action is first
    return f"  (asks for a place of group {view.place_group})" if asked else ""


def _agent_status(told: AgentReport, now: float, paint: Palette) -> list[str]:
    lines = [f"{paint('bold', told.view.desired.name)}  {_seen_and_desired(told, paint)}"]
    reasons = max(len(condition.reason) for condition in told.conditions)
    ages = [f"for {duration(max(0.0, now - condition.since))}" for condition in told.conditions]
    widest = max(map(len, ages))
    for condition, age in zip(told.conditions, ages, strict=True):
        mark = paint(kind_of(condition), f"{condition.status:<7}")
        spent = paint("dim", age) + " " * (widest - len(age) if condition.message else 0)
        row = f"  {condition.type:<12}  {mark}  {condition.reason:<{reasons}}  {spent}  {condition.message}"
        lines.append(row.rstrip())
    return lines


def _seen_and_desired(told: AgentReport, paint: Palette) -> str:
    desired = told.view.desired
    wanted = {RunState.START: f"{desired.version} started", RunState.STOP: "stopped", RunState.OBSERVE: "observed only"}
    now, then = seen_where(told, wanted[desired.run])
    return f"{now}  {paint('dim', f'(desired: {then})')}"


def kind_of(condition: Condition) -> str:
    """In which colour of a Palette it is told."""
    if condition.type in ("Held", "Quarantined"):  # that it is so is what is unusual
        return "dim" if condition.status == "False" else "pending" if condition.type == "Held" else "bad"
    return {"True": "good", "False": "bad"}.get(condition.status, "pending")


def seen(agent: ObservedAgent) -> str:
    """The version in use and its state, in a few words."""
    if agent.active is not None:
        return f"{agent.active.version} {agent.active.process.value}"
    return "not installed" if agent.version_text is None else f"{agent.version_text or '(empty .version)'}: not on disk"


def seen_where(told: AgentReport, wanted: str) -> tuple[str, str]:
    """What is in use, beside what is wanted; each with its home, where these differ."""
    lives, place = told.observed.place, told.view.desired.place
    if lives.same_home(place):
        return seen(told.observed), wanted
    return f"{seen(told.observed)} in {_home(lives)}", f"{wanted} in {_home(place)}"


def _verdict(condition: Condition, paint: Palette) -> str:
    message = f": {condition.message}" if condition.message else ""
    return f"{paint(kind_of(condition), condition.reason)}{message}"


def _result_headline(told: AgentReport, paint: Palette) -> str:
    """How the agent is now. An error stands beside the action that met it, so here its reason is enough."""
    ready = ready_of(told.conditions)
    assert ready is not None
    reason = f"{paint('bold', told.view.desired.name)}  {paint(kind_of(ready), ready.reason)}"
    if told.ready:
        return f"{reason}  {ready.message}"
    message = "" if any(ready.message == outcome.error for outcome in told.outcomes) else f"  {ready.message}"
    return f"{reason}  {_seen_and_desired(told, paint)}{message}"


def _outcome_line(outcome: Outcome, paint: Palette) -> str:
    result = told_result(outcome.result.value, paint)
    took = paint("dim", f"{brief(outcome.seconds) if outcome.attempts else '':>6}")
    tries = f"  ({outcome.attempts} tries)" if outcome.attempts > 1 else ""
    error = f"\n    {outcome.reason}: {outcome.error}" if outcome.error else ""
    left = f"\n    {still_runs(outcome)}" if outcome.outlived else ""
    return f"  {outcome.action.type:<10} {result}  {took}  {done(outcome)}{tries}{error}{left}"


def still_runs(outcome: Outcome) -> str:
    """What a stop left, for people."""
    return f"status says stopped, and it still runs: {outcome.outlived}"


def told_result(result: str, paint: Palette) -> str:
    """An action's result, as wide as the longest."""
    return paint(RESULTS[result], result) + " " * (len(Result.UNCHANGED.value) - len(result))


def done(outcome: Outcome) -> str:
    """What an action was about. Where a file comes from matters before it is fetched, or where that went wrong."""
    about = what(outcome.action)
    fetched = isinstance(outcome.action, Fetch) and outcome.result is not Result.FAILED
    return about.rpartition("/")[2] if fetched else about


def _refusals(found: Assessment, paint: Palette) -> list[str]:
    return [
        f"{paint('bold', entry.name)}  {paint('bad', entry.reason)}: refused by rule {entry.rule}: {entry.message}"
        for entry in found.refused
    ]


def ruled_out(document: Report) -> tuple[Refusal, ...]:
    """The entries that are none of this host's business: `plan` alone lists them."""
    return document.assessment.ruled_out if document.kind == "Plan" else ()


def not_ours(entry: Refusal) -> str:
    """Why an entry is none of this host's business."""
    return f"not for this host, by rule {entry.rule}: {entry.message}"


def _closed(lines: list[str], found: Assessment, document: Report, paint: Palette) -> str:
    """The end that plan and status share: refusals, what is wrong with the updater itself."""
    lines += _refusals(found, paint)
    lines += [f"{paint('bold', entry.name)}  {not_ours(entry)}" for entry in ruled_out(document)]
    lines += [f"{paint('bold', name)}  {RELEASE_ASKED}" for name in releases(found)]
    if found.nothing_desired:
        lines.append(f"{paint('pending', 'NothingDesired')}: {NOTHING}")
    for condition in document.conditions:
        if condition.status == "False":
            lines.append(f"{condition.type}: {_verdict(condition, paint)}")
    return "\n".join(lines).rstrip()


def releases(found: Assessment) -> list[str]:
    """For whom an operator asked for a release that no pass has taken up yet."""
    return sorted(found.requests.releases)


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
