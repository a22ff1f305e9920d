"""A host's places during one pass: noted before they are asked, asked once, and given back whatever became of a run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places, PlaceWait
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.net.fleet_lock import FleetLock
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.storage.place_file import read_places, write_places
from tests.loopback import Loopback, Peer, answers
from tests.support.fleet_lock_server import Memory, Server

NOW = 1_000_000.0
WEB = Groups(others="web")
NO_PLACES = Places(notes=())
NOTE = PlaceNote(group="web", id="host-1")


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
    lock = FleetLock(url, id, HttpClient(HttpOptions(user_agent="test")), 5.0)
    places = PlaceKeeper(lock, groups, path, lambda: now)
    places.begin_pass(asks_again=asks_again)
    return places


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A memory that knows of no place."""
    write_places(tmp_path / "places.json", NO_PLACES)
    return tmp_path / "places.json"


def asked(server: Server) -> list[str]:
    return [path.rpartition("/")[2] for path, _, _ in server.asked]


def test_what_is_remembered_is_what_was_written(tmp_path: Path) -> None:
    wait = PlaceWait(group="web", since=1.5, message="all taken", answered=True)
    places = Places(notes=(NOTE,), waits=(wait,), retry_at=7.0)
    write_places(tmp_path / "places.json", places)
    assert read_places(tmp_path / "places.json") == places
    assert os.listdir(tmp_path) == ["places.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"notes": 1}', '{"notes": [{}], "waits": [], "retry_at": null}'])
def test_what_can_not_be_read_is_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "places.json").write_text(content)
    assert read_places(tmp_path / "places.json") is None
    assert read_places(tmp_path / "none.json") is None
    os.mkfifo(tmp_path / "fifo")
    assert read_places(tmp_path / "fifo") is None


def test_a_place_is_noted_before_it_is_asked_and_asked_once(path: Path) -> None:
    noted: list[Places | None] = []

    def story(peer: Peer) -> None:
        noted.append(read_places(path))
        answers()(peer)

    with Loopback(story) as server:
        places = keeper(path, server.origin)
        assert places.take("web")
        assert places.take("web")
        assert len(server.requests) == 1
    assert noted == [Places(notes=(NOTE,))]
    assert places.groups_held == {"web"}
    assert places.reachable == (True, "")


def test_a_refusal_leaves_no_note_and_is_remembered(server: Server, path: Path) -> None:
    assert keeper(path.with_name("other.json"), server.url, id="other").take("web")
    places = keeper(path, server.url)
    assert not places.take("web")
    assert not places.take("web")
    assert [(one.since, one.answered) for one in places.in_force] == [(NOW, True)]
    assert "all 1 places of web are taken" in places.in_force[0].message
    assert places.groups_held == frozenset()
    assert places.reachable == (True, "")
    later = keeper(path, server.url, now=NOW + 60)
    assert not list(later.in_force), "it is asked again"
    assert not later.take("web")
    assert later.in_force[0].since == NOW, "since the first one in a row"
    assert keeper(path, server.url, asks_again=False).in_force[0].since == NOW


def test_a_refusal_is_forgotten_once_there_is_a_place(server: Server, path: Path) -> None:
    other = keeper(path.with_name("other.json"), server.url, id="other")
    assert other.take("web")
    assert not keeper(path, server.url).take("web")
    other.give_back("web")
    places = keeper(path, server.url)
    assert places.take("web")
    assert read_places(path) == Places(notes=(NOTE,))


def test_without_an_answer_the_note_stays_since_nobody_knows(path: Path) -> None:
    places = keeper(path, "http://127.0.0.1:9")
    assert not places.take("web")
    assert places.groups_held == {"web"}
    assert places.reachable is not None
    assert places.reachable[0] is False
    assert [one.answered for one in places.in_force] == [False]


def test_a_place_that_can_not_be_noted_is_not_asked(server: Server, path: Path) -> None:
    places = keeper(path.parent / "none" / "places.json", server.url, groups=Groups())
    assert not places.take("web")
    assert server.asked == []
    assert "can't be written" in places.in_force[0].message


def test_a_place_is_given_back_and_the_note_goes(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web")
    places = keeper(path, server.url)
    places.give_back("web")
    places.give_back("web")
    assert (places.groups_held, read_places(path)) == (frozenset(), NO_PLACES)
    assert asked(server) == ["pre-reboot", "steady-state"]


def test_what_can_not_be_given_back_is_given_back_later(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web")
    places = keeper(path, "http://127.0.0.1:9")
    places.give_back("web")
    assert places.groups_held == {"web"}
    assert places.places.retry_at is not None
    assert NOW + 30 <= places.places.retry_at <= NOW + 90
    keeper(path, server.url).give_back("web")
    assert read_places(path) == NO_PLACES


def test_a_place_that_is_kept_is_asserted_once_a_pass(server: Server, path: Path) -> None:
    assert keeper(path, server.url).take("web")
    places = keeper(path, server.url)
    places.assert_kept("web")
    places.assert_kept("web")
    assert places.take("web"), "a plan that outlasts its pass need not ask anew"
    assert asked(server) == ["pre-reboot", "pre-reboot"]
    places.begin_pass(asks_again=False)
    assert places.take("web")
    assert asked(server) == ["pre-reboot"] * 3
    assert places.groups_held == {"web"}


def test_a_memory_that_was_made_anew_may_hold_a_place_in_each_group(server: Server, tmp_path: Path) -> None:
    groups = Groups(named={"a": "db", "b": "web"}, others="web")
    places = keeper(tmp_path / "places.json", server.url, groups=groups)
    assert places.groups_held == {"db", "web"}
    assert places.may_be_left_over("db")
    for group in places.groups_held:
        places.give_back(group)
    assert sorted(asked(server)) == ["steady-state", "steady-state"]
    assert keeper(tmp_path / "places.json", server.url, groups=groups).groups_held == frozenset()
    places.begin_pass(asks_again=True)
    assert not places.may_be_left_over("db")


def test_a_place_that_was_taken_is_not_left_over_though_the_memory_is_new(server: Server, tmp_path: Path) -> None:
    places = keeper(tmp_path / "places.json", server.url)
    assert places.take("web")
    assert not places.may_be_left_over("web")


def test_a_place_is_given_back_under_the_id_that_took_it(server: Server, path: Path) -> None:
    assert keeper(path, server.url, id="old-name").take("web")
    places = keeper(path, server.url, id="new-name")
    places.give_back("web")
    assert [id for _, id, _ in server.asked] == ["old-name", "old-name"]
    assert places.groups_held == frozenset()


def test_agents_that_ask_at_the_same_time_share_one_answer(server: Server, path: Path) -> None:
    places = keeper(path, server.url)
    got: list[bool] = []
    threads = [threading.Thread(target=lambda: got.append(places.take("web"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [True] * 8
    assert asked(server) == ["pre-reboot"]
    assert json.loads(path.read_text())["notes"] == [{"group": "web", "id": "host-1"}]
