"""The simulated fleet calls when the schedule says; its figures are counts, and depend on no machine."""

from __future__ import annotations

from benchmarks.fleet import INTERVAL, answers, down, fetches, ramp, simulate

HOSTS = 3000


def calls_in(load_calls: dict[int, int], begin: float, end: float) -> int:
    return sum(count for second, count in load_calls.items() if begin <= second < end)


def test_each_host_calls_once_an_interval_and_again_after_all_are_restarted() -> None:
    for restart_at in (None, 450.0):
        load = simulate(answers, 4, hosts=HOSTS, restart_at=restart_at)
        assert calls_in(load.calls, 600, 900) == calls_in(load.calls, 900, 1200) == HOSTS


def test_an_outage_costs_one_further_try_and_leaves_no_herd() -> None:
    load = simulate(down(600, 1500), 8, hosts=HOSTS)
    # Two intervals, and a further try of each host; some meet their slot, and one call serves for both.
    assert 2.9 * HOSTS < calls_in(load.calls, 600, 1200) <= 3 * HOSTS
    for begin in (1200, 1500, 1800, 2100):
        assert calls_in(load.calls, begin, begin + INTERVAL) == HOSTS


def test_a_host_that_is_asked_to_wait_does() -> None:
    load = simulate(down(600, 601, retry_after=900.0), 8, hosts=HOSTS)
    asked = load.calls[600]
    assert asked > 0
    assert calls_in(load.calls, 901, 1201) == HOSTS - asked
    assert calls_in(load.calls, 1800, 2100) == HOSTS


def test_a_fetch_by_all_is_spread_over_the_splay_and_no_host_is_left_out() -> None:
    at_once = fetches(0.0, 450.0, hosts=HOSTS)
    spread = fetches(3600.0, 450.0, hosts=HOSTS)
    assert sum(at_once.values()) == sum(spread.values()) == HOSTS
    assert max(at_once) <= 450 + INTERVAL + 1
    assert max(spread) <= 450 + INTERVAL + 3600 + 1
    for begin in range(800, 3800, 300):
        assert calls_in(spread, begin, begin + 300) < 2 * HOSTS * 300 / 3600


def test_a_lock_lets_a_good_version_reach_all_soon_and_a_bad_one_its_places() -> None:
    good = ramp(3600.0, HOSTS // 50, good=True, hosts=HOSTS)
    assert good.touched == HOSTS
    assert 1.0 <= good.hours < 1.2
    bad = ramp(3600.0, 7, good=False, hosts=HOSTS)
    assert bad.touched == 7
    for begin in (
        4500,
        4800,
        5100,
    ):  # all are past their turn: each host asks once an interval, for its place or its turn
        assert calls_in(bad.asks, begin, begin + 300) == HOSTS


def test_with_too_few_places_all_still_come_to_their_turn() -> None:
    slow = ramp(3600.0, 10, good=True, hosts=1000, further_s=3 * 3600.0)
    assert slow.touched == 1000
    assert sum(slow.asks.values()) > 2 * 1000, "those that were refused asked again"
