"""`why` and `logs`: the ends of what an agent wrote itself, for the terminal of the person who asks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.updater.conftest import Folder

NAME = "falcon-agent"


@pytest.fixture
def installed(folder: Folder) -> Folder:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    return folder


def write(folder: Folder, name: str, lines: int, version: str = "1.0.0") -> Path:
    path = folder.home() / version / "logs" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{name} line {number}\n" for number in range(lines)))
    return path


def test_logs_are_the_last_lines_of_each_file_below_its_path(installed: Folder) -> None:
    first, second = write(installed, "a.log", 50), write(installed, "b.log", 2)
    ran = installed.run("logs", NAME)
    assert (ran.code, ran.err) == (0, "")
    said = ran.out.splitlines()
    assert said[said.index(f"==> {first} <==") + 1 :][:20] == [f"a.log line {number}" for number in range(30, 50)]
    assert said[said.index(f"==> {second} <==") + 1 :][:2] == ["b.log line 0", "b.log line 1"]
    assert said.count("") == sum(line.startswith("==>") for line in said) - 1, "a blank line between two files"
    assert said[0].startswith("==>")
    few = installed.run("logs", NAME, "-n", "3").out.splitlines()
    assert [line for line in few if line.startswith("a.log")] == [f"a.log line {number}" for number in (47, 48, 49)]


def test_ctrl_c_ends_what_was_to_follow_and_is_no_error(installed: Folder) -> None:
    path = write(installed, "a.log", 1)
    with installed.start("logs", NAME, "-f") as following:
        try:
            assert following.stdout is not None
            while following.stdout.readline() != "a.log line 0\n":
                pass
            with path.open("a") as log:
                log.write("and more\n")
            while following.stdout.readline() != "and more\n":
                pass
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 0
        finally:
            following.kill()


def test_logs_of_one_that_wrote_none(folder: Folder) -> None:
    folder.want(cmd="stop")
    assert folder.run("apply", "--once").code == 0
    ran = folder.run("logs", NAME)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"updater: {NAME} wrote no log that can be read below {folder.home()}\n"


def test_logs_of_one_that_is_not_known(installed: Folder) -> None:
    ran = installed.run("logs", "heron")
    assert (ran.code, ran.out) == (64, "")
    assert "no agent is named heron" in ran.err


def test_why_shows_the_ends_of_the_newest_files(installed: Folder) -> None:
    for number in range(5):
        write(installed, f"{number}.log", 1000)
    ran = installed.run("why", NAME)
    quoted = [line.strip() for line in ran.out.splitlines() if line.strip().startswith("| ")]
    files = {line.split()[1] for line in quoted if " line " in line}
    assert files == {"2.log", "3.log", "4.log"}
    for file in files:
        own = [line for line in quoted if line.split()[1] == file]
        assert own[-1] == f"| {file} line 999"
        size = sum(len(line) - 1 for line in own)
        assert 3000 < size <= 4096


def test_what_holds_a_control_sign_is_harmless(installed: Folder) -> None:
    path = write(installed, "a.log", 0)
    path.write_bytes(b"\x1b[31mred\x07\n")
    for command in (("logs", NAME), ("why", NAME)):
        assert "\x1b" not in installed.run(*command).out
