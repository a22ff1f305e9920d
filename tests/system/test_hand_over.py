"""Agents that are to run as another user in the same workDir: their homes swap places, with real users, by root.

Neither user may gain by it: what one of them writes is run as that one alone, whatever it does to the folders.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.act.tools import ControlLimits
from tests.e2e.host import Completed
from tests.e2e.processes import until
from tests.system.users import (
    KESTREL,
    MERLIN,
    NEEDS,
    SYSTEM_PYTHON,
    Users,
    UsersHost,
    check_what_the_agent_got,
    end_all_of,
    owners,
    processes_of,
    told,
)
from tests.yard import NAME, OWN, Modelled, Yard, the_agent, types
from updater.demo import agent
from updater.demo.ops_meta import OpsMeta

pytestmark = NEEDS
BESIDE = f".falcon@{KESTREL}@{MERLIN}"
HANDED = "stop switch start"
HOSTILE_S = float(os.environ.get("OPS_UPDATER_HOSTILE_S", "5"))


@pytest.fixture
def shared(users: Users) -> Path:
    """A workDir that is root's."""
    work = users.base / "shared"
    work.mkdir(mode=0o755)
    return work


def want(host: UsersHost, shared: Path, version: str, user: str) -> None:
    host.meta.desire(host.meta.agent("falcon", version, runUser=user, workDir=str(shared)))


def applied(host: UsersHost, code: int = 0) -> Completed:
    result = host.apply()
    assert result.code == code, result
    return result


def belongs(home: Path, user: str) -> bool:
    entry = pwd.getpwnam(user)
    return owners(home) == {(entry.pw_uid, entry.pw_gid)}


def installed(host: UsersHost, shared: Path) -> None:
    for version in ("1.0.0", "3.0.0"):
        host.release(version, "falcon")
    host.release("2.0.0", "falcon", status="echo stoped; exit")  # it never says that it is up
    host.configure(control_timeout={"start": 1})
    want(host, shared, "1.0.0", KESTREL)
    assert [host.apply().code for _ in range(2)] == [0, 0]
    check_what_the_agent_got(shared / "falcon/1.0.0", KESTREL)


def test_it_is_handed_over_and_back(as_root: UsersHost, shared: Path) -> None:
    host = as_root
    installed(host, shared)
    (shared / "falcon/notes").write_text("of its old user's")
    shutil.chown(shared / "falcon/notes", KESTREL, KESTREL)

    want(host, shared, "1.0.0", MERLIN)
    planned = host.updater("plan", "-o", "json").agent("falcon")
    assert (planned["reason"], planned["held"], planned["run_user"]) == ("RunUserChanged", None, MERLIN)
    assert sorted(os.listdir(shared)) == ["falcon"], "a plan makes nothing"
    handed = applied(host)
    assert handed.actions("falcon").endswith(HANDED), handed
    assert sorted(os.listdir(shared)) == [BESIDE, "falcon"]
    assert (belongs(shared / "falcon", MERLIN), belongs(shared / BESIDE, KESTREL)) == (True, True)
    check_what_the_agent_got(shared / "falcon/1.0.0", MERLIN)
    assert processes_of(KESTREL) == []
    assert (shared / BESIDE / "notes").read_text() == "of its old user's"
    assert applied(host).actions("falcon") == ""
    [reported] = host.meta.heartbeats[-1]["realAgents"]
    assert (reported["runUser"], reported["version"], reported["status"]) == (MERLIN, "1.0.0", "started")

    want(host, shared, "2.0.0", KESTREL)
    back = applied(host, 4)
    assert told(back, "falcon")[0] == "RolledBack"
    end_all_of(KESTREL)  # what failed left a process behind
    assert (belongs(shared / "falcon", MERLIN), belongs(shared / BESIDE, KESTREL)) == (True, True)
    check_what_the_agent_got(shared / "falcon/1.0.0", MERLIN)
    os.kill(int((shared / "falcon/1.0.0/pid").read_text()), signal.SIGKILL)
    until(lambda: not processes_of(MERLIN), "the agent is dead")
    host.apply()
    check_what_the_agent_got(shared / "falcon/1.0.0", MERLIN)

    want(host, shared, "3.0.0", KESTREL)
    assert applied(host).actions("falcon").endswith(HANDED)
    assert (belongs(shared / "falcon", KESTREL), belongs(shared / BESIDE, MERLIN)) == (True, True)
    check_what_the_agent_got(shared / "falcon/3.0.0", KESTREL)
    assert processes_of(MERLIN) == []
    assert list(shared.rglob(".stage*")) == []


