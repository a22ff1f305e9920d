"""How one agent is seen: what is desired of it, what is seen and remembered, what is wanted, and what is due now. Pure.

Where a pass has looked at an agent, everything that is decided about it comes together here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve

from probes.observed import HomeRef, ObservedAgent, ObservedHost
from probes.values import frozen
from reconcile.decide.actions import Held, Outcome, Plan, Prune, Unpack
from reconcile.decide.admission import (
    SERVER,
    AdmissionInputs,
    CandidatePlans,
    ClosedWindow,
    EvaluationContext,
    Freshness,
    admit,
)
from reconcile.decide.conditions import Condition, UpgradeState, config_condition, derive
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.hold import Hold
from reconcile.decide.host_rules import bar_downgrade
from reconcile.decide.planner import plan_agent, plan_move, world_after
from reconcile.decide.records.changes import record_for
from reconcile.decide.records.content import Content, content_in_use
from reconcile.decide.records.record import AgentRecord, Awaited
from reconcile.decide.relocation import home_lived_in, homes_of, relative_to, why_it_stays, why_twice
from reconcile.decide.target import (
    Blocker,
    RemoteInputs,
    Target,
    stranded,
    target_back,
    target_for,
    target_there,
    target_to_heal,
    why_not_emptied,
)
from reconcile.decide.timing.fetch_slot import Splay, awaited_by, fetch_time, noted
from reconcile.decide.timing.fleet_places import Groups, group_asked
from reconcile.decide.timing.rollout import includes
from reconcile.decide.timing.windows import Windows
from reconcile.source import Rollout

# Held for these, an agent is observed and reported, and nothing else is made of what is seen.
_LEFT_ALONE = ("HeldByOperator", "UnexpectedlyRunning", "InternalError")


@frozen(kw_only=True)
class Rules:
    """How this host wants changes to be made. `watch`: seconds that new content must stay up to be good. `keep`:
    versions on disk. `quarantine_for`: seconds after which rolled-back content is tried again, None for never.
    `refuse_downgrade`: whether the server may not ask for an older version than the one in use. `splay`: when this host
    may fetch, None for at once. `windows`: when what is in use may be changed, None for always. `hostname`: what a
    rollout goes by. `groups`: of the fleet's lock, None without one."""

    watch: float = 30.0
    keep: int = 2
    quarantine_for: float | None = None
    refuse_downgrade: bool = False
    splay: Splay | None = None
    windows: Windows | None = None
    hostname: str = ""
    groups: Groups | None = None


@frozen(kw_only=True)
class AgentInputs:
    """One desired agent, what is seen of it, and what is remembered. `observed`: where it lives. `elsewhere`: its other
    homes, where it is wanted in another, or may have to go back to one. `healed`: it was down until this pass."""

    desired: DesiredAgent
    observed: ObservedAgent
    record: AgentRecord | None
    elsewhere: tuple[ObservedAgent, ...] = ()
    healed: bool = False

    @property
    def moves(self) -> bool:
        """Whether it is wanted in another home than the one that it lives in."""
        return self.desired.run is RunState.START and not self.observed.home.same_home(self.desired.home)

    @property
    def wanted_home(self) -> ObservedAgent:
        """What is seen of the home that it is wanted in."""
        return self.seen_in(self.desired.home) if self.moves else self.observed

    def seen_in(self, home: HomeRef) -> ObservedAgent:
        """What is seen of one of its homes. One that is another user's is not observed as this one's."""
        there = [seen for seen in (self.observed, *self.elsewhere) if seen.home.path == home.path]
        for seen in there:
            if seen.home.same_home(home):
                return seen
            if not seen.is_empty:
                why = f"{home.path} is {seen.home.run_user}'s, and is never given to another user: remove it"
                return ObservedAgent(home=home, blocked_by=why, blocked_reason="RunUserChanged")
        return ObservedAgent(home=home)


