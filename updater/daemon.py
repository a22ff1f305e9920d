"""The daemon: a pass at each slot, signals in between. It holds no rule: when and what is decided in reconcile.

SIGTERM and SIGINT: a stop-switch-start in progress is finished, then it ends. SIGHUP: the config is read again; a bad
one changes nothing. Signals only set flags and wake the one wait; all work is done by the main thread.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from attrs import evolve
from loguru import logger

from reconcile.act.executor import load_all
from reconcile.assess import Ask, NoDesiredState
from reconcile.cycle import Order, PassResult, guarded
from reconcile.decide import schedule
from reconcile.errors import ServerUnreachable
from updater.config import Config, ConfigWrong, load
from updater.lock import Busy, pid_file
from updater.passes import locked_pass
from updater.version import VERSION
from updater.wiring import Chosen, host_facts, surroundings

# A wait is cut into pieces: the wall clock may be set while we wait, and the slot is a time on it.
_LONGEST_WAIT_S = 60.0


class Daemon:
    """One daemon of one folder. `configure`: sets up logging for a config, called again after each reload."""

    def __init__(self, config: Config, configure: Callable[[Config], None]) -> None:
        self._config = config
        self._configure = configure
        self._around = surroundings(config, Chosen())
        self._ending = threading.Event()
        self._reload = False
        self._failed_exchanges = 0
        self._quiet_since, self._quiet_for = 0.0, 0.0  # monotonic seconds: what the server's Retry-After asked
        self._live_until = 0.0  # monotonic seconds: an answer is live for one interval, unless a later exchange failed

    def run(self, *, now: bool) -> None:
        """Make passes until SIGTERM. `now`: the first exchange at once, and not at the slot. Raise Busy, OSError."""
        with pid_file(self._config.var), _woken_by_signals(self._on_signal) as wait_until:
            load_all()
            logger.info("ops-updater {} started, pid {}, config {}", VERSION, os.getpid(), self._config.path)
            following = self._first(now)
            while not self._ending.is_set():
                # A clock that was set back must not put us to sleep for as long as it jumped.
                following = evolve(following, at=min(following.at, time.time() + self._config.interval))
                if self._reload:
                    self._reload = False
                    self._take_new_config()
                    following = evolve(following, at=min(following.at, self._next_slot()))
                elif time.time() >= following.at:
                    following = self._pass(following)
                else:
                    wait_until(min(following.at, time.time() + _LONGEST_WAIT_S))
            logger.info("ended")

    def _first(self, now: bool) -> schedule.Next:
        if now:
            return schedule.Next(at=0.0)
        # What crashed while we were away is healed at once, from memory; the server is asked at the slot.
        self._pass(schedule.Next(at=0.0, exchange=False))
        return schedule.Next(at=self._next_slot())

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._ending.set()

    def _next_slot(self) -> float:
        return schedule.next_slot(time.time(), self._config.interval, self._offset())

    def _offset(self) -> float:
        facts = self._around.facts
        return schedule.slot(facts.hostname, facts.ip, self._config.interval)

    def _pass(self, due: schedule.Next) -> schedule.Next:
        """Make one pass, and say when the next one is."""
        self._around = evolve(self._around, facts=host_facts(self._config, self._around.facts.run_user))
        if not due.retry:
            self._failed_exchanges = 0
        result = guarded(lambda: self._try_pass(self._ask(due)), lambda err: None)
        if due.exchange and result is not None:
            self._count(result)
        now = time.time()
        following = schedule.after_pass(
            now,
            self._config.interval,
            self._offset(),
            failed_exchanges=self._failed_exchanges,
            quiet_until=now + max(0.0, self._quiet_since + self._quiet_for - time.monotonic()),
            wake_at=None if result is None else result.wake_at,
            chance=random.random(),
        )
        logger.debug("next pass in {:.1f} s", following.at - now)
        return following

    def _ask(self, due: schedule.Next) -> Ask:
        if due.exchange:
            return Ask.EXCHANGE
        return Ask.LIVE if time.monotonic() < self._live_until else Ask.KEPT

    def _try_pass(self, ask: Ask) -> PassResult | None:
        try:
            return locked_pass(
                self._config, self._around, Order(ask=ask), ending=self._ending, wait_s=self._config.interval
            )
        except Busy as err:
            logger.warning("{}", err)
        except NoDesiredState as err:
            if ask is Ask.EXCHANGE:
                self._failed_exchanges += 1
                self._live_until = 0.0
                logger.warning("{}", err.message)
        except OSError as err:
            logger.error("no pass was made: {}", err)
        return None

    def _count(self, result: PassResult) -> None:
        failed = result.assessment.failed
        self._failed_exchanges = 0 if failed is None else self._failed_exchanges + 1
        self._live_until = 0.0 if failed is not None else time.monotonic() + self._config.interval
        self._quiet_for = 0.0
        if isinstance(failed, ServerUnreachable) and failed.retry_after is not None:
            self._quiet_for = min(failed.retry_after, schedule.RETRY_AFTER_LIMIT_S)
            self._quiet_since = time.monotonic()

    def _take_new_config(self) -> None:
        try:
            config = load(self._config.path)
            around = surroundings(config, Chosen())
        except (ConfigWrong, OSError, ValueError) as err:
            logger.error("the config is wrong, the old one stays: {}", err)
            return
        self._config, self._around = config, around
        self._configure(config)
        logger.info("config read again")


@contextmanager
def _woken_by_signals(on_signal: Callable[[int], None]) -> Iterator[Callable[[float], None]]:
    """Call `on_signal` for our signals, and yield a wait until a wall-clock time that any of them ends at once."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    selector = selectors.DefaultSelector()
    selector.register(readable, selectors.EVENT_READ)

    def handler(number: int, frame: FrameType | None) -> None:
        on_signal(number)

    def wait_until(at: float) -> None:
        if selector.select(max(0.0, at - time.time())):
            os.read(readable, 4096)

    before = {number: signal.signal(number, handler) for number in numbers}
    # The kernel writes a byte for each signal that arrives, also between a look at a flag and the wait for the next.
    old_fd = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield wait_until
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handling in before.items():
            signal.signal(number, handling)
        selector.close()
        os.close(readable)
        os.close(writable)
