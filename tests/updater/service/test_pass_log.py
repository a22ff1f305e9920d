"""What passes leave in the log: the lines, and that what lasts is logged when it begins and when it is over."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from probes.observed import ObservedAgent
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide import planner
from reconcile.decide.actions import Plan
from reconcile.decide.conditions import Condition
from reconcile.decide.hold import Hold
from reconcile.decide.target import Target
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import PassResult
from reconcile.storage.hold_files import put_hold
from tests.updater.conftest import Folder
from updater.demo import agent
from updater.service import log_setup
from updater.service.pass_log import PassLog
from updater.service.pass_runner import locked_pass

NAME = "falcon-agent"


def one_pass(folder: Folder, log: PassLog | None = None) -> PassResult:
    """A pass of a process of its own; with a `log`, of the process that this is the log of."""
    return locked_pass(
        folder.config, folder.around(), PassRequest(ask=DesiredFrom.EXCHANGE), ending=threading.Event(), log=log
    )


def lines(folder: Folder, words: str) -> list[str]:
    return [line for line in folder.log().splitlines() if re.search(words, line)]


# The lines


def test_a_pass_and_its_lines(ready: Folder) -> None:
    ready.want()
    assert one_pass(ready).all_ready
    text = ready.log()
    for step in ("fetch", "verify", "unpack", "switch", "start"):
        assert re.search(rf"DEBUG   falcon-agent: {step} .*: begins", text)
        assert re.search(rf"INFO    falcon-agent: {step} .*: done, \d+\.\d\d s", text)
    assert "pass: 1 of 1 agents as desired" in text


def test_what_came_of_a_plan_that_outlasted_its_pass(ready: Folder) -> None:
    ready.want()
    [agent] = one_pass(ready).agents
    before = len(ready.log().splitlines())
    PassLog().late(evolve(agent, transitions=agent.conditions, news=("its download goes on in the next run",)))
    news, *conditions = (line.partition(" ")[2] for line in ready.log().splitlines()[before:])
    assert news == f"INFO    {NAME}: its download goes on in the next run"
    assert [line.partition(" is now ")[0].split()[-1] for line in conditions] == [one.type for one in agent.conditions]
    assert f"INFO    {NAME}: Ready is now True (Confirming): 1.0.0 started" in conditions


def test_a_failure_and_its_lines(ready: Folder) -> None:
    ready.want()
    ready.meta.corrupt("falcon-agent", "1.0.0")
    one_pass(ready)
    text = ready.log()
    assert re.search(r"WARNING falcon-agent: verify md5:\w+: failed, \d\.\d\d s: DigestMismatch: the tarball is", text)
    assert re.search(r"WARNING falcon-agent: Ready is now False \(DigestMismatch\)", text)
    assert "skipped" not in text
    one_pass(ready)
    assert ready.log().count("Ready is now False") == 1  # it is logged when it begins, not while it lasts


def test_what_became_of_a_switch_is_logged(ready: Folder) -> None:
    ready.configure(watch=0, control_timeout={"start": 4})
    ready.want()
    one_pass(ready)
    one_pass(ready)
    assert "INFO    falcon-agent: 1.0.0 is good: it kept running through its watch" in ready.log()
    ready.want("2.0.0", broken_start=True)
    one_pass(ready)
    warnings = [line.split(" falcon-agent: ")[1] for line in lines(ready, "WARNING|ERROR")]
    assert len(warnings) == 2, "what failed, and that it was rolled back: its other conditions are details of that"
    assert warnings[0].startswith("start 2.0.0: failed, ")
    assert warnings[1].startswith("Ready is now False (RolledBack): 2.0.0 was rolled back; not tried again")
    assert ready.log().count("exited 0") == 1


def test_what_died_and_was_healed_is_a_warning(ready: Folder) -> None:
    ready.want()
    one_pass(ready)
    agent.crash(ready.home())
    one_pass(ready)
    assert lines(ready, r"WARNING falcon-agent: it was down; start 1\.0\.0: done, \d\.\d\d s$")


@pytest.mark.parametrize(
    ("condition", "level"),
    [
        (Condition(type="ServerReachable", status="False", reason="ServerUnreachable"), "WARNING"),
        (Condition(type="ServerReachable", status="True", reason="AsDesired"), "INFO"),
        (Condition(type="LockServerReachable", status="False", reason="ServerUnreachable"), "WARNING"),
        (Condition(type="StateStored", status="False", reason="StateSetAside"), "WARNING"),
        (Condition(type="StateStored", status="False", reason="WriteFailed"), "ERROR"),
        (Condition(type="ToolsPresent", status="False", reason="ToolMissing"), "ERROR"),
    ],
)
def test_a_level_says_what_a_line_asks_of_a_person(ready: Folder, condition: Condition, level: str) -> None:
    PassLog().own_condition(condition)
    assert lines(ready, f"{level:<7} {condition.type} is now {condition.status} ")


def test_an_operators_own_hold_asks_nothing_of_a_person(ready: Folder) -> None:
    ready.want()
    one_pass(ready)
    put_hold(ready.var / "holds", "falcon-agent", Hold(owner="ann", reason="a leak"))
    one_pass(ready)
    assert lines(ready, r"INFO    falcon-agent: Ready is now False \(HeldByOperator\)")
    assert not lines(ready, "WARNING|ERROR")


def test_what_only_people_can_end_is_an_error(ready: Folder) -> None:
    ready.want()
    one_pass(ready)
    ready.want("2.0.0", control="#!/nonexistent/sh\n")
    one_pass(ready)
    assert lines(ready, r"ERROR   falcon-agent: Ready is now False \(InterpreterMissing\)")


# What lasts


@pytest.mark.parametrize("one_process", [True, False])
def test_a_refusal_is_logged_when_it_begins_changes_and_ends(ready: Folder, one_process: bool) -> None:
    passes = PassLog() if one_process else None
    for keys in ({"runUser": "no-such-user"}, {"workDir": "/etc"}, {}):
        ready.meta.desire(ready.meta.agent("theirs", "1.0.0", "stop", **keys))
        for _ in range(2):
            one_pass(ready, passes)
    reported = [line.partition("theirs ")[2] for line in lines(ready, "theirs .*refused")]
    assert len(reported) == 3
    assert reported[0].startswith("refused: UserMissing, rule run_user: the user 'no-such-user' does not exist")
    assert reported[1].startswith("refused: PolicyRefused, rule work_dir: ")
    assert reported[2] == "is no longer refused"


def test_a_store_that_can_not_be_written_is_logged_once_by_a_process(ready: Folder) -> None:
    ready.want(cmd="stop")
    passes = PassLog()
    one_pass(ready, passes)
    with closing(sqlite3.connect(ready.var / "state.db")) as db, db:
        for table in ("accepted", "records", "host", "refused"):
            db.execute(f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END")
    ready.meta.desire(ready.meta.agent("a b", "1.0.0"))
    for _ in range(3):
        one_pass(ready, passes)
    with closing(sqlite3.connect(ready.var / "state.db")) as db, db:
        for table in ("accepted", "records", "host", "refused"):
            db.execute(f"DROP TRIGGER full_{table}")
    db.close()
    ready.meta.desire(ready.meta.agent(NAME, "1.0.0", "stop"))
    for _ in range(2):
        one_pass(ready, passes)
    assert len(lines(ready, "StateStored is now False")) == 1
    assert len(lines(ready, "StateStored is now True")) == 1
    assert len(lines(ready, "WARNING can't write")) == 1
    assert len(lines(ready, "a b refused")) == 1
    assert len(lines(ready, "a b is no longer refused")) == 1


@pytest.mark.parametrize("one_process", [True, False])
def test_an_unexpected_error_is_logged_with_its_traceback_once(
    ready: Folder, monkeypatch: pytest.MonkeyPatch, one_process: bool
) -> None:
    plan_agent = planner.plan_agent

    def broken(target: Target, observed: ObservedAgent) -> Plan:
        raise RuntimeError("nobody expected this")

    ready.want(cmd="stop")
    passes = PassLog() if one_process else None
    one_pass(ready, passes)
    monkeypatch.setattr("reconcile.decide.evaluate.plan_agent", broken)
    for _ in range(2):
        one_pass(ready, passes)
    monkeypatch.setattr("reconcile.decide.evaluate.plan_agent", plan_agent)
    one_pass(ready, passes)
    assert len(lines(ready, "Ready is now False .InternalError.")) == 1
    assert len(lines(ready, "Ready is now True")) == 1
    assert len(lines(ready, "^Traceback")) == (1 if one_process else 2)
    assert lines(ready, f"ERROR   {NAME}: unexpected, please report it: RuntimeError")


def test_what_lasts_is_logged_again_only_in_other_words(folder: Folder, tmp_path: Path) -> None:
    passes = PassLog()
    log_setup.set_up("debug", tmp_path / "app.log", to_stderr=False)
    for words in ("no room", "no room", "no right"):
        passes.goes_on("metrics", words)
    for _ in range(2):
        passes.over("metrics", "they are written again")
    reported = (tmp_path / "app.log").read_text().splitlines()
    assert [line.split(maxsplit=2)[1:] for line in reported] == [
        ["WARNING", "no room"],
        ["WARNING", "no right"],
        ["INFO", "they are written again"],
    ]


def test_only_what_went_on_is_over_and_once(tmp_path: Path) -> None:
    log_setup.set_up("info", tmp_path / "app.log", to_stderr=False)
    log = PassLog()
    log.over("disk", "it is well again")
    for _ in range(2):
        log.goes_on("disk", "it is full")
    for _ in range(2):
        log.over("disk", "it is well again")
    lines = (tmp_path / "app.log").read_text().splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["WARNING it is full", "INFO    it is well again"]
