"""The subreaper: orphans are reaped, and exit codes are left to the code that waits for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import Processes, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def is_dead(pid: int) -> bool:
    """Whether it has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("by", ["subprocess", "start"])
def test_an_exit_code_is_left_to_its_waiter_and_orphans_are_reaped(by: str, processes: Processes) -> None:
    argv = ["sh", "-c", "exit 7"]
    child = subprocess.Popen(argv) if by == "subprocess" else processes.start(argv, cwd=Path("/"), env={})
    until(lambda: is_dead(child.pid), "it ends")
    printed = subprocess.run(["sh", "-c", "sleep 0 >/dev/null & echo $!"], capture_output=True, text=True)
    until(lambda: not Path(f"/proc/{printed.stdout.strip()}").exists(), "the orphan is reaped, and by then it was seen")
    if by == "start":
        child.communicate()
    assert child.wait() == 7


def test_afterwards_all_is_as_before() -> None:
    before = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    with Processes():
        assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7
    assert subprocess.Popen._execute_child is before  # type: ignore[attr-defined]
