"""The demo's agents as real processes, started, stopped and asked through the control scripts of real tarballs.

All of it from a folder whose path has blanks in it.
"""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sample_agents import build, build_file
from updater.demo import tarball
from updater.demo.agent import ask, crash, end_all, pid_of, running_below

STARTED, STOPPED = "started\n", "stoped\n"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An agent's home that is empty. Whatever runs below it in the end is killed."""
    folder = tmp_path / "a work dir" / "falcon-agent"
    folder.mkdir(parents=True)
    yield folder
    end_all(tmp_path)


def install(home: Path, version: str = "1.0.0", **how: Any) -> Path:
    """Unpack a version and name it in `.version`; return its folder."""
    return unpack(build(home.name, version, **how), home, version)


def unpack(packed: bytes, home: Path, version: str) -> Path:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        if sys.version_info >= (3, 12):
            tar.extractall(home / version, filter="data")
        else:
            tar.extractall(home / version)
    (home / ".version").write_text(version + "\n")
    return home / version


def control(folder: Path, verb: str, timeout: float = 20) -> tuple[int, str]:
    """Run the script as the field does, from elsewhere; return its exit code and all that it printed."""
    done = subprocess.run(
        [folder / "control", verb],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        text=True,
    )
    return done.returncode, done.stdout


def status(folder: Path) -> str:
    return control(folder, "status")[1]


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.002)


def test_the_life_of_an_agent(home: Path) -> None:
    folder = install(home)
    assert status(folder) == STOPPED
    assert pid_of(home) is None

    code, words = control(folder, "start")
    answer = ask(home)
    assert (code, words) == (0, f"falcon-agent started..., pid={answer.pid}\n")
    assert (answer.name, answer.version, answer.greeting) == ("falcon-agent", "1.0.0", "")
    assert answer.pid == pid_of(home) == int((folder / "app.pid").read_text())
    assert status(folder) == STARTED

    code, words = control(folder, "start")
    assert (code, words) == (1, f"falcon-agent now is running already, pid={answer.pid}\n")
    assert ask(home) == answer

    assert control(folder, "stop") == (0, "falcon-agent stoped...\n")
    assert (status(folder), pid_of(home), running_below(home)) == (STOPPED, None, ())
    assert control(folder, "stop") == (1, "falcon-agent is not running\n")
    assert (folder / "app.log").read_text().splitlines()[-1].endswith("falcon-agent 1.0.0 ends")


def test_the_demos_own_tarball(home: Path) -> None:
    folder = unpack(tarball.build(home.name, "1.0.0"), home, "1.0.0")
    assert status(folder) == STOPPED
    for _ in range(2):
        assert control(folder, "start")[0] == 0
    assert ask(home).version == "1.0.0"
    assert (status(folder), running_below(home)) == (STARTED, (ask(home).pid,))
    for _ in range(2):
        assert control(folder, "stop")[0] == 0
    assert (status(folder), running_below(home)) == (STOPPED, ())

    broken = unpack(tarball.build(home.name, "2.0.0", starts=False), home, "2.0.0")
    assert control(broken, "start") == (0, "falcon-agent started..., pid=1\n")
    assert (status(broken), running_below(home)) == (STOPPED, ())


def test_the_script_is_called_from_its_own_folder_too(home: Path) -> None:
    folder = install(home)
    subprocess.run(["./control", "start"], cwd=folder, check=True)
    assert ask(home).version == "1.0.0"
    assert subprocess.run(["sh", "./control"], cwd=folder, capture_output=True).returncode == 1


def test_a_crash_is_seen_and_healed(home: Path) -> None:
    folder = install(home)
    control(folder, "start")
    first = ask(home)
    assert crash(home) == first.pid
    assert status(folder) == STOPPED
    with pytest.raises(ProcessLookupError):
        crash(home)
    with pytest.raises(TimeoutError, match="no agent of"):
        ask(home, within=0)
    assert control(folder, "start")[0] == 0
    assert ask(home).pid != first.pid


