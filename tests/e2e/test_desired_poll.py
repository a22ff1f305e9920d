"""Five real daemons that poll one static file: each sees a change long before its slot."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build
from updater.demo import agent as agents

pytestmark = pytest.mark.slow


def test_five_daemons_see_a_change_of_the_file_and_none_asks_while_nothing_changes(
    tmp_path: Path, processes: Processes, meta: FaultyOpsMeta
) -> None:
    hosts = []
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        hosts.append(Host(tmp_path / str(number), meta, processes))

    def want(version: str) -> None:
        meta.publish(NAME, version, build(NAME, version, lifetime=600))
        entry = meta.agent(NAME, version, workDir=None, runUser=None)
        meta.serve("/desired.json", json.dumps({"desiredAgents": [entry]}).encode())

    def all_run(version: str) -> bool:
        return all((host.home() / ".version").exists() and host.version() == version for host in hosts)

    want("1.0.0")
    for number, host in enumerate(hosts):
        url = f"{meta.url}/desired.json"
        keys = {"hostname": f"host-{number}", "work_dir": str(host.work), "desired_poll": 2, "interval": "30d"}
        host.configure(server=None, desired=url, **keys)
    with ExitStack() as daemons:
        for host in hosts:
            daemons.enter_context(host.daemon())
        until(lambda: all_run("1.0.0"), "all have the first version, by the file alone")
        quiet = len(meta.requests)
        until(lambda: len(meta.requests) >= quiet + 20, "each asked four times")
        asked = meta.requests[quiet + 10 :]  # a pass after the change may have been among the first
        assert {(request.path, request.status) for request in asked} == {("/desired.json", 304)}
        want("2.0.0")
        until(lambda: all_run("2.0.0"), "all have the second version")
        assert [host.ask().version for host in hosts] == ["2.0.0"] * 5
    agents.end_all(tmp_path)
    end_all_in(tmp_path)
