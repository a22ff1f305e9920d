"""The daemon: a pass at each slot, signals in between. It holds no rule: when and what is decided in reconcile.

What there is to see of it is put on a board, where the threads of local HTTP look; they never touch a pass.

SIGTERM and SIGINT: a stop-switch-start in progress is finished, then it ends. SIGHUP: the config is read again, at
most once in three seconds and never before a pass that is due; a bad one changes nothing. Signals only set flags and
wake the one wait; all work is done by the main thread.
"""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from attrs import evolve

from reconcile.act.executor import load_all
from reconcile.assess.pass_context import DesiredFrom, NoDesiredState
from reconcile.decide.actions import Action
from reconcile.decide.admission import duration
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.timing import schedule
from reconcile.engine.journal import guarded
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import PassResult
from reconcile.errors import ServerUnreachable
from reconcile.log import logger
from updater.monitoring.status_board import Snapshot, StatusBoard, summary
from updater.output.words import what
from updater.service.desired_poll import DesiredPoll
from updater.service.locks import Busy, PidFile, inherited_pid_file, pid_file
from updater.service.pass_log import PassLog, write_metrics
from updater.service.pass_runner import PassObserver, PassRunner, make_var
from updater.service.sd_notify import ServiceNotifier
from updater.service.standby import Standby, can_stand_by, stand_by
from updater.service.waiter import reaped
from updater.service.wakeup import Wakeup, open_wakeup
from updater.settings.composition import SourceOverride, host_context, refreshed
from updater.settings.config import Config, ConfigWrong, lacks_web, load
from updater.settings.preflight import FolderUnusable, refuse_loose
from updater.settings.values import parse_listen
from updater.sources.url import DesiredUrl
from updater.version import VERSION

if TYPE_CHECKING:
    from updater.monitoring.app import PageSource
    from updater.monitoring.server import Server

_POLL_VAR_S = 60.0
_POLL_REPORT_S = 1.0  # while one is on its way
# With desired_poll a pass waits no longer for its plans, so that a change that is published meanwhile is seen. Remote
# files have 30 s (reconcile/net/remote_files.py).
_LONGEST_PASS_S = 45.0
_BETWEEN_RELOADS_S = 3.0  # the config is read again no more often, however often that is asked for


