"""A file system whose server does not answer is the trouble of the agents on it alone, and no pass waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.host.remote_mounts import silent_on
from tests.e2e.host import NAME, Host
from updater.demo import agent as agents

FUSE = Path("/dev/fuse")
pytestmark = [
    pytest.mark.warm,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0 or not FUSE.exists(), reason="needs root, and FUSE"),
]


@contextmanager
def silent(folder: Path) -> Iterator[None]:
    """Mount a file system whose server never answers over a folder, until the end of the block."""
    server = os.open(FUSE, os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    try:
        subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "silent", folder], check=True, pass_fds=[server])
        yield
    finally:
        os.close(server)  # a process that waits gets an error
        subprocess.run(["umount", "-l", folder], check=True)


def both(host: Host) -> None:
    for name in (NAME, "other"):
        host.publish("1.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "1.0.0"))
    assert host.apply().code == 0
    assert host.apply().code == 0
    agents.end_all(host.home())


@pytest.mark.parametrize("rules", [{}, {"allow_work_dirs": True}])
def test_an_agent_whose_disk_does_not_answer_is_left_alone_and_the_others_are_healed(
    host: Host, rules: dict[str, bool]
) -> None:
    both(host)
    host.configure(allow_work_dirs=[str(host.work)] if rules else None)
    with silent(host.home()):
        for _ in range(2):
            host.crash("other")
            healed = host.apply()
            assert healed.code == 3
            assert healed.condition("Ready") == ("Unknown", "StatusUnknown")
            assert "does not answer" in healed.agent()["conditions"][0]["message"]
            assert host.ask("other").version == "1.0.0"
            assert healed.actions("other") == "start"
        assert host.plan().actions("other") == ""
        assert host.updater("status").code == 0
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0"


def test_a_mount_that_answered_once_is_asked_anew(tmp_path: Path) -> None:
    paths = [str(tmp_path / "a"), str(tmp_path.parent / "beside")]
    for _ in range(2):
        with silent(tmp_path):
            assert silent_on(paths, 0.1) == {paths[0]: str(tmp_path)}
        assert silent_on(paths, 0.1) == {}  # the end of its server was an answer


def test_a_daemon_goes_on_and_ends_on_sigterm(host: Host) -> None:
    both(host)
    host.configure(interval=1)
    with silent(host.home()), host.daemon("--now") as daemon:
        host.wait_for_log("does not answer")
        pids = set()
        for _ in range(2):
            host.crash("other")
            pids.add(host.ask("other").pid)
        assert len(pids) == 2
        stuck = [task for task in Path(f"/proc/{daemon.pid}/task").iterdir() if (task / "comm").exists()]
        assert len(stuck) < 10, "one thread waits for one mount"
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0
