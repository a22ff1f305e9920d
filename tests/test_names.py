"""Names that must stay clear: no class of the product has the name of another one."""

from __future__ import annotations

import ast
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
