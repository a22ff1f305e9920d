"""`plan --out` and `apply --plan`: exactly what was looked at is done, or nothing, and the difference is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Completed, Host, snapshot
from tests.e2e.processes import Processes
from tests.e2e.steps import holding

pytestmark = [pytest.mark.slow, pytest.mark.warm]


@pytest.fixture
def saved(host: Host) -> Path:
    """The plan of an upgrade from 1.0.0 to 2.0.0."""
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    path = host.folder / "upgrade.json"
    assert host.updater("plan", "--out", str(path)).code == 0
    return path


def carry_out(host: Host, path: Path, *more: str) -> Completed:
    return host.updater("apply", "--plan", str(path), "-o", "json", *more)


def test_it_is_what_plan_prints_in_json(host: Host, saved: Path) -> None:
    reported = host.plan().document
    kept = json.loads(saved.read_text())
    assert (kept["kind"], kept["format_version"]) == ("Plan", "1.0")
    for document in (kept, reported):
        document["agents"][0].pop("conditions")  # what only began with this plan is as old as its document
    assert kept["agents"] == reported["agents"]
    assert [path.name for path in host.folder.iterdir() if "upgrade" in path.name] == ["upgrade.json"]


def test_it_is_carried_out_exactly(host: Host, saved: Path) -> None:
    planned = [action["type"] for action in json.loads(saved.read_text())["agents"][0]["actions"]]

    result = carry_out(host, saved, "--detailed-exitcode")

    assert result.code == 2
    assert [action["type"] for action in result.agent()["actions"]] == planned
    assert {action["result"] for action in result.agent()["actions"]} == {"done"}
    assert host.ask().version == "2.0.0"

    again = carry_out(host, saved)
    assert (again.code, again.out) == (3, ""), "a plan that was carried out does not fit any more"


def crashed(host: Host) -> None:
    host.crash()


def wished_otherwise(host: Host) -> None:
    host.publish("3.0.0")
    host.desire("3.0.0")


def published_again(host: Host) -> None:
    host.publish("2.0.0", extra={"other": b"bytes"})
    host.desire("2.0.0")


def wished_stopped(host: Host) -> None:
    host.desire("2.0.0", "stop")


def forgotten(host: Host) -> None:
    host.meta.desire(host.meta.agent("other", "1.0.0"))


def moved(host: Host) -> None:
    host.meta.desire(host.meta.agent(NAME, "2.0.0", runUser=None, workDir=str(host.folder.parent / "elsewhere")))


def held(host: Host) -> None:
    assert host.updater("hold", NAME, "--reason", "no").code == 0


def renamed(host: Host) -> None:
    host.configure(hostname="another-01")


def already_there(host: Host) -> None:
    assert host.apply().code == 0


def unreachable(host: Host) -> None:
    host.meta.down()


@pytest.mark.parametrize(
    ("move", "named"),
    [
        (crashed, "observed.status"),
        (wished_otherwise, 'desired.version: was "2.0.0", is "3.0.0"'),
        (published_again, "desired.digest"),
        (wished_stopped, 'desired.cmd: was "start", is "stop"'),
        (forgotten, f"{NAME}: not in the desired state any more"),
        (moved, "work_dir"),
        (held, "held"),
        (renamed, "it was made on liutian-01, this host is another-01"),
        (already_there, 'observed.version: was "1.0.0", is "2.0.0"'),
        (unreachable, 'desired.version: was "2.0.0", is "1.0.0"'),  # of what was last accepted
    ],
)
def test_it_is_refused_with_the_difference_named_and_nothing_touched(
    host: Host, saved: Path, move: Callable[[Host], None], named: str
) -> None:
    move(host)
    before, pid, asked = snapshot(host.work), host.pid(), len(host.downloads())

    refused = carry_out(host, saved)

    assert (refused.code, refused.out) == (3, ""), refused
    assert named in refused.err
    reported = refused.err.splitlines()
    assert all(line.startswith("updater: the plan is refused, nothing was touched: ") for line in reported)
    assert snapshot(host.work) == before
    assert host.pid() == pid
    assert len(host.downloads()) == asked


def test_a_config_that_changed_at_the_server_is_a_difference(host: Host) -> None:
    host.publish("1.0.0")
    url = host.meta.publish_config("/conf/cfg.json", b'{"greeting": "one"}')
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)
    path = host.folder / "plan.json"
    assert host.updater("plan", "--out", str(path)).code == 0
    host.meta.publish_config("/conf/cfg.json", b'{"greeting": "two"}')

    refused = carry_out(host, path)

    assert refused.code == 3
    assert "actions" in refused.err
    assert not host.home().exists()


def test_it_is_about_the_agents_that_it_names(host: Host, saved: Path) -> None:
    """Planned for one agent: what becomes of the others meanwhile is no difference, and they are not touched."""
    host.publish("1.0.0", "other")
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent("other", "1.0.0"))
    path = host.folder / "one.json"
    assert host.updater("plan", NAME, "--out", str(path)).code == 0
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent("other", "9.9.9"))

    assert carry_out(host, path).code == 0

    assert host.ask().version == "2.0.0"
    assert not host.home("other").exists()


def test_one_with_nothing_to_do_does_nothing(host: Host) -> None:
    pid = host.install("1.0.0")
    host.settle()
    path = host.folder / "plan.json"
    assert host.updater("plan", "--out", str(path)).code == 0
    assert carry_out(host, path, "--detailed-exitcode").code == 0
    assert host.pid() == pid


def test_75_while_another_updater_is_in_a_pass(host: Host, saved: Path, processes: Processes) -> None:
    with holding(host.var / "updater.lock", processes) as pid:
        busy = carry_out(host, saved)
        assert (busy.code, f"process {pid} " in busy.err) == (75, True)
    assert carry_out(host, saved).code == 0


def test_what_is_no_saved_plan_is_refused(host: Host) -> None:
    path = host.folder / "plan.json"
    missing = carry_out(host, path)
    assert (missing.code, missing.out) == (64, ""), "a name that was mistyped"
    assert str(path) in missing.err
    nameless = '{"kind": "Plan", "host": "liutian-01", "agents": [{}]}'
    for content in ("", "[]", "{}", '{"kind": "Status", "agents": []}', '{"kind": "Plan"}', nameless, "{" * 100_000):
        path.write_text(content)
        refused = carry_out(host, path)
        assert (refused.code, refused.out) == (3, ""), content
        assert refused.err.startswith(f"updater: the plan is refused, nothing was touched: {path}"), content


def test_a_query_that_changed_is_noticed_and_not_printed(host: Host) -> None:
    host.install("1.0.0")
    host.publish("2.0.0")
    base = host.meta.release(NAME, "2.0.0").base
    plan = host.folder / "plan.json"
    host.desire("2.0.0", tarball=f"{base}?token=canary-1&x=")
    assert host.updater("plan", "--out", str(plan)).code == 0
    host.desire("2.0.0", tarball=f"{base}?token=canary-2&x=")
    refused = carry_out(host, plan)
    assert (refused.code, "falcon-agent: actions: fetch.url_digest: was " in refused.err) == (3, True)
    assert "canary" not in plan.read_text() + refused.err


def test_it_goes_alone(host: Host, saved: Path) -> None:
    for more in (["--once"], [NAME], ["--timeout", "5"]):
        assert carry_out(host, saved, *more).code == 64
    assert host.version() == "1.0.0"


def test_a_plan_that_can_not_be_saved_is_one_line(host: Host) -> None:
    host.install("1.0.0")
    refused = host.updater("plan", "--out", str(host.folder / "missing" / "plan.json"))
    assert refused.code != 0
    assert refused.err.count("\n") == 1
