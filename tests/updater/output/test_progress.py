"""What is shown of a step under way: at given times, so that no clock is waited for."""

from __future__ import annotations

import pytest

from reconcile.decide.actions import Fetch, Start, Stop, SwitchVersion
from updater.output.format import bytes_of
from updater.output.progress import Step, step_of

MIB = 1024 * 1024
FETCH = Fetch(url="http://meta/falcon-agent-1.0.0.tar.gz", version="1.0.0", digests=frozenset())


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (4300, "4.2 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (118 * MIB, "118 MiB"),
        (2.5 * 1024 * MIB, "2.5 GiB"),
        (5000 * 1024 * MIB, "5000 GiB"),
    ],
)
def test_sizes(count: float, printed: str) -> None:
    assert bytes_of(count) == printed


def test_each_action_but_a_fetch_shows_its_age_from_its_first_second_on() -> None:
    step = Step(Stop(version="1.0.0"), 100.0)
    assert [step.words(at, 60) for at in (100.0, 100.9, 101.0, 175.0)] == ["", "", "1s", "1m15s"]


def test_a_fetch_shows_what_is_known() -> None:
    step = Step(FETCH, 100.0)
    assert step.words(102.0, 60) == "2s"  # the server has not answered yet
    step.size, step.total = 10 * MIB, 50 * MIB
    assert step.words(102.0, 60) == "10.0 MiB of 50.0 MiB"
    step.size = 20 * MIB
    assert step.words(103.0, 60) == "20.0 MiB of 50.0 MiB  10.0 MiB/s  3s left"
    without_time = "20.0 MiB of 50.0 MiB  10.0 MiB/s"
    for columns, words in (
        (41, f"{without_time}  3s left"),
        (40, without_time),
        (32, without_time),
        (31, without_time[:20]),
    ):
        assert step.words(103.0, columns) == words
    assert step.words(103.0, 5) == "20.0 MiB of 50.0 MiB"  # the row cuts it


def test_a_size_that_was_not_announced() -> None:
    step = Step(FETCH, 100.0, size=MIB)
    step.words(100.0, 60)
    step.size = 2 * MIB
    assert step.words(101.0, 60) == "2.0 MiB  1.0 MiB/s"


def test_the_rate_is_of_the_last_seconds() -> None:
    step = Step(FETCH, 0.0, size=0, total=900 * MIB)
    for second in range(61):
        step.size = min(second, 30) * MIB
        step.words(float(second), 60)
    assert step.words(60.0, 60) == "30.0 MiB of 900 MiB  0 B/s"  # its end is unknown


def test_a_fetch_that_begins_again_has_no_rate_below_nothing() -> None:
    step = Step(FETCH, 0.0, size=5 * MIB, total=10 * MIB)
    step.words(0.0, 60)
    step.size = MIB
    assert step.words(1.0, 60) == "1.0 MiB of 10.0 MiB"


def test_a_step_in_words() -> None:
    assert [step_of(a) for a in (FETCH, Start(version="2"), SwitchVersion(from_version="1", to="2"))] == [
        "fetch",
        "start 2",
        "switch 1 -> 2",
    ]
