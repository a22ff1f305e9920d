"""Debian's etcd, three nodes on loopback as processes of the test's own: they die, hang and come back as it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen

from tests.e2e.processes import until

# OPS_UPDATER_ETCD: an etcd that lies elsewhere, such as one that was unpacked and not installed.
BINARY = os.environ.get("OPS_UPDATER_ETCD") or shutil.which("etcd", path=f"{os.environ.get('PATH', '')}:/usr/bin")
_ANSWER_S = 2.0


@frozen(kw_only=True)
class _Address:
    name: str
    client: str
    peer: str


class EtcdCluster:
    """A context manager. `endpoints`: of the clients. Nodes are named by their number, from 0."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self._folder = folder
        ports = _free_ports(2 * nodes)
        self._addresses = [
            _Address(
                name=f"n{n}", client=f"http://127.0.0.1:{ports[2 * n]}", peer=f"http://127.0.0.1:{ports[2 * n + 1]}"
            )
            for n in range(nodes)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.endpoints = [address.client for address in self._addresses]

    def __enter__(self) -> EtcdCluster:
        try:
            for number in range(len(self._addresses)):
                self.start(number)
            self.wait_for_leader()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes.values():
            process.kill()  # also one that is stopped
            process.wait()

    def start(self, number: int) -> None:
        """Start a node, with what it had on its disk."""
        own = self._addresses[number]
        options = {
            "name": own.name,
            "data-dir": str(self._folder / own.name),
            "listen-client-urls": own.client,
            "advertise-client-urls": own.client,
            "listen-peer-urls": own.peer,
            "initial-advertise-peer-urls": own.peer,
            "initial-cluster": ",".join(f"{one.name}={one.peer}" for one in self._addresses),
            "initial-cluster-state": "new",
            "log-level": "error",
        }
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        with (self._folder / f"{own.name}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen([str(BINARY), *words], stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()

    def stop(self, numbers: Iterable[int]) -> None:
        """Let nodes hang: their connections stay open, and they say nothing."""
        for number in numbers:
            self._processes[number].send_signal(signal.SIGSTOP)

    def go_on(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._processes[number].send_signal(signal.SIGCONT)

    def leader(self) -> int | None:
        """The leader as some node that answers knows it; None: none does, or there is none."""
        found = [self._status(number) for number in range(len(self._addresses))]
        members = {status["header"]["member_id"]: number for number, status in enumerate(found) if status}
        leaders = {status["leader"] for status in found if status and status.get("leader", "0") != "0"}
        return next((members[leader] for leader in leaders if leader in members), None)

    def wait_for_leader(self, *, other_than: int | None = None) -> int:
        found: list[int] = []

        def has_one() -> bool:
            leader = self.leader()
            found[:] = [] if leader is None or leader == other_than else [leader]
            return bool(found)

        until(has_one, "etcd has a leader")
        return found[0]

    def _status(self, number: int) -> dict[str, Any] | None:
        try:
            request = urllib.request.Request(f"{self.endpoints[number]}/v3/maintenance/status", b"{}")
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (OSError, ValueError):
            return None


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that are free at the moment: etcd must get them."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
