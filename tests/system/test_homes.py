"""Homes that root makes for other users, and those that it doesn't: with real users. Needs root."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import Completed
from tests.loopback import Loopback, Peer
from tests.system.users import (
    KESTREL,
    MERLIN,
    NEEDS,
    WORKER,
    Users,
    UsersHost,
    a_host,
    end_all_of,
    owners,
    ready_condition,
)

pytestmark = NEEDS


@pytest.fixture
def local(users: Users) -> Iterator[Path]:
    """A folder of root's among the system's own."""
    made = Path(f"/usr/local/lib/ops-updater-test{WORKER}")
    made.mkdir()
    yield made
    end_all_of(KESTREL)
    shutil.rmtree(made)


def wanted(host: UsersHost, work_dir: Path) -> None:
    host.release("1.0.0", "falcon")
    host.meta.desire(host.meta.agent("falcon", "1.0.0", runUser=KESTREL, workDir=str(work_dir)))


def said_by(host: UsersHost, command: str) -> tuple[str, str]:
    done: Completed = host.apply() if command == "apply" else host.updater(command, "-o", "json")
    assert done.out, done
    return ready_condition(done, "falcon")


def test_root_gives_nothing_among_the_systems_own_folders(as_root: UsersHost, local: Path) -> None:
    wanted(as_root, local)
    for command in ("plan", "apply", "status"):
        reason, message = said_by(as_root, command)
        assert reason == "PolicyRefused"
        assert "rule home_parents" in message
        assert "allow_work_dirs" in message
    assert list(local.iterdir()) == []
    assert "home_parents" in as_root.updater("check").out
    as_root.configure(allow_work_dirs=[str(local)])
    done = as_root.apply()
    assert done.code == 0, done
    assert (local / "falcon").stat().st_uid == pwd.getpwnam(KESTREL).pw_uid


def test_what_is_the_users_there_is_used_and_what_is_managed_loses_nothing(as_root: UsersHost, local: Path) -> None:
    (local / "falcon").mkdir()
    shutil.chown(local / "falcon", KESTREL, KESTREL)
    wanted(as_root, local)
    assert as_root.apply().code == 0
    as_root.release("2.0.0", "falcon")
    as_root.meta.desire(as_root.meta.agent("falcon", "2.0.0", runUser=KESTREL, workDir=str(local)))
    assert as_root.apply().code == 0
    assert (local / "falcon" / ".version").read_text() == "2.0.0"


@pytest.fixture
def newer_line(users: Users) -> Path:
    """A workDir as today's newer line makes it: root's, below the user's own home."""
    made = Path(pwd.getpwnam(KESTREL).pw_dir) / "open-falcon"
    made.mkdir(mode=0o755)
    return made


def test_root_makes_a_home_in_a_work_dir_of_its_own_below_the_users_home(as_root: UsersHost, newer_line: Path) -> None:
    wanted(as_root, newer_line)
    assert said_by(as_root, "plan")[0] == "FirstInstall"
    assert as_root.apply().code == 0
    entry = pwd.getpwnam(KESTREL)
    assert owners(newer_line / "falcon") == {(entry.pw_uid, entry.pw_gid)}
    assert newer_line.stat().st_uid == 0


def test_a_home_that_root_gave_goes_again_where_nothing_comes_into_it(as_root: UsersHost, newer_line: Path) -> None:
    wanted(as_root, newer_line)
    as_root.meta.publish("falcon", "1.0.0", b"no gzip file" * 100)
    wanted_again = as_root.meta.agent("falcon", "1.0.0", runUser=KESTREL, workDir=str(newer_line))
    as_root.meta.desire(wanted_again)
    assert said_by(as_root, "apply")[0] == "UnpackRefused"
    assert list(newer_line.iterdir()) == []


@pytest.mark.parametrize("where", ["work_dir", "above"])
def test_root_follows_no_link_that_the_user_put_on_the_way(
    as_root: UsersHost, users: Users, newer_line: Path, where: str
) -> None:
    victim = users.base / "victim"
    (victim / "agents").mkdir(parents=True)
    newer_line.rmdir()
    newer_line.symlink_to(victim / "agents" if where == "work_dir" else victim)
    work = newer_line if where == "work_dir" else newer_line / "agents"
    wanted(as_root, work)
    assert as_root.apply().code == 3
    assert list((victim / "agents").iterdir()) == []


def test_through_sudo_it_is_said_beforehand_and_nothing_is_tried(by_sudo: UsersHost, newer_line: Path) -> None:
    wanted(by_sudo, newer_line)
    for command in ("plan", "apply", "status"):
        reason, message = said_by(by_sudo, command)
        assert reason == "WorkDirMissing", message
        assert f"chown {pwd.getpwnam(KESTREL).pw_uid} {newer_line}" in message
    check = by_sudo.updater("check")
    assert check.code == 3
    assert f"chown {KESTREL} {newer_line}" in check.out
    for _ in range(2):
        assert by_sudo.apply().code == 3
    assert by_sudo.downloads() == []
    shutil.chown(newer_line, KESTREL)
    assert by_sudo.apply().code == 0


STOLEN = """#!/bin/sh
id -u >>%s
echo stoped
"""


def test_a_home_that_another_user_makes_while_root_waits_is_not_roots(users: Users) -> None:
    """In a sticky folder any user can make what isn't there yet."""
    shared = users.base / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    witness = users.base / "witness"
    witness.touch()
    witness.chmod(0o666)
    home = shared / "falcon"
    script = STOLEN % witness
    control = f"{home}/1.0.0/control"
    theft = f"mkdir -p {home}/1.0.0 && cat >{control} && chmod 755 {control} && echo 1.0.0 >{home}/.version"

    def stolen(peer: Peer) -> None:
        peer.request()
        steal = ["runuser", "-u", MERLIN, "--", "sh", "-c", theft]
        subprocess.run(steal, input=script, text=True, check=True)
        body = b"0" * 32
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    with a_host(users) as host, Loopback(stolen) as digests:
        host.release("1.0.0", "falcon")
        host.meta.desire(host.meta.agent("falcon", "1.0.0", runUser="root", workDir=str(shared), md5=digests.origin))
        done = host.apply()
    assert done.code == 3
    assert ready_condition(done, "falcon")[0] == "PolicyRefused", done
    assert "root_home" in ready_condition(done, "falcon")[1]
    assert witness.read_text() == ""
