"""The daemon's wait as a small process, with a small program in the daemon's place: it leaves itself there, and says
what it comes back with. The daemon itself is in tests/e2e/test_standby.py."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from updater.service.locks import Busy, pid_file
from updater.service.waiter import Document

pytestmark = [
    pytest.mark.slow,
    pytest.mark.python_sensitive,
    pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux to wait so"),
]

PROGRAM = """
import fcntl, json, os, signal, subprocess, sys, time
from pathlib import Path
from updater.service.waiter import Document, wait_if_left

folder = Path(sys.argv[1])
if "--check" in sys.argv:
    exec((folder / "check.py").read_text())
    sys.exit()
content = json.loads((folder / "content.json").read_text())
back = Document.inherited(os.getpid())
if back is not None:
    wait_if_left()  # it was here: it goes on
    blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    print(json.dumps({**back.content, "blocked": blocked, "came_at": time.time()}))
    sys.exit()
content.update(pid=os.getpid(), at=time.time() + content.pop("in_s"))
content["reload_from"] += time.monotonic()
for name, path in ("folder", folder), ("pid_file", folder / "var/app.pid"):
    content[f"{name}_path"], content[name] = str(path), os.open(path, os.O_RDWR if name == "pid_file" else os.O_RDONLY)
    os.set_inheritable(content[name], True)
if content.pop("locks"):
    fcntl.flock(content["pid_file"], fcntl.LOCK_EX)
if content.pop("child"):
    subprocess.Popen(["sleep", "0.2"])
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
Document.new(content)
print("waits", flush=True)
wait_if_left()
"""
HOUR_S = 3600.0


class Waiting:
    """A program that waits. `folder`: as an updater's, with var/app.pid. `check`: what is done where it is loaded."""

    def __init__(self, folder: Path, *, check: str = "", **content: Any) -> None:
        self.folder = folder
        if not folder.exists():
            (folder / "var").mkdir(parents=True)
        (folder / "var/app.pid").write_text("1234\n")
        (folder / "program.py").write_text(PROGRAM)
        self.check(check)
        said = {
            "in_s": HOUR_S,
            "interval_s": 2 * HOUR_S,
            "resumes": False,
            "shown": None,
            "notify": {},
            "reload": False,
            "reload_from": 0.0,
            "logged": ["INFO", "ERROR"],
            "locks": False,
            "child": False,
            **content,
        }
        (folder / "content.json").write_text(json.dumps(said))
        root = str(Path(__file__).parents[3])
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "program.py"), str(folder)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "waits\n"

    def check(self, check: str) -> None:
        (self.folder / "check.py").write_text(check)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and what it said on both outputs, once it has ended."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def back(self) -> dict[str, Any]:
        """What it came back with."""
        code, out, err = self.end()
        assert (code, err) == (0, "")
        content = json.loads(out)
        assert isinstance(content, dict)
        return content

    def log(self) -> list[str]:
        path = self.folder / "var/app.log"
        return path.read_text().splitlines() if path.exists() else []

    def until_logged(self, words: str, times: int = 1) -> None:
        until(lambda: sum(words in line for line in self.log()) >= times)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.01)


Begin = Callable[..., Waiting]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    begun: list[Waiting] = []

    def one(**content: Any) -> Waiting:
        begun.append(Waiting(tmp_path / "ours", **content))
        return begun[-1]

    yield one
    for waiting in begun:
        if waiting.process.poll() is None:
            waiting.process.kill()
            waiting.process.communicate()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def notify(sock: socket.socket, watchdog_s: float | None = None) -> dict[str, str]:
    watchdog = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
    return {"NOTIFY_SOCKET": sock.getsockname(), **watchdog}


# When it comes back


def test_it_comes_back_at_its_time_with_what_it_left(begin: Begin) -> None:
    before = time.time()
    waiting = begin(in_s=0.5, kept="a word")
    content = waiting.back()
    assert before + 0.5 <= content["at"] <= content["came_at"] < content["at"] + 30
    assert (content["resumes"], content["reload"], content["kept"]) == (True, False, "a word")
    assert signal.SIGCHLD not in content["blocked"]
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= set(content["blocked"]), "until the daemon has handlers"
    assert (waiting.folder / "var/app.pid").read_text() == "1234\n"
    assert waiting.log() == []


def test_a_clock_that_was_set_back_costs_one_interval_at_most(begin: Begin) -> None:
    content = begin(in_s=1e6, interval_s=0.5).back()
    assert content["at"] <= content["came_at"]


