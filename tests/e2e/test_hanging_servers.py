"""Servers that take connections and say nothing: whatever hangs, and however many, what crashed runs again at once."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.warm]

COUNT = 20
NAMES = [f"agent-{number}" for number in range(4)]


@pytest.fixture
def hanging() -> Iterator[list[str]]:
    """Origins whose connections the kernel accepts, and no program answers."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(COUNT)]
        yield [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


def installed(host: Host) -> list[dict[str, object]]:
    for name in NAMES:
        host.publish("1.0.0", name)
    agents = [host.meta.agent(name, "1.0.0") for name in NAMES]
    host.meta.desire(*agents)
    assert host.apply().code == 0
    assert host.apply().code == 0, "confirmed"
    return agents


def with_hanging_configs(host: Host, agents: list[dict[str, object]], origins: list[str]) -> None:
    """Each agent's config lies at a server that hangs; and so do those of agents that aren't installed yet."""
    hung = [
        {**agent, "configFileName": "cfg.json", "configRemoteUrl": f"{origin}/cfg.json"}
        for agent, origin in zip(agents, origins, strict=False)
    ]
    others = [
        host.meta.agent(f"other-{n}", "1.0.0", configFileName="cfg.json", configRemoteUrl=f"{origin}/cfg.json")
        for n, origin in enumerate(origins[len(agents) :])
    ]
    host.meta.desire(*hung, *others)


def test_what_crashed_runs_again_while_the_servers_of_configs_hang(host: Host, hanging: list[str]) -> None:
    with_hanging_configs(host, installed(host), hanging)
    for name in NAMES:
        host.crash(name)
    run = host.begin("apply", "--once", "-o", "json")
    until(lambda: all(host.pid(name) for name in NAMES), "all run again")
    assert run.runs, "and the servers still hang"
    run.send(signal.SIGTERM)
    ended = run.ended()
    assert [ended.agent(name)["heal"][0]["result"] for name in NAMES] == ["done"] * len(NAMES)
    assert [action["type"] for action in host.history(NAMES[0])[-1]["actions"]] == ["start"]


def test_what_crashed_runs_again_while_ops_meta_hangs(host: Host, hanging: list[str]) -> None:
    installed(host)
    host.configure(server=hanging[0])
    for name in NAMES:
        host.crash(name)
    run = host.begin("apply", "--once", "-o", "json")
    until(lambda: all(host.pid(name) for name in NAMES), "all run again, by the last answer")
    assert run.runs, "and the server still hangs"
    run.send(signal.SIGTERM)
    assert run.ended().code in (0, 3)


def test_a_plan_says_what_is_healed_before_its_remote_files_are_asked(host: Host) -> None:
    url = host.meta.publish_config("/conf/cfg.json", b'{"greeting": "one"}')
    delivered = {"configFileName": "cfg.json", "configRemoteUrl": url}
    host.publish("1.0.0")
    host.desire("1.0.0", **delivered)
    assert host.apply().code == 0
    assert host.apply().code == 0
    host.crash()
    planned = host.plan().agent()
    assert (planned["reason"], [action["type"] for action in planned["heal"]]) == ("Healing", ["start"])
    assert planned["actions"] == []
    assert host.plan("--detailed-exitcode").code == 2
    host.publish("2.0.0")
    host.desire("2.0.0", **delivered)
    planned = host.plan().agent()
    assert (planned["reason"], [action["type"] for action in planned["heal"]]) == ("VersionDiffers", ["start"])
    assert [
        action["type"] for action in planned["actions"]
    ] == "fetch verify unpack configure stop switch start".split()
    saved = host.folder / "plan.json"
    host.updater("plan", "--out", str(saved))
    assert json.loads(saved.read_text())["agents"][0]["name"] == NAME
    done = host.updater("apply", "--plan", str(saved), "-o", "json")
    assert (done.code, host.ask().version) == (0, "2.0.0")
    assert [action["result"] for action in done.agent()["heal"]] == ["done"]
