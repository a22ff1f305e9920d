"""Agents that are wanted in another home than the one that they live in: another workDir, runUser, or both. Pure.

An agent lives in one home: where its `.version` is, of those that its record names. A move is a plan whose stop is in
the old home and whose start is in the new one (planner.plan_move); where it must not be made now is said here. What is
never allowed to happen is a second copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import evolve

from probes.observed import Evidence, HomeRef, ObservedAgent, ProcessState
from reconcile.decide.actions import Action, Fetch, MoveHome, Plan, Verify
from reconcile.decide.desired import DesiredAgent
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.target import Blocker

Find = Callable[[HomeRef], ObservedAgent | None]


def homes_of(desired: DesiredAgent, record: AgentRecord | None) -> tuple[HomeRef, ...]:
    """All homes that must be observed to know where an agent lives, and where it may have to go; the wanted first.

    Each directory once, as the user whose it was at last: the scripts of one user are never run as another.
    """
    known: dict[str, HomeRef] = {}
    if record is not None:
        homes = (record.home, *(content.at for content in record.former_contents), record.left)
        known = {home.path: home for home in reversed(homes) if home is not None}
    by_path = {desired.home.path: desired.home} | known
    return tuple(evolve(home, config_name=desired.home.config_name) for home in by_path.values())


def home_lived_in(desired: DesiredAgent, record: AgentRecord | None, find: Find) -> HomeRef:
    """Where the agent lives. In doubt where it lived before: a home that can't be looked into may hold it.

    A home that was not observed is the wanted one: the directory was another user's, and nothing of it is left there.
    """
    if record is None:
        return desired.home
    for seen in _seen_of(record, find):
        if _may_live_in(seen):
            return seen.home
    if record.left is not None or _is_blocked(find(record.home)):
        # A move that was made and not seen through: whatever is asked by now, that is where it is. And where something
        # runs that no `.version` names, nothing begins again elsewhere.
        return record.home
    wanted = next(home for home in homes_of(desired, record) if home.path == desired.home.path)
    there = find(wanted)
    return desired.home if there is None or there.is_empty else wanted


def _seen_of(record: AgentRecord, find: Find) -> Iterator[ObservedAgent]:
    """What is seen of the homes that it may still live in, the likeliest first."""
    back = None if record.fallback is None else record.fallback.at
    homes = (home for home in (record.left, record.home, back) if home is not None)
    return (seen for seen in map(find, homes) if seen is not None)


def _may_live_in(seen: ObservedAgent) -> bool:
    """Whether an agent's `.version` is there, or that can't be known."""
    return seen.version_text is not None or (_is_blocked(seen) and seen.evidence is Evidence.UNSEEN)


def _is_blocked(seen: ObservedAgent | None) -> bool:
    return seen is not None and bool(seen.blocked_by)


def why_it_stays(lives: ObservedAgent, there: ObservedAgent) -> Blocker | None:
    """Why a move can't be made now; None: it can."""
    old, new = lives.home, there.home
    if old.work_dir == new.work_dir:
        return Blocker(
            reason="RunUserChanged",
            message=f"ops-meta wants it as {new.run_user}, and {old.path} is {old.run_user}'s: a home is never given "
            f"to another user, so it stays {old.run_user}'s; name another workDir for {new.run_user} at ops-meta, and "
            f"it moves there; or set cmd to stop, remove {old.path}, and set cmd to start",
        )
    if lives.active is not None and lives.active.process is ProcessState.UNKNOWN:
        return Blocker(
            reason="StatusUnknown",
            message=f"it is to move to {new.work_dir}, and control status of {lives.active.version} in {old.work_dir} "
            f"says: {lives.active.status_output or 'nothing'}; it moves once that says started or stopped",
        )
    if there.blocked_by and not _is_own_word(lives, there):
        return Blocker(reason=there.blocked_reason, message=f"it can't move to {new.work_dir}: {there.blocked_by}")
    return None


def why_twice(lives: ObservedAgent, others: tuple[ObservedAgent, ...]) -> Blocker | None:
    """Why nothing may be started: another home of it seems to be up."""
    for other in others:
        active, home = other.active, other.home.path
        if active is not None and active.process is not ProcessState.STOPPED:
            what = f"{active.version} in {home} says: {active.status_output or 'nothing'}"
        elif other.evidence is Evidence.UP or (other.evidence is Evidence.SAID and not _is_own_word(lives, other)):
            what = f"in {home}: {other.blocked_by}"
        else:
            continue
        return Blocker(
            reason="UnexpectedlyRunning",
            message=f"it lives in {lives.home.work_dir} as {lives.home.run_user}, and {what}; nothing is started "
            f"beside it: stop it there and remove {home}/.version; or, if both are one directory, correct workDir at "
            f"ops-meta",
        )
    return None


def _is_own_word(lives: ObservedAgent, other: ObservedAgent) -> bool:
    """Whether a status says started of the agent where it lives: many scripts keep one pid file for all homes."""
    runs = lives.active is not None and lives.active.process.is_running
    return runs and other.evidence is Evidence.SAID


def relative_to(plan: Plan, lives: HomeRef, entry: HomeRef) -> Plan:
    """The plan with a home named in each action that is done elsewhere than in the entry's. `lives`: the home of the
    actions that name none."""

    def named(action: Action) -> Action:
        match action:
            case Fetch() | Verify():
                return action
            case MoveHome():
                return evolve(action, switch=evolve(action.switch, at=named_home(action.at)))
            case _:
                return evolve(action, at=named_home(action.at))

    def named_home(at: HomeRef | None) -> HomeRef | None:
        home = at or lives
        return None if home.same_home(entry) else home

    return evolve(plan, actions=tuple(map(named, plan.actions)))
