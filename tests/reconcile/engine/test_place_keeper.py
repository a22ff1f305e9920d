"""A host's places during one pass: noted before they are asked, asked once, and given back whatever became of a run."""

from __future__ import annotations

import json
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import Pin
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places
from reconcile.engine.operator_requests import remember_pin
from reconcile.engine.place_keeper import PlaceKeeper, PlaceNeeds
from reconcile.engine.results import PassResult
from reconcile.net.fleet_lock import FleetLock
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.storage.hold_files import put_hold, put_place_release, read_requests
from reconcile.storage.place_file import read_places, write_places
from tests.loopback import Loopback, Peer, answers
from tests.support.fleet_lock_server import Memory, Server
from tests.yard import GIVEN_UP, NAME, Yard, ready
from updater.demo import agent

NOW = 1_000_000.0
WEB = Groups(others="web")
NO_PLACES = Places(notes=())


def note(url: str, *agents: str) -> PlaceNote:
    return PlaceNote(group="web", id="host-1", url=url, agents=frozenset(agents))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(1, Memory()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def keeper(
    path: Path, url: str, *, groups: Groups = WEB, id: str = "host-1", now: float = NOW, asks_again: bool = True
) -> PlaceKeeper:
    places = PlaceKeeper(path, lambda: now)
    begin(places, url, groups=groups, id=id, asks_again=asks_again)
    return places


def begin(places: PlaceKeeper, url: str, *, groups: Groups = WEB, id: str = "host-1", asks_again: bool = True) -> None:
    lock = FleetLock(url, id, HttpClient(HttpOptions(user_agent="test")), 5.0)
    places.begin_pass(lock, groups, asks_again=asks_again)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A memory that knows of no place."""
    write_places(tmp_path / "places.json", NO_PLACES)
    return tmp_path / "places.json"


def end(places: PlaceKeeper, **needs: Any) -> None:
    places.end_pass(PlaceNeeds(groups=WEB, **{"keeping": frozenset(), "waiting": frozenset(), **needs}), lambda: None)


def asked(server: Server) -> list[str]:
    return [path.rpartition("/")[2] for path, _, _ in server.asked]


def test_a_place_is_noted_before_it_is_asked_and_asked_once(path: Path) -> None:
    noted: list[Places | None] = []

    def story(peer: Peer) -> None:
        noted.append(read_places(path))
        answers()(peer)

    with Loopback(story) as server:
        places = keeper(path, server.origin)
        assert places.take("web", "a")
        assert places.take("web", "a")
        assert len(server.requests) == 1
    assert noted == [Places(notes=(note(server.origin, "a"),))]
    assert places.groups_held == {"web"}
    assert places.reachable == (True, "")


def test_a_refusal_leaves_no_note_and_is_remembered(server: Server, path: Path) -> None:
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    places = keeper(path, server.url)
    assert not places.take("web", "a")
    assert not places.take("web", "a")
    assert [(one.since, one.answered) for one in places.in_force] == [(NOW, True)]
    assert "all 1 places of web are taken" in places.in_force[0].message
    assert places.groups_held == frozenset()
    assert places.reachable == (True, "")
    later = keeper(path, server.url, now=NOW + 60)
    assert not list(later.in_force), "it is asked again"
    assert not later.take("web", "a")
    assert later.in_force[0].since == NOW, "since the first one in a row"
    assert keeper(path, server.url, asks_again=False).in_force[0].since == NOW


def test_a_refusal_is_forgotten_once_there_is_a_place(server: Server, path: Path) -> None:
    other = keeper(path.with_name("other.json"), server.url, id="other")
    assert other.take("web", "a")
    assert not keeper(path, server.url).take("web", "a")
    end(other)
    places = keeper(path, server.url)
    assert places.take("web", "a")
    assert read_places(path) == Places(notes=(note(server.url, "a"),))


def test_the_note_stays_without_an_answer(path: Path) -> None:
    places = keeper(path, "http://127.0.0.1:9")
    assert not places.take("web", "a")
    assert places.groups_held == {"web"}
    assert places.reachable is not None
    assert places.reachable[0] is False
    assert [one.answered for one in places.in_force] == [False]


def test_the_note_stays_where_a_server_fails_in_the_form_of_a_refusal(server: Server, path: Path) -> None:
    """Its store may have answered late: then this host has the place."""
    server.loses_answers = True
    places = keeper(path, server.url)
    assert not places.take("web", "a")
    assert places.groups_held == {"web"}
    assert [one.answered for one in places.in_force] == [True]


def test_a_place_that_can_not_be_noted_is_not_asked(server: Server, path: Path) -> None:
    places = keeper(path.parent / "none" / "places.json", server.url, groups=Groups())
    assert not places.take("web", "a")
    assert server.asked == []
    assert "can't be written" in places.in_force[0].message


def test_a_place_is_given_back_and_the_note_goes(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web", "a")
    places = keeper(path, server.url)
    end(places)
    end(places)
    assert (places.groups_held, read_places(path)) == (frozenset(), NO_PLACES)
    assert asked(server) == ["pre-reboot", "steady-state"]


def test_what_can_not_be_given_back_is_given_back_later(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web", "a")
    write_places(path, Places(notes=(note("http://127.0.0.1:9"), note(server.url))))
    places = keeper(path, server.url)
    end(places)
    assert places.places.notes == (note("http://127.0.0.1:9"),)
    assert places.retries == (), "the config names it no more: at the next slot, in case that it is gone for ever"
    write_places(path, Places(notes=(note("http://127.0.0.1:9"),)))
    places = keeper(path, "http://127.0.0.1:9")
    end(places)
    [retry_at] = places.retries
    assert NOW + 30 <= retry_at <= NOW + 90


def test_a_place_that_is_kept_is_asserted_once_a_pass(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web", "a")
    places = keeper(path, server.url)
    end(places, keeping=frozenset({"a"}))
    end(places, keeping=frozenset({"a"}))
    assert places.take("web", "a"), "a plan that outlasts its pass need not ask again"
    assert asked(server) == ["pre-reboot", "pre-reboot"]
    begin(places, server.url, asks_again=False)
    assert places.take("web", "a")
    assert asked(server) == ["pre-reboot"] * 3
    assert places.groups_held == {"web"}


def test_a_new_store_may_hold_a_place_in_each_group(server: Server, tmp_path: Path) -> None:
    groups = Groups(named={"a": "db", "b": "web"}, others="web")
    places = keeper(tmp_path / "places.json", server.url, groups=groups)
    assert places.groups_held == {"db", "web"}
    assert places.may_be_left_over("db")
    end(places)
    assert sorted(asked(server)) == ["steady-state", "steady-state"]
    assert keeper(tmp_path / "places.json", server.url, groups=groups).groups_held == frozenset()
    begin(places, server.url)
    assert not places.may_be_left_over("db")


def test_a_place_that_was_taken_is_not_left_over_though_the_memory_is_new(server: Server, tmp_path: Path) -> None:
    places = keeper(tmp_path / "places.json", server.url)
    assert places.take("web", "a")
    assert not places.may_be_left_over("web")


def test_a_place_is_given_back_under_the_id_that_took_it(server: Server, path: Path) -> None:
    assert keeper(path, server.url, id="old-name").take("web", "a")
    places = keeper(path, server.url, id="new-name")
    end(places)
    assert [id for _, id, _ in server.asked] == ["old-name", "old-name"]
    assert places.groups_held == frozenset()


def test_agents_that_ask_at_the_same_time_share_one_answer(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    got: list[bool] = []
    threads = [threading.Thread(target=lambda: got.append(places.take("web", "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [True] * 8
    assert asked(server) == ["pre-reboot"]
    assert json.loads(path.read_text())["notes"] == [
        {"group": "web", "id": "host-1", "url": server.url, "agents": ["a"]}
    ]


def test_without_a_lock_server_no_place_is_taken_nor_left_over(path: Path, tmp_path: Path) -> None:
    write_places(path, Places(notes=(note(""),)))  # of an older version, which noted no server
    for known in (path, tmp_path / "none.json"):
        places = keeper(known, "")
        assert not places.take("web", "a")
        end(places, keeping=None)
        assert (places.groups_held, places.in_force, places.retries, places.reachable) == (frozenset(), (), (), None)
        assert places.condition is None
    assert not (tmp_path / "none.json").exists(), "nothing is written where nothing changed"


def test_a_refusal_is_asked_for_once_a_pass(server: Server, path: Path) -> None:
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    places = keeper(path, server.url)
    for agent_name in ("a", "b", "a"):
        assert not places.take("web", agent_name)
    assert len(server.asked) == 2
    assert [(wait.group, wait.answered) for wait in places.in_force] == [("web", True)]
    assert places.take("db", "a"), "another group is another lock"
    assert [wait.group for wait in places.in_force] == ["web"]
    [kept] = places.places.notes
    assert (kept.group, kept.agents) == ("db", frozenset({"a"}))


def test_a_place_that_was_had_is_not_forgotten_with_a_refusal(server: Server, path: Path) -> None:
    """A server that lost its memory gave it to another host: it is given back there nevertheless."""
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    write_places(path, Places(notes=(note(server.url, "a"),)))
    places = keeper(path, server.url)
    assert not places.take("web", "a")
    assert places.groups_held == {"web"}
    places = keeper(path, server.url)
    end(places, keeping=frozenset({"a"}))
    assert not places.take("web", "b"), "it was refused in this pass already"
    assert asked(server) == ["pre-reboot"] * 3


def test_a_refusal_counts_from_the_first_in_a_row_however_the_clock_is_set(server: Server, path: Path) -> None:
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    for now, since in ((NOW, NOW), (NOW + 60, NOW), (NOW - 60, NOW - 60)):
        places = keeper(path, server.url, now=now)
        assert not places.take("web", "a")
        assert [wait.since for wait in places.in_force] == [since]


def test_a_place_is_of_all_agents_that_it_was_taken_for(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    assert places.take("web", "a")
    assert places.take("web", "b")
    assert read_places(path) == Places(notes=(note(server.url, "a", "b"),))
    write_places(path, Places(notes=(note(server.url),)))
    places = keeper(path, server.url)
    assert places.take("web", "a")
    assert read_places(path) == Places(notes=(note(server.url),)), "for whom else is not known"


def test_a_memory_that_was_removed_under_us_is_no_new_one(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    assert places.take("web", "a")
    path.unlink()
    begin(places, server.url)
    assert (places.places.notes, places.may_be_left_over("web")) == ((note(server.url, "a"),), False)


def test_what_may_be_left_over_is_so_until_it_is_written_down(server: Server, tmp_path: Path) -> None:
    places = keeper(tmp_path / "places.json", server.url)
    begin(places, server.url)
    assert places.may_be_left_over("web")


# --- the end of a pass ---


@pytest.mark.parametrize(
    ("needs", "is_kept"),
    [
        ({}, False),
        ({"keeping": frozenset({"a"})}, True),
        ({"keeping": frozenset({"another"})}, False),  # a pin or a hold of an agent that took no place
        ({"keeping": None}, True),  # it is unknown what is wanted
        ({"keeping": frozenset({"a"}), "released": frozenset({"web"})}, False),
        ({"keeping": frozenset({"a"}), "released": frozenset({"db"})}, True),
        ({"keeping": None, "released": frozenset({"web"})}, False),
        ({"changing": frozenset({"a"}), "released": frozenset({"web"})}, True),  # not amid a change
        ({"changing": frozenset({"another"}), "released": frozenset({"web"})}, False),
    ],
)
def test_a_place_is_kept_for_the_agents_that_it_was_taken_for(
    server: Server, path: Path, needs: dict[str, Any], is_kept: bool
) -> None:
    places = keeper(path, server.url)
    assert places.take("web", "a")
    end(places, **needs)
    assert bool(server.store.holders("web")) is is_kept
    assert (places.groups_held == {"web"}) is is_kept
    remembered = read_places(path)
    assert remembered is not None
    assert bool(remembered.notes) is is_kept


def test_a_note_of_an_older_version_counts_for_the_agents_of_its_group(server: Server, path: Path) -> None:
    path.write_text(json.dumps({"notes": [{"group": "web", "id": "host-1"}]}))
    places = keeper(path, server.url)
    end(places, keeping=frozenset({"a"}))
    assert asked(server) == ["pre-reboot"]
    end(places)
    assert asked(server) == ["pre-reboot", "steady-state"]


def test_a_place_that_was_given_back_is_asked_for_again(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    assert places.take("web", "a")
    end(places)
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    assert not places.take("web", "b")


def test_a_refusal_is_forgotten_once_nothing_waits_for_a_place(server: Server, path: Path) -> None:
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web", "a")
    places = keeper(path, server.url)
    assert not places.take("web", "a")
    for waiting, is_left in ((None, True), (frozenset({"web"}), True), (frozenset({None}), False)):
        end(places, waiting=waiting)
        assert (places.places.wait_of("web") is not None) is is_left
    later = keeper(path, server.url, now=NOW + 100_000)
    assert not later.take("web", "a")
    assert later.in_force[0].since == NOW + 100_000, "the wait of a change that was withdrawn is not this one's"


def test_a_server_that_does_not_answer_is_waited_for_once_a_pass(path: Path) -> None:
    with Loopback(answers(b"<html>", status=502)) as server:
        notes = tuple(PlaceNote(group=group, id="host-1", url=server.origin) for group in ("web", "db", "cache"))
        write_places(path, Places(notes=notes))
        places = keeper(path, server.origin)
        assert not places.take("web", "a")
        end(places)
        assert len(server.requests) == 1
        assert len(places.places.notes) == 3, "none is lost"
        assert len(places.retries) == 1


def test_what_only_looks_waits_for_no_server(path: Path) -> None:
    """A way back asks what is refused now, while another agent's change waits for the lock server."""
    asks, may_end = threading.Event(), threading.Event()

    def story(peer: Peer) -> None:
        peer.request()
        asks.set()
        may_end.wait(60)

    with Loopback(story) as server:
        places = keeper(path, server.origin)
        thread = threading.Thread(target=lambda: places.take("web", "a"))
        thread.start()
        assert asks.wait(60)
        looks = threading.Thread(target=lambda: (places.in_force, places.groups_held, places.retries))
        looks.start()
        looks.join(60)
        assert not looks.is_alive()
        may_end.set()
        thread.join(60)


def test_what_another_run_took_between_two_passes_is_known(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    assert keeper(path, server.url).take("web", "a")
    begin(places, server.url)
    assert places.groups_held == {"web"}
    end(places)
    assert server.store.holders("web") == []
    assert keeper(path, server.url).groups_held == frozenset()


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    on_limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, on_limit)


def test_what_could_not_be_written_is_not_forgotten_by_the_next_pass(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    assert places.take("web", "a")
    content = path.read_text()
    with no_room():
        end(places)
        assert path.read_text() == content
        begin(places, server.url)
        end(places)
    begin(places, server.url)
    end(places)
    assert read_places(path) == NO_PLACES


def test_a_slash_at_the_end_of_an_url_makes_no_other_server_of_it(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web", "a")
    places = keeper(path, f"{server.url}/")
    end(places, keeping=frozenset({"a"}))
    assert asked(server) == ["pre-reboot", "pre-reboot"], "it is kept"


def test_of_a_server_that_is_named_no_more_a_place_is_kept_while_a_plan_goes_on(server: Server, path: Path) -> None:
    with Loopback(answers()) as named_now:
        for busy, method in (({"is_busy": True}, "pre-reboot"), ({}, "steady-state")):
            write_places(path, Places(notes=(note(server.url, "a"),)))
            end(keeper(path, named_now.origin), keeping=frozenset({"a"}), **busy)
            assert asked(server)[-1] == method
        assert len(asked(server)) == 2
        assert named_now.requests == []


def test_what_may_be_left_over_is_given_back_amid_a_change(server: Server, tmp_path: Path) -> None:
    """It was not taken for that: the change asks for a place of its own before it touches anything."""
    end(keeper(tmp_path / "places.json", server.url), changing=frozenset({"a"}), keeping=frozenset({"a"}))
    assert asked(server) == ["steady-state"]


def test_a_place_under_a_former_name_is_given_back_and_ours_is_kept(server: Server, path: Path) -> None:
    server.places = 2
    assert keeper(path, server.url, id="old-name").take("web", "old")
    places = keeper(path, server.url)
    assert places.take("web", "a")
    end(places, keeping=frozenset({"a"}))
    assert places.take("web", "a"), "it was granted in this pass"
    assert [(method.rpartition("/")[2], id) for method, id, _ in server.asked] == [
        ("pre-reboot", "old-name"),
        ("pre-reboot", "host-1"),
        ("steady-state", "old-name"),
    ]
    assert server.store.holders("web") == ["host-1"]


def test_a_place_under_a_former_name_is_asserted_under_it(server: Server, path: Path) -> None:
    assert keeper(path, server.url, id="old-name").take("web", "a")
    end(keeper(path, server.url), keeping=frozenset({"a"}))
    assert [id for _, id, _ in server.asked] == ["old-name", "old-name"]


@pytest.mark.parametrize("named", [True, False])
def test_only_the_server_that_is_named_says_whether_it_can_be_reached(server: Server, path: Path, named: bool) -> None:
    ours = [note(server.url, "a")] if named else []
    write_places(path, Places(notes=(*ours, note("http://127.0.0.1:9"))))
    places = keeper(path, server.url if named else "")
    end(places)
    assert places.condition is not None
    assert (places.condition.status, bool(places.condition.message)) == (("True", False) if named else ("False", True))


def test_what_could_be_given_back_is_not_tried_again(server: Server, path: Path) -> None:
    write_places(path, Places(notes=(note(server.url, "a"),), retry_at=NOW - 1))
    places = keeper(path, server.url)
    assert list(places.retries) == [NOW - 1]
    end(places)
    assert list(places.retries) == []


def test_the_end_of_a_pass_gives_a_sign_of_life_before_each_request(server: Server, path: Path) -> None:
    notes = tuple(PlaceNote(group=group, id="host-1", url=server.url) for group in "abc")
    write_places(path, Places(notes=notes))
    seen: list[int] = []
    places = PlaceKeeper(path, lambda: NOW)
    begin(places, server.url)
    needs = PlaceNeeds(groups=WEB, keeping=frozenset(), waiting=frozenset())
    places.end_pass(needs, lambda: seen.append(len(server.asked)))
    assert seen == [0, 1, 2]


# --- whole passes ---


class Fleet:
    """The passes of one host of a fleet, whose server has one place."""

    def __init__(self, yard: Yard, server: Server, path: Path) -> None:
        self.keeper = PlaceKeeper(path, time.time)
        self.url = server.url
        self._yard, self._server = yard, server

    def run(self, *versions: str, ask: DesiredFrom = DesiredFrom.EXCHANGE, **changes: Any) -> PassResult:
        """One pass. `versions`: `1.0.0`, or `other 1.0.0` for another agent; none: what was wanted before."""
        meta = self._yard.meta
        if versions:
            wanted = [version.split() if " " in version else (NAME, version) for version in versions]
            meta.desire(*(meta.agent(name, version) for name, version in wanted))
        begin(self.keeper, self.url)
        host = self._yard.around(rules=Rules(groups=WEB), refused_places=lambda: self.keeper.in_force)
        return self._yard.run(ask, host=host, places=self.keeper, **changes)

    def has_place(self) -> bool:
        return bool(self._server.store.holders("web"))


@pytest.fixture
def fleet(yard: Yard, server: Server, path: Path) -> Fleet:
    """1.0.0 runs, which needed no place, and 2.0.0 is published."""
    for version in ("1.0.0", "2.0.0"):
        yard.publish(version)
    fleet = Fleet(yard, server, path)
    fleet.run("1.0.0")
    yard.settle()
    assert server.asked == []
    return fleet


def test_a_change_keeps_its_place_until_it_is_confirmed(fleet: Fleet, server: Server, yard: Yard) -> None:
    result = fleet.run("2.0.0")
    assert (agent.ask(yard.home()).version, fleet.has_place(), result.places_held) == ("2.0.0", True, ("web",))
    assert fleet.run().places_held == ("web",), "it is watched"
    yard.later += Rules().watch + 1
    assert fleet.run().places_held == ()
    assert (fleet.has_place(), asked(server)) == (False, ["pre-reboot", "pre-reboot", "steady-state"])


def test_without_a_place_a_change_waits_and_no_server_is_asked_that_did_not_answer(
    fleet: Fleet, server: Server, yard: Yard, path: Path
) -> None:
    other = keeper(path.with_name("other.json"), server.url, id="other")
    assert other.take("web", "a")
    result = fleet.run("2.0.0")
    assert ready(result) == ("False", "WaitingForPlace")
    assert [(c.type, c.status) for c in result.conditions if c.type.startswith("Lock")] == [
        ("LockServerReachable", "True")
    ]
    assert (agent.ask(yard.home()).version, result.places_held) == ("1.0.0", ())
    end(other)
    assert fleet.run().all_ready
    assert agent.ask(yard.home()).version == "2.0.0"


def watched(fleet: Fleet, yard: Yard) -> None:
    """2.0.0 was confirmed, but no pass has given its place back."""
    fleet.run("2.0.0")
    yard.settle()
    assert fleet.has_place()


def test_a_pass_that_knows_not_all_that_is_wanted_gives_no_place_back(fleet: Fleet, yard: Yard) -> None:
    watched(fleet, yard)
    fleet.run(wanted=lambda name: name == "another")
    fleet.run(ask=DesiredFrom.LAST_ACCEPTED)
    yard.meta.desire()
    assert fleet.run().assessment.nothing_desired
    assert fleet.has_place()
    fleet.run("2.0.0")
    assert not fleet.has_place()


@pytest.mark.parametrize("why", ["held", "pinned", "rolled back"])
def test_a_place_is_kept_while_an_operator_or_a_rollback_holds_the_agent(
    fleet: Fleet, yard: Yard, path: Path, why: str
) -> None:
    if why == "rolled back":
        yard.publish("3.0.0", broken_start=True)
        assert ready(fleet.run("3.0.0", control=GIVEN_UP)) == ("False", "RolledBack")
    else:
        watched(fleet, yard)
    if why == "held":
        put_hold(yard.holds, NAME, Hold(owner="ann", reason="debugging"))
    if why == "pinned":
        with yard.runtime() as runtime:
            pin = Pin(version="1.0.0", owner="ann", at=yard.around().clock())
            remember_pin(yard.around(), runtime.store, NAME, pin)
    fleet.run()
    assert fleet.has_place()
    put_place_release(yard.holds, NAME)
    assert read_requests(yard.holds).place_releases == {NAME}
    fleet.run()
    assert not fleet.has_place(), "an operator asked for that"
    assert read_requests(yard.holds).place_releases == frozenset()


def test_a_place_that_could_not_be_given_back_is_still_asked_back(fleet: Fleet, yard: Yard, path: Path) -> None:
    put_hold(yard.holds, NAME, Hold(owner="ann", reason="debugging"))
    put_place_release(yard.holds, NAME)
    fleet.url = "http://127.0.0.1:9"
    write_places(path, Places(notes=(note(fleet.url, NAME),)))
    result = fleet.run()
    assert read_requests(yard.holds).place_releases == {NAME}
    assert result.wake_at is not None
    assert [(c.type, c.status) for c in result.conditions if c.type.startswith("Lock")] == [
        ("LockServerReachable", "False")
    ]
