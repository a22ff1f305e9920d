"""Metrics, alert rules and dashboard, by Prometheus's own promtool: form, conventions, when each alert fires."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from updater.demo import agent as agents

PROMTOOL = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:/usr/bin")
RULES = ROOT / "contrib" / "prometheus" / "ops-updater.rules.yml"
DASHBOARD = ROOT / "contrib" / "grafana" / "ops-updater.json"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(PROMTOOL is None, reason="needs Debian's prometheus; `./control test --system` installs it"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        yield Host(tmp_path, meta, processes)
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


def promtool(*argv: str, given: bytes = b"") -> str:
    """What it says; it must be content."""
    ran = subprocess.run([str(PROMTOOL), *argv], input=given, capture_output=True)
    said = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == 0, said
    return said


def test_what_is_served_and_what_is_written_is_well_formed(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "ops-updater.prom"
    host.configure(interval=1, http={"enabled": True, "listen": "127.0.0.1:0"}, metrics_textfile=str(file))
    host.install("1.0.0")
    assert promtool("check", "metrics", given=file.read_bytes()) == ""
    with host.daemon("--now"):
        url = f"{host.local_http()}metrics"
        until(lambda: "ops_updater_agent_ready" in httpx.get(url, trust_env=False).text, "a pass is shown")
        assert promtool("check", "metrics", given=httpx.get(url, trust_env=False).content) == ""


def test_the_rules_are_well_formed() -> None:
    assert "SUCCESS: 10 rules found" in promtool("check", "rules", str(RULES))


def test_the_dashboard_s_queries_are_well_formed(tmp_path: Path) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": "x:y", "expr": query.replace("$__rate_interval", "5m")} for query in queries]
    path = tmp_path / "queries.yml"
    for number, rule in enumerate(rules):
        rule["record"] = f"x:y{number}"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", str(path))


def series(**values: str) -> list[dict[str, str]]:
    """Series of one host, in promtool's short form: `1x60` is 1 for an hour."""
    more = {"agent": f',agent="{NAME}"', "place": ',group="web"'}
    return [
        {"series": f'ops_updater_{name}{{instance="h"{more.get(name.partition("_")[0], "")}}}', "values": value}
        for name, value in values.items()
    ]


WELL = {
    "agent_ready": "1x90",
    "agent_running": "1x90",
    "agent_quarantined": "0x90",
    "agent_waits": "0x90",
    "agent_heals_total": "0x90",
    "server_reachable": "1x90",
    "state_stored": "1x90",
    "refused_entries": "0x90",
    "pass_timestamp_seconds": "0+60x90",
}


@pytest.mark.parametrize(
    ("values", "fires"),
    [
        ({}, set()),
        ({"agent_ready": "0x90"}, {"OpsUpdaterAgentNotReady"}),
        ({"agent_ready": "0x10 1x80"}, set()),
        ({"agent_ready": "0x90", "agent_quarantined": "1x90"}, {"OpsUpdaterAgentRolledBack"}),
        ({"agent_ready": "0x90", "agent_running": "0x90"}, {"OpsUpdaterAgentNotReady", "OpsUpdaterAgentDown"}),
        ({"agent_running": "0x90"}, set()),  # it is to be stopped
        ({"agent_ready": "0x90", "agent_waits": "1x90"}, set()),  # an operator holds it, or it waits as is wanted
        ({"agent_ready": "0x90", "agent_running": "0x90", "agent_waits": "1x90"}, set()),  # ... though it is down
        ({"agent_ready": "0x90", "agent_quarantined": "1x90", "agent_waits": "1x90", "place_held": "1x90"}, set()),
        ({"agent_heals_total": "0x30 1+1x59"}, {"OpsUpdaterAgentCrashes"}),
        ({"agent_heals_total": "0x50 2x39"}, set()),
        ({"place_held": "1x90"}, set()),  # a change goes on
        ({"place_held": "1x90", "agent_quarantined": "0x40 1x49"}, {"OpsUpdaterAgentRolledBack"}),
        (
            {"place_held": "1x90", "agent_quarantined": "1x90"},
            {"OpsUpdaterAgentRolledBack", "OpsUpdaterFleetHalted"},
        ),
        ({"pass_timestamp_seconds": "0+60x30"}, {"OpsUpdaterGone"}),  # the series ends
        ({"pass_timestamp_seconds": "_x59 3540+60x30"}, set()),  # it began lately
        ({"pass_timestamp_seconds": "0x90"}, {"OpsUpdaterSilent"}),
        ({"server_reachable": "0x90"}, {"OpsUpdaterServerUnreachable"}),
        ({"refused_entries": "2x90"}, {"OpsUpdaterEntryRefused"}),
        ({"state_stored": "0x90"}, {"OpsUpdaterStateNotStored"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if value else "well",
)
def test_each_alert_fires_for_its_own_cause(values: dict[str, str], fires: set[str], tmp_path: Path) -> None:
    names = re.findall(r"alert: (\w+)", RULES.read_text())
    tests = [
        {"eval_time": "60m", "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'}
        | {"exp_samples": [{"labels": "{}", "value": int(name in fires)}]}
        for name in names
    ]
    case = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series(**{**WELL, **values}), "promql_expr_test": tests}],
    }
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(case))  # YAML is a superset of it
    assert "SUCCESS" in promtool("test", "rules", str(path))
