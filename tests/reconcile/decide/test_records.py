"""What is remembered of an agent: which content it may be, configs, control calls, use, a release."""

from __future__ import annotations

import pytest
from attrs import evolve

from probes.observed import Active
from reconcile.decide.actions import Outcome, Prune, ResponseFingerprint, Result, Start
from reconcile.decide.desired import RuleViolation
from reconcile.decide.planner import plan_agent
from reconcile.decide.records.changes import (
    call_over,
    called,
    calls_of_earlier_run,
    calls_over,
    heed,
    record_for,
    released,
    remember_config,
    remember_stuck,
    remember_use,
    with_good,
)
from reconcile.decide.records.content import EMPTY_FILE, NO_CONFIG, ConfigMemory, Content, is_fallback_for, is_surely
from reconcile.decide.records.record import (
    DOWNLOADED_AGAIN_AFTER,
    AgentRecord,
    Awaited,
    ControlCall,
    Crashes,
    FailureKind,
    Pin,
)
from reconcile.decide.target import RemoteInputs
from reconcile.decide.upgrade.events import SwitchStarted
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.switches import BEFORE, ELSEWHERE, FELL, NOT_REACHED, SWITCHING, TO, WATCHING
from tests.reconcile.decide.worlds import (
    BOOT,
    NAME,
    NOW,
    USER,
    WATCH,
    WORK_DIR,
    Life,
    Wish,
    content,
    memory,
    record,
    remembered,
    seen,
    target_at,
    types,
    whole_pass,
    wish,
)


def test_the_first_record_is_of_where_the_agent_is_wanted() -> None:
    assert record_for(wish("stop").desired.home, None) == AgentRecord(name=NAME, work_dir=WORK_DIR, run_user=USER)


def test_a_record_follows_its_agent_and_keeps_the_rest() -> None:
    kept = AgentRecord(name=NAME, work_dir="/srv/old", run_user="nobody", config=memory("c1"))
    assert record_for(wish("stop").desired.home, kept) == remembered("c1")


@pytest.mark.parametrize(
    ("asked", "kept", "world", "config"),
    [
        # in place, as it is at the server
        ("start 1.0+c1", "new", "1.0+c1 started", memory("c1")),
        ("start 1.0+c1", "c0", "1.0+c1 started", memory("c1")),
        ("start 1.0+c1", "c0", "1.0+c1 stoped", memory("c1")),
        # an edit that was there when we came: from now on a remote change is noticed
        ("start 1.0+c1", "new", "1.0+e started", memory("c1")),
        ("start 1.0+c1", "c1", "1.0+e started", memory("c1")),
        # still to be delivered: it must differ again at the next pass
        ("start 1.0+c1", "c0", "1.0+c0 started", memory("c0")),
        ("start 1.0+c1", "c0", "1.0+e started", memory("c0")),
        ("start 2.0+c1", "c0", "1.0+c1 started", memory("c0")),
        ("start 1.0+c1", "new", "names 1.0", None),
        # none is wanted: remembered once the version is in use, and not in the place of one that was delivered
        ("start 1.0", "new", "1.0+e started", NO_CONFIG),
        ("start 1.0", "c1", "1.0+c1 started", memory("c1")),
        ("start 2.0", "new", "1.0 started", None),
        ("start 1.0", "new", "", None),
        # not to be started: nothing is learned
        ("stop", "new", "1.0+e stoped", None),
        ("observe", "new", "1.0+e started", None),
    ],
)
def test_the_config_that_is_remembered(asked: str, kept: str, world: str, config: ConfigMemory | None) -> None:
    wanted, before, observed = wish(asked), remembered(kept), seen(world)
    assert before is not None
    edited = target_at(wanted, Life(observed, before)).edited
    after = remember_config(before, wanted.desired, observed, wanted.remote.config, edited=edited)
    assert after == evolve(before, config=config)


