"""Maintenance windows: tables, the two days of daylight saving, and what holds in each time zone."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.timing.windows import DAYS, LONGEST_S, Window, Windows

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
]
HOUR = 3600.0


def at(text: str, zone: tzinfo = timezone.utc, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def days(*names: str) -> frozenset[int]:
    return frozenset(DAYS.index(name) for name in names)


NIGHTS = Windows(windows=(Window(days=days("mon", "thu"), start=23 * 60 + 30, length=2 * HOUR),))


@pytest.mark.parametrize(
    ("moment", "is_open", "next_one"),
    [
        ("2026-11-30 23:29:59", False, "2026-11-30 23:30"),  # a Monday
        ("2026-11-30 23:30:00", True, "2026-12-03 23:30"),
        ("2026-12-01 00:00:00", True, "2026-12-03 23:30"),  # it wraps over midnight, into a day that is not named
        ("2026-12-01 01:29:59", True, "2026-12-03 23:30"),
        ("2026-12-01 01:30:00", False, "2026-12-03 23:30"),
        ("2026-12-01 23:45:00", False, "2026-12-03 23:30"),
        ("2026-12-03 23:45:00", True, "2026-12-07 23:30"),
        ("2026-12-04 12:00:00", False, "2026-12-07 23:30"),
        ("2026-12-06 23:45:00", False, "2026-12-07 23:30"),
    ],
)
def test_two_nights_a_week(moment: str, is_open: bool, next_one: str) -> None:
    assert NIGHTS.is_open(at(moment)) is is_open
    assert NIGHTS.opens_at(at(moment)) == at(next_one)


def test_a_window_without_days_opens_each_day() -> None:
    daily = Windows(windows=(Window(start=0, length=60),))
    assert [daily.is_open(at(f"2026-12-0{day} 00:00:30")) for day in range(1, 8)] == [True] * 7


def test_one_of_several_is_enough() -> None:
    two = Windows(windows=(Window(start=60, length=HOUR), Window(start=600, length=HOUR)))
    assert two.is_open(at("2026-12-01 01:30"))
    assert two.is_open(at("2026-12-01 10:30"))
    assert not two.is_open(at("2026-12-01 05:00"))
    assert two.opens_at(at("2026-12-01 05:00")) == at("2026-12-01 10:00")


def test_a_whole_day_is_never_closed_where_days_have_24_hours() -> None:
    always = Windows(windows=(Window(start=12 * 60, length=LONGEST_S),))
    assert all(always.is_open(at("2026-12-01 00:00") + minute * 600) for minute in range(7 * 144))


def test_a_zone_that_is_not_known_closes_all() -> None:
    lost = Windows(windows=(Window(start=0, length=LONGEST_S),), zone=None)
    assert not lost.is_open(at("2026-12-01 12:00"))
    assert lost.opens_at(at("2026-12-01 12:00")) is None


def test_without_windows_none_opens() -> None:
    assert not Windows(windows=()).is_open(0.0)
    assert Windows(windows=()).opens_at(0.0) is None


@pytest.mark.parametrize("clock", [-1e18, 1e18, 1e13, -62135596800.0, 253402300799.0, float("inf"), float("nan")])
def test_a_clock_out_of_all_calendars_breaks_nothing(clock: float) -> None:
    daily = Windows(windows=(Window(start=0, length=60),))
    assert daily.is_open(clock) in (True, False)
    assert daily.opens_at(clock) is None or daily.opens_at(clock)


def test_a_time_that_is_skipped_is_taken_once() -> None:
    """In Berlin the clock goes from 02:00 to 03:00 on 2027-03-28."""
    skipped = Windows(windows=(Window(start=150, length=HOUR / 2),), zone=BERLIN)
    opens = at("2027-03-28 01:30")  # UTC: 03:30 there
    assert skipped.opens_at(at("2027-03-28 00:00")) == opens
    assert not skipped.is_open(opens - 1)
    assert skipped.is_open(opens)
    assert skipped.opens_at(opens) == at("2027-03-29 00:30")


def test_a_time_that_comes_twice_is_taken_once() -> None:
    """In Berlin the clock goes from 03:00 to 02:00 on 2026-10-25."""
    doubled = Windows(windows=(Window(start=150, length=HOUR / 2),), zone=BERLIN)
    first, second = (at("2026-10-25 02:30", BERLIN, fold) for fold in (0, 1))
    assert second == first + HOUR
    assert doubled.is_open(first)
    assert not doubled.is_open(second)
    assert doubled.opens_at(first) == at("2026-10-26 02:30", BERLIN)


ANY_WINDOW = st.builds(
    Window,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    start=st.integers(0, 24 * 60 - 1),
    length=st.floats(60, LONGEST_S),
)
ANY_TIME = st.integers(int(at("2000-01-01")), int(at("2100-01-01"))).map(float)
ANY_ZONE = st.sampled_from(ZONES).map(ZoneInfo)


@given(st.lists(ANY_WINDOW, min_size=1, max_size=3), ANY_ZONE, ANY_TIME)
def test_what_opens_next_is_closed_before_unless_another_is_open(
    some: list[Window], zone: ZoneInfo, now: float
) -> None:
    windows = Windows(windows=tuple(some), zone=zone)
    opens = windows.opens_at(now)
    assert opens is not None
    assert now < opens <= now + 8 * 25 * HOUR
    assert windows.is_open(opens)
    if not windows.is_open(now):
        assert not windows.is_open((now + opens) / 2)


@given(ANY_WINDOW, ANY_ZONE, ANY_TIME)
def test_a_window_is_open_for_its_length_and_on_its_days(window: Window, zone: ZoneInfo, now: float) -> None:
    windows = Windows(windows=(window,), zone=zone)
    opens = windows.opens_at(now)
    assert opens is not None
    local = datetime.fromtimestamp(opens, zone)
    nominal = local.hour * 60 + local.minute
    assert local.weekday() in window.days or nominal != window.start  # a skipped midnight is the next day's
    alone = len(window.days) == 1
    if alone:
        assert windows.is_open(opens + window.length - 1)
        assert not windows.is_open(opens + window.length)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("start", [0, 30, 90, 119, 120, 150, 179, 180, 1439])
def test_in_a_year_each_day_opens_once(zone: str, start: int) -> None:
    windows = Windows(windows=(Window(start=start, length=60),), zone=ZoneInfo(zone))
    now, openings = at("2025-12-31 12:00"), 0
    while (opens := windows.opens_at(now)) is not None and opens < at("2027-01-01"):
        now, openings = opens, openings + 1
    assert openings in (365, 366)
