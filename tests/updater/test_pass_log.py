"""What passes leave in the log: the lines, and that what lasts is told when it begins and when it is over."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from probes.observed import ObservedAgent
from reconcile.assess import Ask
from reconcile.cycle import Order, PassResult
from reconcile.decide import planner
from reconcile.decide.actions import Plan
from reconcile.decide.aim import Aim
from tests.updater.conftest import Folder
from updater import logs
from updater.pass_log import PassLog
from updater.passes import locked_pass, make_var

NAME = "falcon-agent"


@pytest.fixture
def log(folder: Folder) -> Folder:
    """The folder, made, with its log set up."""
    make_var(folder.var)
    logs.set_up("debug", folder.var / "app.log", to_stderr=False)
    return folder


def one_pass(folder: Folder, log: PassLog | None = None) -> PassResult:
    """A pass of a process of its own; with a `log`, of the process that this is the log of."""
    return locked_pass(folder.config, folder.around(), Order(ask=Ask.EXCHANGE), ending=threading.Event(), log=log)


def lines(folder: Folder, words: str) -> list[str]:
    return [line for line in folder.log().splitlines() if re.search(words, line)]


# The lines


def test_a_pass_and_its_lines(log: Folder) -> None:
    log.want()
    assert one_pass(log).all_ready
    text = log.log()
    for step in ("fetch", "verify", "unpack", "switch", "start"):
        assert re.search(rf"DEBUG   falcon-agent: {step} .*: begins", text)
        assert re.search(rf"INFO    falcon-agent: {step} .*: done, \d+\.\d\d s", text)
    assert "pass: 1 of 1 agents as desired" in text


def test_a_failure_and_its_lines(log: Folder) -> None:
    log.want()
    log.meta.corrupt("falcon-agent", "1.0.0")
    one_pass(log)
    text = log.log()
    assert re.search(r"ERROR   falcon-agent: verify md5:\w+: failed, .* 1 tries: DigestMismatch: the tarball is", text)
    assert re.search(r"INFO    falcon-agent: Ready is now False \(DigestMismatch\): the tarball", text)
    assert "skipped" not in text
    one_pass(log)
    assert log.log().count("Ready is now False") == 1  # it is told when it begins, not while it lasts


def test_what_became_of_a_switch_is_told(log: Folder) -> None:
    log.configure(watch=0, control_timeout={"start": 4})
    log.want()
    one_pass(log)
    one_pass(log)
    assert "WARNING falcon-agent: 1.0.0 is good: it stayed up for the watch" in log.log()
    log.want("2.0.0", broken_start=True)
    one_pass(log)
    assert re.search(r"WARNING falcon-agent: control start of 2\.0\.0 exited 0, .*; back to 1\.0\.0", log.log())


# What lasts


@pytest.mark.parametrize("one_process", [True, False])
def test_a_refusal_is_told_when_it_begins_when_it_is_another_and_when_it_ends(log: Folder, one_process: bool) -> None:
    passes = PassLog() if one_process else None
    for keys in ({"runUser": "no-such-user"}, {"workDir": "/etc"}, {}):
        log.meta.desire(log.meta.agent("theirs", "1.0.0", "stop", **keys))
        for _ in range(2):
            one_pass(log, passes)
    told = [line.partition("theirs ")[2] for line in lines(log, "theirs .*refused")]
    assert len(told) == 3
    assert told[0].startswith("refused: UserMissing, rule run_user: the user 'no-such-user' does not exist")
    assert told[1].startswith("refused: PolicyRefused, rule work_dir: ")
    assert told[2] == "is no longer refused"


def test_what_memory_can_not_keep_is_told_once_by_a_process_that_lives(log: Folder) -> None:
    log.want(cmd="stop")
    passes = PassLog()
    one_pass(log, passes)
    with closing(sqlite3.connect(log.var / "state.db")) as db, db:
        for table in ("accepted", "records", "host", "refused"):
            db.execute(f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END")
    log.meta.desire(log.meta.agent("a b", "1.0.0"))
    for _ in range(3):
        one_pass(log, passes)
    with closing(sqlite3.connect(log.var / "state.db")) as db, db:
        for table in ("accepted", "records", "host", "refused"):
            db.execute(f"DROP TRIGGER full_{table}")
    db.close()
    log.meta.desire(log.meta.agent(NAME, "1.0.0", "stop"))
    for _ in range(2):
        one_pass(log, passes)
    assert len(lines(log, "StateStored is now False")) == 1
    assert len(lines(log, "StateStored is now True")) == 1
    assert len(lines(log, "WARNING can't write")) == 1
    assert len(lines(log, "a b refused")) == 1
    assert len(lines(log, "a b is no longer refused")) == 1


@pytest.mark.parametrize("one_process", [True, False])
def test_what_nobody_expected_is_told_with_its_traceback_once(
    log: Folder, monkeypatch: pytest.MonkeyPatch, one_process: bool
) -> None:
    plan_agent = planner.plan_agent

    def broken(aim: Aim, observed: ObservedAgent) -> Plan:
        raise RuntimeError("nobody expected this")

    log.want(cmd="stop")
    passes = PassLog() if one_process else None
    one_pass(log, passes)
    monkeypatch.setattr("reconcile.decide.view.plan_agent", broken)
    for _ in range(2):
        one_pass(log, passes)
    monkeypatch.setattr("reconcile.decide.view.plan_agent", plan_agent)
    one_pass(log, passes)
    assert len(lines(log, "Ready is now False .InternalError.")) == 1
    assert len(lines(log, "Ready is now True")) == 1
    assert len(lines(log, "^Traceback")) == (1 if one_process else 2)
    assert lines(log, f"ERROR   {NAME}: unexpected, please report it: RuntimeError")


def test_what_lasts_is_told_again_only_in_other_words(folder: Folder, tmp_path: Path) -> None:
    passes = PassLog()
    logs.set_up("debug", tmp_path / "app.log", to_stderr=False)
    for words in ("no room", "no room", "no right"):
        passes.goes_on("metrics", words)
    for _ in range(2):
        passes.over("metrics", "they are written again")
    told = (tmp_path / "app.log").read_text().splitlines()
    assert [line.split(maxsplit=3)[2:] for line in told] == [
        ["WARNING", "no room"],
        ["WARNING", "no right"],
        ["INFO", "they are written again"],
    ]
