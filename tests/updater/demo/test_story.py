"""The demo as a person runs it: to its end, interrupted, cut off, and where the story turns out to be untrue.

What it leaves behind is looked for in the folder that it is given for its scratch folder, and among the processes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from updater.demo.agent import end_all, running_below
from updater.demo.narration import Narrator

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 120  # it takes ten seconds; a slow machine is no failure
ACTS = (
    "1. A first install",
    "2. An upgrade, with a config from the server",
    "3. A crash, healed",
    "4. A change made by hand",
    "5. A corrupt tarball, refused",
    "6. A version that does not start, rolled back",
    "7. A stop",
)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    end_all(folder)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "updater", "demo", *options]


def environment(scratch: Path, **variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(scratch), **variables}


@contextmanager
def demo(scratch: Path, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run it in the background, its process ended at the end whatever comes."""
    process = subprocess.Popen(
        command(),
        cwd=scratch.parent,
        env=environment(scratch),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests may have been started to ignore Ctrl-C, as a shell's `&` does.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def assert_nothing_is_left(scratch: Path) -> None:
    assert list(scratch.iterdir()) == []
    assert running_below(scratch) == ()


def read_until(lines: IO[str], beginning: str) -> None:
    for line in lines:
        if line.startswith(beginning):
            return
    pytest.fail(f"the demo ended before it said {beginning!r}")


@pytest.mark.slow
def test_the_story_runs_to_its_end_and_is_plain_in_a_pipe(scratch: Path) -> None:
    result = subprocess.run(
        command(), cwd=scratch.parent, env=environment(scratch), capture_output=True, text=True, timeout=LIMIT_S
    )

    assert (result.returncode, result.stderr) == (0, ""), result
    assert "\x1b" not in result.stdout
    assert [line for line in result.stdout.splitlines() if re.match(r"\d\. ", line)] == list(ACTS)
    for shown in (
        "FirstInstall  install 1.0.0",
        "the agent answers: falcon-agent 1.0.0, pid",
        "VersionDiffers  1.0.0 -> 1.1.0",
        "the agent answers: falcon-agent 1.1.0, pid",
        "Healing  1.1.0 does not run",
        "ConfigInSync  False  ConfigEdited",
        "DigestMismatch: the tarball is md5:",
        "the agent runs on, the same process as before",
        "its exit code is 4: an agent was rolled back, and the old version runs",
        "| falcon-agent started..., pid=1",
        "1.3.0 is not tried again: Quarantined",
        "the next pass leaves the agent alone, the same process as before",
        "UnexpectedlyRunning  1.1.0 runs and must not",
        "the report to ops-meta says: falcon-agent 1.1.0 stoped",
    ):
        assert shown in result.stdout, shown
    assert "  NO  " not in result.stdout
    assert_nothing_is_left(scratch)


@pytest.mark.slow
def test_a_terminal_gets_colours_and_no_line_wider_than_itself(scratch: Path) -> None:
    ours, its = pty.openpty()
    with demo(scratch, stdout=its) as process:
        os.close(its)
        text = read_terminal(ours, process)
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(LIMIT_S)) == ("", 0), text

    assert "\x1b[1m1. A first install\x1b[0m" in text
    assert "\x1b[32mAsDesired\x1b[0m" in text, "the updater's own output is coloured too"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # A single word is never broken: here the scratch folder's own path is a long one.
    assert [line for line in plain.splitlines() if len(line) > 100 and " " in line.strip()] == []
    assert "\x1b" not in plain
    assert_nothing_is_left(scratch)


def read_terminal(terminal: int, process: subprocess.Popen[str]) -> str:
    """Read what it shows until it has ended."""
    deadline = time.monotonic() + LIMIT_S
    shown = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if not ready and process.poll() is not None:
            break
        if ready:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
    os.close(terminal)
    return shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    with demo(scratch) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read_until(process.stdout, ACTS[1])
        assert len(running_below(scratch)) == 1
        process.send_signal(number)
        process.stdout.read()
        complaint = process.stderr.read()

    assert process.returncode == 130
    assert complaint == "updater: demo interrupted; its agents are ended and its folder is removed\n"
    assert_nothing_is_left(scratch)


@pytest.mark.slow
def test_a_reader_who_leaves_early_leaves_nothing_behind(scratch: Path) -> None:
    with demo(scratch) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read_until(process.stdout, ACTS[1])
        process.stdout.close()
        complaint = process.stderr.read()

    assert (process.returncode, complaint) == (0, "")
    assert_nothing_is_left(scratch)


@pytest.mark.slow
def test_a_demo_that_leaves_its_script_says_so(scratch: Path) -> None:
    refused = scratch / "control\x01codes"  # no workDir may have them, so the first install is refused
    refused.mkdir()

    result = subprocess.run(
        command(), cwd=scratch.parent, env=environment(refused), capture_output=True, text=True, timeout=LIMIT_S
    )

    assert result.returncode == 1
    assert result.stderr.startswith(
        "updater: the demo did not go as it should: `updater apply --once` ended with exit code 3, "
        "and the story needs 0; please report it\n"
    )
    assert "The last lines of the updater's log:" in result.stderr
    assert "InvalidSpec" in result.stderr
    assert ACTS[1] not in result.stdout
    assert_nothing_is_left(refused)


@pytest.mark.parametrize("keys", [b"\n", b" \n"], ids=["Enter", "a space, then Enter"])
def test_a_reader_turns_the_page(monkeypatch: pytest.MonkeyPatch, keys: bytes) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, its = pty.openpty()
    with os.fdopen(its, "r+b", buffering=0) as terminal, os.fdopen(os.dup(its), "w") as out:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", out)
        speaking = Narrator("never", after_an_act_s=3600.0)
        speaking.headline("1. One")
        before = termios.tcgetattr(its)
        os.write(ours, keys)
        speaking.headline("2. Two")
        assert termios.tcgetattr(its) == before
        monkeypatch.undo()
        shown = ""
        while "2. Two" not in shown:
            shown += os.read(ours, 65536).decode()
    os.close(ours)
    assert "Enter: go on    space: wait" in shown
    assert shown.index("1. One") < shown.index("\x1b[H") < shown.index("2. Two")


def test_a_terminal_of_no_width_gets_the_story_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 1, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(its, "w") as terminal, monkeypatch.context() as patch:
        for name in ("stdout", "__stdout__"):
            patch.setattr(sys, name, terminal)
        columns = Narrator("auto").columns
    os.close(ours)

    assert columns is not None
    assert columns > 0


@pytest.mark.parametrize(
    ("color", "no_color", "coloured"),
    [("auto", None, True), ("auto", "1", False), ("always", "1", True), ("never", None, False)],
)
def test_who_asks_for_no_colour_gets_none(
    monkeypatch: pytest.MonkeyPatch, color: str, no_color: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    ours, its = pty.openpty()
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert Narrator(color).coloured is coloured
        monkeypatch.undo()
    os.close(ours)
