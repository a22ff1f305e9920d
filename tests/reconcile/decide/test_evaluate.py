"""What a pass learns of one agent's view: what is due now, where a rollback goes, whether a user is missing."""

from __future__ import annotations

import pytest
from attrs import evolve

from probes.observed import ObservedAgent, ObservedHost
from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RuleViolation
from reconcile.decide.evaluate import (
    AgentEvaluation,
    AgentInputs,
    Rules,
    conditions_of,
    evaluate_agent,
    heal_of,
    view_healed,
    where_they_live,
)
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import AgentRecord, Crashes, Failure, FailureKind, Pin
from reconcile.decide.target import Blocker
from tests.reconcile.decide.homes import homes, place
from tests.reconcile.decide.worlds import NAME, NOW, content, record, remembered, seen, types, wish

LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
KEPT = EvaluationContext(now=NOW, answered=Freshness.LAST_ACCEPTED, why_not_live="connection refused")
HOLD = Hold(owner="ann", reason="mine", since=NOW)


def view(
    asked: str,
    world: str | ObservedAgent,
    kept: AgentRecord | None = None,
    *,
    moment: EvaluationContext = LIVE,
    hold: Hold | None = None,
    barred: RuleViolation | None = None,
) -> AgentEvaluation:
    wanted = wish(asked)
    observed = seen(world) if isinstance(world, str) else world
    sighting = AgentInputs(desired=evolve(wanted.desired, barred=barred), observed=observed, record=kept)
    return evaluate_agent(sighting, wanted.remote, moment, Rules(keep=99), hold)


def healed(
    asked: str, world: str, kept: AgentRecord | None, moment: EvaluationContext = LIVE, hold: Hold | None = None
) -> tuple[AgentEvaluation | None, AgentEvaluation]:
    """What is healed, and the view of what is done after it."""
    wanted = wish(asked)
    sighting = AgentInputs(desired=wanted.desired, observed=seen(world), record=kept)
    heal = heal_of(sighting, wanted.remote, moment, Rules(keep=99), hold)
    if heal is None:
        return None, evaluate_agent(sighting, wanted.remote, moment, Rules(keep=99), hold)
    return heal, view_healed(sighting, wanted.remote, moment, Rules(keep=99), hold, heal)


def test_a_change_that_is_admitted_is_due_and_a_held_one_heals_meanwhile() -> None:
    now = view("start 2.0=A", "1.0=B started")
    assert (now.due is now.plan, now.only_heals) == (True, False)
    held = view("start 2.0=A", "1.0=B stoped", moment=KEPT)
    assert types(held.plan).startswith("fetch verify unpack ")
    assert (types(held.due), held.only_heals) == ("start", True)


def test_the_conditions_of_an_agent_are_those_of_its_view() -> None:
    now = view("start 1.0=A+c1", "1.0=A+c0 started", remembered("c1"))
    assert [c.type for c in conditions_of(now)] == [
        *("Ready", "Installed", "Running", "Held", "Quarantined", "ConfigInSync")
    ]
    assert conditions_of(now)[-1].reason == "ConfigEdited"
    blocked = evolve(now, remote=evolve(now.remote, config=None, blocker=Blocker(reason="x", message="HTTP 500")))
    assert (conditions_of(blocked)[-1].status, conditions_of(blocked)[-1].message) == ("Unknown", "HTTP 500")
    held = view("start 2.0=A", "1.0=B started", moment=KEPT)
    assert [conditions_of(held, rolled_back=was)[0].reason for was in (True, False)] == [
        "RolledBack",
        held.verdict.reason,
    ]


BRING = "fetch verify unpack"


