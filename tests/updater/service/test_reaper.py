"""What PID 1 of a container does beside its command. Here it is a subreaper (prctl(2)), which adopts orphans as PID 1
does; a real PID 1 is in tests/system."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.python_sensitive,
    pytest.mark.skipif(sys.platform != "linux", reason="a subreaper is Linux's"),
]

ROOT = Path(__file__).parents[3]
PROGRAM = """
import ctypes, os, signal, subprocess, sys, time
from updater.service.reaper import run_below_pid_1

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
before = os.getpid()
run_below_pid_1()
assert os.getppid() == before
{command}
"""
# Says each signal that arrives; USR2 ends it, with how many there were of each.
LISTENS = """
count = {}
def note(number, frame):
    count[number] = count.get(number, 0) + 1
    print(sorted(count.items()) if number == signal.SIGUSR2 else number, flush=True)
    if number == signal.SIGUSR2:
        os._exit(0)
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, note)
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)
while True:
    signal.pause()
"""


@contextmanager
def begun(command: str, *argv: str, starter: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """A program whose process reaps, with the command below it. `starter`: the words of what starts it."""
    words = [*starter, sys.executable, "-c", PROGRAM.format(command=command), *argv]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_it_ends_as_the_command_ends(command: str, code: int) -> None:
    with begun(command) as process:
        assert process.wait(60) == code


def test_exit_codes_are_known_though_it_was_started_to_ignore_the_ends_of_children() -> None:
    ignoring = ("sh", "-c", 'trap "" CHLD; exec "$@"', "sh")
    with begun("print(signal.getsignal(signal.SIGCHLD).name, flush=True); os._exit(7)", starter=ignoring) as process:
        assert (said(process), process.wait(60)) == ("SIG_DFL", 7)


def test_orphans_are_reaped_and_the_commands_own_children_are_not() -> None:
    command = """
orphans = subprocess.run(["sh", "-c", "for i in 1 2 3; do sleep 0.1 >/dev/null & echo $!; done"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout.split()
assert len(orphans) == 3
deadline = time.monotonic() + 60
while any(os.path.exists(f"/proc/{pid}") for pid in orphans):
    assert time.monotonic() < deadline
    time.sleep(0.01)
sys.exit(subprocess.run(["sh", "-c", "exit 9"]).returncode)
"""
    with begun(command) as process:
        assert process.wait(90) == 9


def test_each_signal_is_passed_on() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        with begun(LISTENS) as process:
            assert said(process) == "[]", "none is blocked in the command"
            process.send_signal(number)
            assert said(process) == str(number.value)
            process.send_signal(signal.SIGUSR2)
            assert said(process) == str(sorted([(number.value, 1), (12, 1)]))
            assert process.wait(60) == 0


def test_what_a_terminal_sends_to_the_whole_group_arrives_once() -> None:
    ours, theirs = pty.openpty()
    try:
        own = f"import fcntl, termios; fcntl.ioctl({theirs}, termios.TIOCSCTTY, 0)\n"
        program = own + PROGRAM.format(command=LISTENS)
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdin=theirs,
            stdout=subprocess.PIPE,
            pass_fds=[theirs],
            start_new_session=True,
            text=True,
        ) as process:
            assert said(process) == "[]"
            os.write(ours, b"\x03")
            assert said(process) == "2"
            process.send_signal(signal.SIGUSR2)
            assert said(process) == "[(2, 1), (12, 1)]"
            assert process.wait(60) == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_its_command_line_shows_no_word_and_no_path() -> None:
    with begun(LISTENS, "falcon-agent", "/srv/agents/heron-agent") as process:
        assert said(process) == "[]"
        shown = Path(f"/proc/{process.pid}/cmdline")
        deadline = time.monotonic() + 60
        while any(word in shown.read_bytes() for word in (b"falcon-agent", b"heron-agent", b"srv", b"/")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert shown.read_bytes().startswith(b"python")
        process.send_signal(signal.SIGUSR2)
        process.wait(60)
