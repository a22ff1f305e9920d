"""How hypothesis works here: no law passes or fails by time, and nothing is written into the checkout. What a test that
needs a whole machine may do without: nothing, where CI runs it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from probes.host.trusted_path import writable_paths
from updater.settings.preflight import code

settings.register_profile("steady", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# Under nohup, or behind a shell's `&`, we are started with signals ignored, and every process that a test starts would
# ignore them too.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL if _number is not signal.SIGINT else signal.default_int_handler)


def pytest_sessionstart() -> None:
    """As root the updater refuses code that others can write: reported once, and not by each test that runs it."""
    flaw = next(writable_paths(code(), 0, 0), None) if os.geteuid() == 0 else None
    if flaw is not None:
        pytest.exit(f"as root no test can run the updater from here: {flaw.message}; {flaw.remedy}", 1)


ROOT = Path(__file__).parents[1]
_WATCHED = ("tests/probes/", "tests/reconcile/act/")  # elsewhere a store or a log may stay open as long as its process


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which this process has something below the test's folder open: who leaves a descriptor behind
    does so in each pass, and a lock with it."""
    watched = "tmp_path" in request.fixturenames and str(request.path.relative_to(ROOT)).startswith(_WATCHED)
    folder = str(request.getfixturevalue("tmp_path")) if watched else ""
    yield
    if folder and _open_below(folder):
        gc.collect()  # what is open for as long as it is referred to
        assert _open_below(folder) == []


def _open_below(folder: str) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if path.startswith(folder)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a system test that lacks a program, or root: `./control test --system` has brought them, so none is left
    out unseen. What the machine itself refuses, such as mounts in a container, is skipped by the tests, and named."""
    if "CI" not in os.environ or item.get_closest_marker("system") is None:
        return
    for mark in item.iter_markers("skipif"):
        if mark.args[0]:
            pytest.fail(f"in CI nothing may be missing: {mark.kwargs['reason']}", pytrace=False)
