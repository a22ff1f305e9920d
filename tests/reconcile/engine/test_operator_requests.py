"""What operators ask for: a pin is remembered for what is wanted here, and a request ends with what took it up."""

from __future__ import annotations

import os
from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import Pin
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places
from reconcile.engine.operator_requests import end_requests, remember_pin
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.net.fleet_lock import FleetLock
from reconcile.storage.hold_files import put_hold, put_place_release, put_release, read_requests
from reconcile.storage.place_file import write_places
from reconcile.storage.store import Store, read_state
from tests.reconcile.decide.worlds import NAME, NOW, record
from tests.reconcile.engine.agent_results import BACK, pass_found, view_of
from tests.yard import Yard

PIN = Pin(version="1.0.0", owner="ann", at=NOW)
NOBODY = frozenset[str]()


def pinned(yard: Yard, name: str = NAME) -> Store:
    store = Store(yard.db)
    try:
        remember_pin(yard.around(), store, name, PIN)
    finally:
        store.close()
    return store


def wanted_before(yard: Yard) -> None:
    """The last answer wants it; nothing is installed, and nothing is remembered of the agent."""
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0"))
    yard.run(wanted=lambda name: False)
    assert read_state(yard.db).record(NAME) is None


def test_a_pin_of_an_agent_that_is_not_wanted_is_none(yard: Yard) -> None:
    wanted_before(yard)
    pinned(yard, "another")
    assert read_state(yard.db).records == ()


def test_a_pin_is_remembered_where_nothing_was(yard: Yard) -> None:
    wanted_before(yard)
    pinned(yard)
    assert yard.record().pin == PIN
    assert yard.record().home.same_home(yard.place())


@pytest.mark.parametrize("released", [True, False])
def test_a_release_that_was_asked_for_before_ends_with_the_pin_and_what_it_lifts_is_lifted(
    yard: Yard, released: bool
) -> None:
    wanted_before(yard)
    home = yard.place()
    store = Store(yard.db)
    store.save([evolve(record(failures=(BACK,)), work_dir=home.work_dir, run_user=home.run_user)])
    store.close()
    if released:
        put_release(yard.holds, NAME)
    put_release(yard.holds, "another")
    pinned(yard)
    assert (yard.record().pin, bool(yard.record().failures)) == (PIN, not released)
    assert read_requests(yard.holds).releases == {"another"}


def left(yard: Yard) -> str:
    return " ".join(sorted(os.listdir(yard.holds)))


def ended(yard: Yard, *, left_alone: frozenset[str] = NOBODY, is_whole: bool = True, **rules: Any) -> str:
    """What is left of the requests after a pass over one agent; `rules`: `groups` and `places`, where there are any."""
    host = yard.around(rules=Rules(groups=rules.get("groups")))
    found = pass_found(requests=read_requests(yard.holds), agents=(view_of(),))
    end_requests(host, found, left_alone, rules.get("places"), is_whole=is_whole)
    return left(yard)


def test_a_whole_pass_has_taken_up_all_releases(yard: Yard) -> None:
    for name in (NAME, "one that is not wanted any more"):
        put_release(yard.holds, name)
    assert ended(yard) == ""


@pytest.mark.parametrize(("left_alone", "is_whole"), [(frozenset({"another"}), True), (NOBODY, False)])
def test_a_pass_over_some_agents_takes_up_their_releases_alone(
    yard: Yard, left_alone: frozenset[str], is_whole: bool
) -> None:
    for name in (NAME, "another"):
        put_release(yard.holds, name)
    assert ended(yard, left_alone=left_alone, is_whole=is_whole) == "another.release"


def test_a_release_waits_for_a_plan_that_goes_on(yard: Yard) -> None:
    put_release(yard.holds, NAME)
    assert ended(yard, left_alone=frozenset({NAME})) == f"{NAME}.release"


def test_a_hold_that_is_over_goes_and_one_that_lasts_stays(yard: Yard) -> None:
    put_hold(yard.holds, NAME, Hold(owner="ann", reason="mine", since=NOW - 60, until=NOW - 1))
    put_hold(yard.holds, "another", Hold(owner="ann", reason="mine", since=NOW - 60, until=NOW + 60))
    assert ended(yard) == "another.json"


def test_a_place_is_asked_back_until_it_is_given_back(yard: Yard) -> None:
    groups = Groups(named={"db-1": "db"}, others="web")
    write_places(yard.folder / "places.json", Places(notes=(PlaceNote(group="web", id="host-1", url="http://lock"),)))
    places = PlaceKeeper(yard.folder / "places.json", lambda: NOW)
    places.begin_pass(FleetLock("http://lock", "host-1", yard.http), groups, asks_again=True)
    for name in ("db-1", NAME):
        put_place_release(yard.holds, name)
    assert ended(yard, groups=groups, places=places) == f"{NAME}.place"
    assert ended(yard, groups=groups) == "", "no lock holds anything"
    put_place_release(yard.holds, NAME)
    assert ended(yard, places=places) == "", "it is of no group any more"
