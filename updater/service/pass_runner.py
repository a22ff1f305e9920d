"""Passes that act, for `apply` and the daemon alike: what they act with, made of a Config, and the pass lock.

What a pass does is in reconcile/engine/reconciler.py; when the next one is, in daemon.py and in `apply`; what it leaves
in the log, in pass_log.py.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from attrs import evolve

from probes.values import frozen
from reconcile.act.context import Bounds, ControlLimits, Throttle
from reconcile.act.executor import Retries
from reconcile.act.host.archive import ArchiveLimits
from reconcile.assess.pass_context import DesiredFrom, HostContext
from reconcile.decide.actions import Action, Outcome
from reconcile.decide.conditions import FALSE, report_condition, with_since
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.timing.fleet_places import Groups
from reconcile.engine.agent_reconciler import ALIVE_S, PassRuntime
from reconcile.engine.execution_context import ExecutionContext
from reconcile.engine.journal import Journal
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.engine.plan_pool import PlanPool
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import PassResult
from reconcile.errors import WriteFailed
from reconcile.log import logger
from reconcile.net.fleet_lock import FleetLock
from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import Store, StoredState
from updater.monitoring.status_board import HISTORY, Memory, Snapshot, snapshot
from updater.output.words import what
from updater.service.locks import Busy, pass_lock
from updater.service.pass_log import PassLog, log_outcome
from updater.settings import known_users
from updater.settings.composition import lock_id
from updater.settings.config import Config
from updater.settings.preflight import FolderUnusable


@frozen(kw_only=True)
class PassObserver:
    """What is called during a pass. `begins`, `ended`, `arrived`: for each action and for bytes, in the agents'
    threads. `seen`: given what it left behind. `alive`: called by the pass's own thread every few seconds while it
    waits for something; `waits`: while that is the pass of another updater."""

    begins: Callable[[AgentEvaluation, Action], None] = lambda view, action: None
    ended: Callable[[AgentEvaluation, Outcome], None] = lambda view, outcome: None
    arrived: Callable[[AgentEvaluation, int, int | None], None] = lambda view, size, total: None
    seen: Callable[[Snapshot], None] | None = None
    alive: Callable[[], None] = lambda: None
    waits: Callable[[], None] = lambda: None


NO_OBSERVER = PassObserver()
_ASKS_AGAIN = (DesiredFrom.EXCHANGE, DesiredFrom.OFFLINE)  # for a place that was refused in an earlier pass
_OF_THE_DISK = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def make_var(var: Path) -> None:
    """Make our own folder, for us alone. Raise FolderUnusable.

    Where the disk is what doesn't let us (read-only, full, failing), passes go on without it: they heal.
    """
    try:
        var.mkdir(mode=0o700, exist_ok=True)
        found = var.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            var.chmod(0o700)
    except OSError as err:
        if err.errno in _OF_THE_DISK:
            return
        if os.path.lexists(var) and not var.is_dir():
            raise FolderUnusable(f"{var} is not a folder; move it away: it is made again") from err
        raise FolderUnusable(f"{var} can't be used: {err.strerror}; give it to the user that runs the updater") from err
    if found.st_uid != os.geteuid() and not os.access(var, os.W_OK | os.X_OK):
        raise FolderUnusable(f"{var} can't be written to; give it to the user that runs the updater")


@contextmanager
def pass_runtime(
    config: Config,
    host: HostContext,
    ending: threading.Event,
    observer: PassObserver,
    notify: Callable[[], None] = lambda: None,
    known: StoredState | None = None,
) -> Iterator[PassRuntime]:
    """All that passes act with, for as long as the block lasts, and until its last plan has ended. Take the pass lock
    first. `notify`: see Journal. `known`: see Store."""
    store = Store(config.var / "state.db", known)
    if store.damaged_copy is not None:
        logger.warning("the memory could not be read; it lies in {} and a new one was begun", store.damaged_copy)
    plans = PlanPool(Journal(store, notify), config.parallel)
    try:
        context = _execution_context(config, host, ending, observer)
        yield PassRuntime(context=context, store=store, parallel=config.parallel, plans=plans)
    finally:
        while plans.running:
            plans.next_result(None)
        plans.close()
        store.close()
        known_users.save(config.var)


def _execution_context(
    config: Config, host: HostContext, ending: threading.Event, observer: PassObserver
) -> ExecutionContext:
    def begins(view: AgentEvaluation, action: Action) -> None:
        logger.debug("{} {}: begins", action.type, what(action))
        observer.begins(view, action)

    def ended(view: AgentEvaluation, outcome: Outcome) -> None:
        log_outcome(view, outcome)
        observer.ended(view, outcome)

    return ExecutionContext(
        host=host,
        cache=config.var / "cache",
        bounds=Bounds(
            max_tarball=config.max_tarball,
            cache_size=config.cache_size,
            archive=ArchiveLimits(max_unpacked=config.max_unpacked, max_files=config.max_files),
        ),
        throttle=Throttle(config.max_download_rate),
        control=ControlLimits(start_s=config.control_timeout.start, stop_s=config.control_timeout.stop),
        retries=Retries(),
        ending=ending,
        begins=begins,
        ended=ended,
        arrived=observer.arrived,
        alive=observer.alive,
    )


def locked_pass(
    config: Config,
    host: HostContext,
    request: PassRequest,
    *,
    ending: threading.Event,
    wait_s: float = 0.0,
    observer: PassObserver = NO_OBSERVER,
    log: PassLog | None = None,
) -> PassResult:
    """One pass under the pass lock, until its last plan has ended. Raise Busy, NoDesiredState, OSError."""
    passes = PassRunner(ending, lambda: None, observer, log)
    try:
        return passes.make(config, host, request, wait_s=wait_s)
    finally:
        passes.finish()


class PassRunner:
    """Passes one after another. While a plan outlasts the one that began it, lock and store are kept, and passes go
    by."""

    def __init__(
        self,
        ending: threading.Event,
        notify: Callable[[], None],
        observer: PassObserver = NO_OBSERVER,
        log: PassLog | None = None,
        known: StoredState | None = None,
    ) -> None:
        """`notify` is called from other threads, when there is something to `poll`. `log`, `known`: of earlier
        passes."""
        self._ending = ending
        self._notify = notify
        self._observer = observer
        self._log = log if log is not None else PassLog()
        self._runtime: PassRuntime | None = None
        self.known = known  # when the last pass ended: a disk that fails by now must not hide it
        self._open = ExitStack()
        self._places: PlaceKeeper | None = None

    @property
    def going_on(self) -> frozenset[str]:
        """The agents whose plan outlasts its pass."""
        return frozenset() if self._runtime is None else frozenset(self._runtime.plans.running)

    @property
    def is_at_work(self) -> bool:
        """Whether a plan outlasts its pass, or a place in the fleet's lock is kept or still to be given back."""
        return self._runtime is not None or (self._places is not None and bool(self._places.groups_held))

    def make(self, config: Config, host: HostContext, request: PassRequest, *, wait_s: float) -> PassResult:
        """Make a pass that waits for its plans as long as `request` says. Raise Busy, NoDesiredState, OSError."""
        try:
            if self._runtime is None:
                self._open.enter_context(pass_lock(config.var, wait_s=wait_s, ending=self._over))
                opening = pass_runtime(config, host, self._ending, self._observer, self._notify, self.known)
                self._runtime = self._open.enter_context(opening)
            else:  # the config may be another by now; downloads on their way go on to share their bound
                context = _execution_context(config, host, self._ending, self._observer)
                self._runtime = evolve(self._runtime, context=evolve(context, throttle=self._runtime.context.throttle))
            self._places = self._keeper(config, host, asks_again=request.ask in _ASKS_AGAIN)
            if self._places is not None:
                places = self._places
                host = evolve(host, refused_places=lambda: places.in_force)
                context = evolve(self._runtime.context, host=host, places=places)
                self._runtime = evolve(self._runtime, context=context)
            result, picture = _seen_pass(self._runtime, request, wanted=self._observer.seen is not None)
        finally:
            self._close_if_idle()
        self._log.result(result)
        if self._observer.seen is not None and picture is not None:
            self._observer.seen(picture)
        return result

    def _keeper(self, config: Config, host: HostContext, *, asks_again: bool) -> PlaceKeeper | None:
        """Who keeps this host's places in the fleet's lock: the same one in each pass, since plans that outlast theirs
        use it, too. Without a lock in the config, only while a place is still to be given back."""
        path, wanted = config.var / "places.json", config.fleet_lock
        if wanted is None and self._places is None and not path.exists():
            return None
        url, groups = ("", Groups()) if wanted is None else (wanted.url, wanted.group)
        lock = FleetLock(url, lock_id(config, host.facts.hostname), host.http)
        places = PlaceKeeper(path, host.clock) if self._places is None else self._places
        places.begin_pass(lock, groups, asks_again=asks_again)
        return None if wanted is None and not places.groups_held else places

    def poll(self, *, wait_s: float | None = 0.0) -> bool:
        """Take notes and ends of plans that outlast their pass; return whether one ended. `wait_s`: for the first."""
        ended = False
        while (runtime := self._runtime) is not None:
            result = runtime.plans.next_result(wait_s)
            if trouble := runtime.plans.journal.take_trouble():
                logger.warning("{}", trouble)
            if result is not None:
                ended = True
                self._log.late(result)
            self._close_if_idle()
            if not runtime.plans.journal.waits:
                break
        return ended

    def record_report(self, config: Config, host: HostContext) -> None:
        """Remember what became of a report that ended after its pass. Where that can't be now the next one's counts."""
        trouble = None if host.reports is None else host.reports.news()
        if trouble is None:
            return
        try:
            with ExitStack() as opened:
                store = self._runtime.store if self._runtime is not None else opened.enter_context(self._store(config))
                before = store.state.conditions
                [found] = with_since([report_condition(trouble)], before, host.clock())
                store.save_conditions([*(one for one in before if one.type != found.type), found])
        except (Busy, WriteFailed, OSError):
            return
        self._log.own_condition(found, is_transition=found.status == FALSE and found not in before)

    @contextmanager
    def _store(self, config: Config) -> Iterator[Store]:
        with (
            pass_lock(config.var, wait_s=0.0, ending=self._ending.is_set),
            closing(Store(config.var / "state.db", self.known)) as store,
        ):
            yield store
            self.known = store.state

    def finish(self) -> None:
        """Wait for the plans that are under way: what must not be left half done is not."""
        while self._runtime is not None:
            self._observer.alive()
            self.poll(wait_s=ALIVE_S)

    def _over(self) -> bool:
        self._observer.alive()
        self._observer.waits()
        return self._ending.is_set()

    def _close_if_idle(self) -> None:
        if self._runtime is None or not self._runtime.plans.running:
            if self._runtime is not None and not self._runtime.store.state.trouble:
                self.known = self._runtime.store.state
            self._runtime = None
            self._open.close()


def _seen_pass(runtime: PassRuntime, request: PassRequest, *, wanted: bool) -> tuple[PassResult, Snapshot | None]:
    """Make a pass and, where somebody looks, take a picture of it while the store is still at hand."""
    began = time.monotonic()
    result = run_pass(runtime, request)
    took_s = time.monotonic() - began
    if not wanted:
        return result, None
    host = runtime.context.host
    memory = Memory(history=runtime.store.history(limit=HISTORY), counts=runtime.store.counts())
    return result, snapshot(host.facts.hostname, result, memory, read_requests(host.holds), took_s=took_s)
