"""What only reads can't act: the real `plan` and `status` load no module of reconcile.act, and `status` no network."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.host import NAME, Host

# Run the command line as `python -m updater` does, then print on standard error what it has loaded.
WRAPPER = """
import json, sys
from updater.cli import run
code = run(sys.argv[1:])
sys.stderr.write(json.dumps({"code": code, "loaded": sorted(sys.modules)}))
"""


def loaded_by(host: Host, *argv: str) -> set[str]:
    """The modules that a command has loaded by its end; it must have ended well."""
    completed = host.run(sys.executable, "-c", WRAPPER, "-c", str(host.folder / "cfg.json"), *argv)
    reported = json.loads(completed.err)
    assert reported["code"] == 0, completed
    return set(reported["loaded"])


def acting(modules: set[str]) -> set[str]:
    return {
        name
        for name in modules
        if f"{name}.".startswith(("reconcile.act.", "reconcile.engine.", "updater.service.daemon."))
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


# What is slow to load, or loads much: each of them by name where a command has need of it, and nowhere else.
SLOW = frozenset(
    "asyncio concurrent.futures difflib httpcore httpx loguru shutil sqlite3 ssl tarfile tempfile tenacity".split()
)
ASKS_THE_SERVER = "httpcore httpx ssl concurrent.futures tempfile shutil"  # httpx brings the last three


MAY_LOAD = [  # by a host that asks a server, and by one whose desired state is a file
    ("plan", f"sqlite3 {ASKS_THE_SERVER}", "sqlite3"),
    ("plan --offline", "sqlite3", "sqlite3"),
    ("status -o json", "sqlite3", "sqlite3"),
    ("why agent", "sqlite3", "sqlite3"),
    ("history", "sqlite3", "sqlite3"),
    ("hold agent --reason test", "sqlite3", "sqlite3"),
    ("release agent", "sqlite3", "sqlite3"),
]


def test_a_command_loads_what_it_needs_and_nothing_else_that_is_slow(host: Host) -> None:
    host.install("1.0.0")
    for argv, may_load, _ in MAY_LOAD:
        assert loaded_by(host, *argv.replace("agent", NAME).split()) & SLOW <= set(may_load.split()), argv

    wanted = {"errorMessage": "", "desiredAgents": [host.meta.agent(NAME, "1.0.0", "start")]}
    (host.folder / "desired.json").write_text(json.dumps(wanted))
    host.configure(server=None, desired="desired.json")
    for argv, _, may_load in MAY_LOAD:
        assert loaded_by(host, *argv.replace("agent", NAME).split()) & SLOW <= set(may_load.split()), argv


def test_a_pass_without_work_loads_nothing_that_unpacks_tries_again_or_logs(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    assert loaded_by(host, "apply", "--once") & {"tarfile", "tenacity", "loguru", "asyncio"} == set()
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert loaded_by(host, "apply", "--once") >= {"tarfile", "tenacity", "loguru"}


# Run the command line, then print how many value classes were made, and how many of them were finished.
CLASSES = """
import json, sys
import probes.values
finished, made = [], []
whole = probes.values.attrs.frozen
probes.values.attrs.frozen = lambda kind, **options: finished.append(kind) or whole(kind, **options)
ours = probes.values.frozen
def counted(kind=None, /, **options):
    if kind is None:
        return lambda kind: counted(kind, **options)
    made.append(kind)
    return ours(kind, **options)
probes.values.frozen = counted
from updater.cli import run
code = run(sys.argv[1:])
sys.stderr.write(json.dumps({"code": code, "made": len(made), "finished": len(finished)}))
"""


def test_a_plan_finishes_the_value_classes_that_it_makes_values_of_and_no_others(host: Host) -> None:
    """attrs writes and compiles the methods of each class: most of what a start of the command line took."""
    host.install("1.0.0")
    reported = json.loads(host.run(sys.executable, "-c", CLASSES, "-c", str(host.folder / "cfg.json"), "plan").err)
    assert reported["code"] == 0
    assert 20 < reported["finished"] < 0.6 * reported["made"], reported
