"""Conditions: what people and programs learn of an agent, and since when."""

from __future__ import annotations

import pytest
from attrs import evolve

from reconcile.decide.actions import Fetch, Held, Outcome, Plan, Prune, Result, Start, Stop
from reconcile.decide.conditions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Condition,
    UpgradeState,
    config_condition,
    derive,
    is_for_people,
    is_ready,
    lock_condition,
    own_conditions,
    report_condition,
    seen_stopped,
    server_condition,
    since_actions,
    stored_condition,
    with_since,
)
from reconcile.decide.planner import plan_agent
from tests.reconcile.decide.worlds import URL, USER, WORK_DIR, Life, config_digest, remembered, seen, target_at, wish


def found(
    asked: str,
    world: str,
    *,
    hold: str = "",
    outcomes: tuple[Outcome, ...] = (),
    standing: UpgradeState = UpgradeState.SETTLED,
) -> dict[str, tuple[str, str]]:
    """Each condition's status and reason, by type."""
    wanted, observed = wish(asked), seen(world)
    plan: Plan | Held = plan_agent(target_at(wanted, Life(observed, remembered("c0"))), observed)
    if hold:
        assert isinstance(plan, Plan)
        plan = Held(plan=plan, reason=hold, message="waits", meanwhile=evolve(plan, actions=()))
    conditions = derive(wanted.desired, observed, plan, outcomes=outcomes, standing=standing)
    assert [condition.type for condition in conditions] == ["Ready", "Installed", "Running", "Held", "Quarantined"]
    return {condition.type: (condition.status, condition.reason) for condition in conditions}


TABLE = [
    # asked | seen | Ready | Installed | Running
    ("start 1.0=A", "1.0=A started", (TRUE, "AsDesired"), (TRUE, "AsDesired"), (TRUE, "AsDesired")),
    ("start 1.0=A", "1.0=A stoped", (FALSE, "NotRunning"), (TRUE, "AsDesired"), (FALSE, "NotRunning")),
    ("start 1.0=A", "1.0=A unknown", (UNKNOWN, "StatusUnknown"), (TRUE, "AsDesired"), (UNKNOWN, "StatusUnknown")),
    ("start 1.0=A", "1.0=B started", (FALSE, "DigestDiffers"), (FALSE, "DigestDiffers"), (TRUE, "AsDesired")),
    ("start 2.0=A", "1.0=A started", (FALSE, "VersionDiffers"), (FALSE, "VersionDiffers"), (TRUE, "AsDesired")),
    ("start 1.0=A", "", (FALSE, "FirstInstall"), (FALSE, "FirstInstall"), (FALSE, "NotRunning")),
    ("start 1.0=A", "names 1.0", (FALSE, "VersionDiffers"), (FALSE, "VersionDiffers"), (FALSE, "NotRunning")),
    ("start 1.0+c1", "1.0+c0 started", (FALSE, "ConfigDiffers"), (TRUE, "AsDesired"), (TRUE, "AsDesired")),
    ("start 1.0=A", "stray pid 7", (UNKNOWN, "StatusUnknown"), (FALSE, "VersionDiffers"), (UNKNOWN, "StatusUnknown")),
    # what is only to be cleaned up makes no agent less ready
    ("start 1.0=A", "1.0=A started; left .stage-x", (TRUE, "AsDesired"), (TRUE, "AsDesired"), (TRUE, "AsDesired")),
    ("stop", "1.0=A stoped", (TRUE, "AsDesired"), (TRUE, "AsDesired"), (FALSE, "AsDesired")),
    (
        "stop",
        "1.0=A started",
        (FALSE, "UnexpectedlyRunning"),
        (TRUE, "AsDesired"),
        (TRUE, "UnexpectedlyRunning"),
    ),
    ("stop", "1.0=A unknown", (UNKNOWN, "StatusUnknown"), (TRUE, "AsDesired"), (UNKNOWN, "StatusUnknown")),
    ("stop", "", (TRUE, "AsDesired"), (FALSE, "AsDesired"), (FALSE, "AsDesired")),
    ("observe", "1.0=A started", (TRUE, "ObserveOnly"), (TRUE, "ObserveOnly"), (TRUE, "ObserveOnly")),
    ("observe", "1.0=A stoped", (TRUE, "ObserveOnly"), (TRUE, "ObserveOnly"), (FALSE, "ObserveOnly")),
    ("observe", "1.0=A unknown", (TRUE, "ObserveOnly"), (TRUE, "ObserveOnly"), (UNKNOWN, "StatusUnknown")),
]


