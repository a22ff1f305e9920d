"""Results of agents as values, for the tests of what a pass makes of them: seen, asked and held in one line each."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from probes.observed import ObservedHost
from reconcile.assess.pass_context import Assessment
from reconcile.decide.actions import Action, Fetch, Held, Outcome, Plan, Prune, Result, Start, Stop
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.conditions import Condition, server_condition
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent
from reconcile.decide.hold import Requests
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, PendingUpgrade, UpgradePhase
from reconcile.engine.results import AgentResult, ExecutedPlan, conclude
from tests.reconcile.decide.worlds import NAME, NOW, content, record, seen, wish

LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
START, STOP, PRUNE = Start(version="1.0"), Stop(version="1.0"), Prune(names=("0.9",))
FETCH = Fetch(url="http://meta/falcon", version="2.0", digests=frozenset())
WATCHED = PendingUpgrade(to=content("1.0=A"), before=None, stage=UpgradePhase.WATCHING, at=NOW, deadline=NOW + 20)
BACK = Failure(content=content("2.0=B"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="no", at=NOW)


def view_of(
    asked: str = "start 1.0=A",
    world: str = "1.0=A started",
    kept: AgentRecord | None = None,
    *,
    moment: EvaluationContext = LIVE,
    **changes: Any,
) -> AgentEvaluation:
    wanted = wish(asked)
    inputs = AgentInputs(desired=wanted.desired, observed=seen(world), record=record() if kept is None else kept)
    return evolve(evaluate_agent(inputs, wanted.remote, moment, Rules(keep=99)), **changes)


def held(reason: str, *actions: Action, message: str = "waits", **changes: Any) -> Held:
    """A change that waits. `actions`: what is done meanwhile."""
    plan = Plan(name=NAME, reason="VersionDiffers", message="wanted: 2.0")
    return Held(plan=plan, reason=reason, message=message, meanwhile=evolve(plan, actions=actions), **changes)


def outcome(action: Action, result: Result = Result.DONE, *, at: float = NOW, seconds: float = 1.0) -> Outcome:
    if result is Result.SKIPPED:
        return Outcome(action=action, result=result)
    reason = "StartFailed" if result is Result.FAILED else ""
    return Outcome(action=action, result=result, attempts=1, at=at, seconds=seconds, reason=reason)


def executed(*outcomes: Outcome, by: str = "server", reason: str = "VersionDiffers") -> ExecutedPlan:
    plan = Plan(name=NAME, reason=reason, message="wanted: 2.0", actions=tuple(one.action for one in outcomes))
    return ExecutedPlan(plan=plan, outcomes=outcomes, by=by, reason=reason)


def result_of(
    view: AgentEvaluation | None = None,
    *plans: ExecutedPlan,
    after: AgentEvaluation | None = None,
    kept: AgentRecord | None = None,
    **changes: Any,
) -> AgentResult:
    """What became of an agent. `after`: as it stands then; `kept`: what is to be remembered; a keyword replaces a
    field."""
    view = view_of() if view is None else view
    after = view if after is None else after
    return evolve(conclude(view, after, executed=plans, record=kept or after.record, at=NOW), **changes)


def pass_found(**changes: Any) -> Assessment:
    """What a pass found, of no agent; a keyword replaces a field."""
    found = Assessment(
        at=NOW,
        evaluation_context=LIVE,
        came_from="there",
        desired_at=NOW,
        nothing_desired=False,
        server=server_condition("there", asked=True, failed=None),
        seen=ObservedHost(at=NOW),
        requests=Requests(),
    )
    return evolve(found, **changes)


def ready(status: str, reason: str) -> tuple[Condition, ...]:
    return (Condition(type="Ready", status=status, reason=reason),)