@frozen(kw_only=True)
class AgentEvaluation:
    """One desired agent as a pass sees it. `record`: settled by this look, with the `news` of it. `released_by`: an
    operator's release was taken up by this look. `elsewhere`: its other homes. `hold`: an operator's. `asks`: the first
    of its remote files that were not asked yet, None for none. `content`: reads the bytes of its remote config, where
    they were fetched. `broken`: the unexpected error that ended the look at this agent. `is_back`: what is gone back to
    is in use. `heal`: the same agent as without an answer: what is due there is done first, and the verdict is of the
    agent as it is then. `place_group`: the group of the fleet's lock of which a place is asked before its first stop or
    switch; None: of none. `asked_by`: on whose word the desired state is this one, as history names it."""

    desired: DesiredAgent
    observed: ObservedAgent
    record: AgentRecord | None
    remote: RemoteInputs
    target: Target
    verdict: Plan | Held
    news: str = ""
    released_by: str | None = None
    elsewhere: tuple[ObservedAgent, ...] = ()
    hold: Hold | None = None
    asks: str | None = None
    content: Callable[[], bytes] | None = None
    broken: Exception | None = None
    is_back: bool = False
    heal: AgentEvaluation | None = None
    place_group: str | None = None
    asked_by: str = SERVER

    @property
    def agent_inputs(self) -> AgentInputs:
        return AgentInputs(desired=self.desired, observed=self.observed, record=self.record, elsewhere=self.elsewhere)

    @property
    def plan(self) -> Plan:
        return self.verdict.plan if isinstance(self.verdict, Held) else self.verdict

    @property
    def due(self) -> Plan:
        """What is acted upon now."""
        return self.verdict.meanwhile if isinstance(self.verdict, Held) else self.verdict

    @property
    def only_heals(self) -> bool:
        """Whether what is acted upon now is not the change itself."""
        return isinstance(self.verdict, Held)

    @property
    def goes_back(self) -> bool:
        """Whether what is acted upon now takes a change back, a bad one's or an operator's."""
        record = self.record
        if record is None or not isinstance(self.verdict, Held) or self.due.only_starts:
            return False
        return record.pinned_or_fallback is not None or bool(record.told_to_stop)

    @property
    def due_by(self) -> str:
        """On whose word what is acted upon now is done: history's `by`."""
        if self.goes_back:
            pin = None if self.record is None else self.record.pin
            return "rollback" if pin is None else f"operator:{pin.owner}"
        # A start after a stop of ours is part of the change that is asked for; any other one heals.
        stopped_by_us = self.record is not None and self.record.stopped_by_us
        heals = self.only_heals or (self.due.only_starts and not stopped_by_us)
        return "heal" if heals and self.due.touches_agent else self.asked_by

    @property
    def misses_healing(self) -> bool:
        """Whether it is down, must run, and could be up at once."""
        active = self.observed.active
        up = active is not None and active.process.is_running
        return not up and self.due.touches_agent and not self.due.fetches

    @property
    def former_version(self) -> str | None:
        """Where an operator's rollback goes: the last version that was good and is on disk, never to content that
        failed or was not confirmed, nor forward to what is asked for. One that was gone back to already stays in
        use."""
        record, active = self.record, self.observed.active
        if record is None:
            return None
        there = {tree.version for tree in self.observed.staged}
        if active is None:
            return record.last_good_of(there)
        is_good = record.is_good(content_in_use(active))
        if is_good and record.went_back_to(active.version):
            return active.version
        if bar_downgrade(self.desired, active.version) is None:  # an older version that is asked for is back
            there.discard(self.desired.version)
        former = record.last_good_of(there - {active.version})
        stays = former is None and is_good and active.version != self.desired.version
        return active.version if stays else former

    @property
    def confirming(self) -> bool:
        """Whether what was switched to is still within its watch, and its end will be seen."""
        asked = self.desired.run is RunState.START and not self.is_left_alone
        return asked and self.record is not None and self.record.confirmation is not None

    @property
    def lacks_user(self) -> bool:
        """Whether the user that it is to run as does not exist."""
        lives, held = self.observed, isinstance(self.verdict, Held) and self.verdict.reason == "UserMissing"
        at_home = lives.home.run_user == self.desired.run_user and lives.blocked_reason == "UserMissing"
        return at_home or (held and self.desired.barred is None)

    @property
    def waits_as_wanted(self) -> bool:
        """Whether it runs, and its change merely waits as its publisher or operator wants it to."""
        held = isinstance(self.verdict, Held) and self.verdict.as_wanted
        return held and self.observed.active is not None and self.observed.active.process.is_running

    @property
    def is_left_alone(self) -> bool:
        """Whether nothing in its home may be changed: it is held, or only to be observed."""
        held = isinstance(self.verdict, Held) and self.verdict.reason in _LEFT_ALONE
        return held or self.desired.run is RunState.OBSERVE


