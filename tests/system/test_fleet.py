"""A fleet on real etcd: two lock servers over three nodes that die, hang and lose their quorum."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from reconcile.decide.timing.fleet_places import Groups
from reconcile.engine.place_keeper import PlaceKeeper, PlaceNeeds
from reconcile.net.fleet_lock import FleetLock
from reconcile.net.http_client import HttpClient, HttpOptions
from tests.conformance.check import run
from tests.conformance.fleet_lock import Subject, checks
from tests.e2e.host import ROOT, Completed, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.e2e.warm import Warm
from tests.support.etcd import BINARY, EtcdCluster
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.fleet_lock_server import Etcd
from updater.demo import agent as agents

GROUP, PLACES = "web", 3
HOSTS, CHANGES, AT_ONCE = 20, 1000, 30

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(BINARY is None, reason="needs Debian's etcd-server; `./control test --system` installs it"),
]


class LockServer:
    """A process of tests/support/fleet_lock_server.py on that etcd; it comes back at the same port."""

    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = endpoints
        self._port = "0"
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        program = ROOT / "tests" / "support" / "fleet_lock_server.py"
        etcd = ["--etcd", ",".join(self._endpoints), "--group", GROUP]
        command = [sys.executable, str(program), "--places", str(PLACES), "--port", self._port, *etcd]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        _, self._port = self._process.stdout.readline().split()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture
def etcd(processes: Processes) -> Iterator[EtcdCluster]:
    """In memory: it waits for its disk at each change, and three of them share this one."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        folder = TemporaryDirectory(prefix="etcd-", dir=memory if memory.is_dir() else None)
        yield stack.enter_context(EtcdCluster(Path(stack.enter_context(folder))))


@pytest.fixture
def locks(etcd: EtcdCluster) -> Iterator[list[LockServer]]:
    """Two, which begin with another node each."""
    servers = [LockServer(etcd.endpoints), LockServer(etcd.endpoints[::-1])]
    yield servers
    for server in servers:
        server.kill()


# Changes alone: places and time, by the updater's own keeper of places


_GIVE_BACK_S = 120.0  # for all places, once there were changes enough; far beyond what it takes
_ALL_USED_S = 60.0  # that the first changes wait for each other


