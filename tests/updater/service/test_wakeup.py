"""The daemon's wait: what ends it, with the kernel's timer and without."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from updater.service.wakeup import Wakeup, open_timer, open_wakeup

LONG_S = 40.0  # of waits that something else is to end

Waits = Callable[[Callable[[int], None]], AbstractContextManager[Wakeup]]


@pytest.fixture(params=[open_timer, lambda: None], ids=["timer", "pieces"])
def waits(request: pytest.FixtureRequest) -> Waits:
    """With a timer of the kernel, and where there is none."""
    return partial(open_wakeup, timer=request.param)


def test_any_signal_ends_the_wait_at_once_and_all_is_put_back(waits: Waits) -> None:
    seen: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with waits(seen.append) as bell:
        for number in numbers:
            os.kill(os.getpid(), number)
            began = time.monotonic()
            bell.wait_until(time.time() + LONG_S)
            assert time.monotonic() - began < LONG_S / 2
    assert seen == list(numbers)
    assert [signal.getsignal(number) for number in numbers] == before
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_wait_ends_by_itself(waits: Waits) -> None:
    with waits(lambda number: None) as bell:
        at = time.time() + 0.05
        bell.wait_until(at)
        assert time.time() >= at - 0.01
        bell.wait_until(time.time() - 5)  # the past is over
        bell.wait_until(0.0)


def test_a_ring_ends_one_wait_from_another_thread_or_before_it_began(waits: Waits) -> None:
    with waits(lambda number: None) as bell:
        ringing = threading.Thread(target=bell.notify)
        ringing.start()
        began = time.monotonic()
        bell.wait_until(time.time() + LONG_S)
        assert time.monotonic() - began < LONG_S / 2
        ringing.join()
        at = time.time() + 0.05
        bell.wait_until(at)
        assert time.time() >= at - 0.01


@pytest.mark.parametrize("days", [30, 30_000])
def test_a_far_time_is_waited_for_and_no_trouble(days: int, waits: Waits) -> None:
    with waits(lambda number: None) as bell:
        began = time.monotonic()
        bell.wait_until(time.time() + days * 86400, 0.05)
        assert 0.04 < time.monotonic() - began < LONG_S / 2
        bell.notify()
        bell.wait_until(time.time() + days * 86400, LONG_S)
        assert time.monotonic() - began < LONG_S / 2


def test_a_wait_is_no_longer_than_it_may_be(waits: Waits) -> None:
    with waits(lambda number: None) as bell:
        began = time.monotonic()
        bell.wait_until(time.time() + LONG_S, 0.05)
        assert 0.04 < time.monotonic() - began < LONG_S / 2


def test_many_rings_are_one(waits: Waits) -> None:
    with waits(lambda number: None) as bell:
        for _ in range(100_000):
            bell.notify()
        assert bell_is_ringing(bell)
        while bell_is_ringing(bell):
            pass


def bell_is_ringing(bell: Wakeup) -> bool:
    at = time.time() + 0.05
    bell.wait_until(at)
    return time.time() < at - 0.01


def test_a_timer_that_is_none_does_no_harm() -> None:
    """As in a sandbox that knows no such timer: what stands there is a file that is always readable."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    readable, writable = os.pipe()
    bell = Wakeup(readable, writable, None)
    bell._timer = nothing
    at = time.time() + 0.05
    bell.wait_until(at)
    assert time.time() >= at - 0.01
    bell.close()
    os.close(readable)
    os.close(writable)


def test_linux_has_the_timer_where_python_has_it() -> None:
    timer = open_timer()
    assert (timer is not None) is hasattr(os, "timerfd_create")
    if timer is not None:
        os.close(timer)


def test_a_thread_that_outlives_it_writes_into_no_other_file(waits: Waits) -> None:
    with waits(lambda number: None) as bell:
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
