"""A process that has loaded the updater, and forks for each command that a test types.

A start of Python and the loading of modules are four fifths of what a small command costs, and the long stories of the
end-to-end tests type thousands of them. What a fork runs is the same `main()`, in a process of its own with its own
environment, directory and descriptors, whose parent is the test: signals, exit codes and pipes are real ones. What it
can't show is the start itself and what is loaded then; the tests that are not marked `warm` run the executable.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_ORDER = 1 << 17
_PARAMETERS = tuple(inspect.signature(subprocess.Popen._execute_child).parameters)  # type: ignore[attr-defined]
_LEFT_OUT = ("updater.__main__", "updater.demo", "updater.lint", "updater.packaging", "updater.monitoring")


class Warm:
    """The process, seen from a test. A context manager."""

    def __init__(self) -> None:
        self._orders, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.e2e.warm", str(its.fileno())]
        with its:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()])

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._orders.close()
        self._process.wait()

    def fork(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """Have a command run, with these descriptors for its standard ones; return its pid. Orphans must come to us."""
        order = json.dumps({"argv": list(argv), "cwd": cwd, "env": dict(env)}).encode()
        socket.send_fds(self._orders, [order], descriptors)
        pid = int(self._orders.recv(_LONGEST_ORDER))
        assert self._orders.recv(_LONGEST_ORDER) == b"ours", "it is our child from now on"
        return pid


class Forked(subprocess.Popen[str]):
    """A command of the warm process, as any other of ours is."""

    def __init__(self, warm: Warm, argv: Sequence[str], **how: Any) -> None:
        self._warm = warm
        super().__init__(argv, **how)

    def _execute_child(self, *given: Any) -> None:
        named = dict(zip(_PARAMETERS, (self, *given), strict=True))
        descriptors = [named[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self.pid = self._warm.fork(named["args"], os.fspath(named["cwd"]), named["env"], descriptors)
        self._child_created = True
        pipes = [named[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _load_all() -> None:
    for package in ("probes", "reconcile", "updater"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not module.name.startswith(_LEFT_OUT):
                importlib.import_module(module.name)
    importlib.import_module("updater.__main__")
    gc.freeze()


def _wait_for_order(orders: socket.socket) -> bool:
    """Fork for each order, and return True in the fork, set up as it asks; return False when there are no more.

    It is forked twice, so that it becomes a child of the test.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 3)
        if not message:
            return False
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), descriptors)
                return True
            orders.send(str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)
        orders.send(b"ours")
        for descriptor in descriptors:
            os.close(descriptor)


def _become(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
    os.closerange(3, 256)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv[:] = order["argv"]
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", errors="backslashreplace", closefd=False)  # type: ignore[misc]


if __name__ == "__main__":
    _load_all()
    if _wait_for_order(socket.socket(fileno=int(sys.argv[1]))):
        from updater.__main__ import main

        main()
