"""Hosts short of inodes, processes and memory, for the updater or for an agent's user: what runs is kept."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Completed, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.system.users import (
    KESTREL,
    MERLIN,
    NEEDS,
    UPDATER,
    Users,
    UsersHost,
    a_host,
    allow,
    end_all_of,
    processes_of,
    ready_condition,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("prlimit") is None, reason="needs prlimit"),
]


def limited(host: Host, limit: str, *argv: str, before: str = "env") -> Completed:
    """Run the executable under a limit of its own; `before`: the word of its command line that the limit is put
    before, where another program makes it another user's."""
    command = host.command(*argv)
    at = command.index(before) if before in command else 0
    command[at:at] = ["prlimit", limit]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return Completed(code=done.returncode, out=done.stdout, err=done.stderr)


# Inodes of a home


@contextmanager
def small_homes(work: Path, inodes: int) -> Iterator[None]:
    work.mkdir(exist_ok=True)
    options = f"size=64m,nr_inodes={inodes},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", work], check=True)
    try:
        yield
    finally:
        end_all_in(work)
        subprocess.run(["umount", "--lazy", work], check=True)


def without_an_inode(home: Path) -> list[Path]:
    made: list[Path] = []
    while True:
        path = home.parent / f"filler-{len(made)}"
        try:
            path.touch()
        except OSError as err:
            assert err.errno == errno.ENOSPC
            return made
        made.append(path)


@pytest.fixture
def inodes(tmp_path: Path, unsharing: None) -> Iterator[Host]:
    """Its agents live on a file system of 60 inodes."""
    with (
        small_homes(tmp_path / "agents", 60),
        FaultyOpsMeta(work_dir=tmp_path / "agents") as meta,
        Processes() as processes,
    ):
        yield Host(tmp_path, meta, processes)


MANY = {f"lib/{number}": b"file" for number in range(100)}


@pytest.mark.parametrize("exchange", [False, True], ids=["version", "content"])
def test_a_version_with_more_files_than_the_home_has_inodes_waits(inodes: Host, exchange: bool) -> None:
    pid = inodes.install("1.0.0")
    inodes.settle()
    before = os.statvfs(inodes.work).f_ffree
    wanted = "1.0.0" if exchange else "2.0.0"
    inodes.publish(wanted, extra=MANY)
    inodes.desire(wanted)
    for _ in range(2):
        failed = inodes.apply()
        assert (failed.code, failed.condition("Ready")) == (3, ("False", "DiskTooSmall")), failed
        assert "inode" in failed.out, failed
        assert "stop" not in [one["type"] for one in failed.agent()["actions"] if one["result"] != "skipped"]
        assert (inodes.pid(), inodes.versions()) == (pid, ["1.0.0"])
        assert os.statvfs(inodes.work).f_ffree == before, "what was staged is freed"
        inodes.updater("release", NAME)
    subprocess.run(["mount", "-o", "remount,nr_inodes=2000", inodes.work], check=True)
    assert inodes.apply().code == 0
    assert inodes.pid() not in (None, pid)


def test_a_home_without_an_inode_left_keeps_its_agent_and_heals(inodes: Host) -> None:
    pid = inodes.install("1.0.0")
    inodes.settle()
    inodes.publish("2.0.0")
    inodes.desire("2.0.0")
    fillers = without_an_inode(inodes.home())
    failed = inodes.apply()
    assert failed.code == 3, failed
    assert failed.condition("Ready") in (("False", "DiskTooSmall"), ("False", "WriteFailed")), failed
    assert (inodes.pid(), inodes.versions()) == (pid, ["1.0.0"])
    for path in fillers:
        path.unlink()
    inodes.updater("release", NAME)
    assert inodes.apply().code == 0
    inodes.settle()
    fillers = without_an_inode(inodes.home())
    inodes.crash()
    inodes.apply()  # the agent's own files are there, so that its start needs none
    assert inodes.ask().version == "2.0.0"
    for path in fillers:
        path.unlink()
    assert inodes.apply().code == 0


def the_agents_alone() -> list[int]:
    """The one process of the agent of that user, once what a pass began there has ended."""
    until(lambda: len(processes_of(KESTREL)) == 1, "the agent alone runs")
    return processes_of(KESTREL)


def assert_alone(running: list[int]) -> None:
    """These run, and no other of that user: what a pass began there ends with it, or a moment later."""
    assert set(running) <= set(processes_of(KESTREL))
    until(lambda: processes_of(KESTREL) == running, "the pass's own processes end")


