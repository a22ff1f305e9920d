"""Moves: where an agent lives, when it may move, and that whatever interrupts it there is one copy, and it comes up."""

from __future__ import annotations

import pytest
from attrs import evolve

from probes.observed import Evidence, ObservedAgent
from reconcile.decide.actions import Held, MoveHome, Plan, Stop, SwitchConfig, SwitchTree
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import Rules, heal_of, view_healed
from reconcile.decide.records.changes import living, released
from reconcile.decide.records.record import AgentRecord, FailureKind, Pin
from reconcile.decide.relocation import home_lived_in, homes_of
from reconcile.decide.upgrade.events import Observed
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.homes import Asked, Homes, Passed, a_pass, asked, homes, later, lives, looked, place
from tests.reconcile.decide.worlds import BOOT, NAME, NOW, WATCH, content, seen, types

OLD = "1.0=A started"


def due(view_of: Homes, wanted: Asked) -> str:
    return types(looked(view_of, wanted).due)


def held(now: Homes, wanted: Asked) -> Held:
    verdict = looked(now, wanted).verdict
    assert isinstance(verdict, Held), verdict
    return verdict


# What is planned


@pytest.mark.parametrize(
    ("text", "old", "new", "plan"),
    [
        ("start 1.0=A", OLD, "", "fetch verify unpack stop switch start"),
        ("start 2.0=B", OLD, "", "fetch verify unpack stop switch start"),
        ("start 2.0=B+c1", OLD, "", "fetch verify unpack configure stop switch start"),
        ("start 1.0=A", "1.0=A stoped", "staged 1.0=A", "switch start"),
        ("start 1.0=A", "1.0=A stoped", "", "fetch verify unpack switch start"),
        ("start 1.0=A", "names 9.9", "", "fetch verify unpack switch start"),
        ("start 1.0=A", OLD, "staged 1.0=A", "stop switch start"),
        ("start 1.0=A", OLD, "staged 1.0=B", "fetch verify unpack stop switch start"),
        # another updater, or an earlier life, left a `.version` there
        ("start 1.0=A", OLD, "1.0=A stoped", "stop switch start"),
        ("start 1.0=A", OLD, "1.0=B stoped", "fetch verify unpack stop switch start"),
        ("start 1.0=A", OLD, "0.9=B stoped", "fetch verify unpack stop switch start"),
        ("start 1.0=A", OLD, "names 1.0", "fetch verify unpack stop switch start"),
        ("start 1.0=A+c1", OLD, "1.0=A+c0 stoped", "configure stop switch start"),
        ("start 1.0=A+c1", OLD, "staged 1.0=A+c1", "stop switch start"),
        # what lies about is removed where it leaves; in the new one by a later pass
        ("start 1.0=A", "1.0=A started; left .stage-x", "staged 1.0=A; left .stage-y", "stop switch start prune"),
        ("start 1.0=A", "1.0=A started; next 1.0=B; previous 0.9=B", "staged 1.0=A", "stop switch start"),
    ],
)
def test_all_that_can_fail_is_done_in_the_new_home_first(text: str, old: str, new: str, plan: str) -> None:
    verdict = looked(homes(old=old, new=new), asked(text, "new")).verdict
    assert isinstance(verdict, Plan)
    assert (types(verdict), verdict.reason) == (plan, "WorkDirChanged")


@pytest.mark.parametrize(("new", "then"), [("", "fetch verify unpack"), ("1.0=A stoped", "configure")])
def test_what_is_down_is_started_in_its_old_home_before_a_server_is_asked(new: str, then: str) -> None:
    """And is stopped there for the move, as any other."""
    wanted = asked("start 1.0=A" if not new else "start 1.0=A+c1", "new")
    view = looked(homes(old="1.0=A stoped", new=new), wanted)
    moment = EvaluationContext(now=wanted.at, answered=wanted.answered)
    heal = heal_of(view.agent_inputs, wanted.remote, moment, Rules(), None)
    assert heal is not None
    assert (types(heal.due), heal.due.move, heal.observed.home) == ("start", None, place("old"))
    healed = view_healed(view.agent_inputs, wanted.remote, moment, Rules(), None, heal)
    assert (types(healed.due), healed.plan.reason) == (f"{then} stop switch start", "WorkDirChanged")


