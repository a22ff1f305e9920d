"""The homes that a plan touches: each is locked until the plan has ended, and made where it is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from probes.errors import PolicyRefused, UpdaterError
from probes.home import home_of, refused_to_root, why_not_made
from probes.host.facts import find_user
from probes.host.paths import AgentHome
from probes.host.trusted_path import open_home_parent
from probes.observed import HomeRef
from probes.worker.pool import is_us
from reconcile.act.context import StepContext
from reconcile.act.home_ops import check_changeable, is_there, lock_home, make_home, unlock_home, unmake_home
from reconcile.act.host.root_ops import give_home, take_back_home
from reconcile.decide.actions import Fetch, MoveHome, Plan, Stop, Unpack, Verify
from reconcile.errors import WorkDirMissing, WriteFailed


class PlanHomes:
    """The homes of one plan. `stack` lets go of them."""

    def __init__(self, context: StepContext, stack: ExitStack) -> None:
        self._context = context
        self._stack = stack
        self._missing: set[HomeRef | None] = set()

    def lock(self, plan: Plan) -> None:
        """Lock every home that the plan touches, so that no other updater acts there. Raise UpdaterError.

        One that is still to be made is made right before something is unpacked there, so that a tarball that can't be
        had leaves no empty home.
        """
        made = {action.at for action in plan.actions if isinstance(action, Unpack)}
        at = _touched(plan)
        if plan.move is not None:
            self._leave(plan.move)
            at = {home for home in at if not (home or self._context.home).same_home(plan.move.leaves)}
        for home in at:
            there = self._context.at(home)
            if home in made and not there.worker.do(is_there, home_of(there.home)):
                _check_home(there)
                self._missing.add(home)
            else:
                self._lock(there)

    def make(self, at: HomeRef | None) -> None:
        """Make a home that was missing, and lock it, for as long as something stays in it. Raise UpdaterError."""
        if at not in self._missing:
            return
        self._missing.discard(at)
        there = self._context.at(at)
        unmake = _make_home(home_of(there.home), there)
        try:
            self._lock(there)
        finally:
            self._stack.callback(_unless_lost, unmake)  # before the lock is let go

    def _leave(self, move: MoveHome) -> None:
        leaving = self._context.at(move.leaves)
        _check_apart(home_of(move.leaves), home_of(self._context.at(move.at).home))
        leaving.worker.do(check_changeable, home_of(move.leaves))
        self._lock(leaving)

    def _lock(self, context: StepContext) -> None:
        self._stack.enter_context(context.worker.held_open())
        home = home_of(context.home)
        lock = context.worker.do(lock_home, home)
        self._stack.callback(_unless_lost, partial(context.worker.do, unlock_home, lock))
        if os.geteuid() == 0 and is_us(context.home.run_user):
            # It was judged when it was observed; by now it may be another folder, or the first one there.
            refused = refused_to_root(home, ())
            if refused:
                raise PolicyRefused(refused)


def _touched(plan: Plan) -> set[HomeRef | None]:
    """Where something is done. A version whose home was removed is ended without it: there may be none to lock."""
    actions = (action for action in plan.actions if not isinstance(action, Fetch | Verify))
    return {action.at for action in actions if not (isinstance(action, Stop) and action.removed)}


def _check_apart(left: AgentHome, into: AgentHome) -> None:
    """Refuse a move of a home into itself: what was in use would be in use no more."""
    if os.path.realpath(left.path) == os.path.realpath(into.path):
        raise WriteFailed(f"{left.path} and {into.path} are one directory, by a link: nothing moves; correct workDir")


def _check_home(context: StepContext) -> None:
    """See that a home can be made, before something is fetched for it. Raise WorkDirMissing, PolicyRefused."""
    home = home_of(context.home)
    why = context.worker.do(why_not_made, home)
    if why and (os.geteuid() != 0 or is_us(context.home.run_user) or not os.path.isdir(home.work_dir)):
        raise WorkDirMissing(why)
    if why:
        os.close(open_home_parent(home, find_user(context.home.run_user).uid, context.status.homes_allowed_below))


def _make_home(home: AgentHome, context: StepContext) -> Callable[[], None]:
    """Let the agent's user make its home; where it may not, and we are root, make it and give it to that user. Return
    what removes it, if it is still empty then."""
    try:
        return partial(context.worker.do, unmake_home, home, context.worker.do(make_home, home))
    except WriteFailed:
        if os.geteuid() != 0 or is_us(context.home.run_user):
            raise
    arguments = (home, find_user(context.home.run_user), context.status.homes_allowed_below)
    give_home(*arguments)
    return partial(take_back_home, *arguments)


def _unless_lost(undo: Callable[[], None]) -> None:
    """Undo what a user's worker did for us; with one that was lost, what it held for us is gone, and what it made stays
    as it is."""
    with suppress(UpdaterError):
        undo()
