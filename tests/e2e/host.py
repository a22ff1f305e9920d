"""A host of a test: the updater's folder, the agents' workDir, and the real `updater` executable.

Verbs of an operator (`updater`, `apply`, `plan`, `daemon`) and of ops-meta's publisher (`publish`, `desire`), so that a
test reads as the story that it is. What an agent is doing is asked of the agent itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.e2e.processes import LIMIT_S, Processes, until
from tests.e2e.warm import Warm
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build
from tests.terminal import Shown, Terminal, on_terminal
from updater.demo import agent as agents

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.executable).with_name("updater")
EXECUTABLE = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "updater"]
NAME = "falcon-agent"
TARBALLS = ".tar.gz"

# Of a command or a daemon that must end by itself: beyond all its own limits, so that only a hang is one.
END_S = 120.0


@frozen(kw_only=True)
class Completed:
    """How a command ended: its exit code, what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        content = json.loads(self.out)
        assert isinstance(content, dict)
        return content

    def agent(self, name: str = NAME) -> dict[str, Any]:
        """One agent of the document."""
        return next(agent for agent in self.document["agents"] if agent["name"] == name)

    def actions(self, name: str = NAME) -> str:
        """The types of one agent's actions, in order."""
        return " ".join(action["type"] for action in self.agent(name)["actions"])

    def condition(self, type: str, name: str | None = NAME) -> tuple[str, str]:
        """Status and reason of a condition, of the updater itself where no name is given."""
        owner = self.document if name is None else self.agent(name)
        found = next(condition for condition in owner["conditions"] if condition["type"] == type)
        return found["status"], found["reason"]


class Daemon:
    """A daemon that was started, and may have ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def catches(self, number: int) -> bool:
        """Whether it has a handler for this signal by now (Linux: proc_pid_status(5), SigCgt)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(mask, 16) >> (number - 1) & 1)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self) -> Completed:
        """Wait for its end."""
        try:
            out, err = self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return Completed(code=self._process.returncode, out=out, err=err)


