"""The exchange with the server, beside the pass: its answer is taken by the thread of the passes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconcile.assess.exchange import RunningExchange, exchange
from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.source import Answer, DesiredSignature, HostReport
from reconcile.storage.serial_file import SerialMemory
from reconcile.storage.store import StoredState
from tests.yard import Yard

LONG_S = 60.0
ANSWER = Answer(entries=(), came_from="there")


class Source:
    came_from = "there"
    takes_reports = True

    def __init__(self, answer: Answer | Exception, serials: SerialMemory | None = None) -> None:
        self._answer = answer
        self._serials = serials
        self.knew: tuple[DesiredSignature, ...] = ()

    def exchange(self, report: HostReport) -> Answer:
        self.knew = () if self._serials is None else self._serials.accepted
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize("answer", [ANSWER, ServerUnreachable("down"), ResponseInvalid("odd")])
def test_an_expected_failure_is_an_answer_too(yard: Yard, answer: Any) -> None:
    assert exchange(yard.around(source=Source(answer)), StoredState()) is answer


def test_an_unexpected_one_is_not(yard: Yard) -> None:
    with pytest.raises(RuntimeError, match="nobody"):
        exchange(yard.around(source=Source(RuntimeError("nobody expected this"))), StoredState())


def test_a_source_knows_the_serials_that_memory_has(yard: Yard, tmp_path: Path) -> None:
    serials = SerialMemory(tmp_path / "serials.json", frozenset({"K"}))
    source, known = Source(ANSWER, serials), DesiredSignature(key="K", serial=7, digest="d")
    exchange(yard.around(source=source, serials=serials), StoredState(serials=(known,)))
    assert source.knew == (known,)


@pytest.mark.parametrize(
    "ended", [ANSWER, ServerUnreachable("down"), ResponseInvalid("odd"), RuntimeError("nobody expected this")]
)
def test_it_has_ended_once_its_answer_was_taken(ended: Any) -> None:
    posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    may_end = threading.Event()

    def ask() -> Any:
        assert may_end.wait(LONG_S)
        if isinstance(ended, RuntimeError):
            raise ended
        return ended

    asked = RunningExchange(ask, posted.put)
    assert (asked.has_ended, asked.result) == (False, None)
    may_end.set()
    take = posted.get(timeout=LONG_S)
    states = [asked.has_ended]
    take()
    assert [*states, asked.has_ended] == [False, True], "it is taken by the thread that reads it"
    if isinstance(ended, RuntimeError):
        with pytest.raises(RuntimeError, match="nobody"):
            assert asked.result
    else:
        assert asked.result is ended
