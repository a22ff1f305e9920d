"""Probe the homes of the user that we run as: the disk layout and `control status`, and nothing else.

Homes are read one by one, and their control scripts are called side by side by one poll loop: a script that hangs costs
its own time limit alone. Nothing remembered is used, and nothing is changed. A worker of another user probes that
user's homes by this same code (observe.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path

from attrs import evolve

from probes.errors import PolicyRefused, UpdaterError
from probes.host import control_script, facts, home_reader, processes
from probes.host.paths import AgentHome
from probes.host.trusted_path import Routes, writable_paths
from probes.observed import (
    NEXT_PREFIX,
    PREVIOUS_CONFIG,
    PREVIOUS_PREFIX,
    STAGE_PREFIX,
    Active,
    Evidence,
    HomeRef,
    ObservedAgent,
    Origin,
    ProcessState,
    Tree,
)
from probes.status_parser import StatusWords, last_line, process_state, words_of
from probes.text import sanitize
from probes.values import frozen


@frozen(kw_only=True)
class StatusLimits:
    """`limit_s`: of one `control status`, in seconds. `at_once`: how many are asked at a time. `words`: further ones
    that this host's agents say. `homes_allowed_below`: folders below which root may make homes for other users though
    they are the system's."""

    limit_s: float = 10.0
    at_once: int = 64
    agent_env: Mapping[str, str] = {}
    words: Mapping[str, Mapping[str, ProcessState]] = {}
    homes_allowed_below: tuple[str, ...] = ()


@frozen(kw_only=True)
class HomeRead:
    """A home as it is on the disk: the agent without a process state, and what to call for that."""

    agent: ObservedAgent
    in_use: Tree | None = None
    candidates: tuple[str, ...] = ()
    trouble: str = ""


@lru_cache(1024)
def home_of(home: HomeRef) -> AgentHome:
    return AgentHome(Path(home.work_dir), home.name)


def probe_homes(homes: tuple[HomeRef, ...], limits: StatusLimits) -> tuple[ObservedAgent, ...]:
    """Probe homes now, in their order. Expected trouble of one is part of its observation, no exception."""
    env = _env(limits.agent_env)
    seen: list[HomeRead] = []
    asked: list[tuple[int, str]] = []
    routes: Routes = {}

    def calls() -> Iterator[control_script.ScriptCall]:
        # A home is read when its script is about to be started: those of the homes before run meanwhile.
        for index, home in enumerate(homes):
            read = _read_if_allowed(home, routes)
            seen.append(read)
            for version in read.candidates if read.in_use is None else (read.in_use.version,):
                asked.append((index, version))
                yield _call(home, version, "status", limit_s=limits.limit_s, env=env)

    results = control_script.run_all(calls(), limits.at_once)
    answers: dict[int, list[tuple[str, control_script.ScriptResult]]] = {}
    for (index, version), result in zip(asked, results, strict=True):
        answers.setdefault(index, []).append((version, result))
    runs = cache(processes.runs)  # looked for where they are needed alone, and once for all homes
    return tuple(_judge(read, answers.get(index, []), limits.words, runs) for index, read in enumerate(seen))


def run_control(
    home: HomeRef,
    version: str,
    verb: str,
    limit_s: float,
    agent_env: Mapping[str, str],
    spawned: Callable[[int], None] | None = None,
) -> control_script.ScriptResult:
    """Call a version's control script, in its own directory, in the clean environment of its user, and wait for its
    end. `spawned` is called with its process id."""
    return control_script.run(_call(home, version, verb, limit_s=limit_s, env=_env(agent_env)), spawned)


def _env(agent_env: Mapping[str, str]) -> dict[str, str]:
    """The environment of our own user's agents. A directory service may have to be asked for it: once for all."""
    user = facts.own_user()
    return control_script.clean_env(user.name, user.home, user.shell, agent_env)


def _call(
    home: HomeRef, version: str, verb: str, *, limit_s: float, env: Mapping[str, str]
) -> control_script.ScriptCall:
    paths = home_of(home)
    tree = paths.tree(version)
    return control_script.ScriptCall(
        control=tree / "control",
        verb=verb,
        cwd=tree,
        env=env,
        limit_s=limit_s,
        log=paths.start_log if verb == "start" else None,
    )


def judge_status(result: control_script.ScriptResult, name: str, words: StatusWords) -> tuple[ProcessState, str]:
    """What a `control status` means. The exit code carries nothing (docs/contract.md, section 5)."""
    match result.ended:
        case control_script.CallEnd.EXITED | control_script.CallEnd.SIGNALED:
            process = process_state(result.text, name, words_of(name, words))
            # `last_line` marks what reads like a state as unclear, since it stands for one that isn't known.
            return process, last_line(result.output) if process is ProcessState.UNKNOWN else process.value
        case control_script.CallEnd.TIMED_OUT:
            return ProcessState.UNKNOWN, f"no answer within {result.seconds:.0f} s"
        case control_script.CallEnd.NOT_STARTED | control_script.CallEnd.LOST:
            return ProcessState.UNKNOWN, result.error


