"""Agents of other users, with real users, as root and through real sudo."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from probes.worker.bootstrap import BOOT
from probes.worker.interpreters import interpreters_for
from tests.e2e.host import snapshot
from tests.e2e.processes import until
from tests.support.sample_agents import build
from tests.system.users import (
    KESTREL,
    MERLIN,
    NEEDS,
    NEW,
    SYSTEM_PYTHON,
    UPDATER,
    WAITS,
    WORKER,
    Users,
    UsersHost,
    _exists,
    a_host,
    allow,
    check_what_the_agent_got,
    end_all_of,
    modes,
    owners,
    processes_of,
    ready_condition,
    sudo_calls,
)
from updater.check.check import check

HOSTILE_S = float(os.environ.get("OPS_UPDATER_HOSTILE_S", "5"))

pytestmark = NEEDS


def check_a_life(host: UsersHost, users: Users) -> None:
    """Two agents of one user and one of another: installed, left alone, upgraded with a config, healed."""
    agents = {"falcon": KESTREL, "hawk": KESTREL, "owl": MERLIN}
    for version in ("1.0.0", "2.0.0"):
        host.release(version, *agents)
    host.want("1.0.0", users, **agents)

    installed = host.apply()
    assert installed.code == 0, installed
    for name, user in agents.items():
        home, entry = users.work(user) / name, pwd.getpwnam(user)
        assert owners(home) == {(entry.pw_uid, entry.pw_gid)}
        assert modes(home) == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"}
        check_what_the_agent_got(home / "1.0.0", user)

    again = host.apply()
    assert (again.code, [again.actions(name) for name in agents]) == (0, ["", "", ""]), again

    host.want("2.0.0", users, **agents)
    upgraded = host.apply()
    assert upgraded.code == 0, upgraded
    assert {upgraded.actions(name) for name in agents} == {"fetch verify unpack stop switch start"}

    pid = int((users.work(MERLIN) / "owl/2.0.0/pid").read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in processes_of(MERLIN), "the agent is dead")
    host.apply()  # finds the new version good, or takes it back
    for name, user in agents.items():
        home, entry = users.work(user) / name, pwd.getpwnam(user)
        assert owners(home) == {(entry.pw_uid, entry.pw_gid)}
        assert not [path for path in home.iterdir() if path.name.startswith(".stage")]


def test_as_root(as_root: UsersHost, users: Users) -> None:
    check_a_life(as_root, users)


def test_by_sudo(by_sudo: UsersHost, users: Users) -> None:
    check_a_life(by_sudo, users)


LOOKS_BY_NAME = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
app=kestrel
case $1 in
start) nohup /bin/sh ./agent.sh "$app" </dev/null >app.log 2>&1 & ;;
stop) pkill -f "agent.sh $app" ;;
status) if pgrep -f "$app" >/dev/null; then echo started; else echo stoped; fi ;;
esac
"""


def check_a_status_by_name(host: UsersHost, users: Users) -> None:
    """The user's name holds the agent's: neither the worker nor sudo is found by `pgrep -f`."""
    agent = b"for second in $(seq 600); do sleep 1; done\n"
    host.meta.publish("kestrel", "1.0.0", build("kestrel", "1.0.0", control=LOOKS_BY_NAME, extra={"agent.sh": agent}))
    host.want("1.0.0", users, kestrel=KESTREL)
    installed = host.apply()
    assert installed.code == 0, installed
    [pid] = running(KESTREL, "agent.sh")
    assert host.status().agent("kestrel")["observed"]["status"] == "started"
    os.kill(pid, signal.SIGKILL)
    until(lambda: running(KESTREL, "agent.sh") == [], "it is dead")
    assert host.status().agent("kestrel")["observed"]["status"] == "stoped"
    healed = host.apply()
    assert (healed.code, len(running(KESTREL, "agent.sh"))) == (0, 1), healed


def running(user: str, words: str) -> list[int]:
    return [pid for pid in processes_of(user) if words in _command(pid)]


def test_a_status_by_name_as_root(as_root: UsersHost, users: Users) -> None:
    check_a_status_by_name(as_root, users)


