"""The demo's stage: a scratch folder, an ops-meta on loopback, a real updater to command, and a voice that narrates.

It runs the real `updater` and asks the real agent, and what they say is what it shows. When the curtain falls, however
that comes about, the agents are ended and the folder is gone. What is played is in story.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from updater.demo.agent import Answer, ask, end_all
from updater.demo.ops_meta import OpsMeta
from updater.render import Palette

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_CODES = {3: "an agent is not as desired", 4: "an agent was rolled back, and the old version runs"}
_COMMAND_LIMIT_S = 60
_ANSWER_LIMIT_S = 10
_WIDEST = 100
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class OffScript(Exception):
    """What happened is not what the story says. The message is for people."""


class Voice:
    """How the story looks: coloured and folded to the width of a terminal, plain where there is none."""

    def __init__(self, color: str) -> None:
        """`color`: auto, always or never. NO_COLOR speaks where the choice is auto."""
        terminal = sys.stdout.isatty()
        self.coloured = color == "always" or (color == "auto" and terminal and "NO_COLOR" not in os.environ)
        self._paint = Palette(self.coloured)
        self._terminal = terminal
        self._width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns) if terminal else _WIDEST
        self._paragraph = "nothing yet"

    def headline(self, text: str) -> None:
        self._show("headline", self._paint("bold", text))

    def say(self, text: str) -> None:
        self._show("words", *_fold(f"  {text}", self._width, hang=0))

    def command(self, text: str) -> None:
        self._show("command", f"  {self._paint('dim', '$')} {self._paint('bold', text)}")
        self._paragraph = "output"

    def output(self, text: str) -> None:
        """Show what a program printed, word for word; a terminal gets long lines folded, so that the margin stays."""
        for line in text.rstrip("\n").split("\n"):
            shown = f"    {line}".rstrip()
            self._show("output", *(_fold(shown, self._width, hang=4) if self._terminal else [shown]))

    def fact(self, text: str, *, holds: bool = True) -> None:
        mark = self._paint("good", "ok") if holds else self._paint("bad", "NO")
        self._show("facts", *_fold(f"  {mark}  {text}", self._width, hang=4))

    def signposts(self, ways: Mapping[str, str]) -> None:
        widest = max(map(len, ways))
        self._show("ways", *(f"  {self._paint('bold', way)}{' ' * (widest - len(way))}  {ways[way]}" for way in ways))

    def _show(self, paragraph: str, *lines: str) -> None:
        """Print, with an empty line between paragraphs; flushed, so that a pipe too is told things as they happen."""
        if self._paragraph not in ("headline", paragraph):
            print()
        self._paragraph = paragraph
        print(*lines, sep="\n", flush=True)


class Stage:
    """What the acts are played with. `work_dir` is where the agents live, `meta` what desires them."""

    def __init__(self, folder: Path, meta: OpsMeta, voice: Voice) -> None:
        self.folder = folder
        self.work_dir = folder / "agents"
        self.meta = meta
        self.voice = voice
        self._updater_folder = folder / "updater"
        self._updater_folder.mkdir()
        self.config = self._updater_folder / "cfg.json"
        # What is new is good after two seconds, so that nobody has to wait for it here; the default is thirty.
        content = {"server": meta.server, "watch": 2, "control_timeout": {"start": 3}}
        self.config.write_text(json.dumps(content) + "\n")

    @property
    def log(self) -> Path:
        return self._updater_folder / "var" / "app.log"

    def updater(self, *words: str, expect: int = 0) -> str:
        """Run the real command beside its cfg.json, show what it prints and return that. Raise OffScript.

        `expect`: the exit code that the story needs.
        """
        typed = " ".join(("updater", *words))
        self.voice.command(typed)
        color = "always" if self.voice.coloured else "never"
        printed, code = _run(words, ("--color", color), self._updater_folder)
        if printed:
            self.voice.output(printed)
        if code != expect:
            raise OffScript(f"`{typed}` ended with exit code {code}, and the story needs {expect}")
        if code:
            self.voice.fact(f"its exit code is {code}: {_EXIT_CODES[code]}")
        return _ESCAPE.sub("", printed)

    def ask(self, home: Path) -> Answer:
        """Ask the running agent itself, over its TCP port. Raise OffScript if none answers."""
        try:
            return ask(home, within=_ANSWER_LIMIT_S)
        except TimeoutError as err:
            raise OffScript(str(err)) from None

    def hear(self, home: Path, version: str) -> Answer:
        """Ask it and show its answer. Raise OffScript if none comes, or that of another version."""
        answer = self.ask(home)
        greeting = f", greeting {answer.greeting!r}" if answer.greeting else ""
        words = f"the agent answers: {answer.name} {answer.version}, pid {answer.pid}{greeting}"
        self.claim(answer.version == version, words)
        return answer

    def claim(self, holds: bool, words: str) -> None:
        """Show a fact that the story rests on. Raise OffScript if it is none."""
        self.voice.fact(words, holds=holds)
        if not holds:
            raise OffScript("the line marked NO is not as the story says")


@contextlib.contextmanager
def open_stage(voice: Voice) -> Iterator[Stage]:
    """Set the stage and strike it at the end, on Ctrl-C, SIGTERM and SIGHUP too, which become KeyboardInterrupt."""
    with _interruptible():
        folder = Path(tempfile.mkdtemp(prefix="demo-")).resolve()
        try:
            with OpsMeta(work_dir=folder / "agents") as meta:
                yield Stage(folder, meta, voice)
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


def _run(words: tuple[str, ...], more: tuple[str, ...], folder: Path) -> tuple[str, int]:
    """Run `updater` in that folder; return what it printed on both its outputs, and its exit code."""
    code = Path(__file__).resolve().parents[2]
    # A packed updater is no installed module: Python runs its folder.
    run = [str(code)] if (code / "__main__.py").exists() else ["-m", "updater"]
    command = [sys.executable, "-I", *run, *words, *more]
    environment = dict(os.environ)
    if not sys.flags.isolated:
        # Ours may be a checkout that is not installed, or an installation that PYTHONPATH leads to.
        command.remove("-I")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(code), environment.get("PYTHONPATH"))))
    # A session of its own: Ctrl-C at the terminal is for us, and we end it in order.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        printed, _ = process.communicate(timeout=_COMMAND_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise OffScript(f"`updater {' '.join(words)}` has not ended for {_COMMAND_LIMIT_S} s") from None
    finally:
        _end(process)
    return printed, process.returncode


def _end(process: subprocess.Popen[str]) -> None:
    """End it if it still runs. SIGTERM lets an updater finish the switch that it is in, so nothing starts later."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=_COMMAND_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _fold(line: str, width: int, *, hang: int) -> list[str]:
    """Break a line between words where it is wider, and go on below its beginning, so much further in."""
    margin = " " * (len(line) - len(line.lstrip()) + hang)
    rows = [""]
    for word in re.findall(r"\s*\S+", line):
        if rows[-1] and len(_ESCAPE.sub("", rows[-1] + word)) > width:
            rows.append(margin + word.lstrip())
        else:
            rows[-1] += word
    return rows
