"""Admit a plan now, or hold it: the reason, until when, and what is done meanwhile. Pure.

In doubt nothing is done, and the hold says why. A held change never hides a crash.
"""

from __future__ import annotations

from enum import Enum

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.actions import Held, Plan
from reconcile.decide.desired import RuleViolation, RunState
from reconcile.decide.hold import Hold
from reconcile.decide.records import AgentRecord, Content, Failure, FailureKind
from reconcile.decide.target import Blocker, Target
from reconcile.decide.timing.fleet_places import PlaceWait
from reconcile.source import Rollout


class Freshness(Enum):
    """How live the desired state is: LIVE is of this pass's exchange, KEPT the last accepted one, OPERATOR a file or
    a kept state that a person asked to be acted upon."""

    LIVE = "live"
    KEPT = "kept"
    OPERATOR = "operator"


@frozen(kw_only=True)
class EvaluationContext:
    """`now`: Unix seconds. `why_kept`: for people, why there is no live answer. `refused_places`: in the fleet's lock,
    those that are not asked for now."""

    now: float
    answered: Freshness
    why_kept: str = ""
    refused_places: tuple[PlaceWait, ...] = ()


@frozen(kw_only=True)
class ClosedWindow:
    """No maintenance window is open. `opens_at`: Unix seconds, None where that can't be told."""

    opens_at: float | None


@frozen(kw_only=True)
class AdmissionInputs:
    """What may keep a plan from being carried out now. `hold`: an operator's. `quarantine_for`: seconds after which a
    rolled-back content is tried again, None for never. `barred`: a rule of this host that the wanted content breaks.
    `twice`: it is up in another home, so that nothing may be started here. `stays`: why it can't move now. `not_yet`:
    the rollout that does not include this host. `window`: the closed one. `turn`: Unix seconds, when this host may
    fetch; None: now. `place`: the one that was refused."""

    hold: Hold | None = None
    twice: Blocker | None = None
    stays: Blocker | None = None
    barred: RuleViolation | None = None
    not_yet: Rollout | None = None
    window: ClosedWindow | None = None
    blocker: Blocker | None = None
    quarantine_for: float | None = None
    turn: float | None = None
    place: PlaceWait | None = None


@frozen(kw_only=True)
class CandidatePlans:
    """The plans of one agent: to what is `wanted`, `back` to a pinned or the former content, and to `heal` what is in
    use. None: there is nothing to go back to, or nothing to heal. `stranded`: what is in use was rolled back and stands
    still, so that only the way back heals. `elsewhere`: what is in use has not failed, and there is no way back."""

    wanted: Plan
    back: Plan | None = None
    heal: Plan | None = None
    stranded: bool = False
    elsewhere: bool = False

    @property
    def is_back(self) -> bool:
        """Whether what is gone back to is in use by now, or other content that nothing has to be gone back from."""
        if self.back is None:
            return self.elsewhere
        return self.back.switch is None


def admit(
    plans: CandidatePlans,
    target: Target,
    record: AgentRecord | None,
    waiting: AdmissionInputs,
    moment: EvaluationContext,
) -> Plan | Held:
    """Let the wanted plan through, or hold it: the reason, until when, and what is done meanwhile."""
    plan = plans.wanted
    if waiting.hold is not None:
        return _held_by_operator(plan, waiting.hold)
    if waiting.twice is not None:
        twice = waiting.twice
        return Held(plan=plan, reason=twice.reason, message=twice.message, meanwhile=_nothing(plan))
    if record is not None and target.run is RunState.START:
        if record.pin is not None:
            message = f"{record.pin.owner} went back to {record.pin.version}; `updater release {plan.name}` ends it"
            return Held(plan=plan, reason="Pinned", message=message, meanwhile=_meanwhile(plans, record, moment))
        quarantined = _quarantined(plans, target, record, waiting, moment)
        if quarantined is not None:
            return quarantined
    if waiting.barred is not None:
        barred = waiting.barred
        message = f"refused by rule {barred.rule}: {barred.message}"
        return Held(plan=plan, reason=barred.reason, message=message, meanwhile=healing(plans, record, moment))
    if waiting.stays is not None:
        stays = waiting.stays
        return Held(plan=plan, reason=stays.reason, message=stays.message, meanwhile=healing(plans, record, moment))
    if plan.only_starts:
        return _paced(plan, record, moment)
    meanwhile = healing(plans, record, moment)
    if moment.answered is Freshness.KEPT:
        message = f"waits for an answer of ops-meta: {moment.why_kept}"
        return Held(plan=plan, reason="ServerUnreachable", message=message, meanwhile=meanwhile)
    if waiting.not_yet is not None:
        message = f"the rollout of {target.version} is at {waiting.not_yet.percent:g} %, without this host"
        return Held(plan=plan, reason="NotYet", message=message, meanwhile=meanwhile, as_wanted=True)
    if waiting.window is not None:
        return _outside_window(plan, waiting.window, meanwhile, moment)
    if waiting.blocker is not None:
        blocker = waiting.blocker
        return Held(plan=plan, reason=blocker.reason, message=blocker.message, meanwhile=meanwhile)
    if waiting.turn is not None:
        message = f"waits for this host's turn to fetch, in {duration(waiting.turn - moment.now)} (fetch_splay); "
        message += f"`updater release {plan.name}` ends the wait"
        return Held(plan=plan, reason="BackingOff", message=message, meanwhile=meanwhile, until=waiting.turn)
    failure = None if record is None else _backs_off(record, target.content, moment.now, target.place)
    if failure is not None and target.run is RunState.START:
        again = failure.again_at(moment.now, None) or moment.now
        message = f"failed {_times(failure.count)}, tried again in {duration(again - moment.now)}: {failure.message}"
        return Held(plan=plan, reason="BackingOff", message=message, meanwhile=meanwhile, until=again)
    if waiting.place is not None:
        return _waiting_for_place(plan, waiting.place, meanwhile, moment)
    return plan


