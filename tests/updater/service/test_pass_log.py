"""What passes leave in the log: the lines, and that what lasts is told when it begins and when it is over."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from probes.observed import ObservedAgent
from reconcile.decide import planner
from reconcile.decide.actions import Plan
from reconcile.decide.target import Target
from reconcile.engine.pass_context import DesiredFrom
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import PassResult
from tests.updater.conftest import Folder
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


def test_a_failure_and_its_lines(ready: Folder) -> None:
    ready.want()
    ready.meta.corrupt("falcon-agent", "1.0.0")
    one_pass(ready)
    text = ready.log()
    assert re.search(r"ERROR   falcon-agent: verify md5:\w+: failed, .* 1 tries: DigestMismatch: the tarball is", text)
    assert re.search(r"INFO    falcon-agent: Ready is now False \(DigestMismatch\): the tarball", text)
    assert "skipped" not in text
    one_pass(ready)
    assert ready.log().count("Ready is now False") == 1  # it is told when it begins, not while it lasts


def test_what_became_of_a_switch_is_told(ready: Folder) -> None:
    ready.configure(watch=0, control_timeout={"start": 4})
    ready.want()
    one_pass(ready)
    one_pass(ready)
    assert "WARNING falcon-agent: 1.0.0 is good: it stayed up for the watch" in ready.log()
    ready.want("2.0.0", broken_start=True)
    one_pass(ready)
    assert re.search(r"WARNING falcon-agent: control start of 2\.0\.0 exited 0, .*; back to 1\.0\.0", ready.log())


# What lasts


@pytest.mark.parametrize("one_process", [True, False])
def test_a_refusal_is_told_when_it_begins_when_it_is_another_and_when_it_ends(ready: Folder, one_process: bool) -> None:
    passes = PassLog() if one_process else None
    for keys in ({"runUser": "no-such-user"}, {"workDir": "/etc"}, {}):
        ready.meta.desire(ready.meta.agent("theirs", "1.0.0", "stop", **keys))
        for _ in range(2):
            one_pass(ready, passes)
    told = [line.partition("theirs ")[2] for line in lines(ready, "theirs .*refused")]
    assert len(told) == 3
    assert told[0].startswith("refused: UserMissing, rule run_user: the user 'no-such-user' does not exist")
    assert told[1].startswith("refused: PolicyRefused, rule work_dir: ")
    assert told[2] == "is no longer refused"


def test_what_memory_can_not_keep_is_told_once_by_a_process_that_lives(ready: Folder) -> None:
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
def test_what_nobody_expected_is_told_with_its_traceback_once(
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


def test_what_lasts_is_told_again_only_in_other_words(folder: Folder, tmp_path: Path) -> None:
    passes = PassLog()
    log_setup.set_up("debug", tmp_path / "app.log", to_stderr=False)
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
