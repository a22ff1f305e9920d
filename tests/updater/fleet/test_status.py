"""How a fleet is, from the statuses that its hosts wrote themselves: one by one, and a thousand."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.updater.conftest import Folder
from updater.commands import context
from updater.fleet.status import fleet_status, status_rows
from updater.output.text import Palette, to_text

NAME = "falcon-agent"


@pytest.fixture
def host(folder: Folder) -> Folder:
    """One with an agent in use, as desired."""
    folder.want("1.0.0")
    assert folder.run("apply", "--once").code == 0
    assert folder.run("apply", "--once").code == 0
    return folder


def write(folder: Folder, into: Path, count: int, *, first: int = 0) -> dict[str, Any]:
    """So many hosts that are as this one is now."""
    into.mkdir(exist_ok=True)
    document: dict[str, Any] = json.loads(folder.run("status", "-o", "json").out)
    for number in range(first, first + count):
        (into / f"{number}.json").write_text(json.dumps({**document, "host": f"host-{number:04d}"}))
    return document


def ready(document: dict[str, Any]) -> str:
    [agent] = document["agents"]
    return str(next(one["reason"] for one in agent["conditions"] if one["type"] == "Ready"))


def fleet_of(folder: Folder, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(folder.run("status", *words, "-o", "json").out)
    return document


def test_a_fleet_in_parts(host: Folder, tmp_path: Path) -> None:
    into = tmp_path / "fleet"
    good = ready(write(host, into, 37))
    host.want("2.0.0")
    assert host.run("hold", NAME, "--reason", "mine").code == 0
    write(host, into, 14, first=37)
    host.run("release", NAME)
    host.meta.desire({**host.meta.agent(NAME, "1.0.0"), "version": "../x"})
    host.run("apply", "--once")
    write(host, into, 1, first=51)
    host.meta.desire({**host.meta.agent("other", "1.0.0"), "version": "../x"})
    host.run("apply", "--once")
    write(host, into, 1, first=52)

    ran = host.run("status", "--observed", str(into))
    assert (ran.code, ran.err) == (0, "")
    headline, _, reported = ran.out.partition("\n\n")
    assert headline.startswith("53 hosts: 37 as desired; the oldest status is ")
    assert reported.splitlines() == [
        "falcon-agent",
        f"  37 hosts  1.0.0  {good}",
        "  14 hosts  1.0.0  HeldByOperator",
        f"            {', '.join(f'host-{number:04d}' for number in range(37, 49))} and 2 more",
        "   1 host   1.0.0  InvalidSpec  odd",
        "            host-0051",
        "",
        "other",
        "  1 host   not installed  InvalidSpec",
        "           host-0052",
    ]

    fleet = fleet_of(host, "--observed", str(into))
    assert fleet["kind"] == "FleetStatus"
    assert fleet["summary"] == {"hosts": 53, "as_desired": 37, "unreadable": 0}
    keys = ("agent", "version", "reason", "ready", "odd", "count")
    assert [tuple(group[key] for key in keys) for group in fleet["groups"]] == [
        (NAME, "1.0.0", good, True, False, 37),
        (NAME, "1.0.0", "HeldByOperator", False, False, 14),
        (NAME, "1.0.0", "InvalidSpec", False, True, 1),
        ("other", None, "InvalidSpec", False, False, 1),
    ]
    assert len(fleet["groups"][0]["hosts"]) == 37, "all of them: a program reads it"
    assert [host["host"] for host in fleet["hosts"]] == [f"host-{number:04d}" for number in range(53)]

    quiet = host.run("status", "--observed", str(into), "-q").out
    assert good not in quiet
    assert "HeldByOperator" in quiet
    named = host.run("status", NAME, "--observed", str(into)).out
    assert named.startswith("52 hosts: 37 as desired; ")
    assert "other" not in named


def test_the_exit_code_that_is_asked_for(host: Folder, tmp_path: Path) -> None:
    into = tmp_path / "fleet"
    words = ("status", "--observed", str(into), "--detailed-exitcode")
    write(host, into, 3)
    assert (host.run(*words).code, host.run(*words, "-q").out) == (context.OK, "")
    subprocess.run([str(host.home() / "1.0.0" / "control"), "stop"], check=True, stdout=subprocess.DEVNULL)
    write(host, into, 1)
    assert host.run(*words).code == context.NOT_AS_DESIRED
    assert host.run("status", "--observed", str(into)).code == context.OK

    host.run("hold", NAME, "--reason", "mine")
    document = write(host, into, 1)
    assert host.run(*words).code == context.OK, "an operator's hold is no trouble"
    [agent] = document["agents"]
    document["created_at"] = "2026-01-10T00:00:00Z"
    held = next(one for one in agent["conditions"] if one["type"] == "Held")
    today, earlier = "2026-01-09T12:00:00Z", "2026-01-08T12:00:00Z"
    for reason, status, since, server, code in (
        ("NotYet", "started", earlier, "True", 0),
        ("NotYet", "stoped", today, "True", 3),
        ("OutsideWindow", "started", earlier, "True", 0),
        ("WaitingForPlace", "started", today, "True", 0),
        ("WaitingForPlace", "started", today, "False", 3),
        ("WaitingForPlace", "started", earlier, "True", 3),
        ("BackingOff", "started", today, "True", 3),
    ):
        agent["held"]["reason"], agent["observed"]["status"], held["since"] = reason, status, since
        document["conditions"] = [{"type": "LockServerReachable", "status": server}]
        (into / "0.json").write_text(json.dumps(document))
        assert host.run(*words).code == code, (reason, status, since, server)


def test_a_status_of_some_agents_and_of_no_agent_counts(host: Folder, tmp_path: Path) -> None:
    """What planning needs is not needed to show how a host is."""
    (tmp_path / "some.json").write_text(host.run("status", NAME, "-o", "json").out)
    host.meta.desire()
    host.run("apply", "--once")
    (tmp_path / "none.json").write_text(host.run("status", "-o", "json").out)
    (host.path / "cfg.json").unlink()
    ran = host.run("status", "--observed", str(tmp_path / "some.json"), str(tmp_path / "none.json"))
    assert ran.code == 0
    assert ran.out.startswith("2 hosts: 2 as desired; ")
    assert "NothingDesired" in ran.out


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a status"),
        ('{"kind": "Plan"}', "it is not a status"),
        ('{"kind": "Status", "format_version": "2.0"}', "its format_version is '2.0'"),
        ('{"kind": "Status", "format_version": "1.0"}', "it is damaged, or of a newer updater: KeyError: 'host'"),
    ],
)
def test_what_is_no_status_is_left_out_and_named(host: Folder, tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "good.json").write_text(host.run("status", "-o", "json").out)
    (tmp_path / "bad.json").write_text(content)
    ran = host.run(
        "status", "--observed", *(str(tmp_path / name) for name in ("good.json", "bad.json", "missing.json"))
    )
    assert ran.code == context.USAGE
    assert ran.out.startswith("1 host: 1 as desired, 2 left out; ")
    assert f"bad.json: {why}" in ran.out
    assert "missing.json: it can't be read: No such file" in ran.out
    assert ran.err == "updater: 2 of the files are no usable snapshots; the status is without them\n"


def test_a_folder_without_files_is_said(host: Folder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = host.run("status", "--observed", str(tmp_path / "empty"))
    assert (ran.code, ran.err) == (64, "updater: no file was given: a folder stands for its *.json\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--observed", "x", "--desired", "y"], "--observed goes without --desired and --offline"),
        (["--observed", "x", "--offline"], "--observed goes without --desired and --offline"),
    ],
)
def test_what_does_not_go_together(host: Folder, words: list[str], said: str) -> None:
    ran = host.run("status", *words)
    assert ran.code == context.USAGE
    assert said in ran.err


def test_a_name_that_no_host_knows(host: Folder, tmp_path: Path) -> None:
    write(host, tmp_path / "fleet", 1)
    ran = host.run("status", "falcon", "--observed", str(tmp_path / "fleet"))
    assert ran.code == context.USAGE
    assert "no agent is named falcon" in ran.err


def test_whatever_is_missing_or_of_another_type_ends_in_words(host: Folder, tmp_path: Path) -> None:
    document = write(host, tmp_path / "fleet", 1)
    folder = tmp_path / "broken"
    folder.mkdir()
    values: tuple[Any, ...] = (None, [], 1, "x", {}, [None], {"a": 1}, float("inf"))
    read = {key: value for key, value in document.items() if key != "snapshot"}
    for path in [(key,) for key in read] + [("agents", 0, key) for key in read["agents"][0]]:
        for number, value in enumerate(values):
            other = copy.deepcopy(read)
            inner: Any = other
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            (folder / f"{path[-1]}-{len(path)}-{number}.json").write_text(json.dumps(other))
    files = sorted(folder.iterdir())
    fleet = fleet_status(files)
    assert len(fleet.hosts) + len(fleet.unreadable) == len(files)
    assert fleet.unreadable
    to_text(status_rows(fleet), Palette(False))


def test_what_another_host_says_is_fit_for_a_terminal(host: Folder, tmp_path: Path) -> None:
    document = write(host, tmp_path / "fleet", 1)
    document["host"] = "\x1b[2J\ud800"
    document["agents"][0]["observed"]["version"] = "\x9b2J"
    document["agents"][0]["conditions"][0]["status"] = "False"
    (tmp_path / "fleet/0.json").write_text(json.dumps(document))
    reported = to_text(status_rows(fleet_status([tmp_path / "fleet/0.json"])), Palette(False))
    assert "\\x9b2J" in reported
    assert reported.replace("\n", "").isprintable()
