"""A fleet with a lock: places bound how many hosts change at once, and a bad version ends where the places end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e2e.fleet import MakeHost, asked, installed, is_waiting, other_gives_back, other_takes, want
from tests.e2e.host import NAME
from tests.e2e.processes import until
from tests.support.fleet_lock_server import Server

pytestmark = pytest.mark.warm


def test_a_new_memory_gives_back_once_and_an_idle_host_asks_nothing(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    assert asked(lock) == ["steady-state"], "first installs need no place"
    for _ in range(3):
        assert host.apply().code == 0
    host.crash()
    assert host.apply().code == 0
    host.plan()
    assert asked(lock) == ["steady-state"], "heals, passes and plans ask nothing"


def test_without_the_key_nothing_is_asked(make: MakeHost, lock: Server) -> None:
    host = make("one")
    host.configure(fleet_lock=None)
    installed(host)
    want(host, "2.0.0")
    assert host.apply().code == 0
    host.settle()
    assert asked(lock) == []


def test_an_idle_daemon_asks_nothing(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    lock.asked.clear()
    host.configure(interval=1)
    heartbeats = len(host.meta.requests)
    with host.daemon("--now"):
        until(lambda: len(host.meta.requests) > heartbeats + 3, "some passes are made")
    assert asked(lock) == []


def test_a_change_takes_a_place_and_gives_it_back_once_it_is_good(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    lock.asked.clear()
    want(host, "2.0.0")
    planned = host.plan()
    assert [action.get("asks_place_of") for action in planned.agent()["actions"]].count("web") == 1
    assert "stop       1.0.0  (asks for a place of group web)" in host.updater("plan").out
    assert host.apply().code == 0
    assert asked(lock)[0] == "pre-reboot"
    host.settle()
    assert asked(lock)[-1] == "steady-state"
    assert {(id.rpartition("-")[0], group) for _, id, group in lock.asked} == {("one", "web")}
    assert json.loads((host.var / "places.json").read_text()) == {"notes": [], "waits": [], "retry_at": None}


def test_without_a_place_the_change_waits_and_what_crashed_is_healed(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    other_takes(lock)
    want(host, "2.0.0")
    pid = host.pid()
    waits = host.apply()
    assert is_waiting(waits), waits
    assert waits.code == 0, "to wait is no trouble while the fleet is at work"
    assert host.pid() == pid
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz", f"{NAME}-2.0.0.tar.gz"], "all that can fail comes before"
    assert "all 1 places of web are taken" in host.updater("why", NAME).out
    assert is_waiting(host.plan()), "a plan shows the last refusal, and does not ask"

    host.crash()
    healed = host.apply()
    assert is_waiting(healed), healed
    assert host.ask().version == "1.0.0", "a crashed agent does not adopt what its fleet was halted for"
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz", f"{NAME}-2.0.0.tar.gz"]

    other_gives_back(lock)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_wait_is_reported_once_and_not_at_each_line_of_cron(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    other_takes(lock)
    want(host, "2.0.0")
    first = host.updater("apply", "--once")
    assert "WaitingForPlace" in first.out
    assert [host.updater("apply", "--once").out for _ in range(2)] == ["", ""]
    history = host.updater("history", NAME, "-o", "json").document["events"]
    waited = [event for event in history if event["message"] == "1.0.0 -> 2.0.0"]
    assert len(waited) == 1, "a pass in which no action ran did nothing"
    assert [action["type"] for action in waited[0]["actions"] if action["result"] == "done"] == [
        *("fetch", "verify", "unpack"),
    ]
    [line] = [line for line in host.updater("why", NAME).out.splitlines() if "VersionDiffers by server" in line]
    assert line.endswith("1.0.0 -> 2.0.0  not finished")


def test_a_bad_version_ends_where_the_places_end_and_its_repair_comes_first_there(make: MakeHost, lock: Server) -> None:
    hosts = [make(name) for name in ("one", "two", "three")]
    for host in hosts:
        installed(host)
    pids = [host.pid() for host in hosts]
    for host in hosts:
        want(host, "2.0.0", broken_start=True)
    results = [host.apply() for host in hosts]
    assert [result.code for result in results] == [4, 0, 0]
    assert [is_waiting(result) for result in results] == [False, True, True]
    for host, pid in list(zip(hosts, pids, strict=True))[1:]:
        assert host.pid() == pid, "untouched"
        assert is_waiting(host.apply())
    for _ in range(2):
        assert hosts[0].apply().condition("Quarantined") == ("True", "Quarantined")
    assert hosts[0].ask().version == "1.0.0"
    assert {id.rpartition("-")[0] for path, id, _ in lock.asked if path.endswith("steady-state")} <= {
        "one",
        "two",
        "three",
    }

    for host in hosts:
        want(host, "2.0.1")
    assert is_waiting(hosts[1].apply()), "the place is still that of the host that failed"
    assert hosts[0].apply().code == 0
    hosts[0].settle()
    for host in hosts[1:]:
        assert host.apply().code == 0
        host.settle()
    assert [host.ask().version for host in hosts] == ["2.0.1"] * 3
    assert lock.store.change("web", "another-host", take=True, places=1), "no place is held at the end"


def test_a_kept_place_is_asserted_in_each_pass(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    lock.asked.clear()
    for _ in range(2):
        host.apply()
    assert asked(lock) == ["pre-reboot", "pre-reboot"]
    host.meta.down()
    host.apply()
    assert asked(lock) == ["pre-reboot"] * 3, "without an answer a kept place is kept"


@pytest.mark.parametrize("by", ["rollback", "hold", "release"])
def test_what_an_operator_does_leaves_a_kept_place_kept(make: MakeHost, lock: Server, by: str) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    lock.asked.clear()
    host.updater(by, NAME, *(["--reason", "r"] if by == "hold" else []))
    host.apply()
    assert "steady-state" not in asked(lock)


def test_an_operator_gives_the_place_back_and_the_content_stays_quarantined(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    lock.asked.clear()
    assert "given back with the next pass" in host.updater("release", NAME, "--place").out
    quarantined = host.apply()
    assert quarantined.condition("Quarantined") == ("True", "Quarantined")
    assert asked(lock) == ["steady-state"]
    host.apply()
    assert asked(lock) == ["steady-state"]


def test_an_agent_that_is_no_longer_managed_is_no_reason_to_keep_a_place(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    host.publish("1.0.0", "other")
    host.meta.desire(host.meta.agent("other", "1.0.0"))
    for _ in range(2):  # the other one is within its watch at first
        host.apply()
    assert asked(lock)[-1] == "steady-state"


def test_a_silent_lock_server_lets_no_change_begin_and_every_heal_be_made(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    host.configure(fleet_lock={"url": "http://127.0.0.1:9"})
    want(host, "2.0.0")
    waits = host.apply()
    assert (waits.code, is_waiting(waits)) == (3, True)
    assert waits.condition("LockServerReachable", None) == ("False", "ServerUnreachable")
    host.crash()
    assert is_waiting(host.apply())
    assert host.ask().version == "1.0.0"
    host.configure(fleet_lock={"url": lock.url})
    applied = host.apply()
    assert (applied.code, applied.condition("LockServerReachable", None)) == (0, ("True", "AsDesired"))
    assert host.ask().version == "2.0.0"


def test_a_place_that_was_given_though_the_server_says_that_it_failed_is_given_back(
    make: MakeHost, lock: Server
) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0")
    lock.loses_answers = True
    assert is_waiting(host.apply())
    assert lock.store.holders("web") == []
    assert asked(lock)[-2:] == ["pre-reboot", "steady-state"]


class Faulty(BaseHTTPRequestHandler):
    """A lock server, or what stands before it, with no answer of the protocol. `at_ask`: called at each request."""

    fault = ""
    at_ask: Callable[[], None] = staticmethod(lambda: None)
    ends = threading.Event()

    def do_POST(self) -> None:
        type(self).at_ask()
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.fault == "says nothing":
            self.ends.wait()
        if self.fault in ("says nothing", "breaks off"):
            self.close_connection = True
            return
        status, body = FAULTS[self.fault]
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


FAULTS = {
    "a page": (200, b"<html><title>welcome</title></html>"),
    "a redirect": (302, b""),
    "a proxy's 502": (502, b"<html>bad gateway</html>"),
    "an empty 500": (500, b""),
    "another server": (404, b'{"message": "no such path"}'),
    "too much": (200, b" " * 100_000),
    "breaks off": (0, b""),
    "says nothing": (0, b""),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_the_lock_server_does_what_crashed_is_healed_before_it_is_asked(make: MakeHost, fault: str) -> None:
    host, at_ask, ends = make("one"), list[int | None](), threading.Event()
    kind = type("Fault", (Faulty,), {"fault": fault, "ends": ends, "at_ask": lambda: at_ask.append(host.pid())})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            host.configure(fleet_lock=None)
            installed(host)
            host.configure(fleet_lock={"url": f"http://127.0.0.1:{server.server_address[1]}"})
            want(host, "2.0.0")
            host.crash()
            waits = host.apply()
        finally:
            ends.set()
            server.shutdown()
            thread.join()
    assert (waits.code, is_waiting(waits)) == (3, True), waits
    assert waits.condition("LockServerReachable", None) == ("False", "ServerUnreachable")
    assert host.ask().version == "1.0.0"
    assert at_ask
    assert set(at_ask) == {host.pid()}, "it ran again by then"


def test_ways_back_stops_and_rollbacks_need_no_place(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    want(host, "2.0.0")
    assert host.apply().code == 0
    host.settle()
    other_takes(lock)
    lock.asked.clear()
    assert host.updater("rollback", NAME).code == 0
    assert host.ask().version == "1.0.0"
    host.updater("release", NAME)
    host.desire("2.0.0", cmd="stop")
    assert host.apply().code == 0
    assert host.pid() is None
    assert "pre-reboot" not in asked(lock)


def test_a_run_that_was_killed_is_known_to_hold_a_place(make: MakeHost, lock: Server) -> None:
    """The note stands before the place is asked; the next run gives it back."""
    host = make("one")
    installed(host)
    note = {"group": "web", "id": "one-killed"}
    assert lock.store.change("web", "one-killed", take=True, places=1)
    (host.var / "places.json").write_text(json.dumps({"notes": [note], "waits": [], "retry_at": None}))
    assert host.apply().code == 0
    assert lock.store.change("web", "another-host", take=True, places=1)


def test_a_window_that_closed_meanwhile_is_seen_before_the_place_is_asked(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    lock.asked.clear()
    host.configure(windows=[{"start": "00:00", "length": "1m", "days": ["mon"]}], time_zone="Mars/Olympus")
    want(host, "2.0.0")
    assert host.apply().condition("Ready") == ("False", "OutsideWindow")
    assert asked(lock) == []


def test_a_daemon_keeps_its_place_through_the_watch_and_then_gives_it_back(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    host.configure(watch="1s")
    want(host, "2.0.0")
    lock.asked.clear()
    with host.daemon("--now"):
        until(lambda: "steady-state" in asked(lock), "the place is given back when the watch has ended")
    assert host.ask().version == "2.0.0"
    assert asked(lock)[0] == "pre-reboot"
    assert lock.store.change("web", "another-host", take=True, places=1)
