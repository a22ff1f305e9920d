"""A yard for each test that asks for one; its agents end with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.yard import Yard
from updater.demo import agent


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with FaultyOpsMeta(work_dir=tmp_path / "work") as meta:
        yard = Yard(tmp_path, meta)
        try:
            yield yard
        finally:
            yard.close()
            agent.end_all(tmp_path)
