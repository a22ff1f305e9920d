"""What else on this host meddles: other updaters, as far as /proc tells, and sessions whose end kills processes.

Linux only; elsewhere nothing is found. It reads files, and makes no request.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from probes.host import procfs
from probes.text import sanitize
from probes.values import frozen
from updater.check.subject import CheckContext, CheckFinding, CheckState, bad, good, note

_TODAYS = "ops-updater"
_OURS = re.compile(r"(?:^|/)updater(?:-lib)?$")  # `-m updater`, .venv/bin/updater, a pack's folder
_ACTS = ("daemon", "apply", "rollback")
# By rising precedence; a drop-in hides those of its name in the folders before (systemd.unit(5), logind.conf(5)).
_LOGIND = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
_REAPED_WITHIN_S, _PAUSE_S = 5.0, 0.02
_CONFIGURED = re.compile(r"^[ \t]*KillUserProcesses[ \t]*=(.*)$", re.MULTILINE)
_DEFAULT = re.compile(r"^[ \t]*#[ #]*KillUserProcesses[ \t]*=(.*)$", re.MULTILINE)
_YES = ("1", "yes", "y", "true", "t", "on")


@frozen(kw_only=True)
class _Process:
    """`folder`: where it works, None where we may not know."""

    pid: int
    words: tuple[str, ...]
    folder: Path | None

    @property
    def title(self) -> str:
        where = "" if self.folder is None else f", in {sanitize(str(self.folder))}"
        return f"process {self.pid} (`{' '.join(self.words)[:80]}`{where})"

    @property
    def is_todays(self) -> bool:
        """Whether it is of the line that this updater replaces."""
        name = os.path.basename(self.words[0])
        return name.startswith(_TODAYS) or (name == "updater" and "-c" in self.words)

    @property
    def is_ours(self) -> bool:
        """Whether it is an updater as this one, and acts."""
        return any(map(_OURS.search, self.words[1:5])) and not set(_ACTS).isdisjoint(self.words)

    @property
    def config(self) -> Path | None:
        """The config that one of ours was started with."""
        with_option = dict(zip(self.words, self.words[1:], strict=False))
        name = with_option.get("-c", with_option.get("--config", "cfg.json"))
        if self.folder is None and not name.startswith("/"):
            return None
        return Path(os.path.realpath((self.folder or Path("/")) / name))


def others(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether another updater may act on our agents."""
    if not procfs.is_there():
        return
    found = [*_updaters(subject), *_holders(subject)]
    yield from found or [good("others", "no other updater runs, as far as this user can see")]


def _updaters(subject: CheckContext) -> Iterator[CheckFinding]:
    own = Path(os.path.realpath(subject.config.path))
    # With what started them, as PID 1 of a container does. Paths may be hidden in their command lines.
    ours = {ancestor for pid in _holding_ours(subject, _locks()) for ancestor in procfs.ancestry(pid)}
    for process in _processes():
        if process.is_todays:
            message = f"{process.title} is another updater: two undo each other's work"
            remedy = "stop it before this one starts, by its own `control stop`; see docs/migrating.md"
            yield bad("others", message, remedy)
        elif process.is_ours and process.pid not in ours and process.config != own:
            message = f"{process.title} is an updater of another config"
            remedy = "let one alone manage an agent: `allow_agents` in each"
            yield note("others", message, remedy)


def _processes() -> Iterator[_Process]:
    for pid in sorted(procfs.pids()):
        words = tuple(map(sanitize, procfs.words(pid)))
        if pid != os.getpid() and words and words[0] and procfs.sees_our_files(pid):
            folder = procfs.directory(pid)
            yield _Process(pid=pid, words=words, folder=None if folder is None else Path(folder))


def _holders(subject: CheckContext) -> Iterator[CheckFinding]:
    """Who holds an agent's home just now, and is not of this folder."""
    locks = _locks()
    ours = _holding_ours(subject, locks)
    for view in subject.agents:
        home = Path(view.desired.work_dir) / view.desired.name
        pid = locks.get(_identity(home))
        if pid is None or ours & set(procfs.ancestry(pid)):
            continue
        who = f"process {pid}" if pid else "a process"
        message = f"{who} of another folder holds {home}: it acts on this agent"
        remedy = "let one updater alone manage an agent: stop the other, or set `allow_agents` in each"
        yield bad("others", message, remedy)


