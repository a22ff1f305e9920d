"""What is admitted now, what waits and until when, and what is done meanwhile."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import EvaluationContext, Freshness, duration, waits
from reconcile.decide.desired import RuleViolation
from reconcile.decide.evaluate import AgentInputs, Rules, evaluate_agent
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import AgentRecord, Crashes, Failure, FailureKind, Pin
from reconcile.decide.target import Blocker, RemoteInputs
from tests.reconcile.decide.worlds import NAME, NOW, WORK_DIR, content, record, remembered, seen, types, wish

LIVE = EvaluationContext(now=NOW, answered=Freshness.LIVE)
KEPT = EvaluationContext(now=NOW, answered=Freshness.LAST_ACCEPTED, why_not_live="connection refused")
OPERATOR = EvaluationContext(now=NOW, answered=Freshness.OPERATOR)
TROUBLE = Blocker(reason="FetchFailed", message="http://meta/cfg.json: HTTP 404")


def judge(
    asked: str,
    world: str,
    moment: EvaluationContext = LIVE,
    trouble: Blocker | None = None,
    record: str | AgentRecord | None = "new",
    *,
    hold: Hold | None = None,
    quarantine_for: float | None = None,
    barred: RuleViolation | None = None,
    rules: Rules | None = None,
) -> Plan | Held:
    """Plans of all kinds, admitted: `evaluate_agent` brings them together, and decides nothing."""
    wanted = wish(asked)
    remote = wanted.remote if trouble is None else RemoteInputs(digests=wanted.remote.digests, blocker=trouble)
    kept = remembered(record) if isinstance(record, str) else record
    sighting = AgentInputs(desired=evolve(wanted.desired, barred=barred), observed=seen(world), record=kept)
    rules = rules or Rules(keep=99, quarantine_for=quarantine_for)
    return evaluate_agent(sighting, remote, moment, rules, hold).verdict


def held(verdict: Plan | Held) -> tuple[str, str, float | None]:
    """Why a plan waits, what is done meanwhile, and until when."""
    assert isinstance(verdict, Held), verdict
    return verdict.reason, types(verdict.meanwhile), verdict.until


@pytest.mark.parametrize("moment", [LIVE, OPERATOR])
@pytest.mark.parametrize("asked", ["start 2.0=A", "start 1.0=B", "start 1.0=A", "stop", "observe"])
def test_on_a_live_answer_or_an_operators_word_all_is_admitted(moment: EvaluationContext, asked: str) -> None:
    assert isinstance(judge(asked, "1.0=A started", moment), Plan)


@pytest.mark.parametrize(
    ("asked", "world", "record", "meanwhile"),
    [
        # fetch, stop and switch wait for an answer
        ("start 2.0=A", "1.0=B started", "new", ""),
        ("start 2.0=A", "1.0=B started; staged 2.0=A", "new", ""),
        ("start 2.0=A", "", "new", ""),
        ("start 1.0=A", "staged 1.0=A", "new", ""),
        ("start 1.0=A", "1.0=B started", "new", ""),
        ("start 1.0+c1", "1.0+c0 started", "c0", ""),
        ("stop", "1.0=A started", "new", ""),
        # but a held change never hides a crash
        ("start 2.0=A", "1.0=B stoped", "new", "start"),
        ("start 1.0=A", "1.0=B stoped", "new", "start"),
        ("start 1.0+c1", "1.0+c0 stoped", "c0", "start"),
        # nor does it start what can't be understood, unless a start was due
        ("start 2.0=A", "1.0=B unknown", "new", ""),
        ("start 2.0=A", "1.0=B unknown", "new 2.0>1.0", "start"),
        # what a crash left half exchanged is finished
        ("start 1.0=A", "names 1.0; next 1.0=A; previous 1.0=B", "new 1.0>1.0", "switch start"),
        ("start 2.0=A", "names 1.0; next 1.0=A; previous 1.0=B", "new 1.0>1.0", "switch start"),
    ],
)
def test_without_an_answer_a_change_waits(asked: str, world: str, record: str, meanwhile: str) -> None:
    verdict = judge(asked, world, KEPT, record=record)
    assert held(verdict) == ("ServerUnreachable", meanwhile, None)
    assert isinstance(verdict, Held)
    assert verdict.message == "waits for an answer of ops-meta: connection refused"
    assert verdict.plan.actions


@pytest.mark.parametrize(
    ("asked", "world", "pending"),
    [
        ("start 1.0=A", "1.0=A started", ""),
        ("start 1.0=A", "1.0=A stoped", "start"),
        ("start 1.0=A", "1.0=A stoped; left .stage-x", "start prune"),
        ("start 1.0=A", "1.0=A unknown", ""),
        ("stop", "1.0=A stoped", ""),
        ("observe", "1.0=A stoped", ""),
    ],
)
def test_without_an_answer_what_only_starts_goes_on(asked: str, world: str, pending: str) -> None:
    plan = judge(asked, world, KEPT)
    assert isinstance(plan, Plan)
    assert types(plan) == pending


@pytest.mark.parametrize("moment", [LIVE, OPERATOR])
@pytest.mark.parametrize(
    ("asked", "world", "meanwhile"),
    [
        ("start 2.0=A+c1", "1.0=B started", ""),
        ("start 2.0=A+c1", "1.0=B stoped", "start"),
        ("start 2.0=A+c1", "", ""),
        ("start 1.0=A+c1", "1.0=B stoped", "start"),
    ],
)
def test_what_a_change_needs_and_could_not_be_had_holds_it(
    moment: EvaluationContext, asked: str, world: str, meanwhile: str
) -> None:
    verdict = judge(asked, world, moment, TROUBLE)
    assert held(verdict) == (TROUBLE.reason, meanwhile, None)
    assert isinstance(verdict, Held)
    assert verdict.message == TROUBLE.message


@pytest.mark.parametrize(("world", "pending"), [("1.0=A+c0 started", ""), ("1.0=A+c0 stoped", "start")])
def test_a_missing_remote_file_holds_nothing_for_the_version_in_use(world: str, pending: str) -> None:
    plan = judge("start 1.0=A+c1", world, LIVE, TROUBLE)
    assert isinstance(plan, Plan)
    assert types(plan) == pending


BRING = "fetch verify unpack"


def test_a_missing_answer_is_reported_before_a_missing_file() -> None:
    assert held(judge("start 2.0=A", "1.0=B started", KEPT, TROUBLE))[0] == "ServerUnreachable"


BOOM = "control start of 2.0 exited 1"


def rolled_back(*, at: float = NOW, failed: str = "2.0=A", back: str = "1.0=B") -> AgentRecord:
    failure = Failure(
        content=content(failed, config=""), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message=BOOM, at=at
    )
    return record(failures=(failure,), fallback=content(back))


def not_reached(count: int, *, at: float = NOW) -> AgentRecord:
    failure = Failure(
        content=content("2.0=A", config=""),
        verdict=FailureKind.NOT_REACHED,
        reason="FetchFailed",
        message="HTTP 503",
        at=at,
        count=count,
    )
    return record(failures=(failure,))


@pytest.mark.parametrize(("count", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60), (5, 60), (999, 60)])
def test_a_failure_before_the_switch_is_retried_after_1_5_15_then_every_60_minutes(count: int, minutes: int) -> None:
    kept = not_reached(count)
    due = NOW + minutes * 60
    assert held(judge("start 2.0=A", "1.0=B started", record=kept)) == ("BackingOff", "", due)
    assert held(judge("start 2.0=A", "1.0=B stoped", record=kept)) == ("BackingOff", "start", due)
    early, late = evolve(LIVE, now=due - 1), evolve(LIVE, now=due)
    assert held(judge("start 2.0=A", "1.0=B started", early, record=kept)) == ("BackingOff", "", due)
    assert isinstance(judge("start 2.0=A", "1.0=B started", late, record=kept), Plan)


def test_the_message_says_how_often_it_failed_and_when_it_is_tried_again() -> None:
    verdict = judge("start 2.0=A", "1.0=B started", evolve(LIVE, now=NOW + 20), record=not_reached(2))
    assert isinstance(verdict, Held)
    assert verdict.message == "failed 2 times, tried again in 4m40s: HTTP 503"
    verdict = judge("start 2.0=A", "1.0=B started", record=not_reached(1))
    assert isinstance(verdict, Held)
    assert verdict.message == "failed once, tried again in 1m00s: HTTP 503"


@pytest.mark.parametrize("asked", ["start 2.0=B", "start 2.1=A", "start 2.0=A+c1", "start 1.0=B", "stop", "observe"])
def test_a_delay_is_of_its_content_alone(asked: str) -> None:
    assert isinstance(judge(asked, "1.0=B started", record=not_reached(4)), Plan)


def test_what_was_rolled_back_is_not_tried_again_by_time() -> None:
    for later in (0, 3600, 4e8):
        found = judge("start 2.0=A", "1.0=B started", evolve(LIVE, now=NOW + later), record=rolled_back())
        assert held(found) == ("Quarantined", "", None)
        assert isinstance(found, Held)
        assert found.message == (
            f"2.0 was rolled back: {BOOM}; not tried again until its content changes, or `updater release falcon-agent`"
        )


def test_quarantine_ends_by_time_where_the_host_says_so() -> None:
    found = judge("start 2.0=A", "1.0=B started", record=rolled_back(), quarantine_for=7200)
    assert held(found) == ("Quarantined", "", NOW + 7200)
    assert isinstance(found, Held)
    assert found.message.endswith(
        "not tried again until its content changes, 2h00m pass, or `updater release falcon-agent`"
    )
    over = evolve(LIVE, now=NOW + 7200)
    assert isinstance(judge("start 2.0=A", "1.0=B started", over, record=rolled_back(), quarantine_for=7200), Plan)


def test_what_failed_beside_processes_that_were_left_is_tried_again_by_time() -> None:
    [failure] = rolled_back().failures
    kept = evolve(rolled_back(), failures=(evolve(failure, outlived=True),))
    found = judge("start 2.0=A", "1.0=B started", record=kept)
    assert held(found) == ("BackingOff", "", NOW + 60)
    assert isinstance(found, Held)
    assert found.rolled_back
    assert found.message == f"2.0 was rolled back: {BOOM}; tried again in 1m00s, or `updater release falcon-agent`"
    assert held(judge("start 2.0=A", "2.0=A stoped; staged 1.0=B", record=kept))[1] == "switch start"
    over = evolve(LIVE, now=NOW + 60)
    assert isinstance(judge("start 2.0=A", "1.0=B started; staged 2.0=A", over, record=kept), Plan)


@pytest.mark.parametrize("moment", [LIVE, KEPT, OPERATOR])
@pytest.mark.parametrize("trouble", [None, TROUBLE])
@pytest.mark.parametrize(
    ("world", "meanwhile"),
    [
        ("2.0=A stoped; staged 1.0=B", "switch start"),
        ("2.0=A started; staged 1.0=B", "stop switch start"),
        ("1.0=B stoped; staged 2.0=A", "start"),
        ("1.0=B started; staged 2.0=A", ""),
        ("1.0=B unknown; staged 2.0=A", ""),
        # nowhere to go: what is in use is started
        ("2.0=A stoped", "start"),
        ("names 2.0", ""),
    ],
)
def test_it_goes_back_with_an_answer_or_without(
    moment: EvaluationContext, trouble: Blocker | None, world: str, meanwhile: str
) -> None:
    found = judge("start 2.0=A", world, moment, trouble, record=rolled_back())
    assert held(found) == ("Quarantined", meanwhile, None)


@pytest.mark.parametrize("asked", ["stop", "observe"])
def test_to_stop_or_to_look_on_no_quarantine_and_no_pin_counts(asked: str) -> None:
    kept = evolve(rolled_back(), pin=Pin(version="1.0", owner="ann", at=NOW))
    assert isinstance(judge(asked, "2.0=A started; staged 1.0=B", record=kept), Plan)


@pytest.mark.parametrize(
    ("world", "meanwhile"),
    [
        ("2.0=A started; staged 1.0=B", "stop switch start"),
        ("1.0=B started; staged 2.0=A", ""),
        ("1.0=B stoped; staged 2.0=A", "start"),
        ("2.0=A stoped", "start"),
    ],
)
@pytest.mark.parametrize("moment", [LIVE, KEPT, OPERATOR])
def test_a_pin_holds_the_wish_and_heals(moment: EvaluationContext, world: str, meanwhile: str) -> None:
    kept = record(pin=Pin(version="1.0", owner="ann", at=NOW))
    found = judge("start 2.0=A", world, moment, record=kept)
    assert held(found) == ("Pinned", meanwhile, None)
    assert isinstance(found, Held)
    assert found.message == "ann went back to 1.0; `updater release falcon-agent` ends it"


@pytest.mark.parametrize("moment", [LIVE, KEPT, OPERATOR])
@pytest.mark.parametrize(
    ("asked", "world", "kept"),
    [
        ("start 1.0=B", "1.0=B stoped", record()),
        ("start 2.0=A", "1.0=B started", record()),
        ("start 2.0=A", "2.0=A stoped; staged 1.0=B", rolled_back()),
        ("start 2.0=A", "2.0=A started; staged 1.0=B", record(pin=Pin(version="1.0", owner="bob", at=NOW))),
        ("start 2.0=A", "names 1.0; next 1.0=A; previous 1.0=B", None),
        ("stop", "1.0=B started", record()),
        ("start 1.0=B", "1.0=B started; left .stage-x", record()),
    ],
)
def test_an_operators_hold_holds_all_crashes_included(
    moment: EvaluationContext, asked: str, world: str, kept: AgentRecord | None
) -> None:
    hold = Hold(owner="ann", reason="looking", until=NOW + 60)
    found = judge(asked, world, moment, record=kept, hold=hold)
    assert held(found) == ("HeldByOperator", "", NOW + 60)
    assert isinstance(found, Held)
    assert found.message == "ann: looking"
    every = judge(asked, world, moment, record=kept, hold=evolve(hold, everyone=True, until=None))
    assert isinstance(every, Held)
    assert (every.message, every.until) == ("ann (all agents): looking", None)


@pytest.mark.parametrize(
    ("count", "pause"), [(0, 0), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300), (999, 300)]
)
def test_crashes_are_healed_at_once_then_after_10_s_doubling_to_5_min(count: int, pause: int) -> None:
    kept = record(crashes=Crashes(count=count, at=NOW))
    due = evolve(LIVE, now=NOW + pause)
    assert types_of(judge("start 1.0=B", "1.0=B stoped", due, record=kept)) == "start"
    if pause:
        early = evolve(LIVE, now=NOW + pause - 1)
        found = judge("start 1.0=B", "1.0=B stoped", early, record=kept)
        assert held(found) == ("BackingOff", "", NOW + pause)
        # so are those of an agent whose change waits, or that went back
        assert held(judge("start 2.0=A", "1.0=B stoped", evolve(KEPT, now=early.now), record=kept))[1] == ""
        assert held(judge("start 2.0=A", "1.0=B stoped", evolve(KEPT, now=due.now), record=kept))[1] == "start"
        back = evolve(rolled_back(), crashes=kept.crashes)
        assert held(judge("start 2.0=A", "1.0=B stoped", early, record=back))[1] == ""
        assert held(judge("start 2.0=A", "1.0=B stoped", due, record=back))[1] == "start"


def types_of(verdict: Plan | Held) -> str:
    assert isinstance(verdict, Plan)
    return types(verdict)


def test_what_we_stopped_ourselves_waits_for_no_pause() -> None:
    kept = record(crashes=Crashes(count=9, at=NOW), stopped_by_us=True)
    assert types_of(judge("start 1.0=B", "1.0=B stoped", LIVE, record=kept)) == "start"
    assert held(judge("start 2.0=A", "1.0=B stoped", KEPT, record=kept))[1] == "start"


def test_the_message_names_a_pause_between_crashes() -> None:
    found = judge(
        "start 1.0=B", "1.0=B stoped", evolve(LIVE, now=NOW + 4), record=record(crashes=Crashes(count=1, at=NOW))
    )
    assert isinstance(found, Held)
    assert found.message == "ended once, started again in 6s"


def test_a_pause_between_crashes_holds_up_no_change() -> None:
    """New content may be what ends the crashes; and cleaning up starts nothing."""
    kept = record(crashes=Crashes(count=9, at=NOW))
    assert types_of(judge("start 2.0=A", "1.0=B stoped; staged 2.0=A", record=kept)) == "switch start"
    assert types_of(judge("start 1.0=B", "1.0=B started; left .stage-x", record=kept)) == "prune"


def test_the_way_back_of_a_held_change_is_not_paced_by_the_crashes_of_what_failed() -> None:
    kept = evolve(rolled_back(), crashes=Crashes(count=9, at=NOW))
    assert held(judge("start 2.0=A", "2.0=A stoped; staged 1.0=B", record=kept))[1] == "switch start"


def test_a_way_back_that_failed_before_its_switch_waits_and_what_is_in_use_is_started() -> None:
    barred = Failure(
        content=content("1.0=B"), verdict=FailureKind.NOT_REACHED, reason="DiskTooSmall", message="full", at=NOW
    )
    kept = rolled_back()
    kept = evolve(kept, failures=(barred, *kept.failures))
    for asked in ("start 2.0=A", "start 3.0=S"):
        moment = LIVE if asked == "start 2.0=A" else KEPT
        assert held(judge(asked, "2.0=A stoped; staged 1.0=B", moment, record=kept))[1] == "start"
        again = evolve(moment, now=NOW + 60)
        assert held(judge(asked, "2.0=A stoped; staged 1.0=B", again, record=kept))[1] == "switch start"


@pytest.mark.parametrize("moment", [KEPT, LIVE])
def test_what_was_rolled_back_is_not_healed_but_gone_back_from(moment: EvaluationContext) -> None:
    """Also while another wish waits for an answer, or for a file; unless it runs after all."""
    trouble = TROUBLE if moment is LIVE else None
    kept = rolled_back()
    assert held(judge("start 3.0=S", "2.0=A stoped; staged 1.0=B", moment, trouble, kept))[1] == "switch start"
    assert held(judge("start 3.0=S", "2.0=A started; staged 1.0=B", moment, trouble, kept))[1] == ""
    assert held(judge("start 3.0=S", "2.0=A stoped", moment, trouble, kept))[1] == "start"


def test_a_clock_that_was_set_back_stretches_nothing() -> None:
    """What remains is never more than the span itself (and records.settle lets it begin again only once)."""
    before = evolve(LIVE, now=NOW - 1e7)
    assert held(judge("start 2.0=A", "1.0=B started", before, record=not_reached(1)))[2] == before.now + 60
    crashed = record(crashes=Crashes(count=1, at=NOW))
    assert held(judge("start 1.0=B", "1.0=B stoped", before, record=crashed))[2] == before.now + 10
    found = judge("start 2.0=A", "1.0=B started", before, record=rolled_back(), quarantine_for=600)
    assert held(found)[2] == before.now + 600


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(0, "0s"), (59.4, "59s"), (60, "1m00s"), (250, "4m10s"), (7500, "2h05m"), (266400, "3d02h"), (3599.6, "1h00m")],
)
def test_spans_as_people_say_them(seconds: float, printed: str) -> None:
    assert duration(seconds) == printed


# What waits anyway

FAILED = Failure(content=content("2.0=A"), verdict=FailureKind.NOT_REACHED, reason="DigestMismatch", message="", at=NOW)
FELL = Failure(content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW)


@pytest.mark.parametrize(
    ("kept", "of", "now", "quarantine_for", "still"),
    [
        (record(), "2.0=A", NOW, None, False),
        (record(failures=(FAILED,)), "2.0=A", NOW + 59, None, True),
        (record(failures=(FAILED,)), "2.0=A", NOW + 60, None, False),
        (record(failures=(FAILED,)), "2.0=B", NOW, None, False),
        (record(failures=(FELL,)), "2.0=A", NOW + 9e9, None, True),
        (record(failures=(FELL,)), "2.0=A", NOW + 99, 100.0, True),
        (record(failures=(FELL,)), "2.0=A", NOW + 100, 100.0, False),
        (record(failures=(FELL,)), "2.0=B", NOW, None, False),
        (record(pin=Pin(version="1.0", owner="ann", at=NOW)), "2.0=A", NOW, None, True),
    ],
)
def test_whether_content_waits_anyway(
    kept: AgentRecord, of: str, now: float, quarantine_for: float | None, still: bool
) -> None:
    assert waits(kept, content(of), now, quarantine_for) is still


# Rules of the host about content


@pytest.mark.parametrize("moment", [LIVE, KEPT, OPERATOR])
@pytest.mark.parametrize(
    ("asked", "world", "record", "meanwhile"),
    [
        ("start 2.0=A", "1.0=B started", "new", ""),
        ("start 2.0=A", "1.0=B stoped", "new", "start"),
        ("start 2.0=A", "1.0=B unknown", "new", ""),
        ("start 2.0=A", "", "new", ""),
        ("start 1.0=A", "1.0=A started", "new", ""),
        ("start 1.0=A", "1.0=A stoped", "new", "start"),
        ("start 2.0=A", "1.0=B stoped; staged 2.0=A", "new", "start"),
    ],
)
def test_barred_content_is_never_brought_and_what_is_in_use_is_healed(
    moment: EvaluationContext, asked: str, world: str, record: str, meanwhile: str
) -> None:
    verdict = judge(asked, world, moment, record=record, barred=RuleViolation(rule="mirrors", message="elsewhere"))
    assert held(verdict) == ("PolicyRefused", meanwhile, None)
    assert isinstance(verdict, Held)
    assert verdict.message == "refused by rule mirrors: elsewhere"


def test_a_downgrade_is_held_where_that_is_refused() -> None:
    rules = Rules(keep=99, refuse_downgrade=True)
    assert held(judge("start 1.0=A", "2.0=B started; staged 1.0=A", rules=rules)) == ("PolicyRefused", "", None)
    assert isinstance(judge("start 1.0=A", "2.0=B started; staged 1.0=A"), Plan)
    assert isinstance(judge("start 2.0=A", "1.0=B started", rules=rules), Plan)
    assert isinstance(judge("start 1.0=A", "", rules=rules), Plan)
    assert isinstance(judge("stop", "2.0=B started", rules=rules), Plan)


def test_going_back_is_no_downgrade() -> None:
    rules = Rules(keep=99, refuse_downgrade=True)
    pinned = AgentRecord(name=NAME, work_dir=WORK_DIR, run_user="falcon", pin=Pin(version="1.0", owner="me", at=NOW))
    assert held(judge("start 2.0=A", "2.0=A started; staged 1.0=B", record=pinned, rules=rules)) == (
        "Pinned",
        "stop switch start",
        None,
    )
    failed = Failure(
        content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="x", at=NOW
    )
    back = evolve(pinned, pin=None, failures=(failed,), fallback=content("1.0=B"))
    assert held(judge("start 2.0=A", "2.0=A stoped; staged 1.0=B", record=back, rules=rules)) == (
        "Quarantined",
        "switch start",
        None,
    )


def test_one_that_has_gone_back_and_on_since_is_not_said_to_be_going_back() -> None:
    """2.0 was rolled back, other content became good after that, and 2.0 is asked for again."""
    failed = Failure(
        content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="", at=NOW
    )
    kept = evolve(record(), failures=(failed,), good=content("1.5=B"))
    verdict = judge("start 2.0=A", "1.5=B started", record=kept)
    assert isinstance(verdict, Held)
    assert (verdict.reason, "2.0 was rolled back" in verdict.message) == ("Quarantined", True)
    failing = judge("start 2.0=A", "2.0=A started", record=kept)
    assert "going back from it has not succeeded yet" in (failing.message if isinstance(failing, Held) else "")
    assert "going back from it has not succeeded yet" in judge("start 2.0=A", "", record=kept).message
