"""A place in the fleet's lock across agents, runs, operators and signals: asked once, kept, and given back."""

from __future__ import annotations

import base64
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import MakeHost, asked, installed, is_waiting, other_gives_back, other_takes, serving, want
from tests.e2e.host import NAME, Host
from tests.e2e.processes import until
from tests.support.fleet_lock_server import Handler, Memory, Server

pytestmark = pytest.mark.warm


class Watched(Memory):
    """Calls `seen` at each question, before it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Callable[[], object] = lambda: None

    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        self.seen()
        return super().change(group, id, take=take, places=places)


@pytest.fixture
def watched() -> Iterator[Server]:
    with serving(Server(1, Watched())) as server:
        yield server


def both(host: Host, version: str, other: str) -> None:
    host.meta.desire(host.meta.agent(NAME, version), host.meta.agent("other", other))


def two_installed(host: Host) -> None:
    for version in ("1.0.0", "2.0.0"):
        host.publish(version)
        host.publish(version, "other")
    both(host, "1.0.0", "1.0.0")
    for _ in range(2):
        assert host.apply().code == 0


def test_all_that_can_fail_is_done_before_a_place_is_asked(make: MakeHost, watched: Server) -> None:
    host = make("one")
    host.configure(fleet_lock={"url": watched.url})
    installed(host)
    pid, seen = host.pid(), list[tuple[int | None, list[str]]]()
    watched.store.seen = lambda: seen.append((host.pid(), host.versions()))  # type: ignore[union-attr]
    want(host, "2.0.0")
    assert host.apply().code == 0
    assert seen[0] == (pid, ["1.0.0", "2.0.0"]), "it runs, and what replaces it lies beside it"


def test_agents_of_one_group_ask_once_in_a_pass(make: MakeHost, lock: Server) -> None:
    host = make("one")
    two_installed(host)
    lock.asked.clear()
    both(host, "2.0.0", "2.0.0")
    assert host.apply().code == 0
    assert asked(lock) == ["pre-reboot"]
    assert host.apply().code == 0
    assert asked(lock) == ["pre-reboot", "steady-state"]


def test_each_group_has_places_of_its_own(make: MakeHost, lock: Server) -> None:
    host = make("one")
    host.configure(fleet_lock={"url": lock.url, "group": {NAME: "monitoring", "*": "web"}})
    two_installed(host)
    other_takes(lock)
    both(host, "2.0.0", "2.0.0")
    done = host.apply()
    assert (host.ask().version, host.ask("other").version) == ("2.0.0", "1.0.0")
    assert done.condition("Ready", "other") == ("False", "WaitingForPlace")
    other_gives_back(lock)
    for _ in range(2):
        assert host.apply().code == 0
    assert host.ask("other").version == "2.0.0"
    assert (lock.store.holders("web"), lock.store.holders("monitoring")) == ([], [])


def test_an_agent_without_a_group_needs_no_place(make: MakeHost, lock: Server) -> None:
    host = make("one")
    host.configure(fleet_lock={"url": lock.url, "group": {"other": "web"}})
    installed(host)
    other_takes(lock)
    want(host, "2.0.0")
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"
    assert "pre-reboot" not in asked(lock)


def test_an_agent_with_cmd_stop_stays_stopped_without_a_place(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    host.desire("1.0.0", cmd="stop")
    assert host.apply().code == 0
    other_takes(lock)
    want(host, "2.0.0")
    for _ in range(2):
        waits = host.apply()
        assert (waits.code, is_waiting(waits)) == (3, True), "it must run, and is down"
        assert host.pid() is None, "the old version is never started on the way"
    other_gives_back(lock)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_wait_of_a_change_that_the_server_withdrew_is_forgotten(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    other_takes(lock)
    want(host, "2.0.0")
    assert is_waiting(host.apply())
    host.desire("1.0.0")
    assert host.apply().code == 0
    assert json.loads((host.var / "places.json").read_text())["waits"] == []


def test_a_place_is_not_released_amid_a_change(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    host.configure(watch="1h")
    want(host, "2.0.0")
    assert host.apply().code == 0
    host.updater("release", NAME, "--place")
    assert host.apply().code == 0
    assert len(lock.store.holders("web")) == 1, "it is within its watch"
    host.crash()
    assert host.apply().code == 4
    assert host.ask().version == "1.0.0"
    assert lock.store.holders("web") == [], "what an operator wanted is done once nothing is amid a change"


def test_a_release_says_whether_a_place_is_kept(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    assert "place" not in host.updater("release", NAME).out
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    assert len(lock.store.holders("web")) == 1, "its content was rolled back here"
    place = "the place of the group web in the fleet's lock"
    for whom in (NAME, "--all"):
        kept = f"{NAME}: still stands: {place} (`updater release {NAME} --place` gives it back)\n"
        assert kept in host.updater("release", whom).out
    assert "is given back with the next pass" in host.updater("release", NAME, "--place").out
    host.desire("1.0.0")
    assert host.apply().code == 0
    assert lock.store.holders("web") == []
    assert "place" not in host.updater("release", NAME).out


def test_a_daemon_killed_within_the_watch_gives_the_place_back_when_it_runs_again(make: MakeHost, lock: Server) -> None:
    host = make("one")
    installed(host)
    host.configure(watch="4s", interval=2)
    want(host, "2.0.0")
    with host.daemon("--now") as daemon:
        until(lambda: "pre-reboot" in asked(lock) and host.pid() is not None, "it changes")
        until(lambda: host.ask().version == "2.0.0", "the new version runs")
        daemon.send(signal.SIGKILL)
        daemon.ended()
    with host.daemon("--now"):
        until(lambda: lock.store.holders("web") == [], "the place is given back")
    assert host.ask().version == "2.0.0"


def test_who_is_to_end_while_the_lock_server_takes_its_time_begins_no_change(make: MakeHost, watched: Server) -> None:
    host = make("one")
    host.configure(fleet_lock={"url": watched.url})
    installed(host)
    pid, asks, may_answer = host.pid(), threading.Event(), threading.Event()

    def seen() -> None:
        asks.set()
        may_answer.wait(60)

    watched.store.seen = seen  # type: ignore[union-attr]
    want(host, "2.0.0")
    run = host.begin("apply", "--once")
    assert asks.wait(60)
    run.send(signal.SIGTERM)
    may_answer.set()
    run.ended()
    assert (host.pid(), host.ask().version) == (pid, "1.0.0")
    assert watched.store.holders("default") == []
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


class Guarded(Handler):
    """Answers only who has the password."""

    def do_POST(self) -> None:
        wanted = "Basic " + base64.b64encode(b"ops:right").decode()
        if self.headers.get("Authorization") != wanted:
            self.rfile.read(int(self.headers["Content-Length"]))
            return self._answer(401, "", "")
        super().do_POST()


@pytest.fixture
def guarded() -> Iterator[Server]:
    server = Server(1, Memory())
    server.RequestHandlerClass = Guarded
    with serving(server):
        yield server


def test_a_lock_server_gets_the_password_where_it_is_named(make: MakeHost, guarded: Server, tmp_path: Path) -> None:
    host = make("one")
    (tmp_path / "password").write_text("right\n")
    (tmp_path / "password").chmod(0o600)
    auth = {"user": "ops", "password_file": str(tmp_path / "password")}
    host.configure(auth=auth, fleet_lock=None)
    installed(host)
    host.configure(fleet_lock={"url": guarded.url, "group": "web"})
    want(host, "2.0.0")
    refused = host.apply()
    assert (refused.code, is_waiting(refused)) == (3, True)
    assert "401" in host.updater("why", NAME).out
    host.configure(auth={**auth, "hosts": [guarded.url]})
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_reload_takes_up_another_password_of_the_lock_server(make: MakeHost, guarded: Server, tmp_path: Path) -> None:
    host = make("one")
    host.configure(fleet_lock=None)
    installed(host)
    (tmp_path / "password").write_text("wrong\n")
    (tmp_path / "password").chmod(0o600)
    host.configure(
        auth={"user": "ops", "password_file": str(tmp_path / "password"), "hosts": [guarded.url]},
        fleet_lock={"url": guarded.url, "group": "web"},
        interval=2,
    )
    want(host, "2.0.0")
    with host.daemon("--now") as daemon:
        host.wait_for_log("WaitingForPlace")
        (tmp_path / "password").write_text("right\n")
        daemon.send(signal.SIGHUP)
        until(lambda: host.ask().version == "2.0.0", "the lock server is asked with the new password")


# --- what changes while a place is kept ---


def halted(host: Host, lock: Server) -> None:
    """A bad version was rolled back, and the host keeps its place."""
    installed(host)
    want(host, "2.0.0", broken_start=True)
    assert host.apply().code == 4
    assert len(lock.store.holders("web")) == 1
    lock.asked.clear()


def test_a_lock_that_is_taken_out_of_the_config_gets_its_place_back(make: MakeHost, lock: Server) -> None:
    host = make("one")
    halted(host, lock)
    host.configure(fleet_lock=None)
    quarantined = host.apply()
    assert quarantined.condition("Quarantined") == ("True", "Quarantined")
    assert lock.store.holders("web") == []
    assert host.apply().condition("Quarantined") == ("True", "Quarantined")
    assert asked(lock) == ["steady-state"], "and nothing is asked from then on"


def test_a_lock_removed_while_its_server_is_away_is_given_its_place_back_later(make: MakeHost, lock: Server) -> None:
    host = make("one")
    halted(host, lock)
    note = json.loads((host.var / "places.json").read_text())["notes"][0]
    (host.var / "places.json").write_text(
        json.dumps({"notes": [{**note, "url": "http://127.0.0.1:9"}, note], "waits": [], "retry_at": None})
    )
    host.configure(fleet_lock=None)
    away = host.apply()
    assert away.condition("Quarantined") == ("True", "Quarantined")
    assert away.code == 3
    assert lock.store.holders("web") == [], "the other server is asked all the same"
    assert [note["url"] for note in json.loads((host.var / "places.json").read_text())["notes"]] == [
        "http://127.0.0.1:9"
    ]


def test_another_lock_server_is_asked_and_the_former_gets_its_place_back(make: MakeHost, lock: Server) -> None:
    host = make("one")
    halted(host, lock)
    with serving(Server(1, Memory())) as other:
        host.configure(fleet_lock={"url": other.url, "group": "web"})
        want(host, "2.0.1")
        assert host.apply().code == 0
        host.settle()
        assert (lock.store.holders("web"), other.store.holders("web")) == ([], [])
        assert asked(other) == ["pre-reboot", "steady-state"]


def test_a_host_that_is_renamed_keeps_its_place_and_leaves_none_behind(make: MakeHost, lock: Server) -> None:
    host = make("one")
    halted(host, lock)
    host.configure(hostname="renamed")
    for _ in range(2):
        assert host.apply().condition("Quarantined") == ("True", "Quarantined")
    assert [id.rpartition("-")[0] for id in lock.store.holders("web")] == ["one"], "and takes no second one"
    want(host, "2.0.1")
    for _ in range(3):
        host.apply()
    assert host.ask().version == "2.0.1"
    assert lock.store.holders("web") == []


def test_a_daemon_gives_back_a_place_that_another_run_took(make: MakeHost, lock: Server) -> None:
    """An operator's `apply` between two passes of the daemon: its place is the daemon's to give back."""
    host = make("one")
    installed(host)
    host.configure(watch="3s", interval=4)
    heartbeats = len(host.meta.heartbeats)
    with host.daemon("--now") as daemon:
        until(lambda: len(host.meta.heartbeats) > heartbeats + 1, "the daemon makes passes")

        def applied_meanwhile() -> bool:
            """The daemon sleeps through it, unless it is in a pass."""
            daemon.send(signal.SIGSTOP)
            want(host, "2.0.0")
            code = host.updater("apply", "--once").code
            if code == 75:
                host.desire("1.0.0")
            daemon.send(signal.SIGCONT)
            return code == 0

        until(applied_meanwhile, "an operator's run changes it")
        assert host.ask().version == "2.0.0"
        until(lambda: "steady-state" in asked(lock)[1:], "the place is given back when the watch has ended")
        until(lambda: lock.store.holders("web") == [], "no host holds a place")
    assert json.loads((host.var / "places.json").read_text())["notes"] == []


@pytest.mark.parametrize("kind", ["hold", "pin"])
def test_a_hold_or_a_pin_of_one_agent_keeps_no_place_that_another_took(make: MakeHost, lock: Server, kind: str) -> None:
    host = make("one")

    def both(version: str) -> None:
        host.meta.desire(host.meta.agent(NAME, version), host.meta.agent("other", "1.0.0"))

    for name, version in ((NAME, "1.0.0"), (NAME, "2.0.0"), ("other", "1.0.0"), ("other", "0.9.0")):
        host.publish(version, name)
    if kind == "pin":
        host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("other", "0.9.0"))
        host.apply()
        host.apply()
    both("1.0.0")
    for _ in range(2):
        host.apply()
    if kind == "hold":
        host.updater("hold", "other", "--reason", "r")
    else:
        assert host.updater("rollback", "other").code == 0
    both("2.0.0")
    for _ in range(3):
        host.apply()
    assert host.ask().version == "2.0.0"
    assert lock.store.holders("web") == []
