"""What a look makes of what is remembered: switches, boots, ways back, crashes that are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from attrs import evolve

from reconcile.decide.records.changes import was_never_up
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import (
    LONG_AFTER_WATCH,
    TRIES_WITHOUT_VERDICT,
    AgentRecord,
    Crashes,
    Failure,
    FailureKind,
    PendingUpgrade,
    UpgradePhase,
)
from reconcile.decide.upgrade.events import Observed, Paused, StartConfirmed, SwitchStarted
from reconcile.decide.upgrade.observation import was_made
from reconcile.decide.upgrade.steps import Advanced, seen_up, take_back
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.switches import BEFORE, ELSEWHERE, FELL, NOT_REACHED, SWITCHING, TO, WATCHING, look
from tests.reconcile.decide.worlds import BOOT, NOW, WATCH, content, record, seen


def test_begun_came_up_good() -> None:
    kept = advance(record(), SwitchStarted(to=TO, active=seen("1.0=B started").active, now=NOW, boot=BOOT)).record
    assert kept.confirmation == SWITCHING
    kept = advance(kept, StartConfirmed(now=NOW, watch=WATCH)).record
    assert kept.confirmation == WATCHING
    for later in (0.0, WATCH - 1):
        assert look(kept, "2.0=A started", now=NOW + later) == Advanced(record=kept)
    good = look(kept, "2.0=A started", now=NOW + WATCH)
    assert good == Advanced(
        record=record(good=TO, good_before=(BEFORE,)), news="2.0 is good: it kept running through its watch"
    )


def test_what_became_good_is_free_of_what_was_held_against_it() -> None:
    old = Failure(content=TO, verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW)
    other = evolve(old, content=content("3.0=S"))
    crashed = Crashes(count=3, at=NOW)
    kept = record(confirmation=WATCHING, failures=(old, other), fallback=BEFORE, crashes=crashed)
    assert look(kept, "2.0=A started", now=NOW + WATCH).record == record(
        good=TO, good_before=(BEFORE,), failures=(other,)
    )


@pytest.mark.parametrize(
    ("world", "later", "taken"),
    [
        ("2.0=A stoped", 0, True),
        ("2.0=A stoped", WATCH - 1, True),
        ("2.0=A stoped", 9 * WATCH, True),
        ("2.0=A unknown", WATCH - 1, False),
        ("2.0=A unknown", WATCH, True),
        ("2.0=A+e stoped", 1, True),  # its config is edited meanwhile
    ],
)
def test_what_does_not_keep_running_is_rolled_back(world: str, later: float, taken: bool) -> None:
    found = look(record(confirmation=WATCHING), world, now=NOW + later)
    if not taken:
        assert found == Advanced(record=record(confirmation=WATCHING))
        return
    said = world.split()[1]
    failure = Failure(
        content=TO,
        verdict=FailureKind.ROLLED_BACK,
        reason="StartFailed",
        message=f"2.0 did not keep running: its status says {said}",
        at=NOW + later,
    )
    assert found.record == record(failures=(failure,), fallback=BEFORE)
    assert found.news == f"{failure.message}; back to 1.0"


def test_a_status_that_prints_nothing_is_reported_as_such() -> None:
    world = seen("2.0=A unknown")
    assert world.active is not None
    world = evolve(world, active=evolve(world.active, status_output=""))
    found = advance(record(confirmation=WATCHING), Observed(observed=world, now=NOW + WATCH, watch=WATCH, boot=BOOT))
    assert found.news.startswith("2.0 did not keep running: its status says nothing;")


@pytest.mark.parametrize(
    ("world", "after"),
    [
        # switched, and not seen up yet: it is to be started (planner: start_due)
        ("2.0=A stoped", SWITCHING),
        ("2.0=A unknown", SWITCHING),
        # its start was made, by us or by a person
        ("2.0=A started", WATCHING),
        ("2.0 started", WATCHING),
        # nothing can be known: the home can't be read, or a replacement stands between its two renames
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
def test_a_switch_of_an_earlier_run_goes_on_where_it_stands(world: str, after: PendingUpgrade | None) -> None:
    found = look(record(confirmation=SWITCHING), world)
    assert found.record.confirmation == after
    assert (found.news, found.record.failures) == ("", ())


def test_a_config_shows_whether_a_switch_was_made_until_it_was_seen_running() -> None:
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
    again = advance(kept, SwitchStarted(to=TO, active=seen("1.0=B stoped").active, now=NOW + 9, boot=BOOT)).record
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
    known: PendingUpgrade | None, world: str, before: Content | None
) -> None:
    kept = advance(
        record(confirmation=known), SwitchStarted(to=content("3.0=S"), active=seen(world).active, now=NOW, boot=BOOT)
    ).record
    assert kept.confirmation is not None
    assert kept.confirmation.before == before


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
    again = advance(kept, Paused(boot="2nd")).record
    assert again.confirmation is not None
    assert (again.confirmation.stage, again.confirmation.came_up) == (UpgradePhase.SWITCHING, True)
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
    known: PendingUpgrade | None, world: str, never_up: Content | None
) -> None:
    assert (
        advance(
            record(confirmation=known), SwitchStarted(to=ELSEWHERE, active=seen(world).active, now=NOW, boot=BOOT)
        ).record.never_up
        == never_up
    )


@pytest.mark.parametrize(
    ("pending", "world", "made"),
    [
        (SWITCHING, "2.0=A stoped", True),
        (SWITCHING, "2.0=A unknown", True),
        (SWITCHING, "1.0=B stoped", False),
        (SWITCHING, "names 2.0", False),
        (SWITCHING, "", False),
        (None, "2.0=A stoped", False),
    ],
)
def test_the_disk_shows_whether_a_switch_was_made(pending: PendingUpgrade | None, world: str, made: bool) -> None:
    """Not its step: that fails where the fsync after the rename does."""
    assert was_made(record(confirmation=pending), seen(world)) is made


def test_a_watch_begins_once() -> None:
    kept = record(confirmation=WATCHING)
    assert advance(kept, StartConfirmed(now=NOW + 5, watch=WATCH)).record == kept


def test_without_an_open_switch_nothing_comes_up() -> None:
    assert advance(record(), StartConfirmed(now=NOW, watch=WATCH)).record == record()
    assert look(record(good=BEFORE), "1.0=B started") == Advanced(record=record(good=BEFORE))


def open_switches() -> Iterator[PendingUpgrade]:
    """Every stage that a switch may stand at: before its verdict, in its watch, at its end, long after it."""
    ends = [SWITCHING, *(evolve(WATCHING, deadline=at) for at in (NOW + 1, NOW, NOW - LONG_AFTER_WATCH, NOW + 1e6))]
    marks = product(ends, (None, BEFORE), (1, TRIES_WITHOUT_VERDICT), (False, True), (False, True))
    return (evolve(end, before=before, tries=n, came_up=up, again=again) for end, before, n, up, again in marks)


@pytest.mark.parametrize("boot", [BOOT, "another"])
@pytest.mark.parametrize("good", [None, BEFORE, TO])
def test_one_look_is_enough_wherever_a_switch_stands(good: Content | None, boot: str) -> None:
    """A second one at once changes nothing more, and has no news: what was not written down is found out again."""
    worlds = [f"{content} {state}" for content in ("2.0=A", "1.0=B") for state in ("started", "stoped", "unknown")]
    for pending, world in product(open_switches(), (*worlds, "names 2.0", "")):
        kept = seen_up(record(confirmation=pending, good=good), seen(world))
        once = look(kept, world, boot=boot).record
        assert look(seen_up(once, seen(world)), world, boot=boot) == Advanced(record=once), (pending, world)


# --- boots ---


@pytest.mark.parametrize("stage", [SWITCHING, WATCHING], ids=["switching", "watching"])
@pytest.mark.parametrize("before", [None, TO])
@pytest.mark.parametrize("world", ["2.0=A started", "2.0=A stoped"])
def test_a_third_boot_with_nothing_to_go_back_to_is_settled_by_one_look(
    stage: PendingUpgrade, before: Content | None, world: str
) -> None:
    """Whatever runs then is as good as anything that is known."""
    tried = evolve(stage, before=before, tries=TRIES_WITHOUT_VERDICT)
    once = look(record(confirmation=tried), world, boot="another")
    assert once.news.endswith("there is nothing to go back to")
    assert once.record.good == (TO if world.endswith("started") else None)
    assert look(once.record, world, boot="another") == Advanced(record=once.record)


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
    assert found.record.failures[0].verdict is FailureKind.ROLLED_BACK


@pytest.mark.parametrize("world", ["2.0=A stoped", "2.0=A started"])
def test_a_host_that_goes_down_within_the_watch_is_no_failure_of_the_content(world: str) -> None:
    """Power, not content: the watch begins again; where it was seen running at once, with that look."""
    found = look(record(confirmation=WATCHING), world, now=NOW + 9 * WATCH, boot="2nd")
    assert found.news == ""
    again = found.record.confirmation
    assert again is not None
    assert (again.boot, again.tries, again.before) == ("2nd", 2, BEFORE)
    running = world.endswith("started")
    assert again.stage is (UpgradePhase.WATCHING if running else UpgradePhase.SWITCHING)
    assert again.deadline == (NOW + 10 * WATCH if running else None)
    # within that boot it is a failure
    assert look(evolve(found.record, confirmation=evolve(WATCHING, boot="2nd")), "2.0=A stoped", boot="2nd").news


def test_an_unknown_status_right_after_a_boot_is_waited_for() -> None:
    kept = record(confirmation=WATCHING)
    assert look(kept, "2.0=A unknown", now=NOW + 1, boot="2nd") == Advanced(record=kept)
    counted = look(kept, "2.0=A unknown", now=NOW + WATCH, boot="2nd").record.confirmation
    assert counted is not None
    assert (counted.stage, counted.tries) == (UpgradePhase.SWITCHING, 2)


def test_a_try_of_the_same_content_goes_on_counting() -> None:
    tried = record(confirmation=evolve(SWITCHING, tries=2))
    for to, tries in ((TO, 2), (content("3.0=S"), 1)):
        again = advance(tried, SwitchStarted(to=to, active=None, now=NOW, boot="5th")).record.confirmation
        assert again is not None
        assert (again.tries, again.boot) == (tries, "5th")


def test_an_agent_that_is_not_asked_to_run_can_not_prove_itself() -> None:
    kept = advance(record(confirmation=WATCHING), Paused(boot="2nd")).record
    assert kept == record(confirmation=evolve(SWITCHING, boot="2nd", came_up=True))
    assert look(kept, "2.0=A stoped", now=NOW + 1e6, boot="2nd") == Advanced(record=kept)
    assert advance(record(), Paused(boot=BOOT)).record == record()


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
        assert [(f.content, f.verdict) for f in found.record.failures] == [(content(to), FailureKind.ROLLED_BACK)]
        assert found.record.crashes is None


def test_what_was_found_running_is_as_good_as_anything_known() -> None:
    assert look(record(), "1.0=B started").record == record(good=BEFORE)
    for world in ("1.0=B stoped", "1.0=B unknown", "1.0? started", "names 1.0"):
        assert look(record(), world).record == record()
    assert look(record(good=content("0.9")), "1.0=B started").record == record(good=content("0.9"))
    failure = Failure(content=BEFORE, verdict=FailureKind.ROLLED_BACK, reason="", message="", at=NOW)
    assert look(record(failures=(failure,)), "1.0=B started").record == record(failures=(failure,))


def test_an_end_at_an_unknown_time_is_a_start_and_a_watch_once_more() -> None:
    """No run looked for a week: it may have died in its first second, or a minute ago."""
    kept, late = record(confirmation=WATCHING), NOW + WATCH + 600
    assert look(kept, "2.0=A stoped", now=late - 1).news.endswith("back to 1.0")
    found = look(kept, "2.0=A stoped", now=late)
    again = evolve(SWITCHING, came_up=True, again=True)
    assert found.record == record(confirmation=again)
    assert found.news == "2.0 ended at an unknown time, long after its start: it is started and watched again"
    watched = advance(found.record, StartConfirmed(now=late, watch=WATCH)).record
    assert look(watched, "2.0=A started", now=late + WATCH).record.good == TO
    for later in (1, WATCH + 9999):
        assert look(watched, "2.0=A stoped", now=late + later).news.endswith("back to 1.0"), "only once"
    assert look(kept, "2.0=A unknown", now=late).news.endswith("back to 1.0")


def test_crashes_are_forgotten_after_ten_minutes_well() -> None:
    kept = record(good=BEFORE, crashes=Crashes(count=4, at=NOW))
    assert look(kept, "1.0=B started", now=NOW + 599).record == kept
    assert look(kept, "1.0=B started", now=NOW + 600).record == record(good=BEFORE)
    for world in ("1.0=B stoped", "1.0=B unknown", "names 1.0"):
        assert look(kept, world, now=NOW + 1e6).record == kept


def test_a_clock_that_was_set_back_lets_a_span_begin_again_once_and_no_more() -> None:
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


# Agents stopped by cmd


@pytest.mark.parametrize(
    ("stopped", "before", "back"),
    [
        (("1.0",), "1.0", None),
        (("1.0",), None, None),
        (("0.9",), "1.0", "1.0"),
        (("1.0", "0.9"), "0.8", "0.8"),
    ],
)
def test_nothing_goes_back_to_a_version_stopped_by_cmd(
    stopped: tuple[str, ...], before: str | None, back: str | None
) -> None:
    """Where there is nothing else the agent stays stopped, and its content failed as any that was rolled back."""
    was = None if before is None else content(before)
    kept = record(
        confirmation=evolve(SWITCHING, to=content("2.0=A"), before=was), good=content("1.0"), told_to_stop=stopped
    )
    found = take_back(kept, "StartFailed", "no", NOW)
    assert [failure.content for failure in found.record.failures] == [content("2.0=A")]
    assert (None if found.record.fallback is None else found.record.fallback.version) == back
    assert found.news == ("no; it stays stopped, as was desired before" if back is None else f"no; back to {back}")


def test_good_content_ends_what_was_noted_before() -> None:
    watched = record(confirmation=WATCHING, told_to_stop=("1.0",))
    assert look(watched, "2.0=A started", now=NOW + 1).record.told_to_stop == ("1.0",)
    assert look(watched, "2.0=A started", now=NOW + WATCH).record.told_to_stop == ()
