"""Makes passes in one process, as the daemon does, at a clock that the soak sets; says how much it holds after each.

python -m tests.soak.passes CFG        orders on standard input, answers on standard output, one JSON line each
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from tests.other_process import OtherProcess

_PAGE = os.sysconf("SC_PAGE_SIZE")


@frozen(kw_only=True)
class Passed:
    """What came of a pass. `unready`: of each agent that isn't as desired its name and why. `trouble`: what the pass
    raised. `broke`: agents whose part ended in an exception that nobody expected. `rss`: bytes."""

    unready: tuple[str, ...] = ()
    acted: bool = False
    trouble: str = ""
    broke: tuple[str, ...] = ()
    descriptors: int = 0
    threads: int = 0
    rss: int = 0


class Passes(OtherProcess):
    """The process, seen from the soak. A context manager."""

    def __init__(self, config: Path) -> None:
        super().__init__("tests.soak.passes", str(config))

    def make(self, later: float) -> Passed:
        """Make a pass; the clock is so many seconds ahead."""
        self.send_json(later)
        received = self.receive_json()
        return Passed(**{**received, "unready": tuple(received["unready"]), "broke": tuple(received["broke"])})


# --- inside the process ---


def serve(config_path: Path) -> None:
    """Make passes until there are no more orders."""
    from reconcile.assess.pass_context import DesiredFrom, NoDesiredState
    from reconcile.engine.reconciler import PassRequest
    from reconcile.log import logger
    from updater.service import log_setup
    from updater.service.pass_runner import locked_pass, make_var
    from updater.settings.composition import SourceOverride, host_context
    from updater.settings.config import load

    passes: Any = importlib.import_module("updater.service.pass_runner")
    passes.ControlLimits = functools.partial(passes.ControlLimits, recheck_s=0.0)
    passes.Retries = functools.partial(passes.Retries, attempts=2, base_s=0.001)
    config = load(config_path)
    make_var(config.var)
    log_setup.set_up("error", config.var / "app.log", to_stderr=False)
    logger.error("the soak begins")  # the log is open from here on: descriptors are counted
    later = 0.0
    host = evolve(host_context(config, SourceOverride()), clock=lambda: time.time() + later)
    ending = threading.Event()

    def made() -> Passed:
        try:
            result = locked_pass(config, host, PassRequest(ask=DesiredFrom.EXCHANGE), ending=ending)
        except NoDesiredState as err:
            return Passed(trouble=err.message)
        reasons = {
            agent.view.desired.name: next(c.reason for c in agent.conditions if c.type == "Ready")
            for agent in result.agents
        }
        return Passed(
            unready=tuple(f"{a.view.desired.name}: {reasons[a.view.desired.name]}" for a in result.unready),
            acted=result.acted,
            broke=tuple(name for name, reason in reasons.items() if reason == "InternalError"),
        )

    for line in sys.stdin:
        later = json.loads(line)
        passed = made()  # nothing is kept of its result, which may read a config from an open file
        gc.collect()  # as the daemon does before it rests
        print(json.dumps(asdict(_weighed(passed))), flush=True)


def _weighed(passed: Passed) -> Passed:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return evolve(
        passed,
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        rss=pages * _PAGE,
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(Path(sys.argv[1]))
