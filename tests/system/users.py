"""Real users for tests, and a host whose updater works as root or through real sudo.

The users are made by the fixtures, and go again with all that they run. What lies where they must see it is below
/var/tmp, since pytest's own folders are root's alone.
"""

from __future__ import annotations

import fcntl
import grp
import importlib.util
import io
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import frozen

from tests.e2e.host import ROOT, Completed, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta

SYSTEM_PYTHON = "/usr/bin/python3"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # each has users of its own, so that tests run side by side
KESTREL, MERLIN, UPDATER, NEW = (f"ops-test-{name}{WORKER}" for name in ("kestrel", "merlin", "updater", "new"))
SUDOERS = Path(f"/etc/sudoers.d/ops-updater-test{WORKER}")
PACKAGES = ("attr", "attrs", "httpx", "httpcore", "h11", "certifi", "idna", "anyio", "sniffio", "tenacity", "loguru")
MODULES = ("typing_extensions", "exceptiongroup")
NEEDS = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("sudo") is None, reason="needs sudo; `./control test --system` installs it"),
    pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="needs the system's Python"),
]

CONTROL = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
running() { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
case $1 in
start)
    running && { echo already running; exit 1; }
    tr '\\0' '\\n' </proc/$$/environ >seen.env
    { id -u; id -g; id -G; umask; pwd -P; } >seen.ids
    nohup sleep 600 >/dev/null 2>&1 &
    echo $! >pid ;;
stop) running && kill "$(cat pid)" ;;
status) %s; running && echo started || echo stoped ;;
esac
"""


# In front of a verb's commands: the call is counted, and waits for a file in the home.
WAITS = "echo called >>../calls; while [ ! -e ../go ]; do sleep 0.05; done;"


def tarball(name: str, version: str, status: str = ":", **before: str) -> bytes:
    """`before`: what stands in front of a verb's commands."""
    control = CONTROL % status
    for verb, commands in before.items():
        control = control.replace(f"\n{verb})", f"\n{verb}) {commands}", 1)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for member, content, mode in (
            ("control", control, 0o755),
            ("lib/deep/file", version * 1000, 0o644),
            ("README", f"{name} {version}", 0o644),
        ):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(content.encode()), mode
            tar.addfile(entry, io.BytesIO(content.encode()))
    return made.getvalue()


@frozen
class Users:
    """The users of a test, by what they are for."""

    base: Path

    def work(self, user: str) -> Path:
        return self.base / "work" / user


@pytest.fixture(scope="session")
def alone() -> Iterator[None]:
    """One run at a time on a machine: its workers' users have fixed names, and all that they run is killed."""
    with Path(f"/run/lock/ops-updater-test{WORKER}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def users(alone: None) -> Iterator[Users]:
    names = (KESTREL, MERLIN, UPDATER)
    base = Path(tempfile.mkdtemp(prefix="ops-updater-test-", dir="/var/tmp"))
    base.chmod(0o755)
    try:
        for name in names:
            _remove(name)  # what an earlier run left
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
        subprocess.run(["usermod", "-aG", "daemon", KESTREL], check=True)
        (base / "work").mkdir()
        for name in (KESTREL, MERLIN):
            (base / "work" / name).mkdir()
            shutil.chown(base / "work" / name, name, name)
        yield Users(base)
    finally:
        SUDOERS.unlink(missing_ok=True)
        for name in (*names, NEW):
            _remove(name)
        end_all_in(base)
        shutil.rmtree(base)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _remove(name: str) -> None:
    """The user, all that it runs, and the group of its name, which userdel leaves at times."""
    if _exists(name):
        end_all_of(name)
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
    with suppress(KeyError):
        grp.getgrnam(name)
        subprocess.run(["groupdel", name], check=True, capture_output=True)


def processes_of(name: str) -> list[int]:
    """The processes of a user that live."""
    uid, found = pwd.getpwnam(name).pw_uid, []
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == uid:
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry)] if state not in "ZX" else []
    return found


def end_all_of(name: str) -> None:
    for pid in processes_of(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not processes_of(name), f"processes of {name} end")


