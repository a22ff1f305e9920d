"""What plans are executed with: the context of all, and of one plan what its steps may use and what they note."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.act.context import Bounds, Contents, ControlLimits, StepContext, SwitchNote, Throttle
from reconcile.act.executor import Retries
from reconcile.assess.pass_context import HostContext
from reconcile.decide.actions import Action, Outcome, ResponseFingerprint
from reconcile.decide.conditions import seen_stopped
from reconcile.decide.evaluate import AgentEvaluation, closed_window
from reconcile.decide.records.changes import call_over, called
from reconcile.decide.records.record import AgentRecord, ControlCall, FailureKind
from reconcile.decide.upgrade.events import HomeChange, StartConfirmed, SwitchStarted
from reconcile.decide.upgrade.table import advance
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.errors import WriteFailed
from reconcile.storage.hold_files import read_requests

WriteNote = Callable[[AgentRecord], None]
"""Writes a record down, and returns when it is on disk. Raises WriteFailed."""


@frozen(kw_only=True)
class ExecutionContext:
    """All that agents' plans are carried out with. `begins`, `ended`: called for each action; `arrived`: for the bytes
    of a download. `alive`: called every few seconds by the pass's own thread while it waits for the agents' ones.
    `places`: in the fleet's lock, None without one."""

    host: HostContext
    cache: Path
    bounds: Bounds
    throttle: Throttle
    control: ControlLimits
    retries: Retries
    ending: threading.Event
    begins: Callable[[AgentEvaluation, Action], None] = lambda view, action: None
    ended: Callable[[AgentEvaluation, Outcome], None] = lambda view, outcome: None
    arrived: Callable[[AgentEvaluation, int, int | None], None] = lambda view, size, total: None
    alive: Callable[[], None] = lambda: None
    places: PlaceKeeper | None = None


@define(kw_only=True)
class PlanNotes:
    """What one plan writes down on its way, and the record that comes of it. `declined`: the plan may not begin now."""

    context: ExecutionContext
    view: AgentEvaluation
    record: AgentRecord
    write: WriteNote
    declined: bool = False

    def may_begin(self) -> bool:
        """Whether what is in use may be touched now: no hold came meanwhile, a window is still open, and the fleet's
        lock has a place. It is asked last, so that what can fail before does not take a place."""
        context, view = self.context, self.view
        now = context.host.clock()
        held = read_requests(context.host.holds).hold_on(view.desired.name, now) is not None
        closed = not view.only_heals and closed_window(view.desired, view.observed, view.plan, context.host.rules, now)
        self.declined = bool(held or closed)
        if not self.declined and not view.only_heals and view.place_group is not None and context.places is not None:
            self.declined = not context.places.take(view.place_group, view.desired.name)
        return not self.declined

    def note(self, kind: SwitchNote) -> None:
        """Write down how far the switch is. Raise WriteFailed."""
        view, host = self.view, self.context.host
        if view.only_heals:
            return  # the way back has nothing further to go back to, and needs no watch
        now = host.clock()
        if kind is SwitchNote.BEGINS:
            remote = None if view.remote.config is None else view.remote.config.digest
            active, move = view.observed.active, move_of(view)
            noted = advance(
                self.record,
                SwitchStarted(to=view.target.content, active=active, now=now, boot=host.boot, move=move, remote=remote),
            ).record
        else:
            noted = advance(self.record, StartConfirmed(now=now, watch=host.rules.watch)).record
        self.write(noted)
        self.record = noted

    def call(self, call: ControlCall) -> None:
        """Write down a control call that was spawned. It goes on whether that succeeds or not, and so do we."""
        self.record = called(self.record, call)
        if call.verb == "stop":
            now = self.context.host.clock()
            self.record = evolve(self.record, conditions=seen_stopped(self.record.conditions, now))
        with suppress(WriteFailed):
            self.write(self.record)

    def over(self, call: ControlCall) -> None:
        """Remember that a call's end was seen, to be written down with what came of it."""
        self.record = call_over(self.record, call)

    def step_context(self, ending: threading.Event) -> StepContext:
        """What the plan's steps may use. `ending`: between its actions, whether to end there."""
        context, view = self.context, self.view
        contents: Mapping[str, bytes] = {}
        if view.content is not None and view.remote.config is not None:
            contents = Contents({view.remote.config.digest: view.content})
        return StepContext(
            home=view.desired.home,
            http=context.host.http,
            cache=context.cache,
            bounds=context.bounds,
            throttle=context.throttle,
            control=context.control,
            status=context.host.limits,
            contents=contents,
            note=self.note,
            call=self.call,
            clock=context.host.clock,
            over=self.over,
            calls=lambda: self.record.calls,
            boot=context.host.boot,
            on_disk=_by_digest(view.observed),
            refused=self._not_again(),
            signed=bool(context.host.policy.restrictions.trusted_keys),
            may_begin=self.may_begin,
            ending=ending,
            workers=context.host.workers,
            arrived=lambda size, total: context.arrived(view, size, total),
        )

    def _not_again(self) -> ResponseFingerprint | None:
        """The bytes that are not downloaded again."""
        target = self.view.target
        failure = self.record.failure_of(target.content, FailureKind.NOT_REACHED, target.home)
        return None if failure is None else failure.not_again(self.context.host.clock())


def move_of(view: AgentEvaluation) -> HomeChange | None:
    """The homes that what is due moves it out of and into; None: it stays where it is."""
    move = view.due.move
    if move is None:
        return None
    return HomeChange(left=move.leaves, into=move.at or view.desired.home)


def _by_digest(observed: ObservedAgent) -> dict[str, str]:
    trees = [*observed.staged, *observed.previous, *([] if observed.active is None else [observed.active.tree])]
    return {digest: tree.version for tree in trees for digest in tree.digests}
