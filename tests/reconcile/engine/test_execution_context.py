"""What one plan notes on its way, whether it may touch what is in use, and what its steps may use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.act.context import SwitchNote
from reconcile.decide.actions import MoveHome, Plan, ResponseFingerprint, SwitchVersion
from reconcile.decide.conditions import FALSE, TRUE, Condition
from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import ControlCall, Failure, FailureKind, UpgradePhase
from reconcile.decide.timing.fleet_places import Groups, PlaceNote, Places
from reconcile.decide.timing.windows import Windows
from reconcile.engine.execution_context import PlanNotes, move_of
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.errors import WriteFailed
from reconcile.net.fleet_lock import FleetLock
from reconcile.storage.hold_files import put_hold
from reconcile.storage.place_file import read_places, write_places
from tests.loopback import Loopback, answers
from tests.reconcile.decide.worlds import BOOT, NAME, NOW, PLACE, content, memory, record
from tests.reconcile.engine.agent_results import held, view_of
from tests.yard import Yard

CALL = ControlCall(version="1.0", verb="start", pid=7, started=1, boot=BOOT, limit_s=60)
CHANGE = "start 2.0=B"


class Notes:
    """A plan's notes; `written`: the records that were written down, `fails`: whether that fails."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.written: list[Any] = []
        self.fails = False
        self.rules = Rules()
        self.places: PlaceKeeper | None = None

    def of(self, view: Any = None, kept: Any = None) -> PlanNotes:
        host = self.yard.around(rules=self.rules, clock=lambda: NOW, boot=BOOT)
        with self.yard.runtime(host=host, places=self.places) as runtime:
            context = runtime.context
        view = view_of(CHANGE) if view is None else view
        return PlanNotes(context=context, view=view, record=kept or record(), write=self._write)

    def _write(self, note: Any) -> None:
        if self.fails:
            raise WriteFailed("disk is full")
        self.written.append(note)


@pytest.fixture
def notes(yard: Yard) -> Notes:
    return Notes(yard)


# --- whether what is in use may be touched ---

HEALS = view_of(CHANGE, verdict=evolve(held("BackingOff"), plan=view_of(CHANGE).plan), place_group="web")


def test_a_plan_begins_where_nothing_speaks_against_it(notes: Notes) -> None:
    for view in (view_of(CHANGE), view_of(CHANGE, place_group="web")):  # this host has no lock
        plan = notes.of(view)
        assert not plan.declined
        assert (plan.may_begin(), plan.declined) == (True, False)


@pytest.mark.parametrize(("name", "may_begin"), [(NAME, False), ("another", True)])
def test_a_hold_that_came_meanwhile_keeps_even_a_heal_away(notes: Notes, name: str, may_begin: bool) -> None:
    put_hold(notes.yard.holds, name, Hold(owner="ann", reason="mine", since=NOW))
    for plan in (notes.of(), notes.of(HEALS)):
        assert (plan.may_begin(), plan.declined) == (may_begin, not may_begin)


@pytest.mark.parametrize(
    ("view", "may_begin"), [(view_of(CHANGE), False), (view_of(CHANGE, ""), True), (HEALS, True), (view_of(), True)]
)
def test_a_window_that_closed_meanwhile_keeps_a_change_away(notes: Notes, view: Any, may_begin: bool) -> None:
    notes.rules = Rules(windows=Windows(windows=()))
    plan = notes.of(view)
    assert (plan.may_begin(), plan.declined) == (may_begin, not may_begin)


def keeper(path: Path, url: str, yard: Yard) -> PlaceKeeper:
    write_places(path, Places(notes=()))
    places = PlaceKeeper(path, lambda: NOW)
    places.begin_pass(FleetLock(url, "host-1", yard.http, 5.0), Groups(others="web"), asks_again=True)
    return places