def test_the_old_home_is_named_and_the_new_one_goes_without_saying() -> None:
    plan = looked(homes(old=OLD), asked("start 2.0=B", "new")).due
    assert plan.message == "1.0 in /srv/old as olduser -> 2.0 in /srv/new as newuser"
    [stop] = [action for action in plan.actions if isinstance(action, Stop)]
    assert (stop.version, stop.at) == ("1.0", place("old"))
    switch = plan.move
    assert switch is not None
    assert (switch.from_version, switch.to, switch.leaves, switch.at) == ("1.0", "2.0", place("old"), None)
    assert all(getattr(action, "at", None) is None for action in plan.actions if action is not stop)


def test_a_tree_that_was_found_running_is_marked_before_it_is_left() -> None:
    plan = looked(homes(old="1.0? started"), asked("start 1.0=A", "new")).due
    assert [action.adopt for action in plan.actions if isinstance(action, Stop)] == [True]


def test_what_is_as_desired_at_its_place_has_not_moved() -> None:
    assert looked(homes(old=OLD), asked("start 1.0=A", "old")).plan.reason == "AsDesired"
    assert looked(homes(old=OLD), asked("start 1.0=A", "old")).plan.move is None


@pytest.mark.parametrize("old", ["", "staged 1.0=A"])
def test_where_nothing_is_in_use_any_more_it_is_installed_as_if_new(old: str) -> None:
    view = looked(homes(old=old), asked("start 1.0=A", "new"))
    assert (view.plan.reason, types(view.due)) == ("FirstInstall", "fetch verify unpack switch start")


def test_an_agent_that_was_never_managed_is_where_it_is_wanted() -> None:
    """And so it is after our memory was lost: then an old home is unknown."""
    forgotten = evolve(homes(old=OLD), record=None)
    assert lives(forgotten, asked("start 1.0=A", "new")) == "new"


# When it must not be


def test_a_status_that_is_not_understood_holds_a_move() -> None:
    verdict = held(homes(old="1.0=A unknown"), asked("start 2.0=B", "new"))
    assert (verdict.reason, types(verdict.meanwhile)) == ("StatusUnknown", "")
    assert "control status of 1.0 in /srv/old says: unknown" in verdict.message
    assert types(verdict.plan) == "fetch verify unpack stop switch start"


@pytest.mark.parametrize("astray", Evidence)
def test_an_old_home_in_an_unclear_state_is_left_alone(astray: Evidence) -> None:
    now = homes(old="stray process 7 runs in it")
    now = now.put(evolve(now.at(place("old")), evidence=astray))
    view = looked(now, asked("start 1.0=A", "new"))
    assert (view.plan.reason, view.due.actions) == ("StatusUnknown", ())
    assert view.plan.message == "in /srv/old: process 7 runs in it"


@pytest.mark.parametrize(("old", "meanwhile"), [(OLD, ""), ("1.0=A stoped", "start")])
def test_a_new_home_that_can_not_be_used_leaves_the_agent_in_the_old_one(old: str, meanwhile: str) -> None:
    now = homes(old=old)
    now = now.put(evolve(now.at(place("new")), blocked_by="no such user", blocked_reason="UserMissing"))
    verdict = held(now, asked("start 1.0=A", "new"))
    assert (verdict.reason, types(verdict.meanwhile)) == ("UserMissing", meanwhile)
    assert verdict.message == "it can't move to /srv/new: no such user"
    assert all(action.at == place("old") for action in verdict.meanwhile.actions)  # type: ignore[union-attr]


@pytest.mark.parametrize("old", [OLD, "1.0=A stoped"])
@pytest.mark.parametrize("new", ["1.0=A started", "0.9=B started", "1.0=A unknown", "up", "said"])
def test_beside_a_home_that_seems_to_be_up_nothing_is_started(old: str, new: str) -> None:
    """By a person's hand, or another updater's: which of them is meant can't be known here."""
    if new == "said" and old == OLD:
        pytest.skip("that is the word of a pid file that both share: below")
    now = homes(old=old, new="" if new in ("up", "said") else new)
    if new in ("up", "said"):
        now = now.put(evolve(now.at(place("new")), blocked_by="1.0 says started", evidence=Evidence(new)))
    verdict = held(now, asked("start 2.0=B", "new"))
    assert (verdict.reason, verdict.meanwhile.actions) == ("UnexpectedlyRunning", ())
    assert "/srv/new/falcon-agent/.version" in verdict.message
    assert looked(now, asked("start 2.0=B", "new")).is_left_alone


