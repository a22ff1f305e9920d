"""Fixtures of the end-to-end tests: each test has a host, an ops-meta and a subreaper of its own, and leaves nothing.

Ports are chosen by the kernel and files lie below `tmp_path`, so tests may run side by side.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import lock, make
from tests.e2e.host import NAME, Host
from tests.e2e.processes import Processes, end_all_in
from tests.e2e.warm import Warm
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build_file
from updater.demo import agent as agents

__all__ = ["lock", "make"]  # fixtures

BIG = 50 * 1024 * 1024  # of padding that doesn't compress: the least that a real agent's tarball has here


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[FaultyOpsMeta]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta:
        yield meta


@pytest.fixture(scope="session")
def warm_updater() -> Iterator[Warm | None]:
    """One for all tests of this process, where orphans can be had for children."""
    if sys.platform != "linux":
        yield None
        return
    with Warm() as warm:
        yield warm


@pytest.fixture
def warm(request: pytest.FixtureRequest) -> Warm | None:
    """What runs the commands of a test marked `warm`."""
    return request.getfixturevalue("warm_updater") if request.node.get_closest_marker("warm") else None


@pytest.fixture
def host(tmp_path: Path, meta: FaultyOpsMeta, processes: Processes, warm: Warm | None) -> Iterator[Host]:
    yield Host(tmp_path, meta, processes, warm)
    agents.end_all(tmp_path)
    end_all_in(tmp_path)


@pytest.fixture(scope="session")
def big_releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tarballs of two versions, of more than 50 MB each: made once, since that takes a second."""
    folder = tmp_path_factory.mktemp("releases")
    return {
        version: build_file(folder / f"{NAME}-{version}.tar.gz", NAME, version, size=BIG, lifetime=600)
        for version in ("1.0.0", "2.0.0")
    }
