"""Whose a home is. With homes of two users, which takes root: tests/system/test_hand_over.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.errors import HandOverRefused
from probes.host.facts import own_user
from probes.host.owners import STRANGER, only_made_by, open_for_exchange, open_ours, owner_of, why_no_exchange
from probes.observed import Place

OWN = own_user().name


def test_a_directory_has_an_owner_and_nothing_else_has(tmp_path: Path) -> None:
    assert owner_of(str(tmp_path)) == os.geteuid()
    assert owner_of(str(tmp_path / "missing")) is None
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert {owner_of(str(tmp_path / name)) for name in ("link", "file", "file/below")} == {STRANGER}


def test_a_way_that_others_can_change_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(HandOverRefused, match="link" if os.geteuid() == 0 else "is not root's"):
        open_ours(str(tmp_path / "link"), HandOverRefused)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(HandOverRefused, match="is not root's, or others can write to it"):
        open_ours(str(tmp_path / "shared"), HandOverRefused)
    os.close(open_ours("/", HandOverRefused))


def test_who_can_be_quicker_than_we(tmp_path: Path) -> None:
    ours, sticky = tmp_path / "ours", tmp_path / "sticky"
    for folder, mode in ((ours, 0o755), (sticky, 0o1777)):
        folder.mkdir()
        folder.chmod(mode)
    (tmp_path / "link").symlink_to(ours)
    uid = os.geteuid()
    quicker = {
        name: not only_made_by(str(tmp_path / name), uid) for name in ("ours/a", "ours/b/a", "sticky/a", "link/a")
    }
    assert quicker == {"ours/a": False, "ours/b/a": False, "sticky/a": True, "link/a": True}
    assert only_made_by(str(ours / "a"), 12345) is (uid == 0), "root may always"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_exchanges_homes(tmp_path: Path) -> None:
    place = Place(name="a", work_dir=str(tmp_path), run_user=OWN, beside="other")
    assert "does not run as root" in why_no_exchange(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_root_looks_at_both_homes(tmp_path: Path) -> None:
    place = Place(
        name="a", work_dir=str(tmp_path), run_user=OWN, beside=OWN
    )  # as root's own; of two users: tests/system
    assert why_no_exchange(place) == f"{tmp_path}/a is not {OWN}'s own directory"
    (tmp_path / "a").mkdir()
    os.close(open_for_exchange(place))
    Path(place.path).touch()
    assert why_no_exchange(place) == f"{place.path} is in the way: it is not {OWN}'s directory"
    Path(place.path).unlink()
    Path(place.path).symlink_to(tmp_path / "a")
    assert "is in the way" in why_no_exchange(place)
    Path(place.path).unlink()
    tmp_path.chmod(0o1777)
    assert why_no_exchange(place) == f"others can write to {tmp_path}"
    unknown = Place(name="a", work_dir=str(tmp_path), run_user="no-such-user", beside=OWN)
    assert "'no-such-user' does not exist" in why_no_exchange(unknown)