@pytest.mark.parametrize(("asked", "world", "ready", "installed", "running"), TABLE)
def test_the_condition_of_each_case(
    asked: str, world: str, ready: tuple[str, str], installed: tuple[str, str], running: tuple[str, str]
) -> None:
    assert found(asked, world) == {
        "Ready": ready,
        "Installed": installed,
        "Running": running,
        "Held": (FALSE, "AsDesired"),
        "Quarantined": (FALSE, "AsDesired"),
    }


@pytest.mark.parametrize(
    ("elsewhere", "reason"),
    [({"work_dir": "/srv/old", "run_user": "other"}, "WorkDirChanged"), ({"run_user": "other"}, "RunUserChanged")],
)
def test_what_lives_in_another_home_is_not_installed_where_it_is_wanted(elsewhere: dict[str, str], reason: str) -> None:
    """Though it is the wanted version, and runs."""
    wanted, lives = wish("start 1.0=A"), seen("1.0=A started")
    lives = evolve(lives, home=evolve(lives.home, **elsewhere))
    plan = Plan(name=lives.name, reason=reason, message="", actions=(Start(version="1.0"),))
    conditions = {condition.type: condition for condition in derive(wanted.desired, lives, plan)}
    assert (conditions["Installed"].status, conditions["Installed"].reason) == (FALSE, reason)
    assert conditions["Installed"].message == f"wanted: 1.0 in {WORK_DIR} as {USER}"
    assert (conditions["Ready"].status, conditions["Running"].status) == (FALSE, TRUE)


def test_a_hold_says_why() -> None:
    reported = found("start 2.0=A", "1.0=B started", hold="ServerUnreachable")
    assert reported["Ready"] == (FALSE, "ServerUnreachable")
    assert reported["Held"] == (TRUE, "ServerUnreachable")
    assert reported["Installed"] == (FALSE, "VersionDiffers")


def test_rolled_back_content_is_reported_so_in_that_pass_and_then_as_quarantined() -> None:
    failed = Outcome(action=Start(version="2.0"), result=Result.FAILED, reason="StartFailed", error="no")
    for outcomes in ((), (failed,)):
        reported = found(
            "start 2.0=A", "1.0=B started", hold="Quarantined", outcomes=outcomes, standing=UpgradeState.ROLLED_BACK
        )
        assert reported["Ready"] == (FALSE, "RolledBack")
        assert reported["Quarantined"] == reported["Held"] == (TRUE, "Quarantined")
        assert reported["Running"] == (TRUE, "AsDesired")
    assert found("start 2.0=A", "1.0=B started", hold="Quarantined")["Ready"] == (FALSE, "Quarantined")
    assert found("start 2.0=A", "1.0=B started", hold="Pinned")["Quarantined"] == (FALSE, "AsDesired")
    # the content changed meanwhile, and nothing is held any more
    assert found("start 2.0=A", "1.0=B started", standing=UpgradeState.ROLLED_BACK)["Ready"] == (
        FALSE,
        "VersionDiffers",
    )


def test_within_its_watch_an_agent_is_ready_and_confirming() -> None:
    assert found("start 1.0=A", "1.0=A started", standing=UpgradeState.CONFIRMING)["Ready"] == (TRUE, "Confirming")
    assert found("start 1.0=A", "1.0=A unknown", standing=UpgradeState.CONFIRMING)["Ready"] == (
        UNKNOWN,
        "StatusUnknown",
    )
    assert found("start 1.0=A", "1.0=A stoped", standing=UpgradeState.CONFIRMING)["Ready"] == (FALSE, "NotRunning")