def test_the_word_of_a_pid_file_that_both_homes_share_bars_no_move() -> None:
    now = homes(old=OLD, new="staged 1.0=A")
    now = now.put(evolve(now.at(place("new")), blocked_by="control status of 1.0 says started", evidence=Evidence.SAID))
    assert due(now, asked("start 1.0=A", "new")) == "stop switch start"


@pytest.mark.parametrize(("old", "meanwhile"), [(OLD, ""), ("1.0=A stoped", "start")])
def test_another_user_in_the_same_workdir_is_no_move(old: str, meanwhile: str) -> None:
    wanted = asked("start 2.0=B", "old")
    wanted = evolve(wanted, desired=evolve(wanted.desired, run_user="other"))
    now = homes(old=old)
    verdict = held(now, wanted)
    assert (verdict.reason, verdict.plan.actions, types(verdict.meanwhile)) == ("RunUserChanged", (), meanwhile)
    assert "name another workDir for other" in verdict.message
    assert "or set cmd to stop, remove /srv/old/falcon-agent, and set cmd to start" in verdict.message


def test_a_home_is_not_looked_at_as_a_user_that_it_does_not_belong_to() -> None:
    """Its control scripts are the old user's, and would run with the new one's rights."""
    wanted = asked("start 2.0=B", "old").desired
    wanted = evolve(wanted, run_user="other")
    now = homes(old=OLD)
    assert [home.run_user for home in homes_of(wanted, now.record)] == ["olduser"]
    assert homes_of(wanted, None) == (wanted.home,)
    assert home_lived_in(wanted, now.record, now.at) == place("old")
    emptied = homes(old="staged 1.0=A")
    assert home_lived_in(wanted, emptied.record, emptied.at).same_home(place("old")), (
        "its scripts are still the old user's"
    )
    removed = homes(old="")
    assert home_lived_in(wanted, removed.record, removed.at) == wanted.home, "nothing of the old user's is left"


def test_the_home_that_a_former_user_left_is_given_to_no_other() -> None:
    """It moved from there once, and is wanted there again as a third user."""
    now = homes(old="staged 1.0=A", new=OLD)
    there, here = place("old"), place("new")
    lived = AgentRecord(
        name=NAME, work_dir=here.work_dir, run_user=here.run_user, good=evolve(content("1.0=A"), at=there)
    )
    now = evolve(now, record=lived)
    wanted = asked("start 2.0=B", "old")
    wanted = evolve(wanted, desired=evolve(wanted.desired, run_user="third"))
    verdict = held(now, wanted)
    assert (verdict.reason, verdict.meanwhile.actions) == ("RunUserChanged", ())
    assert "/srv/old/falcon-agent is olduser's" in verdict.message
    emptied = now.put(ObservedAgent(home=there))
    assert due(emptied, wanted).startswith("fetch verify unpack stop switch start"), "removed: it moves there"


def test_a_move_waits_for_an_answer_and_is_not_made_of_a_pinned_agent() -> None:
    kept = held(homes(old="1.0=A stoped"), asked("start 2.0=B", "new", answered=Freshness.LAST_ACCEPTED))
    assert (kept.reason, types(kept.meanwhile)) == ("ServerUnreachable", "start")
    old = place("old")
    pin = Pin(version="1.0", owner="me", at=NOW)
    pinned = AgentRecord(name=NAME, work_dir=old.work_dir, run_user=old.run_user, pin=pin)
    verdict = held(homes(pinned, old="1.0=A stoped"), asked("start 2.0=B", "new"))
    assert (verdict.reason, types(verdict.meanwhile)) == ("Pinned", "start")


@pytest.mark.parametrize(
    ("text", "old", "plan"), [("stop", OLD, "stop"), ("stop", "1.0=A stoped", ""), ("observe", OLD, "")]
)
def test_one_that_is_not_to_run_stays_and_is_stopped_where_it_lives(text: str, old: str, plan: str) -> None:
    passed = a_pass(homes(old=old), asked(text, "new"))
    assert types(passed.view.due) == plan
    assert passed.now.up == ([] if text == "stop" else ["/srv/old"])
    assert lives(passed.now, asked(text, "new")) == "old"