def _holding_ours(subject: CheckContext, locks: Mapping[str, int]) -> set[int]:
    """The processes of this config: its daemon, and who makes a pass."""
    held = (locks.get(_identity(subject.config.var / name), 0) for name in ("updater.lock", "app.pid"))
    return {pid for pid in held if pid}


def _identity(path: Path) -> str:
    """A file as /proc/locks names it; empty where we can't see it."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _locks() -> dict[str, int]:
    """Which process holds a flock on what: 0 where that is hidden."""
    return {lock.file: max(0, lock.pid) for lock in procfs.flocks()}


def orphans(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether processes that lost their parent are reaped; made sure of by a process of our own. Agents are such."""
    if not procfs.is_there():
        return
    # It outlives its shell, which would reap it itself.
    orphan = "sleep 0.2 </dev/null >/dev/null 2>&1 & echo $!"
    started = subprocess.run(["/bin/sh", "-c", orphan], capture_output=True, text=True, cwd="/", check=False)
    until = time.monotonic() + _REAPED_WITHIN_S
    while (state := _state_of(started.stdout.strip())) and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    if state == "Z":
        message = "what lost its parent stays a zombie: `kill -0` in a script takes a killed agent for one that runs"
        remedy = (
            "let the updater be the first process of its container, or use `docker run --init` (docs/containers.md)"
        )
        yield bad("orphans", message, remedy)
    else:
        yield good("orphans", "processes that lost their parent are reaped")


def _state_of(pid: str) -> str:
    """A process's state as proc(5) has it; empty where there is none."""
    found = procfs.stat(int(pid)) if pid.isdigit() else None
    return "" if found is None else found.state


def sessions(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether the end of a login session kills what was started in it: agents, too."""
    value, where = _kill_user_processes(subject.root)
    if value.lower() not in _YES:
        why = f"KillUserProcesses={value} in {where}" if value else "no logind.conf says so"
        message = f"the end of a login session kills nothing ({why})"
        yield good("sessions", message)
        return
    message = f"the end of a login session kills all that was started in it (KillUserProcesses={value} in {where})"
    remedy = "let systemd start the updater (docs/operating.md, Under systemd), or `loginctl enable-linger USER`"
    state = CheckState.BAD if _in_session(subject) else CheckState.NOTE
    yield CheckFinding(about="sessions", state=state, message=message, remedy=remedy)


def _kill_user_processes(root: Path) -> tuple[str, Path]:
    """What is configured of logind, and where: the last word counts, and drop-ins speak after the main file.

    Distributions build it with either default, and say which in a comment of the file that they ship.
    """
    main = [path for folder in _LOGIND if (path := root / folder / "logind.conf").is_file()][-1:]
    drop_ins: dict[str, Path] = {}
    for folder in _LOGIND:
        drop_ins |= {path.name: path for path in (root / folder / "logind.conf.d").glob("*.conf")}
    configured = [*main, *(drop_ins[name] for name in sorted(drop_ins))]
    defaults = [word for path in main for word in _words(path, _DEFAULT)]
    return [("", root), *defaults, *(word for path in configured for word in _words(path, _CONFIGURED))][-1]


def _words(path: Path, pattern: re.Pattern[str]) -> list[tuple[str, Path]]:
    """What a file says of the key; nothing where it can't be read."""
    try:
        return [(text.strip(), path) for text in pattern.findall(path.read_text(encoding="utf-8"))]
    except (OSError, UnicodeError):
        return []


def _in_session(subject: CheckContext) -> bool:
    """Whether our daemon, or without one this process, runs within a login session (its cgroup tells)."""
    daemon = _locks().get(_identity(subject.config.var / "app.pid"))
    try:
        text = (subject.root / "proc" / str(daemon or "self") / "cgroup").read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return False
    return "/session-" in text
