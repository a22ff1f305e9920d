"""Control calls of an earlier run that was killed amid them: waited for, and never doubled.

What such a call was to bring about is decided elsewhere: the agent is observed again, and planned for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from probes.errors import UpdaterError
from probes.home import StatusLimits
from probes.host import processes
from probes.host.processes import Leader
from probes.observe import observe_agent
from probes.observed import HomeRef, ObservedAgent
from probes.worker.pool import WorkerPool
from reconcile.decide.records.record import ControlCall
from reconcile.log import logger

# Between two looks at what comes of a call.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5


def wait_for_calls(
    calls: Iterable[ControlCall],
    home: HomeRef,
    limits: StatusLimits,
    is_cancelled: Callable[[], bool],
    workers: WorkerPool | None = None,
) -> ControlCall | None:
    """Wait until each call has ended and a start has shown its effect, within the limit that it was given; what goes on
    beyond it is ended, as its own run would have done. Return the call that lives on nevertheless: the wait was
    cancelled, or nothing ends it."""
    worker, pause = (workers or WorkerPool()).of(home.run_user), _FIRST_PAUSE_S

    def alive(leader: Leader) -> bool:
        try:
            return worker.ask(processes.lives, leader)
        except UpdaterError:  # we can't become its user now: what is visible to us has to do
            return processes.lives(leader)

    def end(leader: Leader) -> bool:
        try:
            return worker.do(processes.end_call, leader)
        except UpdaterError:
            return False

    for call in calls:
        leader = Leader(pid=call.pid, started=call.started)
        until = time.monotonic() + call.limit_s - processes.age(leader)
        if alive(leader):
            logger.info("waits for control {} of {} by an earlier run, process {}", call.verb, call.version, call.pid)
        if not processes.outwait(leader, call.limit_s, is_cancelled, alive=alive, end=end):
            return call
        while (
            call.verb == "start"
            and not (is_cancelled() or time.monotonic() >= until)
            and _may_come_up(observe_agent(home, limits, workers), call)
        ):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return None


def _may_come_up(observed: ObservedAgent, call: ControlCall) -> bool:
    active = observed.active
    return active is not None and active.version == call.version and not active.process.is_running
