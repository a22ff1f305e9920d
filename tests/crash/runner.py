"""Runs the updater's command line again and again, each time in a child that dies or errs where ordered.

    python -m tests.crash.runner        orders on standard input, answers on standard output, one JSON line each

All modules are imported once and a child is a fork of this process, so that a thousand runs cost no thousand starts of
an interpreter. Agents that a run leaves behind become this process's children, and are reaped when they end.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from attrs import asdict, field, frozen

from tests.crash.points import Fault, Points
from tests.crash.power import PageCache
from tests.e2e.processes import _set_subreaper
from tests.other_process import OtherProcess

_PRELOADED = (
    "updater.cli updater.commands.apply updater.service.converge updater.service.pass_runner "
    "updater.settings.composition updater.service.log_setup updater.output.report "
    "updater.service.saved_plan reconcile.engine.reconciler reconcile.net.http_transport "
    "reconcile.act.host.tar_stream tenacity loguru "
    "tests.crash.mutants"
).split()
_TRACER_S = 60.0  # until a tracer that was started has its thread
_RECHECK_S = 0.005  # enough for agents that are up or not at once


@frozen(kw_only=True)
class Order:
    """One run. `argv`: the updater's, or with `program` another program's. `out`: where what it prints goes. `grave`:
    power.py's. `home`: the agent's. `later`: seconds that its clock is ahead. `boot`: which start of the host it is.
    `exchange`: whether the file system can swap two directories. `trace`: which thread waits for a tracer, `main` or
    `agent`; its number is put into the file `{out}.tid`."""

    argv: list[str]
    out: str
    grave: str
    home: str = ""
    program: bool = False
    fault: Fault = field(factory=Fault)
    mutant: str = ""
    later: float = 0.0
    boot: str = "first"
    exchange: bool = True
    trace: str = ""


@frozen(kw_only=True)
class Ran:
    """How a run ended. `code`: its exit code, negative for a signal. `points`: the operations that it made, as far as
    it came to tell. `hit`: the one that the fault hit."""

    code: int
    points: int
    hit: str


class Runner(OtherProcess):
    """A runner process, seen from the harness. A context manager."""

    def __init__(self) -> None:
        super().__init__("tests.crash.runner")

    def send(self, order: Order) -> None:
        """Begin a run; `receive` waits for its end."""
        self.send_json(asdict(order))

    def receive(self) -> Ran:
        return Ran(**self.receive_json())

    def run(self, order: Order) -> Ran:
        self.send(order)
        return self.receive()


# --- inside the runner's process ---


def serve() -> None:
    """Carry out orders until there are no more."""
    if sys.platform == "linux":
        _set_subreaper(on=True)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # a collection in a child would copy every page that it looks at
    for line in sys.stdin:
        content = json.loads(line)
        order = Order(**{**content, "fault": Fault(**content["fault"])})
        answers.write(json.dumps(asdict(_carry_out(order))) + "\n")
        answers.flush()


def _carry_out(order: Order) -> Ran:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_and_end(order, os.fdopen(writing, "w"))
    os.close(writing)
    with os.fdopen(reading) as reported:
        said: dict[str, Any] = {"points": 0, "hit": ""}
        for line in reported:
            said |= json.loads(line)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return Ran(code=os.waitstatus_to_exitcode(status), **said)


def _run_and_end(order: Order, answers: IO[str]) -> None:
    """The child's whole life."""

    def report(**said: Any) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    os.set_inheritable(answers.fileno(), False)
    out = os.open(order.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.chdir("/")
    if order.program:
        os.execv(order.argv[0], order.argv)
    from updater import cli

    code = 70
    try:
        cache = PageCache(Path(order.grave))
        points = Points(order.fault, cache, Path(order.home), lambda what: report(hit=what))
        _furnish(order, points)
        code = cli.run(order.argv)
        sys.stdout.flush()
        report(points=points.count)
    finally:
        os._exit(code)


def _furnish(order: Order, points: Points) -> None:
    """Set up this process as the order says: clock, boot, file system, mistakes, fault."""
    wiring: Any = importlib.import_module("updater.settings.composition")
    passes: Any = importlib.import_module("updater.service.pass_runner")
    write: Any = importlib.import_module("reconcile.act.host.atomic_fs")
    wiring.time = SimpleNamespace(time=lambda: time.time() + order.later)
    wiring.facts = SimpleNamespace(**{**vars(wiring.facts), "boot_id": lambda: order.boot})
    passes.ControlLimits = functools.partial(passes.ControlLimits, recheck_s=_RECHECK_S)
    if not order.exchange:
        write.exchange = lambda dir_fd, a, b: False
    if order.trace:
        _wait_to_be_traced(order)
    else:
        points.install()
    if order.mutant:
        from tests.crash.mutants import MUTANTS

        MUTANTS[order.mutant].put_in()


def _wait_to_be_traced(order: Order) -> None:
    """Stop the thread in question until a debugger has it."""

    def wait() -> None:
        tid = threading.get_native_id()
        asked = Path(f"{order.out}.tid")
        Path(f"{order.out}.new").write_text(str(tid))
        os.replace(f"{order.out}.new", asked)
        seen = Path(f"{order.out}.strace")
        deadline = time.monotonic() + _TRACER_S
        while not (seen.exists() and seen.stat().st_size):
            if time.monotonic() > deadline:
                os._exit(71)  # no tracer is there, and we are not to run untraced
            os.getpriority(os.PRIO_PROCESS, 0)  # the first call that the tracer writes down
            time.sleep(0.001)

    if order.trace == "main":
        wait()
        return
    real_run = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        if thread.name.startswith(("heal", "fetch", "change")):
            wait()
        real_run(thread)

    thread_class: Any = threading.Thread
    thread_class.run = run


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        serve()
