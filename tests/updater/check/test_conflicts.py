"""`check` of what else is on the host: other updaters, by real processes and locks, and logind's word on sessions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.act.host.home_lock import home_lock
from tests.e2e.processes import until
from tests.updater.check.findings import found, subject
from tests.updater.conftest import Folder
from updater.check.conflicts import sessions
from updater.check.subject import CheckFinding, CheckState
from updater.service.locks import pass_lock

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def about_others(folder: Folder, words: str) -> list[CheckFinding]:
    """Other processes of this machine are none of the test's business."""
    return [one for one in found(folder, "others", offline=True) if words in one.message]


@contextmanager
def a_process(name: str, folder: Path) -> Iterator[int]:
    sleep = shutil.which("sleep")
    assert sleep is not None
    process = subprocess.Popen([name, "600"], executable=sleep, cwd=folder)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@linux
def test_today_s_updater_is_bad_while_it_runs(folder: Folder, tmp_path: Path) -> None:
    with a_process("./ops-updater", tmp_path) as pid:
        [one] = about_others(folder, f"process {pid} ")
    assert one.state is CheckState.BAD
    assert f"(`./ops-updater 600`, in {tmp_path}) is another updater" in one.message
    assert "by its own `control stop`" in one.remedy
    assert about_others(folder, f"process {pid} ") == []


@linux
def test_a_process_of_another_name_is_none(folder: Folder, tmp_path: Path) -> None:
    with a_process("./falcon-agent", tmp_path) as pid:
        assert about_others(folder, f"process {pid} ") == []


@linux
def test_our_own_daemon_is_none_and_that_of_another_config_is_noted(folder: Folder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder.path / "cfg.json", other)
    daemon = folder.start("daemon")
    try:
        until(lambda: (folder.var / "app.pid").exists(), "the daemon runs")
        assert about_others(folder, f"process {daemon.pid} ") == []
        folder.path, at = other, folder.path
        [one] = about_others(folder, f"process {daemon.pid} ")
        folder.path = at
        assert (one.state, "is an updater of another config" in one.message) == (CheckState.NOTE, True)
    finally:
        daemon.terminate()
        daemon.communicate()


@linux
def test_our_own_daemon_is_known_where_its_config_is_hidden(folder: Folder) -> None:
    """Its folder has the name of an agent, which is hidden in its command line once it looks at that agent."""
    folder.want()
    named = folder.path.with_name("of-falcon-agent")
    folder.path.rename(named)
    folder.path = named
    daemon = folder.start("daemon", "--now")
    try:
        line = Path(f"/proc/{daemon.pid}/cmdline")
        until(lambda: b"falcon-agent" not in line.read_bytes() and b"-c" in line.read_bytes(), "its words are hidden")
        assert about_others(folder, f"process {daemon.pid} ") == []
    finally:
        daemon.terminate()
        daemon.communicate()


@linux
def test_a_home_that_another_holds_is_bad(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    assert about_others(folder, str(folder.home())) == []
    with home_lock(folder.home()):
        [one] = about_others(folder, str(folder.home()))
        assert (one.state, "of another folder holds" in one.message) == (CheckState.BAD, True)
        with pass_lock(folder.var):  # the same process makes a pass of this folder
            assert about_others(folder, str(folder.home())) == []


# Sessions

MAIN = "etc/systemd/logind.conf"


def findings_of_sessions(
    folder: Folder, root: Path, files: dict[str, str], cgroup: str = "/system.slice/x.service"
) -> CheckFinding:
    for path, text in {**files, "proc/self/cgroup": f"0::{cgroup}\n"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    with subject(folder) as looked:
        [one] = sessions(evolve(looked, root=root))
    return one


@pytest.mark.parametrize(
    "files",
    [
        {},
        {MAIN: "[Login]\n#KillUserProcesses=no\n"},
        {MAIN: "[Login]\nKillUserProcesses=no\n"},
        {MAIN: "[Login]\nKillUserProcesses=yes\n", f"{MAIN}.d/50.conf": "[Login]\nKillUserProcesses=no\n"},
        {f"usr/lib/{MAIN[4:]}.d/a.conf": "[Login]\nKillUserProcesses=yes\n", f"{MAIN}.d/a.conf": ""},
    ],
)
def test_sessions_that_kill_nothing_are_good(folder: Folder, tmp_path: Path, files: dict[str, str]) -> None:
    assert findings_of_sessions(folder, tmp_path / "root", files).state is CheckState.GOOD


@pytest.mark.parametrize(
    "files",
    [
        {MAIN: "[Login]\n#KillUserProcesses=yes\n"},
        {MAIN: "[Login]\nKillUserProcesses = true\n"},
        {MAIN: "[Login]\nKillUserProcesses=no\n", f"run/{MAIN[4:]}.d/50.conf": "[Login]\nKillUserProcesses=yes\n"},
    ],
)
def test_sessions_that_kill_agents_are_bad_for_whom_they_hit(
    folder: Folder, tmp_path: Path, files: dict[str, str]
) -> None:
    root = tmp_path / "root"
    one = findings_of_sessions(folder, root, files, "/user.slice/user-1000.slice/session-3.scope")
    assert (one.state, "loginctl enable-linger" in one.remedy) == (CheckState.BAD, True)
    assert findings_of_sessions(folder, root, files).state is CheckState.NOTE  # under systemd it concerns others
