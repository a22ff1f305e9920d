"""Agents that are wanted in another home than the one that they live in: another workDir, runUser, or both. Pure.

An agent lives in one home: where its `.version` is, of those that its record names. A move is a plan whose stop is in
the old home and whose start is in the new one (planner.plan_move); where it must not be made now is said here. What is
never allowed to happen is a second copy. With another runUser alone both homes are in one workDir, and swap places
(docs/adr/0040).
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from probes.observed import Astray, ObservedAgent, Place, ProcessState
from reconcile.decide.actions import Fetch, Plan, Verify
from reconcile.decide.aim import Trouble
from reconcile.decide.desired import DesiredAgent
from reconcile.decide.records import AgentRecord

Find = Callable[[Place], ObservedAgent | None]
Owns = Callable[[Place], bool | None]
"""Whether a place's user is who owns what stands at `{work_dir}/{name}`; None: nothing stands there, and nobody but
this user and root could put something there."""

_KNOWN_BARS = ("RunUserChanged", "UserMissing")  # of which no process was found, or nobody can have one
_BY_HAND = "or by hand: hold it, stop it, chown -R its home to the new user, and release it"


def homes_of(desired: DesiredAgent, record: AgentRecord | None) -> tuple[Place, ...]:
    """All homes that must be looked at to know where an agent lives, and where it may have to go; the wanted first."""
    places = [desired.place]
    if record is not None:
        open_switch = record.confirmation
        before = None if open_switch is None else open_switch.before
        contents = (before, record.good, record.fallback, record.interrupted)
        places += [record.place, *(content.at for content in contents if content is not None and content.at)]
        places += [open_switch.left] if open_switch is not None and open_switch.left else []
    config_name = desired.place.config_name
    return tuple({place.spot: evolve(place, config_name=config_name) for place in places}.values())


def placed(places: tuple[Place, ...], record: AgentRecord | None, owns: Owns) -> tuple[Place, ...]:
    """An agent's homes, each where it is: of those in one workDir one stands at `{workDir}/{name}`, and the others lie
    beside it. Which one that is its owner tells, so a hand-over is over at once, or was never made.

    Of a home that is none of theirs, or may become anybody's at any moment, it is taken that the agent lives in it as
    it did: nothing is looked at as another user that may be the old one's.
    """
    return tuple(evolve(place, beside=_beside(place, places, record, owns)) for place in places)


def _beside(place: Place, places: tuple[Place, ...], record: AgentRecord | None, owns: Owns) -> str | None:
    sharing = [other for other in places if other.work_dir == place.work_dir]
    if len(sharing) == 1:
        return None
    told = [owns(other) for other in sharing]
    standing = [other for other, is_its_own in zip(sharing, told, strict=True) if is_its_own]
    if not standing:
        lived = [other for other in sharing if record is not None and other.same_spot(record.place)]
        standing = sharing[:1] if told[0] is None or not lived else lived[:1]
    return None if place in standing else standing[0].run_user


def home_lived_in(desired: DesiredAgent, record: AgentRecord | None, find: Find) -> Place:
    """Where the agent lives. In doubt where it lived before: a home that nobody can look into may hold it."""
    if record is None:
        return desired.place
    left = None if record.confirmation is None else record.confirmation.left
    back = None if record.fallback is None else record.fallback.at
    for place in (left, record.place, back):
        home = None if place is None else find(place)
        if home is None or home.place.beside is not None:
            continue
        if home.version_text is not None or (home.stray and home.astray is Astray.UNSEEN):
            return home.place
    # A move that was made and not seen through: whatever is asked by now, that is where it is. And where something runs
    # that no `.version` names, nobody begins anew elsewhere.
    known = find(record.place)
    strays = known is not None and known.place.beside is None and bool(known.stray)
    return _standing(record.place if left is not None or strays else desired.place, desired, record, find)


def _standing(place: Place, desired: DesiredAgent, record: AgentRecord, find: Find) -> Place:
    """The place itself, or where its home lies beside another's, that one: it is what is handed over."""
    found = find(place)
    if found is None or found.place.beside is None:
        return place
    homes = (find(other) for other in homes_of(desired, record) if other.work_dir == place.work_dir)
    return next(home.place for home in homes if home is not None and home.place.beside is None)


