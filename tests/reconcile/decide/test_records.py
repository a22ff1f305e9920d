"""What a look and a plan's end make of what is remembered: configs, switches, failures, crashes, ways back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from attrs import evolve

from probes.observed import Active
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    Outcome,
    Prune,
    Result,
    Served,
    Start,
    Stop,
    Switch,
    Verify,
)
from reconcile.decide.aim import Findings
from reconcile.decide.planner import plan_agent
from reconcile.decide.records import (
    LONG_AFTER_WATCH,
    NO_CONFIG,
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    Awaited,
    ConfigMemory,
    Confirmation,
    Content,
    ControlCall,
    Crashes,
    Failure,
    Pin,
    Settled,
    Stage,
    Verdict,
    after_plan,
    began,
    called,
    calls_of_earlier_run,
    calls_over,
    came_up,
    is_surely,
    is_way_back,
    paused,
    record_for,
    released,
    remember_config,
    remember_use,
    seen_up,
    settle,
    take_back,
    was_made,
    was_never_up,
)
from tests.reconcile.decide.worlds import (
    BOOT,
    NAME,
    NOW,
    USER,
    WATCH,
    WORK_DIR,
    Life,
    Wish,
    aim_at,
    content,
    memory,
    record,
    remembered,
    seen,
    types,
    whole_pass,
    wish,
)


def test_the_first_record_is_of_where_the_agent_is_wanted() -> None:
    assert record_for(wish("stop").desired.place, None) == AgentRecord(name=NAME, work_dir=WORK_DIR, run_user=USER)


def test_a_record_follows_its_agent_and_keeps_the_rest() -> None:
    kept = AgentRecord(name=NAME, work_dir="/srv/old", run_user="nobody", config=memory("c1"))
    assert record_for(wish("stop").desired.place, kept) == remembered("c1")


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
    edited = aim_at(wanted, Life(observed, before)).edited
    after = remember_config(before, wanted.desired, observed, wanted.findings.config, edited=edited)
    assert after == evolve(before, config=config)


def test_a_config_that_could_not_be_had_is_not_remembered_as_none() -> None:
    kept = record()
    assert remember_config(kept, wish("start 1.0+c1").desired, seen("1.0+e started"), None, edited=False) == kept


def test_an_edit_from_before_our_time_outlives_a_config_server_that_is_down_at_first() -> None:
    """The first pass over a host remembers the agent, and not whose its config is."""
    wanted = wish("start 1.0+c1")
    blind = Wish(desired=wanted.desired, findings=Findings())
    _, life = whole_pass(Life(seen("1.0?+e started"), None), blind)
    assert life.record is not None
    plan, life = whole_pass(life, wanted)
    assert types(plan) == ""
    plan, _ = whole_pass(life, wish("start 1.0+c2"))
    assert types(plan) == "configure stop switch start"


def test_an_edit_outlives_an_agent_that_is_only_looked_on_first() -> None:
    _, life = whole_pass(Life(seen("1.0?+e started"), None), wish("observe"))
    assert types(plan_agent(aim_at(wish("start 1.0+c1"), life), life.observed)) == ""


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
    assert is_way_back(content(back), content(failed)) is way
    assert not is_way_back(content("1.0=B", config=""), content("1.0=B+c1"))


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
        # a tree that was found here: only the config that we put into it tells
        ("2.0=A", "2.0?", False),
        ("2.0=A+c1", "2.0?+c1", True),
        ("2.0=A+c1", "2.0?+c0", False),
    ],
)
def test_content_that_is_in_use_for_sure(of: str, world: str, surely: bool) -> None:
    active = seen(f"{world} unknown").active
    assert active is not None
    assert is_surely(content(of), active) is surely


# --- a confirmation's life ---

TO, BEFORE = content("2.0=A"), content("1.0=B")
SWITCHING = Confirmation(to=TO, before=BEFORE, at=NOW, boot=BOOT)
WATCHING = evolve(SWITCHING, stage=Stage.WATCHING, deadline=NOW + WATCH, came_up=True)


def look(kept: AgentRecord, world: str, *, now: float = NOW, boot: str = BOOT) -> Settled:
    return settle(kept, seen(world), now=now, watch=WATCH, boot=boot)


def test_begun_came_up_good() -> None:
    kept = began(record(), TO, seen("1.0=B started").active, now=NOW, boot=BOOT)
    assert kept.confirmation == SWITCHING
    kept = came_up(kept, now=NOW, watch=WATCH)
    assert kept.confirmation == WATCHING
    for later in (0.0, WATCH - 1):
        assert look(kept, "2.0=A started", now=NOW + later) == Settled(record=kept)
    good = look(kept, "2.0=A started", now=NOW + WATCH)
    assert good == Settled(record=record(good=TO), news="2.0 is good: it stayed up for the watch")


def test_what_became_good_is_free_of_what_was_held_against_it() -> None:
    old = Failure(content=TO, verdict=Verdict.ROLLED_BACK, reason="StartFailed", message="", at=NOW)
    other = evolve(old, content=content("3.0=S"))
    crashed = Crashes(count=3, at=NOW)
    kept = record(confirmation=WATCHING, failures=(old, other), fallback=BEFORE, crashes=crashed)
    assert look(kept, "2.0=A started", now=NOW + WATCH).record == record(good=TO, failures=(other,))


@pytest.mark.parametrize(
    ("world", "later", "taken"),
    [
        ("2.0=A stoped", 0, True),
        ("2.0=A stoped", WATCH - 1, True),
        ("2.0=A stoped", 9 * WATCH, True),
        ("2.0=A unknown", WATCH - 1, False),
        ("2.0=A unknown", WATCH, True),
        ("2.0=A+e stoped", 1, True),  # somebody edits its config meanwhile
    ],
)
def test_what_does_not_stay_up_is_taken_back(world: str, later: float, taken: bool) -> None:
    found = look(record(confirmation=WATCHING), world, now=NOW + later)
    if not taken:
        assert found == Settled(record=record(confirmation=WATCHING))
        return
    said = world.split()[1]
    failure = Failure(
        content=TO,
        verdict=Verdict.ROLLED_BACK,
        reason="StartFailed",
        message=f"2.0 did not stay up: its status says {said}",
        at=NOW + later,
    )
    assert found.record == record(failures=(failure,), fallback=BEFORE)
    assert found.news == f"{failure.message}; back to 1.0"


def test_a_status_that_prints_nothing_is_told_as_such() -> None:
    world = seen("2.0=A unknown")
    assert world.active is not None
    world = evolve(world, active=evolve(world.active, said=""))
    found = settle(record(confirmation=WATCHING), world, now=NOW + WATCH, watch=WATCH, boot=BOOT)
    assert found.news.startswith("2.0 did not stay up: its status says nothing;")


@pytest.mark.parametrize(
    ("world", "after"),
    [
        # switched, and not seen up yet: it is to be started (planner: start_due)
        ("2.0=A stoped", SWITCHING),
        ("2.0=A unknown", SWITCHING),
        # its start was made, by us or by a person
        ("2.0=A started", WATCHING),
        ("2.0 started", WATCHING),
        # nothing can be told: the home can't be read, or a replacement stands between its two renames
        ("stray permission denied", SWITCHING),
        ("names 2.0", SWITCHING),
        # it never came to the switch
        ("1.0=B started", None),
        ("1.0=B stoped", None),
        ("2.0=B stoped", None),
        ("names 1.0", None),
        ("", None),
    ],
)
def test_a_switch_of_an_earlier_run_goes_on_where_it_stands(world: str, after: Confirmation | None) -> None:
    found = look(record(confirmation=SWITCHING), world)
    assert found.record.confirmation == after
    assert (found.news, found.record.failures) == ("", ())


def test_a_config_tells_whether_a_switch_was_made_only_until_it_was_seen_up() -> None:
    to = content("1.0=B+c1")
    kept = record(confirmation=evolve(SWITCHING, to=to, before=content("1.0=B+c0")))
    assert look(kept, "1.0=B+c0 stoped").record.confirmation is None
    assert look(kept, "1.0=B+c1 stoped").record.confirmation is not None
    watched = evolve(kept, confirmation=evolve(WATCHING, to=to, before=content("1.0=B+c0")))
    assert look(watched, "1.0=B+e started").record.confirmation is not None
    assert look(watched, "1.0=B+e started", now=NOW + WATCH).record.good == to


def test_what_ran_before_a_switch_that_was_not_made_is_the_way_back_of_the_next_try() -> None:
    kept = look(record(confirmation=SWITCHING), "1.0=B stoped").record
    assert kept == record(interrupted=BEFORE)
    again = began(kept, TO, seen("1.0=B stoped").active, now=NOW + 9, boot=BOOT)
    assert again.confirmation is not None
    assert again.confirmation.before == BEFORE
    # until something is seen running again
    assert look(kept, "1.0=B stoped").record.interrupted == BEFORE
    assert look(kept, "1.0=B started").record.interrupted is None
    assert look(record(confirmation=SWITCHING), "1.0=B started").record == record(good=BEFORE)


@pytest.mark.parametrize(
    ("known", "world", "before"),
    [
        (None, "1.0=B started", content("1.0=B")),
        (None, "1.0?+c0 started", content("1.0+c0")),
        (None, "1.0=B stoped", None),
        (None, "1.0=B unknown", None),
        (None, "names 1.0", None),
        (None, "", None),
        # the last switch has no end yet, and what it brought never ran: what ran before it still counts
        (SWITCHING, "2.0=A stoped", BEFORE),
        (SWITCHING, "2.0=A started", content("2.0=A")),
        (WATCHING, "2.0=A started", content("2.0=A")),
    ],
)
def test_what_was_in_use_and_running_when_its_replacement_began(
    known: Confirmation | None, world: str, before: Content | None
) -> None:
    kept = began(record(confirmation=known), content("3.0=S"), seen(world).active, now=NOW, boot=BOOT)
    assert kept.confirmation is not None
    assert kept.confirmation.before == before


# --- whether it was ever seen up ---

ELSEWHERE = content("1.5=S")


@pytest.mark.parametrize(
    ("kept", "world", "never"),
    [
        (record(never_up=TO), "2.0=A unknown", True),
        (record(never_up=TO), "2.0=A stoped", True),
        (record(never_up=TO), "1.0=B unknown", False),
        (record(never_up=TO), "2.0 unknown", False),  # in doubt
        (record(confirmation=SWITCHING), "2.0=A unknown", True),
        (record(confirmation=SWITCHING), "1.0=B unknown", False),
        (record(confirmation=evolve(SWITCHING, came_up=True)), "2.0=A unknown", False),  # in an earlier boot, it may be
        (record(confirmation=WATCHING), "2.0=A unknown", False),
        (record(), "2.0=A unknown", False),
        (None, "2.0=A unknown", False),
    ],
)
def test_whether_what_is_in_use_was_ever_seen_up(kept: AgentRecord | None, world: str, never: bool) -> None:
    active = seen(world).active
    assert active is not None
    assert was_never_up(kept, active) is never


@pytest.mark.parametrize(
    ("kept", "world", "after"),
    [
        (record(never_up=TO), "2.0=A started", record()),
        (record(never_up=TO), "2.0 started", record()),  # it may be
        (record(never_up=TO), "2.0=A unknown", record(never_up=TO)),
        (record(never_up=TO), "1.0=B started", record(never_up=TO)),
        (record(never_up=TO), "names 2.0", record(never_up=TO)),
        (record(), "2.0=A started", record()),
        (record(confirmation=SWITCHING), "2.0=A started", record(confirmation=evolve(SWITCHING, came_up=True))),
        (record(confirmation=SWITCHING), "1.0=B started", record(confirmation=SWITCHING)),
    ],
)
def test_what_is_seen_up_once_was_up(kept: AgentRecord, world: str, after: AgentRecord) -> None:
    assert seen_up(kept, seen(world)) == after


def test_what_was_up_stays_so_through_boots_and_pauses() -> None:
    kept = record(confirmation=WATCHING)
    again = paused(kept, "2nd")
    assert again.confirmation is not None
    assert (again.confirmation.stage, again.confirmation.came_up) == (Stage.SWITCHING, True)
    assert take_back(again, "StartFailed", "no", NOW).record.never_up is None
    booted = look(kept, "2.0=A stoped", boot="2nd").record.confirmation
    assert booted is not None
    assert booted.came_up


@pytest.mark.parametrize(
    ("known", "world", "never_up"),
    [
        (SWITCHING, "2.0=A unknown", TO),
        (SWITCHING, "1.0=B unknown", None),
        (SWITCHING, "names 2.0", None),
        (WATCHING, "2.0=A unknown", None),
        (None, "2.0=A unknown", None),
    ],
)
def test_a_switch_away_from_what_was_never_up_does_not_forget_that(
    known: Confirmation | None, world: str, never_up: Content | None
) -> None:
    assert began(record(confirmation=known), ELSEWHERE, seen(world).active, now=NOW, boot=BOOT).never_up == never_up


def test_what_was_up_while_an_action_failed_was_up() -> None:
    start = evolve(ends(START)[0], was_up=True)
    assert after(record(confirmation=SWITCHING), (start,)).record.never_up is None
    other = record(confirmation=evolve(SWITCHING, to=ELSEWHERE))
    assert after(other, (start,)).record.confirmation == other.confirmation
    stop = evolve(ends(Stop(version="2.0"), skipped=(SWITCH, START))[0], was_up=True)
    kept = record(failures=(FELL,), fallback=BEFORE, never_up=TO)
    assert after(kept, (stop,), going_back=True).record.never_up is None
    assert after(evolve(kept, never_up=ELSEWHERE), (stop,), going_back=True).record.never_up == ELSEWHERE


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
    assert calls_of_earlier_run(called(calls_over(kept), call(20)), BOOT) == (call(20),)


@pytest.mark.parametrize(
    ("open_switch", "world", "made"),
    [
        (SWITCHING, "2.0=A stoped", True),
        (SWITCHING, "2.0=A unknown", True),
        (SWITCHING, "1.0=B stoped", False),
        (SWITCHING, "names 2.0", False),
        (SWITCHING, "", False),
        (None, "2.0=A stoped", False),
    ],
)
def test_the_disk_tells_whether_a_switch_was_made(open_switch: Confirmation | None, world: str, made: bool) -> None:
    """Not its step: that fails where the fsync after the rename does."""
    assert was_made(record(confirmation=open_switch), seen(world)) is made


def test_a_watch_begins_once() -> None:
    kept = record(confirmation=WATCHING)
    assert came_up(kept, now=NOW + 5, watch=WATCH) == kept


def test_without_an_open_switch_nothing_comes_up() -> None:
    assert came_up(record(), now=NOW, watch=WATCH) == record()
    assert look(record(good=BEFORE), "1.0=B started") == Settled(record=record(good=BEFORE))


def open_switches() -> Iterator[Confirmation]:
    """Every stage that a switch may stand at: before its verdict, in its watch, at its end, long after it."""
    ends = [SWITCHING, *(evolve(WATCHING, deadline=at) for at in (NOW + 1, NOW, NOW - LONG_AFTER_WATCH, NOW + 1e6))]
    marks = product(ends, (None, BEFORE), (1, TRIES_WITHOUT_VERDICT), (False, True), (False, True))
    return (evolve(end, before=before, tries=n, came_up=up, again=again) for end, before, n, up, again in marks)


@pytest.mark.parametrize("boot", [BOOT, "another"])
@pytest.mark.parametrize("good", [None, BEFORE, TO])
def test_one_look_is_enough_wherever_a_switch_stands(good: Content | None, boot: str) -> None:
    """A second one at once changes nothing more, and has no news: what was not written down is found out again."""
    worlds = [f"{content} {state}" for content in ("2.0=A", "1.0=B") for state in ("started", "stoped", "unknown")]
    for open_switch, world in product(open_switches(), (*worlds, "names 2.0", "")):
        kept = seen_up(record(confirmation=open_switch, good=good), seen(world))
        once = look(kept, world, boot=boot).record
        assert look(seen_up(once, seen(world)), world, boot=boot) == Settled(record=once), (open_switch, world)


# --- boots ---


@pytest.mark.parametrize("stage", [SWITCHING, WATCHING], ids=["switching", "watching"])
@pytest.mark.parametrize("before", [None, TO])
@pytest.mark.parametrize("world", ["2.0=A started", "2.0=A stoped"])
def test_a_third_boot_with_nothing_to_go_back_to_is_settled_by_one_look(
    stage: Confirmation, before: Content | None, world: str
) -> None:
    """Whatever runs then is as good as anything that is known."""
    tried = evolve(stage, before=before, tries=TRIES_WITHOUT_VERDICT)
    once = look(record(confirmation=tried), world, boot="another")
    assert once.news.endswith("there is nothing to go back to")
    assert once.record.good == (TO if world.endswith("started") else None)
    assert look(once.record, world, boot="another") == Settled(record=once.record)


def test_three_tries_each_followed_by_another_boot_count_as_a_failure() -> None:
    kept = record(confirmation=SWITCHING)
    for boot, tries in (("2nd", 2), ("2nd", 2), ("3rd", 3), ("3rd", 3)):
        found = look(kept, "2.0=A stoped", boot=boot)
        assert found.news == ""
        kept = found.record
        assert kept.confirmation == evolve(SWITCHING, boot=boot, tries=tries)
    found = look(kept, "2.0=A stoped", boot="4th")
    assert found.news == "2.0: 3 times the host went down before it came up; back to 1.0"
    assert (found.record.confirmation, found.record.fallback) == (None, BEFORE)
    assert found.record.failures[0].verdict is Verdict.ROLLED_BACK


@pytest.mark.parametrize("world", ["2.0=A stoped", "2.0=A started"])
def test_a_host_that_goes_down_within_the_watch_is_no_failure_of_the_content(world: str) -> None:
    """Power, not content: the watch begins anew; where it was seen up at once, with that look."""
    found = look(record(confirmation=WATCHING), world, now=NOW + 9 * WATCH, boot="2nd")
    assert found.news == ""
    again = found.record.confirmation
    assert again is not None
    assert (again.boot, again.tries, again.before) == ("2nd", 2, BEFORE)
    running = world.endswith("started")
    assert again.stage is (Stage.WATCHING if running else Stage.SWITCHING)
    assert again.deadline == (NOW + 10 * WATCH if running else None)
    # within that boot it is a failure
    assert look(evolve(found.record, confirmation=evolve(WATCHING, boot="2nd")), "2.0=A stoped", boot="2nd").news


def test_right_after_a_boot_a_status_that_can_not_be_told_is_waited_for() -> None:
    kept = record(confirmation=WATCHING)
    assert look(kept, "2.0=A unknown", now=NOW + 1, boot="2nd") == Settled(record=kept)
    counted = look(kept, "2.0=A unknown", now=NOW + WATCH, boot="2nd").record.confirmation
    assert counted is not None
    assert (counted.stage, counted.tries) == (Stage.SWITCHING, 2)


def test_a_try_of_the_same_content_goes_on_counting() -> None:
    tried = record(confirmation=evolve(SWITCHING, tries=2))
    for to, tries in ((TO, 2), (content("3.0=S"), 1)):
        again = began(tried, to, None, now=NOW, boot="5th").confirmation
        assert again is not None
        assert (again.tries, again.boot) == (tries, "5th")


def test_an_agent_that_is_not_asked_to_run_can_not_prove_itself() -> None:
    kept = paused(record(confirmation=WATCHING), "2nd")
    assert kept == record(confirmation=evolve(SWITCHING, boot="2nd", came_up=True))
    assert look(kept, "2.0=A stoped", now=NOW + 1e6, boot="2nd") == Settled(record=kept)
    assert paused(record(), BOOT) == record()


# --- where to go back to ---


@pytest.mark.parametrize(
    ("before", "good", "to", "back"),
    [
        ("1.0=B", "0.9=S", "2.0=A", "1.0=B"),
        (None, "0.9=S", "2.0=A", "0.9=S"),
        ("1.0=B", None, "2.0=A", "1.0=B"),
        (None, None, "2.0=A", None),
        (None, "2.0=A", "2.0=A", None),
        ("1.0=B", "1.0=B", "1.0=A", "1.0=B"),
        ("1.0=B+c0", None, "1.0=B+c1", "1.0=B+c0"),
        ("1.0=B", "0.9=S", "1.0=B+c1", "0.9=S"),
        ("1.0=B", "1.0=B", "1.0=B+c1", None),
        ("1.0", None, "1.0=A", None),
    ],
)
def test_where_to_go_back_to(before: str | None, good: str | None, to: str, back: str | None) -> None:
    was = None if before is None else content(before)
    trusted = None if good is None else content(good)
    kept = record(
        confirmation=evolve(SWITCHING, to=content(to), before=was), good=trusted, crashes=Crashes(count=3, at=1)
    )
    found = take_back(kept, "StartFailed", "no", NOW)
    assert found.record.confirmation is None
    if back is None:
        assert found.news == "no; there is nothing to go back to"
        assert (found.record.failures, found.record.fallback) == ((), None)
    else:
        assert found.news == f"no; back to {content(back).version}"
        assert found.record.fallback == content(back)
        assert [(f.content, f.verdict) for f in found.record.failures] == [(content(to), Verdict.ROLLED_BACK)]
        assert found.record.crashes is None


def test_what_was_found_running_is_as_good_as_anything_known() -> None:
    assert look(record(), "1.0=B started").record == record(good=BEFORE)
    for world in ("1.0=B stoped", "1.0=B unknown", "1.0? started", "names 1.0"):
        assert look(record(), world).record == record()
    assert look(record(good=content("0.9")), "1.0=B started").record == record(good=content("0.9"))
    failure = Failure(content=BEFORE, verdict=Verdict.ROLLED_BACK, reason="", message="", at=NOW)
    assert look(record(failures=(failure,)), "1.0=B started").record == record(failures=(failure,))


# --- plans' ends ---

BRING, FETCH = Stop(version="1.0"), Fetch(url="http://meta", digests=frozenset())
SWITCH, START, PRUNE = Switch(from_version="1.0", to="2.0"), Start(version="2.0"), Prune(names=(".stage-x",))


def ends(*tried: Action, failing: bool = True, skipped: tuple[Action, ...] = ()) -> tuple[Outcome, ...]:
    """Outcomes: all done, but for the last one where it is `failing`."""
    done = [Outcome(action=action, result=Result.DONE, attempts=1) for action in tried]
    if failing:
        done[-1] = evolve(done[-1], result=Result.FAILED, reason="Broken", error="no")
    return (*done, *(Outcome(action=action, result=Result.SKIPPED) for action in skipped))


def after(kept: AgentRecord, outcomes: tuple[Outcome, ...], *, now: float = NOW, going_back: bool = False) -> Settled:
    return after_plan(kept, TO, outcomes, now=now, going_back=going_back)


NOT_REACHED = Failure(
    content=TO,
    verdict=Verdict.NOT_REACHED,
    reason="Broken",
    message="no",
    at=NOW,
)
FELL = evolve(NOT_REACHED, verdict=Verdict.ROLLED_BACK)
CONFIGURE = Configure(name="cfg.json", digest="sha256:c1", directory="2.0")


@pytest.mark.parametrize(
    "outcomes",
    [
        ends(FETCH, skipped=(BRING, SWITCH, START)),
        ends(FETCH, CONFIGURE, skipped=(BRING, SWITCH, START)),
        ends(FETCH, BRING, skipped=(SWITCH, START)),
        ends(FETCH, BRING, SWITCH, skipped=(START,)),
        ends(SWITCH, skipped=(START,)),
    ],
)
def test_what_failed_before_the_switch_is_remembered_by_content_and_counted(outcomes: tuple[Outcome, ...]) -> None:
    kept = record()
    for count in (1, 2, 3):
        kept = after(kept, outcomes, now=NOW + count).record
        stopped = outcomes[1] == ends(BRING, failing=False)[0]
        failed = evolve(NOT_REACHED, at=NOW + count, count=count)
        assert kept == record(failures=(failed,), stopped_by_us=stopped)


WRONG = Served(url="http://meta/2.0", etag='"v1"', length="9", found="md5:cc")
VERIFY = Verify(digests=frozenset())


def wrong(
    kept: AgentRecord, served: Served | None = WRONG, *, now: float = NOW, downloaded: bool = True
) -> AgentRecord:
    """The tarball is not it: what was downloaded, or what the server still has."""
    tried = (FETCH, VERIFY) if downloaded else (FETCH,)
    *done, last = ends(*tried)
    skipped = (Outcome(action=SWITCH, result=Result.SKIPPED), Outcome(action=START, result=Result.SKIPPED))
    return after(kept, (*done, evolve(last, served=served), *skipped), now=now).record


@pytest.mark.parametrize(
    ("other", "still"),
    [
        (WRONG, True),
        (evolve(WRONG, found="md5:dd"), True),
        (evolve(WRONG, etag='"v2"'), False),
        (evolve(WRONG, length="8"), False),
        (evolve(WRONG, modified="now"), False),
        (evolve(WRONG, url="http://meta/2.1"), False),
    ],
)
def test_whether_a_server_still_has_the_same_bytes(other: Served, still: bool) -> None:
    assert WRONG.is_still(other) is still
    nothing = Served(url="http://meta/2.0")
    assert not nothing.is_still(nothing), "nothing tells"


def test_wrong_bytes_are_downloaded_twice_and_then_now_and_then() -> None:
    kept = wrong(record())
    assert kept.failures[0].not_again(NOW + 60) is None, "the transfer may have broken them"
    kept = wrong(kept, now=NOW + 60)
    assert (kept.failures[0].count, kept.failures[0].downloads) == (2, 2)
    assert kept.failures[0].not_again(NOW + 61) == WRONG
    kept = wrong(kept, now=NOW + 360, downloaded=False)
    assert (kept.failures[0].count, kept.failures[0].downloads) == (3, 2)
    assert kept.failures[0].not_again(NOW + 60 + 6 * 3600 - 1) == WRONG
    assert kept.failures[0].not_again(NOW + 60 + 6 * 3600) is None


def test_another_failure_in_between_makes_nobody_forget_the_bytes() -> None:
    kept = wrong(wrong(record()), now=NOW + 60)
    kept = wrong(kept, None, now=NOW + 360, downloaded=False)
    assert kept.failures[0].not_again(NOW + 361) == WRONG


def test_other_bytes_are_counted_anew() -> None:
    kept = wrong(wrong(record()), now=NOW + 60)
    kept = wrong(kept, evolve(WRONG, etag='"v2"'), now=NOW + 360)
    assert (kept.failures[0].count, kept.failures[0].downloads) == (3, 1)
    assert kept.failures[0].not_again(NOW + 361) is None


def test_a_clock_that_was_set_back_does_not_keep_bytes_from_being_downloaded() -> None:
    kept = wrong(wrong(record()), now=NOW + 1e9)
    kept = look(kept, "1.0=B started", now=NOW).record
    assert kept.failures[0].not_again(NOW + 1) == WRONG
    assert kept.failures[0].not_again(NOW + 6 * 3600) is None


def test_a_failed_stop_with_the_start_after_it_is_one_of_the_content_and_no_crash() -> None:
    outcomes = (*ends(FETCH, BRING), *ends(Start(version="1.0"), failing=False, skipped=(SWITCH, START)))
    assert after(record(), outcomes).record == record(failures=(NOT_REACHED,))


def test_a_failure_before_the_switch_ends_its_own_confirmation_and_no_other() -> None:
    begun = record(confirmation=SWITCHING)
    assert after(begun, ends(BRING, skipped=(SWITCH, START))).record.confirmation is None
    assert after(begun, ends(FETCH, skipped=(BRING, SWITCH, START))).record.confirmation == SWITCHING
    other = record(confirmation=evolve(WATCHING, to=content("1.5=S")))
    assert after(other, ends(FETCH, skipped=(BRING, SWITCH, START))).record.confirmation == other.confirmation
    assert after(other, ends(BRING, skipped=(SWITCH, START))).record.confirmation == other.confirmation


def test_what_did_not_even_begin_says_nothing() -> None:
    """A busy home, a fault of ours, a hold that came meanwhile."""
    busy = (
        Outcome(action=FETCH, result=Result.FAILED, reason="HomeBusy", error="busy"),
        Outcome(action=SWITCH, result=Result.SKIPPED),
    )
    assert after(record(confirmation=SWITCHING), busy) == Settled(record=record(confirmation=SWITCHING))
    held = ends(FETCH, failing=False, skipped=(BRING, SWITCH, START))
    assert after(record(), held) == Settled(record=record())


def test_a_switch_that_was_made_forgets_the_delays_and_not_the_quarantine() -> None:
    kept = record(failures=(NOT_REACHED, FELL), crashes=Crashes(count=2, at=NOW))
    assert after(kept, ends(SWITCH, START, failing=False)).record == record(failures=(FELL,))
    assert after(kept, ends(FETCH, failing=False)).record == kept


def test_new_content_that_does_not_start_is_taken_back() -> None:
    begun = record(confirmation=SWITCHING)
    found = after(begun, ends(BRING, SWITCH, START))
    assert found.record == record(failures=(FELL,), fallback=BEFORE, never_up=TO)
    assert found.news == "no; back to 1.0"
    # the start that an earlier run still owed, too; and of a held agent
    for going_back in (False, True):
        assert after(begun, ends(START), going_back=going_back).news == "no; back to 1.0"


def test_what_has_nothing_to_go_back_to_is_not_started_twice_in_a_row() -> None:
    alone = record(confirmation=evolve(SWITCHING, before=None))
    assert after(alone, ends(SWITCH, START)).record.crashes == Crashes(count=1, at=NOW)
    crashed = evolve(alone, crashes=Crashes(count=2, at=NOW - 60))
    assert after(crashed, ends(START)).record.crashes == Crashes(count=3, at=NOW), "counted once"
    assert after(record(confirmation=SWITCHING), ends(SWITCH, START)).record.crashes is None


@pytest.mark.parametrize("outcomes", [ends(SWITCH, START), ends(START), ends(BRING, skipped=(SWITCH, START))])
def test_a_host_that_is_short_of_processes_says_nothing_of_what_is_new(outcomes: tuple[Outcome, ...]) -> None:
    """Its switch stays open: it is started by the next round, or the next pass."""
    short = tuple(evolve(o, says_nothing=o.result is Result.FAILED) for o in outcomes)
    kept = record(confirmation=SWITCHING)
    assert after(kept, short) == Settled(record=kept)


def test_what_ended_nobody_knows_when_is_started_and_watched_once_more() -> None:
    """No run looked for a week: it may have died in its first second, or a minute ago."""
    kept, late = record(confirmation=WATCHING), NOW + WATCH + 600
    assert look(kept, "2.0=A stoped", now=late - 1).news.endswith("back to 1.0")
    found = look(kept, "2.0=A stoped", now=late)
    again = evolve(SWITCHING, came_up=True, again=True)
    assert found.record == record(confirmation=again)
    assert found.news == "2.0 ended nobody knows when, long after its start: it is started and watched once more"
    watched = came_up(found.record, now=late, watch=WATCH)
    assert look(watched, "2.0=A started", now=late + WATCH).record.good == TO
    for later in (1, WATCH + 9999):
        assert look(watched, "2.0=A stoped", now=late + later).news.endswith("back to 1.0"), "only once"
    assert look(kept, "2.0=A unknown", now=late).news.endswith("back to 1.0")


def test_a_way_back_that_does_not_start_is_left_there() -> None:
    kept = record(failures=(FELL,), fallback=BEFORE)
    back = ends(Stop(version="2.0"), Switch(from_version="2.0", to="1.0"), Start(version="1.0"))
    assert after(kept, back, going_back=True) == Settled(record=kept)
    open_still = evolve(kept, confirmation=SWITCHING)
    assert after(open_still, back, going_back=True) == Settled(record=open_still)


def test_a_way_back_that_failed_before_its_switch_is_remembered_by_where_it_leads() -> None:
    kept = record(failures=(FELL,), fallback=BEFORE)
    back = ends(Switch(from_version="2.0", to="1.0"), skipped=(Start(version="1.0"),))
    barred = after(kept, back, going_back=True).record
    assert barred == evolve(kept, failures=(evolve(NOT_REACHED, content=BEFORE), FELL))
    over = ends(Switch(from_version="2.0", to="1.0"), Start(version="1.0"), failing=False)
    assert after(barred, over, going_back=True).record == kept
    pinned = evolve(kept, pin=Pin(version="0.9", owner="ann", at=NOW))
    assert after(pinned, back, going_back=True).record.failures[0].content == Content(version="0.9")
    # nothing was gone back to: a replacement was finished for a held agent
    assert after(record(), back, going_back=True) == Settled(record=record())


def test_starts_for_their_own_sake_are_counted_as_crashes() -> None:
    kept = record()
    for count in (1, 2, 3):
        kept = after(kept, ends(START, failing=count == 2), now=NOW + count).record
        assert kept == record(crashes=Crashes(count=count, at=NOW + count))
    assert after(kept, ends(START, failing=False, skipped=(PRUNE,)), going_back=True).record.crashes == Crashes(
        count=4, at=NOW
    )
    interrupted = (Outcome(action=START, result=Result.SKIPPED, attempts=1),)
    assert after(record(), interrupted).record == record()


@pytest.mark.parametrize(
    "outcomes",
    [ends(BRING), ends(PRUNE), ends(SWITCH, START, PRUNE), ()],
)
def test_what_is_no_failure_of_any_content(outcomes: tuple[Outcome, ...]) -> None:
    """A stop for its own sake, which is asked for again at each pass; cleaning up."""
    assert after(record(), outcomes) == Settled(record=record())


def test_what_we_stopped_ourselves_is_started_at_once_and_that_is_no_crash() -> None:
    """It crashed lately and was healed; a change stopped it, and could not be made."""
    crashed = Crashes(count=2, at=NOW)
    kept = record(crashes=crashed)
    assert kept.start_again_at(NOW + 1) == NOW + 20
    stopped = after(kept, ends(BRING, SWITCH, skipped=(START,))).record
    assert (stopped.crashes, stopped.start_again_at(NOW + 1)) == (crashed, 0.0)
    started = after(stopped, ends(START, failing=False)).record
    assert (started.crashes, started.start_again_at(NOW + 1)) == (crashed, NOW + 20)
    failed = after(stopped, ends(START), now=NOW + 1).record  # by then it is what does not stay up
    assert (failed.crashes, failed.stopped_by_us) == (Crashes(count=3, at=NOW + 1), False)
    never = after(record(), ends(BRING, failing=False)).record
    assert after(never, ends(START, failing=False)).record == record()


@pytest.mark.parametrize("world", ["1.0=B started", "1.0=B stoped"])
def test_a_run_that_was_killed_between_its_note_and_its_start_has_stopped_it(world: str) -> None:
    begun = began(record(crashes=Crashes(count=1, at=NOW)), TO, seen("1.0=B started").active, now=NOW, boot=BOOT)
    assert begun.start_again_at(NOW) == 0.0
    found = look(seen_up(begun, seen(world)), world, now=NOW + 1).record
    assert found.stopped_by_us is (world == "1.0=B stoped"), "it was seen up, so what ends it now is a crash"


def test_a_switch_to_what_stood_still_stops_nothing() -> None:
    begun = began(record(crashes=Crashes(count=1, at=NOW)), TO, seen("1.0=B stoped").active, now=NOW, boot=BOOT)
    assert not begun.stopped_by_us


def test_crashes_are_forgotten_after_ten_minutes_well() -> None:
    kept = record(good=BEFORE, crashes=Crashes(count=4, at=NOW))
    assert look(kept, "1.0=B started", now=NOW + 599).record == kept
    assert look(kept, "1.0=B started", now=NOW + 600).record == record(good=BEFORE)
    for world in ("1.0=B stoped", "1.0=B unknown", "names 1.0"):
        assert look(kept, world, now=NOW + 1e6).record == kept


def test_the_newest_ten_failures_are_kept() -> None:
    kept = record()
    for n in range(15):
        kept = take_back(
            evolve(kept, confirmation=evolve(SWITCHING, to=content(f"{n}.0=A"))), "StartFailed", "no", NOW + n
        ).record
    assert [failure.content.version for failure in kept.failures] == [f"{n}.0" for n in range(14, 4, -1)]


def test_failures_of_both_kinds_stand_side_by_side() -> None:
    """A quarantine whose time is over is tried again: that its fetch fails neither ends nor renews it."""
    kept = after(record(failures=(FELL,)), ends(FETCH, skipped=(SWITCH,))).record
    assert kept.failures == (NOT_REACHED, FELL)
    assert kept.failure_of(TO, Verdict.ROLLED_BACK) == FELL
    assert kept.failure_of(TO, Verdict.NOT_REACHED) == NOT_REACHED
    assert kept.failure_of(content("2.0=B"), Verdict.NOT_REACHED) is None


def test_what_was_rolled_back_twice_is_counted() -> None:
    again = record(confirmation=SWITCHING, failures=(FELL,))
    assert take_back(again, "StartFailed", "no", NOW).record.failures[0].count == 2


# --- clocks, operators, retention ---


def test_a_clock_that_was_set_back_lets_a_span_begin_anew_once_and_no_more() -> None:
    """2099 by mistake, then set right: what was written down then must not hold until 2099."""
    kept = record(
        good=BEFORE,
        failures=(NOT_REACHED, evolve(FELL, at=NOW - 5)),
        crashes=Crashes(count=1, at=NOW),
        confirmation=WATCHING,
    )
    right = NOW - 1e8
    found = look(kept, "2.0=A unknown", now=right).record
    assert [failure.at for failure in found.failures] == [right, right]
    assert found.crashes == Crashes(count=1, at=right)
    assert found.confirmation is not None
    assert found.confirmation.deadline == right + WATCH
    later = look(found, "2.0=A started", now=right + WATCH).record
    assert later.confirmation is None
    assert [failure.at for failure in found.failures] == [right, right]
    assert NOT_REACHED.again_at(right, None) == right + 60
    assert found.failures[0].again_at(right + 59, None) == right + 60


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
    assert record().way_back is None
    assert record(fallback=BEFORE).way_back == BEFORE
    assert record(fallback=BEFORE, pin=Pin(version="0.9", owner="ann", at=NOW)).way_back == Content(version="0.9")


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
    begun = began(record(), TO, active, now=NOW, boot=BOOT).confirmation
    assert begun is not None
    assert begun.before == content("1.0=AS+c0")
