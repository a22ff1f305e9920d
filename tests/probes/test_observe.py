"""Homes as they are met in the field, looked at with real control scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from probes.errors import WorkerLost
from probes.home import HomeRead, StatusLimits, judge_status, refused_to_root
from probes.host.control_script import CallEnd, ScriptResult
from probes.host.facts import own_user
from probes.host.paths import AgentHome
from probes.observe import _checked, believed_call, observe, observe_agent, reread
from probes.observed import MARKER, Active, Evidence, HomeRef, ObservedAgent, Origin, ProcessState, Tree
from probes.worker.pool import WorkerPool

NAME = "falcon-agent"
DIGEST = "md5:" + "0" * 32
RUNNING, STOPPED, UNKNOWN = ProcessState.RUNNING, ProcessState.STOPPED, ProcessState.UNKNOWN


class Home:
    """A home that is written to by hand."""

    def __init__(self, work_dir: Path, name: str = NAME) -> None:
        self.path = work_dir / name
        self.path.mkdir(parents=True)
        self.place = HomeRef(name=name, work_dir=str(work_dir), run_user=own_user().name)

    def tree(self, directory: str, *, says: str = "stoped", marker: str | None = "unpacked", digest: str = "") -> Path:
        tree = self.path / directory
        tree.mkdir()
        control = tree / "control"
        control.write_text(f"#!/bin/sh\n[ $1 = status ] && {{ {says if ' ' in says else f'echo {says}'}; }}\n")
        control.chmod(0o755)
        if marker is not None:
            (tree / MARKER).write_text(json.dumps({"origin": marker, "digests": [digest] if digest else []}))
        return tree

    def use(self, text: str) -> None:
        (self.path / ".version").write_text(text)

    def look(self, config: str | None = None, **limits: float) -> ObservedAgent:
        return observe_agent(evolve(self.place, config_name=config), StatusLimits(**limits))  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# What isn't there


def test_no_home(tmp_path: Path) -> None:
    place = HomeRef(name=NAME, work_dir=str(tmp_path), run_user=own_user().name)
    assert observe_agent(place, StatusLimits()) == ObservedAgent(home=place)
    assert observe((), StatusLimits(), at=5.0).agents == ()


def test_an_empty_home(home: Home) -> None:
    assert home.look() == ObservedAgent(home=home.place)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_home_that_is_no_directory(tmp_path: Path, kind: str) -> None:
    place = HomeRef(name=NAME, work_dir=str(tmp_path), run_user=own_user().name)
    elsewhere = Home(tmp_path, "elsewhere")
    elsewhere.tree("1.0.0")
    elsewhere.use("1.0.0")
    path = tmp_path / NAME
    path.touch() if kind == "file" else path.symlink_to(elsewhere.path)
    found = observe_agent(place, StatusLimits())
    assert "expected a directory itself" in found.blocked_by
    assert (found.active, found.version_text) == (None, None)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_version_in_use_that_is_no_directory(tmp_path: Path, kind: str) -> None:
    """Somebody moved it to another disk and left a link: what may run there must not be joined by a second copy."""
    home = Home(tmp_path, NAME)
    home.tree("1.0.0")
    home.use("1.0.0")
    moved = home.path / "1.0.0"
    moved.rename(tmp_path / "elsewhere")
    moved.touch() if kind == "file" else moved.symlink_to(tmp_path / "elsewhere")
    assert "1.0.0" in home.look().blocked_by


def test_a_home_of_a_user_that_does_not_exist(home: Home) -> None:
    found = observe_agent(evolve(home.place, run_user="no-such-user"), StatusLimits())
    assert "'no-such-user' does not exist" in found.blocked_by
    assert (found.blocked_reason, found.active) == ("UserMissing", None)


def test_more_users_than_control_scripts_at_once(home: Home) -> None:
    home.tree("1.0.0", says="started")
    home.use("1.0.0")
    places = [home.place, evolve(home.place, run_user="no-such-user")]
    ours, theirs = observe(places, StatusLimits(at_once=1), at=0.0).agents
    assert ours.active is not None
    assert ours.active.process is RUNNING
    assert theirs.blocked_by


# The version in use


@pytest.mark.parametrize("text", ["1.0.0", "1.0.0\n", " 1.0.0 \r\n"])
@pytest.mark.parametrize(
    ("says", "process", "said"),
    [
        ("started", RUNNING, "started"),
        ("STOPPED", STOPPED, "stoped"),
        ("mumble", UNKNOWN, "mumble"),
        ("exit 3", UNKNOWN, ""),
        ("echo started; exit 1", RUNNING, "started"),
    ],
)
def test_the_version_in_use(home: Home, text: str, says: str, process: ProcessState, said: str) -> None:
    home.tree("1.0.0", says=says, digest=DIGEST)
    home.use(text)
    tree = Tree(version="1.0.0", digests=frozenset({DIGEST}))
    assert home.look() == ObservedAgent(
        home=home.place, version_text="1.0.0", active=Active(tree=tree, process=process, status_output=said)
    )


@pytest.mark.parametrize(
    ("marker", "origin", "digests"),
    [
        (None, Origin.FOREIGN, frozenset()),
        ("adopted", Origin.ADOPTED, frozenset()),
        ("unpacked", Origin.UNPACKED, frozenset()),
        ("garbage", Origin.FOREIGN, frozenset()),
    ],
)
def test_where_it_came_from(home: Home, marker: str | None, origin: Origin, digests: frozenset[str]) -> None:
    home.tree("1.0.0", marker=marker)
    home.use("1.0.0")
    found = home.look().active
    assert found is not None
    assert (found.tree.origin, found.tree.digests) == (origin, digests)


def test_its_config_is_digested_where_one_is_asked_for(home: Home) -> None:
    (home.tree("1.0.0") / "cfg.json").write_bytes(b"{}")
    home.use("1.0.0")
    found, without = home.look("cfg.json"), home.look()
    assert found.active is not None
    assert found.active.tree.config == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert without.active is not None
    assert without.active.tree.config is None


@pytest.mark.parametrize("text", ["9.9.9", "", "..", "../other", "\x00\xff", "1.0.0/"])
def test_a_version_file_that_names_nothing(home: Home, text: str) -> None:
    home.tree("1.0.0")
    (home.path / ".version").write_bytes(text.encode("latin-1"))
    found = home.look()
    assert found.active is None
    assert found.version_text is not None
    assert found.version_text.isprintable()
    assert found.installed == ("1.0.0",)


def test_a_version_without_control_is_not_in_use(home: Home) -> None:
    (home.tree("1.0.0") / "control").unlink()
    home.use("1.0.0")
    assert (home.look().active, home.look().version_text) == (None, "1.0.0")


def test_a_control_that_can_not_run(home: Home) -> None:
    (home.tree("1.0.0") / "control").chmod(0o644)
    home.use("1.0.0")
    found = home.look().active
    assert found is not None
    assert found.process is UNKNOWN
    assert "control" in found.status_output


# What lies beside it


def test_versions_replacements_and_leftovers(home: Home) -> None:
    home.tree("1.0.0", says="started")
    home.use("1.0.0")
    home.tree("2.0.0", digest=DIGEST)
    home.tree("3.0.0", marker=None)  # of another updater: it is unknown whether it is whole
    home.tree("4.0.0", marker="adopted")
    home.tree(".next-1.0.0")
    home.tree(".next-0.9.0", marker=None)  # a removal has begun: its marker is gone
    home.tree(".previous-1.0.0", marker=None)  # what it displaced may never have had one
    (home.path / ".previous-0.8.0").mkdir()
    (home.path / ".stage-1").mkdir()
    (home.path / ".stage-config").touch()
    (home.path / ".next-..").mkdir()
    (home.path / "app.log").touch()
    (home.path / "5.0.0").touch()
    found = home.look()
    assert {tree.version for tree in found.staged} == {"2.0.0", "4.0.0"}
    assert found.installed == ("1.0.0", "2.0.0", "4.0.0")
    assert {tree.version for tree in found.next} == {"1.0.0"}
    assert {tree.version for tree in found.previous} == {"1.0.0"}
    assert found.leftovers == {".next-0.9.0", ".previous-0.8.0", ".stage-1", ".stage-config"}


# Strays


def test_a_version_that_runs_though_it_is_not_in_use(home: Home) -> None:
    home.tree("1.0.0", says="started", marker=None)
    home.tree("2.0.0")
    assert home.look().blocked_by == "control status of 1.0.0 says started, but .version doesn't name it"
    assert home.look().evidence is Evidence.SAID
    home.use("9.9.9")
    assert "control status of 1.0.0 says started" in home.look().blocked_by
    home.use("2.0.0")
    assert home.look().blocked_by == ""


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (lambda path: path.symlink_to("current"), r"\.version is a symbolic link \(to current\), and none is followed"),
        (lambda path: path.symlink_to("nowhere"), r"\.version is a symbolic link \(to nowhere\)"),
        (lambda path: path.mkdir(), r"\.version is not a regular file"),
        (lambda path: path.write_text(""), r"\.version is empty"),
        (lambda path: path.write_text("1.0.0" * 100), "more than a version's text"),
    ],
)
def test_what_the_version_file_is_where_it_is_none(home: Home, put: Callable[[Path], object], says: str) -> None:
    tree = home.tree("1.0.0", says="started")
    (home.path / "current").write_text("1.0.0")
    put(home.path / ".version")
    assert re.search(f"says started, but .*{says}", home.look().blocked_by)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], cwd=tree, stdin=subprocess.PIPE) as process:
        (tree / "control").write_text("#!/bin/sh\necho stoped\n")
        assert re.search(f"process {process.pid} .* runs in .*, but .*{says}", home.look().blocked_by)
        assert process.stdin is not None
        process.stdin.write(b"\n")


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
def test_a_process_that_lives_in_a_home_without_a_version(home: Home) -> None:
    tree = home.tree("1.0.0")
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], cwd=tree, stdin=subprocess.PIPE) as process:
        who = f"process {process.pid} ({sys.executable})"
        assert home.look().blocked_by == f"{who} runs in {tree}, but .version names no usable version"
        assert home.look().evidence is Evidence.SEEN
        assert process.stdin is not None
        process.stdin.write(b"\n")
    assert home.look().blocked_by == ""


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("gone", ["version", "home", "work_dir", "put anew"])
def test_what_runs_from_a_removed_folder_is_found(home: Home, gone: str) -> None:
    """No control script is left to ask for it, or one whose pid file went with the old folder."""
    tree = home.tree("1.0.0", says="stoped")
    home.use("1.0.0")
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], cwd=tree, stdin=subprocess.PIPE) as process:
        assert home.look().blocked_by == "", "it may be a helper: its status says what is so"
        removed = {"version": tree, "home": home.path, "work_dir": home.path.parent, "put anew": tree}[gone]
        shutil.rmtree(removed)
        if gone == "put anew":
            home.tree("1.0.0", says="stoped")
        found = home.look()
        assert found.blocked_by == (
            f"process {process.pid} ({sys.executable}) runs from {tree}, which was removed while it ran: "
            f"no second copy is started beside it; end it (kill {process.pid}), and the next pass goes on"
        )
        assert (found.evidence, found.active) == (Evidence.SEEN, None)
        assert process.stdin is not None
        process.stdin.write(b"\n")
    assert home.look().blocked_by == ""


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
def test_a_status_that_a_process_bears_out_is_more_than_a_word(home: Home) -> None:
    tree = home.tree("1.0.0", says="started")
    assert home.look().evidence is Evidence.SAID
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], cwd=tree, stdin=subprocess.PIPE) as process:
        assert "control status of 1.0.0 says started" in home.look().blocked_by
        assert home.look().evidence is Evidence.UP
        assert process.stdin is not None
        process.stdin.write(b"\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_home_that_we_may_not_read(home: Home) -> None:
    home.path.chmod(0o100)
    try:
        assert home.look().active is None
    finally:
        home.path.chmod(0o755)


# Many at once


def test_an_agent_that_hangs_costs_its_own_limit_and_no_other(tmp_path: Path) -> None:
    homes = [Home(tmp_path, f"agent-{number}") for number in range(5)]
    for home in homes:
        home.tree("1.0.0", says="exec sleep 60" if home is homes[2] else "started")
        home.use("1.0.0")
    began = time.monotonic()
    seen = observe([home.place for home in homes], StatusLimits(limit_s=2), at=7.0)
    assert time.monotonic() - began < 30
    assert seen.at == 7.0
    states = [agent.active.process if agent.active else None for agent in seen.agents]
    assert states == [RUNNING, RUNNING, UNKNOWN, RUNNING, RUNNING]
    hung = seen.agents[2].active
    assert hung is not None
    assert hung.status_output == "no answer within 2 s"


def test_agents_are_found_by_their_spot(home: Home) -> None:
    seen = observe([home.place], StatusLimits(), at=0)
    assert seen.find(evolve(home.place, config_name="cfg.json")) is seen.agents[0]
    assert seen.find(evolve(home.place, work_dir="/elsewhere")) is None


# To look again without asking


def read_again(agent: ObservedAgent, config_name: str | None, workers: WorkerPool | None = None) -> ObservedAgent:
    place = evolve(agent.home, config_name=config_name)
    return reread({place: agent}, workers)[place]


def test_another_config_is_read_without_asking_the_script_again(home: Home) -> None:
    (home.tree("1.0.0", says="echo x >>../asked; echo started") / "cfg.json").write_bytes(b"{}")
    home.use("1.0.0")
    again = read_again(home.look(), "cfg.json")
    assert again == home.look("cfg.json")
    assert (home.path / "asked").read_text() == "x\nx\n"


def test_what_changed_meanwhile_is_left_for_the_next_pass(home: Home) -> None:
    home.tree("1.0.0", says="started")
    home.tree("2.0.0")
    home.use("1.0.0")
    seen = home.look()
    home.use("2.0.0")
    assert read_again(seen, "cfg.json") == evolve(seen, home=evolve(seen.home, config_name="cfg.json"))


# What a call means


@pytest.mark.parametrize(
    ("result", "process", "said"),
    [
        (ScriptResult(ended=CallEnd.EXITED, code=1, output=b"started\n"), RUNNING, "started"),
        (ScriptResult(ended=CallEnd.SIGNALED, code=9, output=b"falcon-agent is stopped\n"), STOPPED, "stoped"),
        (ScriptResult(ended=CallEnd.EXITED, code=0, output=b"not started"), UNKNOWN, "not started"),
        (ScriptResult(ended=CallEnd.EXITED, code=0, output=b"stoped\nstarted\n"), UNKNOWN, "unclear: started"),
        (ScriptResult(ended=CallEnd.TIMED_OUT, output=b"started", seconds=10.2), UNKNOWN, "no answer within 10 s"),
        (ScriptResult(ended=CallEnd.NOT_STARTED, error="no such file"), UNKNOWN, "no such file"),
    ],
)
def test_what_a_call_means(result: ScriptResult, process: ProcessState, said: str) -> None:
    assert judge_status(result, NAME, {}) == (process, said)


def test_what_a_call_means_by_a_hosts_own_words() -> None:
    result = ScriptResult(ended=CallEnd.EXITED, code=0, output=b"up\n")
    assert judge_status(result, NAME, {NAME: {"up": RUNNING}}) == (RUNNING, "started")
    assert judge_status(result, NAME, {"another": {"up": RUNNING}}) == (UNKNOWN, "up")


# What another user's child says


THEIRS = HomeRef(name=NAME, work_dir="/srv/agents", run_user="no-such-user")
GOOD = Tree(version="1.0.0", digests=frozenset({DIGEST}), config="sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "said",
    [
        ObservedAgent(home=evolve(THEIRS, name="another")),
        ObservedAgent(home=THEIRS, version_text="1\x1b[2J"),
        ObservedAgent(home=THEIRS, version_text="1" * 65),
        ObservedAgent(home=THEIRS, blocked_by="a\nb"),
        ObservedAgent(home=THEIRS, blocked_by="x" * 2001),
        ObservedAgent(home=THEIRS, blocked_by="x", blocked_reason="\x1b[2J"),
        ObservedAgent(home=THEIRS, blocked_by="x", blocked_reason="UserMissing"),
        ObservedAgent(home=THEIRS, active=Active(tree=GOOD, process=UNKNOWN, status_output="\x07")),
        ObservedAgent(home=THEIRS, active=Active(tree=evolve(GOOD, version="../1"), process=RUNNING)),
        ObservedAgent(home=THEIRS, staged=frozenset({evolve(GOOD, digests=frozenset({"md5:x"}))})),
        ObservedAgent(home=THEIRS, next=frozenset({evolve(GOOD, config="what")})),
        ObservedAgent(home=THEIRS, previous=frozenset({evolve(GOOD, version="")})),
        ObservedAgent(home=THEIRS, leftovers=frozenset({"1.0.0"})),
        ObservedAgent(home=THEIRS, leftovers=frozenset({".stage-/../x"})),
        ObservedAgent(home=THEIRS, leftovers=frozenset(f".stage-{number}" for number in range(5000))),
        ObservedAgent(home=THEIRS, previous_config="sha256:short"),
    ],
    ids=lambda said: repr(said)[-60:-20],
)
def test_what_can_not_be_is_not_believed(said: ObservedAgent) -> None:
    found = _checked(said, THEIRS)
    assert (found.home, found.active, found.version_text) == (THEIRS, None, None)
    assert "what can't be" in found.blocked_by


@pytest.mark.parametrize(
    "said",
    [
        ScriptResult(ended=CallEnd.EXITED, code=10**9),
        ScriptResult(ended=CallEnd.EXITED, code=-1),
        ScriptResult(ended=CallEnd.EXITED, code=0, output=b"x" * 4097),
        ScriptResult(ended=CallEnd.NOT_STARTED, error="\x1b[2J"),
        ScriptResult(ended=CallEnd.NOT_STARTED, error="\ud800"),
        ScriptResult(ended=CallEnd.NOT_STARTED, error="x" * 2001),
    ],
    ids=lambda said: repr(said)[:60],
)
def test_a_call_that_can_not_have_gone_so_is_not_believed(said: ScriptResult) -> None:
    with pytest.raises(WorkerLost, match="of a control script what can't be"):
        believed_call(said, THEIRS.run_user)
    assert believed_call(said, own_user().name) is said


def test_a_call_that_can_have_gone_so_is() -> None:
    said = ScriptResult(ended=CallEnd.EXITED, code=255, output=b"\x1b" * 4096, error="no such file")
    assert believed_call(said, THEIRS.run_user) is said


def test_what_another_user_reads_again_is_checked_too() -> None:
    seen = ObservedAgent(home=THEIRS, active=Active(tree=GOOD, process=RUNNING, status_output="started"))
    fresh = HomeRead(agent=ObservedAgent(home=THEIRS), in_use=evolve(GOOD, signed_by="\x1b[2J"))

    class Liar(WorkerPool):
        def of(self, run_user: str, limit_s: float = 0.0) -> Any:
            return self

        def do(self, *_: Any) -> tuple[HomeRead, ...]:
            return said

    said: tuple[HomeRead, ...] = (fresh,)
    assert read_again(seen, None, Liar()) == seen
    said = ()
    assert read_again(seen, None, Liar()) == seen
    other = evolve(GOOD, config="unreadable:")
    said = (evolve(fresh, in_use=other),)
    assert read_again(seen, None, Liar()) == evolve(
        seen, active=Active(tree=other, process=RUNNING, status_output="started")
    )


def test_what_can_be_is() -> None:
    seen = ObservedAgent(
        home=THEIRS,
        version_text="1" * 64,
        active=Active(tree=GOOD, process=RUNNING, status_output="started"),
        staged=frozenset({evolve(GOOD, version="0.9", config=None)}),
        leftovers=frozenset({".stage-1", ".next-2"}),
        previous_config="unreadable:",
    )
    assert _checked(seen, THEIRS) == seen


def test_a_user_that_we_can_not_become_is_trouble_of_its_own_agents_alone(home: Home) -> None:
    home.tree("1.0.0", says="started")
    home.use("1.0.0")
    ours, theirs = home.place, evolve(home.place, run_user="no-such-user")
    found = observe([theirs, ours, theirs], StatusLimits(), at=7.0)
    assert [agent.blocked_reason for agent in found.agents] == ["UserMissing", "StatusUnknown", "UserMissing"]
    assert found.agents[1] == observe_agent(ours, StatusLimits())
    assert found.agents[1].active is not None
    unseen = found.agents[0]
    assert read_again(unseen, "cfg.json") == evolve(unseen, home=evolve(theirs, config_name="cfg.json"))


# What root may execute


def loosen(home: Home, what: str) -> Path:
    path = home.path.parent if what == "workDir" else home.path / what
    if what.endswith("control"):
        path.chmod(0o757)
    else:
        path.chmod(0o777)
    return path.resolve()


@pytest.mark.parametrize("what", ["workDir", ".", "1.0.0", "1.0.0/control", "0.9/control"])
def test_root_executes_nothing_where_others_can_write(home: Home, tmp_path: Path, what: str) -> None:
    for version in ("0.9", "1.0.0"):
        home.tree(version, says=f"touch {tmp_path}/executed; echo started")
    home.use("1.0.0")
    loose = loosen(home, what)
    seen = home.look()
    if os.geteuid() != 0:
        assert seen.active is not None, "a rule of root's alone"
        return
    assert (seen.active, seen.version_text, seen.blocked_reason) == (None, "1.0.0", "PolicyRefused")
    assert seen.blocked_by.startswith(
        f"refused by rule root_home: {loose} can be written by everybody, and whoever that is"
    )
    assert f"; chmod o-w {loose}, or have the agent run as its own user (runUser)" in seen.blocked_by
    assert not (tmp_path / "executed").exists()


def test_root_makes_no_home_where_others_can_write(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    seen = observe_agent(HomeRef(name=NAME, work_dir=str(work), run_user=own_user().name), StatusLimits())
    assert seen.blocked_reason == ("PolicyRefused" if os.geteuid() == 0 else "StatusUnknown")
    work.chmod(0o1777)  # there no other user can replace a home that is root's
    assert refused_to_root(AgentHome(work, NAME), ()) == "" or os.geteuid() != 0


def test_whose_home_it_is_counts_as_well_as_who_may_write(home: Home) -> None:
    """As root would see it: a home of any other user, whatever its mode."""
    if os.geteuid() == 0:
        os.chown(home.path, 65534, 0)
    owner = home.path.stat().st_uid
    assert f" belongs to user {owner}, and whoever" in refused_to_root(AgentHome(home.path.parent, NAME), ())
