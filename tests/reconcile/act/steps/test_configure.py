"""Delivering a config: into a tree that is not in use, or beside the file of the one that is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.host.paths import AgentHome
from probes.observed import PREVIOUS_CONFIG, STAGED_CONFIG
from reconcile.act.home_ops import switch_config
from reconcile.act.steps.configure import configure
from reconcile.decide.actions import Configure, Result
from reconcile.errors import FetchFailed, ReconcileError, SignatureInvalid, WriteFailed
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


@pytest.mark.parametrize("directory", [None, "1.0.0"])
@pytest.mark.parametrize("mode", [0o755, 0o700, 0o654, 0o645])
def test_a_config_is_never_executable(yard: Yard, directory: str | None, mode: int) -> None:
    tree = yard.put("1.0.0", extra={"cfg.json": b"old"})
    (tree / "cfg.json").chmod(mode)
    configure(action(directory), yard.tools(contents={"sha256:1": CONTENT}))
    written = tree / "cfg.json" if directory else yard.home() / STAGED_CONFIG
    assert written.read_bytes() == CONTENT
    assert stat.S_IMODE(written.stat().st_mode) == mode & 0o666


def executable(path: Path) -> None:
    path.write_bytes(b"binary")
    path.chmod(0o755)


def executable_for_others(path: Path) -> None:
    path.write_bytes(b"binary")
    path.chmod(0o645)


def script_for_an_interpreter(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n")


def library(path: Path) -> None:
    path.write_bytes(b"\x7fELF and so on")


def link_to_a_program(path: Path) -> None:
    path.symlink_to("control")


def link_to_a_data_file(path: Path) -> None:
    path.symlink_to("agent.py")


def hard_link_to_a_program(path: Path) -> None:
    path.hardlink_to(path.with_name("control"))


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "member",
    [
        executable,
        executable_for_others,
        script_for_an_interpreter,
        library,
        link_to_a_program,
        link_to_a_data_file,
        hard_link_to_a_program,
        folder,
        fifo,
    ],
)
@pytest.mark.parametrize("directory", [None, "1.0.0"])
def test_where_signatures_are_asked_for_nothing_but_a_plain_file_is_replaced(
    yard: Yard, directory: str | None, member: Callable[[Path], None]
) -> None:
    tree = yard.put("1.0.0")
    member(tree / "cfg.json")
    before = os.lstat(tree / "cfg.json")
    with pytest.raises(SignatureInvalid, match=r"cfg\.json would take the place of a program"):
        configure(action(directory), yard.tools(contents={"sha256:1": CONTENT}, signed=True))
    assert os.path.samestat(os.lstat(tree / "cfg.json"), before)
    assert STAGED_CONFIG not in os.listdir(yard.home())


@pytest.mark.parametrize("directory", [None, "1.0.0"])
@pytest.mark.parametrize("extra", [{}, {"cfg.json": b"of the tarball"}])
def test_where_signatures_are_asked_for_a_data_file_is_delivered(
    yard: Yard, directory: str | None, extra: dict[str, bytes]
) -> None:
    tree = yard.put("1.0.0", extra=extra)
    for member in extra:
        (tree / member).chmod(0o640)
    assert configure(action(directory), yard.tools(contents={"sha256:1": CONTENT}, signed=True)) is Result.DONE
    written = tree / "cfg.json" if directory else yard.home() / STAGED_CONFIG
    assert written.read_bytes() == CONTENT


def test_a_staged_file_of_an_earlier_run_is_written_over(yard: Yard) -> None:
    yard.put("1.0.0")
    (yard.home() / STAGED_CONFIG).write_text("old")
    configure(action(), yard.tools(contents={"sha256:1": CONTENT}))
    assert (yard.home() / STAGED_CONFIG).read_bytes() == CONTENT


def test_a_folder_in_the_place_of_a_staged_file_is_moved_away(yard: Yard) -> None:
    yard.put("1.0.0", extra={"cfg.json": b"old"})
    (yard.home() / STAGED_CONFIG / "inner").mkdir(parents=True)
    configure(action(), yard.tools(contents={"sha256:1": CONTENT}))
    assert (yard.home() / STAGED_CONFIG).read_bytes() == CONTENT


def test_where_there_is_no_home_there_are_no_bytes_whatever_lies_here(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PREVIOUS_CONFIG).write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    with pytest.raises(FetchFailed, match="are not at hand"):
        configure(action(digest=digest), yard.tools())


def test_bytes_that_are_not_at_hand(yard: Yard) -> None:
    yard.put("1.0.0")
    with pytest.raises(FetchFailed, match="the next pass fetches them"):
        configure(action(digest="sha256:2"), yard.tools(contents={"sha256:1": CONTENT}))
    assert STAGED_CONFIG not in os.listdir(yard.home())


def test_a_tree_that_is_gone(yard: Yard) -> None:
    yard.put("1.0.0")
    with pytest.raises(ReconcileError, match=r"9\.9\.9"):
        configure(action("9.9.9"), yard.tools(contents={"sha256:1": CONTENT}))


# Folders, and files that are empty


def nested(directory: str | None = None) -> Configure:
    return Configure(name="etc/app/cfg.json", digest="sha256:1", directory=directory)


def test_missing_folders_are_made_in_a_tree_that_is_not_in_use(yard: Yard) -> None:
    tree = yard.put("1.0.0", in_use=False, extra={"etc/other": b"stays"})
    assert configure(nested("1.0.0"), yard.tools(contents={"sha256:1": CONTENT})) is Result.DONE
    assert (tree / "etc/app/cfg.json").read_bytes() == CONTENT
    assert (tree / "etc/other").read_bytes() == b"stays"


def test_in_the_version_in_use_the_switch_puts_it_into_its_folder(yard: Yard) -> None:
    tree = yard.put("1.0.0", extra={"etc/app/cfg.json": b"old"})
    (tree / "etc/app/cfg.json").chmod(0o600)
    assert configure(nested(), yard.tools(contents={"sha256:1": CONTENT})) is Result.DONE
    assert (tree / "etc/app/cfg.json").read_bytes() == b"old"
    assert (yard.home() / PREVIOUS_CONFIG).read_bytes() == b"old"
    switch_config(AgentHome(yard.work, yard.home().name), "1.0.0", "etc/app/cfg.json")
    assert (tree / "etc/app/cfg.json").read_bytes() == CONTENT
    assert stat.S_IMODE((tree / "etc/app/cfg.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("directory", ["1.0.0", None], ids=["another version", "the one in use"])
@pytest.mark.parametrize("part", ["etc", "etc/app"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_or_a_file_on_the_way_is_refused_before_anything_is_touched(
    yard: Yard, directory: str | None, part: str, kind: str, tmp_path: Path
) -> None:
    tree = yard.put("1.0.0", in_use=directory is None, extra={"etc/other": b""})
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "app").mkdir(parents=True)
    if part == "etc":
        (tree / "etc/other").unlink()
        (tree / "etc").rmdir()
    if kind == "link":
        (tree / part).symlink_to(elsewhere)
    else:
        (tree / part).write_bytes(b"")
    with pytest.raises(WriteFailed, match=r"on the way to the config etc/app/cfg\.json is a link or no folder"):
        configure(nested(directory), yard.tools(contents={"sha256:1": CONTENT}))
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["app"]
    assert not (yard.home() / STAGED_CONFIG).exists()


def test_an_empty_file_is_a_file(yard: Yard) -> None:
    tree = yard.put("1.0.0", in_use=False)
    assert configure(action("1.0.0"), yard.tools(contents={"sha256:1": b""})) is Result.DONE
    assert (tree / "cfg.json").read_bytes() == b""
