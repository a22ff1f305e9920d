"""This host's places in a fleet's lock: asked at most once a pass for each group, noted on disk before.

A run that was killed is known to hold a place by its note. A host whose memory was lost may hold places that
are not noted: it takes them as noted, and gives them back with its first pass. What it holds of a server that the
config no longer names is given back, too.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import evolve

from probes.values import frozen
from reconcile.assess.pass_context import Assessment
from reconcile.decide.conditions import Condition, lock_condition
from reconcile.decide.desired import RunState
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places, PlaceWait, keeps_place
from reconcile.engine.results import AgentResult
from reconcile.errors import WriteFailed
from reconcile.net.fleet_lock import FleetLock, Granted, LockAnswer, NoAnswer, PlaceRefused
from reconcile.storage.place_file import read_places, write_places

_RETRY_S = (30.0, 90.0)  # until a place that could not be given back is given back again


@frozen(kw_only=True)
class PlaceNeeds:
    """What a pass says of the places. `keeping`: the agents for which one that was taken is kept; None: that is not
    known, so all are. `changing`: those amid a change, so that not even an operator gives a place back. `waiting`: the
    groups of which a place is still to be asked; None: that is not known. `released`: those of which an operator wants
    it given back. `is_busy`: a plan outlasts the pass."""

    groups: Groups
    keeping: frozenset[str] | None = None
    changing: frozenset[str] = frozenset()
    waiting: frozenset[str | None] | None = None
    released: frozenset[str | None] = frozenset()
    is_busy: bool = False

    def concern(self, note: PlaceNote, agents: frozenset[str]) -> bool:
        """Whether a place was taken for one of these agents, as far as that is known."""
        if note.agents:
            return bool(note.agents & agents)
        return any(self.groups.of(agent) == note.group for agent in agents)


class PlaceKeeper:
    """Asks for places, once a pass for each group, and gives them back. Agents' threads share it, those of plans that
    outlast their pass too. `reachable`: whether the lock server answered when it was asked last in this pass, with its
    words; None: it was not asked."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """`path`: of places.json. It is of use within `begin_pass` and the next one."""
        self.reachable: tuple[bool, str] | None = None
        self.places = Places(notes=())
        self._path = path
        self._clock = clock
        self._mutex = threading.Lock()  # held while a server is asked: what only looks does without
        self._is_unwritten = False
        self._memory_is_new: bool | None = None  # None: no pass was begun yet

    def begin_pass(self, lock: FleetLock, groups: Groups, *, asks_again: bool) -> None:
        """`lock`, `groups`: by the config of this pass. `asks_again`: whether a place that was refused in an earlier
        pass is asked for again in this one."""
        with self._mutex:
            self.reachable = None
            self._lock = lock
            self._asks_again = asks_again
            self._granted: set[str] = set()
            self._asked: set[str] = set()
            self._silent: dict[str, NoAnswer] = {}  # the servers that did not answer in this pass
            self._read(groups)

    def _read(self, groups: Groups) -> None:
        """Take up what is remembered: other runs of this folder take and give back places between two passes."""
        known = read_places(self._path)
        if known is None and self._memory_is_new is None:
            self.places = Places(notes=tuple(map(self._note, groups.all if self._lock.url else ())))
        elif known is not None:
            notes = (*known.notes, *(self.places.notes if self._is_unwritten else ()))
            self.places = evolve(known, notes=_merged(evolve(note, url=note.url or self._lock.url) for note in notes))
        self._memory_is_new = known is None and self._memory_is_new is not False

    @property
    def in_force(self) -> tuple[PlaceWait, ...]:
        """The refusals that hold changes now."""
        return tuple(wait for wait in self.places.waits if not self._asks_again or wait.group in self._asked)

    @property
    def groups_held(self) -> frozenset[str]:
        """The groups in which this host may have a place."""
        return frozenset(note.group for note in self.places.notes if note.url)

    def may_be_left_over(self, group: str) -> bool:
        """Whether a place of this group is noted only because the memory was lost, and was not asked for since."""
        return bool(self._memory_is_new) and group not in self._asked

    @property
    def condition(self) -> Condition | None:
        """Whether the lock server answered in this pass; None: it was not asked."""
        if self.reachable is None:
            return None
        answered, message = self.reachable
        return lock_condition(None if answered else message)

    @property
    def retries(self) -> tuple[float, ...]:
        """When what could not be given back is to be given back again, as Unix seconds."""
        return () if self.places.retry_at is None else (self.places.retry_at,)

    def take(self, group: str, agent: str) -> bool:
        """Whether this host has a place in the group, for an agent's change; asked once a pass. A place that may not be
        noted is not asked, nor one of a server that the config names no more."""
        with self._mutex:
            is_asked = group in self._asked or not self._lock.url
            if is_asked and group not in self._granted:
                return False
            note = evolve(self._note(group), agents=frozenset({agent}))
            had = any(note.is_same(one) for one in self.places.notes)
            self._asked.add(group)
            try:
                self._save(evolve(self.places, notes=_merged((*self.places.notes, note))))
            except WriteFailed as err:
                self._refused(note, NoAnswer(message=err.message), had=had)
                return False
            if is_asked:
                return True
            answer = self._ask(note)
            if isinstance(answer, Granted):
                self._granted.add(group)
                self._forget_waits(lambda wait: wait.group != group)
                return True
            self._refused(note, answer, had=had)
            return False

    def end_pass(self, needs: PlaceNeeds, alive: Callable[[], None]) -> None:
        """Keep the places that are still needed, and give the others back. `alive`: called before each request."""
        with self._mutex:
            self._try_to_save(evolve(self.places, retry_at=None))
            for note in [note for note in self.places.notes if note.url]:
                alive()
                if self._must_stay_held(note, needs):
                    self._assert(note)
                else:
                    self._give_back(note)
            if needs.waiting is not None:
                waiting = needs.waiting
                self._forget_waits(lambda wait: wait.group in waiting)

    def _must_stay_held(self, note: PlaceNote, needs: PlaceNeeds) -> bool:
        if note.url != self._lock.url:  # of another config, and not counted on any more
            return needs.is_busy
        if needs.concern(note, needs.changing) and not self.may_be_left_over(note.group):
            return True
        if note.group in needs.released or self.may_be_left_over(note.group):
            return False
        return needs.keeping is None or needs.concern(note, needs.keeping)

    def _note(self, group: str) -> PlaceNote:
        return PlaceNote(group=group, id=self._lock.id, url=self._lock.url)

    def _assert(self, note: PlaceNote) -> None:
        """Tell the server that this host still holds its place, unless it was asked in this pass already."""
        if not note.is_same(self._note(note.group)):  # of a name that the host had before
            self._ask(note)
        elif note.group not in self._asked:
            self._asked.add(note.group)
            if isinstance(self._ask(note), Granted):
                self._granted.add(note.group)

    def _give_back(self, note: PlaceNote) -> None:
        if isinstance(self._ask(note, gives_back=True), Granted):
            if note.is_same(self._note(note.group)):
                self._granted.discard(note.group)
                self._asked.discard(note.group)
            self._try_to_save(evolve(self.places, notes=_without(self.places.notes, note)))
        elif note.url == self._lock.url:  # else at the next slot: a server that is named no more may be gone for ever
            self._try_to_save(evolve(self.places, retry_at=self._clock() + random.uniform(*_RETRY_S)))

    def _ask(self, note: PlaceNote, *, gives_back: bool = False) -> LockAnswer:
        """Ask the server of a note. One that did not answer in this pass is not waited for once more."""
        answer: LockAnswer | None = self._silent.get(note.url)
        if answer is None:
            lock = self._lock.at(note.url, note.id)
            answer = lock.give_back(note.group) if gives_back else lock.take(note.group)
        if isinstance(answer, NoAnswer):
            self._silent[note.url] = answer
        if note.url == self._lock.url or not self._lock.url:
            self.reachable = (False, answer.message) if isinstance(answer, NoAnswer) else (True, "")
        return answer

    def _refused(self, note: PlaceNote, answer: LockAnswer, *, had: bool) -> None:
        """Remember a refusal. Where the server said no nothing is held; where it failed or said nothing, a place may
        be, and the note stays until it is given back."""
        answered = not isinstance(answer, NoAnswer)
        before = self.places.wait_of(note.group)
        since = self._clock() if before is None else min(before.since, self._clock())
        message = answer.message if not isinstance(answer, Granted) else ""
        wait = PlaceWait(group=note.group, since=since, message=message, answered=answered)
        notes = self.places.notes
        if isinstance(answer, PlaceRefused) and answer.is_certain and not had:
            notes = _without(notes, note)
        others = tuple(one for one in self.places.waits if one.group != note.group)
        self._try_to_save(evolve(self.places, notes=notes, waits=(*others, wait)))

    def _forget_waits(self, is_left: Callable[[PlaceWait], bool]) -> None:
        self._try_to_save(evolve(self.places, waits=tuple(filter(is_left, self.places.waits))))

    def _save(self, places: Places) -> None:
        if places != self.places or self._is_unwritten:
            write_places(self._path, places)
        self.places, self._is_unwritten = places, False

    def _try_to_save(self, places: Places) -> None:
        """Remember it for this run at least: a note too many is given back once more, which does no harm."""
        try:
            self._save(places)
        except WriteFailed:
            self.places, self._is_unwritten = places, True


def _merged(notes: Iterable[PlaceNote]) -> tuple[PlaceNote, ...]:
    """Each place once, with all agents that it was taken for. One whose agent is not known stays so."""
    found: list[PlaceNote] = []
    for note in notes:
        same = next((one for one in found if one.is_same(note)), None)
        if same is None:
            found.append(note)
        else:
            agents = same.agents | note.agents if same.agents and note.agents else frozenset()
            found[found.index(same)] = evolve(same, agents=agents)
    return tuple(found)


def _without(notes: Iterable[PlaceNote], note: PlaceNote) -> tuple[PlaceNote, ...]:
    return tuple(one for one in notes if not one.is_same(note))


def needs_of(
    groups: Groups, found: Assessment, results: Iterable[AgentResult], left_alone: frozenset[str], *, is_whole: bool
) -> PlaceNeeds:
    """What a pass says of this host's places. `left_alone`: agents whose plan of an earlier pass still runs.
    `is_whole`: it was for all agents. What is wanted is not known without an answer, or where nothing is desired."""
    results = tuple(results)
    going_on = left_alone | {result.name for result in results if result.goes_on}
    confirming = {result.name for result in results if result.has_pending_upgrade}
    needs = PlaceNeeds(
        groups=groups,
        changing=going_on | confirming,
        released=frozenset(map(groups.of, found.requests.place_releases)),
        is_busy=bool(going_on),
    )
    if not is_whole or not found.says_what_is_wanted:
        return needs
    return evolve(
        needs,
        keeping=going_on | {result.name for result in results if _keeps_place(result)},
        waiting=frozenset(result.after.place_group for result in results),
    )


def _keeps_place(result: AgentResult) -> bool:
    desired = result.view.desired
    is_refused = desired.run is RunState.START and desired.artifact is None
    wanted = None if is_refused else result.after.target.content
    return result.is_held_by_operator or keeps_place(result.record, wanted)