def test_a_config_that_could_not_be_had_is_not_remembered_as_none() -> None:
    kept = record()
    assert remember_config(kept, wish("start 1.0+c1").desired, seen("1.0+e started"), None, edited=False) == kept


def test_an_edit_from_before_our_time_outlives_a_config_server_that_is_down_at_first() -> None:
    """The first pass over a host remembers the agent, and not whose its config is."""
    wanted = wish("start 1.0+c1")
    blind = Wish(desired=wanted.desired, remote=RemoteInputs())
    _, life = whole_pass(Life(seen("1.0?+e started"), None), blind)
    assert life.record is not None
    plan, life = whole_pass(life, wanted)
    assert types(plan) == ""
    plan, _ = whole_pass(life, wish("start 1.0+c2"))
    assert types(plan) == "configure stop switch start"


def test_an_edit_outlives_an_agent_that_is_only_looked_on_first() -> None:
    _, life = whole_pass(Life(seen("1.0?+e started"), None), wish("observe"))
    assert types(plan_agent(target_at(wish("start 1.0+c1"), life), life.observed)) == ""


def test_a_config_that_is_wanted_later_is_delivered() -> None:
    _, life = whole_pass(Life(seen("1.0?+e started"), None), wish("start 1.0"))
    plan, life = whole_pass(life, wish("start 1.0+c1"))
    assert types(plan) == "configure stop switch start"
    assert life.record is not None
    assert life.record.config == memory("c1")


# --- content ---


@pytest.mark.parametrize(
    ("one", "other", "same_tree", "same"),
    [
        ("1.0=A", "1.0=A", True, True),
        ("1.0=A", "1.0=B", False, False),
        ("1.0=A", "2.0=A", False, False),
        ("1.0=A", "1.0", True, True),  # unknown differs from nothing
        ("1.0=A", "1.0=S", True, True),
        ("1.0=A", "1.0=AS", True, True),
        ("1.0=AS", "1.0=AT", False, False),
        ("1.0=AS", "1.0=BS", False, False),
        ("1.0=A+c0", "1.0=A+c1", True, False),
        ("1.0=A+c0", "1.0=A", True, True),
    ],
)
def test_content_that_may_be_the_same(one: str, other: str, same_tree: bool, same: bool) -> None:
    for a, b in ((content(one), content(other)), (content(other), content(one))):
        assert a.same_tree(b) is same_tree
        assert a.matches(b) is same


def test_no_remote_config_is_known_and_differs_from_one() -> None:
    none, some, unknown = content("1.0", config=""), content("1.0+c1"), content("1.0")
    assert not none.matches(some)
    assert none.matches(unknown)


@pytest.mark.parametrize(
    ("back", "failed", "way"),
    [
        ("1.0=B", "2.0=A", True),
        ("1.0=B", "1.0=A", True),
        ("1.0=B+c0", "1.0=B+c1", True),
        ("1.0+c0", "1.0=B+c1", True),
        ("1.0=B", "1.0=B+c1", False),  # there was none, and it can't be taken away
        ("1.0=B+c0", "1.0=B", False),
        ("1.0=B+c1", "1.0=B+c1", False),
        ("1.0", "1.0=B", False),
    ],
)
def test_a_way_back_leads_to_what_is_known_to_be_other_content(back: str, failed: str, way: bool) -> None:
    assert is_fallback_for(content(back), content(failed)) is way
    assert not is_fallback_for(content("1.0=B", config=""), content("1.0=B+c1"))


@pytest.mark.parametrize(
    ("of", "world", "surely"),
    [
        ("2.0=A", "2.0=A", True),
        ("2.0=A+c1", "2.0=A+c1", True),
        ("2.0=A", "2.0=A+e", True),
        ("2.0=A+c1", "2.0=A+c0", False),
        ("2.0=A+c1", "2.0=A", False),
        ("2.0=A", "2.0=B", False),
        ("2.0=A", "1.0=A", False),
        ("2.0", "2.0=A", False),
        # a tree that was found here: only the config that we put into it shows it
        ("2.0=A", "2.0?", False),
        ("2.0=A+c1", "2.0?+c1", True),
        ("2.0=A+c1", "2.0?+c0", False),
    ],
)
def test_content_that_is_in_use_for_sure(of: str, world: str, surely: bool) -> None:
    active = seen(f"{world} unknown").active
    assert active is not None
    assert is_surely(content(of), active) is surely