def test_a_failure_is_what_counts_while_the_agent_is_not_as_desired() -> None:
    failed = Outcome(
        action=Fetch(url=URL, version="1.0.0", digests=frozenset()),
        result=Result.FAILED,
        reason="FetchFailed",
        error="HTTP 404",
    )
    skipped = Outcome(action=Stop(version="1.0"), result=Result.SKIPPED)
    started = Outcome(action=Start(version="1.0"), result=Result.DONE)
    assert found("start 2.0=A", "1.0=B started", outcomes=(failed, skipped))["Ready"] == (FALSE, "FetchFailed")
    held = found("start 2.0=A", "1.0=B started", hold="BackingOff", outcomes=(failed, skipped))
    assert held["Ready"] == (FALSE, "FetchFailed")
    assert found("start 1.0=A", "1.0=A started", outcomes=(failed, started))["Ready"] == (TRUE, "AsDesired")


def test_a_failure_to_clean_up_makes_no_agent_less_ready() -> None:
    failed = Outcome(
        action=Prune(names=(".stage-x",)), result=Result.FAILED, reason="WriteFailed", error="read-only file system"
    )
    assert found("start 1.0=A", "1.0=A started; left .stage-x", outcomes=(failed,))["Ready"] == (TRUE, "AsDesired")


def test_the_failures_own_words_are_kept() -> None:
    wanted, observed = wish("start 2.0=A"), seen("1.0=B started")
    failed = Outcome(action=Stop(version="1.0"), result=Result.FAILED, reason="StopFailed", error="still: started")
    plan = plan_agent(target_at(wanted, Life(observed, None)), observed)
    ready, installed, *_ = derive(wanted.desired, observed, plan, outcomes=(failed,))
    assert ready.message == "still: started"
    assert installed.message == "wanted: 2.0"


def test_the_output_that_was_no_status_is_reported() -> None:
    wanted = wish("start 1.0=A")
    for world, said in (("1.0=A unknown", "unknown"), ("stray process 7 runs in it", "process 7 runs in it")):
        observed = seen(world)
        plan = plan_agent(target_at(wanted, Life(observed, None)), observed)
        running = next(c for c in derive(wanted.desired, observed, plan) if c.type == "Running")
        assert running.message == said


def test_the_condition_of_the_config_stands_last_where_there_is_one() -> None:
    wanted, observed = wish("start 1.0+c1"), seen("1.0+e started")
    plan = plan_agent(target_at(wanted, Life(observed, None)), observed)
    config = Condition(type="ConfigInSync", status=FALSE, reason="ConfigEdited")
    assert derive(wanted.desired, observed, plan, config=config)[-1] == config


CONFIGS = [
    # asked | seen | the remote digest | edited | expected
    ("start 1.0", "1.0+e started", "e", False, None),
    ("start 1.0+c1", "1.0+e started", None, False, (UNKNOWN, "FetchFailed", "not asked")),
    ("start 1.0+c1", "1.0+e started", "c1", True, (FALSE, "ConfigEdited", "cfg.json was edited")),
    ("start 1.0+c1", "1.0+c0 started", "c1", False, (FALSE, "ConfigDiffers", "cfg.json differs")),
    ("start 1.0+c1", "", "c1", False, (FALSE, "ConfigDiffers", "cfg.json differs")),
    ("start 1.0+c1", "1.0+c1 started", "c1", False, (TRUE, "AsDesired", "cfg.json as delivered")),
]


@pytest.mark.parametrize(("asked", "world", "remote", "edited", "expected"), CONFIGS)
def test_whether_the_config_in_use_is_the_remote_one(
    asked: str, world: str, remote: str | None, edited: bool, expected: tuple[str, str, str] | None
) -> None:
    desired, active = wish(asked).desired, seen(world).active
    digest = None if remote is None else config_digest(remote)
    found = config_condition(desired, active, remote=digest, edited=edited, why_unknown="not asked")
    if expected is None:
        assert found is None
        return
    status, reason, message = expected
    assert found is not None
    assert (found.type, found.status, found.reason) == ("ConfigInSync", status, reason)
    assert found.message.startswith(message)


