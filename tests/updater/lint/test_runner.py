"""Which processes lint takes for the agent's: those that come once it follows them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from probes.host.facts import own_user
from updater.lint.runner import Runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are followed on Linux alone")


def test_what_ran_below_us_before_is_none_of_the_agents(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as before:
        try:
            with Runner(tmp_path, own_user()) as runner:
                assert (runner.alive(), runner.roots(), runner.kill_all()) == ((), frozenset(), ())
            assert before.poll() is None
        finally:
            before.kill()


def test_whose_end_another_waits_for_is_left_to_that_one(tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", "read -r line; exit 7"], stdin=subprocess.PIPE) as before:
        with Runner(tmp_path, own_user()) as runner:
            assert before.stdin is not None
            before.stdin.close()
            with Path(f"/proc/{before.pid}/stat").open() as stat:
                while stat.seek(0) == 0 and ") Z" not in stat.read():
                    pass
            runner.end_all()
        assert before.wait() == 7