def test_a_failure_is_of_its_content_its_kind_and_its_home() -> None:
    home, other = record().home, evolve(record().home, work_dir="/srv/other")
    assert FELL.is_of(TO, FailureKind.ROLLED_BACK, None)
    assert FELL.is_of(TO, FailureKind.ROLLED_BACK, home), "it counts everywhere"
    assert not FELL.is_of(BEFORE, FailureKind.ROLLED_BACK, None)
    assert not FELL.is_of(TO, FailureKind.NOT_REACHED, None)
    moved = evolve(FELL, home=other)
    assert [moved.is_of(TO, FailureKind.ROLLED_BACK, where) for where in (other, None, home)] == [True, True, False]


def test_content_is_held_until_its_failure_is_over() -> None:
    assert (NOT_REACHED.count, SWITCHING.tries) == (1, 1)
    assert [NOT_REACHED.holds(NOW + later) for later in (0, 59, 60)] == [True, True, False]
    assert FELL.holds(NOW + 1e9), "not by time"
    assert [FELL.holds(NOW + later, quarantine_for=600) for later in (599, 600)] == [True, False]


@pytest.mark.parametrize(
    ("downloads", "later", "spared"), [(1, 0, False), (2, 0, True), (2, DOWNLOADED_AGAIN_AFTER, False)]
)
def test_wrong_bytes_are_downloaded_twice_and_then_now_and_then(downloads: int, later: float, spared: bool) -> None:
    wrong = ResponseFingerprint(url="http://meta/x", etag='"1"')
    failed = evolve(NOT_REACHED, served=wrong, downloads=downloads, downloaded_at=NOW)
    assert failed.not_again(NOW + later) == (wrong if spared else None)


def test_what_was_good_and_not_rolled_back_since_counts_the_newest_first() -> None:
    kept = record(good=TO, good_before=(ELSEWHERE, BEFORE), failures=(evolve(FELL, content=ELSEWHERE),))
    assert kept.good_contents == (TO, BEFORE)
    assert kept.last_good_of({BEFORE.version, ELSEWHERE.version}) == BEFORE.version
    assert kept.last_good_of({ELSEWHERE.version}) is None
    assert kept.failure_of(ELSEWHERE, FailureKind.ROLLED_BACK) == evolve(FELL, content=ELSEWHERE)
    assert kept.failure_of(TO, FailureKind.ROLLED_BACK) is None


def test_what_we_stopped_is_started_again_at_once() -> None:
    crashed = record(crashes=Crashes(count=1, at=NOW))
    assert (record().start_again_at(NOW), crashed.start_again_at(NOW)) == (0, NOW + 10)
    assert evolve(crashed, stopped_by_us=True).start_again_at(NOW) == 0


def test_what_ran_before_counts_as_good_where_nothing_else_was() -> None:
    assert with_good(record(), TO, BEFORE) == record(good=TO, good_before=(BEFORE,))
    assert with_good(record(good=ELSEWHERE), TO, BEFORE) == record(good=TO, good_before=(ELSEWHERE,))
    assert with_good(record(), TO) == record(good=TO)
    assert with_good(record(good=TO, good_before=(BEFORE,)), TO) == record(good=TO, good_before=(BEFORE,))


