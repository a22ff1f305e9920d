"""What only reads can't act: the real `plan` and `status` load no module of reconcile.act, and `status` no network."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.host import NAME, Host

# Run the command line as `python -m updater` does, then tell on standard error what it has loaded.
WRAPPER = """
import json, sys
from updater.cli import run
code = run(sys.argv[1:])
sys.stderr.write(json.dumps({"code": code, "loaded": sorted(sys.modules)}))
"""


def loaded_by(host: Host, *argv: str) -> set[str]:
    """The modules that a command has loaded by its end; it must have ended well."""
    completed = host.run(sys.executable, "-c", WRAPPER, "-c", str(host.folder / "cfg.json"), *argv)
    told = json.loads(completed.err)
    assert told["code"] == 0, completed
    return set(told["loaded"])


def acting(modules: set[str]) -> set[str]:
    return {
        name for name in modules if f"{name}.".startswith(("reconcile.act.", "reconcile.cycle.", "updater.daemon."))
    }


@pytest.mark.parametrize("argv", ["plan", "plan -o json", "plan --offline", "status", "status -o json"])
def test_a_command_that_only_reads_loads_nothing_that_acts(host: Host, argv: str) -> None:
    host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")

    assert acting(loaded_by(host, *argv.split())) == set()


def test_the_same_look_at_apply_finds_what_acts(host: Host) -> None:
    """Or the test above would prove nothing."""
    host.install("1.0.0")
    assert "reconcile.act.executor" in acting(loaded_by(host, "apply", "--once"))


def test_status_loads_no_network_no_log_and_no_archives(host: Host) -> None:
    host.install("1.0.0")
    slow = {"httpx", "httpcore", "tenacity", "loguru", "tarfile", "ssl"}
    assert loaded_by(host, "status") & slow == set()
    assert loaded_by(host, "plan") & {"tenacity", "loguru", "tarfile"} == set()
    assert host.ask(NAME).version == "1.0.0"
