"""When the next pass is: the host's slot, the few retries after a failure, and what the server asks for."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.timing.schedule import Next, after_pass, next_poll, next_slot, slot

INTERVAL = 300.0
SLOT_OF_LIUTIAN = 40.97419
times = st.floats(0, 4e9)
spans = st.floats(1, 86400)
names = st.text()


@given(names, names, spans)
def test_a_slot_lies_in_its_span_and_stays(hostname: str, ip: str, span: float) -> None:
    assert 0 <= slot(hostname, ip, span) < span
    assert slot(hostname, ip, span) == slot(hostname, ip, span)


def test_a_slot_is_the_same_after_every_restart() -> None:
    """It is no hash that Python salts. A change of this figure moves every host of every fleet."""
    assert slot("liutian-01", "192.168.1.154", INTERVAL) == pytest.approx(SLOT_OF_LIUTIAN)


def test_hostname_and_ip_both_count_and_are_not_run_together() -> None:
    slots = {slot(*host, INTERVAL) for host in [("ab", "c"), ("a", "bc"), ("ab", ""), ("", "ab"), ("abc", "c")]}
    assert len(slots) == 5


def test_hosts_spread_evenly() -> None:
    """100,000 hosts over 300 seconds: at the worst second little more than a third above the mean (333; chance
    alone does no worse than that)."""
    seconds = Counter(int(slot(f"host-{n}", f"10.0.{n >> 8}.{n & 255}", INTERVAL)) for n in range(100_000))
    assert len(seconds) == INTERVAL
    assert max(seconds.values()) < 333 * 1.35


@pytest.mark.parametrize("span", [0, -1])
def test_no_span_no_wait(span: float) -> None:
    assert slot("a", "b", span) == 0


@pytest.mark.parametrize(
    ("now", "offset", "at"),
    [
        (0, 0, 300),
        (299.5, 0, 300),
        (300, 0, 600),
        (0, 40, 40),
        (40, 40, 340),
        (41, 40, 340),
        (1000, 299, 1199),
    ],
)
def test_the_next_slot(now: float, offset: float, at: float) -> None:
    assert next_slot(now, INTERVAL, offset) == at


@given(times, spans, st.floats(0, 1, exclude_max=True))
def test_the_next_slot_is_ahead_within_one_interval_and_at_the_offset(now: float, interval: float, part: float) -> None:
    offset = part * interval
    at = next_slot(now, interval, offset)
    assert now < at <= now + interval + 1e-5
    assert math.isclose((at - offset) / interval, round((at - offset) / interval), abs_tol=1e-5)


def test_after_a_success_the_slot() -> None:
    assert after_pass(100, INTERVAL, 40, chance=0.5) == Next(at=340)


@pytest.mark.parametrize(
    ("failed", "chance", "at"),
    [
        (1, 0.0, 100),
        (1, 0.5, 160),
        (1, 0.9, 294.4),
        (2, 0.5, 340),
        (9, 0.0, 340),
    ],
)
def test_one_further_try_before_the_slot_and_none_once_that_has_failed(failed: int, chance: float, at: float) -> None:
    found = after_pass(100, INTERVAL, 40, failed_exchanges=failed, chance=chance)
    assert found.at == pytest.approx(at)
    assert found.exchange is True


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True), st.lists(st.floats(0, 1, exclude_max=True), min_size=20))
def test_an_outage_costs_one_further_call_however_long_it_is(intervals: int, part: float, chances: list[float]) -> None:
    """The calls of one host, from the slot at which the first of them fails; a pass takes a moment."""
    offset = part * INTERVAL
    begin = now = next_slot(0, INTERVAL, offset)
    failed = 0
    while now < begin + intervals * INTERVAL - 1:
        failed += 1
        now = after_pass(now + 0.1, INTERVAL, offset, failed_exchanges=failed, chance=chances[failed % len(chances)]).at
    assert failed <= intervals + 1


def test_a_further_try_never_comes_after_the_slot() -> None:
    assert after_pass(340 - 1e-7, INTERVAL, 40, failed_exchanges=1, chance=1 - 1e-16) == Next(at=340)


@pytest.mark.parametrize(
    ("quiet_until", "failed", "found"),
    [
        (None, 1, Next(at=160)),
        (90, 1, Next(at=340)),
        (110, 1, Next(at=340)),
        (340, 1, Next(at=340)),
        (341, 1, Next(at=340, exchange=False)),
        (3700, 0, Next(at=340, exchange=False)),
    ],
)
def test_the_servers_retry_after_is_obeyed_and_agents_are_healed_all_the_same(
    quiet_until: float | None, failed: int, found: Next
) -> None:
    """Who says when to ask again is asked at the first slot after that, and not once more before."""
    assert after_pass(100, INTERVAL, 40, failed_exchanges=failed, quiet_until=quiet_until, chance=0.5) == found


@given(times, spans, st.integers(0, 5), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 8e9))
def test_a_pass_is_never_later_than_the_slot_and_never_in_the_past(
    now: float, interval: float, failed: int, chance: float, quiet_until: float | None
) -> None:
    found = after_pass(now, interval, 0, failed_exchanges=failed, quiet_until=quiet_until, chance=chance)
    at = next_slot(now, interval, 0)
    assert now <= found.at <= at
    assert found.at == at or (failed == 1 and quiet_until is None)
    assert found.exchange == (quiet_until is None or quiet_until <= found.at)


@pytest.mark.parametrize(
    ("wake_at", "failed", "found"),
    [
        # a watch or a hold that ends before the slot: a pass that asks no server, and counts nothing
        (200, 0, Next(at=200, exchange=False)),
        (110, 1, Next(at=110, exchange=False)),
        # the retry or the slot comes first: its pass sees the end too
        (170, 1, Next(at=160)),
        (340, 0, Next(at=340)),
        (9999, 0, Next(at=340)),
        # over, or in the past of a clock that runs back: never a spin
        (100, 0, Next(at=101, exchange=False)),
        (-5, 0, Next(at=101, exchange=False)),
        (None, 0, Next(at=340)),
    ],
)
def test_between_slots_it_wakes_for_the_end_of_a_watch_or_a_hold(
    wake_at: float | None, failed: int, found: Next
) -> None:
    assert after_pass(100, INTERVAL, 40, failed_exchanges=failed, wake_at=wake_at, chance=0.5) == found


@pytest.mark.parametrize("every", [1.0, 10.0, 300.0])
def test_a_fleet_that_polls_has_seen_a_change_within_one_poll_and_asks_evenly(every: float) -> None:
    """1,000 daemons, at any moment of a change: the last one asks at most one poll later, none of them twice."""
    offsets = [slot(f"host-{n}", f"10.0.{n >> 8}.{n & 255}", every) for n in range(1000)]
    for changed in (0.0, 1e9 + 0.37 * every, 1.8e9 + 0.99 * every):
        waits = [next_poll(changed, every, offset) - changed for offset in offsets]
        assert min(waits) > 0
        assert max(waits) <= every + 1e-6
        tenths = Counter(min(9, int(wait / every * 10)) for wait in waits)
        assert max(tenths.values()) < 100 * 1.35


@given(times, spans, st.floats(0, 1, exclude_max=True), st.floats(0, 3600))
def test_a_poll_comes_at_the_slot_after_what_the_server_asked_for(
    now: float, every: float, part: float, quiet: float
) -> None:
    at = next_poll(now, every, part * every, quiet_until=now + quiet)
    assert at == next_slot(now + quiet, every, part * every)
    assert at > now