def test_the_last_control_calls_of_this_boot_are_known() -> None:
    def call(pid: int, boot: str = BOOT) -> ControlCall:
        return ControlCall(version="2.0", verb="start", pid=pid, started=1, boot=boot, limit_s=60.0)

    kept = called(record(calls=(call(1, "an earlier one"),)), call(2))
    assert kept.calls == (call(2),)
    for pid in range(3, 20):
        kept = called(kept, call(pid))
    assert [one.pid for one in kept.calls] == [19, 18, 17, 16, 15, 14]
    assert [one.pid for one in calls_of_earlier_run(kept, BOOT)] == [14, 15, 16, 17, 18, 19]
    assert calls_of_earlier_run(kept, "the next boot") == ()
    assert [one.pid for one in calls_of_earlier_run(call_over(kept, call(17)), BOOT)] == [14, 15, 16, 18, 19]
    assert calls_of_earlier_run(called(calls_over(kept), call(20)), BOOT) == (call(20),)


def test_what_is_left_of_a_watch_is_never_more_than_it() -> None:
    assert WATCHING.remaining(NOW + 10, WATCH) == WATCH - 10
    assert WATCHING.remaining(NOW - 1e8, WATCH) == WATCH
    assert SWITCHING.remaining(NOW + 1e8, WATCH) == WATCH


def test_a_release_ends_pins_quarantine_and_delays_and_nothing_else() -> None:
    kept = record(
        good=BEFORE,
        fallback=BEFORE,
        failures=(FELL, NOT_REACHED),
        crashes=Crashes(count=9, at=NOW),
        pin=Pin(version="1.0", owner="ann", at=NOW),
        confirmation=SWITCHING,
        used=("1.0",),
    )
    at_once = Awaited(content=None, since=0)
    assert released(kept) == record(good=BEFORE, confirmation=SWITCHING, used=("1.0",), awaited=at_once)


def test_where_it_is_to_stay_instead() -> None:
    assert record().pinned_or_fallback is None
    assert record(fallback=BEFORE).pinned_or_fallback == BEFORE
    pin = Pin(version="0.9", owner="ann", at=NOW)
    assert record(fallback=BEFORE, pin=pin).pinned_or_fallback == Content(version="0.9")


def test_versions_are_remembered_by_their_last_use() -> None:
    kept = record()
    for version in ("1.0", "1.0", "2.0", "3.0", "2.0"):
        kept = remember_use(kept, seen(f"{version} started"))
    assert kept.used == ("2.0", "3.0", "1.0")
    assert remember_use(kept, seen("names 9.9")) == kept
    for n in range(30):
        kept = remember_use(kept, seen(f"v{n} stoped"))
    assert kept.used == tuple(f"v{n}" for n in range(29, 9, -1))


def test_the_way_a_version_is_in_use_is_all_that_is_known_of_it() -> None:
    active = seen("1.0=AS+c0 started").active
    assert isinstance(active, Active)
    begun = advance(record(), SwitchStarted(to=TO, active=active, now=NOW, boot=BOOT)).record.confirmation
    assert begun is not None
    assert begun.before == content("1.0=AS+c0")


# Agents stopped by cmd


@pytest.mark.parametrize(
    ("asked", "world", "before", "after"),
    [
        ("stop", "1.0=B started", "", "1.0"),
        ("stop", "1.0=B stoped", "1.0", "1.0"),
        ("stop", "2.0=B unknown", "1.0", "2.0 1.0"),
        ("stop", "names 1.0", "", "1.0"),
        ("stop", "staged 1.0=B", "", ""),
        ("observe", "1.0=B started", "0.9", "0.9"),
        ("start 2.0=A", "1.0=B stoped", "1.0 0.9", "1.0 0.9"),
        ("start 1.0=B", "1.0=B stoped", "1.0 0.9", "0.9"),
        ("start 1.0=A", "names 1.0", "1.0", ""),
    ],
)
def test_a_stop_by_cmd_is_remembered_until_an_answer_says_start(
    asked: str, world: str, before: str, after: str
) -> None:
    known = record(told_to_stop=tuple(before.split()))
    assert heed(known, wish(asked).desired, seen(world)).told_to_stop == tuple(after.split())


