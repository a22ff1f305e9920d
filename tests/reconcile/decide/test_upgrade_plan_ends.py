"""What a plan makes of what is remembered: failures by content, rollbacks, crashes that are counted."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    Outcome,
    Prune,
    ResponseFingerprint,
    Result,
    Start,
    Stop,
    SwitchVersion,
    Verify,
)
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, Crashes, FailureKind, Pin
from reconcile.decide.upgrade.events import PlanFinished, SwitchStarted
from reconcile.decide.upgrade.steps import Advanced, seen_up, take_back
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.switches import BEFORE, ELSEWHERE, FELL, NOT_REACHED, SWITCHING, TO, WATCHING, look
from tests.reconcile.decide.worlds import BOOT, NOW, config_digest, content, record, seen

BRING, FETCH = Stop(version="1.0"), Fetch(url="http://meta", version="1.0.0", digests=frozenset())
SWITCH, START, PRUNE = SwitchVersion(from_version="1.0", to="2.0"), Start(version="2.0"), Prune(names=(".stage-x",))
CONFIGURE = Configure(name="cfg.json", digest="sha256:c1", directory="2.0")


def ends(*tried: Action, failing: bool = True, skipped: tuple[Action, ...] = ()) -> tuple[Outcome, ...]:
    """Outcomes: all done, except the last one where it is `failing`."""
    done = [Outcome(action=action, result=Result.DONE, attempts=1) for action in tried]
    if failing:
        done[-1] = evolve(done[-1], result=Result.FAILED, reason="Broken", error="no")
    return (*done, *(Outcome(action=action, result=Result.SKIPPED) for action in skipped))


def after(kept: AgentRecord, outcomes: tuple[Outcome, ...], *, now: float = NOW, going_back: bool = False) -> Advanced:
    return advance(kept, PlanFinished(wanted=TO, outcomes=outcomes, now=now, going_back=going_back))


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


WRONG = ResponseFingerprint(url="http://meta/2.0", etag='"v1"', length="9", found="md5:cc")


VERIFY = Verify(digests=frozenset())


def wrong(
    kept: AgentRecord, served: ResponseFingerprint | None = WRONG, *, now: float = NOW, downloaded: bool = True
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
def test_whether_a_server_still_has_the_same_bytes(other: ResponseFingerprint, still: bool) -> None:
    assert WRONG.is_still(other) is still
    nothing = ResponseFingerprint(url="http://meta/2.0")
    assert not nothing.is_still(nothing), "nothing shows it"


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


def test_another_failure_in_between_keeps_the_bytes_in_mind() -> None:
    kept = wrong(wrong(record()), now=NOW + 60)
    kept = wrong(kept, None, now=NOW + 360, downloaded=False)
    assert kept.failures[0].not_again(NOW + 361) == WRONG


def test_other_bytes_are_counted_from_one() -> None:
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
    assert after(record(confirmation=SWITCHING), busy) == Advanced(record=record(confirmation=SWITCHING))
    held = ends(FETCH, failing=False, skipped=(BRING, SWITCH, START))
    assert after(record(), held) == Advanced(record=record())


def test_a_switch_that_was_made_forgets_the_delays_and_not_the_quarantine() -> None:
    kept = record(failures=(NOT_REACHED, FELL), crashes=Crashes(count=2, at=NOW))
    assert after(kept, ends(SWITCH, START, failing=False)).record == record(failures=(FELL,))
    assert after(kept, ends(FETCH, failing=False)).record == kept


def test_new_content_that_does_not_start_is_rolled_back() -> None:
    begun = record(confirmation=SWITCHING)
    found = after(begun, ends(BRING, SWITCH, START))
    assert found.record == record(failures=(FELL,), fallback=BEFORE, never_up=TO)
    assert found.news == "no; back to 1.0"
    # the start that an earlier run still owed, too; and of a held agent
    for going_back in (False, True):
        assert after(begun, ends(START), going_back=going_back).news == "no; back to 1.0"


def test_what_failed_beside_processes_that_were_left_is_tried_again_once() -> None:
    """The processes of what it replaced outlived their stop, and may have held its port."""
    stopped = Outcome(action=Stop(version="1.0"), result=Result.DONE, attempts=1, outlived="process 7 (helper)")
    first = after(record(confirmation=SWITCHING), (stopped, *ends(SWITCH, START)))
    assert first.record.failures == (evolve(FELL, outlived=True),)
    assert (first.record.fallback, first.news) == (BEFORE, "no; back to 1.0")
    again = evolve(first.record, confirmation=SWITCHING)
    second = after(again, (stopped, *ends(SWITCH, START)))
    assert second.record.failures == (evolve(FELL, count=2),), "twice in a row: it is the content's fault"
    assert after(again, ends(SWITCH, START)).record.failures == (evolve(FELL, count=2),)


def test_a_start_of_unknown_result_is_no_failure_but_three_are_one() -> None:
    lost = (*ends(SWITCH, failing=False), evolve(ends(START)[0], lost=True, host_fault=True))
    found = after(record(confirmation=SWITCHING), lost)
    assert (found.record, found.news) == (record(confirmation=evolve(SWITCHING, tries=2)), "")
    last = after(record(confirmation=evolve(SWITCHING, tries=3)), lost)
    assert (last.record.fallback, last.record.confirmation) == (BEFORE, None)
    assert last.news == "3 starts, and the end of none is known: no; back to 1.0"
    assert after(record(), lost[1:]).record == record(), "a start for its own sake"


def test_what_has_nothing_to_go_back_to_is_not_started_twice_in_a_row() -> None:
    alone = record(confirmation=evolve(SWITCHING, before=None))
    assert after(alone, ends(SWITCH, START)).record.crashes == Crashes(count=1, at=NOW)
    crashed = evolve(alone, crashes=Crashes(count=2, at=NOW - 60))
    assert after(crashed, ends(START)).record.crashes == Crashes(count=3, at=NOW), "counted once"
    assert after(record(confirmation=SWITCHING), ends(SWITCH, START)).record.crashes is None


@pytest.mark.parametrize("outcomes", [ends(SWITCH, START), ends(START), ends(BRING, skipped=(SWITCH, START))])
def test_a_host_that_is_short_of_processes_says_nothing_of_what_is_new(outcomes: tuple[Outcome, ...]) -> None:
    """Its switch stays open: it is started by the next round, or the next pass."""
    short = tuple(evolve(o, host_fault=o.result is Result.FAILED) for o in outcomes)
    kept = record(confirmation=SWITCHING)
    assert after(kept, short) == Advanced(record=kept)


def test_a_way_back_that_does_not_start_is_left_there() -> None:
    kept = record(failures=(FELL,), fallback=BEFORE)
    back = ends(Stop(version="2.0"), SwitchVersion(from_version="2.0", to="1.0"), Start(version="1.0"))
    assert after(kept, back, going_back=True) == Advanced(record=kept)
    open_still = evolve(kept, confirmation=SWITCHING)
    assert after(open_still, back, going_back=True) == Advanced(record=open_still)


def test_a_way_back_that_failed_before_its_switch_is_remembered_by_where_it_leads() -> None:
    kept = record(failures=(FELL,), fallback=BEFORE)
    back = ends(SwitchVersion(from_version="2.0", to="1.0"), skipped=(Start(version="1.0"),))
    barred = after(kept, back, going_back=True).record
    assert barred == evolve(kept, failures=(evolve(NOT_REACHED, content=BEFORE), FELL))
    over = ends(SwitchVersion(from_version="2.0", to="1.0"), Start(version="1.0"), failing=False)
    assert after(barred, over, going_back=True).record == kept
    pinned = evolve(kept, pin=Pin(version="0.9", owner="ann", at=NOW))
    assert after(pinned, back, going_back=True).record.failures[0].content == Content(version="0.9")
    # nothing was gone back to: a replacement was finished for a held agent
    assert after(record(), back, going_back=True) == Advanced(record=record())


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
    assert after(record(), outcomes) == Advanced(record=record())


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
    begun = advance(
        record(crashes=Crashes(count=1, at=NOW)),
        SwitchStarted(to=TO, active=seen("1.0=B started").active, now=NOW, boot=BOOT),
    ).record
    assert begun.start_again_at(NOW) == 0.0
    found = look(seen_up(begun, seen(world)), world, now=NOW + 1).record
    assert found.stopped_by_us is (world == "1.0=B stoped"), "it was seen up, so what ends it now is a crash"


def test_a_switch_to_what_stood_still_stops_nothing() -> None:
    begun = advance(
        record(crashes=Crashes(count=1, at=NOW)),
        SwitchStarted(to=TO, active=seen("1.0=B stoped").active, now=NOW, boot=BOOT),
    ).record
    assert not begun.stopped_by_us


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
    assert kept.failure_of(TO, FailureKind.ROLLED_BACK) == FELL
    assert kept.failure_of(TO, FailureKind.NOT_REACHED) == NOT_REACHED
    assert kept.failure_of(content("2.0=B"), FailureKind.NOT_REACHED) is None


def test_what_was_rolled_back_twice_is_counted() -> None:
    again = record(confirmation=SWITCHING, failures=(FELL,))
    assert take_back(again, "StartFailed", "no", NOW).record.failures[0].count == 2


def test_what_was_up_while_an_action_failed_was_up() -> None:
    start = evolve(ends(START)[0], was_up=True)
    assert after(record(confirmation=SWITCHING), (start,)).record.never_up is None
    other = record(confirmation=evolve(SWITCHING, to=ELSEWHERE))
    assert after(other, (start,)).record.confirmation == other.confirmation
    stop = evolve(ends(Stop(version="2.0"), skipped=(SWITCH, START))[0], was_up=True)
    kept = record(failures=(FELL,), fallback=BEFORE, never_up=TO)
    assert after(kept, (stop,), going_back=True).record.never_up is None
    assert after(evolve(kept, never_up=ELSEWHERE), (stop,), going_back=True).record.never_up == ELSEWHERE


@pytest.mark.parametrize(
    ("to", "remote", "kept"),
    [("1.0=A+c1", "c1", "c1"), ("1.0=A+c0", "c1", "c0"), ("1.0=A+c1", None, "c0"), ("1.0=A", "c1", "c0")],
)
def test_the_remote_config_is_known_as_ours_before_it_is_written(to: str, remote: str | None, kept: str) -> None:
    """A way back may bring a person's edit back: that is none of ours."""
    digest = None if remote is None else config_digest(remote)
    active = seen("1.0=A+e started").active
    before = record(delivering=config_digest("c0"))
    begun = advance(before, SwitchStarted(to=content(to), active=active, now=NOW, boot=BOOT, remote=digest)).record
    assert begun.delivering == config_digest(kept)
