"""This host's places in a fleet's lock: asked at most once a pass for each group, noted on disk before.

A run that was killed is known to hold a place by its note. A host whose memory was made anew may hold places that
nobody knows of: it takes them as noted, and gives them back with its first pass.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import evolve

from reconcile.assess.pass_context import Assessment
from reconcile.decide.admission import Freshness
from reconcile.decide.conditions import Condition, lock_condition
from reconcile.decide.desired import RunState
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places, PlaceWait, keeps_place
from reconcile.engine.results import AgentResult
from reconcile.errors import WriteFailed
from reconcile.net.fleet_lock import FleetLock, Granted, LockAnswer, NoAnswer, Refused
from reconcile.storage.place_file import read_places, write_places

_RETRY_S = (30.0, 90.0)  # until a place that could not be given back is given back again


class PlaceKeeper:
    """Asks for places, once a pass for each group, and gives them back. Agents' threads share it, those of plans that
    outlast their pass too. `reachable`: whether the lock server answered when it was asked last in this pass, with its
    words; None: it was not asked."""

    def __init__(self, lock: FleetLock, groups: Groups, path: Path, clock: Callable[[], float]) -> None:
        self.reachable: tuple[bool, str] | None = None
        self._lock = lock
        self._path = path
        self._clock = clock
        self._asks_again = True
        self._granted: set[str] = set()
        self._asked: set[str] = set()
        self._mutex = threading.Lock()
        known = read_places(path)
        self._made_anew = known is None
        fresh = Places(notes=tuple(PlaceNote(group=group, id=lock.id) for group in groups.all))
        self.places = fresh if known is None else known

    def begin_pass(self, *, asks_again: bool) -> None:
        """`asks_again`: whether a place that was refused in an earlier pass is asked for again in this one."""
        with self._mutex:
            self._made_anew = self._made_anew and not self._path.exists()
            self._granted, self._asked, self.reachable, self._asks_again = set(), set(), None, asks_again

    @property
    def in_force(self) -> tuple[PlaceWait, ...]:
        """The refusals that hold changes now."""
        with self._mutex:
            return tuple(wait for wait in self.places.waits if not self._asks_again or wait.group in self._asked)

    @property
    def groups_held(self) -> frozenset[str]:
        """The groups in which this host may have a place."""
        with self._mutex:
            return frozenset(note.group for note in self.places.notes)

    def may_be_left_over(self, group: str) -> bool:
        """Whether a place of this group is noted only because the memory was made anew, and was not asked for since."""
        with self._mutex:
            return self._made_anew and group not in self._asked

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
        with self._mutex:
            return () if self.places.retry_at is None else (self.places.retry_at,)

    def take(self, group: str) -> bool:
        """Whether this host has a place in the group; asked once a pass. A place that may not be noted is not asked."""
        with self._mutex:
            if group in self._granted or group in self._asked:
                return group in self._granted
            self._asked.add(group)
            note = PlaceNote(group=group, id=self._lock.id)
            had = note in self.places.notes
            try:
                if not had:
                    self._save(evolve(self.places, notes=(*self.places.notes, note)))
            except WriteFailed as err:
                self._refused(group, NoAnswer(message=err.message), had=True)
                return False
            answer = self._heard(self._lock.take(group))
            if isinstance(answer, Granted):
                self._granted.add(group)
                self._forget_wait(group)
                return True
            self._refused(group, answer, had=had)
            return False

    def assert_kept(self, group: str) -> None:
        """Tell the server that this host still holds its place, unless it was asked in this pass already."""
        with self._mutex:
            if group not in self._asked:
                self._asked.add(group)
                if isinstance(self._heard(self._lock.take(group)), Granted):
                    self._granted.add(group)

    def give_back(self, group: str) -> None:
        """Give back each place of this host in the group; what can't be is tried again after a while."""
        with self._mutex:
            for note in [note for note in self.places.notes if note.group == group]:
                if isinstance(self._heard(self._lock.with_id(note.id).give_back(group)), Granted):
                    left = tuple(one for one in self.places.notes if one != note)
                    self._try_to_save(evolve(self.places, notes=left, retry_at=self.places.retry_at if left else None))
                else:
                    self._try_to_save(evolve(self.places, retry_at=self._clock() + random.uniform(*_RETRY_S)))

    def _refused(self, group: str, answer: LockAnswer, *, had: bool) -> None:
        """Remember a refusal. Where the server said no nothing is held; where it failed or said nothing, a place may
        be, and the note stays until it is given back."""
        answered = not isinstance(answer, NoAnswer)
        before = self.places.wait_of(group)
        since = self._clock() if before is None else min(before.since, self._clock())
        message = answer.message if not isinstance(answer, Granted) else ""
        wait = PlaceWait(group=group, since=since, message=message, answered=answered)
        notes = self.places.notes
        if isinstance(answer, Refused) and answer.is_certain and not had:
            notes = tuple(note for note in notes if note != PlaceNote(group=group, id=self._lock.id))
        others = tuple(one for one in self.places.waits if one.group != group)
        self._try_to_save(evolve(self.places, notes=notes, waits=(*others, wait)))

    def _forget_wait(self, group: str) -> None:
        if self.places.wait_of(group) is not None:
            self._try_to_save(
                evolve(self.places, waits=tuple(wait for wait in self.places.waits if wait.group != group))
            )

    def _heard(self, answer: LockAnswer) -> LockAnswer:
        if isinstance(answer, NoAnswer):
            self.reachable = (False, answer.message)
        else:
            self.reachable = (True, "")
        return answer

    def _save(self, places: Places) -> None:
        write_places(self._path, places)
        self.places = places

    def _try_to_save(self, places: Places) -> None:
        """Remember it for this run at least: a note too many is given back once more, which does no harm."""
        try:
            self._save(places)
        except WriteFailed:
            self.places = places

    def end_pass(
        self, needed: frozenset[str | None] | None, released: frozenset[str | None], alive: Callable[[], None]
    ) -> None:
        """Keep the places of the groups that are still needed, and give the others back. `needed` None: it is not known
        what is wanted, so all are kept, except the `released` ones. `alive`: called before each request."""
        for group in sorted(self.groups_held):
            alive()
            is_kept = needed is None or group in needed
            if group in released or self.may_be_left_over(group) or not is_kept:
                self.give_back(group)
            else:
                self.assert_kept(group)


def groups_needed(
    groups: Groups, found: Assessment, results: Iterable[AgentResult], left_alone: frozenset[str], *, is_whole: bool
) -> frozenset[str | None] | None:
    """The groups of which a place is still needed; None: it is not known what is wanted (no answer, some agents alone,
    nothing desired). `left_alone`: agents whose plan still runs; `is_whole`: the pass was for all agents."""
    if not is_whole or found.nothing_desired or found.answered is Freshness.KEPT:
        return None
    needing = (result.name for result in results if _needs_place(result))
    return frozenset(groups.of(name) for name in (*left_alone, *needing))


def _needs_place(result: AgentResult) -> bool:
    desired = result.view.desired
    is_refused = desired.run is RunState.START and desired.artifact is None
    wanted = None if is_refused else result.after.target.content
    return result.is_held_by_operator or result.goes_on or keeps_place(result.record, wanted)
