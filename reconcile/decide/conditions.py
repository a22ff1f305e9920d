"""Conditions: what is so about an agent and about the updater, in words that people and programs read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import evolve

from probes.observed import Active, ObservedAgent, ProcessState
from probes.values import frozen
from reconcile.decide.actions import Held, Outcome, Plan, Prune, Result, Start, Stop
from reconcile.decide.desired import DesiredAgent, RunState

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

# What neither time nor another pass ends: somebody has to change the host, its rules, or what ops-meta says. All other
# reasons may pass by themselves, or whether they do is not known.
_FOR_PEOPLE = frozenset(
    (
        "ConfigDiffers InterpreterMissing InvalidSpec Pinned PolicyRefused RunUserChanged SudoRefused ToolMissing "
        "UserMissing"
    ).split()
)


@frozen(kw_only=True)
class Condition:
    """`type` is one of Ready Installed Running ConfigInSync Held Quarantined, or of the updater itself: ServerReachable
    StateStored ToolsPresent LockServerReachable ReportDelivered. `since`: Unix seconds of when `status` last
    flipped."""

    type: str
    status: str
    reason: str
    message: str = ""
    since: float = 0.0


class UpgradeState(Enum):
    """The state of an upgrade: none is pending, it is within its watch, or it was rolled back in this pass."""

    SETTLED = "settled"
    CONFIRMING = "confirming"
    ROLLED_BACK = "rolled back"


def derive(
    desired: DesiredAgent,
    observed: ObservedAgent,
    verdict: Plan | Held,
    *,
    outcomes: tuple[Outcome, ...] = (),
    config: Condition | None = None,
    standing: UpgradeState = UpgradeState.SETTLED,
) -> tuple[Condition, ...]:
    """All conditions of one agent. `verdict`: what is still pending after `outcomes`, or is held."""
    plan = verdict.plan if isinstance(verdict, Held) else verdict
    failure = next((outcome for outcome in outcomes if outcome.result is Result.FAILED), None)
    if failure is not None and isinstance(failure.action, Prune):
        failure = None  # what could not be cleaned up makes no agent less ready
    found = [
        _ready_of_held(verdict, failure, standing)
        if isinstance(verdict, Held)
        else _ready(plan, failure, standing, _unknown_for(observed)),
        _installed(desired, observed, plan),
        _running(desired, observed),
        _held(verdict),
        _quarantine(verdict),
    ]
    return tuple(found if config is None else [*found, config])


def config_condition(
    desired: DesiredAgent, active: Active | None, *, remote: str | None, edited: bool, why_unknown: str
) -> Condition | None:
    """Whether the config in use is the remote one; None where none is desired. `remote`: its digest; None: it is not
    known, and `why_unknown` says why. `edited`: by hand, so that it is left alone."""
    wanted = desired.config
    if wanted is None:
        return None
    if remote is None:
        return Condition(type="ConfigInSync", status=UNKNOWN, reason="FetchFailed", message=why_unknown)
    if edited:
        message = f"{wanted.name} was edited on this host; it is left alone until the remote one changes"
        return Condition(type="ConfigInSync", status=FALSE, reason="ConfigEdited", message=message)
    if active is None or active.tree.config != remote:
        message = f"{wanted.name} differs from the remote one"
        return Condition(type="ConfigInSync", status=FALSE, reason="ConfigDiffers", message=message)
    return Condition(type="ConfigInSync", status=TRUE, reason="AsDesired", message=f"{wanted.name} as delivered")


# Conditions of the updater itself


def server_condition(came_from: str, *, asked: bool, failed: tuple[str, str] | None) -> Condition:
    """Whether the server answered. `failed`: the reason and the message of why it did not."""
    if failed is not None:
        reason, message = failed
        return Condition(type="ServerReachable", status=FALSE, reason=reason, message=message)
    if not asked:
        return Condition(type="ServerReachable", status=UNKNOWN, reason="AsDesired", message="not asked")
    return Condition(type="ServerReachable", status=TRUE, reason="AsDesired", message=came_from)


def lock_condition(why_unreachable: str | None) -> Condition:
    """Whether the fleet's lock server answered. `why_unreachable` None: it did."""
    if why_unreachable is None:
        return Condition(type="LockServerReachable", status=TRUE, reason="AsDesired")
    return Condition(type="LockServerReachable", status=FALSE, reason="ServerUnreachable", message=why_unreachable)


