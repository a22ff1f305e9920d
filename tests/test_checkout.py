"""What a developer's task needs before nox runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.checkout import MINORS, _minor_of, _others_can_write, _session_words, pythons
from updater.packaging.environment import SetupFailed


@pytest.mark.parametrize(
    ("typed", "nox"),
    [
        ("test", "lint types tests --"),
        ("test tests/e2e -x", "lint types tests -- tests/e2e -x"),
        ("test --quick -x", "lint types quick -- -x"),
        ("bench --json P1", "bench -- --json P1"),
        ("dist --out here", "dist -- --out here"),
        ("prove", "prove --"),
        ("prove soak --passes 3", "prove -- soak --passes 3"),
    ],
)
def test_each_verb_is_sessions_of_nox_and_their_arguments(typed: str, nox: str) -> None:
    verb, *words = typed.split()
    assert " ".join(_session_words(verb, words)) == nox


def test_an_unknown_harness_is_a_usage_error() -> None:
    with pytest.raises(SetupFailed, match=r"prove knows crash, hostile, soak and mutants \(got: it\)") as refused:
        _session_words("prove", ["it"])
    assert refused.value.code == 64


def test_system_tests_are_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupFailed, match="run it as root"):
        _session_words("test", ["--system"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _session_words("test", ["--system", "-x"]) == ("system", "--", "-x")


def test_pythons_are_those_that_run_and_can_make_venvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (("python3.11", "echo 3 11"), ("python3.12", "exit 1"), ("python3", "echo 3 6")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    own = {sys.version_info.minor: sys.executable}
    found = pythons()
    assert found | {11: str(tmp_path / "python3.11")} | own == found
    assert set(found) <= set(MINORS)
    assert _minor_of(str(tmp_path / "python3.12")) == 0
    assert _minor_of(sys.executable) == sys.version_info.minor


@pytest.mark.system
def test_root_sees_code_that_others_can_write(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    (folder / "updater").mkdir(parents=True)
    module = folder / "updater" / "cli.py"
    module.touch()
    (folder / "link").symlink_to("/tmp")
    assert not _others_can_write(folder)
    for path in (module, folder / "updater", folder, tmp_path):
        mode = path.stat().st_mode
        path.chmod(0o777)
        assert _others_can_write(folder), path
        path.chmod(mode)
    os.chown(module, 1000, 1000)
    assert _others_can_write(folder)
    module.unlink()
    for name in (".git", ".venv", ".venv-test", "var"):  # what is no code of ours
        (folder / name).mkdir(mode=0o777)
        (folder / name / "cli.py").touch(mode=0o777)
        (folder / name / "cli.py").chmod(0o777)
    assert not _others_can_write(folder)
