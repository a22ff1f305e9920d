"""Hints name what there is, however the updater was installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.host.own_installation import get_part, make_whole


@pytest.mark.parametrize(
    ("folder", "part", "whole"),
    [
        ("checkout", "run `./control setup --with web`", "`./control setup`"),
        (
            *("pack/updater-lib", "take a pack with it, which `./control pack --with web` makes in a checkout"),
            "unpack the pack once more",
        ),
        ("venv/site-packages", "install `ops-updater[web]`", "install ops-updater once more"),
    ],
)
def test_a_hint_names_what_there_is(folder: str, part: str, whole: str, tmp_path: Path) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    for beside in (tmp_path / "checkout", tmp_path / "pack"):
        beside.mkdir(exist_ok=True)
        (beside / "control").touch()
    assert (get_part("web", path), make_whole(path)) == (part, whole)
