"""A yard for each test that asks for one; its agents end with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.yard import Yard
from updater.demo import agent
from updater.demo.ops_meta import OpsMetaServer


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with OpsMetaServer(work_dir=tmp_path / "work") as meta:
        yard = Yard(tmp_path, meta)
        try:
            yield yard
        finally:
            yard.close()
            agent.end_all(tmp_path)