@pytest.mark.parametrize(
    ("status", "view", "may_begin", "asked"),
    [
        (200, view_of(CHANGE, place_group="web"), True, 1),
        (500, view_of(CHANGE, place_group="web"), False, 1),
        (500, view_of(CHANGE), True, 0),  # it needs no place
        (500, HEALS, True, 0),
    ],
)
def test_a_change_that_needs_a_place_asks_for_it_last(
    notes: Notes, yard: Yard, status: int, view: Any, may_begin: bool, asked: int
) -> None:
    with Loopback(answers(status=status)) as server:
        path = yard.folder / "places.json"
        notes.places = keeper(path, server.origin, yard)
        plan = notes.of(view)
        assert (plan.may_begin(), plan.declined, len(server.requests)) == (may_begin, not may_begin, asked)
        kept = read_places(path)
        assert kept is not None
        wanted = PlaceNote(group="web", id="host-1", url=server.origin, agents=frozenset({NAME}))
        assert kept.notes == (wanted,) * asked
        put_hold(yard.holds, NAME, Hold(owner="ann", reason="mine", since=NOW))
        assert not notes.of(view).may_begin()
        assert len(server.requests) == asked, "a held one takes no place"


# --- how far a switch is ---


def test_a_switch_is_written_down_when_it_begins_and_when_it_is_up(notes: Notes) -> None:
    plan = notes.of()
    plan.note(SwitchNote.BEGINS)
    [begun] = notes.written
    assert plan.record == begun
    assert begun.confirmation.to == plan.view.target.content
    assert begun.confirmation.before.version == "1.0"
    assert (begun.confirmation.stage, begun.confirmation.at) == (UpgradePhase.SWITCHING, NOW)
    assert (begun.confirmation.boot, begun.confirmation.left) == (BOOT, None)
    assert begun.delivering is None
    plan.note(SwitchNote.CAME_UP)
    assert notes.written[1:] == [plan.record]
    confirmed = plan.record.confirmation
    assert confirmed is not None
    assert (confirmed.stage, confirmed.deadline) == (UpgradePhase.WATCHING, NOW + notes.rules.watch)


def test_a_switch_notes_the_config_that_it_delivers(notes: Notes) -> None:
    plan = notes.of(view_of("start 2.0=B+c2"))
    plan.note(SwitchNote.BEGINS)
    assert plan.record.delivering == memory("c2").digest


@pytest.mark.parametrize("kind", list(SwitchNote))
def test_the_way_back_is_no_switch_to_be_watched(notes: Notes, kind: SwitchNote) -> None:
    plan = notes.of(HEALS)
    plan.note(kind)
    assert (notes.written, plan.record) == ([], record())


def test_a_note_that_can_not_be_written_is_none(notes: Notes) -> None:
    plan = notes.of()
    notes.fails = True
    with pytest.raises(WriteFailed):
        plan.note(SwitchNote.BEGINS)
    assert plan.record == record(), "what is not on the disk did not happen"


# --- control calls ---

RUNNING = Condition(type="Running", status=TRUE, reason="AsDesired", since=1.0)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("verb", "status", "since"), [("start", TRUE, 1.0), ("stop", FALSE, NOW)])
def test_a_call_is_noted_and_goes_on_whether_that_is_written_or_not(
    notes: Notes, verb: str, status: str, since: float, fails: bool
) -> None:
    notes.fails = fails
    plan, call = notes.of(kept=record(conditions=(RUNNING,))), evolve(CALL, verb=verb)
    plan.call(call)
    assert notes.written == ([] if fails else [plan.record])
    assert plan.record.calls == (call,)
    [running] = plan.record.conditions
    assert (running.status, running.since) == (status, since)
    context = plan.step_context(threading.Event())
    assert context.calls() == (call,)
    plan.over(call)
    assert plan.record.calls == context.calls() == (evolve(call, over=True),)
    assert len(notes.written) == (0 if fails else 1), "with what came of it"


# --- what the steps may use ---