def conditions_of(
    view: AgentEvaluation, outcomes: tuple[Outcome, ...] = (), *, rolled_back: bool = False
) -> tuple[Condition, ...]:
    """The conditions of an agent as it stands. `outcomes`: of what was done last; `rolled_back`: it was in this
    pass."""
    standing = UpgradeState.CONFIRMING if view.confirming else UpgradeState.SETTLED
    wanted, blocker = view.remote.config, view.remote.blocker
    config = config_condition(
        view.desired,
        view.observed.active,
        remote=None if wanted is None else wanted.digest,
        edited=view.target.edited,
        why_unknown="not asked" if blocker is None else blocker.message,
    )
    return derive(
        view.desired,
        view.observed,
        view.verdict,
        outcomes=outcomes,
        config=config,
        standing=UpgradeState.ROLLED_BACK if rolled_back else standing,
    )


def inputs_of(desired: DesiredAgent, record: AgentRecord | None, seen: ObservedHost) -> AgentInputs:
    """An agent where it lives, and its other homes."""
    lives = seen.find(home_lived_in(desired, record, seen.find))
    assert lives is not None
    homes = (home for home in map(seen.find, homes_of(desired, record)) if home is not None and home is not lives)
    return AgentInputs(desired=desired, observed=lives, record=record, elsewhere=tuple(homes))


def where_they_live(
    seen: ObservedHost, agents: Iterable[DesiredAgent], record_of: Callable[[str], AgentRecord | None]
) -> ObservedHost:
    """Return each agent once of what is seen: in the home that it lives in."""
    homes = (seen.find(home_lived_in(agent, record_of(agent.name), seen.find)) for agent in agents)
    return evolve(seen, agents=tuple(home for home in homes if home is not None))


def evaluate_agent(
    seen: AgentInputs, remote: RemoteInputs, context: EvaluationContext, rules: Rules, hold: Hold | None = None
) -> AgentEvaluation:
    """Find the target, plan and admit for one agent; a pass asks again after a plan failed."""
    desired, observed, record = seen.desired, seen.observed, seen.record
    if seen.moves:
        target = target_there(desired, record, observed, seen.wanted_home, remote)
    else:
        target = target_for(desired, record, observed, remote, keep=rules.keep, healed=seen.healed)
    plans = _candidates(seen, target, rules)
    awaited = awaited_by(plans.wanted, target.content, record, context.now)
    group = group_asked(desired, observed, plans.wanted, rules.groups)
    inputs = evolve(
        _admission_inputs(seen, target, plans.wanted, remote, rules),
        hold=hold,
        window=closed_window(desired, observed, plans.wanted, rules, context.now),
        fetch_at=fetch_time(awaited, rules.splay, context.now),
        place=next((wait for wait in context.refused_places if wait.group == group), None),
    )
    verdict = admit(plans, target, record, inputs, context)
    awaited = None if rules.splay is None else noted(awaited, verdict)
    return AgentEvaluation(
        desired=desired,
        observed=observed,
        record=_awaiting(observed.home, record, awaited),
        remote=remote,
        target=target,
        verdict=verdict,
        elsewhere=seen.elsewhere,
        is_back=plans.is_back,
        place_group=group,
        asked_by=context.asked_by,
    )


def _candidates(seen: AgentInputs, target: Target, rules: Rules) -> CandidatePlans:
    """The plans to what is wanted, to what is gone back to, and to what is in use and down."""
    observed, record = seen.observed, seen.record
    stuck = stranded(record, observed)
    back = None if record is None else _target_back(seen, record, stuck or target.content, keep=rules.keep)
    heal = target_to_heal(seen.desired, record, observed)
    return CandidatePlans(
        wanted=_planned(seen, target, seen.wanted_home),
        back=None if back is None else _planned(seen, back, observed if back.home is None else seen.seen_in(back.home)),
        heal=None if heal is None else _planned(seen, heal, observed),
        stranded=stuck is not None,
        elsewhere=record is not None and record.pinned_or_fallback is None and not _is_failed(record, observed),
    )


def _admission_inputs(
    seen: AgentInputs, target: Target, wanted: Plan, remote: RemoteInputs, rules: Rules
) -> AdmissionInputs:
    """What may hold the change, whenever it is: what the host, its rules and the rollout say."""
    desired, observed = seen.desired, seen.observed
    barred = desired.barred
    if barred is None and rules.refuse_downgrade:
        barred = bar_downgrade(desired, observed.version_text)
    return AdmissionInputs(
        barred=barred,
        twice=why_twice(observed, seen.elsewhere) if desired.run is RunState.START else None,
        stays=why_it_stays(observed, seen.wanted_home) if seen.moves and not observed.blocked_by else None,
        not_yet=not_yet(desired, observed, target, rules),
        blocker=_homeless(wanted, seen.wanted_home) or remote.blocker or why_not_emptied(target, seen.record, observed),
        quarantine_for=rules.quarantine_for,
    )