def test_a_reload_is_made_at_once_and_not_before_it_may_be(begin: Begin) -> None:
    waiting = begin()
    waiting.send(signal.SIGHUP)
    assert waiting.back()["reload"] is True
    began = time.time()
    waiting = begin(reload_from=1.0)
    waiting.send(signal.SIGHUP)
    content = waiting.back()
    assert content["reload"] is True
    assert content["came_at"] >= began + 1.0


def test_a_reload_that_was_asked_for_before_the_wait_is_made(begin: Begin) -> None:
    assert begin(reload=True, reload_from=0.3).back()["reload"] is True


def test_a_var_that_is_removed_is_made_again_by_the_daemon(begin: Begin, manager: socket.socket) -> None:
    waiting = begin(notify=notify(manager, watchdog_s=0.4))
    assert manager.recv(100) == b"WATCHDOG=1"
    (waiting.folder / "var/app.pid").unlink()
    assert waiting.back()["resumes"] is True


# How it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(begin: Begin, manager: socket.socket, number: signal.Signals) -> None:
    waiting = begin(notify=notify(manager))
    waiting.send(number)
    assert waiting.end() == (0, "", "")
    assert (waiting.folder / "var/app.pid").read_text() == ""
    [line] = waiting.log()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO    ended", line)
    assert (waiting.folder / "var/app.log").stat().st_mode & 0o777 == 0o600
    assert manager.recv(100) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000"


def test_a_folder_that_is_gone_ends_it(begin: Begin, manager: socket.socket) -> None:
    waiting = begin(notify=notify(manager, watchdog_s=0.4))
    away = waiting.folder.rename(waiting.folder.with_name("away"))
    code, out, err = waiting.end()
    lost = f"{waiting.folder} was removed or moved away while its daemon ran"
    assert (code, out) == (78, "")
    assert err == f"updater: {lost}, which ends; the agents run on. Start it where it lies now\n"
    [line] = (away / "var/app.log").read_text().splitlines()
    assert line.endswith(f" ERROR   {lost}: it ends")
    assert (away / "var/app.pid").read_text() == ""


def test_lines_of_a_level_that_is_not_logged_are_not(begin: Begin) -> None:
    waiting = begin(logged=["ERROR"])
    waiting.send(signal.SIGTERM)
    assert waiting.end()[0] == 0
    assert waiting.log() == []


@pytest.mark.parametrize("what", ["fifo", "link", "folder"])
def test_a_log_that_is_no_file_costs_its_lines_alone(begin: Begin, tmp_path: Path, what: str) -> None:
    waiting = begin()
    log, precious = waiting.folder / "var/app.log", tmp_path / "precious"
    precious.write_text("precious")
    match what:
        case "fifo":
            os.mkfifo(log)
        case "link":
            log.symlink_to(precious)
        case _:
            log.mkdir()
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting.send(signal.SIGTERM)
        assert waiting.end() == (0, "", "")
        assert what != "fifo" or os.read(reader, 100) == b""
    finally:
        os.close(reader)
    assert precious.read_text() == "precious"


# A program that can't be loaded


