"""Standard output and standard error that go away, or were closed before: no traceback, and no harm to any file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import pytest

from reconcile.storage.store import read_state
from tests.e2e.host import END_S, EXECUTABLE, NAME, Host
from tests.e2e.processes import until

pytestmark = pytest.mark.slow

COMMANDS = (["status"], ["why", NAME], ["apply", "--once"], ["status", "-o", "json"])


def run(host: Host, argv: Sequence[str], redirect: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a shell with this redirection."""
    line = f'exec "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *host.command(*argv)], capture_output=True, text=True, timeout=END_S, check=False
    )


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_error(host: Host, redirect: str) -> None:
    host.install("1.0.0")
    for argv in COMMANDS:
        ended = run(host, argv, redirect)
        assert "Traceback" not in ended.stdout + ended.stderr, (argv, ended)
        assert "please report it" not in ended.stdout + ended.stderr, (argv, ended)
        assert ended.returncode in (0, 3), (argv, ended)
    wrong = run(host, ["status", "nobody"], redirect)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (64, False)
    assert read_state(host.var / "state.db").trouble == "", "nothing was printed into it"


@pytest.mark.parametrize("stream", [1, 2])
def test_a_reader_that_has_gone_is_no_error(host: Host, stream: int) -> None:
    host.install("1.0.0")
    for argv in (*COMMANDS, ["status", "nobody"]):
        ours, its = os.pipe()
        os.close(ours)
        other = subprocess.PIPE
        out, err = (its, other) if stream == 1 else (other, its)
        process = subprocess.Popen(host.command(*argv), stdout=out, stderr=err, text=True)
        os.close(its)
        said = "".join(text or "" for text in process.communicate(timeout=END_S))
        assert "Traceback" not in said, (argv, said)
        assert "Exception ignored" not in said, (argv, said)
        assert process.returncode in (0, 3, 64), (argv, said)


HELPS: tuple[list[str], ...] = ([], ["--help"], ["--version"], ["help"], ["plan", "--help"])


@pytest.mark.parametrize("argv", HELPS, ids=" ".join)
def test_a_help_that_is_not_read_to_its_end_is_no_error(argv: list[str]) -> None:
    ours, its = os.pipe()
    os.close(ours)
    ended = subprocess.run([*EXECUTABLE, *argv], stdout=its, stderr=subprocess.PIPE, text=True, timeout=END_S)
    os.close(its)
    assert (ended.returncode, ended.stderr) == (0 if argv else 64, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_that_is_full_is_said_in_one_line(host: Host) -> None:
    host.install("1.0.0")
    for argv in (*COMMANDS, ["history"], ["config", "show"], ["--help"]):
        ended = run(host, argv, ">/dev/full")
        silent = argv == ["apply", "--once"]
        assert ended.returncode == (0 if silent else 1), (argv, ended)
        said = "" if silent else "updater: standard output can't be written: No space left on device\n"
        assert ended.stderr == said, argv


@pytest.mark.parametrize("argv", [["status"], ["history"], ["apply", "--once"]])
def test_a_terminal_that_has_gone_is_no_error(host: Host, argv: list[str]) -> None:
    host.install("1.0.0")
    terminal = host.at_terminal(*argv)
    terminal.go_away()
    assert terminal.end().code in (0, 3)
    log = host.log if (host.var / "app.log").exists() else ""
    assert "please report it" not in log
    assert "Traceback" not in log


def test_a_daemon_whose_terminal_closes_goes_on_and_keeps_its_log(host: Host) -> None:
    host.install("1.0.0")
    terminal = host.at_terminal("daemon", "--now")
    terminal.wait_for("started, pid")
    terminal.go_away()
    host.crash()
    pid = int((host.var / "app.pid").read_text())
    os.kill(pid, 1)  # what a terminal's end sends: the config is read again
    host.wait_for_log("config read again")
    os.kill(pid, 15)
    until(lambda: "ended" in host.log.splitlines()[-1], "it ends when it is asked to")
    assert "Traceback" not in host.log
    assert terminal.end().code == 0