def test_whether_memory_can_be_kept() -> None:
    assert stored_condition("").status == "True"
    assert stored_condition("disk full", "aside").reason == "WriteFailed"
    aside = stored_condition("", "/var/state.db.set-aside-1")
    assert (aside.status, aside.reason) == ("False", "StateSetAside")
    assert "/var/state.db.set-aside-1" in aside.message


def test_whether_the_servers_answered() -> None:
    assert server_condition("http://meta", asked=True, failed=None) == Condition(
        type="ServerReachable", status=TRUE, reason="AsDesired", message="http://meta"
    )
    assert server_condition("http://meta", asked=False, failed=None).status == UNKNOWN
    failed = server_condition("http://meta", asked=True, failed=("ResponseInvalid", "no JSON"))
    assert (failed.status, failed.reason, failed.message) == (FALSE, "ResponseInvalid", "no JSON")
    assert lock_condition(None).status == TRUE
    assert (lock_condition("refused").status, lock_condition("refused").message) == (FALSE, "refused")
    assert report_condition("").status == TRUE
    failed = report_condition("HTTP 500")
    assert failed.status == FALSE
    assert failed.message.startswith("HTTP 500; is `report_to` right, its server running, ")


def test_what_was_last_seen_of_a_server_stands_until_it_is_asked_again() -> None:
    stored, asked = stored_condition(""), server_condition("http://meta", asked=True, failed=None)
    others = {"LockServerReachable": lock_condition("refused"), "ReportDelivered": None}
    first = own_conditions((), 1.0, server=asked, stored=stored, others=others)
    assert [(c.type, c.status, c.since) for c in first] == [
        ("ServerReachable", TRUE, 1.0),
        ("StateStored", TRUE, 1.0),
        ("ToolsPresent", TRUE, 1.0),
        ("LockServerReachable", FALSE, 1.0),
    ]
    unasked = server_condition("http://meta", asked=False, failed=None)
    not_asked = dict.fromkeys(others)
    assert own_conditions(first, 2.0, server=unasked, stored=stored, others=not_asked) == first
    later = {"LockServerReachable": lock_condition(None), "ReportDelivered": report_condition("refused")}
    again = own_conditions(first, 2.0, server=unasked, stored=stored, missing_tools="no sh", others=later)
    assert [(c.type, c.status, c.since) for c in again[2:]] == [
        ("ToolsPresent", FALSE, 2.0),
        ("LockServerReachable", TRUE, 2.0),
        ("ReportDelivered", FALSE, 2.0),
    ]
    assert again[-1].message.startswith("refused; is `report_to` right, its server running, ")
    without = own_conditions(again, 3.0, server=unasked, stored=stored)
    assert [c.type for c in without] == ["ServerReachable", "StateStored", "ToolsPresent"], "no longer configured"


def test_since_is_when_the_status_flipped() -> None:
    before = (
        Condition(type="Ready", status=TRUE, reason="AsDesired", since=100.0),
        Condition(type="Running", status=TRUE, reason="AsDesired", since=100.0),
    )
    now = (
        Condition(type="Ready", status=TRUE, reason="ObserveOnly"),
        Condition(type="Running", status=FALSE, reason="NotRunning"),
        Condition(type="Held", status=FALSE, reason="AsDesired"),
    )
    assert [condition.since for condition in with_since(now, before, 200.0)] == [100.0, 200.0, 200.0]


STARTED, STOPPED = Start(version="1"), Stop(version="1")


def ended(action: Start | Stop | Prune | Fetch, at: float, result: Result = Result.DONE) -> Outcome:
    """An action that began one second before `at`."""
    return Outcome(action=action, result=result, attempts=1, at=at - 1, seconds=1)