@pytest.mark.parametrize(
    ("asked", "world", "kept", "heal", "then"),
    [
        # What is down runs before its change is fetched, and is stopped for it as any other.
        ("start 2.0=A", "1.0=B stoped", "new", "start", f"{BRING} stop switch start"),
        ("start 1.0=A", "1.0=B stoped", "new", "start", f"{BRING} stop switch start"),
        ("start 2.0=A+c1", "1.0=B stoped", "new", "start", f"{BRING} configure stop switch start"),
        ("start 2.0=A", "1.0=B unknown", "new 2.0>1.0", "start", f"{BRING} stop switch start"),
        (
            "start 2.0=A",
            "names 1.0; next 1.0=A; previous 1.0=B",
            "new 1.0>1.0",
            "switch start",
            f"{BRING} stop switch start",
        ),
        # A delivered config is asked before anything, and may have nothing new to say.
        ("start 1.0=B", "1.0=B stoped; left .stage-x", "new", "start", "prune"),
        ("start 1.0=B", "1.0=B stoped", "new", "start", ""),
        # Nothing to heal.
        ("start 2.0=A", "1.0=B started", "new", None, f"{BRING} stop switch start"),
        ("start 2.0=A", "1.0=B unknown", "new", None, f"{BRING} stop switch start"),
        ("start 2.0=A", "", "new", None, f"{BRING} switch start"),
        ("stop", "1.0=B stoped", "new", None, ""),
    ],
)
def test_what_is_down_is_healed_before_its_change(
    asked: str, world: str, kept: str, heal: str | None, then: str
) -> None:
    first, after = healed(asked, world, remembered(kept))
    assert (None if first is None else types(first.due)) == heal
    assert types(after.plan).split(" prune")[0] == then.split(" prune")[0]
    assert after.observed == seen(world), "as it is now"
    assert after.heal == first
    assert (after.plan.reason == "Healing") == (first is not None and not after.plan.touches_agent)


def test_what_crashed_lately_does_not_keep_its_change_waiting() -> None:
    first, after = healed("start 2.0=A", "1.0=B stoped", evolve(record(), crashes=Crashes(count=3, at=NOW)))
    assert (first, types(after.plan)) == (None, f"{BRING} switch start")


def test_what_an_operator_holds_is_not_healed() -> None:
    assert healed("start 2.0=A", "1.0=B stoped", record(), hold=HOLD)[0] is None


