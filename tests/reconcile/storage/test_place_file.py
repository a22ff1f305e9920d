"""A host's places in a file: what is written comes back, and what can't be read is as nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconcile.decide.timing.fleet_places import PlaceNote, Places, PlaceWait
from reconcile.storage.place_file import read_places, write_places


def test_what_is_remembered_is_what_was_written(tmp_path: Path) -> None:
    wait = PlaceWait(group="web", since=1.5, message="all taken", answered=True)
    places = Places(
        notes=(PlaceNote(group="web", id="host-1", url="http://lock", agents=frozenset("ab")),),
        waits=(wait,),
        retry_at=7.0,
    )
    write_places(tmp_path / "places.json", places)
    assert read_places(tmp_path / "places.json") == places
    assert os.listdir(tmp_path) == ["places.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"notes": 1}', '{"notes": [{}], "waits": [], "retry_at": null}'])
def test_what_can_not_be_read_is_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "places.json").write_text(content)
    assert read_places(tmp_path / "places.json") is None
    assert read_places(tmp_path / "none.json") is None
    os.mkfifo(tmp_path / "fifo")
    assert read_places(tmp_path / "fifo") is None
