"""Local HTTP of a real daemon: what it shows while it works, a reload, and that it never delays a pass."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = pytest.mark.slow


def get(url: str, path: str = "") -> httpx.Response:
    return httpx.get(url + path, trust_env=False, timeout=60)


def status(url: str) -> dict[str, Any]:
    content = get(url, "status").json()
    assert isinstance(content, dict)
    return content


def ready(url: str) -> str:
    return next(
        (c["reason"] for a in status(url).get("agents", []) for c in a["conditions"] if c["type"] == "Ready"), ""
    )


@pytest.fixture
def served(host: Host) -> Host:
    host.configure(interval=1, control_timeout={"start": 2}, http={"enabled": True, "listen": "127.0.0.1:0"})
    return host


def test_a_failing_upgrade_is_reported_as_it_happens(served: Host) -> None:
    served.install("1.0.0")
    with served.daemon("--now"):
        url = served.local_http()
        until(lambda: ready(url) == "AsDesired", "the first pass is shown")
        served.publish("1.1.0", broken_start=True)
        served.desire("1.1.0")
        until(lambda: "Now: </b>start 1.1.0" in get(url).text, "the start is shown while it is tried")
        until(lambda: ready(url) == "Quarantined", "it was rolled back")
        page = get(url).text
        assert "StartFailed" in page
        assert "1.0.0 started" in page
        assert f'ops_updater_agent_quarantined{{agent="{NAME}"}} 1.0' in get(url, "metrics").text
    with pytest.raises(httpx.ConnectError):
        get(url, "health")


def test_a_reload_is_asked_for_over_http(served: Host) -> None:
    served.install("1.0.0")
    with served.daemon("--now"):
        url = served.local_http()
        until(lambda: ready(url) == "AsDesired", "the first pass is shown")
        served.configure(hostname="renamed")
        assert get(url, "config/reload").json()["data"]["hostname"] == "renamed"
        until(lambda: status(url)["host"] == "renamed", "the new config is in use")

        (served.folder / "cfg.json").write_text(json.dumps({"server": served.meta.server, "intervall": 1}))
        assert "did you mean `interval`?" in get(url, "config/reload").json()["msg"]
        assert get(url, "health").text == "ok"

        served.configure(http={"enabled": False})
        assert get(url, "config/reload").json()["msg"] == "success"

        def gone() -> bool:
            try:
                return get(url, "health").status_code != 200
            except httpx.HTTPError:
                return True

        until(gone, "it is no longer served")
        seen = len(served.meta.heartbeats)
        served.meta.wait_for_heartbeat(since=seen)


def test_reloads_in_a_loop_keep_no_heartbeat_away(served: Host) -> None:
    served.install("1.0.0")
    with served.daemon("--now"):
        url = served.local_http()
        until(lambda: ready(url) == "AsDesired", "the first pass is shown")
        began, seen, enough = time.monotonic(), len(served.meta.heartbeats), threading.Event()
        asked: list[int] = []

        def ask() -> None:
            while not enough.is_set():
                with suppress(httpx.HTTPError):
                    asked.append(get(url, "config/reload").status_code)

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        try:
            until(lambda: len(served.meta.heartbeats) >= seen + 6, "heartbeats go on")
        finally:
            enough.set()
            for asker in askers:
                asker.join()
        took = time.monotonic() - began
    reloads = (served.var / "app.log").read_text().count("config read again")
    assert len(asked) > 20, "it was a flood"
    assert 1 <= reloads <= took / 3 + 1


def test_a_port_that_is_taken_keeps_no_agent_from_being_kept(served: Host) -> None:
    served.publish("1.0.0")
    served.desire("1.0.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served.configure(http={"enabled": True, "listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        with served.daemon("--now") as daemon:
            until(lambda: served.pid() is not None, "the agent is started")
            assert "local HTTP is not served: http.listen" in (served.var / "app.log").read_text()
            taken.close()
            daemon.send(signal.SIGHUP)
            assert get(served.local_http(), "health").text == "ok"


@pytest.mark.parametrize(("address", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_address_that_other_hosts_can_reach_is_warned_of(served: Host, address: str, warned: bool) -> None:
    served.configure(http={"enabled": True, "listen": f"{address}:0"})
    with served.daemon("--now"):
        served.wait_for_log("local HTTP: ")
        until(lambda: len(served.meta.heartbeats) > 0, "a pass is made, after what is logged of that")
    assert (f"http.listen {address}:0: anyone who can reach this host can see its agents" in served.log) is warned


def test_many_who_look_change_no_pass(served: Host) -> None:
    pid = served.install("1.0.0")
    with served.daemon("--now"):
        url = served.local_http()
        until(lambda: ready(url) == "AsDesired", "the first pass is shown")
        before = len(served.meta.heartbeats)
        idle = [socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) for _ in range(50)]
        served.meta.wait_for_heartbeat(since=before + 2)
        for sock in idle:
            sock.close()
        for _ in range(50):
            assert get(url).status_code == 200
        assert served.ask().pid == pid
