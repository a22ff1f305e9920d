"""Whole passes over an agent with several homes, as agent_reconciler.py makes them: what a move does, and what a crash
leaves.

A world is one line of worlds.py for each home. Of every state that is passed through at most one home is up: `a_pass`
asserts it at each action, and tells all that an interruption there would have left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import Factory, define, evolve, field, frozen

from probes.observed import HomeRef, ObservedAgent, ObservedHost, ProcessState
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Outcome,
    Plan,
    Result,
    Start,
    Stop,
    Switch,
    SwitchVersion,
    Verify,
)
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent, heal_of, inputs_of
from reconcile.decide.planner import home_left, world_after
from reconcile.decide.records.changes import record_for, remember_use
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.relocation import home_lived_in
from reconcile.decide.target import RemoteInputs
from reconcile.decide.upgrade.events import HomeChange, Observed, Paused, PlanFinished, StartConfirmed, SwitchStarted
from reconcile.decide.upgrade.observation import was_made
from reconcile.decide.upgrade.steps import arrived, seen_up
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.worlds import BOOT, CONFIG_NAME, NAME, NOW, WATCH, legal, seen, torn, wish

ROUNDS = 3  # of one pass: agent_reconciler.py
RULES = Rules(watch=WATCH, keep=2)


def place(letter: str) -> HomeRef:
    """`old`, `new`, `third`: other workDirs, and other users."""
    return HomeRef(name=NAME, work_dir=f"/srv/{letter}", run_user=f"{letter}user", config_name=CONFIG_NAME)


@frozen(kw_only=True)
class Homes:
    """What is in each home, and what is remembered: all that outlives a crash."""

    seen: Mapping[str, ObservedAgent]
    record: AgentRecord | None

    def at(self, where: HomeRef) -> ObservedAgent:
        return self.seen.get(where.work_dir, ObservedAgent(home=where))

    def put(self, agent: ObservedAgent) -> Homes:
        return evolve(self, seen={**self.seen, agent.home.work_dir: agent})

    @property
    def up(self) -> list[str]:
        return [
            where for where, agent in self.seen.items() if agent.active is not None and agent.active.process.is_running
        ]


@frozen(kw_only=True)
class Asked:
    """What is wanted, where, and how live that is. `works`: whether a version comes up in a home. `stays`: whether it
    still is at the next look. `fails`: action types that fail, on a full disk for one."""

    desired: DesiredAgent
    remote: RemoteInputs
    answered: Freshness = Freshness.LIVE
    works: Callable[[str, str], bool] = lambda where, version: True
    stays: Callable[[str, str], bool] = lambda where, version: True
    fails: frozenset[str] = frozenset()
    at: float = NOW


def asked(text: str, where: str, **changes: object) -> Asked:
    wanted = wish(text)
    there = place(where)
    desired = evolve(wanted.desired, work_dir=there.work_dir, run_user=there.run_user)
    return Asked(desired=desired, remote=wanted.remote, **changes)  # type: ignore[arg-type]


def homes(record: AgentRecord | None = None, **worlds: str) -> Homes:
    """`homes(old="1.0=A started", new="staged 2.0=B")`, managed in the old one."""
    old = place("old")
    record = record or AgentRecord(name=NAME, work_dir=old.work_dir, run_user=old.run_user)
    return Homes(
        seen={place(where).work_dir: evolve(seen(world), home=place(where)) for where, world in worlds.items()},
        record=record,
    )


def agent_inputs(now: Homes, wanted: Asked, record: AgentRecord | None) -> AgentInputs:
    places = [place(where) for where in ("old", "new", "third")] + [wanted.desired.home]
    host = ObservedHost(at=wanted.at, agents=tuple(now.at(where) for where in dict.fromkeys(places)))
    return inputs_of(wanted.desired, record, host)


def looked(now: Homes, wanted: Asked) -> AgentEvaluation:
    """What a pass finds, before it does anything."""
    found = agent_inputs(now, wanted, now.record)
    record = found.record
    if record is not None:
        record = seen_up(record, found.observed)
        if wanted.desired.run is not RunState.START:
            record = advance(record, Paused(boot=BOOT)).record
        else:
            record = advance(record, Observed(observed=found.observed, now=wanted.at, watch=WATCH, boot=BOOT)).record
    return _view(evolve(found, record=record), wanted)


def _view(found: AgentInputs, wanted: Asked) -> AgentEvaluation:
    return evaluate_agent(found, wanted.remote, _moment(wanted), RULES)


def _moment(wanted: Asked) -> EvaluationContext:
    return EvaluationContext(now=wanted.at, answered=wanted.answered, why_not_live="down")


@frozen(kw_only=True)
class Passed:
    """`done`: all actions that were tried, as `type where`; `torn`: what a crash at any point would have left."""

    now: Homes
    view: AgentEvaluation
    after: AgentEvaluation
    done: tuple[str, ...]
    torn: tuple[Homes, ...]


def a_pass(now: Homes, wanted: Asked) -> Passed:
    """One pass that isn't interrupted, and all that it would have left if it were."""
    view = looked(now, wanted)
    runtime = _Shop(wanted=wanted, now=now)
    heal = heal_before(view, view.agent_inputs, wanted.remote, _moment(wanted))
    runtime.store(view.record if (heal or view).due.actions and view.record is not None else now.record)
    record, after = record_for(view.observed.home, view.record), view
    if heal is not None:
        record, _ = _rounds(runtime, heal, record, evolve(wanted, answered=Freshness.LAST_ACCEPTED))
        runtime.store(record)
        after = _view(agent_inputs(runtime.now, wanted, record), wanted)
    record, after = _rounds(runtime, after, record, wanted)
    runtime.store(remember_use(record, after.observed))
    return Passed(now=runtime.now, view=view, after=after, done=tuple(runtime.done), torn=tuple(runtime.torn))


