"""A fleet of a test: hosts that share one lock server with one place, and what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.host import Completed, Host
from tests.e2e.processes import Processes, end_all_in
from tests.e2e.warm import Warm
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.fleet_lock_server import Memory, Server
from updater.demo import agent as agents

MakeHost = Callable[[str], Host]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Have a lock server serve until the end of the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def lock() -> Iterator[Server]:
    with serving(Server(1, Memory())) as server:
        yield server


@pytest.fixture
def make(tmp_path: Path, processes: Processes, warm: Warm | None, lock: Server) -> Iterator[MakeHost]:
    metas: list[FaultyOpsMeta] = []

    def host(name: str) -> Host:
        (tmp_path / name).mkdir()
        meta = FaultyOpsMeta(work_dir=tmp_path / name / "agents")
        metas.append(meta)
        meta.__enter__()
        made = Host(tmp_path / name, meta, processes, warm)
        made.configure(hostname=name, fleet_lock={"url": lock.url, "group": "web"})
        return made

    yield host
    agents.end_all(tmp_path)
    end_all_in(tmp_path)
    for meta in metas:
        meta.__exit__(None, None, None)


def asked(lock: Server) -> list[str]:
    return [path.rpartition("/")[2] for path, _, _ in lock.asked]


def installed(host: Host) -> None:
    """1.0.0 runs and is good; what the first pass of a new memory gave back is forgotten."""
    host.install("1.0.0")
    host.settle()


def want(host: Host, version: str, **habits: Any) -> None:
    host.publish(version, **habits)
    host.desire(version)


def other_takes(lock: Server) -> None:
    assert lock.store.change("web", "another-host", take=True, places=lock.places)


def other_gives_back(lock: Server) -> None:
    lock.store.change("web", "another-host", take=False, places=lock.places)


def is_waiting(result: Completed) -> bool:
    return result.condition("Ready") == ("False", "WaitingForPlace")