_REPORT_REMEDY = (
    "is `report_to` right, its server running, and its origin in `auth.hosts` where it asks for a password?"
)


def report_condition(why_not: str) -> Condition:
    """Whether the last report to `report_to` was delivered. `why_not` empty: it was."""
    if not why_not:
        return Condition(type="ReportDelivered", status=TRUE, reason="AsDesired")
    return Condition(
        type="ReportDelivered", status=FALSE, reason="ServerUnreachable", message=f"{why_not}; {_REPORT_REMEDY}"
    )


def stored_condition(trouble: str, damaged_copy: str = "") -> Condition:
    """Whether memory can be kept. `trouble`: why not; `damaged_copy`: where an unreadable older one lies."""
    if trouble:
        return Condition(type="StateStored", status=FALSE, reason="WriteFailed", message=trouble)
    if damaged_copy:
        message = f"the old memory could not be read and lies in {damaged_copy}; what is on disk counts"
        return Condition(type="StateStored", status=FALSE, reason="StateSetAside", message=message)
    return Condition(type="StateStored", status=TRUE, reason="AsDesired")


def own_conditions(
    before: Iterable[Condition],
    now: float,
    *,
    server: Condition,
    stored: Condition,
    missing_tools: str = "",
    others: Mapping[str, Condition | None] = {},
) -> tuple[Condition, ...]:
    """The conditions of the updater itself. `others`: by type those of the other servers that the config names.
    `before`: those of the last pass: of a server that was not asked in this one (`server` Unknown, of others None) what
    was last seen stands."""
    tools = Condition(type="ToolsPresent", status=TRUE, reason="AsDesired")
    if missing_tools:
        tools = Condition(type="ToolsPresent", status=FALSE, reason="ToolMissing", message=missing_tools)
    known = {condition.type: condition for condition in before}
    server = server if server.status != UNKNOWN else known.get(server.type, server)
    own = (server, stored, tools, *filter(None, (found or known.get(type) for type, found in others.items())))
    return with_since(own, known.values(), now)


# Their times, and what they say


def with_since(conditions: Iterable[Condition], before: Iterable[Condition], now: float) -> tuple[Condition, ...]:
    """Give each condition the time of its last flip: that of `before` where the status is the same, else `now`."""
    known = {condition.type: condition for condition in before}

    def since(condition: Condition) -> float:
        earlier = known.get(condition.type)
        return earlier.since if earlier is not None and earlier.status == condition.status else now

    return tuple(evolve(condition, since=since(condition)) for condition in conditions)


def since_actions(
    conditions: Iterable[Condition], before: Iterable[Condition], outcomes: Iterable[Outcome], now: float
) -> tuple[Condition, ...]:
    """Give each condition of an agent that was acted upon the time of its last flip. `before`: as it was seen before
    that; `now`: Unix seconds of that look. One that was started or stopped meanwhile is so since then, though each look
    may have seen it so."""
    acted, turned = now, None
    for outcome in outcomes:
        if outcome.result is not Result.SKIPPED and not isinstance(outcome.action, Prune):
            acted = outcome.ended_at
        if outcome.result is Result.DONE and isinstance(outcome.action, Start | Stop):
            turned = outcome.ended_at
    flipped = with_since(conditions, before, acted)
    if turned is None:
        return flipped
    is_turned = {("Running", TRUE), ("Running", FALSE), ("Running", UNKNOWN), ("Ready", TRUE)}
    return tuple(evolve(c, since=turned) if (c.type, c.status) in is_turned else c for c in flipped)


def seen_stopped(conditions: Iterable[Condition], now: float) -> tuple[Condition, ...]:
    """The conditions of an agent whose stop was begun: should this run be killed, it ran no longer than until now."""
    return tuple(evolve(c, status=FALSE, since=now) if c.type == "Running" else c for c in conditions)


def ready_of(conditions: Iterable[Condition]) -> Condition | None:
    """The one that says whether the agent is as desired; None where nothing was looked at yet."""
    return next((condition for condition in conditions if condition.type == "Ready"), None)


def is_ready(conditions: Iterable[Condition]) -> bool:
    """Whether the agent is as desired."""
    ready = ready_of(conditions)
    return ready is not None and ready.status == TRUE