def heal_before(
    view: AgentEvaluation, seen: AgentInputs, remote: RemoteInputs, moment: EvaluationContext
) -> AgentEvaluation | None:
    """What a pass heals before this change: assess.py."""
    fetches = isinstance(view.verdict, Plan) and view.verdict.fetches
    return heal_of(seen, remote, moment, RULES, None) if fetches else None


def _rounds(
    runtime: _Shop, after: AgentEvaluation, record: AgentRecord, wanted: Asked
) -> tuple[AgentRecord, AgentEvaluation]:
    """One plan, and the way back after it: agent_reconciler.py."""
    for _ in range(ROUNDS):
        if not after.due.actions:
            break
        plan = after.due
        outcomes, record = runtime.carry_out(after, record)
        record, after = _take_up(runtime, after, record, outcomes, wanted)
        failed = any(outcome.result is Result.FAILED for outcome in outcomes)
        if not failed or after.due.actions == plan.actions:
            break
        runtime.store(record)
    return record, after


def _take_up(
    runtime: _Shop, view: AgentEvaluation, record: AgentRecord, outcomes: tuple[Outcome, ...], wanted: Asked
) -> tuple[AgentRecord, AgentEvaluation]:
    found = agent_inputs(runtime.now, runtime.wanted, record)
    record, move = arrived(record, found.observed), _move_of(view)
    unsure = any(isinstance(o.action, Switch) and o.result is Result.FAILED for o in outcomes)
    if not (unsure and was_made(record, found.observed)):
        record = advance(
            record,
            PlanFinished(
                wanted=view.target.content,
                outcomes=outcomes,
                now=runtime.wanted.at,
                going_back=view.only_heals,
                home=None if move is None else move.into,
            ),
        ).record
    record = seen_up(record, found.observed)
    if any(isinstance(o.action, Start) and o.result is Result.DONE for o in outcomes):
        record = advance(record, StartConfirmed(now=runtime.wanted.at, watch=WATCH)).record
    record = record_for(found.observed.home, record)
    return record, _view(evolve(found, record=record), wanted)


def _move_of(view: AgentEvaluation) -> HomeChange | None:
    move = view.due.move
    if move is None:
        return None
    return HomeChange(left=move.leaves, into=move.at or view.desired.home)


