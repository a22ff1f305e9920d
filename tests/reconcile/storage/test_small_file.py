"""Small files below var/: whole or not at all, on the disk when that is said, and read as files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import WriteFailed
from reconcile.storage.small_file import UNREADABLE, read_json, write_json, write_text


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order."""
    seen: list[str] = []

    def recording(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(target: Any, *rest: Any) -> None:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            seen.append(f"{name} {os.path.basename(path)}")
            if not os.path.isdir(path):
                assert os.path.getsize(path), "it holds what is brought to the disk"
            real(target, *rest)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recording(name, getattr(os, name)))
    return seen


def test_what_was_written_is_read(tmp_path: Path, steps: list[str]) -> None:
    write_json(tmp_path / "places.json", {"held": ["ä"]})
    assert read_json(tmp_path / "places.json") == {"held": ["ä"]}
    assert steps == ["fsync .places.json.new", "replace .places.json.new", f"fsync {tmp_path.name}"]
    assert os.listdir(tmp_path) == ["places.json"]


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".places.json.new").write_text("a half")
    write_json(tmp_path / "places.json", 1)
    assert os.listdir(tmp_path) == ["places.json"]


def test_a_text_is_whole_before_it_has_its_name(tmp_path: Path, steps: list[str]) -> None:
    write_text(tmp_path / "a.json", "text")
    assert (tmp_path / "a.json").read_text() == "text"
    assert [step.split(" .a.json-")[0] for step in steps] == ["fsync", "replace"]


@pytest.mark.parametrize("write", [lambda path: write_json(path, 2), lambda path: write_text(path, "2")])
def test_one_that_can_not_take_its_place_leaves_nothing(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "places.json").mkdir()
    with pytest.raises((WriteFailed, OSError), match="Is a directory"):
        write(tmp_path / "places.json")
    assert os.listdir(tmp_path) == ["places.json"]


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    write_json(tmp_path / "a.json", 1)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, json.dumps("x" * (64 << 10)).encode()])
def test_what_is_no_such_file_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UNREADABLE):
        read_json(tmp_path / "a.json")
    with pytest.raises(UNREADABLE):
        read_json(tmp_path / "none.json")
