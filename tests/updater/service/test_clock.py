"""The wall clock in processes whose host shows this or that time; a real clock that is set is in tests/system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LATEST = 9_000_000_000
FAR = "2**63 / 1e9 + 1"  # what Python can't count as nanoseconds
SHOWS = """
import sys, time
def shown():
    found = {shown}
    if found is None:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")
    return found
time.time = shown
from updater.service import clock
"""


def said(shown: str, asked: str) -> str:
    """What a process says whose host's clock shows this."""
    code = SHOWS.format(shown=shown) + asked
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("shown", "is_of_use"),
    [("0.0", True), ("1.7e9", True), (f"{LATEST}.0", True), (f"{LATEST}.5", False), (FAR, False), ("None", False)],
)
def test_a_time_that_can_be_counted_with_is_the_hosts(shown: str, is_of_use: bool) -> None:
    asked = f"found = clock.now()\nprint(found == {shown}, found > {LATEST}, clock.is_of_use())"
    assert said(shown, asked) == f"{is_of_use} {not is_of_use} {is_of_use}"


@pytest.mark.parametrize("shown", [FAR, "None"])
def test_where_there_is_none_the_time_goes_on(shown: str) -> None:
    asked = """
clock.take_over()
first, ns = time.time(), time.time_ns()
time.sleep(0.05)
print(0.04 <= time.time() - first < 60, abs(ns / 1e9 - first) < 60)
"""
    assert said(shown, asked) == "True True"


@pytest.mark.parametrize(("shown", "is_loaded"), [("1.7e9", False), ("None", True)])
def test_the_log_is_loaded_at_once_where_it_could_not_be_later(shown: str, is_loaded: bool) -> None:
    asked = """
import datetime
before = datetime.datetime
clock.take_over()
print("loguru" in sys.modules, datetime.datetime is before)
"""
    assert said(shown, asked) == f"{is_loaded} True"
