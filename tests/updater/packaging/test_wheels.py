"""What is asked of pip, and what a pack takes of a wheel. Real wheels: tests/system/test_pack.py."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from updater.packaging.wheels import PackImpossible, dependencies, named_requirements, pure_requirements

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()


def test_what_is_asked_of_pip_is_the_lock_without_markers() -> None:
    asked = pure_requirements(LOCK)
    assert ";" not in asked
    assert "exceptiongroup==" in asked  # for 3.10, whatever Python packs
    assert "win32" not in asked
    assert "colorama" not in asked
    pins = set(re.findall(r"^[\w-]+==\S+", asked, re.MULTILINE))
    of_a_machine = set(re.findall(r"^([\w-]+==\S+) ; [^\n]*platform", LOCK, re.MULTILINE))
    assert pins == set(re.findall(r"^[\w-]+==\S+", LOCK, re.MULTILINE)) - of_a_machine
    assert {pin.partition("==")[0] for pin in of_a_machine} == {"colorama", "isal", "win32-setctime"}
    hashes = re.findall(r"sha256:\w+", asked)
    assert len(pins) <= len(hashes)
    assert set(hashes) <= set(re.findall(r"sha256:\w+", LOCK))


def test_what_is_compiled_is_asked_for_by_name_and_hash() -> None:
    lock = (ROOT / "requirements-signatures.lock").read_text()
    asked = named_requirements(lock, ("cffi", "pynacl"))
    assert re.findall(r"^([\w-]+)==[\d.]+ \\$", asked, re.MULTILINE) == ["cffi", "pynacl"]
    assert len(re.findall(r"sha256:\w+", asked)) > 50
    assert ";" not in asked
    assert named_requirements(lock, ()) == ""


def wheel(folder: Path, name: str, **members: str) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member in ("pkg/__init__.py", "pkg-1.dist-info/METADATA", "pkg-1.dist-info/licenses/LICENSE"):
            archive.writestr(member, "x")
        for member in ("pkg-1.dist-info/RECORD", "pkg-1.dist-info/WHEEL", "pkg-1.data/scripts/pkg"):
            archive.writestr(member, name)
        for member, content in members.items():
            archive.writestr(f"pkg/{member}", content)
    return folder


def test_a_wheel_brings_its_code_and_licence_and_nothing_for_installers(tmp_path: Path) -> None:
    folder = wheel(tmp_path, "pkg-1-py3-none-any.whl")
    assert [item.name.removeprefix("updater-lib/") for item in dependencies([folder])] == [
        *("pkg/__init__.py", "pkg-1.dist-info/METADATA", "pkg-1.dist-info/licenses/LICENSE")
    ]


def test_a_wheel_for_one_kind_of_host_is_refused(tmp_path: Path) -> None:
    folder = wheel(tmp_path, "pkg-1-cp311-cp311-linux_x86_64.whl")
    with pytest.raises(PackImpossible, match="not pure Python"):
        list(dependencies([folder]))


def test_compiled_modules_of_several_pythons_lie_side_by_side(tmp_path: Path) -> None:
    folders = [
        wheel(tmp_path / minor, f"pkg-1-cp{minor}-cp{minor}-linux_x86_64.whl", **{f"fast.cpython-{minor}.so": minor})
        for minor in ("311", "313")
    ]
    found = {item.name: item.content for item in dependencies(folders, of_one_kind=True)}
    assert found["updater-lib/pkg/fast.cpython-311.so"] == b"311"
    assert found["updater-lib/pkg/fast.cpython-313.so"] == b"313"
    assert found["updater-lib/pkg/__init__.py"] == b"x"


def test_wheels_that_differ_in_more_than_that_are_refused(tmp_path: Path) -> None:
    folders = [
        wheel(tmp_path / minor, f"pkg-1-cp{minor}-cp{minor}-linux_x86_64.whl", **{"util.py": minor})
        for minor in ("311", "313")
    ]
    with pytest.raises(PackImpossible, match=r"pkg-1-cp313-.* has another pkg/util\.py than that of another Python"):
        list(dependencies(folders, of_one_kind=True))
