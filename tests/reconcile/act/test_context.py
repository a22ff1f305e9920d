"""What steps share: the bound on all downloads together, and the bench."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest

from reconcile.act.context import StepResults, Throttle


def test_no_download_waits_without_a_rate() -> None:
    Throttle(None, sleep=lambda seconds: pytest.fail(f"waited {seconds} s")).take(10**12)


def test_bytes_are_paid_for_with_time() -> None:
    waits: list[float] = []
    throttle = Throttle(1000, sleep=waits.append)
    for _ in range(3):
        throttle.take(60_000)
    # Nobody slept in between, so each waits for itself and for those before it: a minute, two, three.
    assert waits == pytest.approx([60, 120, 180], abs=30)
    assert waits == sorted(waits)


def test_a_pause_is_no_credit() -> None:
    waits: list[float] = []
    throttle = Throttle(1000, sleep=waits.append)
    throttle.take(1)
    time.sleep(0.05)
    throttle.take(60_000)
    assert waits[1] == pytest.approx(60, abs=1)
    assert waits[1] >= 59.999


def test_agents_share_one_rate() -> None:
    throttle = Throttle(2_000_000)
    began = time.monotonic()

    def take() -> None:
        for _ in range(5):
            throttle.take(20_000)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 4 * 5 * 20_000 / 2_000_000


def test_the_bench_holds_one_tarball_and_closes_it() -> None:
    results = StepResults()
    results.clear()
    first, second = io.BytesIO(b"1"), io.BytesIO(b"2")
    results.put(first, Path("/cache/1"), seen=frozenset({"md5:1"}))
    results.put(second, Path("/cache/2"))
    assert first.closed
    assert (results.tarball, results.path, results.seen) == (second, Path("/cache/2"), frozenset())
    results.clear()
    assert second.closed
    assert (results.tarball, results.path) == (None, None)


def test_a_block_is_cut_only_where_a_rate_would_make_it_wait_long() -> None:
    block = bytes(range(256)) * 1024
    assert list(Throttle(None).pieces(block)) == [block]
    for rate, most in ((10**9, 64 * 1024), (1000, 1000), (1, 1), (0.5, 1)):
        pieces = list(Throttle(rate).pieces(block))
        assert (b"".join(pieces), max(map(len, pieces))) == (block, most), "each wait of one agent is a second or two"
