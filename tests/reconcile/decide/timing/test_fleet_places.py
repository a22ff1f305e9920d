"""Which changes need a place in a fleet's lock, how a refusal holds them, and how long a place is kept."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Held
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, Pin
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places, PlaceWait, keeps_place
from tests.reconcile.decide.worlds import NAME, NOW, content, record, remembered, seen, types, wish

LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
REFUSED = PlaceWait(group="web", since=NOW - 250, message="all 3 places are taken", answered=True)
FAILED = Failure(
    content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="died", at=NOW
)
WEB = Groups(others="web")


def view(
    asked: str, world: str, kept: AgentRecord | None = None, *, groups: Groups | None = WEB, wait: PlaceWait = REFUSED
) -> AgentEvaluation:
    wanted = wish(asked)
    sighting = AgentInputs(desired=wanted.desired, observed=seen(world), record=kept)
    moment = evolve(LIVE, refused_places=(wait,))
    return evaluate_agent(sighting, wanted.remote, moment, Rules(keep=99, groups=groups))


@pytest.mark.parametrize(
    ("asked", "world", "healed"),
    [
        ("start 2.0=A", "1.0=B started", ""),
        ("start 2.0=A", "1.0=B started; staged 2.0=A", ""),
        ("start 1.0=A", "1.0=B started", ""),
        # Its plan has no stop: without a place it would adopt what its fleet was halted for.
        ("start 2.0=A", "1.0=B stoped", "start"),
        ("start 2.0=A", "1.0=B stoped; staged 2.0=A", "start"),
        ("start 1.0=B+new", "1.0=B+old started", ""),
    ],
)
def test_a_change_of_what_is_in_use_needs_a_place(asked: str, world: str, healed: str) -> None:
    held = view(asked, world, remembered("old"))
    assert held.place_group == "web"
    assert isinstance(held.verdict, Held)
    assert (held.verdict.reason, held.verdict.until, types(held.due)) == ("WaitingForPlace", None, healed)
    assert held.verdict.message == "waits for a place of group web since 4m10s: all 3 places are taken"


@pytest.mark.parametrize(
    ("asked", "world", "kept", "due"),
    [
        ("start 1.0=A", "", None, "fetch verify unpack switch start"),
        ("start 1.0=B", "1.0=B stoped", None, "start"),
        ("start 1.0=B", "1.0=B started", None, ""),
        ("stop", "1.0=B started", None, "stop"),
        ("observe", "1.0=B started", None, ""),
        ("start 2.0=A", "2.0=A stoped; staged 1.0=B", "way back", "switch start"),
        ("start 2.0=A", "2.0=A started; staged 1.0=B", "pin", "stop switch start"),
    ],
)
def test_what_needs_no_place(asked: str, world: str, kept: str | None, due: str) -> None:
    back = {
        None: None,
        "way back": record(failures=(FAILED,), fallback=content("1.0=B")),
        "pin": record(pin=Pin(version="1.0", owner="o", at=NOW)),
    }
    assert types(view(asked, world, back[kept]).due) == due


def test_each_agent_has_its_group() -> None:
    change = ("start 2.0=A", "1.0=B started")
    assert view(*change, groups=None).place_group is None
    assert view(*change, groups=Groups(named={NAME: "db"}, others="web")).place_group == "db"
    assert view(*change, groups=Groups(named={"other": "db"})).place_group is None
    assert not isinstance(view(*change, groups=Groups(named={NAME: "db"})).verdict, Held), "another group was refused"
    assert Groups(named={"a": "x", "b": "x"}, others="y").all == ("x", "y")
    assert Groups(named={"a": "x"}).all == ("x",)


@pytest.mark.parametrize(
    ("wait", "wanted"),
    [
        (REFUSED, True),
        (evolve(REFUSED, since=NOW - 86399), True),
        (evolve(REFUSED, since=NOW - 86400), False),
        (evolve(REFUSED, since=NOW + 5), True),
        (evolve(REFUSED, answered=False), False),
    ],
)
def test_a_wait_is_no_trouble_while_the_server_answers_and_for_a_day(wait: PlaceWait, wanted: bool) -> None:
    assert view("start 2.0=A", "1.0=B started", wait=wait).waits_as_wanted is wanted
    assert not view("start 2.0=A", "1.0=B stoped", wait=wait).waits_as_wanted, "it must run, and is down"


def test_how_long_a_place_is_kept() -> None:
    wanted = content("2.0=A")
    assert not keeps_place(None, wanted)
    assert not keeps_place(record(), wanted)
    assert keeps_place(remembered("new 1.0>2.0"), wanted), "a switch is still to be confirmed"
    assert keeps_place(record(failures=(FAILED,)), wanted), "it was rolled back here"
    assert not keeps_place(record(failures=(FAILED,)), content("3.0=B")), "something else is wanted by now"
    assert not keeps_place(record(failures=(evolve(FAILED, verdict=FailureKind.NOT_REACHED),)), wanted)
    assert keeps_place(record(failures=(FAILED,)), None), "what is wanted is not known"
    assert not keeps_place(record(failures=(evolve(FAILED, verdict=FailureKind.NOT_REACHED),)), None)
    assert keeps_place(record(pin=Pin(version="1.0", owner="o", at=NOW)), wanted)


def test_the_wait_of_a_group() -> None:
    places = Places(notes=(), waits=(REFUSED,))
    assert places.wait_of("web") == REFUSED
    assert places.wait_of("db") is None
    assert places.wait_of(None) is None


def test_two_notes_are_one_place_for_different_agents() -> None:
    note = PlaceNote(group="web", id="host-1", url="http://lock", agents=frozenset({"falcon"}))
    assert note.is_same(evolve(note, agents=frozenset()))
    for other in (evolve(note, group="db"), evolve(note, id="host-2"), evolve(note, url="http://other")):
        assert not note.is_same(other)
