"""Every small world, not a sample: each plan is legal, ends where it should, and no longer than it must be; and
wherever a crash may fall, amid an action or between two, planning again goes on from there.

The worlds that crashes leave are themselves checked as worlds, until there are no new ones: so it holds for any number
of crashes in a row, and one pass that isn't interrupted is always enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest
from attrs import evolve

from probes.observed import PREVIOUS_CONFIG, ObservedAgent, ProcessState
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    Held,
    Plan,
    Start,
    Stop,
    Switch,
    SwitchConfig,
    SwitchTree,
    Unpack,
    Verify,
)
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import AgentInputs, Rules, heal_of, view_healed
from reconcile.decide.planner import plan_agent, world_after
from reconcile.decide.target import RemoteInputs, Target
from tests.reconcile.decide.lives import Agent, Circumstances, Passed, a_pass, looked
from tests.reconcile.decide.worlds import (
    NOW,
    ORDER,
    Life,
    Wish,
    as_wished,
    crashes,
    legal,
    litter,
    looked_at,
    proven,
    remembered,
    seen,
    target_at,
    types,
    whole_pass,
    wish,
)

PROCESSES = ("started", "stoped", "unknown")
DANGLING = ("", "names ;", "names 9.9;", "names 1.0;", "names 2.0;")
KEPT = Circumstances(answered=Freshness.LAST_ACCEPTED, keep=99)
LIVE = Circumstances(keep=99)
# The fleet's lock refuses a place: once it is asked, or since an earlier pass.
REFUSED, WAITS = Circumstances(keep=99, refused=True), Circumstances(keep=99, refused=True, waits=True)
BEFORE_A_PLACE = ("fetch", "verify", "unpack", "configure")


def content_worlds(*, litter: bool) -> Iterator[ObservedAgent]:
    """Versions and their content: what is in use, staged, half exchanged or left over. No config."""
    kinds = ("=A", "=B", "?", "~")
    staged = ("", "=A", "=B", "~")
    aside = ("", "next 2.0=A;", "next 2.0=B;", "next 1.0=A;")
    displaced = ("", "previous 2.0=B;", "previous 1.0?;")
    left = ("", "left .stage-x; left .stage-config; left .next-2.0;") if litter else ("",)
    in_use = [f"{v}{kind} {process};" for v in ("1.0", "2.0") for kind in kinds for process in PROCESSES]
    for used, one, two, n, p, rest in itertools.product(
        (*in_use, *DANGLING), staged, staged, aside, displaced if litter else displaced[:2], left
    ):
        if (one and "1.0" in used) or (two and "2.0" in used) or ("next 2.0" in n and ".next-2.0" in rest):
            continue
        one, two = (f"staged {v}{kind};" if kind else "" for v, kind in (("1.0", one), ("2.0", two)))
        yield seen(used + one + two + n + p + rest)


def config_worlds() -> Iterator[ObservedAgent]:
    """Configs: as delivered, of an older delivery, edited here or absent, in each tree that may come into use."""
    in_use = [
        f"{v}{kind}{config} {process};"
        for v in ("1.0", "2.0")
        for kind in ("=A", "=B", "?")
        for config in ("", "+c1", "+c0", "+e")
        for process in PROCESSES
    ]
    staged = ("", "staged 2.0=A;", "staged 2.0=A+c1;", "staged 2.0=A+c0;")
    aside = ("", "next 2.0=A;", "next 2.0=A+c1; previous 2.0=B+c0;")
    for used, two, n, rest in itertools.product((*in_use, *DANGLING), staged, aside, ("", "left .stage-config;")):
        if not (two and "2.0" in used):
            yield seen(used + two + n + rest)


RECORDS = ("none", "new", "new 1.0>2.0", "new 2.0>2.0", "new; told 1.0", "new 1.0>2.0; told 1.0 9.9")
CONFIG_RECORDS = ("none", "new", "bare", "c1", "c0", "c1 2.0>2.0", "c0 2.0>2.0", "c0 1.0>2.0")


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["start 2.0=A", "start 2.0", "stop", "observe"])
def test_every_content(asked: str) -> None:
    records = RECORDS if "start" in asked else RECORDS[-1:]  # else memory decides nothing
    lives = (Life(world, remembered(record)) for world in content_worlds(litter=True) for record in records)
    assert check_all(lives, wish(asked)) > 2_000


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["start 2.0=A+c1", "start 2.0+c1"])
def test_every_config(asked: str) -> None:
    lives = (Life(world, remembered(record)) for world in config_worlds() for record in CONFIG_RECORDS)
    assert check_all(lives, wish(asked)) > 5_000


@pytest.mark.parametrize("asked", ["start 2.0=A", "start 2.0", "stop", "start 2.0=A+c1"])
def test_no_plan_is_longer_than_it_must_be(asked: str) -> None:
    wanted = wish(asked)
    worlds = config_worlds() if "+" in asked else content_worlds(litter=False)
    for life in {Life(world, remembered("c0" if "+" in asked else "new")) for world in worlds}:
        target = target_at(wanted, life)
        plan = plan_agent(target, life.observed)
        for dropped in plan.actions:
            if dropped.type in ("fetch", "verify"):
                assert "unpack" in types(plan)
            else:
                rest = [action for action in plan.actions if action is not dropped]
                assert not suffices(target, life.observed, rest), f"{dropped} is not needed: {plan} in {life}"


@pytest.mark.parametrize("asked", ["start 2.0=A", "start 2.0", "start 2.0=A+c1", "stop", "start 1.0=A"])
def test_a_heal_needs_nothing_remote_and_its_change_is_planned_as_after_it(asked: str) -> None:
    """Whatever remote files say, and whether they say anything; what comes after it is the planner's own plan."""
    wanted = wish(asked)
    worlds = config_worlds() if "+" in asked else content_worlds(litter=False)
    healed = 0
    for life in {Life(world, remembered("c0" if "+" in asked else "new")) for world in worlds}:
        sighting = AgentInputs(desired=wanted.desired, observed=life.observed, record=life.record)
        moment = EvaluationContext(now=NOW, answered=Freshness.LIVE)
        heal = heal_of(sighting, wanted.remote, moment, Rules(), None)
        unheard = heal_of(sighting, RemoteInputs(), moment, Rules(), None)
        assert (heal and heal.due.actions) == (unheard and unheard.due.actions), life
        if heal is None:
            assert not looked(life, wanted, KEPT).misses_healing
            continue
        healed += 1
        assert not any(isinstance(action, Fetch | Verify | Unpack | Configure) for action in heal.due.actions)
        observed = life.observed
        for action in heal.due.actions:
            assert not legal(observed, action), f"{action} in {observed}"
            observed = world_after(observed, action)
        assert observed.active is not None
        assert observed.active.process is ProcessState.RUNNING, "it is up then"
        view = view_healed(sighting, wanted.remote, moment, Rules(), None, heal)
        assert view.plan.actions == plan_agent(view.target, observed).actions
    assert healed > 5 or asked == "stop"


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["start 2.0=A", "start 1.0=A", "start 2.0=A+c1", "stop"])
def test_where_a_place_is_refused_nothing_but_heals_and_ways_back_runs(asked: str) -> None:
    """Wherever it is asked, and where it was refused before: as without an answer, and what must run runs."""
    wanted, is_config = wish(asked), "+" in asked
    worlds = config_worlds() if is_config else content_worlds(litter=False)
    records = ("none", "c1", "c0 1.0>2.0") if is_config else ("none", "new 1.0>2.0", "new; told 1.0")
    refused = 0
    for life in {Life(world, remembered(record)) for world in worlds for record in records}:
        passed, kept, free = (a_pass(life, wanted, Agent(), at) for at in (REFUSED, KEPT, LIVE))
        changes = touching(free) != touching(kept) and kept.life.observed.active is not None
        if not changes or wanted.desired.run is not RunState.START:
            assert (passed.life, passed.done) == (free.life, free.done), f"what needs no place is free: {life}"
            continue
        refused += 1
        assert [kind for kind in passed.done if kind not in BEFORE_A_PLACE] == list(kept.done), life
        check_refused(life, passed, kept)
        waits = looked(life, wanted, WAITS)
        assert waits.place_group is None or waits.due.actions == looked(life, wanted, KEPT).due.actions, life
        if looked(passed.life, wanted, LIVE).plan.touches_agent:
            assert isinstance(passed.after.verdict, Held)
            assert passed.after.verdict.reason == "WaitingForPlace"
    assert refused > 20 or asked == "stop"