def test_it_goes_back_to_the_very_content_that_its_old_user_ran(as_root: UsersHost, shared: Path) -> None:
    """1.0.0 as another user fails for a want of rights; as its old user it is fine."""
    installed(as_root, shared)
    as_root.release("1.0.0", "falcon", status=f'[ "$(id -un)" = {MERLIN} ] && {{ echo stoped; exit; }}')
    want(as_root, shared, "1.0.0", MERLIN)
    back = applied(as_root, 4)
    assert told(back, "falcon")[0] == "RolledBack"
    assert belongs(shared / "falcon", KESTREL)
    check_what_the_agent_got(shared / "falcon/1.0.0", KESTREL)
    assert len(processes_of(KESTREL)) == 1


@pytest.mark.parametrize("how", ["theirs", "shared", "not its own", "in the way"])
def test_what_can_not_be_handed_over_runs_on_as_its_old_user(as_root: UsersHost, shared: Path, how: str) -> None:
    installed(as_root, shared)
    if how == "theirs":
        shutil.chown(shared, KESTREL, KESTREL)
    elif how == "shared":
        shared.chmod(0o777)
    elif how == "not its own":
        os.chown(shared / "falcon", 0, 0)
    else:
        (shared / BESIDE).mkdir()
    want(as_root, shared, "1.0.0", MERLIN)
    pids = processes_of(KESTREL)
    reason, message = told(applied(as_root, 3), "falcon")
    said = {
        "theirs": f"{shared} is not root's, or others can write to it",
        "shared": f"{shared} is not root's, or others can write to it",
        "not its own": f"{shared}/falcon is not {KESTREL}'s own directory",
        "in the way": f"{shared}/{BESIDE} is in the way: it is not {MERLIN}'s directory",
    }[how]
    assert (reason, said in message, "another workDir" in message, "by hand" in message) == (
        "RunUserChanged",
        True,
        True,
        True,
    ), message
    assert (processes_of(KESTREL), processes_of(MERLIN)) == (pids, [])
    [check] = [one for one in as_root.updater("check", "-o", "json").document["checks"] if one["about"] == "work_dirs"]
    assert (check["state"], said in check["message"], "name another workDir" in check["remedy"]) == ("note", True, True)
    if how != "not its own":  # of a home that its user can't write nothing is started either
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not processes_of(KESTREL), "the agent is dead")
        as_root.apply()
        check_what_the_agent_got(shared / "falcon/1.0.0", KESTREL)


def test_an_updater_that_is_not_root_hands_nothing_over(by_sudo: UsersHost, users: Users) -> None:
    by_sudo.release("1.0.0", "falcon")
    work = users.work(KESTREL)
    want(by_sudo, work, "1.0.0", KESTREL)
    assert [by_sudo.apply().code for _ in range(2)] == [0, 0]
    want(by_sudo, work, "1.0.0", MERLIN)
    reason, message = told(applied(by_sudo, 3), "falcon")
    assert (reason, "does not run as root" in message) == ("RunUserChanged", True), message
    # By hand, as docs/operating.md has it; but it was not stopped.
    pids = processes_of(KESTREL)
    subprocess.run(["chown", "-R", f"{MERLIN}:{MERLIN}", work / "falcon"], check=True)
    reason, message = told(applied(by_sudo, 3), "falcon")
    assert (reason, f"process {pids[0]} of {KESTREL} runs in {work}/falcon" in message) == ("UnexpectedlyRunning", True)
    assert (processes_of(KESTREL), processes_of(MERLIN)) == (pids, [])
    end_all_of(KESTREL)
    applied(by_sudo)
    check_what_the_agent_got(work / "falcon/1.0.0", MERLIN)
    assert by_sudo.apply().actions("falcon") == ""


def test_both_homes_are_as_the_model_of_success_says_after_each_action(users: Users) -> None:
    """There, and back: observed after every real action, and equal in every field."""
    folder = users.base / "yard"
    (folder / "work").mkdir(parents=True)
    with OpsMeta(work_dir=folder / "work") as meta:
        yard = Yard(folder, meta)
        yard.publish("1.0.0", python=SYSTEM_PYTHON)
        yard.publish("2.0.0", python=SYSTEM_PYTHON, broken_start=True)
        meta.desire(meta.agent(NAME, "1.0.0", runUser=OWN))
        assert yard.run().all_ready
        assert yard.settle().all_ready
        meta.desire(meta.agent(NAME, "2.0.0", runUser=KESTREL))
        theirs = evolve(yard.place(), run_user=KESTREL, beside=OWN)
        model = Modelled(yard.place(), theirs)
        try:
            result = yard.run(ended=model.ended, control=ControlLimits(start_s=1))
            done = types(the_agent(result).outcomes)
        finally:
            agent.end_all(folder)
            yard.close()
    assert done.endswith("stop=done switch=done start=failed switch=done start=done")
    assert [move.hands_over for move in model.moves] == [True, True]
    assert len(model.equal) == 2 * 6
    assert all(model.equal)


