"""Removing what nothing needs: names of our own alone."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest

from probes.observed import MARKER
from reconcile.act.steps.prune import prune
from reconcile.decide.actions import Prune, Result
from reconcile.errors import WorkDirMissing, WriteFailed
from tests.yard import Yard


def test_leftovers_and_displaced_trees_go(yard: Yard) -> None:
    yard.put("1.0.0")
    yard.put("1.0.0", directory=".previous-1.0.0", in_use=False)
    yard.put("1.0.0", directory=".next-1.0.0", in_use=False)
    (yard.home() / ".stage-1").mkdir()
    (yard.home() / ".stage-config").touch()
    names = (".next-1.0.0", ".previous-1.0.0", ".stage-1", ".stage-config")
    assert prune(Prune(names=names), yard.tools()) is Result.DONE
    assert sorted(os.listdir(yard.home())) == [".version", "1.0.0"]


def test_what_is_gone_already_is_no_failure(yard: Yard) -> None:
    yard.put("1.0.0")
    assert prune(Prune(names=(".stage-1",)), yard.tools()) is Result.UNCHANGED


@pytest.mark.parametrize("name", ["1.0.0", "app.log", "..", "../other", ""])
def test_what_is_not_ours_is_never_removed_and_keeps_nothing_else(yard: Yard, name: str) -> None:
    yard.put("1.0.0")
    (yard.home() / ".stage-1").mkdir()
    (yard.home() / "app.log").touch()
    (yard.work / "other").mkdir()
    with pytest.raises(WriteFailed, match="not the updater's"):
        prune(Prune(names=(".stage-1", name)), yard.tools())
    assert sorted(os.listdir(yard.home())) == [".version", "1.0.0", "app.log"]
    assert (yard.work / "other").exists()
    assert (yard.home() / "1.0.0" / "control").exists()


def test_what_could_not_be_removed_before_is_tried_again_without_a_word(yard: Yard) -> None:
    yard.put("1.0.0")
    (yard.home() / "app.log").touch()
    (yard.home() / ".stage-1").mkdir()
    with pytest.raises(WriteFailed, match=r"'app\.log' .* \(and 1 more\); .*remove it by hand"):
        prune(Prune(names=("app.log", "1.0.0")), yard.tools())
    yard.put("0.9.0", in_use=False)
    assert prune(Prune(names=("0.9.0",), again=("app.log", ".stage-1")), yard.tools()) is Result.DONE
    assert sorted(os.listdir(yard.home())) == [".version", "1.0.0", "app.log"]


@pytest.mark.parametrize("name", [".next-../../victim", ".stage-/../../victim", ".previous-1/../1.0.0"])
def test_a_path_behind_one_of_our_prefixes_leads_nowhere(yard: Yard, name: str) -> None:
    yard.put("1.0.0")
    victim = yard.folder / "victim"
    victim.mkdir()
    (yard.home() / ".next-..").mkdir()
    (yard.home() / ".stage-").mkdir()
    (yard.home() / ".previous-1").mkdir()
    with suppress(WriteFailed):
        prune(Prune(names=(name,)), yard.tools())
    assert victim.exists()
    assert (yard.home() / "1.0.0" / "control").exists()


def test_a_version_that_nothing_needs_goes(yard: Yard) -> None:
    yard.put("1.0.0")
    yard.put("0.9.0", in_use=False)
    assert prune(Prune(names=("0.9.0", "0.8.0")), yard.tools()) is Result.DONE
    assert sorted(os.listdir(yard.home())) == [".version", "1.0.0"]


def test_what_an_interruption_leaves_of_a_version_is_a_leftover(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a version without a marker, which would pass for a person's and stay for ever."""
    yard.put("1.0.0")
    yard.put("0.9.0", in_use=False)

    def fail(name: str, **keys: int) -> None:
        raise OSError(errno.EIO, "as if the disk broke")

    tools = yard.tools()
    with monkeypatch.context() as broken:
        broken.setattr(os, "rmdir", fail)
        with pytest.raises(WriteFailed):
            prune(Prune(names=("0.9.0",)), tools)
    assert yard.look().leftovers == {".stage-old-0.9.0"}
    assert "0.9.0" not in os.listdir(yard.home())


@pytest.mark.parametrize("why", ["in use", "unmarked", "a file", "a link"])
def test_a_version_that_is_in_use_or_not_ours_stays(yard: Yard, why: str) -> None:
    yard.put("1.0.0")
    yard.put("0.9.0", in_use=why == "in use")
    path = yard.home() / "0.9.0"
    if why == "unmarked":
        (path / MARKER).unlink()
    elif why in ("a file", "a link"):
        path.rename(yard.folder / "elsewhere")
        path.touch() if why == "a file" else path.symlink_to(yard.folder / "elsewhere")
    with pytest.raises(WriteFailed, match=r"'0\.9\.0' in .* is in use or not the updater's; it is not removed"):
        prune(Prune(names=("0.9.0",)), yard.tools())
    assert os.path.lexists(path)
    if why == "a link":
        assert (yard.folder / "elsewhere" / "control").exists()


def test_a_link_is_removed_and_not_what_it_points_to(yard: Yard) -> None:
    yard.put("1.0.0")
    (yard.home() / ".stage-1").symlink_to(yard.home() / "1.0.0")
    prune(Prune(names=(".stage-1",)), yard.tools())
    assert not os.path.lexists(yard.home() / ".stage-1")
    assert (yard.home() / "1.0.0" / "control").exists()


def test_a_home_that_is_gone(yard: Yard) -> None:
    with pytest.raises(WorkDirMissing):
        prune(Prune(names=(".stage-1",)), yard.tools())