@define(kw_only=True)
class _Shop:
    wanted: Asked
    now: Homes
    done: list[str] = Factory(list)
    torn: list[Homes] = Factory(list)
    _noted: bool = field(default=False)

    def store(self, record: AgentRecord | None) -> None:
        self.now = evolve(self.now, record=record)
        self.torn.append(self.now)

    def carry_out(self, view: AgentEvaluation, record: AgentRecord) -> tuple[tuple[Outcome, ...], AgentRecord]:
        plan, outcomes = view.due, list[Outcome]()
        switches = plan.switch is not None
        first = next((a for a in plan.actions if isinstance(a, Stop | Switch)), None)
        for action in plan.actions:
            if any(outcome.result is Result.FAILED for outcome in outcomes):
                outcomes.append(Outcome(action=action, result=Result.SKIPPED))
                continue
            noted = switches and not view.only_heals
            if noted and action is first:
                active, to = view.observed.active, view.target.content
                record = advance(
                    record, SwitchStarted(to=to, active=active, now=self.wanted.at, boot=BOOT, move=_move_of(view))
                ).record
                self.store(record)
            outcomes.append(self._try(action))
            if noted and isinstance(action, Start) and outcomes[-1].result is Result.DONE:
                record = advance(record, StartConfirmed(now=self.wanted.at, watch=WATCH)).record
                self.store(record)
        return tuple(outcomes), record

    def _try(self, action: Action) -> Outcome:
        done = Outcome(action=action, result=Result.DONE, attempts=1)
        failed = evolve(done, result=Result.FAILED, reason="Failed", error="no")
        if isinstance(action, Fetch | Verify):
            self.done.append(action.type)
            return failed if action.type in self.wanted.fails else done
        where = action.at or self.wanted.desired.home
        self.done.append(f"{action.type} {where.work_dir.rpartition('/')[2]}")
        home = self.now.at(where)
        if isinstance(action, Start):
            others = [up for up in self.now.up if up != where.work_dir]
            assert not others, f"a second copy: {where.work_dir} beside {others}"
        if not _goes_without_saying(home, action):
            problem = legal(home, action)
            assert not problem, f"{action}: {problem}, in {home}"
            for world in torn(home, action):
                self._might_leave(world)
        if action.type in self.wanted.fails:
            return failed
        if isinstance(action, Start) and not self.wanted.works(where.work_dir, action.version):
            return failed
        self.now = self.now.put(world_after(home, action))
        self.torn.append(self.now)
        if isinstance(action, MoveHome):
            old = self.now.at(action.leaves)
            assert old.active is None or old.active.process is ProcessState.STOPPED, "it is left while it runs"
            self.now = self.now.put(home_left(old))
        self.torn.append(self.now)
        assert len(self.now.up) <= 1
        return done

    def _might_leave(self, world: ObservedAgent) -> None:
        left = self.now.put(world)
        assert len(left.up) <= 1
        self.torn.append(left)


def _goes_without_saying(home: ObservedAgent, action: Action) -> bool:
    """What is no change of one home: the switch of a move comes from another, and may name what is named already."""
    if isinstance(action, Configure):
        return home.active is not None and home.active.version == action.directory
    return isinstance(action, MoveHome) and isinstance(action.switch, SwitchVersion)


def later(now: Homes, wanted: Asked) -> Homes:
    """Some time has passed: what does not keep running is stopped, and an unknown status has an end."""
    for where, agent in now.seen.items():
        active = agent.active
        if active is None or active.process is ProcessState.STOPPED:
            continue
        came = active.process.is_running or (active.status_output == "starting" and wanted.works(where, active.version))
        up = came and wanted.stays(where, active.version)
        process = ProcessState.RUNNING if up else ProcessState.STOPPED
        now = now.put(evolve(agent, active=evolve(active, process=process, status_output=process.value)))
    return now


def lives(now: Homes, wanted: Asked) -> str:
    """In which home it lives."""
    return home_lived_in(wanted.desired, now.record, now.at).work_dir.rpartition("/")[2]
