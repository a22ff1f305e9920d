"""The machine's clock is set: to what it shows, which is as much an event as any other time. It needs the right to."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from updater.service.wakeup import open_wakeup

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.version_info < (3, 13), reason="before Python 3.13 the clock is looked at once a minute"),
]


def set_clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time())


def test_a_wait_ends_when_the_clock_is_set() -> None:
    try:
        set_clock()
    except PermissionError as err:
        pytest.skip(f"this machine doesn't let root set its clock: {err}")
    with open_wakeup(lambda number: None) as bell:
        over = threading.Event()

        def set_it_until_then() -> None:
            while not over.wait(0.05):
                set_clock()

        setting = threading.Thread(target=set_it_until_then)
        setting.start()
        began = time.monotonic()
        bell.wait_until(time.time() + 600)
        over.set()
        setting.join()
        assert time.monotonic() - began < 300
        at = time.time() + 0.05
        while time.time() < at:  # a ring that was left may end one wait early
            bell.wait_until(at)
