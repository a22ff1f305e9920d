"""The daemon's wait: until a time of the wall clock, a signal, a call of `notify`, or until the clock is set.

From Python 3.13 on the wait rests on the kernel's timerfd, which ends it also when the clock is set, and counts the
time that a host sleeps. Elsewhere a wait is cut into pieces of a minute, after each of which the caller looks at the
clock again.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from updater.service import clock

_PIECE_S = 60.0  # without a timer that knows when the clock was set
_LATE_S = 1.0  # how much later a wait is over though the timer said nothing
_LONGEST_S = 86400.0  # no wait is longer: epoll takes 24 days at most


if sys.version_info >= (3, 13) and sys.platform == "linux":

    def open_timer() -> int | None:
        """Open a timer of the wall clock; None where the kernel, or this build of Python, has none."""
        with suppress(OSError, AttributeError):
            return os.timerfd_create(time.CLOCK_REALTIME, flags=os.TFD_CLOEXEC | os.TFD_NONBLOCK)
        return None

    def _set_timer(fd: int, at: float) -> None:
        os.timerfd_settime(fd, flags=os.TFD_TIMER_ABSTIME | os.TFD_TIMER_CANCEL_ON_SET, initial=at)

else:

    def open_timer() -> int | None:
        """There is no timer of the wall clock before Python 3.13, and none but on Linux."""
        return None

    def _set_timer(fd: int, at: float) -> None:
        raise OSError(errno.ENOSYS, "no timer of the wall clock")


class Wakeup:
    """Waits until a wall-clock time. `timer`: a descriptor of `open_timer`, which `close` gives back."""

    def __init__(self, readable: int, writable: int, timer: int | None) -> None:
        self._readable, self._writable, self._timer = readable, writable, timer
        self._notifying = threading.Lock()
        self._is_open = True
        self._selector = selectors.DefaultSelector()
        for fd in (readable, timer):
            if fd is not None:
                self._selector.register(fd, selectors.EVENT_READ)

    def notify(self) -> None:
        """End a wait, or the next one. From any thread, also from one that outlives this."""
        with self._notifying, suppress(BlockingIOError):  # full: the wait ends all the same
            if self._is_open:
                os.write(self._writable, b"\0")

    def wait_until(self, at: float, at_most_s: float | None = None) -> None:
        """Return at `at` (Unix seconds), or earlier: at a notification, when the clock was set, after `at_most_s`."""
        left = max(0.0, at - time.time())
        timed = left and clock.is_of_use() and self._is_set(at)
        limits = [_LONGEST_S, left + _LATE_S if timed else min(left, _PIECE_S)]
        if at_most_s is not None:
            limits.append(at_most_s)
        for key, _ in self._selector.select(min(limits)):
            with suppress(OSError):  # ECANCELED: the clock was set
                os.read(key.fd, 4096)

    def _is_set(self, at: float) -> bool:
        """Set the timer. False: there is none, or not one of this kind."""
        if self._timer is None:
            return False
        try:
            _set_timer(self._timer, at)
        except OSError as err:
            if err.errno != errno.ECANCELED:  # the clock was set just now: the timer is set, and ends the wait for that
                return False
        return True

    def close(self) -> None:
        with self._notifying:  # by then the descriptor is another file's
            self._is_open = False
        self._selector.close()
        if self._timer is not None:
            os.close(self._timer)


@contextmanager
def open_wakeup(on_signal: Callable[[int], None], timer: Callable[[], int | None] = open_timer) -> Iterator[Wakeup]:
    """Call `on_signal` for the signals that a daemon obeys, and yield a wakeup that any of them ends."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    one = Wakeup(readable, writable, timer())

    def handler(number: int, frame: FrameType | None) -> None:
        on_signal(number)

    before = {number: signal.signal(number, handler) for number in numbers}
    # The kernel writes a byte for each signal that arrives, also between a look at a flag and the wait for the next.
    old_fd = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # blocked while a daemon comes back from standby
    try:
        yield one
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handling in before.items():
            signal.signal(number, handling)
        one.close()
        os.close(readable)
        os.close(writable)
