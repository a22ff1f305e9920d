"""`check` of the updater itself: its Python and packages, its folder, the room that it has, proxies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.updater.check.findings import HUGE, SMALL, found
from tests.updater.conftest import CODE, Folder
from updater.check import installation
from updater.check.subject import CheckState

NOW = (sys.version_info[0], sys.version_info[1])


def states(folder: Folder, about: str) -> list[CheckState]:
    return [one.state for one in found(folder, about, offline=True)]


# Python


def in_venv(folder: Folder, venv: Path) -> list[dict[str, str]]:
    """What `check`, run in that venv, says that is bad of its Python."""
    config = str(folder.path / "cfg.json")
    command = [str(venv / "bin/python"), "-m", "updater", "-c", config, "check", "--offline", "-o", "json"]
    ran = subprocess.run(command, cwd=CODE, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    checks = json.loads(ran.stdout)["checks"]
    return [one for one in checks if one["about"] == "python" and one["state"] == "bad"]


def test_a_venv_whose_python_changed_beneath_it_is_bad(folder: Folder, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    libraries = venv / f"lib/python{NOW[0]}.{NOW[1]}/site-packages"
    (libraries / "packages.pth").write_text(sysconfig.get_path("purelib"))
    assert in_venv(folder, venv) == []
    config = venv / "pyvenv.cfg"
    lines = config.read_text().splitlines()
    config.write_text("\n".join("version = 3.4.1" if line.startswith("version") else line for line in lines))
    [old] = in_venv(folder, venv)
    assert f"was made for Python 3.4.1, and {NOW[0]}.{NOW[1]} runs in it" in old["message"]
    assert "./control setup" in old["remedy"]


def test_a_venv_whose_python_is_gone_is_bad(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}\nversion = {NOW[0]}.{NOW[1]}.0\n")
    assert list(installation._flaws(tmp_path, NOW)) == []
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}/gone\nversion = {NOW[0]}.{NOW[1]}.0\n")
    [flaw] = installation._flaws(tmp_path, NOW)
    assert flaw.state is CheckState.BAD
    assert "gone, which is gone" in flaw.message


def test_a_missing_package_is_bad(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CheckState.BAD not in states(folder, "python")
    monkeypatch.setitem(sys.modules, "h11", None)
    [flaw] = found(folder, "python", CheckState.BAD, offline=True)
    assert (flaw.message, flaw.remedy) == ("packages are missing: h11", "make it whole: `./control setup`")


def test_a_python_without_security_fixes_is_noted(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(installation._MENDED_UNTIL, NOW, "2999-12")
    assert states(folder, "python") == [CheckState.GOOD]
    monkeypatch.setitem(installation._MENDED_UNTIL, NOW, "2020-01")
    assert states(folder, "python") == [CheckState.NOTE]


def test_the_modules_are_those_of_the_lock() -> None:
    locked = {line.split("==")[0] for line in (CODE / "requirements.lock").read_text().splitlines() if "==" in line}
    modules = {name.replace("-", "_").replace("_py", "") for name in locked}
    # Of Python before 3.11, of Windows, and what is not relied on.
    assert modules - set(installation._MODULES) <= {"isal", "exceptiongroup", "sniffio", "colorama", "win32_setctime"}
    assert set(installation._MODULES) <= modules


# Its folder and its disk


def test_var_that_can_be_made_or_written_is_good(folder: Folder) -> None:
    [fine] = found(folder, "folders", CheckState.GOOD)
    assert fine.message == f"{folder.var} can be made"
    folder.var.mkdir()
    [fine] = found(folder, "folders", CheckState.GOOD)
    assert fine.message == f"{folder.var} can be written"


def test_var_that_is_no_folder_is_bad(folder: Folder) -> None:
    folder.var.write_text("")
    [flaw] = found(folder, "folders", CheckState.BAD)
    assert flaw.message == f"{folder.var} is not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; as another user in tests/system")
@pytest.mark.parametrize("made", [False, True])
def test_var_that_can_t_be_written_is_bad(folder: Folder, made: bool) -> None:
    (folder.var if made else folder.path).mkdir(exist_ok=True)
    at = folder.var if made else folder.path
    at.chmod(0o500)
    try:
        [flaw] = found(folder, "folders", CheckState.BAD)
    finally:
        at.chmod(0o700)
    assert flaw.remedy.endswith(str(at))


def test_a_memory_that_can_t_be_read_is_bad(folder: Folder) -> None:
    folder.var.mkdir(mode=0o700)
    (folder.var / "state.db").write_bytes(b"this is no database" * 100)
    [flaw] = found(folder, "folders", CheckState.BAD)
    assert "state.db" in flaw.message
    assert "StateSetAside" in flaw.remedy


@pytest.mark.parametrize(
    ("key", "state"), [("", CheckState.GOOD), ("max_tarball", CheckState.BAD), ("cache_size", CheckState.NOTE)], ids=str
)
def test_the_room_of_the_cache(folder: Folder, key: str, state: CheckState) -> None:
    folder.configure(**{**SMALL, **({key: HUGE} if key else {})})
    [one] = found(folder, "disk")
    assert one.state is state
    assert key in one.message
    assert bool(one.remedy) == bool(key)


def test_what_is_cached_counts_as_room_since_it_gives_way(folder: Folder) -> None:
    cache = folder.var / "cache"
    cache.mkdir(parents=True)
    (cache / "one").write_bytes(b"x" * 5000)
    assert installation._cached(cache) == 5000
    assert installation._cached(cache / "nowhere") == 0


# Proxies


def test_proxies_of_the_environment_are_noted_without_their_secrets(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch.delenv)
    assert states(folder, "proxy") == [CheckState.GOOD]
    monkeypatch.setenv("HTTPS_PROXY", "http://me:canary@proxy.example.com:3128")
    monkeypatch.setenv("all_proxy", "other.example.com:1080")
    [note] = found(folder, "proxy", CheckState.NOTE, offline=True)
    assert "https_proxy (http://proxy.example.com:3128), all_proxy (http://other.example.com:1080)" in note.message
    assert "canary" not in note.message
    folder.configure(proxy="http://me:canary@proxy.example.com:3128")
    [fine] = found(folder, "proxy", CheckState.GOOD, offline=True)
    assert fine.message == "requests go through http://proxy.example.com:3128, as the config says"


def clear(delete: Callable[..., None]) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        delete(name, raising=False)
        delete(name.upper(), raising=False)