class Daemon:
    """One daemon of one folder. `configure`: sets up logging for a config, called again after each reload."""

    def __init__(
        self,
        config: Config,
        configure: Callable[[Config], None],
        left: Standby | None = None,
        *,
        stand_by_from_s: float = math.inf,
        longest_pass_s: float = _LONGEST_PASS_S,
    ) -> None:
        """`left`: what this daemon left to itself before it waited as a small process; None: it begins.
        `stand_by_from_s`: the shortest wait for which it does so; the caller gives up this process to it.
        `longest_pass_s`: how long a pass waits for its plans, with `desired_poll`."""
        self._config = config
        self._configure = configure
        self._left = left
        self._stand_by_from_s = stand_by_from_s
        self._longest_pass_s = longest_pass_s
        self._host = host_context(config, SourceOverride())
        self._ending = threading.Event()
        self._log = PassLog() if left is None else left.log
        self._passes = PassRunner(self._ending, lambda: None)
        self._reload = False if left is None else left.reload
        self._reload_from = 0.0 if left is None else left.reload_from  # monotonic seconds: not before that
        self._worked = True  # since the last rest
        self._failed_exchanges = 0 if left is None else left.failed_exchanges  # in a row
        # What the server's Retry-After asked, and until when an answer is live: for one interval, unless a later
        # exchange failed. Monotonic seconds.
        self._quiet_since, self._quiet_for = (0.0, 0.0) if left is None else (left.quiet_since, left.quiet_for)
        self._live_until = 0.0 if left is None else left.live_until
        self._notify: Callable[[], None] = lambda: None
        self._poll: DesiredPoll | None = None
        self._board = StatusBoard()
        self._web: Server | None = None
        self._manager = ServiceNotifier(os.environ if left is None else dict(left.notify))

    def run(self, *, now: bool) -> None:
        """Make passes until SIGTERM. `now`: the first exchange at once, and not at the slot.

        Raise Busy, FolderUnusable, OSError."""
        with ExitStack() as folder, open_wakeup(self._on_signal) as bell:
            self._pid_file = folder.enter_context(self._hold_folder())
            known = None if self._left is None else self._left.known
            self._passes = PassRunner(self._ending, bell.notify, self._observer(), self._log, known)
            self._notify = bell.notify
            self._poll = self._new_poll()
            load_all()
            gc.collect()
            gc.freeze()  # what was loaded stays: there is no garbage in it
            try:
                following = self._begin(now) if self._left is None else self._go_on(self._left)
                while not self._ending.is_set():
                    self._manager.alive()
                    self._keep_var(folder)
                    # A clock that was set back must not put us to sleep for as long as it jumped.
                    following = evolve(following, at=min(following.at, time.time() + self._config.interval))
                    if self._passes.poll():
                        following = self._at_once()
                        continue
                    self._passes.record_report(self._config, self._host)
                    following = self._polled(following)
                    if time.time() >= following.at:
                        following = self._pass(following)
                    elif self._reload_in_s() > 0:
                        self._rest(bell, following)
                        continue
                    # Here no pass is due but the one that was just made: who asks for reloads keeps no pass away.
                    if self._reload_in_s() <= 0:
                        self._reload_now()
                        following = evolve(following, at=min(following.at, self._next_slot()))
            finally:
                self._passes.finish()
                self._stop_serving()
            logger.info("ended")

    def _hold_folder(self) -> AbstractContextManager[PidFile]:
        if self._left is None:
            return pid_file(self._config.var)
        return inherited_pid_file(self._config.var, self._left.pid_file, self._left.folder)

    def _begin(self, now: bool) -> schedule.Next:
        logger.info("ops-updater {} started, pid {}, config {}", VERSION, os.getpid(), self._config.path)
        self._serve()
        self._manager.ready()
        return self._first(now)

    def _go_on(self, left: Standby) -> schedule.Next:
        """Go on after a wait as a small process: it is seen as the same daemon."""
        for _ in reaped():  # what it left running and has ended meanwhile
            pass
        if left.version != VERSION:
            logger.info("the updater was upgraded from {} to {}: this daemon is the new one", left.version, VERSION)
        return left.following

    def _rest(self, bell: Wakeup, following: schedule.Next) -> None:
        """Wait for what comes next."""
        self._board.expect(following.at)
        self._manager.status(summary(self._board.status()))
        if following.at - time.time() >= self._stand_by_from_s and self._can_stand_by():
            self._stand_by(following)
            return
        if self._worked:
            gc.collect()  # else a daemon grows by ten MiB until Python looks by itself (__main__.py)
            self._worked = False
        poll_s = _POLL_REPORT_S if self._is_reporting else _POLL_VAR_S
        limits = [s for s in (self._manager.patience_s, self._reload_in_s(), poll_s) if s is not None]
        poll_at = math.inf if self._poll is None else self._poll_at(self._poll)
        bell.wait_until(min(following.at, poll_at), min(limits))

    @property
    def _is_reporting(self) -> bool:
        """Whether a report is on its way, whose outcome would be lost."""
        return self._host.reports is not None and self._host.reports.is_sending

    def _can_stand_by(self) -> bool:
        """Whether nothing is under way, and no client reads what this process serves."""
        return (
            self._web is None
            and self._poll is None
            and not self._is_reporting
            and not sys.stderr.isatty()
            and not self._passes.is_at_work
            and not self._reload
            and self._pid_file.fds is not None
            and can_stand_by()
        )

    def _stand_by(self, following: schedule.Next) -> None:
        """Wait as a small process, and go on in a new one: this returns only where that can't be."""
        fds = self._pid_file.fds
        assert fds is not None
        left = Standby(
            following=following,
            config=self._config,
            pid_file=fds[0],
            folder=fds[1],
            failed_exchanges=self._failed_exchanges,
            quiet_since=self._quiet_since,
            quiet_for=self._quiet_for,
            live_until=self._live_until,
            reload_from=self._reload_from,
            notify=self._manager.variables,
            log=self._log,
            known=self._passes.known,
        )
        try:
            stand_by(left, lambda: self._reload or self._ending.is_set())
        except OSError as err:
            logger.warning("the daemon keeps its memory while it waits: it can't restart itself: {}", err)
            self._stand_by_from_s = math.inf

    def _keep_var(self, folder: ExitStack) -> None:
        """Make var/ again where it was removed: without it the daemon can't be found, nor be asked to end. Raise
        FolderUnusable where our whole folder is gone; Busy where another daemon is at work by now."""
        if not self._pid_file.folder_is_there:
            lost = f"{self._config.path.parent} was removed or moved away while its daemon ran"
            logger.error("{}: it ends", lost)
            raise FolderUnusable(f"{lost}, which ends; the agents run on. Start it where the folder lies now")
        if self._pid_file.is_there:
            return
        folder.close()
        make_var(self._config.var)
        self._pid_file = folder.enter_context(pid_file(self._config.var))
        logger.warning(
            "{} was without the pid file of this daemon: it is there again; what else was removed with it is lost",
            self._config.var,
        )

    def _reload_in_s(self) -> float:
        """How long until the config is read again: more than 0 until that is asked for and may be done."""
        return max(0.0, self._reload_from - time.monotonic()) if self._reload else math.inf

    def _reload_now(self) -> None:
        self._reload, self._worked = False, True
        self._manager.reloading()
        self._take_new_config()
        self._manager.ready()
        self._reload_from = time.monotonic() + _BETWEEN_RELOADS_S

    def _first(self, now: bool) -> schedule.Next:
        if now:
            return schedule.Next(at=0.0)
        # What crashed while we were away is healed at once, from memory; the server is asked at the slot.
        following = self._pass(schedule.Next(at=0.0, exchange=False))
        first = self._next_slot() if self._poll is None else self._poll_at(self._poll)
        logger.info("the server is asked at this host's slot, in {}", duration(max(0.0, first - time.time())))
        return following

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._ending.set()
            limits = self._config.control_timeout
            self._manager.stopping(limits.stop + limits.start + 5)

    def _next_slot(self) -> float:
        return schedule.next_slot(time.time(), self._config.interval, self._offset(self._config.interval))

    def _offset(self, span: float) -> float:
        facts = self._host.facts
        return schedule.slot(facts.hostname, facts.ip, span)

    def _new_poll(self) -> DesiredPoll | None:
        every_s, source = self._config.desired_poll, self._host.source
        if every_s is None or not isinstance(source, DesiredUrl):
            return None
        return DesiredPoll(source, every_s, self._notify)

    def _poll_at(self, poll: DesiredPoll) -> float:
        return poll.next_at(self._offset(self._config.desired_poll or 0.0), self._quiet_until(time.time()))

    def _polled(self, following: schedule.Next) -> schedule.Next:
        """Ask whether the desired state changed, where that is due, and say when the next pass is after the answer."""
        if self._poll is None:
            return following
        if time.time() >= self._poll_at(self._poll):
            self._poll.ask()
        news = self._poll.news(pass_failed=self._failed_exchanges > 0)
        if news is None:
            return following
        if news.server is not None:
            self._log.own_condition(news.server)
        if news.pass_now:
            return schedule.Next(at=0.0)
        if news.retry_after is not None:
            self._be_quiet(news.retry_after)
            quiet_until = self._quiet_until(time.time()) or 0.0
            return evolve(following, exchange=following.exchange and quiet_until <= following.at)
        return following

    def _quiet_until(self, now: float) -> float | None:
        """Until when the server asked to be left alone, as Unix seconds; None: it did not."""
        if not self._quiet_for:
            return None
        return now + max(0.0, self._quiet_since + self._quiet_for - time.monotonic())

    def _be_quiet(self, retry_after: float) -> None:
        self._quiet_for, self._quiet_since = min(retry_after, schedule.RETRY_AFTER_LIMIT_S), time.monotonic()

    def _pass(self, due: schedule.Next) -> schedule.Next:
        """Make one pass, and say when the next one is."""
        self._worked = True
        self._host = refreshed(self._config, self._host)
        self._board.passing(self._passes.going_on)
        if due.exchange and self._poll is not None:
            self._poll.forget()
        result = guarded(lambda: self._try_pass(self._ask(due)), self._broke)
        if due.exchange and result is not None:
            self._count(result)
        now = time.time()
        following = schedule.after_pass(
            now,
            self._config.interval,
            self._offset(self._config.interval),
            failed_exchanges=self._failed_exchanges,
            quiet_until=self._quiet_until(now),
            wake_at=None if result is None else result.wake_at,
            chance=random.random(),
        )
        if result is not None and result.late:
            following = self._at_once()
        logger.debug("next pass in {:.1f} s", following.at - now)
        return following

    def _at_once(self) -> schedule.Next:
        """A plan that outlasted its pass has ended: its watch is to be known, and reported to the server."""
        return schedule.Next(at=0.0, exchange=time.monotonic() < self._live_until)

    def _ask(self, due: schedule.Next) -> DesiredFrom:
        if due.exchange:
            return DesiredFrom.EXCHANGE
        return DesiredFrom.LIVE if time.monotonic() < self._live_until else DesiredFrom.LAST_ACCEPTED

    def _try_pass(self, ask: DesiredFrom) -> PassResult | None:
        try:
            until = time.monotonic() + self._patience_s()
            made = self._passes.make(
                self._config, self._host, PassRequest(ask=ask, until=until), wait_s=self._config.interval
            )
            self._log.over("no pass", "passes are made again")
            return made
        except Busy as err:
            self._board.fail(str(err), self._passes.going_on)
            self._log.goes_on("no pass", f"no pass was made: {err}")
        except NoDesiredState as err:
            self._board.fail(err.message, self._passes.going_on)
            if ask is DesiredFrom.EXCHANGE:
                self._failed_exchanges += 1
                self._live_until = 0.0
                self._log.goes_on("no pass", f"no pass was made: {err.message}")
        except OSError as err:
            self._board.fail(str(err), self._passes.going_on)
            self._log.goes_on("no pass", f"no pass was made: {err}")
        return None

    def _patience_s(self) -> float:
        """How long a pass may wait for its plans."""
        left = max(0.0, self._next_slot() - time.time())
        return left if self._poll is None else min(left, self._longest_pass_s)

    def _observer(self) -> PassObserver:
        return PassObserver(
            begins=self._begins,
            ended=lambda view, outcome: self._board.end(view.desired.name),
            seen=self._publish,
            alive=self._manager.alive,
        )

    def _begins(self, view: AgentEvaluation, action: Action) -> None:
        self._board.begin(view.desired.name, action.type, what(action))
        self._manager.status(f"{view.desired.name}: {action.type} {what(action)}")

    def _broke(self, err: Exception) -> None:
        self._board.fail(f"unexpected, please report it: {err!r}; the log has the rest", self._passes.going_on)

    def _publish(self, snapshot: Snapshot) -> None:
        self._board.publish(snapshot, self._passes.going_on)
        write_metrics(self._config, snapshot, self._log)

    def _count(self, result: PassResult) -> None:
        failed = result.assessment.failed
        self._failed_exchanges = 0 if failed is None else self._failed_exchanges + 1
        self._live_until = 0.0 if failed is not None else time.monotonic() + self._config.interval
        self._quiet_for = 0.0
        if isinstance(failed, ServerUnreachable) and failed.retry_after is not None:
            self._be_quiet(failed.retry_after)

    def _take_new_config(self) -> None:
        try:
            config = load(self._config.path)
            refuse_loose(config)
            host = host_context(config, SourceOverride())
        except (ConfigWrong, FolderUnusable, OSError, ValueError) as err:
            logger.error("the config is wrong, the old one stays: {}", err)
            return
        before = self._config.http
        self._config, self._host = config, host
        self._poll = self._new_poll()
        self._configure(config)
        logger.info("config read again")
        if config.http != before or self._web is None:
            self._stop_serving()
            self._serve()

    # Local HTTP: where it can't be had the agents are kept all the same.

    def _serve(self) -> None:
        """Serve local HTTP, if the config says so and it can be had."""
        listen = self._config.http.listen
        if not self._config.http.enabled:
            return
        if lacking := lacks_web():
            logger.error("local HTTP is not served: {}", lacking)
            return
        from updater.monitoring.app import App
        from updater.monitoring.request_guard import is_loopback_host
        from updater.monitoring.server import Server

        try:
            self._web = Server(listen, App(self._board, self._site))
        except OSError as err:
            logger.error(
                "local HTTP is not served: http.listen {}: {}; free that port or name another, then reload", listen, err
            )
            return
        logger.info("local HTTP: {}", self._web.address)
        if not is_loopback_host(parse_listen(listen)[0]):
            logger.warning("http.listen {}: anyone who can reach this host can see its agents", listen)

    def _stop_serving(self) -> None:
        if self._web is not None:
            self._web.close()
            self._web = None

    def _site(self) -> PageSource:
        from updater.monitoring.app import PageSource
        from updater.monitoring.request_guard import AllowedNames, is_loopback_host

        host = parse_listen(self._config.http.listen)[0]
        if is_loopback_host(host):
            names = AllowedNames()
        else:
            facts = self._host.facts
            own = {facts.hostname, facts.ip, host, socket.gethostname()} - {""}
            names = AllowedNames(own=frozenset(name.lower() for name in own), any_address=True)
        return PageSource(
            names=names, config=self._config.path, ask_for_reload=lambda: os.kill(os.getpid(), signal.SIGHUP)
        )
