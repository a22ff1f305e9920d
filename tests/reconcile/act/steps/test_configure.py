"""Delivering a config: into a tree that is not in use, or beside the file of the one that is."""

from __future__ import annotations

import os
import stat

import pytest

from probes.observed import STAGED_CONFIG
from reconcile.act.steps.configure import configure
from reconcile.decide.actions import Configure, Result
from reconcile.errors import FetchFailed, ReconcileError
from tests.yard import Yard

CONTENT = b'{"greeting": "hello"}'


def action(directory: str | None = None, digest: str = "sha256:1") -> Configure:
    return Configure(name="cfg.json", digest=digest, directory=directory)


def test_a_tree_that_is_not_in_use_gets_its_file(yard: Yard) -> None:
    tree = yard.put("1.0.0", in_use=False, extra={"cfg.json": b"of the tarball"})
    assert configure(action("1.0.0"), yard.tools(contents={"sha256:1": CONTENT})) is Result.DONE
    assert (tree / "cfg.json").read_bytes() == CONTENT
    assert stat.S_IMODE((tree / "cfg.json").stat().st_mode) == 0o644


def test_the_version_in_use_keeps_its_file_until_the_switch(yard: Yard) -> None:
    tree = yard.put("1.0.0", extra={"cfg.json": b"old"})
    assert configure(action(), yard.tools(contents={"sha256:1": CONTENT})) is Result.DONE
    assert (tree / "cfg.json").read_bytes() == b"old"
    assert (yard.home() / STAGED_CONFIG).read_bytes() == CONTENT


def test_permissions_that_an_operator_narrowed_stay_narrow(yard: Yard) -> None:
    tree = yard.put("1.0.0", extra={"cfg.json": b"old"})
    (tree / "cfg.json").chmod(0o600)
    configure(action(), yard.tools(contents={"sha256:1": CONTENT}))
    assert stat.S_IMODE((yard.home() / STAGED_CONFIG).stat().st_mode) == 0o600


def test_they_stay_narrow_in_the_next_version_too(yard: Yard) -> None:
    (yard.put("1.0.0", extra={"cfg.json": b"old"}) / "cfg.json").chmod(0o600)
    tree = yard.put("2.0.0", in_use=False)
    configure(action("2.0.0"), yard.tools(contents={"sha256:1": CONTENT}))
    assert stat.S_IMODE((tree / "cfg.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("in_the_way", ["nothing", "a link", "a directory"])
def test_a_file_that_is_new_is_readable_by_all(yard: Yard, in_the_way: str) -> None:
    tree = yard.put("1.0.0")
    if in_the_way == "a link":
        (tree / "cfg.json").symlink_to("/etc/shadow")
    elif in_the_way == "a directory":
        (tree / "cfg.json").mkdir(mode=0o700)
    configure(action(), yard.tools(contents={"sha256:1": CONTENT}))
    assert stat.S_IMODE((yard.home() / STAGED_CONFIG).stat().st_mode) == 0o644


def test_a_link_in_its_place_is_replaced_and_not_followed(yard: Yard) -> None:
    tree = yard.put("1.0.0", in_use=False)
    precious = yard.folder / "precious"
    precious.write_text("precious")
    (tree / "cfg.json").symlink_to(precious)
    configure(action("1.0.0"), yard.tools(contents={"sha256:1": CONTENT}))
    assert precious.read_text() == "precious"
    assert (tree / "cfg.json").read_bytes() == CONTENT
    assert not (tree / "cfg.json").is_symlink()


def test_a_staged_file_of_an_earlier_run_is_written_over(yard: Yard) -> None:
    yard.put("1.0.0")
    (yard.home() / STAGED_CONFIG).write_text("old")
    configure(action(), yard.tools(contents={"sha256:1": CONTENT}))
    assert (yard.home() / STAGED_CONFIG).read_bytes() == CONTENT


def test_bytes_that_are_not_at_hand(yard: Yard) -> None:
    yard.put("1.0.0")
    with pytest.raises(FetchFailed, match="the next pass fetches them"):
        configure(action(digest="sha256:2"), yard.tools(contents={"sha256:1": CONTENT}))
    assert STAGED_CONFIG not in os.listdir(yard.home())


def test_a_tree_that_is_gone(yard: Yard) -> None:
    yard.put("1.0.0")
    with pytest.raises(ReconcileError, match=r"9\.9\.9"):
        configure(action("9.9.9"), yard.tools(contents={"sha256:1": CONTENT}))