# Whole passes, and what interrupts them


def broken_in(where: str) -> dict[str, object]:
    return {"works": lambda home, version: not home.endswith(where)}


def dies_in(where: str) -> dict[str, object]:
    return {"stays": lambda home, version: not home.endswith(where)}


WORLDS = [
    (text, old, new)
    for text in ("start 1.0=A", "start 2.0=B+c1")
    for old in (OLD, "1.0? started", "1.0=A stoped")
    for new in ("", "staged 1.0=A", "1.0=A stoped", "1.0=B stoped", "names 2.0")
]


def through(now: Homes, wanted: Asked, *, count: int = 8) -> Passed:
    """Passes, a watch between each two, until one finds nothing to do; and then it stays so."""
    passed = None
    for n in range(count):
        passed = a_pass(now, evolve(wanted, at=wanted.at + n * (WATCH + 1)))
        now = later(passed.now, wanted)
        if not passed.done and now.record == passed.now.record == passed.view.record:
            return passed
    raise AssertionError(f"no end: {passed}")


@pytest.mark.parametrize(("text", "old", "new"), WORLDS)
def test_it_moves(text: str, old: str, new: str) -> None:
    wanted = asked(text, "new")
    passed = a_pass(homes(old=old, new=new), wanted)
    assert passed.now.up == ["/srv/new"]
    assert passed.now.at(place("old")).version_text is None
    assert lives(passed.now, wanted) == "new"
    if "started" in old:
        assert [tree.version for tree in passed.now.at(place("old")).staged] == ["1.0"], "the old version stays"
    end = through(later(passed.now, wanted), evolve(wanted, at=NOW + WATCH + 1))
    assert end.after.plan.reason == "AsDesired"
    assert end.now.record is not None
    assert end.now.record.good is not None
    assert end.now.record.confirmation is None


@pytest.mark.parametrize(("text", "old", "new"), WORLDS)
def test_whatever_interrupts_a_move_the_next_passes_make_it(text: str, old: str, new: str) -> None:
    wanted = asked(text, "new")
    for left in a_pass(homes(old=old, new=new), wanted).torn:
        end = through(later(left, wanted), evolve(wanted, at=NOW + 1))
        assert end.now.up == ["/srv/new"]
        assert end.after.plan.reason == "AsDesired"


@pytest.mark.parametrize(("text", "old", "new"), WORLDS)
@pytest.mark.parametrize("then", ["old", "third", "stop", "kept"])
def test_whatever_the_server_says_after_an_interruption(text: str, old: str, new: str, then: str) -> None:
    """It is up after one pass where it is to run, and never twice."""
    other = {
        "old": asked(text, "old"),
        "third": asked(text, "third"),
        "stop": asked("stop", "third"),
        "kept": asked(text, "new", answered=Freshness.LAST_ACCEPTED),
    }[then]
    other = evolve(other, at=NOW + 11)  # what was healed before the move is not started again sooner
    for left in a_pass(homes(old=old, new=new), asked(text, "new")).torn:
        now = later(left, other)
        first = a_pass(now, other)
        runs = other.desired.run is RunState.START
        assert len(first.now.up) == runs, f"{first.done}: {first.after.verdict}"
        end = through(later(first.now, other), evolve(other, at=NOW + 12))
        assert len(end.now.up) == runs
        if then in ("old", "third"):
            assert end.now.up == [f"/srv/{then}"]


@pytest.mark.parametrize("trouble", [broken_in("new"), dies_in("new")], ids=["broken", "dies"])
@pytest.mark.parametrize(("text", "old", "new"), [world for world in WORLDS if "started" in world[1]])
def test_what_does_not_come_up_in_the_new_home_goes_back(
    text: str, old: str, new: str, trouble: dict[str, object]
) -> None:
    wanted = asked(text, "new", **trouble)
    first = a_pass(homes(old=old, new=new), wanted)
    end = through(later(first.now, wanted), evolve(wanted, at=NOW + WATCH + 1))
    assert end.now.up == ["/srv/old"]
    verdict = end.after.verdict
    assert isinstance(verdict, Held)
    assert (verdict.reason, end.after.is_back) == ("Quarantined", True)
    assert "fetch" not in first.done[first.done.index("start new") :]
    if "works" in trouble:
        assert first.done[-3:] == ("start new", "switch old", "start old")
        assert first.now.up == ["/srv/old"], "in the same pass"
    # A wish for the old home is as desired, whatever failed elsewhere.
    assert looked(end.now, asked("start 1.0", "old")).plan.reason == "AsDesired"
    # Once it is released it is tried again.
    assert end.now.record is not None
    again = looked(evolve(end.now, record=released(end.now.record)), wanted)
    assert again.due.move is not None


