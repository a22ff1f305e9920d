"""Admit a plan now, or hold it: the reason, until when, and what is done meanwhile. Pure.

In doubt nothing is done, and the hold says why. A held change never hides a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import evolve

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.actions import Held, Plan
from reconcile.decide.desired import RuleViolation, RunState
from reconcile.decide.hold import Hold
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind
from reconcile.decide.target import Blocker, Target
from reconcile.decide.timing.fleet_places import PlaceWait
from reconcile.source import Rollout


class Freshness(Enum):
    """How live the desired state is: LIVE is of this pass's exchange, LAST_ACCEPTED is remembered, OPERATOR is a
    file or a remembered state that a person asked to be acted upon."""

    LIVE = "live"
    LAST_ACCEPTED = "last-accepted"
    OPERATOR = "operator"


SERVER = "server"  # on whose word a desired state is, unless an operator named another one: `operator:NAME`


@frozen(kw_only=True)
class EvaluationContext:
    """`now`: Unix seconds. `why_not_live`: for people, why there is no live answer. `asked_by`: on whose word the
    desired state is this one, as history names it. `refused_places`: in the fleet's lock, those not asked for now."""

    now: float
    answered: Freshness
    why_not_live: str = ""
    asked_by: str = SERVER
    refused_places: tuple[PlaceWait, ...] = ()


@frozen(kw_only=True)
class ClosedWindow:
    """No maintenance window is open. `opens_at`: Unix seconds, None where that is unknown."""

    opens_at: float | None


@frozen(kw_only=True)
class AdmissionInputs:
    """What may keep a plan from being carried out now. `hold`: an operator's. `quarantine_for`: seconds after which a
    rolled-back content is tried again, None for never. `barred`: a rule of this host that the wanted content breaks.
    `twice`: it runs in another home, so that nothing may be started here. `stays`: why it can't move now. `not_yet`:
    the rollout that does not include this host. `window`: the closed one. `fetch_at`: Unix seconds, when this host may
    fetch; None: now. `place`: the one that was refused."""

    hold: Hold | None = None
    twice: Blocker | None = None
    stays: Blocker | None = None
    barred: RuleViolation | None = None
    not_yet: Rollout | None = None
    window: ClosedWindow | None = None
    blocker: Blocker | None = None
    quarantine_for: float | None = None
    fetch_at: float | None = None
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


@frozen(kw_only=True)
class _Case:
    """What the rules look at."""

    plans: CandidatePlans
    target: Target
    record: AgentRecord | None
    inputs: AdmissionInputs
    context: EvaluationContext

    def held(
        self,
        reason: str,
        message: str,
        *,
        meanwhile: Plan | None = None,
        until: float | None = None,
        as_wanted: bool = False,
    ) -> Held:
        """Hold the wanted plan. `meanwhile` None: what crashed is healed."""
        meanwhile = healing(self.plans, self.record, self.context) if meanwhile is None else meanwhile
        wanted = self.plans.wanted
        return Held(plan=wanted, reason=reason, message=message, meanwhile=meanwhile, until=until, as_wanted=as_wanted)


def admit(
    plans: CandidatePlans,
    target: Target,
    record: AgentRecord | None,
    inputs: AdmissionInputs,
    context: EvaluationContext,
) -> Plan | Held:
    """Let the wanted plan through, or hold it: the reason, until when, and what is done meanwhile. The first rule that
    holds it counts."""
    case = _Case(plans=plans, target=target, record=record, inputs=inputs, context=context)
    held = _first(_OF_ANY_PLAN, case)
    if held is not None:
        return held
    if plans.wanted.only_starts:
        return _paced(plans.wanted, record, context)
    return _first(_OF_CHANGES, case) or plans.wanted


def _first(rules: tuple[Callable[[_Case], Held | None], ...], case: _Case) -> Held | None:
    return next((held for rule in rules if (held := rule(case)) is not None), None)


# --- the rules ---


def _held_by_operator(case: _Case) -> Held | None:
    hold, wanted = case.inputs.hold, case.plans.wanted
    if hold is None:
        return None
    for_all = " (all agents)" if hold.everyone else ""
    message = f"{hold.owner}{for_all}: {hold.reason}"
    return case.held("HeldByOperator", message, meanwhile=_nothing(wanted), until=hold.until)


def _runs_twice(case: _Case) -> Held | None:
    twice = case.inputs.twice
    return None if twice is None else case.held(twice.reason, twice.message, meanwhile=_nothing(case.plans.wanted))


def _pinned(case: _Case) -> Held | None:
    record = case.record
    if record is None or record.pin is None or case.target.run is not RunState.START:
        return None
    message = (
        f"{record.pin.owner} went back to {record.pin.version}; `updater release {case.plans.wanted.name}` ends it"
    )
    return case.held("Pinned", message, meanwhile=_meanwhile(case.plans, record, case.context))


def _quarantined(case: _Case) -> Held | None:
    """Hold content that was rolled back, and stay with (or go back to) the former one."""
    record, target, now = case.record, case.target, case.context.now
    if record is None or target.run is not RunState.START:
        return None
    failure = record.failure_of(target.content, FailureKind.ROLLED_BACK, target.home)
    if failure is None or not failure.holds(now, case.inputs.quarantine_for):
        return None
    until = failure.again_at(now, case.inputs.quarantine_for)
    was = "was rolled back" if case.plans.is_back else "failed, and going back from it has not succeeded yet"
    again = _tried_again(failure, None if until is None else duration(until - now))
    message = f"{target.version} {was}: {failure.message}; {again}, or `updater release {case.plans.wanted.name}`"
    reason = "BackingOff" if failure.outlived else "Quarantined"
    held = case.held(reason, message, meanwhile=_meanwhile(case.plans, record, case.context), until=until)
    return evolve(held, rolled_back=True)


