"""Steps that several end-to-end tests take."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path
from typing import Any

from tests.e2e.host import NAME, Host
from tests.e2e.processes import LIMIT_S, Processes
from tests.support.sample_agents import build

CONFIG_PATH = "/conf/falcon-agent-cfg.json"


@contextmanager
def service_manager(path: Path) -> Iterator[tuple[Callable[[str], bool], list[str]]]:
    """A stand-in for the service manager's socket: whether a line that begins so was heard, and all that were."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)

        def heard(word: str) -> bool:
            try:
                while True:
                    said.extend(sock.recv(4096).decode().splitlines())
            except BlockingIOError:
                return any(line.startswith(word) for line in said)

        yield heard, said


@contextmanager
def holding(path: Path, processes: Processes) -> Iterator[int]:
    """Another real process that holds a lock as an updater in a pass does, until the end of the block; its pid."""
    program = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "os.ftruncate(fd, 0)\n"
        "os.pwrite(fd, f'{os.getpid()}\\n'.encode(), 0)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = processes.start(
        [sys.executable, "-c", program, str(path)], cwd=path.parent, env=dict(os.environ), stdin=-1
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.pid
    finally:
        holder.communicate()


def install_as_today(host: Host, version: str, **habits: Any) -> int:
    """Leave a host as today's updater does, the agent started by its own control script; its pid."""
    tarball = build(NAME, version, lifetime=600, **habits)
    host.meta.publish(NAME, version, tarball)
    tree = host.home() / version
    tree.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(tarball)) as packed:
        for member in packed:
            content = packed.extractfile(member)
            assert content is not None
            (tree / member.name).write_bytes(content.read())
            (tree / member.name).chmod(member.mode)
    (tree / f"{NAME}-{version}.tar.gz").write_bytes(tarball)
    digest = md5(tarball, usedforsecurity=False).hexdigest()
    (tree / f"{NAME}-{version}.tar.gz.md5").write_text(f"{digest}  {NAME}-{version}.tar.gz\n")
    (host.home() / ".version").write_text(f"{version}\n")
    started = host.run(str(tree / "control"), "start")
    assert started.code == 0, started
    return host.ask().pid


def marker(tree: Path) -> dict[str, object]:
    content = json.loads((tree / ".ops-updater.json").read_text())
    assert isinstance(content, dict)
    return content


def desire_with_config(host: Host, version: str, greeting: str) -> None:
    """Publish the config, and desire the version with it."""
    url = host.meta.publish_config(CONFIG_PATH, b'{"greeting": "%s"}' % greeting.encode())
    host.desire(version, configFileName="cfg.json", configRemoteUrl=url)


def heartbeat_with(host: Host, version: str, status: str = "started", *, since: int = 0) -> None:
    """Wait until ops-meta has a report that the agent is so."""

    def is_reported(beat: dict[str, list[dict[str, str]]]) -> bool:
        return [(agent["version"], agent["status"]) for agent in beat["realAgents"]] == [(version, status)]

    host.meta.wait_for_heartbeat(is_reported, LIMIT_S, since=since)