# A user who does to its home, and to the workDir as far as it may, what could have another run its scripts: all that it
# plants says by whom it was run. It leads nobody into the dropbox, where both can write: who lets his own home lead
# there lets the other one say what runs in it.
SWAPPER = """
import os, random, shutil, sys, time
work, beside, dropbox = sys.argv[1:]
me = os.path.basename(dropbox)
home = os.path.join(work, "falcon")
chance = random.Random(me)
script = "#!/bin/sh\\nid -un >>%s/$$\\necho stoped\\n" % dropbox
def quietly(act, *args):
    try:
        return act(*args)
    except OSError:
        pass
def plant(path):
    for version in ("1.0.0", "2.0.0"):
        tree = os.path.join(path, version)
        os.makedirs(tree, exist_ok=True)
        with open(os.path.join(tree, ".ops-updater.json"), "w") as marker:
            marker.write('{"origin": "unpacked", "digests": []}')
        with open(os.path.join(tree, "control"), "w") as control:
            control.write(script)
        os.chmod(control.name, 0o755)
    with open(os.path.join(path, ".version"), "w") as named:
        named.write("1.0.0")
    os.chmod(path, 0o755)
number = 0
while True:
    number += 1
    for path in (home, beside):
        other = "%s-%s-%d" % (os.path.join(work, "aside"), me, number % 20)
        aim = chance.choice([home, beside, "/etc", other])
        quietly(shutil.rmtree, other)
        quietly(chance.choice([
            lambda: os.rename(path, other), lambda: plant(path), lambda: os.symlink(aim, path),
            lambda: os.unlink(path), lambda: os.unlink(os.path.join(path, ".version")),
            lambda: os.symlink("/etc/passwd", os.path.join(path, ".version")), lambda: shutil.rmtree(path)]))
    time.sleep(chance.choice([0, 0, 0.0005, 0.01]))
"""


@pytest.mark.parametrize(
    ("whose", "hostile"),
    [
        ("root's", (KESTREL, MERLIN)),
        ("theirs", (KESTREL, MERLIN)),
        # In a sticky folder each can take its own home away, so that both together can have anything run as either.
        ("sticky", (KESTREL,)),
        ("sticky", (MERLIN,)),
    ],
)
def test_hostile_users_have_nothing_run_as_the_other(
    as_root: UsersHost, users: Users, shared: Path, whose: str, hostile: tuple[str, ...]
) -> None:
    """The old user, the new one, while ops-meta wants now the one and now the other; a minute of it in
    `./control prove`."""
    host = as_root
    installed(host, shared)
    host.release("2.0.0", "falcon")
    host.configure(control_timeout={"status": 2, "start": 2, "stop": 2})
    if whose == "theirs":
        shutil.chown(shared, KESTREL, KESTREL)
    elif whose == "sticky":
        shared.chmod(0o1777)
    said = {}
    for user in hostile:
        said[user] = users.base / "said" / user
        said[user].mkdir(parents=True)
        said[user].chmod(0o777)
    etc = Path("/etc/passwd").read_bytes()
    swappers = [
        subprocess.Popen(
            ["runuser", "-u", user, "--", SYSTEM_PYTHON, "-c", SWAPPER, shared, shared / BESIDE, said[user]],
            stderr=subprocess.DEVNULL,
        )
        for user in said
    ]
    try:
        passes, until_s = 0, time.monotonic() + HOSTILE_S
        while passes < 6 or time.monotonic() < until_s:
            passes += 1
            want(host, shared, ("1.0.0", "2.0.0")[passes // 2 % 2], (KESTREL, MERLIN)[passes % 2])
            result = host.apply()
            assert result.code in (0, 3, 4), result
            assert not any(swapper.poll() is not None for swapper in swappers), "a hostile user gave up"
    finally:
        for user in (KESTREL, MERLIN):
            end_all_of(user)
        for swapper in swappers:
            swapper.wait()
    ran_as = {
        user: {line for told in folder.iterdir() if told.name.isdigit() for line in told.read_text().split()}
        for user, folder in said.items()
    }
    assert all(by <= {user} for user, by in ran_as.items()), ran_as
    if KESTREL in hostile:
        assert any(ran_as.values()), "nothing that was planted was ever run: the test shows nothing"
    assert Path("/etc/passwd").read_bytes() == etc
    assert not [path for path in Path("/etc").iterdir() if path.lstat().st_uid == pwd.getpwnam(KESTREL).pw_uid]