def is_for_people(reason: str) -> bool:
    """Whether an agent that isn't as desired for this reason stays so until somebody does something about it."""
    return reason in _FOR_PEOPLE


def _unknown_for(observed: ObservedAgent) -> str:
    """The reason for which it is not known how the agent is, where that alone stands in the way."""
    return observed.blocked_reason if observed.blocked_by else "StatusUnknown"


def _ready_of_held(held: Held, failure: Outcome | None, standing: UpgradeState) -> Condition:
    if standing is UpgradeState.ROLLED_BACK:
        return Condition(type="Ready", status=FALSE, reason="RolledBack", message=held.message)
    # What failed (its way back) counts though nothing be pending for the wish that is held.
    if failure is not None:
        return Condition(type="Ready", status=FALSE, reason=failure.reason, message=failure.error)
    return Condition(type="Ready", status=FALSE, reason=held.reason, message=held.message)


def _ready(plan: Plan, failure: Outcome | None, standing: UpgradeState, unknown_for: str) -> Condition:
    # A plan that only cleans up does not make an agent less ready.
    if failure is not None and plan.touches_agent:
        return Condition(type="Ready", status=FALSE, reason=failure.reason, message=failure.error)
    if plan.reason == unknown_for:
        return Condition(type="Ready", status=UNKNOWN, reason=plan.reason, message=plan.message)
    if plan.touches_agent or plan.reason == "Healing":
        return Condition(type="Ready", status=FALSE, reason=plan.reason, message=plan.message)
    reason = "Confirming" if standing is UpgradeState.CONFIRMING else plan.reason
    return Condition(type="Ready", status=TRUE, reason=reason, message=plan.message)


def _quarantine(verdict: Plan | Held) -> Condition:
    if isinstance(verdict, Held) and verdict.reason == "Quarantined":
        return Condition(type="Quarantined", status=TRUE, reason=verdict.reason, message=verdict.message)
    return Condition(type="Quarantined", status=FALSE, reason="AsDesired")


def _installed(desired: DesiredAgent, observed: ObservedAgent, plan: Plan) -> Condition:
    in_use, home = observed.version_in_use, desired.home
    if desired.run is not RunState.START:
        status = FALSE if in_use is None else TRUE
        reason = "ObserveOnly" if desired.run is RunState.OBSERVE else "AsDesired"
        return Condition(type="Installed", status=status, reason=reason, message=f"{in_use or 'no version'} in use")
    if not observed.home.same_home(home):
        moves = "WorkDirChanged" if observed.home.work_dir != home.work_dir else "RunUserChanged"
        message = f"wanted: {desired.version} in {home.work_dir} as {home.run_user}"
        return Condition(type="Installed", status=FALSE, reason=moves, message=message)
    if in_use == desired.version and plan.reason != "DigestDiffers":
        return Condition(type="Installed", status=TRUE, reason="AsDesired", message=f"{in_use} in use")
    reason = plan.reason if plan.reason in ("FirstInstall", "DigestDiffers") else "VersionDiffers"
    return Condition(type="Installed", status=FALSE, reason=reason, message=f"wanted: {desired.version}")


def _running(desired: DesiredAgent, observed: ObservedAgent) -> Condition:
    process = ProcessState.STOPPED if observed.active is None else observed.active.process
    if observed.blocked_by or process is ProcessState.UNKNOWN:
        said = observed.blocked_by or (observed.active.status_output if observed.active is not None else "")
        return Condition(type="Running", status=UNKNOWN, reason=_unknown_for(observed), message=said)
    running = process is ProcessState.RUNNING
    status = TRUE if running else FALSE
    if desired.run is RunState.OBSERVE:
        return Condition(type="Running", status=status, reason="ObserveOnly")
    if running == (desired.run is RunState.START):
        return Condition(type="Running", status=status, reason="AsDesired")
    return Condition(type="Running", status=status, reason="UnexpectedlyRunning" if running else "NotRunning")


def _held(verdict: Plan | Held) -> Condition:
    if isinstance(verdict, Held):
        return Condition(type="Held", status=TRUE, reason=verdict.reason, message=verdict.message)
    return Condition(type="Held", status=FALSE, reason="AsDesired")