def why_it_stays(lives: ObservedAgent, there: ObservedAgent) -> Trouble | None:
    """Why a move can't be made now; None: it can."""
    old, new = lives.place, there.place
    if old.work_dir == new.work_dir or new.beside is not None:
        why = _why_not_handed_over(lives, there)
        if why:
            message = f"{why}: it stays {old.run_user}'s; name another workDir beside the new runUser, {_BY_HAND}"
            return Trouble(reason="RunUserChanged", message=message)
    if lives.active is not None and lives.active.process is ProcessState.UNKNOWN:
        return Trouble(
            reason="StatusUnknown",
            message=f"it is to move to {new.work_dir}, and control status of {lives.active.version} in {old.work_dir} "
            f"says: {lives.active.said or 'nothing'}; it moves once that says started or stoped",
        )
    if there.stray and not _is_own_word(lives, there):
        to = new.work_dir if new.beside is None else f"{new.run_user} in {new.work_dir}"
        return Trouble(reason=there.stray_reason, message=f"it can't move to {to}: {there.stray}")
    return None


def _why_not_handed_over(lives: ObservedAgent, there: ObservedAgent) -> str:
    """Why one user's home can't take the place of another's; empty: nothing is known against it."""
    old, new = lives.place, there.place
    if new.beside is None:
        return f"{old.run_user} and {new.run_user} both own {old.path}"
    if old.work_dir != new.work_dir:
        return f"{new.standing.path} is {new.beside}'s, and is not where it lives"
    if there.stray and there.stray_reason == "RunUserChanged":
        return f"{old.path} can't be handed over from {old.run_user} to {new.run_user}: {there.stray}"
    return ""


def why_twice(
    lives: ObservedAgent, others: tuple[ObservedAgent, ...], record: AgentRecord | None = None
) -> Trouble | None:
    """Why nothing may be started: another home of it seems to be up."""
    for other in others:
        if other.place.path == lives.place.path:
            continue  # the same home, of one user under two names
        active, home = other.active, other.place.path
        if active is not None and active.process is not ProcessState.STOPPED:
            what = f"{active.version} in {home} says: {active.said or 'nothing'}"
        elif other.astray is Astray.UP or (other.astray is Astray.SAID and not _is_own_word(lives, other)):
            what = f"in {home}: {other.stray}"
        elif other.astray is Astray.SEEN and _was_given_away(other, record):
            message = f"it is {lives.place.run_user}'s by now, and {other.stray}: nothing is started beside it; end it"
            return Trouble(reason="UnexpectedlyRunning", message=message)
        elif other.stray_reason not in _KNOWN_BARS and _was_given_away(other, record):
            message = f"whether {other.place.run_user} still runs it, whose home it was, can't be told: {other.stray}"
            return Trouble(reason=other.stray_reason, message=message)
        else:
            continue
        return Trouble(
            reason="UnexpectedlyRunning",
            message=f"it lives in {lives.place.work_dir} as {lives.place.run_user}, and {what}; nothing is started "
            f"beside it: stop it there and remove {home}/.version; or, if both are one directory, correct workDir at "
            f"ops-meta",
        )
    return None


def _was_given_away(other: ObservedAgent, record: AgentRecord | None) -> bool:
    """Whether it lived there when somebody gave its home to another user, so that what runs may be the agent."""
    lived = other.place.beside is not None and record is not None and other.place.same_spot(record.place)
    return lived and bool(other.stray)


def _is_own_word(lives: ObservedAgent, other: ObservedAgent) -> bool:
    """Whether a status says started of the agent where it lives: many scripts keep one pid file for all homes."""
    runs = lives.active is not None and lives.active.process.is_running
    return runs and other.astray is Astray.SAID


def as_told(plan: Plan, lives: Place, entry: Place) -> Plan:
    """The plan with its places named where they are others than the entry's. `lives`: of actions that name none."""

    def place_of(at: Place | None) -> Place | None:
        place = at or lives
        return None if place.same_spot(entry) and place.beside is None else place

    actions = tuple(a if isinstance(a, Fetch | Verify) else evolve(a, at=place_of(a.at)) for a in plan.actions)
    return evolve(plan, actions=actions)
