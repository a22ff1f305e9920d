"""The demo's stage: a scratch folder, an ops-meta on loopback, and a real updater to command.

It runs the real `updater` and asks the real agent, and what they say is what it shows. When the curtain falls, however
that comes about, the agents are ended and the folder is gone. What is played is in story.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from types import FrameType

from updater.demo.agent import AgentReply, ask, end_all
from updater.demo.narration import Narrator
from updater.demo.ops_meta import DemoOpsMeta

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_CODES = {3: "an agent is not as desired", 4: "an agent was rolled back, and the old version runs"}
_COMMAND_LIMIT_S = 60
_ANSWER_LIMIT_S = 10
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class DemoFailed(Exception):
    """What happened is not what the story says. The message is for people."""


class DemoSandbox:
    """What the acts are played with. `work_dir` is where the agents live, `meta` what desires them."""

    def __init__(self, folder: Path, meta: DemoOpsMeta, narrator: Narrator) -> None:
        self.folder = folder
        self.work_dir = folder / "agents"
        self.meta = meta
        self.narrator = narrator
        self._updater_folder = folder / "updater"
        self._updater_folder.mkdir()
        self.config = self._updater_folder / "cfg.json"
        # What is new is good after two seconds, so that the story need not wait for it; the default is thirty. A start
        # that fails is given up after ten, whatever else this user starts meanwhile.
        content = {"server": meta.address, "watch": 2, "control_timeout": {"start": 10}}
        self.config.write_text(json.dumps(content) + "\n")

    @property
    def log(self) -> Path:
        return self._updater_folder / "var" / "app.log"

    def updater(self, *words: str, expect: int = 0) -> str:
        """Run the real command beside its cfg.json, show what it prints and return that. Raise DemoFailed.

        `expect`: the exit code that the story needs.
        """
        typed = " ".join(("updater", *words))
        self.narrator.command(typed)
        color = "always" if self.narrator.coloured else "never"
        printed, code = _run((*words, "--color", color), self._updater_folder, self.narrator.columns)
        if printed:
            self.narrator.output(printed)
        if code != expect:
            raise DemoFailed(f"`{typed}` ended with exit code {code}, and the story needs {expect}")
        if code:
            self.narrator.fact(f"its exit code is {code}: {_EXIT_CODES[code]}")
        return _ESCAPE.sub("", printed)

    def ask(self, home: Path) -> AgentReply:
        """Ask the running agent itself, over its TCP port. Raise DemoFailed if none answers."""
        try:
            return ask(home, within=_ANSWER_LIMIT_S)
        except TimeoutError as err:
            raise DemoFailed(str(err)) from None

    def ask_and_show(self, home: Path, version: str) -> AgentReply:
        """Ask it and show its answer. Raise DemoFailed if none comes, or that of another version."""
        answer = self.ask(home)
        greeting = f", greeting {answer.greeting!r}" if answer.greeting else ""
        words = f"the agent answers: {answer.name} {answer.version}, pid {answer.pid}{greeting}"
        self.claim(answer.version == version, words)
        return answer

    def claim(self, holds: bool, words: str) -> None:
        """Show a fact that the story rests on. Raise DemoFailed if it is none."""
        self.narrator.fact(words, holds=holds)
        if not holds:
            raise DemoFailed("the line marked NO is not as the story says")


@contextlib.contextmanager
def open_sandbox(narrator: Narrator) -> Iterator[DemoSandbox]:
    """Set the stage and strike it at the end, on Ctrl-C, SIGTERM and SIGHUP too, which become KeyboardInterrupt."""
    with _interruptible():
        folder = Path(tempfile.mkdtemp(prefix="demo-")).resolve()
        try:
            with DemoOpsMeta(work_dir=folder / "agents") as meta:
                yield DemoSandbox(folder, meta, narrator)
        finally:
            _ignore_signals()
            end_all(folder)
            shutil.rmtree(folder, ignore_errors=True)
            # Again, for one that a control script of a killed updater was just starting.
            end_all(folder)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        _ignore_signals()  # once is enough: a second one must not get between us and the clearing up
        raise KeyboardInterrupt

    # What we were started to ignore (nohup, a shell's `&`) stays ignored.
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, behaviour in before.items():
        if behaviour is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, behaviour in before.items():
            signal.signal(number, behaviour)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _run(words: tuple[str, ...], folder: Path, columns: int | None) -> tuple[str, int]:
    """Run `updater` in that folder; return what it printed on both its outputs, and its exit code.

    `columns`: it gets a terminal so wide for its output, and lays it out as for a person; None: a pipe.
    """
    code = Path(__file__).resolve().parents[2]
    # A packed updater is no installed module: Python runs its folder.
    run = [str(code)] if (code / "__main__.py").exists() else ["-m", "updater"]
    command = [sys.executable, "-I", *run, *words]
    environment = dict(os.environ)
    if not sys.flags.isolated:
        # Ours may be a checkout that is not installed, or an installation that PYTHONPATH leads to.
        command.remove("-I")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(code), environment.get("PYTHONPATH"))))
    ours, its = os.pipe() if columns is None else _terminal(columns)
    with tempfile.TemporaryFile("w+", dir=folder) as said, open(ours, "rb", buffering=0) as output:
        # A session of its own: Ctrl-C at the terminal is for us, and we end it in order.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=said,
            start_new_session=True,
        )
        os.close(its)
        try:
            printed = _read(output, time.monotonic() + _COMMAND_LIMIT_S)
            process.wait(timeout=_COMMAND_LIMIT_S)
        except TimeoutError:
            raise DemoFailed(f"`updater {' '.join(words)}` has not ended for {_COMMAND_LIMIT_S} s") from None
        finally:
            _end(process)
        said.seek(0)
        return printed.replace("\r\n", "\n") + said.read(), process.returncode


def _terminal(columns: int) -> tuple[int, int]:
    """Open a terminal so wide; return our side of it and a program's."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    return ours, its


def _read(output: RawIOBase, deadline: float) -> str:
    """Read to the end of what a program prints. Raise TimeoutError."""
    printed = b""
    while True:
        if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        try:
            chunk = output.read(65536)
        except OSError:  # how Linux says that the other side of a terminal is closed
            chunk = b""
        if not chunk:
            return printed.decode(errors="replace")
        printed += chunk


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it if it still runs. SIGTERM lets an updater finish the switch that it is in, so nothing starts later."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_COMMAND_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