class Host:
    """`folder`: the updater's own, with cfg.json and var/. `work`: where the agents live. `warm`: what runs its
    commands where a test need not see them start (warm.py)."""

    def __init__(self, base: Path, meta: FaultyOpsMeta, processes: Processes, warm: Warm | None = None) -> None:
        self.folder = base / "ops-updater"
        self.work = base / "agents"
        self.var = self.folder / "var"
        self.meta = meta
        self._processes = processes
        self._warm = warm
        self._config: dict[str, Any] = {}
        self.folder.mkdir()
        # What is new is good at the first look after its start, so that a test which is about something else need not
        # wait for it. Until then it is within its watch: a crash takes it back (test_rollback.py, test_watch.py).
        self.configure(hostname="liutian-01", server=meta.server, interval=300, watch=0)

    # What an operator does

    def configure(self, **keys: Any) -> None:
        """Change keys of cfg.json; None takes one out."""
        self._config = {key: value for key, value in {**self._config, **keys}.items() if value is not None}
        (self.folder / "cfg.json").write_text(json.dumps(self._config))

    def updater(self, *argv: str, env: Mapping[str, str] = {}) -> Completed:
        """Run the executable to its end, without a terminal, as cron would."""
        process = self._start(*argv, env=env)
        try:
            out, err = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        completed = Completed(code=process.returncode, out=out, err=err)
        assert "Traceback" not in out + err, completed
        return completed

    def apply(self, *argv: str) -> Completed:
        """One pass, printed as JSON."""
        return self.updater("apply", "--once", "-o", "json", *argv)

    def plan(self, *argv: str) -> Completed:
        return self.updater("plan", "-o", "json", *argv)

    def status(self, *argv: str) -> Completed:
        return self.updater("status", "-o", "json", *argv)

    @contextmanager
    def daemon(self, *argv: str) -> Iterator[Daemon]:
        """Run the daemon for as long as the block lasts; if it still runs then, it gets SIGTERM."""
        daemon = Daemon(self._start("daemon", *argv))
        try:
            yield daemon
        finally:
            if daemon.runs:
                daemon.send(signal.SIGTERM)
            ended = daemon.ended()
        assert "Traceback" not in ended.err, ended

    def run(self, *argv: str) -> Completed:
        """Run another command in the same place, to its end."""
        process = self._processes.start(argv, cwd=ROOT, env=dict(os.environ))
        out, err = process.communicate(timeout=END_S)
        return Completed(code=process.returncode, out=out, err=err)

    def begin(self, *argv: str) -> Daemon:
        """Start the executable and go on."""
        return Daemon(self._start(*argv))

    def _start(self, *argv: str, env: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        # An environment of its own may be about Python's start itself.
        warm = None if env else self._warm
        command = self.command(*argv)
        if warm is not None:
            command = ["updater", *command[len(EXECUTABLE) :]]
        return self._processes.start(command, cwd=ROOT, env={**os.environ, **env}, warm=warm)

    def command(self, *argv: str) -> list[str]:
        """The words of a command line of this host's updater."""
        return [*EXECUTABLE, "-c", str(self.folder / "cfg.json"), *argv]

    def terminal(self, *argv: str, columns: int = 80, env: Mapping[str, str] = {}) -> Shown:
        """Run the executable to its end on a terminal. A script of a venv would not look at PYTHONIOENCODING."""
        command = self.command(*argv)
        if "PYTHONIOENCODING" in env:
            command = [sys.executable, "-m", "updater", *command[len(EXECUTABLE) :]]
        shown = on_terminal(self._processes, command, cwd=ROOT, columns=columns, env=env)
        assert "Traceback" not in shown.text, shown.text
        return shown

    def at_terminal(self, *argv: str, columns: int = 80, env: Mapping[str, str] = {}) -> Terminal:
        """Start the executable on a terminal and go on."""
        return Terminal(self._processes, self.command(*argv), cwd=ROOT, columns=columns, env=env)

    # What ops-meta's publisher does

    def publish(self, version: str, name: str = NAME, **habits: Any) -> None:
        """Publish a small release. It ends by itself after ten minutes, whatever becomes of the test."""
        self.meta.publish(name, version, build(name, version, **{"lifetime": 600, **habits}))

    def desire(self, version: str, cmd: str = "start", **keys: Any) -> None:
        """Desire the one agent at this version, and no other."""
        self.meta.desire(self.meta.agent(NAME, version, cmd, **keys))

    def install(self, version: str = "1.0.0", **habits: Any) -> int:
        """Publish, desire and apply the one agent; its pid, once it answers."""
        self.publish(version, **habits)
        self.desire(version)
        applied = self.apply()
        assert applied.code == 0, applied
        return self.ask().pid

    def settle(self) -> None:
        """Make the pass after a change: it finds it good (where `watch` is 0), and sweeps what is displaced."""
        settled = self.apply()
        assert (settled.code, settled.condition("Ready")) == (0, ("True", "AsDesired")), settled
        assert settled.actions() in ("", "prune"), settled

    # What is so

    def home(self, name: str = NAME) -> Path:
        return self.work / name

    def local_http(self) -> str:
        """Where the daemon serves, once it does: as its log said last."""
        log = self.var / "app.log"
        found: list[str] = []

        def served() -> bool:
            found[:] = re.findall(r"local HTTP: (http://\S+)", log.read_text()) if log.exists() else []
            return bool(found)

        until(served, "local HTTP is served")
        return found[-1]

    def ask(self, name: str = NAME) -> agents.AgentReply:
        """What the running agent says of itself."""
        return agents.ask(self.home(name), within=LIMIT_S)

    def pid(self, name: str = NAME) -> int | None:
        """The agent's pid if it lives."""
        return agents.pid_of(self.home(name))

    def crash(self, name: str = NAME) -> None:
        agents.crash(self.home(name))

    def version(self, name: str = NAME) -> str:
        return (self.home(name) / ".version").read_text()

    def downloads(self, *, since: int = 0) -> list[str]:
        """The tarballs that were asked for, by file name."""
        paths = [request.path for request in self.meta.requests[since:]]
        return [path.rpartition("/")[2] for path in paths if path.endswith(TARBALLS)]

    def history(self, name: str = NAME) -> list[dict[str, Any]]:
        """What the updater says that it did with an agent, the oldest first."""
        events = self.updater("history", name, "-o", "json").document["events"]
        assert isinstance(events, list)
        return events

    def versions(self, name: str = NAME) -> list[str]:
        """What lies in the home, except for the log of starts: versions, and litter if there is any."""
        return sorted(path.name for path in self.home(name).iterdir() if path.name not in (".start.log", ".version"))

    @property
    def log(self) -> str:
        path = self.var / "app.log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, words: str) -> None:
        until(lambda: words in self.log, f"the log says {words!r}")


def snapshot(*folders: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below the folders: by path its mode, the time of its last change, and its content."""
    found = {}
    for path in [below for folder in folders for below in [folder, *folder.rglob("*")]]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found