class Crowd:
    """Hosts that change without end. `most`: how many were between ask and give back at once, at the most."""

    def __init__(self, folder: Path, locks: list[LockServer]) -> None:
        self.done = 0
        self.most = 0
        self._between = 0
        self._folder = folder
        self._locks = locks
        self._guard = threading.Lock()
        self._enough = threading.Event()
        self._all_used = threading.Event()
        self._ends_at = 0.0  # monotonic seconds: until then places are given back
        self._threads = [threading.Thread(target=self._host, args=(number,)) for number in range(AT_ONCE)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends_at = time.monotonic() + _GIVE_BACK_S
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def makes(self, more: int) -> None:
        """Wait for so many further changes."""
        wanted = self.done + more
        until(lambda: self.done >= wanted, f"{wanted} changes", within=180)

    def _host(self, number: int) -> None:
        keeper = PlaceKeeper(self._folder / f"{number}.json", time.time)
        lock = FleetLock(self._locks[number % 2].url, f"host-{number}", HttpClient(HttpOptions(user_agent="test")))
        groups = Groups(others=GROUP)
        keeper.begin_pass(lock, groups, asks_again=True)
        while not self._enough.is_set() or (keeper.groups_held and time.monotonic() < self._ends_at):
            if not self._enough.is_set() and keeper.take(GROUP, "agent"):
                self._change()
            if keeper.groups_held:
                keeper.end_pass(PlaceNeeds(groups=groups, keeping=frozenset()), lambda: None)
            time.sleep(random.uniform(0.02, 0.1))
            keeper.begin_pass(lock, groups, asks_again=True)

    def _change(self) -> None:
        """The first ones last until all places are used at once."""
        with self._guard:
            self._between += 1
            self.most = max(self.most, self._between)
            if self._between == PLACES:
                self._all_used.set()
        self._all_used.wait(_ALL_USED_S)
        time.sleep(random.uniform(0.001, 0.02))
        with self._guard:
            self._between -= 1
            self.done += 1


def test_never_more_than_there_are_places_whatever_happens_to_the_servers(
    etcd: EtcdCluster, locks: list[LockServer], tmp_path: Path
) -> None:
    """A leader killed, a leader that hangs, no quorum, a lock server killed: changes may wait, and go on."""
    step = CHANGES // 8
    with Crowd(tmp_path, locks) as crowd:
        crowd.makes(step)
        assert crowd.most == PLACES, "all places are used"

        leader = etcd.wait_for_leader()
        etcd.kill(leader)
        crowd.makes(step)
        etcd.start(leader)
        crowd.makes(step)

        hanging = etcd.wait_for_leader()
        etcd.stop([hanging])
        crowd.makes(step)
        etcd.go_on([hanging])
        crowd.makes(step)

        leader = etcd.wait_for_leader()
        two = [leader, (leader + 1) % 3]
        etcd.stop(two)
        time.sleep(1)  # what was under way ends
        before = crowd.done
        time.sleep(3)
        assert crowd.done <= before + PLACES, "without a quorum no change begins"
        etcd.go_on(two)
        crowd.makes(step)

        locks[0].kill()
        time.sleep(3)  # its hosts can give no place back, so it may be that no host changes now
        locks[0].start()
        crowd.makes(CHANGES - crowd.done)
    assert crowd.most == PLACES
    assert Etcd(etcd.endpoints).holders(GROUP) == [], "each place is back, also where an answer was lost"


def test_both_lock_servers_keep_what_the_updater_relies_on(locks: list[LockServer]) -> None:
    def restart() -> None:
        for server in locks:
            server.kill()
            server.start()

    subject = Subject(urls=tuple(server.url for server in locks), places=PLACES, group=GROUP, restart=restart)
    assert [str(finding) for finding in run(checks(subject)) if finding.trouble or finding.left_out] == []


# Real hosts


@pytest.fixture
def hosts(tmp_path: Path, locks: list[LockServer], processes: Processes) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        warm = stack.enter_context(Warm())
        found = []
        for number in range(HOSTS):
            base = tmp_path / f"host-{number:02d}"
            base.mkdir()
            meta = stack.enter_context(FaultyOpsMeta(work_dir=base / "agents"))
            host = Host(base, meta, processes, warm)
            lock = {"url": locks[number % 2].url, "group": GROUP}
            host.configure(hostname=base.name, fleet_lock=lock, control_timeout={"start": 5})
            found.append(host)
        yield found
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


def all_pass(hosts: list[Host]) -> list[Completed]:
    """A pass of each, a few side by side, as processes of their own."""
    ended = []
    for first in range(0, len(hosts), 5):
        begun = [host.begin("apply", "--once", "-o", "json") for host in hosts[first : first + 5]]
        ended += [one.ended() for one in begun]
    return ended


def want(hosts: list[Host], version: str, **habits: Any) -> None:
    for host in hosts:
        host.publish(version, **habits)
        host.desire(version)


def reasons(results: list[Completed]) -> list[str]:
    return [result.condition("Ready")[1] for result in results]


def test_a_bad_version_ends_at_three_of_twenty_hosts_and_its_repair_comes_first_there(
    etcd: EtcdCluster, hosts: list[Host]
) -> None:
    places = Etcd(etcd.endpoints)
    want(hosts, "1.0.0")
    for _ in range(2):
        assert {result.code for result in all_pass(hosts)} == {0}
    assert places.holders(GROUP) == [], "first installs need no place"
    before = [host.pid() for host in hosts]

    want(hosts, "2.0.0", broken_start=True)
    first = all_pass(hosts)
    etcd.kill(leader := etcd.wait_for_leader())
    second = all_pass(hosts)
    etcd.start(leader)
    failed = [host for host, result in zip(hosts, first, strict=True) if result.code == 4]
    untouched = [(host, pid) for host, pid in zip(hosts, before, strict=True) if host not in failed]
    assert len(failed) == PLACES
    assert sorted(reasons(second)) == ["Quarantined"] * PLACES + ["WaitingForPlace"] * (HOSTS - PLACES)
    assert sorted(id.rpartition("-")[0] for id in places.holders(GROUP)) == sorted(
        host.folder.parent.name for host in failed
    )
    assert [host.pid() for host, _ in untouched] == [pid for _, pid in untouched]

    want(hosts, "2.0.1")
    others = [host for host, _ in untouched]
    assert set(reasons(all_pass(others))) == {"WaitingForPlace"}, "it is the turn of those that failed"
    for _ in range(2):
        assert {result.code for result in all_pass(failed)} == {0}
    assert {host.ask().version for host in failed} == {"2.0.1"}
    waiting = others
    while waiting:
        all_pass(waiting)
        still = [host for host in waiting if host.ask().version != "2.0.1"]
        assert len(waiting) - len(still) in range(1, PLACES + 1), "three at once, and some at each round"
        all_pass([host for host in waiting if host not in still])  # its watch has ended
        waiting = still
    assert places.holders(GROUP) == [], "no place is held at the end"
