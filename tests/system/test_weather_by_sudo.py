"""Bad weather for an updater that isn't root: what works through sudo is healed and changed as root's is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import until
from tests.system.users import KESTREL, NEEDS, UPDATER, Users, UsersHost, processes_of, ready_condition

pytestmark = NEEDS


def run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True)


@pytest.fixture
def host(by_sudo: UsersHost, users: Users) -> UsersHost:
    by_sudo.configure(keep=1)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        by_sudo.release(version, "falcon")
    by_sudo.want("1.0.0", users, falcon=KESTREL)
    assert [by_sudo.apply().code for _ in range(2)] == [0, 0]
    return by_sudo


def crash() -> None:
    for pid in processes_of(KESTREL):
        os.kill(pid, signal.SIGKILL)
    until(lambda: processes_of(KESTREL) == [], "the agent is dead")


@contextmanager
def read_only(host: UsersHost) -> Iterator[None]:
    run("mount", "--bind", host.var, host.var)
    try:
        run("mount", "-o", "remount,bind,ro", host.var)
        yield
    finally:
        run("umount", "--lazy", host.var)


@contextmanager
def a_fifo(host: UsersHost, name: str) -> Iterator[None]:
    """In the place of a file of the updater's."""
    path = host.var / name
    kept = path.with_name(f"{name}.kept")
    if path.exists():
        path.rename(kept)
    run("runuser", "-u", UPDATER, "--", "mkfifo", path)
    try:
        yield
    finally:
        path.unlink()
        if kept.exists():
            kept.rename(path)


@pytest.mark.parametrize(
    ("how", "server", "code"),
    [
        ("read-only", "up", 0),
        ("read-only", "down", 0),
        ("state.db", "up", 0),
        ("state.db", "down", 69),  # nothing is known to do
        ("app.log", "up", 0),
        ("app.log", "down", 0),
        ("updater.lock", "up", 0),
        ("updater.lock", "down", 0),
    ],
)
def test_what_crashed_is_healed(host: UsersHost, unsharing: None, how: str, server: str, code: int) -> None:
    if server == "down":
        host.meta.down()
    with read_only(host) if how == "read-only" else a_fifo(host, how):
        crash()
        done = host.updater("apply", "--once")
        assert done.code == code, done
        until(lambda: len(processes_of(KESTREL)) == (code == 0), "one agent, and no process of the pass any more")
    host.meta.up()
    assert host.apply().code == 0
    assert ready_condition(host.apply(), "falcon") == ("AsDesired", "1.0.0 started")


def test_an_immutable_file_of_an_old_version_is_in_no_way(host: UsersHost, users: Users) -> None:
    home = users.work(KESTREL) / "falcon"
    run("chattr", "+i", home / "1.0.0/README")
    try:
        said: list[str] = []
        for version in ("2.0.0", "3.0.0"):
            host.want(version, users, falcon=KESTREL)
            for _ in range(2):
                done = host.apply()
                assert (done.code, done.condition("Ready", "falcon")[0]) == (0, "True"), done
                actions = done.agent("falcon")["actions"]
                said += [one["error"] for one in actions if one["type"] == "prune" and one["result"] == "failed"]
            assert (home / ".version").read_text() == version
        assert len(said) == 1, said
        assert "1.0.0" in said[0]
        running = processes_of(KESTREL)
        assert host.apply().actions("falcon") == ""
        assert processes_of(KESTREL) == running
    finally:
        run("chattr", "-R", "-i", home)