def check_refused(life: Life, passed: Passed, kept: Passed) -> None:
    """What is in use is what was, or the way back, and it runs, except where nothing is known of it or it was told not
    to."""
    was, now = life.observed.active, passed.life.observed.active
    assert now is not None
    assert now == kept.life.observed.active, life
    assert was is None or now.tree == was.tree or "switch" in kept.done
    reported = () if life.record is None else life.record.told_to_stop
    if now.process is not ProcessState.RUNNING:
        assert now.process is ProcessState.UNKNOWN or now.version in reported, f"what must run runs: {life}"


def touching(passed: Passed) -> list[str]:
    return [kind for kind in passed.done if kind in ("stop", "switch")]


def suffices(target: Target, observed: ObservedAgent, actions: list[Action]) -> bool:
    """Whether these actions lead to the target. Unknown content may stay in use; nothing changes over to it.
    And a config that an interrupted step left is nothing to rely on."""
    was_in_use = observed.active is not None and observed.active.version == target.version
    written = any(isinstance(action, Configure) for action in actions)
    if any(isinstance(action, SwitchConfig) for action in actions) and not written:
        return False
    for action in actions:
        if legal(observed, action):
            return False
        observed = world_after(observed, action)
    known = observed.active is not None and {str(digest) for digest in target.digests} <= observed.active.tree.digests
    # What the switch displaced is the way back, and stays.
    behind = [*observed.previous] if any(isinstance(action, Switch) for action in actions) else []
    rest = litter(evolve(observed, previous=observed.previous.difference(behind)))
    if behind or any(isinstance(action, Switch) for action in actions):
        rest -= {PREVIOUS_CONFIG}
    return as_wished(target, observed) and not rest and (known or was_in_use or target.run is RunState.STOP)