@pytest.mark.parametrize("runs_as", [None, UPDATER], ids=["root", "sudo"])
class TestInodesOfAnotherUsersHome:
    pytestmark = NEEDS

    def test_its_agent_is_kept(self, users: Users, unsharing: None, runs_as: str | None) -> None:
        allow(users, f"{UPDATER} ALL=({KESTREL},{MERLIN}) NOPASSWD: ALL")
        work = users.work(KESTREL)
        with small_homes(work, 40), a_host(users, runs_as) as host:
            shutil.chown(work, KESTREL, KESTREL)
            for version in ("1.0.0", "2.0.0"):
                host.release(version, "falcon")
            host.want("1.0.0", users, falcon=KESTREL)
            assert [host.apply().code for _ in range(2)] == [0, 0]
            running = the_agents_alone()
            host.want("2.0.0", users, falcon=KESTREL)
            fillers = without_an_inode(work / "falcon")
            failed = host.apply()
            assert failed.code == 3
            assert ready_condition(failed, "falcon")[0] in ("DiskTooSmall", "WriteFailed"), failed
            assert_alone(running)
            for path in fillers:
                path.unlink()
            host.updater("release", "falcon")
            assert host.apply().code == 0
            assert (work / "falcon/.version").read_text() == "2.0.0"
            end_all_of(KESTREL)


# Processes


class TestProcesses:
    pytestmark = NEEDS

    @pytest.mark.parametrize("limit", range(1, 6))
    def test_an_agents_user_that_has_no_more(self, as_root: UsersHost, users: Users, limit: int) -> None:
        """One that the updater can't be, one that calls no script, one whose script can't fork."""
        as_root.configure(control_timeout={"status": 3, "start": 3, "stop": 3})
        for version in ("1.0.0", "2.0.0"):
            as_root.release(version, "falcon")
        as_root.want("1.0.0", users, falcon=KESTREL)
        assert [as_root.apply().code for _ in range(2)] == [0, 0]
        running = the_agents_alone()
        as_root.want("2.0.0", users, falcon=KESTREL)
        reasons = set()
        for _ in range(2):
            short = limited(as_root, f"--nproc={limit}", "apply", "--once", "-o", "json")
            assert (short.code, short.err) == (3, ""), short
            reasons.add(ready_condition(short, "falcon")[0])
            assert_alone(running)
        assert reasons <= {"StatusUnknown", "StopFailed"}
        if "StopFailed" in reasons:  # its script had just so many that the status could be asked
            as_root.updater("release", "falcon")
        healed = as_root.apply()
        assert healed.code == 0, healed
        assert (users.work(KESTREL) / "falcon/.version").read_text() == "2.0.0", "its content was not blamed"

    @pytest.mark.parametrize("limit", range(1, 6))
    def test_the_updaters_own_user_that_has_no_more(self, by_sudo: UsersHost, users: Users, limit: int) -> None:
        by_sudo.configure(control_timeout={"status": 3, "start": 3, "stop": 3})
        by_sudo.release("1.0.0", "falcon")
        by_sudo.want("1.0.0", users, falcon=KESTREL)
        assert [by_sudo.apply().code for _ in range(2)] == [0, 0]
        running = the_agents_alone()
        short = limited(by_sudo, f"--nproc={limit}", "apply", "--once", before="env")
        assert "Traceback" not in short.out + short.err
        assert "please report it" not in short.out + short.err
        assert short.code in (0, 3, 69), short
        assert len((short.out + short.err).splitlines()) <= 2, short
        assert_alone(running)
        assert ready_condition(by_sudo.apply(), "falcon") == ("AsDesired", "1.0.0 started")
        assert_alone(running)


# Memory


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        host = Host(tmp_path, meta, processes)
        host.install("1.0.0")
        host.settle()
        yield host
        end_all_in(tmp_path)


@pytest.mark.parametrize("mib", [16, 24, 32, 40, 48, 56, 60, 64, 71, 72, 80, 96, 128, 160])
def test_a_run_with_little_memory_leaves_no_agent_down(host: Host, mib: int) -> None:
    pid = host.pid()
    short = limited(host, f"--as={mib << 20}", "apply", "--once")
    assert "Traceback" not in short.out + short.err, short
    assert len((short.out + short.err).splitlines()) <= 1, short
    assert host.pid() == pid
    host.publish("2.0.0")
    host.desire("2.0.0")
    short = limited(host, f"--as={mib << 20}", "apply", "--once")
    assert "Traceback" not in short.out + short.err, short
    assert host.pid() is not None
    assert short.code in ((0, 3, 69) if mib >= 72 else (1,))
    for _ in range(2):
        assert host.apply().code == 0
    assert host.ask().version == "2.0.0"