def heal_of(
    seen: AgentInputs, remote: RemoteInputs, context: EvaluationContext, rules: Rules, hold: Hold | None
) -> AgentEvaluation | None:
    """The agent as a pass without an answer sees it, where that could have it run at once; None: nothing is to heal."""
    unanswered = evaluate_agent(seen, remote, evolve(context, answered=Freshness.LAST_ACCEPTED), rules, hold)
    if not unanswered.misses_healing:
        return None
    if isinstance(unanswered.verdict, Plan):  # to clean up is part of the change
        remaining = tuple(action for action in unanswered.verdict.actions if not isinstance(action, Prune))
        unanswered = evolve(unanswered, verdict=evolve(unanswered.verdict, actions=remaining))
    return evolve(unanswered, record=seen.record)


def view_healed(
    seen: AgentInputs,
    remote: RemoteInputs,
    context: EvaluationContext,
    rules: Rules,
    hold: Hold | None,
    heal: AgentEvaluation,
) -> AgentEvaluation:
    """The agent as it is now, and what is to be done with it once it was healed."""
    healed = seen
    if heal.due.move is None:  # else it lives in another home by then, and what is to be done there is seen there
        observed = seen.observed
        for action in heal.due.actions:
            observed = world_after(observed, action)
        healed = evolve(seen, observed=observed, healed=True)
    view = evaluate_agent(healed, remote, context, rules, hold)
    return evolve(after_heal(view, heal), observed=seen.observed)


def after_heal(view: AgentEvaluation, heal: AgentEvaluation) -> AgentEvaluation:
    """The view with what was healed before it: where nothing else is pending that is its reason."""
    verdict = view.verdict
    if isinstance(verdict, Plan) and not verdict.touches_agent:
        verdict = evolve(verdict, reason="Healing", message=heal.due.message)
    return evolve(view, verdict=verdict, heal=heal)


def _is_failed(record: AgentRecord, observed: ObservedAgent) -> bool:
    """Whether what is in use was rolled back from, or nothing is in use."""
    active = observed.active
    return active is None or record.was_rolled_back(content_in_use(active), observed.home)


def _homeless(plan: Plan, there: ObservedAgent) -> Blocker | None:
    """Why what is to be unpacked has no home to be unpacked in."""
    if not there.no_home or not any(isinstance(action, Unpack) for action in plan.actions):
        return None
    return Blocker(reason=there.no_home_reason, message=there.no_home)


def not_yet(desired: DesiredAgent, observed: ObservedAgent, target: Target, rules: Rules) -> Rollout | None:
    """The rollout that does not include this host yet, where the tree in use is not of the content wanted."""
    rollout, active = desired.rollout, observed.active
    if rollout is None or desired.run is not RunState.START:
        return None
    if active is not None and content_in_use(active).same_tree(target.content):
        return None
    return None if includes(rollout, rules.hostname, desired.name, desired.version) else rollout


def closed_window(
    desired: DesiredAgent, observed: ObservedAgent, plan: Plan, rules: Rules, now: float
) -> ClosedWindow | None:
    """The closed window that a change of what is in use waits for; None: there is none to wait for."""
    changes = desired.run is RunState.START and observed.active is not None and plan.changes_what_is_in_use
    if rules.windows is None or not changes or rules.windows.is_open(now):
        return None
    return ClosedWindow(opens_at=rules.windows.opens_at(now))


def _target_back(seen: AgentInputs, record: AgentRecord, failed: Content, *, keep: int) -> Target | None:
    """What is gone back to, unless it lies in a home that can't be used now."""
    back = record.pinned_or_fallback
    if back is not None and back.version in record.told_to_stop:
        back = None
    there = None if back is None or back.at is None or back.at.same_home(seen.observed.home) else seen.seen_in(back.at)
    if there is not None and why_it_stays(evolve(seen.observed, active=None), there) is not None:
        return None
    return target_back(seen.desired, record, seen.observed, failed, keep=keep, there=there)


def _planned(seen: AgentInputs, target: Target, home: ObservedAgent) -> Plan:
    """The plan to a home: the one that it lives in, or another."""
    stays = home is seen.observed
    plan = plan_agent(target, home) if stays else plan_move(target, seen.observed, home)
    return relative_to(plan, seen.observed.home, seen.desired.home)


def _awaiting(home: HomeRef, record: AgentRecord | None, awaited: Awaited | None) -> AgentRecord | None:
    if awaited == (None if record is None else record.awaited):
        return record
    return evolve(record_for(home, record), awaited=awaited)
