"""Locks of a home that others hold: real ones, by real processes; another user's need root."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.host.facts import find_user
from probes.worker.interpreters import interpreters_for
from reconcile.act.host.home_lock import holders, home_lock, only_strangers
from reconcile.errors import HomeBusy
from tests.support.nobody import as_nobody

ROOT = Path(__file__).parents[4]
SEES_ALL = os.path.exists("/proc/self/ns/pid") and os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"
LOCKS = """
import fcntl, os, sys
fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX if sys.argv[2] == "exclusive" else fcntl.LOCK_SH)
if sys.argv[3] == "has ended" and os.fork():
    os._exit(0)
os.write(1, b"held")
os.read(0, 1)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@contextmanager
def held(home: Path, user: int, kind: str, locker: str) -> Iterator[None]:
    """Another process, of that user, holds the lock; its `locker` `lives`, or `has ended` and left it behind."""
    python = interpreters_for(find_user("nobody"))[0]
    fd = os.open(home, os.O_RDONLY)
    try:
        process = subprocess.Popen(
            [python, "-I", "-c", LOCKS, str(fd), kind, locker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(fd,),
            cwd="/",
            user=user if user != os.geteuid() else None,
        )
    finally:
        os.close(fd)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(4) == b"held"
        yield
        process.stdin.close()


@pytest.mark.skipif(os.geteuid() != 0 or not SEES_ALL, reason="needs root, and to see all processes")
@pytest.mark.parametrize("kind", ["exclusive", "shared"])
@pytest.mark.parametrize("locker", ["lives", "has ended"])
def test_a_stranger_s_lock_keeps_no_updater_away(home: Path, kind: str, locker: str) -> None:
    with held(home, find_user("nobody").uid, kind, locker):
        fd = os.open(home, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert only_strangers(fd)
        os.close(fd)
        with home_lock(home) as mine:
            assert os.fstat(mine).st_ino == home.stat().st_ino
    with home_lock(home):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_lock_of_the_home_s_own_user_counts(home: Path) -> None:
    """It is what an updater's child of that user holds."""
    nobody = find_user("nobody")
    os.chown(home, nobody.uid, nobody.gid)
    with held(home, nobody.uid, "exclusive", "lives"), pytest.raises(HomeBusy, match="process"), home_lock(home):
        pass


def test_our_own_user_s_lock_counts(home: Path) -> None:
    with held(home, os.geteuid(), "exclusive", "lives"), pytest.raises(HomeBusy), home_lock(home):
        pass


def test_no_holder_is_a_stranger_where_none_can_be_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: str) -> str:
        raise FileNotFoundError(path)

    fd = os.open(home, os.O_RDONLY)
    assert (holders(fd), only_strangers(fd)) == ((), SEES_ALL)
    for reported in (hidden, lambda path: "pid:[1]"):
        monkeypatch.setattr("os.readlink", reported)
        assert not only_strangers(fd)
    os.close(fd)


ASKS = """
import sys
from pathlib import Path
from reconcile.act.host.home_lock import home_lock
from reconcile.errors import HomeBusy
from tests.support.nobody import as_nobody
try:
    with home_lock(Path(sys.argv[1])):
        print("free")
except HomeBusy as err:
    print(err.message)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_holder_of_another_pid_namespace_is_another_process(home: Path) -> None:
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs a pid namespace")
    with home_lock(home):
        asked = subprocess.run(
            [*alone, sys.executable, "-c", ASKS, str(home)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert asked.stdout.startswith(f"another process acts on '{home}': expected no other process"), asked.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not SEES_ALL, reason="only root holds what another user looks at")
def test_what_root_holds_may_be_an_updater_for_each_user(home: Path) -> None:
    assert as_nobody(home, "home_lock.only_strangers(fd)") == "done True", "nothing holds it"
    with home_lock(home):
        assert as_nobody(home, "home_lock.only_strangers(fd)") == "done False"