def read_homes(homes: tuple[HomeRef, ...]) -> tuple[HomeRead, ...]:
    """Read homes without asking their control scripts, in their order."""
    routes: Routes = {}
    return tuple(_read_if_allowed(home, routes) for home in homes)


def read_home(home: HomeRef) -> HomeRead:
    """Read a home without asking its control script."""
    return _read_if_allowed(home, {})


def _read_if_allowed(home: HomeRef, routes: Routes) -> HomeRead:
    """Read a home, and where we are root see whether it may be executed in it."""
    try:
        read = _read_home(home)
    except UpdaterError as err:
        return HomeRead(agent=ObservedAgent(home=home), trouble=err.message)
    refused = refused_to_root(home_of(home), read.candidates, routes) if os.geteuid() == 0 else ""
    if not refused:
        return read
    agent = evolve(read.agent, blocked_reason=PolicyRefused.reason)
    return HomeRead(agent=agent, trouble=refused)


def refused_to_root(home: AgentHome, versions: tuple[str, ...], routes: Routes | None = None) -> str:
    """Why root may execute nothing in a home, not even a status; empty: it may."""
    trees = [home.tree(version) for version in versions]
    starts = (home.path, *trees, *(tree / "control" for tree in trees))
    flaw = next(writable_paths(starts, 0, 0, routes), None)
    if flaw is None:
        return ""
    return (
        f"refused by rule root_home: {sanitize(flaw.message)}, and whoever that is would have root execute what they "
        f"write; {sanitize(flaw.remedy)}, or have the agent run as its own user (runUser)"
    )


def _read_home(home: HomeRef) -> HomeRead:
    with home_reader.open_directory(home_of(home).path) as home_fd:
        if home_fd is None:
            return _absent_home(home)
        try:
            names = os.listdir(home_fd)
        except OSError as err:
            return HomeRead(agent=ObservedAgent(home=home), trouble=str(err))
        return _read_open_home(home, home_fd, names)


def _read_open_home(home: HomeRef, home_fd: int, names: list[str]) -> HomeRead:
    version_text = home_reader.read_version_file(home_fd)
    read = partial(home_reader.read_tree, home_fd, config_name=home.config_name)
    trees = _present({name: read(name, name) for name in filter(home_reader.is_version, names)})
    exchangeable = {name: read(name, version) for name, version in _exchangeable(names)}
    named = version_text or ""
    in_use = trees.get(named)
    agent = ObservedAgent(
        home=home,
        version_text=version_text,
        staged=frozenset(one for one in trees.values() if one.origin is not Origin.FOREIGN and one is not in_use),
        next=frozenset(_whole(NEXT_PREFIX, exchangeable).values()),
        previous=frozenset(_whole(PREVIOUS_PREFIX, exchangeable).values()),
        leftovers=_leftovers(names, exchangeable),
        previous_config=home_reader.file_digest(home_fd, PREVIOUS_CONFIG) if PREVIOUS_CONFIG in names else None,
    )
    trouble = _obstacle(home_of(home).tree(named)) if in_use is None and home_reader.is_version(named) else ""
    return HomeRead(agent=agent, in_use=in_use, candidates=tuple(sorted(trees)), trouble=trouble)


def _absent_home(home: HomeRef) -> HomeRead:
    """A home that isn't there: why not, and why it can't be made."""
    paths = home_of(home)
    trouble = _obstacle(paths.path)
    no_home = "" if trouble else why_not_made(paths)
    return HomeRead(agent=ObservedAgent(home=home, no_home=no_home), trouble=trouble)


def _exchangeable(names: list[str]) -> Iterator[tuple[str, str]]:
    """The trees that wait to be exchanged or were displaced: each with its version."""
    for name in names:
        for prefix in (NEXT_PREFIX, PREVIOUS_PREFIX):
            if name.startswith(prefix) and home_reader.is_version(version := name.removeprefix(prefix)):
                yield name, version


def why_not_made(home: AgentHome) -> str:
    """Why the user that we run as can't make a home that isn't there, for people; empty: it can."""
    uid = os.geteuid()
    if os.path.isdir(home.work_dir):
        if os.access(home.work_dir, os.W_OK | os.X_OK):
            return ""
        return (
            f"{home.path} isn't there, and user {uid} may not make it in {home.work_dir}; "
            f"`chown {uid} {home.work_dir}`, or make it: `install -d -o {uid} {home.path}`"
        )
    parent = home.work_dir.parent
    if not os.path.isdir(parent):
        return f"{home.work_dir} does not exist, nor does its parent; make it, or correct workDir at ops-meta"
    if os.access(parent, os.W_OK | os.X_OK):
        return ""
    return (
        f"{home.work_dir} does not exist, and user {uid} may not make it in {parent}; make it and give it to that "
        f"user: `install -d -o {uid} {home.work_dir}`, or correct workDir at ops-meta"
    )