def test_a_program_that_can_not_be_loaded_is_tried_again_at_the_next_slot(begin: Begin, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    # Said on both outputs, and an empty line last: the last words count.
    check = f"open({str(tries)!r}, 'a').write('x')\nprint('first')\nsys.exit('no module named attrs\\n \\n')\n"
    waiting = begin(check=check, in_s=0.3, interval_s=0.5)
    waiting.until_logged(
        "no pass was made: the updater can't be loaded: no module named attrs; tried again at the next slot", times=2
    )
    assert len(tries.read_text()) >= 2
    assert all(" ERROR   " in line for line in waiting.log())
    waiting.check("")
    content = waiting.back()
    assert (content["resumes"], signal.SIGCHLD in content["blocked"]) == (True, False)


def test_one_that_ends_without_a_word_is_named_by_its_exit_code(begin: Begin) -> None:
    waiting = begin(check="sys.exit(7)")
    waiting.send(signal.SIGHUP)
    waiting.until_logged("the updater can't be loaded: it ended with 7; tried")
    waiting.check("os.kill(os.getpid(), 9)")
    waiting.send(signal.SIGHUP)
    waiting.until_logged("the updater can't be loaded: it ended with -9; tried")


def test_the_end_of_what_a_failed_load_says_is_logged(begin: Begin) -> None:
    waiting = begin(check="print('x' * 9000, 'the end')\nsys.exit(1)")
    waiting.send(signal.SIGHUP)
    waiting.until_logged("the end; tried again")
    assert 4000 < len(waiting.log()[0]) < 4400


def test_after_a_failure_a_reload_tries_again_and_nothing_else_before_the_slot(
    begin: Begin, manager: socket.socket, tmp_path: Path
) -> None:
    waiting = begin(notify=notify(manager, watchdog_s=0.4))
    tries = tmp_path / "tries"
    waiting.check(f"open({str(tries)!r}, 'a').write('x')\nsys.exit('broken')")
    waiting.send(signal.SIGHUP)
    waiting.until_logged("broken")
    (waiting.folder / "var/app.pid").rename(waiting.folder / "var/old.pid")
    for _ in range(5):  # it looks at var/ each time, and does not try again for that
        assert manager.recv(100) == b"WATCHDOG=1"
    assert tries.read_text() == "x"
    waiting.send(signal.SIGHUP)
    waiting.until_logged("broken", times=2)
    waiting.check("")
    waiting.send(signal.SIGHUP)
    assert waiting.back()["reload"] is True


@contextmanager
def hanging_load(waiting: Waiting, begun: Path) -> Iterator[None]:
    """Have it load a program that does not come to its end."""
    waiting.check(f"Path({str(begun)!r}).write_text(str(os.getpid()))\ntime.sleep(600)")
    waiting.send(signal.SIGHUP)
    until(lambda: begun.exists() and begun.read_text() != "")
    try:
        yield
    finally:
        os.kill(int(begun.read_text()), signal.SIGKILL)


def test_a_signal_ends_it_while_a_load_hangs(begin: Begin, tmp_path: Path) -> None:
    waiting = begin()
    with hanging_load(waiting, tmp_path / "begun"):
        waiting.send(signal.SIGTERM)
        assert waiting.end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_load_that_outlives_it_is_no_daemon_and_another_one_can_start(
    begin: Begin, tmp_path: Path, number: signal.Signals
) -> None:
    waiting = begin(locks=True)
    with pytest.raises(Busy), pid_file(waiting.folder / "var"):
        pass
    with hanging_load(waiting, tmp_path / "begun"):
        waiting.send(number)
        waiting.end()
        with pid_file(waiting.folder / "var"):
            pass


def test_the_program_is_loaded_with_no_signal_blocked(begin: Begin, tmp_path: Path) -> None:
    said = tmp_path / "said"
    waiting = begin()
    waiting.check(f"Path({str(said)!r}).write_text(str(list(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))")
    waiting.send(signal.SIGHUP)
    waiting.back()
    assert said.read_text() == "[]"


# What others see of it


def test_what_ends_meanwhile_is_no_zombie(begin: Begin) -> None:
    waiting = begin(child=True)
    children = Path(f"/proc/{waiting.process.pid}/task/{waiting.process.pid}/children")
    until(lambda: children.read_text() == "")
    waiting.send(signal.SIGTERM)
    assert waiting.end()[0] == 0


def test_its_command_line_is_what_it_was_shown_as(begin: Begin) -> None:
    waiting = begin(shown="as it was shown\0and so on")
    until(lambda: Path(f"/proc/{waiting.process.pid}/cmdline").read_bytes().startswith(b"as it was shown\0and so on"))


def test_a_service_manager_hears_of_it_as_often_as_it_asked(begin: Begin, manager: socket.socket) -> None:
    begin(notify=notify(manager, watchdog_s=0.4))
    began = time.monotonic()
    for _ in range(4):
        assert manager.recv(100) == b"WATCHDOG=1"
    assert time.monotonic() - began < 30


# The document


def test_a_document_is_for_the_process_that_left_it() -> None:
    document = Document.new({"pid": os.getpid() + 1, "word": "x" * 100_000})
    try:
        assert Document.inherited(os.getpid()) is None
        found = Document.inherited(os.getpid() + 1)
        assert found is not None
        assert (found.fd, found.content) == (document.fd, document.content)
        document.content["word"] = "short"
        document.write()
        again = Document.inherited(os.getpid() + 1)
        assert again is not None
        assert again.content["word"] == "short"
        assert os.get_inheritable(document.fd)
    finally:
        os.close(document.fd)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"pid": 0}'])
def test_what_is_no_document_of_ours_is_none(content: bytes) -> None:
    fd = os.memfd_create("ops-updater-daemon", 0)
    try:
        os.write(fd, content)
        assert Document.inherited(os.getpid()) is None
    finally:
        os.close(fd)
