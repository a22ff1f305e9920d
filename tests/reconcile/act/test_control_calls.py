"""What is said and kept of a control call and of the statuses after it, and how often a status is asked."""

from __future__ import annotations

import time

import pytest

from probes.host.control_script import CallEnd, ScriptResult
from probes.observed import ProcessState
from reconcile.act.control_calls import StatusAnswer, ask_statuses, call_control, summary, was_running, with_evidence
from reconcile.decide.records.record import ControlCall
from reconcile.errors import StartFailed
from tests.yard import Yard

UP = StatusAnswer(process=ProcessState.RUNNING, output="started")
DOWN = StatusAnswer(process=ProcessState.STOPPED, output="stoped")
SILENT = StatusAnswer(process=ProcessState.UNKNOWN, output="")
SHORT = StatusAnswer(process=ProcessState.UNKNOWN, output="no process left", is_short=True)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ScriptResult(ended=CallEnd.EXITED, code=3), "exited 3, printed nothing"),
        (ScriptResult(ended=CallEnd.EXITED, code=0, output=b"one\nfailed: no port\n"), "exited 0, printed "),
        (ScriptResult(ended=CallEnd.SIGNALED, code=9), "died of signal 9, printed nothing"),
        (ScriptResult(ended=CallEnd.TIMED_OUT, output=b"waits"), "did not end in time, printed 'waits'"),
        (ScriptResult(ended=CallEnd.NOT_STARTED, error="no such file"), "could not run (no such file)"),
        (ScriptResult(ended=CallEnd.LOST, error="gone", output=b"x"), "ended in an unknown way (gone)"),
    ],
)
def test_a_call_is_said_in_words(result: ScriptResult, said: str) -> None:
    assert summary(result).startswith(said)
    assert ("no port" in summary(result)) is (b"no port" in result.output)


def kept(result: ScriptResult, *answers: StatusAnswer) -> StartFailed:
    err = with_evidence(StartFailed("no"), result, list(answers))
    assert isinstance(err, StartFailed)
    return err


EXITED = ScriptResult(ended=CallEnd.EXITED, code=1)


@pytest.mark.parametrize(
    ("answers", "was_up", "unseen"),
    [((DOWN,), False, False), ((UP, DOWN), True, False), ((DOWN, SHORT), False, True), ((SHORT, DOWN), False, False)],
)
def test_a_failure_knows_whether_it_was_up_and_whether_it_was_seen(
    answers: tuple[StatusAnswer, ...], was_up: bool, unseen: bool
) -> None:
    err = kept(EXITED, *answers)
    assert (err.was_up, err.unseen, was_running(list(answers))) == (was_up, unseen, was_up)


@pytest.mark.parametrize(("ended", "lost"), [(CallEnd.LOST, True), (CallEnd.TIMED_OUT, False)])
def test_a_failure_knows_whether_its_call_was_lost(ended: CallEnd, lost: bool) -> None:
    assert kept(ScriptResult(ended=ended), DOWN).lost is lost


@pytest.mark.parametrize(
    ("output", "no_fork"), [(b"sh: fork: Resource temporarily unavailable", True), (b"no port", False)]
)
def test_a_failure_knows_whether_its_script_was_given_no_process(output: bytes, no_fork: bool) -> None:
    assert kept(ScriptResult(ended=CallEnd.EXITED, code=1, output=output), DOWN).no_fork is no_fork


def test_the_evidence_has_what_the_script_printed_and_each_status_in_a_row_once() -> None:
    err = kept(ScriptResult(ended=CallEnd.EXITED, code=1, output=b"no port\n"), DOWN, DOWN, SILENT, DOWN)
    assert err.evidence.splitlines() == [
        "exited 1",
        "no port",
        "",
        "status: stoped (2 times)",
        "status: nothing",
        "status: stoped",
    ]
    assert kept(EXITED, UP).evidence.splitlines() == ["exited 1, printed nothing", "", "status: started"]


def test_the_evidence_has_the_last_twenty_statuses() -> None:
    answers = [StatusAnswer(process=ProcessState.UNKNOWN, output=str(number)) for number in range(25)]
    said = [line for line in kept(EXITED, *answers).evidence.splitlines() if line.startswith("status: ")]
    assert said == [f"status: {number}" for number in range(5, 25)]


def test_a_status_is_asked_once_at_least_and_until_its_time_is_over(yard: Yard) -> None:
    yard.put("1.0.0", control="#!/bin/sh\necho stoped\n")
    assert [one.process for one in ask_statuses(yard.tools(), "1.0.0", time.monotonic() - 1)] == [ProcessState.STOPPED]
    began = time.monotonic()
    answers = list(ask_statuses(yard.tools(), "1.0.0", began + 0.6))
    assert len(answers) > 1
    assert 0 < time.monotonic() - began < 30
    assert [one.output for one in answers] == ["stoped"] * len(answers)


def test_a_call_whose_result_is_lost_is_waited_for(yard: Yard) -> None:
    yard.put("1.0.0", control=f"#!/bin/sh\nsleep 1\ntouch {yard.home()}/over\n")

    def breaks(call: ControlCall) -> None:
        raise RuntimeError("nobody expected this")

    result = call_control(yard.tools(call=breaks), "1.0.0", "start", 60)
    assert (yard.home() / "over").exists()
    assert (result.ended, "nobody expected this" in result.error) == (CallEnd.LOST, True)
