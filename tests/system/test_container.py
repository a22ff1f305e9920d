"""The updater as PID 1 of a PID namespace, as in a container. Needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Daemon, Host
from tests.e2e.processes import Processes, end_all_in, running_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

# It judges by `kill -0` alone, as many do: a zombie counts as alive.
CONTROL = """#!/bin/sh
cd "$(dirname "$0")"
running() { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
case $1 in
start) nohup /bin/sh ./agent.sh </dev/null >app.log 2>&1 & echo $! >pid; echo . >>../starts ;;
stop) kill "$(cat pid)" ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""
AGENT = b"for second in $(seq 600); do sleep 1; done\n"
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]


class Container(Host):
    """A host whose commands are PID 1 each; `first`: or run below this one."""

    first: tuple[str, ...] = ()

    def command(self, *argv: str) -> list[str]:
        return [*NAMESPACE, *self.first, *super().command(*argv)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Container]:
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this machine lets root make no PID namespace: {tried.stderr.strip()}")
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        host = Container(tmp_path, meta, processes)
        meta.publish(NAME, "1.0.0", build(NAME, "1.0.0", control=CONTROL, extra={"agent.sh": AGENT}))
        host.desire("1.0.0")
        yield host
        end_all_in(tmp_path)


def agents(host: Host) -> list[int]:
    """The agent's main process, by the pids of this side."""
    found = []
    for pid in running_in(host.home()):
        with suppress(OSError):  # it has ended meanwhile
            if b"agent.sh" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reported(host: Host) -> str:
    """What the last heartbeat said of it."""
    agents = host.meta.heartbeats[-1]["realAgents"] if host.meta.heartbeats else []
    return str(agents[0]["status"]) if agents else ""


def starts(host: Host) -> int:
    file = host.home() / "starts"
    return len(file.read_text().split()) if file.exists() else 0


def test_as_pid_1_it_reaps_a_killed_agent_and_heals_it(host: Container) -> None:
    host.configure(interval=1)
    with host.daemon("--now") as daemon, ended_with(daemon) as first:
        until(lambda: len(agents(host)) == 1, "the agent runs")
        assert int(Path(f"/proc/{first}/status").read_text().partition("NSpid:")[2].split()[1]) == 1
        shown = Path(f"/proc/{first}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        assert shown[-5:] == [b"updater", b"*", b"*", b"daemon", b"*"]
        assert b"/" not in b" ".join(shown), "no path and no typed word is seen in its command line"
        for times in (2, 3):
            until(lambda: reported(host) == "started", "it is well")
            os.kill(agents(host)[0], signal.SIGKILL)
            until(lambda: starts(host) == times, "it is started again")  # noqa: B023 - within this round
            until(lambda: len(agents(host)) == 1, "it runs")
            beats = len(host.meta.heartbeats)
            until(lambda: len(host.meta.heartbeats) >= beats + 2, "passes go by")  # noqa: B023
        until(lambda: [pid for pid in below(first) if is_zombie(pid)] == [], "nothing stays a zombie")
        inside = ["nsenter", "--target", str(first), "--pid", "--mount", "--", *Host.command(host, "check")]
        checked = host.run(*inside).out  # as `docker exec` does
        assert "processes that lost their parent are reaped" in checked
        assert "process 1 " not in checked
        os.kill(first, signal.SIGTERM)  # as `docker stop` does
        ended = daemon.ended()
    assert ended.code == 0, ended
    assert "ended" in host.log


@contextmanager
def ended_with(daemon: Daemon) -> Iterator[int]:
    """The PID 1 of a daemon. It is killed where the block fails: unshare passes no signal on to it."""
    until(lambda: below(daemon.pid) != [], "it runs")
    [first] = below(daemon.pid)
    try:
        yield first
    except BaseException:
        os.kill(first, signal.SIGKILL)
        raise


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_as_pid_1_a_command_ends_with_its_own_code(host: Container) -> None:
    applied = host.apply()
    assert applied.code == 0, applied
    assert applied.actions().split()[-1] == "start"
    assert host.updater("plan", "--detailed-exitcode").code == 2  # the agent ended with its container
    assert host.updater("nosuch").code == 64
    assert "reaped" in host.updater("check").out


def test_check_says_where_orphans_are_not_reaped(host: Container) -> None:
    """A first process that never waits, as `tail -f /dev/null` is."""
    waits = "import os, sys, time, subprocess; p = subprocess.Popen(sys.argv[1:])\n"
    waits += "while os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None: time.sleep(0.1)\n"
    host.first = (sys.executable, "-c", waits)
    reported = host.updater("check").out
    assert "stays a zombie" in reported
    assert "docker run --init" in reported