def _obstacle(path: Path) -> str:
    """What stands where a directory is expected and can't be looked into, for people; empty: nothing, or one."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            return ""
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as err:
        return f"{path} can't be looked into: {err.strerror}"
    what = "a symbolic link" if stat.S_ISLNK(mode) else "no directory"
    return f"{path} is {what}, expected a directory itself; nothing is done here until it is one, or is removed"


def _whole(prefix: str, exchangeable: Mapping[str, Tree | None]) -> dict[str, Tree]:
    """The trees with this prefix that count. A replacement does only with its marker, which a removal takes first; a
    displaced tree may have had none."""
    trees = {name: tree for name, tree in _present(exchangeable).items() if name.startswith(prefix)}
    if prefix == PREVIOUS_PREFIX:
        return trees
    return {name: tree for name, tree in trees.items() if tree.origin is not Origin.FOREIGN}


def _present(trees: Mapping[str, Tree | None]) -> dict[str, Tree]:
    return {name: tree for name, tree in trees.items() if tree is not None}


def _leftovers(names: list[str], exchangeable: Mapping[str, Tree | None]) -> frozenset[str]:
    """The names that only an interrupted step leaves."""
    stages = frozenset(name for name in names if name.startswith(STAGE_PREFIX))
    return stages | (
        exchangeable.keys() - _whole(NEXT_PREFIX, exchangeable).keys() - _whole(PREVIOUS_PREFIX, exchangeable).keys()
    )


def _judge(
    home: HomeRead,
    answers: list[tuple[str, control_script.ScriptResult]],
    words: StatusWords,
    runs: Callable[[], processes.Runs],
) -> ObservedAgent:
    if home.trouble:
        return evolve(home.agent, blocked_by=home.trouble)
    short = next((result for _, result in answers if result.is_short), None)
    if short is not None:
        # It could not be asked: that is no word of the agent's, and must not count as an unknown one.
        return evolve(home.agent, blocked_by=short.error)
    states = [(version, *judge_status(result, home.agent.name, words)) for version, result in answers]
    if home.in_use is None:
        started = next((version for version, process, _ in states if process.is_running), None)
        return _judge_unnamed(home.agent, started, runs)
    _, process, said = states[0]
    return _judge_active(home.agent, Active(tree=home.in_use, process=process, status_output=said), runs)


def _judge_active(agent: ObservedAgent, active: Active, runs: Callable[[], processes.Runs]) -> ObservedAgent:
    if active.process is ProcessState.STOPPED:
        removed = _removed(processes.running_from(home_of(agent.home).tree(active.version), runs()) or ())
        if removed is not None:  # somebody put another folder in its place, and its pid file is gone with the old one
            return _strayed(agent, removed)
    return evolve(agent, active=active)


def _judge_unnamed(agent: ObservedAgent, started: str | None, runs: Callable[[], processes.Runs]) -> ObservedAgent:
    """Judge a home in which no version is in use. `started`: the one of which a control status says so."""
    left = processes.running_from(home_of(agent.home).path, runs()) or ()
    if started is not None:
        why = f"control status of {started} says started, but {_unnamed(agent, started)}"
        return evolve(agent, blocked_by=why, evidence=Evidence.UP if left else Evidence.SAID)
    strayed = next((one for one in left if not one.is_removed), None) or _removed(left)
    return agent if strayed is None else _strayed(agent, strayed)


def _unnamed(agent: ObservedAgent, version: str = "") -> str:
    """Why `.version` names no version that is there, or not this one."""
    path = home_of(agent.home).version_file
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target = sanitize(os.readlink(path))[:200]
            remedy = "put a file with the version's text in its place"
            return f"{path} is a symbolic link (to {target}), and none is followed: {remedy}"
        if not stat.S_ISREG(mode):
            return f"{path} is not a regular file: put a file with the version's text in its place"
        if agent.version_text == "":
            return f"{path} is empty, can't be read, or holds more than a version's text: write that text into it"
    except OSError:
        pass
    return ".version doesn't name it" if version else ".version names no usable version"


def _removed(left: tuple[processes.Process, ...]) -> processes.Process | None:
    """One that runs from what was removed, and is not a person's."""
    return next((one for one in left if one.is_removed and not one.has_terminal), None)


def _strayed(agent: ObservedAgent, process: processes.Process) -> ObservedAgent:
    """An agent of which a process runs, while no control script can be asked for it."""
    name, path = f"process {process.pid} ({sanitize(process.command)})", sanitize(process.path)
    if not process.is_removed:
        why = f"{name} runs in {path}, but {_unnamed(agent)}"
        return evolve(agent, blocked_by=why, evidence=Evidence.SEEN)
    why = (
        f"{name} runs from {path}, which was removed while it ran: no second copy is started beside it; end it "
        f"(kill {process.pid}), and the next pass goes on"
    )
    inside = Path(process.path).parts[len(Path(os.path.realpath(home_of(agent.home).path)).parts) :]
    version = inside[0] if inside and home_reader.is_version(inside[0]) else ""
    return evolve(agent, blocked_by=why, evidence=Evidence.SEEN, removed=version)