@pytest.mark.parametrize("text", ["start 1.0=A", "start 2.0=B"])
def test_one_that_was_down_when_its_move_began_goes_back_to_what_was_good(text: str) -> None:
    old = place("old")
    record = AgentRecord(name=NAME, work_dir=old.work_dir, run_user=old.run_user, good=content("1.0=A"))
    wanted = asked(text, "new", **broken_in("new"))
    passed = a_pass(homes(record, old="1.0=A stoped"), wanted)
    assert passed.now.up == ["/srv/old"]
    for left in passed.torn:
        assert through(later(left, wanted), evolve(wanted, at=NOW + 1)).now.up == ["/srv/old"]


def test_a_move_that_was_never_made_is_no_switch_and_leaves_it_where_it_lived() -> None:
    wanted = asked("start 2.0=B", "new")
    begun = next(left for left in a_pass(homes(old=OLD), wanted).torn if left.record and left.record.confirmation)
    assert begun.record is not None
    assert begun.record.home.same_home(place("new"))
    settled = advance(begun.record, Observed(observed=begun.at(place("old")), now=NOW, watch=WATCH, boot=BOOT)).record
    assert (settled.home.work_dir, settled.confirmation) == ("/srv/old", None)


@pytest.mark.parametrize("trouble", [broken_in("new"), dies_in("new")], ids=["broken", "dies"])
@pytest.mark.parametrize("text", ["start 1.0=A", "start 2.0=B"])
def test_whatever_interrupts_the_way_back_it_arrives(text: str, trouble: dict[str, object]) -> None:
    wanted = asked(text, "new", **trouble)
    now = homes(old=OLD)
    interrupted: list[tuple[Homes, float]] = []
    for n in range(3):
        passed = a_pass(now, evolve(wanted, at=NOW + n * (WATCH + 1)))
        interrupted += [(left, NOW + n * (WATCH + 1)) for left in passed.torn]
        now = later(passed.now, wanted)
    for left, at in interrupted:
        end = through(later(left, wanted), evolve(wanted, at=at + WATCH + 1))
        assert end.now.up == ["/srv/old"]
        for then in ("old", "third"):
            other = asked(text, then, at=at + WATCH + 1)
            assert through(later(left, other), other).now.up == [f"/srv/{then}"]


@pytest.mark.parametrize("fails", ["fetch", "verify", "unpack", "stop", "switch"])
def test_what_fails_before_the_switch_leaves_it_up_in_the_old_home(fails: str) -> None:
    wanted = asked("start 2.0=B", "new", fails=frozenset({fails}))
    passed = a_pass(homes(old=OLD), wanted)
    assert passed.now.up == ["/srv/old"]
    verdict = passed.after.verdict
    assert isinstance(verdict, Held)
    assert verdict.reason == "BackingOff"
    assert lives(passed.now, wanted) == "old"
    assert passed.now.record is not None
    assert passed.now.record.home.same_home(place("old"))
    assert [failure.verdict for failure in passed.now.record.failures] == [FailureKind.NOT_REACHED]
    # The same content, wanted where it lives, has not failed there.
    assert isinstance(looked(passed.now, asked("start 2.0=B", "old")).verdict, Plan)
    end = through(passed.now, asked("start 2.0=B", "new", at=NOW + 3601))
    assert end.now.up == ["/srv/new"]


def test_a_change_of_mind_within_the_watch_keeps_the_way_back() -> None:
    """Seen up in the new home, not yet good, and wanted in a third, where it never comes up: back to what ran last."""
    first = a_pass(homes(old=OLD), asked("start 2.0=B", "new"))
    wanted = asked("start 2.0=B", "third", at=NOW + 1, **broken_in("third"))
    assert through(first.now, wanted).now.up == ["/srv/new"]


