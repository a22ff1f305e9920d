"""The sampler of small changes: what it changes, and that it finds what no test notices."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from tests.mutants.__main__ import PACKAGES, ROOT, share, try_sample
from tests.mutants.changes import Change, changes_of, enum_members, modules
from tests.mutants.runner import _reaching, copy_of

MODULE = '''"""Docstring."""
def worst(found: list[int], limit: int = 3) -> int:
    if found and limit > 2:
        found.sort()
        return found[-1]
    raise ValueError(f"{limit == 3}: none")
'''
NOTICES = """
from pkg.mod import worst

def test_it() -> None:
    assert worst([9, 1]) == 9
"""
OTHERS = """
from pkg.mod import worst

def test_one() -> None:
    assert worst([4]) == 4
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose test notices a part of the changes."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/mod.py").write_text(MODULE)
    (tmp_path / "tests/pkg").mkdir(parents=True)
    (tmp_path / "tests/pkg/test_mod.py").write_text(NOTICES)
    (tmp_path / "tests/pkg/test_others.py").write_text(OTHERS)
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\naddopts = --import-mode=importlib\npythonpath = .\n")
    return tmp_path


def test_what_is_changed() -> None:
    changes = changes_of("pkg/mod.py", MODULE.encode(), {})
    assert [str(change).removeprefix("pkg/mod.py:") for change in changes] == [
        "2: constant swapped: 3 -> 4",
        "3: operand limit > 2 dropped: found and limit > 2 -> ((found))",
        "3: operand found dropped: found and limit > 2 -> ((limit > 2))",
        "3: condition negated: found and limit > 2 -> not (found and limit > 2)",
        "3: comparison changed: limit > 2 -> ((limit) >= (2))",
        "3: constant swapped: 2 -> 3",
        "4: call skipped: found.sort() -> None",
        "5: constant swapped: 1 -> 2",
        '6: raise dropped: raise ValueError(f"{limit == 3}: none") -> pass',
    ]


def test_an_enum_s_member_is_swapped_for_another() -> None:
    [change] = changes_of("a.py", b"kind = Kind.ONE\n", {"Kind": ("ONE", "TWO")})
    assert change.applied(b"kind = Kind.ONE\n") == b"kind = Kind.TWO\n"


def test_each_change_of_the_product_is_python() -> None:
    members = enum_members(ROOT, PACKAGES)
    assert members["RunState"][:2] == ("START", "STOP")
    for path in random.Random(7).sample(modules(ROOT, PACKAGES), 12):
        source = (ROOT / path).read_bytes()
        for change in changes_of(path, source, members):
            ast.parse(change.applied(source))


@pytest.mark.slow
def test_it_finds_what_no_test_notices_and_changes_nothing(project: Path) -> None:
    tried = try_sample(project, ("pkg",), seed=1, count=100)
    missed = {str(one.change).removeprefix("pkg/mod.py:") for one in tried if not one.by}
    assert missed == {
        "3: operand limit > 2 dropped: found and limit > 2 -> ((found))",
        "3: operand found dropped: found and limit > 2 -> ((limit > 2))",
        "3: comparison changed: limit > 2 -> ((limit) >= (2))",
        "2: constant swapped: 3 -> 4",
        '6: raise dropped: raise ValueError(f"{limit == 3}: none") -> pass',
    }
    assert share(tried) == 4 / 9
    assert (project / "pkg/mod.py").read_text() == MODULE


def test_the_same_seed_chooses_the_same_changes(project: Path) -> None:
    (project / "tests/pkg/test_mod.py").unlink()
    first = [one.change for one in try_sample(project, ("pkg",), seed=5, count=2)]
    assert [one.change for one in try_sample(project, ("pkg",), seed=5, count=2)] == first


def test_what_fails_without_the_change_too_has_not_noticed_it(project: Path) -> None:
    (project / "tests/pkg/test_mod.py").write_text("def test_on_a_bad_day() -> None:\n    assert False\n")
    unnoticed = next(change for change in changes_of("pkg/mod.py", MODULE.encode(), {}) if change.new == "4")
    with copy_of(project) as copy:
        assert copy.attempt(unnoticed).by == ""


@pytest.mark.slow
def test_a_constant_is_shown_to_the_tests_of_other_modules_that_use_its_own(project: Path) -> None:
    (project / "pkg/mod.py").write_text("LIMIT = 12\n\ndef limit() -> int:\n    return LIMIT\n")
    (project / "tests/pkg/test_mod.py").write_text("import pkg.mod\n\ndef test_it() -> None: ...\n")
    (project / "tests/pkg/test_others.py").write_text(
        "from pkg.mod import limit\n\ndef test_one() -> None:\n    assert limit() == 12\n"
    )
    [one] = try_sample(project, ("pkg",), seed=1, count=100)
    assert (one.change.old, "test_others.py" in one.by, "test_mod.py" in one.by) == ("12", True, True)


def test_a_change_is_shown_to_the_nearest_tests_and_to_those_of_the_branch_beside_it() -> None:
    many = tuple(f"near {number}" for number in range(60))
    shown = _reaching({10: (*many, "rare", "other"), 11: ("rare", "elsewhere"), 12: (*many, "rare")}, 10)
    assert (shown[:20], set(shown[20:22]), len(shown)) == (many[:20], {"rare", "other"}, 62)
    assert _reaching({1: (), 10: many, 11: ("rare",)}, 1) == ("near 0", "rare")
    assert _reaching({}, 1) == ()


@pytest.mark.slow
def test_what_the_nearest_tests_do_not_notice_is_shown_to_all_others(project: Path) -> None:
    (project / "pkg/mod.py").write_text("def limit() -> int:\n    return 12\n")
    (project / "pkg/other.py").write_text("one = 'a'\n\ndef far() -> str:\n    return one\n")
    near = "\n".join(f"def test_{number}() -> None:\n    assert limit() is not None\n" for number in range(50))
    far = "from pkg.other import far\n\ndef test_it() -> None:\n    assert far() == 'a'\n    assert limit() == 12\n"
    (project / "tests/pkg/test_mod.py").write_text(f"from pkg.mod import limit\n\n{near}")
    (project / "tests/pkg/test_others.py").write_text(f"from pkg.mod import limit\n{far}")
    [one] = try_sample(project, ("pkg",), seed=1, count=100)
    assert one.by.endswith("tests/pkg/test_others.py::test_it")


@pytest.mark.slow
def test_a_change_that_lets_the_tests_hang_is_noticed(project: Path) -> None:
    source = b"left = 0\nwhile left:\n    pass\n"
    (project / "pkg/mod.py").write_bytes(source)
    (project / "tests/pkg/test_mod.py").write_text("import pkg.mod\n\ndef test_it() -> None: ...\n")
    [negated] = [change for change in changes_of("pkg/mod.py", source, {}) if change.kind == "condition negated"]
    with copy_of(project, limit_s=4) as copy:
        assert copy.attempt(negated).by == "tests/pkg/test_mod.py"
    with copy_of(project) as copy:
        kept = Change(path="pkg/mod.py", line=1, kind="", begin=0, end=0, old="", new="")
        assert copy.attempt(kept).by == ""