def test_a_stranger_on_its_port_is_not_taken_for_it(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        folder = install(home)
        (folder / "app.pid").write_text(f"{os.getpid()}\n")
        (folder / "port").write_text(f"{stranger.getsockname()[1]}\n")

        def speak() -> None:
            asker, _ = stranger.accept()
            with asker:
                asker.sendall(b"\xff\xfe no words")

        speaking = threading.Thread(target=speak)
        speaking.start()
        with pytest.raises(TimeoutError, match="no agent of"):
            ask(home, within=0)
        speaking.join()
    (folder / "app.pid").unlink()


def test_its_greeting_comes_from_its_config_as_it_was_at_the_start(home: Path) -> None:
    folder = install(home, extra={"cfg.json": b'{"greeting": "hello"}'})
    control(folder, "start")
    assert ask(home).greeting == "hello"
    (folder / "cfg.json").write_text('{"greeting": "good evening"}')
    assert ask(home).greeting == "hello"
    control(folder, "stop")
    control(folder, "start")
    assert ask(home).greeting == "good evening"


def test_a_broken_config_keeps_it_from_coming_up(home: Path) -> None:
    folder = install(home, extra={"cfg.json": b"{"})
    assert control(folder, "start")[0] == 0
    eventually(lambda: pid_of(home) is None)
    assert status(folder) == STOPPED
    assert "JSONDecodeError" in (folder / "app.log").read_text()


def test_versions_side_by_side_and_with_a_shared_pid_file(home: Path) -> None:
    old, new = install(home, "1.0.0"), install(home, "2.0.0")
    control(old, "start")
    assert (ask(home, version="1.0.0").version, pid_of(home)) == ("1.0.0", None)
    assert (status(old), status(new)) == (STARTED, STOPPED)
    control(old, "stop")

    old, new = install(home, "3.0.0", shared_pid_file=True), install(home, "4.0.0", shared_pid_file=True)
    control(old, "start")
    assert ask(home).version == "3.0.0"
    assert (status(old), status(new)) == (STARTED, STARTED)
    assert control(new, "stop")[0] == 0
    assert status(old) == STOPPED


def test_another_process_may_have_a_command_line_of_any_bytes(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", b"\xff\xfe"], stdin=subprocess.PIPE) as other:
        try:
            assert running_below(home) == ()
        finally:
            other.kill()


def test_running_below_finds_those_whose_folder_is_gone(home: Path) -> None:
    folder = install(home)
    control(folder, "start")
    pid = ask(home).pid
    folder.rename(home / "elsewhere")
    (home / "elsewhere" / "app.pid").unlink()
    assert pid_of(home) is None
    assert running_below(home) == (pid,)
    assert running_below(home.parent / "other") == ()
    assert end_all(home) == (pid,)
    assert running_below(home) == ()


# Habits


def test_broken_start(home: Path) -> None:
    folder = install(home, broken_start=True)
    assert control(folder, "start") == (0, "falcon-agent started..., pid=1\n")
    assert (status(folder), running_below(home)) == (STOPPED, ())


def test_slow_start_is_not_started_until_it_listens(home: Path) -> None:
    folder = install(home, "1.0.0", slow_start=600)
    assert control(folder, "start")[0] == 0
    assert pid_of(home) is not None
    assert status(folder) == STOPPED
    assert control(folder, "stop")[0] == 0
    folder = install(home, "2.0.0", slow_start=0.05)
    control(folder, "start")
    eventually(lambda: status(folder) == STARTED)
    assert ask(home).version == "2.0.0"


def test_slow_stop_is_waited_for(home: Path) -> None:
    folder = install(home, slow_stop=0.2)
    control(folder, "start")
    before = time.monotonic()
    assert control(folder, "stop")[0] == 0
    assert time.monotonic() - before >= 0.2
    assert (status(folder), running_below(home)) == (STOPPED, ())


def test_ignores_term(home: Path) -> None:
    folder = install(home, ignores_term=True)
    control(folder, "start")
    assert control(folder, "stop") == (0, "")
    assert status(folder) == STARTED
    os.kill(ask(home).pid, signal.SIGTERM)
    assert status(folder) == STARTED


def test_crash_after(home: Path) -> None:
    folder = install(home, crash_after=0.05)
    assert control(folder, "start")[0] == 0
    eventually(lambda: status(folder) == STOPPED)


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_hangs(home: Path, verb: str) -> None:
    folder = install(home, hangs=(verb,))
    with pytest.raises(subprocess.TimeoutExpired):
        control(folder, verb, timeout=0.2)
    assert all(control(folder, other)[1] for other in {"stop", "status"} - {verb})


def test_status_words(home: Path) -> None:
    folder = install(home, status_words=("It is\n  STARTED ", r"not\n started"))
    assert status(folder) == "not\\n started\n"
    control(folder, "start")
    assert status(folder) == "It is\n  STARTED \n"


def test_starts_and_stops_twice_with_0(home: Path) -> None:
    folder = install(home, start_exits_1_when_running=False)
    assert [control(folder, verb)[0] for verb in ("stop", "start", "start", "stop", "stop")] == [0] * 5


def test_keeps_stdout(home: Path) -> None:
    folder = install(home, keeps_stdout=True)
    started = subprocess.Popen([folder / "control", "start"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert started.wait(60) == 0
    ask(home)
    control(folder, "stop")
    printed = started.communicate(timeout=60)[0].decode()  # ends only now, since the agent held the other end
    assert "falcon-agent 1.0.0 listens" in printed


# Tarballs


def members(packed: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {member.name: (member.mode, member.size) for member in tar}


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert build("a", "1", size=3_000_000) == build("a", "1", size=3_000_000)
    assert build("a", "1", size=3_000_000)[-1_000_000:] != build("a", "2", size=3_000_000)[-1_000_000:]


def test_padding_does_not_compress(tmp_path: Path) -> None:
    packed = build_file(tmp_path / "a.tar.gz", "a", "1", size=3_000_000, extra={"conf/x": b"y"}).read_bytes()
    assert packed == build("a", "1", size=3_000_000, extra={"conf/x": b"y"})
    assert members(packed)["padding"] == (0o644, 3_000_000)
    assert len(gzip.compress(gzip.decompress(packed))) > 3_000_000


def test_what_is_in_a_tarball() -> None:
    assert {name: mode for name, (mode, _) in members(build("a", "1", extra={"cfg.json": b"{}"})).items()} == {
        "control": 0o755,
        "agent.py": 0o644,
        "cfg.json": 0o644,
    }
    assert set(members(build("a", "1", no_control=True))) == {"agent.py"}
    assert members(build("a", "1", control="#!/bin/sh\n"))["control"] == (0o755, 10)


def test_an_unknown_habit_is_an_error() -> None:
    with pytest.raises(TypeError, match="late_start"):
        build("a", "1", late_start=3)


def test_another_interpreter(home: Path, tmp_path: Path) -> None:
    interpreter = tmp_path / "the python"
    interpreter.write_text(f'#!/bin/sh\necho wrapped\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    folder = install(home, python=str(interpreter))
    control(folder, "start")
    assert ask(home).version == "1.0.0"
    assert "wrapped" in (folder / "app.log").read_text()
