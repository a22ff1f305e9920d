"""The daemon's wait: what ends it, with the kernel's timer and without."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import updater.service.wakeup
from updater.service.wakeup import open_timer, open_wakeup


@pytest.fixture(autouse=True, params=["timer", "pieces"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a timer of the kernel, and where there is none."""
    if request.param == "pieces":
        monkeypatch.setattr(updater.service.wakeup, "open_timer", lambda: None)
    return str(request.param)


def test_any_signal_ends_the_wait_at_once_and_all_is_put_back() -> None:
    seen: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with open_wakeup(seen.append) as bell:
        for number in numbers:
            os.kill(os.getpid(), number)
            began = time.monotonic()
            bell.wait_until(time.time() + 600)
            assert time.monotonic() - began < 300
    assert seen == list(numbers)
    assert [signal.getsignal(number) for number in numbers] == before
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_wait_ends_by_itself() -> None:
    with open_wakeup(lambda number: None) as bell:
        at = time.time() + 0.05
        bell.wait_until(at)
        assert time.time() >= at - 0.01
        bell.wait_until(time.time() - 5)  # the past is over
        bell.wait_until(0.0)


def test_a_ring_ends_one_wait_from_another_thread_or_before_it_began() -> None:
    with open_wakeup(lambda number: None) as bell:
        ringing = threading.Thread(target=bell.notify)
        ringing.start()
        bell.wait_until(time.time() + 600)
        ringing.join()
        at = time.time() + 0.05
        bell.wait_until(at)
        assert time.time() >= at - 0.01


@pytest.mark.parametrize("days", [30, 30_000])
def test_a_far_time_is_waited_for_and_no_trouble(days: int) -> None:
    with open_wakeup(lambda number: None) as bell:
        began = time.monotonic()
        bell.wait_until(time.time() + days * 86400, 0.05)
        assert 0.04 < time.monotonic() - began < 300
        bell.notify()
        bell.wait_until(time.time() + days * 86400)


def test_a_wait_is_no_longer_than_it_may_be() -> None:
    with open_wakeup(lambda number: None) as bell:
        began = time.monotonic()
        bell.wait_until(time.time() + 600, 0.05)
        assert 0.04 < time.monotonic() - began < 300


def test_many_rings_are_one() -> None:
    with open_wakeup(lambda number: None) as bell:
        for _ in range(100_000):
            bell.notify()
        assert bell_is_ringing(bell)
        while bell_is_ringing(bell):
            pass


def bell_is_ringing(bell: updater.service.wakeup.Wakeup) -> bool:
    at = time.time() + 0.05
    bell.wait_until(at)
    return time.time() < at - 0.01


def test_a_timer_that_is_none_does_no_harm(kind: str) -> None:
    """As in a sandbox that knows no such timer: what stands there is a file that is always readable."""
    if kind == "pieces":
        return
    nothing = os.open("/dev/null", os.O_RDONLY)
    readable, writable = os.pipe()
    bell = updater.service.wakeup.Wakeup(readable, writable, None)
    bell._timer = nothing
    at = time.time() + 0.05
    bell.wait_until(at)
    assert time.time() >= at - 0.01
    bell.close()
    os.close(readable)
    os.close(writable)


def test_linux_has_the_timer(kind: str) -> None:
    timer = open_timer()
    assert timer is not None or not Path("/proc/self/fd").exists()
    if timer is not None:
        os.close(timer)


def test_a_thread_that_outlives_it_writes_into_no_other_file() -> None:
    with open_wakeup(lambda number: None) as bell:
        pass
    pipes = [os.pipe() for _ in range(4)]  # they get the descriptors that it had
    try:
        bell.notify()
        for readable, _ in pipes:
            os.set_blocking(readable, False)
            with pytest.raises(BlockingIOError):
                os.read(readable, 1)
    finally:
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)
