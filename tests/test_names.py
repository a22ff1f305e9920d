"""Names that must stay clear, and folders that no list forgets."""

from __future__ import annotations

import ast
import configparser
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_class_name_stands_twice_in_the_product() -> None:
    names = Counter(
        node.name
        for package in ("probes", "reconcile", "updater")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []


def test_each_pure_module_is_traced() -> None:
    """A pattern of coverage's is of one folder: a new one below `decide` needs a line of its own."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    traced = settings["coverage:run"]["include"].split()
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "reconcile/decide").rglob("*.py")}
    assert {f"{folder}/*" for folder in folders} <= set(traced)