def test_steps_are_given_what_the_pass_has(notes: Notes) -> None:
    plan, ending = notes.of(), threading.Event()
    context, means = plan.step_context(ending), plan.context
    assert context.ending is ending
    assert (context.http, context.cache, context.bounds) == (means.host.http, means.cache, means.bounds)
    assert (context.throttle, context.control, context.status) == (means.throttle, means.control, means.host.limits)
    assert (context.boot, context.clock, context.workers) == (BOOT, means.host.clock, means.host.workers)
    assert context.home == plan.view.desired.home
    assert (context.signed, context.refused, dict(context.contents)) == (False, None, {})


def test_bytes_that_arrive_are_told_with_their_agent(notes: Notes) -> None:
    plan, told = notes.of(), list[Any]()
    plan.context = evolve(plan.context, arrived=lambda view, size, total: told.append((view, size, total)))
    plan.step_context(threading.Event()).arrived(3, 9)
    assert told == [(plan.view, 3, 9)]


def test_a_host_with_trusted_keys_asks_for_signatures(notes: Notes) -> None:
    plan = notes.of()
    restrictions = evolve(plan.context.host.policy.restrictions, trusted_keys=frozenset({"RWQ"}))
    policy = evolve(plan.context.host.policy, restrictions=restrictions)
    plan.context = evolve(plan.context, host=evolve(plan.context.host, policy=policy))
    assert plan.step_context(threading.Event()).signed


@pytest.mark.parametrize(
    ("asked", "content", "known"),
    [("start 2.0=B+c2", lambda: b"{}", True), ("start 2.0=B+c2", None, False), (CHANGE, lambda: b"{}", False)],
)
def test_a_config_that_was_fetched_is_read_by_its_digest(
    notes: Notes, asked: str, content: Callable[[], bytes] | None, known: bool
) -> None:
    context = notes.of(view_of(asked, content=content)).step_context(threading.Event())
    assert dict(context.contents) == ({memory("c2").digest: b"{}"} if known else {})


def test_all_trees_of_the_home_are_known_by_their_digests(notes: Notes) -> None:
    view = view_of(CHANGE, "1.0=A started; staged 2.0=B; previous 0.9=S")
    by_digest = notes.of(view).step_context(threading.Event()).on_disk
    assert {digest.partition(":")[0] + digest[-1]: version for digest, version in by_digest.items()} == {
        "md5a": "1.0",
        "md5b": "2.0",
        "sha2565": "0.9",
    }
    assert notes.of(view_of(CHANGE, "")).step_context(threading.Event()).on_disk == {}


@pytest.mark.parametrize(
    ("verdict", "to", "downloads", "refused"),
    [
        (FailureKind.NOT_REACHED, "2.0=B", 2, True),
        (FailureKind.ROLLED_BACK, "2.0=B", 2, False),
        (FailureKind.NOT_REACHED, "3.0=B", 2, False),
        (FailureKind.NOT_REACHED, "2.0=B", 1, False),
    ],
)
def test_wrong_bytes_are_not_downloaded_again(
    notes: Notes, verdict: FailureKind, to: str, downloads: int, refused: bool
) -> None:
    served = ResponseFingerprint(url="http://meta/falcon", etag="x")
    failure = Failure(
        content=content(to),
        verdict=verdict,
        reason="DigestDiffers",
        message="",
        at=NOW,
        served=served,
        downloads=downloads,
        downloaded_at=NOW,
    )
    plan = notes.of(view_of(CHANGE), record(failures=(failure,)))
    assert plan.step_context(threading.Event()).refused == (served if refused else None)


# --- moves ---


def test_a_move_goes_into_the_home_that_is_named_or_wanted() -> None:
    old, new = evolve(PLACE, work_dir="/old"), evolve(PLACE, work_dir="/new")
    assert move_of(view_of(CHANGE)) is None
    for at, into in ((new, new), (None, view_of().desired.home)):
        move = MoveHome(switch=SwitchVersion(from_version="1.0", to="2.0", at=at), leaves=old)
        view = view_of(verdict=Plan(name=NAME, reason="WorkDirChanged", message="", actions=(move,)))
        found = move_of(view)
        assert found is not None
        assert (found.left, found.into) == (old, into)
