"""What a pass says of its places: who keeps one, who is amid a change, who waits, and what operators released."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.admission import Freshness
from reconcile.decide.hold import Requests
from reconcile.decide.records.record import Pin
from reconcile.decide.timing.fleet_places import Groups, PlaceNote
from reconcile.engine.place_keeper import PlaceNeeds, needs_of
from reconcile.engine.results import going_on
from tests.reconcile.decide.worlds import NAME, NOW, record
from tests.reconcile.engine.agent_results import BACK, LIVE, WATCHED, held, pass_found, result_of, view_of

GROUPS = Groups(named={"db-1": "db"}, others="web")
NOBODY = frozenset[str]()


def needs(*results: Any, left_alone: frozenset[str] = NOBODY, is_whole: bool = True, **found: Any) -> PlaceNeeds:
    return needs_of(GROUPS, pass_found(**found), results, left_alone, is_whole=is_whole)


@pytest.mark.parametrize(
    ("asked", "changes", "kept", "is_kept"),
    [
        ("start 2.0=B", {}, record(), False),
        ("start 2.0=B", {}, None, False),
        ("start 2.0=B", {"verdict": held("HeldByOperator")}, record(), True),
        ("start 2.0=B", {}, record(pin=Pin(version="1.0", owner="ann", at=NOW)), True),
        ("start 2.0=B", {}, record(confirmation=WATCHED), True),
        ("start 2.0=B", {}, record(failures=(BACK,)), True),
        ("start 3.0=A", {}, record(failures=(BACK,)), False),  # what is wanted by now was not rolled back
        ("stop", {}, record(failures=(BACK,)), False),
    ],
)
def test_a_place_is_kept_for_what_is_held_pinned_watched_or_rolled_back(
    asked: str, changes: dict[str, Any], kept: Any, is_kept: bool
) -> None:
    result = result_of(view_of(asked, **changes), record=kept)
    assert needs(result).keeping == (frozenset({NAME}) if is_kept else NOBODY)


def test_where_what_is_wanted_is_refused_anything_that_was_rolled_back_keeps_its_place() -> None:
    view = view_of("start 3.0=A")
    refused = evolve(view, desired=evolve(view.desired, artifact=None))
    assert needs(result_of(refused, record=record(failures=(BACK,)))).keeping == frozenset({NAME})
    assert needs(result_of(refused, record=record())).keeping == NOBODY


@pytest.mark.parametrize(
    ("is_whole", "found"),
    [
        (False, {}),
        (True, {"nothing_desired": True}),
        (True, {"evaluation_context": evolve(LIVE, answered=Freshness.LAST_ACCEPTED)}),
    ],
)
def test_a_pass_that_does_not_know_all_that_is_wanted_says_nothing_of_who_needs_a_place(
    is_whole: bool, found: dict[str, Any]
) -> None:
    result = result_of(view_of(place_group="web"), record=record(confirmation=WATCHED))
    known = needs(result, is_whole=is_whole, **found)
    assert (known.keeping, known.waiting) == (None, None)
    assert (known.changing, known.is_busy) == (frozenset({NAME}), False), "what is amid a change is known all the same"


def test_plans_that_go_on_are_amid_a_change_and_keep_their_place() -> None:
    known = needs(going_on(view_of(place_group="web"), NOW), left_alone=frozenset({"other"}))
    both = frozenset({NAME, "other"})
    assert (known.keeping, known.changing, known.is_busy) == (both, both, True)
    assert known.waiting == frozenset({"web"})
    idle = needs(result_of(view_of(place_group="web"), after=view_of()))
    assert (idle.keeping, idle.changing, idle.is_busy, idle.waiting) == (NOBODY, NOBODY, False, frozenset({None}))


def test_an_operator_releases_the_groups_of_the_agents_that_are_named() -> None:
    requests = Requests(place_releases=frozenset({"db-1", NAME}))
    assert needs(requests=requests).released == frozenset({"db", "web"})
    assert needs().released == NOBODY


def test_a_place_concerns_the_agents_that_it_was_taken_for_or_all_of_its_group() -> None:
    known = needs()
    taken = PlaceNote(group="web", id="host-1", agents=frozenset({"a"}))
    unknown = evolve(taken, agents=NOBODY)
    assert [known.concern(taken, frozenset({name})) for name in ("a", "b")] == [True, False]
    assert [known.concern(unknown, frozenset({name})) for name in ("a", "b", "db-1")] == [True, True, False]
    assert not known.concern(unknown, NOBODY)