def _tried_again(failure: Failure, span: str | None) -> str:
    """When content that was rolled back is tried again, for people. `span`: None, it is not by time."""
    if span is None:
        return "not tried again until its content changes"
    if failure.outlived:
        return f"tried again in {span}"
    return f"not tried again until its content changes, {span} pass"


def _barred(case: _Case) -> Held | None:
    barred = case.inputs.barred
    return None if barred is None else case.held(barred.reason, f"refused by rule {barred.rule}: {barred.message}")


def _stays(case: _Case) -> Held | None:
    stays = case.inputs.stays
    return None if stays is None else case.held(stays.reason, stays.message)


def _unanswered(case: _Case) -> Held | None:
    if case.context.answered is not Freshness.LAST_ACCEPTED:
        return None
    return case.held("ServerUnreachable", f"waits for an answer of ops-meta: {case.context.why_not_live}")


def _not_yet(case: _Case) -> Held | None:
    rollout = case.inputs.not_yet
    if rollout is None:
        return None
    message = f"the rollout of {case.target.version} is at {rollout.percent:g} %, without this host"
    return case.held("NotYet", message, as_wanted=True)


def _outside_window(case: _Case) -> Held | None:
    window = case.inputs.window
    if window is None:
        return None
    opens = "when the next one opens is unknown: is `time_zone` known on this host?"
    if window.opens_at is not None:
        opens = f"the next one opens in {duration(window.opens_at - case.context.now)}"
    message = f"no maintenance window is open; {opens}"
    return case.held("OutsideWindow", message, until=window.opens_at, as_wanted=True)


def _blocked(case: _Case) -> Held | None:
    blocker = case.inputs.blocker
    return None if blocker is None else case.held(blocker.reason, blocker.message)


def _waiting_for_slot(case: _Case) -> Held | None:
    fetch_at = case.inputs.fetch_at
    if fetch_at is None:
        return None
    message = f"waits for this host's turn to fetch, in {duration(fetch_at - case.context.now)} (fetch_splay); "
    message += f"`updater release {case.plans.wanted.name}` ends the wait"
    return case.held("BackingOff", message, until=fetch_at)


def _backing_off(case: _Case) -> Held | None:
    record, target, now = case.record, case.target, case.context.now
    failure = None if record is None else _backs_off(record, target.content, now, target.home)
    if failure is None or target.run is not RunState.START:
        return None
    again = failure.again_at(now, None) or now
    message = f"failed {_times(failure.count)}, tried again in {duration(again - now)}: {failure.message}"
    return case.held("BackingOff", message, until=again)


def _waiting_for_place(case: _Case) -> Held | None:
    place, now = case.inputs.place, case.context.now
    if place is None:
        return None
    span = duration(max(0.0, now - place.since))
    message = f"waits for a place of group {place.group} since {span}: {place.message}"
    return case.held("WaitingForPlace", message, as_wanted=place.is_as_wanted(now))


# People come first; then what would do harm; then what the host does not take.
_OF_ANY_PLAN = (_held_by_operator, _runs_twice, _pinned, _quarantined, _barred, _stays)
# No start that heals waits for these. First what holds many hosts, lastly what is asked of the fleet's lock.
_OF_CHANGES = (
    *(_unanswered, _not_yet, _outside_window, _blocked),
    *(_waiting_for_slot, _backing_off, _waiting_for_place),
)


# --- how long, and what is done meanwhile ---


def waits(
    record: AgentRecord, content: Content, now: float, quarantine_for: float | None, home: HomeRef | None = None
) -> bool:
    """Whether this content, if it still is what is wanted, is not tried now: so no server is asked at each pass."""
    rolled_back = record.failure_of(content, FailureKind.ROLLED_BACK, home)
    if rolled_back is not None and rolled_back.holds(now, quarantine_for):
        return True
    return record.pin is not None or _backs_off(record, content, now, home) is not None


def _backs_off(record: AgentRecord, content: Content, now: float, home: HomeRef | None) -> Failure | None:
    """The failure for which content is not tried now, though it will be."""
    failure = record.failure_of(content, FailureKind.NOT_REACHED, home)
    return failure if failure is not None and failure.holds(now) else None


def _meanwhile(plans: CandidatePlans, record: AgentRecord, context: EvaluationContext) -> Plan:
    """Go back, or heal what one went back to, at the pace of its crashes.

    A way back that failed before its switch (a full disk) is tried again like any change, and hides no crash either.
    """
    back, content = plans.back, record.pinned_or_fallback
    if back is None or (
        not back.only_starts and content is not None and _backs_off(record, content, context.now, content.at)
    ):
        back = plans.heal
    if back is None:
        return _nothing(plans.wanted)
    paced = _paced(back, record, context) if back.only_starts else back
    return paced.meanwhile if isinstance(paced, Held) else paced


def _paced(plan: Plan, record: AgentRecord | None, context: EvaluationContext) -> Plan | Held:
    """A plan that only starts what crashed: at once the first time, then with growing pauses."""
    again = 0.0 if record is None else record.start_again_at(context.now)
    if record is None or record.crashes is None or not plan.touches_agent or again <= context.now:
        return plan
    message = f"ended {_times(record.crashes.count)}, started again in {duration(again - context.now)}"
    return Held(plan=plan, reason="BackingOff", message=message, meanwhile=_nothing(plan), until=again)


def healing(plans: CandidatePlans, record: AgentRecord | None, context: EvaluationContext) -> Plan:
    """What is done for the agent while its change waits, or is fetched."""
    if plans.stranded and record is not None:
        return _meanwhile(plans, record, context)
    if plans.heal is None:
        return _nothing(plans.wanted)
    paced = _paced(plans.heal, record, context)
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