def test_a_status_by_name_through_sudo(by_sudo: UsersHost, users: Users) -> None:
    check_a_status_by_name(by_sudo, users)


RULES = {
    "any program": "ALL",
    "the interpreter by its path": "{folder}/.venv/bin/python",
    "programs of its folder": "{folder}/.venv/bin/",
    "programs by a pattern": "{folder}/.venv/bin/py*",
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_updater_below_a_folder_of_the_agents_name_through_sudo(by_sudo: UsersHost, users: Users, rule: str) -> None:
    """sudo's own command line does not show where our interpreter lies, and rules that name its path still hold."""
    folder = users.base / "kestrel-agent"
    by_sudo.install_below(folder)
    allow(users, f"{UPDATER} ALL=({KESTREL}) NOPASSWD: {rule.format(folder=folder)}")
    check_a_status_by_name(by_sudo, users)


def test_an_updater_below_a_folder_of_the_agents_name_as_root(as_root: UsersHost, users: Users) -> None:
    as_root.install_below(users.base / "kestrel-agent")
    check_a_status_by_name(as_root, users)


def check_moves(host: UsersHost, users: Users) -> None:
    """To another user in another workDir: back from there, then for good; alone it goes nowhere."""
    host.configure(control_timeout={"start": 1})
    old, new = users.work(KESTREL) / "falcon", users.work(MERLIN) / "falcon"
    host.release("1.0.0", "falcon")
    host.release("2.0.0", "falcon", status="echo stoped; exit")  # it never says that it is up
    host.release("3.0.0", "falcon")
    host.want("1.0.0", users, falcon=KESTREL)
    assert [host.apply().code for _ in range(2)] == [0, 0]

    host.want("2.0.0", users, falcon=MERLIN)
    back = host.apply()
    assert (back.code, ready_condition(back, "falcon")[0]) == (4, "RolledBack"), back.out
    assert (old / ".version").read_text() == "1.0.0"
    assert not (new / ".version").exists()
    check_what_the_agent_got(old / "1.0.0", KESTREL)

    host.want("3.0.0", users, falcon=MERLIN)
    beside = host.apply()
    assert (beside.code, ready_condition(beside, "falcon")[0]) == (3, "StatusUnknown"), (
        "what failed left a process behind"
    )
    end_all_of(MERLIN)
    moved = host.apply()
    assert moved.code == 0, moved
    check_what_the_agent_got(new / "3.0.0", MERLIN)
    assert processes_of(KESTREL) == []
    assert not (old / ".version").exists()
    assert sorted(tree.name for tree in old.iterdir() if tree.is_dir()) == ["1.0.0"]
    for home, user in ((old, KESTREL), (new, MERLIN)):
        entry = pwd.getpwnam(user)
        assert owners(home) == {(entry.pw_uid, entry.pw_gid)}

    before = snapshot(new / "3.0.0")
    agent = host.meta.agent("falcon", "3.0.0", runUser=KESTREL, workDir=str(users.work(MERLIN)))
    host.meta.desire(agent)
    held = host.apply()
    assert (held.code, ready_condition(held, "falcon")[0]) == (3, "RunUserChanged"), held
    assert snapshot(new / "3.0.0") == before
    os.kill(int((new / "3.0.0/pid").read_text()), signal.SIGKILL)
    until(lambda: not processes_of(MERLIN), "the agent is dead")
    host.apply()
    check_what_the_agent_got(new / "3.0.0", MERLIN)

    # As docs/operating.md has it; its new user may make no folder in another's.
    host.meta.desire({**agent, "cmd": "stop"})
    assert (host.apply().code, processes_of(MERLIN)) == (0, [])
    shutil.rmtree(new)
    new.mkdir()
    shutil.chown(new, KESTREL, KESTREL)
    host.meta.desire(agent)
    by_hand = host.apply()
    assert (by_hand.code, by_hand.agent("falcon")["reason"]) == (0, "FirstInstall"), by_hand
    check_what_the_agent_got(new / "3.0.0", KESTREL)


def test_moves_as_root(as_root: UsersHost, users: Users) -> None:
    check_moves(as_root, users)


def test_moves_by_sudo(by_sudo: UsersHost, users: Users) -> None:
    check_moves(by_sudo, users)


def test_one_child_per_user_and_pass(by_sudo: UsersHost, users: Users) -> None:
    agents = {"falcon": KESTREL, "hawk": KESTREL, "eagle": KESTREL, "owl": MERLIN}
    by_sudo.release("1.0.0", *agents)
    by_sudo.want("1.0.0", users, **agents)
    for passes in (1, 2):
        assert by_sudo.apply().code == 0
        calls = sudo_calls(users)
        assert sorted(KESTREL in call for call in calls) == [False] * passes + [True] * passes, calls
    assert by_sudo.plan().code == 0
    assert len(sudo_calls(users)) == 6
    assert not any(pid for user in (KESTREL, MERLIN) for pid in processes_of(user) if _runs_us(pid))


def _runs_us(pid: int) -> bool:
    with suppress(OSError):
        return b"ops-updater" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


# What stands in the way


def refused(host: UsersHost, users: Users, **agents: str) -> tuple[str, str]:
    host.release("1.0.0", *agents)
    host.want("1.0.0", users, **agents)
    result = host.apply()
    assert result.code == 3, result
    return ready_condition(result, next(iter(agents)))


def test_requiretty_is_explained_with_its_fix(by_sudo: UsersHost, users: Users) -> None:
    allow(users, f"Defaults:{UPDATER} requiretty", f"{UPDATER} ALL=({KESTREL}) NOPASSWD: ALL")
    reason, message = refused(by_sudo, users, falcon=KESTREL)
    assert reason == "SudoRefused"
    assert "you must have a tty to run sudo" in message
    assert "Defaults !requiretty" in message


def test_missing_rights_concern_that_users_agents_alone(by_sudo: UsersHost, users: Users) -> None:
    allow(users, f"{UPDATER} ALL=({MERLIN}) NOPASSWD: ALL")
    reason, message = refused(by_sudo, users, falcon=KESTREL, owl=MERLIN)
    assert (reason, "NOPASSWD" in message) == ("SudoRefused", True), message
    assert (users.work(MERLIN) / "owl/.version").read_text() == "1.0.0"
    assert not (users.work(KESTREL) / "falcon").exists()


def test_a_user_that_is_missing_is_refused_or_created(as_root: UsersHost, users: Users) -> None:
    work = Path(f"/home/{NEW}/agents")
    as_root.release("1.0.0", "falcon")
    as_root.meta.desire(as_root.meta.agent("falcon", "1.0.0", runUser=NEW, workDir=str(work)))
    result = as_root.apply()
    assert result.code == 3
    assert [(one["reason"], one["rule"]) for one in result.document["refused"]] == [("UserMissing", "run_user")]
    assert not _exists(NEW)

    as_root.configure(create_users=True)
    assert as_root.plan().agent("falcon")["reason"] == "UserMissing"
    assert not _exists(NEW)
    created = as_root.apply()
    assert created.code == 0, created
    entry = pwd.getpwnam(NEW)
    assert owners(work) == {(entry.pw_uid, entry.pw_gid)}
    assert processes_of(NEW)


def test_a_user_is_created_for_what_an_operators_file_names(as_root: UsersHost, users: Users) -> None:
    """That file is what is carried out then, and not what the server said."""
    as_root.release("1.0.0", "falcon")
    as_root.configure(create_users=True)
    wish = as_root.folder / "wish.json"
    entry = as_root.meta.agent("falcon", "1.0.0", runUser=NEW, workDir=f"/home/{NEW}/agents")
    wish.write_text(json.dumps({"desiredAgents": [entry]}))
    made = as_root.apply("--desired", str(wish))
    assert made.code == 0, made
    assert processes_of(NEW)
    assert as_root.meta.heartbeats == []


def test_root_is_no_agents_user_for_an_updater_that_is_not_root(by_sudo: UsersHost, users: Users) -> None:
    allow(users, f"{UPDATER} ALL=(ALL) NOPASSWD: ALL")
    by_sudo.release("1.0.0", "falcon")
    work = str(users.work(KESTREL))
    by_sudo.meta.desire(by_sudo.meta.agent("falcon", "1.0.0", runUser="root", workDir=work))
    result = by_sudo.apply()
    assert [(one["reason"], one["rule"]) for one in result.document["refused"]] == [("PolicyRefused", "run_user")]
    assert sudo_calls(users) == []


# Homes


def test_root_gives_a_home_where_the_user_may_make_none(as_root: UsersHost, users: Users) -> None:
    shutil.chown(users.work(KESTREL), "root", "root")
    as_root.release("1.0.0", "falcon")
    as_root.want("1.0.0", users, falcon=KESTREL)
    assert as_root.apply().code == 0
    entry = pwd.getpwnam(KESTREL)
    assert owners(users.work(KESTREL) / "falcon") == {(entry.pw_uid, entry.pw_gid)}
    assert users.work(KESTREL).stat().st_uid == 0


@pytest.mark.parametrize("how", ["shared", "link", "theirs"])
def test_root_gives_no_home_below_what_others_can_change(as_root: UsersHost, users: Users, how: str) -> None:
    work = users.work(KESTREL)
    shutil.chown(work, "root", "root")
    elsewhere = users.base / "elsewhere"
    elsewhere.mkdir()
    if how == "shared":
        work.chmod(0o775)
    elif how == "link":
        work.rmdir()
        work.symlink_to(elsewhere)
    else:
        shutil.chown(work, MERLIN, MERLIN)
    as_root.release("1.0.0", "falcon")
    as_root.want("1.0.0", users, falcon=KESTREL)
    result = as_root.apply()
    assert result.code == 3
    assert ready_condition(result, "falcon")[0] in ("PolicyRefused", "WriteFailed"), result
    assert list(work.iterdir()) == list(elsewhere.iterdir()) == []


def test_a_work_dir_is_made_by_the_user_where_it_may_be(as_root: UsersHost, users: Users) -> None:
    entry = pwd.getpwnam(KESTREL)
    for parent, reason in ((Path(entry.pw_dir), ""), (users.base / "nobodys", "WorkDirMissing")):
        parent.mkdir(exist_ok=True)
        as_root.release("1.0.0", "falcon")
        agent = as_root.meta.agent("falcon", "1.0.0", runUser=KESTREL, workDir=str(parent / "agents"))
        as_root.meta.desire(agent)
        result = as_root.apply()
        if reason:
            assert not (parent / "agents").exists()
        else:
            assert result.code == 0, result
            assert owners(parent / "agents") == {(entry.pw_uid, entry.pw_gid)}
            end_all_of(KESTREL)
            shutil.rmtree(parent / "agents")


# What hangs, and what is killed


@pytest.mark.parametrize("runs_as", [None, UPDATER], ids=["root", "sudo"])
def test_a_status_that_hangs_leaves_no_process_and_costs_no_other_agent(users: Users, runs_as: str | None) -> None:
    allow(users, f"{UPDATER} ALL=({KESTREL},{MERLIN}) NOPASSWD: ALL")
    with a_host(users, runs_as) as host:
        host.configure(control_timeout={"status": 3, "start": 5, "stop": 5})
        host.release("1.0.0", "falcon", status="trap '' TERM; sleep 1000 & while :; do wait; done")
        host.release("1.0.0", "owl")
        host.want("1.0.0", users, falcon=KESTREL, owl=MERLIN)
        result = host.apply()
        assert ready_condition(result, "owl") == ("Confirming", "1.0.0 started"), result
        assert result.agent("falcon")["conditions"]
        left = [pid for pid in processes_of(KESTREL) if _command(pid) != "sleep600"]
        assert left == []


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b"").decode()
    return "sleep600"