def _waiting_for_place(plan: Plan, place: PlaceWait, meanwhile: Plan, moment: EvaluationContext) -> Held:
    span = duration(max(0.0, moment.now - place.since))
    message = f"waits for a place of group {place.group} since {span}: {place.message}"
    wanted = place.is_as_wanted(moment.now)
    return Held(plan=plan, reason="WaitingForPlace", message=message, meanwhile=meanwhile, as_wanted=wanted)


def _outside_window(plan: Plan, window: ClosedWindow, meanwhile: Plan, moment: EvaluationContext) -> Held:
    opens = "when the next one opens can't be told: is `time_zone` known on this host?"
    if window.opens_at is not None:
        opens = f"the next one opens in {duration(window.opens_at - moment.now)}"
    message = f"no maintenance window is open; {opens}"
    return Held(
        plan=plan,
        reason="OutsideWindow",
        message=message,
        meanwhile=meanwhile,
        until=window.opens_at,
        as_wanted=True,
    )


def waits(
    record: AgentRecord, content: Content, now: float, quarantine_for: float | None, place: HomeRef | None = None
) -> bool:
    """Whether this content, if it still is what is wanted, is not tried now: so nobody need be asked at each pass."""
    failure = record.failure_of(content, FailureKind.ROLLED_BACK, place)
    if failure is not None:
        until = failure.again_at(now, quarantine_for)
        if until is None or until > now:
            return True
    return record.pin is not None or _backs_off(record, content, now, place) is not None


def _backs_off(record: AgentRecord, content: Content, now: float, place: HomeRef | None) -> Failure | None:
    """The failure for which content is not tried now, though it will be."""
    failure = record.failure_of(content, FailureKind.NOT_REACHED, place)
    again = None if failure is None else failure.again_at(now, None)
    return failure if again is not None and again > now else None


def _held_by_operator(plan: Plan, hold: Hold) -> Held:
    for_all = " (all agents)" if hold.everyone else ""
    message = f"{hold.owner}{for_all}: {hold.reason}"
    return Held(plan=plan, reason="HeldByOperator", message=message, meanwhile=_nothing(plan), until=hold.until)


def _quarantined(
    plans: CandidatePlans, target: Target, record: AgentRecord, waiting: AdmissionInputs, moment: EvaluationContext
) -> Held | None:
    """Hold content that was rolled back, and stay with (or go back to) the former one."""
    failure = record.failure_of(target.content, FailureKind.ROLLED_BACK, target.place)
    if failure is None:
        return None
    until = failure.again_at(moment.now, waiting.quarantine_for)
    if until is not None and until <= moment.now:
        return None
    was = "was rolled back" if plans.is_back else "failed, and going back from it has not succeeded yet"
    message = f"{target.version} {was}: {failure.message}; "
    if failure.outlived and until is not None:
        message += f"tried again in {duration(until - moment.now)}, "
    else:
        message += "not tried again until its content changes, "
        message += "" if until is None else f"{duration(until - moment.now)} pass, "
    message += f"or `updater release {plans.wanted.name}`"
    return Held(
        plan=plans.wanted,
        reason="BackingOff" if failure.outlived else "Quarantined",
        rolled_back=True,
        message=message,
        meanwhile=_meanwhile(plans, record, moment),
        until=until,
    )


def _meanwhile(plans: CandidatePlans, record: AgentRecord, moment: EvaluationContext) -> Plan:
    """Go back, or heal what one went back to, at the pace of its crashes.

    A way back that failed before its switch (a full disk) is tried again like any change, and hides no crash either.
    """
    back, content = plans.back, record.way_back
    if back is None or (
        not back.only_starts and content is not None and _backs_off(record, content, moment.now, content.at)
    ):
        back = plans.heal
    if back is None:
        return _nothing(plans.wanted)
    paced = _paced(back, record, moment) if back.only_starts else back
    return paced.meanwhile if isinstance(paced, Held) else paced


def _paced(plan: Plan, record: AgentRecord | None, moment: EvaluationContext) -> Plan | Held:
    """A plan that only starts what crashed: at once the first time, then with growing pauses."""
    again = 0.0 if record is None else record.start_again_at(moment.now)
    if record is None or record.crashes is None or not plan.touches_agent or again <= moment.now:
        return plan
    message = f"ended {_times(record.crashes.count)}, started again in {duration(again - moment.now)}"
    return Held(plan=plan, reason="BackingOff", message=message, meanwhile=_nothing(plan), until=again)


def healing(plans: CandidatePlans, record: AgentRecord | None, moment: EvaluationContext) -> Plan:
    """What is done for the agent while its change waits, or is fetched."""
    if plans.stranded and record is not None:
        return _meanwhile(plans, record, moment)
    if plans.heal is None:
        return _nothing(plans.wanted)
    paced = _paced(plans.heal, record, moment)
    return paced.meanwhile if isinstance(paced, Held) else paced


def _nothing(plan: Plan) -> Plan:
    return Plan(name=plan.name, reason=plan.reason, message="")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def duration(seconds: float) -> str:
    """A span as people say it: 4m10s, 2h05m, 3d02h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
