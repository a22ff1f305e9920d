"""Learns by one traced run which tests reach each line, so that a change of it is shown to those alone."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from coverage import CoverageData

Reach = Mapping[str, Mapping[int, tuple[str, ...]]]
"""Tests, by module and line. The first are those that reach the fewest lines in all, and are most about this one."""

_SIDE_BY_SIDE = "3"  # most tests wait for processes
_CONFIG = """\
[run]
core = ctrace
dynamic_context = test_function
parallel = true
patch = subprocess
data_file = {data}
include =
    {include}
"""


def reach_of(python: str, tree: Path, folder: Path, paths: Sequence[str], tests: Sequence[str]) -> Reach:
    """Run these tests, and return which of them reach each line of the modules and folders in `paths`. What a line
    does in another process, or while modules are imported, is not seen."""
    config, data = folder / "traced.cfg", folder / "reach"
    include = [path if path.endswith(".py") else f"{path}/*" for path in paths]
    config.write_text(_CONFIG.format(data=data, include="\n    ".join(include)))
    pytest = ["pytest", "-q", "-n", _SIDE_BY_SIDE, "-p", "no:cacheprovider", f"--basetemp={folder / 'temp'}", *tests]
    for words in (["run", f"--rcfile={config}", "-m", *pytest], ["combine", f"--rcfile={config}", "--quiet"]):
        subprocess.run(
            [python, "-m", "coverage", *words], cwd=tree, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
    seen = CoverageData(basename=str(data))
    seen.read()
    return _nearest_first({path: dict(_tests_of(seen, tree, path)) for path in _modules(seen, tree)})


def _modules(seen: CoverageData, tree: Path) -> list[str]:
    return [str(Path(file).relative_to(tree)) for file in seen.measured_files()]


def _tests_of(seen: CoverageData, tree: Path, path: str) -> Iterator[tuple[int, set[str]]]:
    for line, contexts in seen.contexts_by_lineno(str(tree / path)).items():
        yield line, {test for context in contexts if (test := _node(tree, context))}


def _node(tree: Path, context: str) -> str:
    """The id of a test by its dotted name; empty where it is none."""
    module, _, name = context.rpartition(".")
    file = f"{module.replace('.', '/')}.py"
    return f"{file}::{name}" if module and (tree / file).exists() else ""


def _nearest_first(tests: Mapping[str, Mapping[int, set[str]]]) -> Reach:
    lines = Counter(test for by_line in tests.values() for found in by_line.values() for test in found)
    return {
        path: {line: tuple(sorted(found, key=lambda test: (lines[test], test))) for line, found in by_line.items()}
        for path, by_line in tests.items()
    }