def check_all(lives: Iterable[Life], wanted: Wish) -> int:
    """Check each life, and each that a crash makes of it, and so on. Return how many there were."""
    waiting = list(dict.fromkeys(lives))
    known = set(waiting)
    ends: dict[Life, str] = {}  # where worlds lead, and why nothing is pending there; most lead to one of few
    while waiting:
        life = waiting.pop()
        plan, after = check(life, wanted)
        if after not in ends:
            ends[after] = check_end(after, wanted)
        assert ends[after] != "StatusUnknown" or (plan.reason, plan.actions) == ("StatusUnknown", ()), life
        for crashed in crashes(life, plan, wanted):
            if crashed not in known:
                known.add(crashed)
                waiting.append(crashed)
    return len(known)


def check(life: Life, wanted: Wish) -> tuple[Plan, Life]:
    """One world: its plan is legal at each action. Return it, and where it leads."""
    plan, after = whole_pass(life, wanted)
    found = looked_at(life, wanted)
    kinds = [ORDER.index(action.type) for action in plan.actions]
    assert kinds == sorted(set(kinds)), f"out of order, or twice the same: {plan}"
    check_untouched(found, target_at(wanted, found), plan)
    check_healing(life, wanted)
    return plan, after


def check_end(after: Life, wanted: Wish) -> str:
    """Where a plan leads nothing is pending, and all is as wished, except an agent of which nothing is known. Return
    the reason of that."""
    after = proven(after, wanted)
    target = target_at(wanted, after)
    then = plan_agent(target, after.observed)
    assert not then.actions, f"{after}\nwhere {then} is pending"
    if then.reason != "StatusUnknown":
        assert as_wished(target, after.observed)
        assert target.run is RunState.OBSERVE or not target.prune or not litter(after.observed)
    return then.reason


def check_untouched(life: Life, target: Target, plan: Plan) -> None:
    """What must be left alone: an agent that is as wished, an unknown one, a config that was edited here alone."""
    active = life.observed.active
    if as_wished(target, life.observed):
        assert not plan.touches_agent
        cleaned = target.run is not RunState.OBSERVE and target.prune
        assert bool(plan.actions) == (cleaned and bool(litter(life.observed)))
    if active is None or target.run is RunState.OBSERVE:
        return
    settled = target.run is RunState.STOP or plan.reason in ("NotRunning", "AsDesired", "StatusUnknown")
    if active.process is ProcessState.UNKNOWN and settled and not target.start_due:
        assert plan.actions == ()
    if target.edited:
        assert plan.reason not in ("ConfigDiffers", "VersionDiffers", "DigestDiffers")
    if target.run is RunState.START and plan.reason in ("NotRunning", "AsDesired"):
        assert not any(isinstance(action, Stop | Switch | Unpack) for action in plan.actions)


def check_healing(life: Life, wanted: Wish) -> None:
    """Without an answer: nothing is fetched or stopped, what crashed is started, and a half-done exchange finished."""
    due = looked(life, wanted, KEPT).due
    assert all(action.type in ("start", "prune") or isinstance(action, SwitchTree) for action in due.actions)
    observed = life.observed
    for action in due.actions:
        assert not legal(observed, action), f"{action} in {observed}"
        observed = world_after(observed, action)
    active = observed.active
    reported = () if life.record is None else life.record.told_to_stop
    barred = active is not None and active.version in reported and active.version != wanted.desired.version
    if wanted.desired.run is not RunState.START or barred:
        assert not any(isinstance(action, Start) for action in due.actions)
    elif active is not None and active.process is not ProcessState.RUNNING:
        assert active.process is ProcessState.UNKNOWN