@pytest.mark.parametrize(
    ("outcomes", "running", "ready"),
    [
        ((), 100.0, 100.0),
        ((ended(STARTED, 220.0),), 220.0, 220.0),
        ((ended(STOPPED, 210.0), ended(STARTED, 220.0), ended(Prune(names=("a",)), 230.0)), 220.0, 220.0),
        ((ended(STARTED, 220.0, Result.FAILED), ended(STOPPED, 230.0), ended(STARTED, 240.0)), 240.0, 240.0),
        ((ended(STARTED, 220.0, Result.UNCHANGED),), 100.0, 100.0),
        ((ended(STOPPED, 210.0, Result.FAILED), Outcome(action=STARTED, result=Result.SKIPPED)), 100.0, 100.0),
        ((ended(Prune(names=("a",)), 230.0),), 100.0, 100.0),
    ],
)
def test_what_was_started_is_so_since_its_start_whatever_looks_saw(
    outcomes: tuple[Outcome, ...], running: float, ready: float
) -> None:
    before = tuple(Condition(type=kind, status=TRUE, reason="AsDesired", since=100.0) for kind in ("Ready", "Running"))
    now = tuple(evolve(condition, since=0.0) for condition in before)
    assert [c.since for c in since_actions(now, before, outcomes, 200.0)] == [ready, running]


def test_what_else_flipped_did_so_when_the_last_change_ended() -> None:
    before = (
        Condition(type="Ready", status=FALSE, reason="VersionDiffers", since=200.0),
        Condition(type="Running", status=TRUE, reason="AsDesired", since=100.0),
        Condition(type="Installed", status=FALSE, reason="VersionDiffers", since=200.0),
    )
    now = (
        Condition(type="Ready", status=FALSE, reason="StartFailed"),
        Condition(type="Running", status=FALSE, reason="NotRunning"),
        Condition(type="Installed", status=TRUE, reason="AsDesired"),
    )
    outcomes = (ended(STOPPED, 210.0), ended(STARTED, 220.0, Result.FAILED), ended(Prune(names=("a",)), 230.0))
    assert [c.since for c in since_actions(now, before, outcomes, 200.0)] == [200.0, 210.0, 220.0]


def test_an_agent_whose_stop_was_begun_does_not_count_as_running() -> None:
    before = tuple(Condition(type=kind, status=TRUE, reason="AsDesired", since=100.0) for kind in ("Ready", "Running"))
    after = seen_stopped(before, 200.0)
    assert [(c.status, c.since) for c in after] == [(TRUE, 100.0), (FALSE, 200.0)]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        *(
            (reason, True)
            for reason in ("InvalidSpec", "PolicyRefused", "UserMissing", "SudoRefused", "Pinned", "ConfigDiffers")
        ),
        *(
            (reason, False)
            for reason in ("BackingOff", "ServerUnreachable", "StatusUnknown", "FetchFailed", "HomeBusy")
        ),
    ],
)
def test_what_stays_until_people_do_something(reason: str, expected: bool) -> None:
    assert is_for_people(reason) is expected


def test_ready_is_what_the_condition_says() -> None:
    assert is_ready([Condition(type="Ready", status=TRUE, reason="AsDesired")])
    assert not is_ready([Condition(type="Ready", status=UNKNOWN, reason="StatusUnknown")])
    assert not is_ready([Condition(type="Running", status=TRUE, reason="AsDesired")])
    assert not is_ready([])


@pytest.mark.parametrize("reason", ["SudoRefused", "UserMissing", "ToolMissing", "InterpreterMissing"])
def test_why_an_agent_can_not_be_observed_is_the_reason_and_nothing_is_done(reason: str) -> None:
    wanted = wish("start 1.0=A")
    unseen = evolve(seen(""), blocked_by="sudo says no", blocked_reason=reason)
    plan = plan_agent(target_at(wanted, Life(unseen, remembered("c0"))), unseen)
    assert (plan.reason, plan.actions) == (reason, ())
    ready, _, running, *_ = derive(wanted.desired, unseen, plan)
    assert (ready.status, ready.reason, ready.message) == (UNKNOWN, reason, "sudo says no")
    assert (running.status, running.reason) == (UNKNOWN, reason)
