"""What `./control pack` refuses. What it makes: tests/system/test_pack.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from updater.packaging.pack import main


def test_wheels_that_are_missing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wheels").mkdir()
    code = main(["--wheels", str(tmp_path / "wheels"), "--out", str(tmp_path / "out")])
    assert code == 1
    assert "can't get what requirements.lock lists: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--with", "signatures"],
            "PyNaCl is made for one kind of machine; name that by --arch, or take a",
        ),
        (["--with", "web,page"], "there is no part page; known: web, signatures"),
        (["--arch", "x86_64"], "--arch x86_64: expected one of linux_amd64, linux_arm64"),
        (["--arch", "linux_arm64", "--python", "py"], "leave out --arch, or the Python"),
    ],
)
def test_parts_that_can_not_be_had_are_named(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