def test_an_operators_pin_lifts_it_too() -> None:
    known = record(told_to_stop=("1.0", "0.9"), pin=Pin(version="1.0", owner="ann", at=NOW))
    assert heed(known, wish("start 2.0=A").desired, seen("1.0=B stoped")).told_to_stop == ("0.9",)
    assert heed(known, wish("stop").desired, seen("1.0=B stoped")).told_to_stop == ("1.0", "0.9")


MANAGED = AgentRecord(name=NAME, work_dir=WORK_DIR, run_user=USER)
FAILED_PRUNE = Outcome(action=Prune(names=("0.8", ".previous-1.0", ".stage-gone")), result=Result.FAILED)
LITTERED = "1.0 started; staged 0.8; staged 0.9; next 2.0; previous 1.0; left .stage-old-0.7; kept c0"


def test_what_a_removal_left_is_remembered() -> None:
    before = evolve(MANAGED, stuck=frozenset({"0.9", ".next-2.0", ".previous-.config", "0.1"}))
    after = remember_stuck(before, seen(LITTERED), (FAILED_PRUNE,))
    kept = {"0.9", ".next-2.0", ".previous-.config"}  # those that are there still
    assert after.stuck == kept | {"0.8", ".previous-1.0", ".stage-old-0.7"}


@pytest.mark.parametrize(
    "outcomes",
    [
        (),
        (Outcome(action=Prune(names=("0.8",)), result=Result.DONE),),
        (Outcome(action=Start(version="1.0"), result=Result.FAILED),),
    ],
)
def test_what_was_removed_or_not_tried_is_not_stuck(outcomes: tuple[Outcome, ...]) -> None:
    before = evolve(MANAGED, stuck=frozenset({"0.9", "0.1"}))
    assert remember_stuck(before, seen(LITTERED), outcomes).stuck == {"0.9"}
    assert remember_stuck(before, seen("1.0 started"), outcomes).stuck == frozenset()


def test_nothing_is_forgotten_of_a_home_that_can_not_be_looked_into() -> None:
    before = evolve(MANAGED, stuck=frozenset({"0.9"}))
    blind = evolve(seen("1.0 started"), active=None, blocked_by="can't be looked into")
    assert remember_stuck(before, blind, (FAILED_PRUNE,)) == before


def test_a_release_tries_to_remove_what_was_stuck() -> None:
    assert released(evolve(MANAGED, stuck=frozenset({"0.9"}))).stuck == frozenset()


def test_a_release_is_for_the_upload_that_is_held_for_being_empty() -> None:
    empty = ConfigMemory(name="cfg.json", url="http://meta", digest=EMPTY_FILE)
    assert not released(record(remote_config=memory("c1"))).empty_released
    assert not released(record()).empty_released
    let_pass = released(record(remote_config=empty))
    assert (let_pass.empty_released, let_pass.awaits_emptying) == (True, False)
    assert record(remote_config=empty).awaits_emptying
    assert not record(remote_config=empty, config=empty).awaits_emptying
    assert not record(remote_config=memory("c1")).awaits_emptying
    wanted, observed = wish("start 1.0=A+c1"), seen("1.0=A+c0 started")
    assert remember_config(let_pass, wanted.desired, observed, empty, edited=False).empty_released
    assert remember_config(let_pass, wanted.desired, observed, None, edited=False).empty_released
    assert not remember_config(let_pass, wanted.desired, observed, memory("c1"), edited=False).empty_released


def test_while_a_rule_bars_the_change_nothing_is_taken_up_of_a_config() -> None:
    """Nothing was asked then: that none is wanted must not be remembered of one whose entry is refused."""
    bare, observed = wish("start 1.0=A").desired, seen("1.0=A started")
    assert remember_config(record(), bare, observed, None, edited=False).config == NO_CONFIG
    barred = evolve(bare, barred=RuleViolation(rule="md5", message="no digest"))
    assert remember_config(record(), barred, observed, None, edited=False).config is None