def test_a_released_way_back_still_says_where_the_agent_is() -> None:
    """Killed after its start in the old home, before that was remembered, and released meanwhile: no second copy."""
    wanted = asked("start 1.0=A", "new", **broken_in("new"))
    last = a_pass(homes(old=OLD), wanted).torn[-2]
    assert last.up == ["/srv/old"]
    assert last.record is not None
    assert last.record.work_dir == "/srv/new"
    now = evolve(last, record=released(last.record))
    assert lives(now, wanted) == "old"
    assert a_pass(now, asked("start 1.0=A", "new", at=NOW + 1)).now.up == ["/srv/new"]
    assert last.record.fallback is not None
    assert released(evolve(last.record, fallback=evolve(last.record.fallback, at=None))).fallback is None
    assert released(living(last.record, place("old"))).fallback is None


def test_a_process_that_what_failed_left_behind_does_not_make_it_live_there() -> None:
    """Its status said stopped, and lied: nothing here could stop it. But nothing moves in beside it."""
    wanted = asked("start 2.0=B", "new", **broken_in("new"))
    back = a_pass(homes(old=OLD), wanted).torn[-2]
    assert back.record is not None
    assert back.record.work_dir == "/srv/new"
    process = evolve(back.at(place("new")), blocked_by="process 7 runs in it", evidence=Evidence.SEEN)
    assert lives(back.put(process), wanted) == "old"
    verdict = held(back.put(process), asked("start 3.0=A", "new", at=NOW + 1))
    assert (verdict.reason, verdict.message) == ("StatusUnknown", "it can't move to /srv/new: process 7 runs in it")


def test_an_old_home_that_can_not_be_read_amid_a_move_is_where_it_may_be() -> None:
    """Its `.version` alone shows whether the switch was made. Nothing is done until it can be read."""
    wanted = asked("start 2.0=B", "new")
    begun = next(left for left in a_pass(homes(old=OLD), wanted).torn if left.record and left.record.confirmation)
    unread = begun.put(ObservedAgent(home=place("old"), blocked_by="Input/output error"))
    passed = a_pass(unread, evolve(wanted, at=NOW + 1))
    assert passed.done == ()
    assert passed.now.record == begun.record
    assert lives(passed.now, wanted) == "old"


def test_a_move_of_which_both_homes_were_removed_since_is_forgotten() -> None:
    wanted = asked("start 2.0=B", "new")
    begun = next(left for left in a_pass(homes(old=OLD), wanted).torn if left.record and left.record.confirmation)
    gone = begun.put(evolve(seen(""), home=place("old"))).put(evolve(seen(""), home=place("new")))
    end = through(gone, asked("start 2.0=B", "third", at=NOW + 1))
    assert end.now.up == ["/srv/third"]


def test_a_way_back_into_a_home_that_can_not_be_used_is_none() -> None:
    """It is started where it is, as anything else that has nothing to go back to."""
    wanted = asked("start 2.0=B", "new", **dies_in("new"))
    now = later(a_pass(homes(old=OLD), wanted).now, wanted)
    gone = now.put(ObservedAgent(home=place("old"), blocked_by="no such user", blocked_reason="UserMissing"))
    passed = a_pass(gone, evolve(wanted, at=NOW + 1))
    assert passed.done == ("start new",)
    emptied = now.put(evolve(seen(""), home=place("old")))
    assert a_pass(emptied, evolve(wanted, at=NOW + 1)).done == ("start new",)


def test_a_record_names_the_home_that_it_lives_in() -> None:
    record = AgentRecord(name=NAME, work_dir="/srv/old", run_user="olduser")
    assert record.home.same_home(place("old"))


def test_a_switch_that_replaces_or_configures_a_tree_leaves_the_old_home_too() -> None:
    for new, kind in (("1.0=B stoped", SwitchTree), ("1.0=A+c0 stoped", SwitchConfig)):
        [switch] = [
            action
            for action in looked(homes(old=OLD, new=new), asked("start 1.0=A+c1", "new")).due.actions
            if isinstance(action, MoveHome)
        ]
        assert isinstance(switch.switch, kind)
        assert switch.leaves == place("old")
