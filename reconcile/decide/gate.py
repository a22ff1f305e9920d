"""Admit a plan now, or hold it: the reason, until when, and what is done meanwhile. Pure.

In doubt nothing is done, and the hold says why. A held change never hides a crash.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from probes.observed import ObservedAgent
from reconcile.decide.actions import Held, Plan
from reconcile.decide.aim import Trouble
from reconcile.decide.desired import DesiredAgent
from reconcile.decide.records import AgentRecord


class Answered(Enum):
    """How live the desired state is: LIVE is of this pass's exchange, KEPT the last accepted one, OPERATOR a file or
    a kept state that a person asked to be acted upon."""

    LIVE = "live"
    KEPT = "kept"
    OPERATOR = "operator"


@frozen(kw_only=True)
class Moment:
    """`now`: Unix seconds. `why_kept`: for people, why there is no live answer."""

    now: float
    answered: Answered
    why_kept: str = ""


@frozen(kw_only=True)
class Moved:
    """The agent was managed at another place, and something is still there."""

    reason: str
    message: str


def moved(desired: DesiredAgent, record: AgentRecord | None, old: ObservedAgent | None) -> Moved | None:
    """Whether the response asks for a second copy at another place. `old`: what is seen where the record says."""
    if record is None or old is None or old.place.same_spot(desired.place):
        return None
    if old.version_text is None and not old.stray:
        return None
    if record.work_dir != desired.work_dir:
        return Moved(
            reason="WorkDirChanged",
            message=f"it lives in {record.work_dir} and ops-meta now says {desired.work_dir}; neither is touched: stop "
            f"it there and remove {record.work_dir}/{desired.name}/.version, or correct workDir at ops-meta",
        )
    return Moved(
        reason="RunUserChanged",
        message=f"it runs as {record.run_user} and ops-meta now says {desired.run_user}; it is not touched: stop it "
        f"and remove {record.work_dir}/{desired.name}/.version, or correct runUser at ops-meta",
    )


def admit(plan: Plan, heal: Plan | None, trouble: Trouble | None, moment: Moment) -> Plan | Held:
    """Let a plan through, or hold it and heal meanwhile. `heal`: the plan that starts the version in use."""
    if plan.only_starts:
        return plan
    meanwhile = heal if heal is not None else Plan(name=plan.name, reason=plan.reason, message="")
    if moment.answered is Answered.KEPT:
        message = f"waits for an answer of ops-meta: {moment.why_kept}"
        return Held(plan=plan, reason="ServerUnreachable", message=message, meanwhile=meanwhile)
    if trouble is not None:
        return Held(plan=plan, reason=trouble.reason, message=trouble.message, meanwhile=meanwhile)
    return plan
