"""Who else can write the config and `var/`: real modes and links; owners as far as this test may change them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve

from probes.host import trusted_path
from probes.host.trusted_path import WritablePath
from reconcile.decide import target
from updater.settings import preflight
from updater.settings.config import Config, load
from updater.settings.preflight import FolderUnusable, code, loose, refuse_loose

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
EUID, EGID = os.geteuid(), os.getegid()
OTHER = 65534  # nobody, on every host


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A config that is closed to others, with its `var/`; the folders above are those of pytest, closed too."""
    folder = tmp_path / "ops-updater"
    (folder / "var").mkdir(parents=True)
    for path, mode in ((tmp_path, 0o755), (folder, 0o755), (folder / "var", 0o700)):
        path.chmod(mode)
    (folder / "cfg.json").write_text('{"server": "m:1"}')
    (folder / "cfg.json").chmod(0o644)
    return load(folder / "cfg.json")


def flaws(config: Config, *, euid: int = EUID, egid: int = EGID) -> list[WritablePath]:
    return list(loose(config, euid, egid))


def test_what_is_closed_is_fine(config: Config) -> None:
    assert flaws(config) == []
    refuse_loose(config)


@pytest.mark.parametrize("which", ["cfg.json", ".", "var", ".."])
def test_what_everybody_can_write(config: Config, which: str) -> None:
    path = (config.folder / which).resolve()
    path.chmod(path.stat().st_mode | 0o002)
    [flaw] = flaws(config)
    assert (flaw.message, flaw.remedy) == (f"{path} can be written by everybody", f"chmod o-w {path}")


def test_a_sticky_folder_above_is_fine_and_as_our_own_it_is_not(config: Config) -> None:
    config.folder.parent.chmod(0o1777)
    assert flaws(config) == []
    config.var.chmod(0o1777)
    assert [flaw.path for flaw in flaws(config)] == [config.var.resolve()]


def test_our_own_group_is_no_other(config: Config) -> None:
    config.path.chmod(0o664)
    assert flaws(config) == []


def test_where_a_link_leads_counts_too(config: Config, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config.path.rename(elsewhere / "real.json")
    config.path.symlink_to(elsewhere / "real.json")
    assert flaws(config) == []
    elsewhere.chmod(0o777)
    assert [flaw.path for flaw in flaws(config)] == [elsewhere.resolve()]
    elsewhere.chmod(0o755)
    config.folder.chmod(0o777)
    assert [flaw.path for flaw in flaws(config)] == [config.folder.resolve()]


@pytest.mark.parametrize("key", ["desired", "ca_file"])
def test_a_file_that_decides_what_is_done_counts_too(config: Config, tmp_path: Path, key: str) -> None:
    named = tmp_path / "elsewhere/named"
    named.parent.mkdir(mode=0o755)
    named.touch(mode=0o644)
    config = (
        evolve(config, desired=named) if key == "desired" else evolve(config, tls=evolve(config.tls, ca_file=named))
    )
    assert flaws(config) == []
    named.chmod(0o666)
    assert [flaw.path for flaw in flaws(config)] == [named.resolve()]
    assert flaws(evolve(config, desired="http://m/desired.json", tls=evolve(config.tls, ca_file=None))) == []


def test_what_is_not_there_yet_is_no_flaw(config: Config) -> None:
    config.var.rmdir()
    assert flaws(config) == []


@ROOT_ONLY
@pytest.mark.parametrize("which", ["cfg.json", "var", "."])
def test_as_root_nothing_may_belong_to_another_user(config: Config, which: str) -> None:
    path = (config.folder / which).resolve()
    os.chown(path, OTHER, 0)
    assert [flaw.message for flaw in flaws(config)] == [f"{path} belongs to user {OTHER}"]
    with pytest.raises(FolderUnusable, match=f"is refused: .* belongs to user {OTHER}: chown root "):
        refuse_loose(config)
    assert flaws(config, euid=1000) == [], "another user's updater may have its config from whom it likes"


@ROOT_ONLY
def test_as_root_a_group_that_is_not_roots_may_not_write(config: Config) -> None:
    os.chown(config.path, 0, OTHER)
    config.path.chmod(0o664)
    with pytest.raises(FolderUnusable, match=f"can be written by group {OTHER}: chmod g-w "):
        refuse_loose(config)


def test_the_code_counts_too(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that modules are looked for in, what lies in a folder of packages, and the interpreter."""
    packages = tmp_path / "lib" / "site-packages"
    (packages / "httpx").mkdir(parents=True)
    interpreter = tmp_path / "python"
    interpreter.touch(mode=0o755)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.syspath_prepend(tmp_path / "not there" / "site-packages")
    monkeypatch.setattr("sys.executable", str(interpreter))
    assert flaws(config) == []
    for path in (packages, packages / "httpx", interpreter):
        path.chmod(path.stat().st_mode | 0o002)
        assert [flaw.path for flaw in flaws(config)] == [path.resolve()]
        path.chmod(path.stat().st_mode & ~0o002)


def test_all_of_our_own_packages_is_looked_at() -> None:
    looked_at = set(map(Path, code()))
    for module in (preflight, trusted_path, target):
        assert Path(module.__file__ or "") in looked_at


@ROOT_ONLY
def test_as_root_a_copy_that_a_user_made_is_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cp -r` leaves it: all files are that user's. The first few are named."""
    packages = tmp_path / "site-packages"
    for name in ("a", "b", "c", "d", "e", "f"):
        (packages / name).mkdir(parents=True)
        os.chown(packages / name, OTHER, 0)
    monkeypatch.syspath_prepend(packages)
    with pytest.raises(FolderUnusable, match=r"a belongs to user 65534: chown root .*/a; .*; and 1 more, which `upda"):
        refuse_loose(config)