class UsersHost(Host):
    """A host whose updater runs as root, or as `runs_as` by the system's Python: what ours is may be root's alone."""

    def __init__(self, base: Path, meta: FaultyOpsMeta, processes: Processes, runs_as: str | None = None) -> None:
        self._runs_as = runs_as
        self._python = SYSTEM_PYTHON
        super().__init__(base, meta, processes)
        self._code = base / "code"
        if runs_as is not None:
            shutil.chown(self.folder, runs_as, runs_as)
            _copy_code(self._code)

    def command(self, *argv: str) -> list[str]:
        """No program stays beside the updater, to be found by its command line."""
        if not self._code.exists():
            return super().command(*argv)
        ours = ["-m", "updater", "-c", str(self.folder / "cfg.json"), *argv]
        user = self._runs_as or "root"
        becomes = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*becomes, "env", f"PYTHONPATH={self._code}", "PYTHONDONTWRITEBYTECODE=1", self._python, *ours]

    def install_below(self, folder: Path) -> None:
        """Run the updater by the Python of a virtual environment there."""
        if not self._code.exists():
            _copy_code(self._code)
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", "--symlinks", str(folder / ".venv")], check=True)
        self._python = str(folder / ".venv/bin/python")

    def release(self, version: str, *names: str, status: str = ":", **before: str) -> None:
        for name in names:
            self.meta.publish(name, version, tarball(name, version, status, **before))

    def want(self, version: str, users: Users, **agents: str) -> None:
        """Desire agents, by name, each of its user."""
        self.meta.desire(
            *(
                self.meta.agent(name, version, runUser=user, workDir=str(users.work(user)))
                for name, user in agents.items()
            )
        )


def _copy_code(code: Path) -> None:
    """Our code and what it stands on, where everybody can read it."""
    code.mkdir()
    for name in ("probes", "reconcile", "updater"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*PACKAGES, *MODULES):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            if name in PACKAGES:
                shutil.copytree(origin.parent, code / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, code)


@contextmanager
def a_host(users: Users, runs_as: str | None = None) -> Iterator[UsersHost]:
    with FaultyOpsMeta(work_dir=users.base / "work") as meta, Processes() as processes:
        yield UsersHost(users.base, meta, processes, runs_as)
        for name in (KESTREL, MERLIN, UPDATER):
            end_all_of(name)


@pytest.fixture
def as_root(users: Users) -> Iterator[UsersHost]:
    with a_host(users) as host:
        yield host


@pytest.fixture
def by_sudo(users: Users) -> Iterator[UsersHost]:
    allow(users, f"{UPDATER} ALL=({KESTREL},{MERLIN}) NOPASSWD: ALL")
    with a_host(users, UPDATER) as host:
        yield host


def allow(users: Users, *lines: str) -> None:
    """Write what sudo lets the updater's user do; it logs each call."""
    text = "\n".join((f"Defaults:{UPDATER} logfile={users.base}/sudo.log, !syslog", *lines, ""))
    SUDOERS.unlink(missing_ok=True)
    SUDOERS.write_text(text)
    SUDOERS.chmod(0o440)
    subprocess.run(["visudo", "-cqf", str(SUDOERS)], check=True)


def sudo_calls(users: Users) -> list[str]:
    log = users.base / "sudo.log"
    text = log.read_text().replace("\n    ", " ") if log.exists() else ""
    return [line for line in text.splitlines() if "COMMAND=" in line]


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(found.st_uid, found.st_gid) for path in [folder, *folder.rglob("*")] for found in [path.lstat()]}


def modes(folder: Path) -> set[str]:
    return {stat.filemode(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def ready_condition(result: Completed, name: str) -> tuple[str, str]:
    """Reason and message of an agent's Ready."""
    ready = next(one for one in result.agent(name)["conditions"] if one["type"] == "Ready")
    return ready["reason"], ready["message"]


def check_what_the_agent_got(tree: Path, user: str) -> None:
    entry = pwd.getpwnam(user)
    groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}
    uid, gid, all_groups, umask, cwd = (tree / "seen.ids").read_text().splitlines()
    assert (int(uid), int(gid)) == (entry.pw_uid, entry.pw_gid)
    assert {int(group) for group in all_groups.split()} == groups
    assert (umask, cwd) == ("0022", str(tree.resolve()))
    env = dict(line.split("=", 1) for line in (tree / "seen.env").read_text().splitlines())
    assert env == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": entry.pw_dir,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    }
    pid = int((tree / "pid").read_text())
    assert os.stat(f"/proc/{pid}").st_uid == entry.pw_uid
    assert os.getsid(pid) not in (0, os.getsid(0))
    assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2"}
