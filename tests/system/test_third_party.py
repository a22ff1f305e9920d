"""A third party's real daemon, Debian's redis-server, wrapped as an agent in two versions: the whole main job, once.

Its `control` is written in the field's style: `cd` to its own folder, `nohup ... &`, a pid file, `kill -0`. What redis
is doing is asked of redis itself, over its own protocol.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.host import Host
from tests.e2e.processes import LIMIT_S, Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta

SERVER = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(SERVER is None, reason="needs Debian's redis-server; `./control test --system` installs it"),
]

CONTROL = """\
#!/bin/bash

WORKSPACE=$(cd $(dirname $0)/; pwd)
cd $WORKSPACE

app=redis
pidfile=var/app.pid
logfile=var/app.log

mkdir -p var

function check_pid() {
    if [ -f $pidfile ]; then
        pid=`cat $pidfile`
        if [ -n "$pid" ]; then
            running=`kill -0 $pid 2>/dev/null && echo 1 || echo 0`
            return $running
        fi
    fi
    return 0
}

function start() {
    check_pid
    running=$?
    if [ $running -gt 0 ]; then
        echo -n "$app now is running already, pid="
        cat $pidfile
        return 1
    fi
    nohup @server@ redis.conf &> $logfile &
    echo $! > $pidfile
    echo "$app started..., pid=$!"
}

function stop() {
    pid=`cat $pidfile`
    kill $pid
    echo "$app stoped..."
}

function status() {
    check_pid
    running=$?
    if [ $running -gt 0 ]; then
        echo started
    else
        echo stoped
    fi
}

case "$1" in
    start|stop|status) $1 ;;
    *) echo "$0 start|stop|status" ;;
esac
"""


def tarball(version: str, port: int) -> bytes:
    """One version of the agent; the versions differ in what `CONFIG GET maxclients` prints."""
    config = f"bind 127.0.0.1\nport {port}\nsave ''\nappendonly no\nmaxclients {_clients(version)}\n"
    assert SERVER is not None
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in {"control": CONTROL.replace("@server@", SERVER), "redis.conf": config}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content.encode()), 0o755
            tar.addfile(member, io.BytesIO(content.encode()))
    return target.getvalue()


def _clients(version: str) -> int:
    return {"7.0.0": 111, "7.0.1": 222}[version]


class Redis:
    """The daemon as its clients know it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, *words: str) -> str | None:
        """Its answer to one command; None where there is no answer."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                connection.sendall(request.encode())
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except ConnectionError:
            return None

    def answers(self) -> bool:
        return self.ask("PING") == "+PONG\r\n"

    def serves(self, version: str) -> bool:
        return str(_clients(version)) in (self.ask("CONFIG", "GET", "maxclients") or "")

    @property
    def pid(self) -> int:
        reported = self.ask("INFO", "server") or ""
        return int(next(line.partition(":")[2] for line in reported.splitlines() if line.startswith("process_id:")))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        yield Host(tmp_path, meta, processes)
        end_all_in(tmp_path)


@pytest.fixture
def redis() -> Redis:
    return Redis(free_port())


def free_port() -> int:
    """Below the ports that Linux gives to outgoing connections: between two starts of redis none of them takes it."""
    for port in range(21000 + os.getpid() % 10000, 32000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port below 32000")


def test_redis_is_installed_upgraded_healed_and_stopped(host: Host, redis: Redis) -> None:
    for version in ("7.0.0", "7.0.1"):
        host.meta.publish("redis", version, tarball(version, redis.port))
    assert not redis.answers()

    host.meta.desire(host.meta.agent("redis", "7.0.0"))
    installed = host.apply()
    assert (installed.code, installed.actions("redis")) == (0, "fetch verify unpack switch start"), installed
    until(lambda: redis.serves("7.0.0"), "redis answers")
    pid = redis.pid

    assert host.apply().actions("redis") == ""
    assert redis.pid == pid

    host.meta.desire(host.meta.agent("redis", "7.0.1"))
    upgraded = host.apply()
    assert (upgraded.code, upgraded.actions("redis")) == (0, "fetch verify unpack stop switch start"), upgraded
    until(lambda: redis.serves("7.0.1"), "the new version answers")
    assert redis.pid != pid

    # The pass after a change finds it good; one that dies before that is rolled back, not started again.
    assert host.apply().actions("redis") == ""

    host.configure(interval=1)
    with host.daemon("--now") as daemon:
        pid = redis.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: redis.serves("7.0.1") and redis.pid != pid, "the crash is healed by the daemon")

        host.meta.desire(host.meta.agent("redis", "7.0.1", "stop"))
        until(lambda: not redis.answers(), "it is stopped")
        host.meta.wait_for_heartbeat(
            lambda beat: [agent["status"] for agent in beat["realAgents"]] == ["stoped"],
            LIMIT_S,
            since=len(host.meta.heartbeats),
        )
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0
