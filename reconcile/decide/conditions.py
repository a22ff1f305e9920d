"""Conditions: what is so about an agent and about the updater, in words that people and programs read. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from attrs import evolve

from probes.observed import ObservedAgent, ProcessState
from probes.values import frozen
from reconcile.decide.actions import Held, Outcome, Plan, Prune, Result
from reconcile.decide.desired import DesiredAgent, RunState

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

# What neither time nor another pass ends: somebody has to change the host, its rules, or what ops-meta says. All other
# reasons may pass by themselves, or nobody can tell.
_FOR_PEOPLE = frozenset(
    (
        "ConfigDiffers InterpreterMissing InvalidSpec Pinned PolicyRefused RunUserChanged SudoRefused ToolMissing "
        "UserMissing"
    ).split()
)


@frozen(kw_only=True)
class Condition:
    """`type` is one of Ready Installed Running ConfigInSync Held Quarantined, or of the updater itself: ServerReachable
    StateStored ToolsPresent. `since`: Unix seconds of when `status` last flipped."""

    type: str
    status: str
    reason: str
    message: str = ""
    since: float = 0.0


class UpgradeState(Enum):
    """Where a switch stands: nothing open, within its watch, or taken back in this pass."""

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
    failure = next((outcome for outcome in outcomes if outcome.result is Result.FAILED), None)
    plan = verdict.plan if isinstance(verdict, Held) else verdict
    found = [
        _ready(plan, verdict, failure, standing, _unknown_for(observed)),
        _installed(desired, observed, plan),
        _running(desired, observed),
        _held(verdict),
        _quarantine(verdict),
    ]
    return tuple(found if config is None else [*found, config])


def with_since(conditions: Iterable[Condition], before: Iterable[Condition], now: float) -> tuple[Condition, ...]:
    """Give each condition the time of its last flip: that of `before` where the status is the same, else `now`."""
    known = {condition.type: condition for condition in before}

    def since(condition: Condition) -> float:
        earlier = known.get(condition.type)
        return earlier.since if earlier is not None and earlier.status == condition.status else now

    return tuple(evolve(condition, since=since(condition)) for condition in conditions)


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
    """The reason for which nobody can tell how the agent is, where that alone stands in the way."""
    return observed.blocked_reason if observed.blocked_by else "StatusUnknown"


def _ready(
    plan: Plan, verdict: Plan | Held, failure: Outcome | None, standing: UpgradeState, unknown_for: str
) -> Condition:
    if standing is UpgradeState.ROLLED_BACK and isinstance(verdict, Held):
        return Condition(type="Ready", status=FALSE, reason="RolledBack", message=verdict.message)
    # A plan that only cleans up does not make an agent less ready, and neither does a failure to clean up. What failed
    # for a held agent (its way back) counts though nothing be pending for the wish that is held.
    touches = plan.touches_agent or isinstance(verdict, Held)
    if failure is not None and touches and not isinstance(failure.action, Prune):
        return Condition(type="Ready", status=FALSE, reason=failure.reason, message=failure.error)
    if isinstance(verdict, Held):
        return Condition(type="Ready", status=FALSE, reason=verdict.reason, message=verdict.message)
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
    active = observed.active
    place = desired.place
    if desired.run is RunState.START and not observed.place.same_home(place):
        moves = "WorkDirChanged" if observed.place.work_dir != place.work_dir else "RunUserChanged"
        message = f"wanted: {desired.version} in {place.work_dir} as {place.run_user}"
        return Condition(type="Installed", status=FALSE, reason=moves, message=message)
    if desired.run is not RunState.START:
        status = FALSE if active is None else TRUE
        message = "no version in use" if active is None else f"{active.version} in use"
        reason = "ObserveOnly" if desired.run is RunState.OBSERVE else "AsDesired"
        return Condition(type="Installed", status=status, reason=reason, message=message)
    if active is not None and active.version == desired.version and plan.reason != "DigestDiffers":
        return Condition(type="Installed", status=TRUE, reason="AsDesired", message=f"{active.version} in use")
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