def test_a_killed_sudo_leaves_nothing_behind(by_sudo: UsersHost, users: Users) -> None:
    by_sudo.configure(control_timeout={"status": 2, "start": 3, "stop": 3})
    by_sudo.release("1.0.0", "falcon", status="echo hangs >hangs; trap '' TERM; sleep 1000")
    by_sudo.want("1.0.0", users, falcon=KESTREL)
    began = by_sudo.begin("apply", "--once", "-o", "json")
    until((users.work(KESTREL) / "falcon/1.0.0/hangs").exists, "the status hangs")
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if _command(pid).startswith(("/usr/bin/sudo-n", "sudo-n")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    ended = began.ended()
    assert ended.code == 3, ended
    until(lambda: [pid for pid in processes_of(KESTREL) if _command(pid) != "sleep600"] == [], "all of it ends")


def helpers(user: str) -> list[int]:
    """The processes that work for the updater as a user."""
    return [pid for pid in processes_of(user) if BOOT in _command(pid)]


def agents(user: str) -> list[int]:
    return [pid for pid in processes_of(user) if _command(pid) == "sleep600"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("verb", ["start", "stop"])
@pytest.mark.parametrize("runs_as", [None, UPDATER], ids=["root", "sudo"])
def test_a_helper_that_is_lost_amid_a_call(users: Users, runs_as: str | None, verb: str, how: signal.Signals) -> None:
    """The call goes on: it is waited for, and never doubled nor passed by; and no version is blamed for it."""
    allow(users, f"{UPDATER} ALL=({KESTREL},{MERLIN}) NOPASSWD: ALL")
    with a_host(users, runs_as) as host:
        home = users.work(KESTREL) / "falcon"
        host.release("1.0.0", "falcon", **({verb: WAITS} if verb == "stop" else {}))
        host.want("1.0.0", users, falcon=KESTREL)
        assert host.apply().code == 0
        host.release("2.0.0", "falcon", **({verb: WAITS} if verb == "start" else {}))
        host.want("2.0.0", users, falcon=KESTREL)
        began = host.begin("apply", "--once", "-o", "json")
        until((home / "calls").exists, f"control {verb} runs")
        time.sleep(0.3)
        for pid in helpers(KESTREL):
            os.kill(pid, how)
        host.wait_for_log("what was called is waited for")
        assert (home / ".version").read_text() == {"start": "2.0.0", "stop": "1.0.0"}[verb]
        (home / "go").touch()
        ended = began.ended()
        assert (ended.code, ended.actions("falcon")) == (0, "fetch verify unpack stop switch start"), ended
        assert ready_condition(ended, "falcon") == ("Confirming", "2.0.0 started")
        assert ((home / "calls").read_text().split(), len(agents(KESTREL))) == (["called"], 1)
        for pid in helpers(KESTREL):
            os.kill(pid, signal.SIGKILL)


def test_who_kills_its_helper_at_each_start_is_gone_back_from(as_root: UsersHost, users: Users) -> None:
    as_root.configure(control_timeout={"start": 3})
    as_root.release("1.0.0", "falcon")
    as_root.want("1.0.0", users, falcon=KESTREL)
    assert as_root.apply().code == 0
    as_root.release("2.0.0", "falcon", start="kill -9 $PPID; exit 1;")
    as_root.want("2.0.0", users, falcon=KESTREL)
    assert ready_condition(as_root.apply(), "falcon")[0] == "RolledBack"
    assert ready_condition(as_root.apply(), "falcon")[0] == "Quarantined"
    assert len(agents(KESTREL)) == 1


# A user that is hostile

SWAPPER = """
import os, random, shutil, sys, time
home, victim = sys.argv[1:]
work = os.path.dirname(home)
aside = os.path.join(work, "aside")
chance = random.Random(20161025)
names = ["", "1.0.0", "2.0.0", ".version", ".start.log", ".stage-x", ".previous-1.0.0", ".next-2.0.0", "1.0.0/control",
    "1.0.0/.ops-updater.json", "2.0.0/.ops-updater.json", ".stage-old-1.0.0", "2.0.0/lib", ".stage-config"]
def quietly(act, *args):
    try:
        act(*args)
    except OSError:
        pass
def away(path):
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        os.rename(path, "%s-%d" % (aside, chance.randrange(50)))
def huge(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)  # it may be a FIFO of our own by now
    os.ftruncate(fd, 1 << 40)
    os.close(fd)
def stages():
    for name in os.listdir(home):
        if name.startswith(".stage-") and chance.random() < 0.3:
            stage = os.path.join(home, name)
            os.rename(stage, stage + "-was")
            os.symlink(victim, stage)
while True:
    inner = chance.choice(names)
    path = os.path.join(home, inner) if inner else home
    target = chance.choice([victim, os.path.join(victim, "secret"), os.path.join(victim, "tree"), "/etc/passwd", "."])
    if chance.random() < 0.7:
        quietly(away, path)
    quietly(chance.choice([
        lambda: os.symlink(target, path), lambda: os.mkfifo(path), lambda: huge(path), lambda: os.mkdir(path),
        lambda: os.link(os.path.join(victim, "tree", "readable"), path),
        lambda: os.rename("%s-%d" % (aside, chance.randrange(50)), path), lambda: os.chmod(path, 0)]))
    quietly(stages)
    if chance.random() < 0.2:
        if os.path.islink(home) or not os.path.isdir(home):
            quietly(away, home)
            quietly(os.mkdir, home)
        quietly(os.chmod, home, 0o755)
    time.sleep(chance.choice([0, 0, 0.0005, 0.01]))
"""


def accounts_of_others() -> list[str]:
    """The lines of /etc/passwd, without those of users that tests make and remove at the same time."""
    return [line for line in Path("/etc/passwd").read_text().splitlines() if "ops-test" not in line.split(":")[0]]


def test_a_hostile_user_changes_nothing_of_others(as_root: UsersHost, users: Users) -> None:
    """Under link swapping, FIFOs and huge files; a minute of it in `./control prove`."""
    victim = users.base / "victim"
    (victim / "tree").mkdir(parents=True)
    (victim / "secret").write_text("root's alone")
    (victim / "secret").chmod(0o600)
    (victim / "tree/readable").write_text("everybody may read it")
    (victim / "tree/control").write_text("#!/bin/sh\necho started\n")
    agents = {"falcon": KESTREL, "owl": MERLIN}
    for version in ("1.0.0", "2.0.0"):
        as_root.release(version, *agents)
    as_root.configure(control_timeout={"status": 3, "start": 3, "stop": 3}, parallel=2)
    as_root.want("1.0.0", users, **agents)
    assert as_root.apply().code == 0
    theirs = users.work(MERLIN)
    before = (snapshot(victim), snapshot(theirs), snapshot(Path(pwd.getpwnam(MERLIN).pw_dir)))
    accounts = accounts_of_others()

    home = users.work(KESTREL) / "falcon"
    argv = ["runuser", "-u", KESTREL, "--", SYSTEM_PYTHON, "-c", SWAPPER, str(home), str(victim)]
    with subprocess.Popen(argv) as swapper:
        try:
            passes, until_s = 0, time.monotonic() + HOSTILE_S
            while passes < 2 or time.monotonic() < until_s:
                passes += 1
                as_root.meta.desire(
                    as_root.meta.agent("owl", "1.0.0", runUser=MERLIN, workDir=str(theirs)),
                    as_root.meta.agent(
                        "falcon", ("1.0.0", "2.0.0")[passes % 2], runUser=KESTREL, workDir=str(users.work(KESTREL))
                    ),
                )
                began = time.monotonic()
                result = as_root.apply()
                assert time.monotonic() - began < 100
                assert swapper.poll() is None, "the hostile user gave up"
                assert ready_condition(result, "owl")[0] in ("AsDesired", "Confirming"), result
                (as_root.var / "state.db").unlink(missing_ok=True)  # so that no delay keeps it from trying
        finally:
            end_all_of(KESTREL)
    assert (snapshot(victim), snapshot(theirs), snapshot(Path(pwd.getpwnam(MERLIN).pw_dir))) == before
    assert accounts_of_others() == accounts
    foreign = [path for path in users.base.rglob("*") if path.lstat().st_uid == pwd.getpwnam(KESTREL).pw_uid]
    assert all(users.work(KESTREL) in (path, *path.parents) for path in foreign)


# What `check` says of all this


def checked(host: UsersHost, about: str) -> dict[str, str]:
    """What `check` says about one thing, by state: the messages, each with its remedy."""
    checks = host.updater("check", "-o", "json").document["checks"]
    lines: dict[str, str] = {}
    for one in checks:
        if one["about"] == about:
            reported = f"{one['message']} -> {one['remedy']}\n"
            lines[one["state"]] = lines.get(one["state"], "") + reported
    return lines


def desire_for_both(host: UsersHost, users: Users) -> None:
    host.configure(max_tarball="1MiB", max_unpacked="1MiB", cache_size="1MiB")
    host.want("1.0.0", users, falcon=KESTREL, owl=MERLIN)


def test_check_says_that_sudo_works(by_sudo: UsersHost, users: Users) -> None:
    desire_for_both(by_sudo, users)
    reported = checked(by_sudo, "users")
    assert set(reported) == {"good"}, reported
    assert f"{KESTREL}, of falcon: sudo lets us work as it without a password, with Python 3." in reported["good"]
    assert set(checked(by_sudo, "work_dirs")) == {"good"}


def test_check_says_that_root_works_as_a_user(as_root: UsersHost, users: Users) -> None:
    desire_for_both(as_root, users)
    reported = checked(as_root, "users")
    assert set(reported) == {"good"}, reported
    assert reported["good"].count(": root can work as it, with Python 3.") == 2


def test_check_says_that_sudo_is_refused_and_to_whom(by_sudo: UsersHost, users: Users) -> None:
    allow(users, f"{UPDATER} ALL=({MERLIN}) NOPASSWD: ALL")
    desire_for_both(by_sudo, users)
    reported = checked(by_sudo, "users")
    assert KESTREL in reported["bad"]
    assert f"ALL=({KESTREL}) NOPASSWD: ALL" in reported["bad"].partition(" -> ")[2]
    assert MERLIN in reported["good"]
    assert by_sudo.updater("check").code == 3


def test_check_explains_requiretty(by_sudo: UsersHost, users: Users) -> None:
    allow(users, f"Defaults:{UPDATER} requiretty", f"{UPDATER} ALL=({KESTREL},{MERLIN}) NOPASSWD: ALL")
    desire_for_both(by_sudo, users)
    reported = checked(by_sudo, "users")
    assert set(reported) == {"bad"}
    assert "`requiretty` is set in /etc/sudoers" in reported["bad"]
    assert "add the line `Defaults !requiretty` there" in reported["bad"]


def test_check_says_which_folders_a_user_may_not_write(by_sudo: UsersHost, users: Users) -> None:
    desire_for_both(by_sudo, users)
    shutil.chown(users.work(KESTREL), "root", "root")
    reported = checked(by_sudo, "work_dirs")
    assert f"{KESTREL} may not make {users.work(KESTREL)}/falcon" in reported["bad"]
    assert f"`chown {KESTREL} {users.work(KESTREL)}`" in reported["bad"]
    assert str(users.work(MERLIN)) in reported["good"]
    shutil.chown(by_sudo.folder, "root", "root")
    assert f"chown {UPDATER}" in checked(by_sudo, "folders")["bad"]


def test_check_knows_what_root_makes_for_a_user(as_root: UsersHost, users: Users) -> None:
    desire_for_both(as_root, users)
    shutil.chown(users.work(KESTREL), "root", "root")
    assert set(checked(as_root, "work_dirs")) == {"good"}
    users.work(KESTREL).chmod(0o777)
    assert set(checked(as_root, "work_dirs")) == {"good"}
    shutil.chown(users.work(KESTREL), MERLIN, MERLIN)
    users.work(KESTREL).chmod(0o755)
    assert KESTREL in checked(as_root, "work_dirs")["bad"]


def test_check_says_that_a_user_can_execute_no_python(
    as_root: UsersHost, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own Pythons are taken out of the list of those that are tried, since they can't be locked away."""
    desire_for_both(as_root, users)
    config = as_root.folder / "cfg.json"
    assert {one.state.value for one in check(config) if one.about == "users"} == {"good"}
    locked = users.base / "locked"
    shutil.copy(SYSTEM_PYTHON, locked)
    locked.chmod(0o700)
    monkeypatch.setattr(interpreters_for, "__defaults__", (str(locked), ()))
    bad = [one for one in check(config) if one.about == "users"]
    assert {one.state.value for one in bad} == {"bad"}
    assert f"the user '{KESTREL}' can execute no Python here" in bad[0].message
    assert "install the system's python3" in bad[0].remedy


@pytest.fixture
def alias(users: Users) -> Iterator[str]:
    """Another name of a user."""
    name, uid = f"ops-test-alias{WORKER}", str(pwd.getpwnam(KESTREL).pw_uid)
    subprocess.run(["useradd", "--non-unique", "--uid", uid, "--no-create-home", name], check=True)
    yield name
    subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


def check_another_name(host: UsersHost, users: Users, alias: str) -> None:
    """It is the same user: nothing is held, and nothing begins again."""
    for version in ("1.0.0", "2.0.0"):
        host.release(version, "falcon")
    host.want("1.0.0", users, falcon=KESTREL)
    assert [host.apply().code for _ in range(2)] == [0, 0]
    running = agents(KESTREL)
    for version, actions in (("1.0.0", ""), ("2.0.0", "fetch verify unpack stop switch start")):
        wanted = host.meta.agent("falcon", version, runUser=alias, workDir=str(users.work(KESTREL)))
        host.meta.desire(wanted)
        done = host.apply()
        assert (done.code, done.actions("falcon")) == (0, actions), done
        assert (agents(KESTREL) == running) == (not actions)


def test_another_name_of_a_user_as_root(as_root: UsersHost, users: Users, alias: str) -> None:
    check_another_name(as_root, users, alias)


def test_another_name_of_a_user_through_sudo(by_sudo: UsersHost, users: Users, alias: str) -> None:
    check_another_name(by_sudo, users, alias)


_ODD = ("ops-test{}@corp.example", "CORP\\ops-test{}", "1000ops-test{}", "ops-test{}$", "ops-test-{:x<22}")
ODD = tuple(name.format(WORKER) for name in _ODD)


@pytest.fixture
def odd(users: Users) -> Iterator[tuple[str, ...]]:
    """Users with names as directories of companies give them."""
    try:
        for name in ODD:
            subprocess.run(["useradd", "--badname", "--no-create-home", "--shell", "/bin/sh", name], check=True)
            users.work(name).mkdir()
            os.chown(users.work(name), pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
        yield ODD
    finally:
        for name in ODD:
            if _exists(name):
                end_all_of(name)
                subprocess.run(["userdel", name], check=True, capture_output=True)


def check_odd_names(host: UsersHost, users: Users, names: tuple[str, ...]) -> None:
    agents = {f"agent{number}": name for number, name in enumerate(names)}
    host.release("1.0.0", *agents)
    host.want("1.0.0", users, **agents)
    installed = host.apply()
    assert installed.code == 0, installed
    for agent, name in agents.items():
        assert owners(users.work(name) / agent / "1.0.0") == {(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)}
    assert host.apply().code == 0


def test_users_with_odd_names_as_root(as_root: UsersHost, users: Users, odd: tuple[str, ...]) -> None:
    check_odd_names(as_root, users, odd)


def test_users_with_odd_names_by_sudo(by_sudo: UsersHost, users: Users, odd: tuple[str, ...]) -> None:
    allow(users, f"{UPDATER} ALL=(ALL) NOPASSWD: ALL")
    check_odd_names(by_sudo, users, odd)


def test_noexec_in_sudoers_is_named_as_that(by_sudo: UsersHost, users: Users) -> None:
    by_sudo.release("1.0.0", "falcon")
    by_sudo.want("1.0.0", users, falcon=KESTREL)
    assert by_sudo.apply().code == 0
    allow(users, f"{UPDATER} ALL=({KESTREL}) NOEXEC: NOPASSWD: ALL")
    said = by_sudo.status("-o", "json").out
    assert "sudo forbids to execute it: `noexec` is set in /etc/sudoers" in said
    assert "mounted noexec" not in said
