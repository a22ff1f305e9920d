"""Passes that act, for `apply` and the daemon alike: the workshop made of a Config, the pass lock, the log lines.

What a pass does is in reconcile/cycle.py; when the next one is, in daemon.py and in `apply`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen
from loguru import logger

from reconcile.act.executor import Retries
from reconcile.act.host.archive import Limits
from reconcile.act.tools import Bounds, ControlLimits, Throttle
from reconcile.assess import AgentView, Surroundings
from reconcile.carry_out import Means
from reconcile.cycle import Order, PassResult, Workshop, run_pass
from reconcile.decide.actions import Action, Outcome, Result
from reconcile.decide.conditions import Condition
from reconcile.holds import read_requests
from reconcile.store import Store
from updater.config import Config
from updater.lock import pass_lock
from updater.render import what
from updater.snapshot import HISTORY, Snapshot, snapshot


@frozen(kw_only=True)
class Audience:
    """Who is told of a pass. `begins`, `ended`: of each action, in the agents' threads. `seen`: given what it left
    behind. `alive`: called by the pass's own thread every few seconds, but while it looks and asks, which have limits
    of their own."""

    begins: Callable[[AgentView, Action], None] = lambda view, action: None
    ended: Callable[[AgentView, Outcome], None] = lambda view, outcome: None
    seen: Callable[[Snapshot], None] | None = None
    alive: Callable[[], None] = lambda: None


class FolderUnusable(Exception):
    """`var/` can't be made or written to. The message says why and what to do."""


def make_var(var: Path) -> None:
    """Make our own folder, for us alone. Raise FolderUnusable."""
    try:
        var.mkdir(mode=0o700, exist_ok=True)
        found = var.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            var.chmod(0o700)
    except OSError as err:
        raise FolderUnusable(f"{var} can't be used: {err.strerror}; give it to the user that runs the updater") from err
    if not os.access(var, os.W_OK | os.X_OK):
        raise FolderUnusable(f"{var} can't be written to; give it to the user that runs the updater")


@contextmanager
def workshop(config: Config, around: Surroundings, ending: threading.Event, audience: Audience) -> Iterator[Workshop]:
    """All that passes act with, for as long as the block lasts. Take the pass lock first."""
    store = Store(config.var / "state.db")
    if store.set_aside is not None:
        logger.warning("the memory could not be read; it lies in {} and a new one was begun", store.set_aside)
    try:
        yield Workshop(
            means=Means(
                around=around,
                cache=config.var / "cache",
                bounds=Bounds(
                    max_tarball=config.max_tarball,
                    cache_size=config.cache_size,
                    archive=Limits(max_unpacked=config.max_unpacked),
                ),
                throttle=Throttle(config.max_download_rate),
                control=ControlLimits(start_s=config.control_timeout.start, stop_s=config.control_timeout.stop),
                retries=Retries(),
                ending=ending,
                begins=audience.begins,
                ended=audience.ended,
                alive=audience.alive,
            ),
            store=store,
            parallel=config.parallel,
        )
    finally:
        store.close()


def locked_pass(
    config: Config,
    around: Surroundings,
    order: Order,
    *,
    ending: threading.Event,
    wait_s: float = 0.0,
    audience: Audience = Audience(),
) -> PassResult:
    """One pass under the pass lock. Raise Busy, NoDesiredState, OSError."""

    def begins(view: AgentView, action: Action) -> None:
        logger.debug("{} {}: begins", action.type, what(action))
        audience.begins(view, action)

    def ended(view: AgentView, outcome: Outcome) -> None:
        _log_outcome(view, outcome)
        audience.ended(view, outcome)

    def over() -> bool:
        audience.alive()
        return ending.is_set()

    seen = audience.seen
    with (
        pass_lock(config.var, wait_s=wait_s, ending=over),
        workshop(config, around, ending, evolve(audience, begins=begins, ended=ended)) as shop,
    ):
        began = time.monotonic()
        result = run_pass(shop, order)
        took_s = time.monotonic() - began
        history = shop.store.history(limit=HISTORY) if seen is not None else ()
    _log_result(result)
    if seen is not None:
        seen(snapshot(around.facts.hostname, result, history, read_requests(around.holds), took_s=took_s))
    return result


def write_metrics(config: Config, snapshot: Snapshot) -> None:
    """Write `metrics_textfile`, where the config names one. A pass doesn't fail for it."""
    if config.metrics_textfile is None:
        return
    from updater.metrics import write_textfile

    try:
        write_textfile(config.metrics_textfile, snapshot)
    except OSError as err:
        logger.error("metrics_textfile {} can't be written: {}", config.metrics_textfile, err.strerror)


def _log_outcome(view: AgentView, outcome: Outcome) -> None:
    if outcome.result is Result.SKIPPED:
        return
    done = f"{outcome.action.type} {what(outcome.action)}: {outcome.result.value}, {outcome.seconds:.2f} s"
    with logger.contextualize(agent=view.desired.name):
        if outcome.result is Result.FAILED:
            logger.error("{}, {} tries: {}: {}", done, outcome.attempts, outcome.reason, outcome.error)
        else:
            logger.info("{}", done)


def _log_result(result: PassResult) -> None:
    for refusal in result.assessment.refused:
        logger.warning("{} refused: {}, rule {}: {}", refusal.name, refusal.reason, refusal.rule, refusal.message)
    for agent in result.agents:
        for said in dict.fromkeys((agent.view.news, *agent.news)):
            if said:
                with logger.contextualize(agent=agent.view.desired.name):
                    logger.warning("{}", said)
    for name, condition in result.flipped:
        with logger.contextualize(agent=name):
            _log_condition(condition)
    ready = sum(agent.ready for agent in result.agents)
    logger.debug("pass: {} of {} agents as desired", ready, len(result.agents))


def _log_condition(condition: Condition) -> None:
    message = f": {condition.message}" if condition.message else ""
    logger.info("{} is now {} ({}){}", condition.type, condition.status, condition.reason, message)