def test_a_stopped_agent_goes_back_before_another_change_is_fetched() -> None:
    failed = Failure(
        content=content("2.0=B"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW
    )
    kept = evolve(record(), failures=(failed,), fallback=content("1.0=A"))
    first, after = healed("start 3.0=S", "2.0=B stoped; staged 1.0=A", kept)
    assert first is not None
    assert (types(first.due), types(after.plan)) == ("switch start", f"{BRING} stop switch start")


def test_one_that_is_healed_in_its_old_home_is_planned_for_when_that_was_seen() -> None:
    """It goes back to another home: what is to be done there is unknown before it is there."""
    old, new = place("old"), place("new")
    back = evolve(content("1.0=A"), at=old)
    failed = Failure(
        content=content("2.0=B"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW, home=new
    )
    kept = AgentRecord(name=NAME, work_dir=new.work_dir, run_user=new.run_user, failures=(failed,), fallback=back)
    world = homes(kept, old="staged 1.0=A", new="2.0=B stoped")
    wanted = wish("start 3.0=S")
    desired = evolve(wanted.desired, work_dir=new.work_dir, run_user=new.run_user)
    sighting = AgentInputs(desired=desired, observed=world.at(new), record=kept, elsewhere=(world.at(old),))
    heal = heal_of(sighting, wanted.remote, LIVE, Rules(keep=99), None)
    assert heal is not None
    assert heal.due.move is not None
    after = view_healed(sighting, wanted.remote, LIVE, Rules(keep=99), None, heal)
    assert types(after.plan) == f"{BRING} switch start", "as of where it is now"


@pytest.mark.parametrize(
    ("asked", "world", "misses"),
    [
        ("start 1.0=A", "1.0=A stoped", True),
        ("start 2.0=A", "1.0=B stoped", False),  # the change is fetched; what is healed before it has a view of its own
        ("start 1.0=A", "staged 1.0=A", True),
        ("start 1.0=A", "1.0=A started", False),
        ("start 2.0=A", "1.0=B started", False),
        ("start 1.0=A", "", False),  # it has to be fetched first
        ("stop", "1.0=A stoped", False),
    ],
)
def test_what_could_be_up_at_once_misses_healing(asked: str, world: str, misses: bool) -> None:
    assert view(asked, world, record()).misses_healing is misses


@pytest.mark.parametrize(
    ("good", "world", "former"),
    [
        ("1.0=A", "3.0 started; staged 1.0=A; staged 2.0=B", "1.0"),
        ("3.0 2.0=B 1.0=A", "3.0 started; staged 1.0=A; staged 2.0=B", "2.0"),  # what is in use is no way back
        ("3.0 2.0=B 1.0=A", "3.0 started; staged 1.0=A", "1.0"),  # 2.0 is gone from the disk
        ("1.0=A", "3.0 started", None),
        ("", "3.0 started; staged 1.0=A; staged 2.0=B", None),  # none was confirmed
        ("1.0=A", "staged 1.0=A", "1.0"),
        ("3.0 2.0=B 1.0=A", "2.0=B started; staged 3.0; staged 1.0=A", "1.0"),  # never forward
        ("3.0 2.0=B", "2.0=B started; staged 3.0", "2.0"),  # there already
        ("3.0 2.0=A", "2.0=B started; staged 3.0", None),  # another tarball of it was good
        ("4.0 3.0", "4.0 started; staged 3.0", "3.0"),  # what is asked for is older, and so no way forward
    ],
)
def test_a_rollback_goes_to_what_was_confirmed_good(good: str, world: str, former: str | None) -> None:
    contents = tuple(content(text) for text in good.split())
    kept = record(good=contents[0] if contents else None, good_before=contents[1:])
    assert view("start 3.0", world, kept).former_version == former
    assert view("start 3.0", world, None).former_version is None


def test_a_rollback_never_goes_to_what_failed() -> None:
    failed = Failure(
        content=content("2.0=B"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW
    )
    kept = record(good=content("2.0=B"), good_before=(content("1.0=A"),), failures=(failed,))
    assert view("start 3.0", "3.0 started; staged 1.0=A; staged 2.0=B", kept).former_version == "1.0"


@pytest.mark.parametrize("back", ["pin", "fallback"])
def test_a_second_rollback_stays_where_the_first_one_went(back: str) -> None:
    kept = record(good=content("2.0=B"), good_before=(content("1.0=A"),))
    pin = Pin(version="1.0", owner="ann", at=NOW)
    kept = evolve(kept, pin=pin) if back == "pin" else evolve(kept, fallback=content("1.0=A"))
    assert view("start 2.0=B", "1.0=A started; staged 2.0=B", kept).former_version == "1.0"


@pytest.mark.parametrize(
    ("kept", "former"),
    [
        (record(good=content("1.0=A"), pin=Pin(version="2.0", owner="ann", at=NOW)), "1.0"),
        (record(good=content("1.0=A"), fallback=content("2.0=B")), "1.0"),
        (record(pin=Pin(version="2.0", owner="ann", at=NOW)), None),
        (record(good=content("2.0=A"), good_before=(content("1.0=A"),), fallback=content("2.0=B")), "1.0"),
    ],
    ids=["by --to", "by itself", "nothing was ever good", "another tarball of it was good"],
)
def test_a_rollback_does_not_stay_at_what_was_never_confirmed(kept: AgentRecord, former: str | None) -> None:
    assert view("start 2.0=B", "2.0=B started; staged 1.0=A", kept).former_version == former


@pytest.mark.parametrize(
    ("asked", "hold", "confirms"),
    [("start 2.0", None, True), ("start 2.0", HOLD, False), ("stop", None, False), ("observe", None, False)],
)
def test_a_watch_is_seen_to_its_end_unless_hands_are_off(asked: str, hold: Hold | None, confirms: bool) -> None:
    assert view(asked, "2.0 started", remembered("new 1.0>2.0"), hold=hold).confirming is confirms
    assert not view(asked, "2.0 started", remembered("new"), hold=hold).confirming


def test_a_user_is_missing_where_it_is_to_run_or_in_its_home() -> None:
    lacks = RuleViolation(rule="run_user", message="the user does not exist", reason="UserMissing")
    there = view("start 1.0=A", "1.0=A started")
    assert not there.lacks_user
    at_home = evolve(seen("stray no such user"), blocked_reason="UserMissing")
    assert view("start 1.0=A", at_home).lacks_user
    another = evolve(at_home, home=evolve(at_home.home, run_user="former"))
    nothing = Plan(name=NAME, reason="UserMissing", message="")
    held = Held(plan=nothing, reason="UserMissing", message="", meanwhile=nothing)
    assert not evolve(there, observed=another).lacks_user
    assert evolve(there, observed=another, verdict=held).lacks_user
    barred = evolve(there.desired, barred=lacks)
    assert not evolve(there, desired=barred, verdict=held).lacks_user, "the policy refused it: none is to be made"


def test_each_agent_is_found_once_where_it_lives() -> None:
    now = homes(record(work_dir="/srv/old", run_user="olduser"), old="1.0=A started", new="staged 1.0=A")
    host = ObservedHost(at=NOW, agents=(now.at(place("new")), now.at(place("old"))))
    wanted = evolve(wish("start 1.0=A").desired, work_dir="/srv/new", run_user="newuser")
    assert now.record is not None
    known = {NAME: now.record}
    assert where_they_live(host, [wanted], known.get).agents == (now.at(place("old")),)
    assert where_they_live(ObservedHost(at=NOW), [wanted], known.get).agents == ()


def test_what_has_no_home_to_be_unpacked_in_waits_and_only_that() -> None:
    nowhere = evolve(seen(""), no_home="user 4711 may not make it")
    held = view("start 1.0=A", nowhere)
    assert isinstance(held.verdict, Held)
    assert (held.verdict.reason, held.verdict.message) == ("WorkDirMissing", "user 4711 may not make it")
    assert held.due.actions == ()
    assert not isinstance(view("stop", nowhere).verdict, Held)
    assert not isinstance(view("start 1.0=A", "").verdict, Held)


FAILED = Failure(
    content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="died", at=NOW
)
PIN = Pin(version="1.0", owner="ann", at=NOW)


@pytest.mark.parametrize(
    ("asked", "world", "kept", "moment", "by", "back"),
    [
        ("start 2.0=A", "1.0=B started", record(), LIVE, "server", False),
        ("start 2.0=A", "1.0=B started", None, LIVE, "server", False),
        ("stop", "1.0=B started", record(), LIVE, "server", False),
        ("start 1.0=B", "1.0=B stoped", record(), LIVE, "heal", False),
        ("start 1.0=B", "1.0=B stoped", None, LIVE, "heal", False),
        ("start 1.0=B", "1.0=B stoped", record(stopped_by_us=True), LIVE, "server", False),  # its own stop's
        ("start 2.0=A", "1.0=B stoped", record(), KEPT, "heal", False),
        ("start 2.0=A", "1.0=B stoped", record(stopped_by_us=True), KEPT, "heal", False),
        (
            "start 2.0=A",
            "2.0=A stoped; staged 1.0=B",
            record(failures=(FAILED,), fallback=content("1.0=B")),
            LIVE,
            "rollback",
            True,
        ),
        (
            "start 2.0=A",
            "1.0=B stoped; staged 2.0=A",
            record(failures=(FAILED,), fallback=content("1.0=B")),
            LIVE,
            "heal",
            False,
        ),
        ("start 2.0=A", "2.0=A started; staged 1.0=B", record(pin=PIN), LIVE, "operator:ann", True),
        ("start 2.0=A", "1.0=B stoped; staged 2.0=A", record(pin=PIN), LIVE, "heal", False),
        ("start 1.0=B", "1.0=B started", record(), LIVE, "server", False),  # nothing is due
    ],
)
def test_on_whose_word_it_is_done_and_whether_that_is_a_way_back(
    asked: str, world: str, kept: AgentRecord | None, moment: EvaluationContext, by: str, back: bool
) -> None:
    now = view(asked, world, kept, moment=moment)
    assert (now.due_by, now.goes_back) == (by, back)
