"""Makes small changes in a copy of the tree, one at a time, and runs the tests that should notice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.e2e.processes import end_all_in
from tests.mutants.changes import Change

_NOT_COPIED = shutil.ignore_patterns(".git", "var", "__pycache__", ".*_cache", ".venv", ".hypothesis")
LIMIT_S = 600.0  # of one run of tests: a change that lets them hang is noticed by that


@frozen(kw_only=True)
class Tried:
    """`by`: the tests that noticed the change; empty: none did."""

    change: Change
    by: str


class Copy:
    """A copy of the tree in a folder of its own, with the test environment linked: what tests start runs the copy."""

    def __init__(self, root: Path, folder: Path, limit_s: float = LIMIT_S) -> None:
        self._folder = folder
        self._tree = folder / "tree"
        self._limit_s = limit_s
        shutil.copytree(root, self._tree, symlinks=True, ignore=lambda at, names: _not_copied(root, at, names))
        environment = root / ".venv-test"
        self._python = sys.executable
        if environment.exists():
            (self._tree / ".venv-test").symlink_to(environment.resolve())
            self._python = str(self._tree / ".venv-test" / Path(sys.prefix).name / "bin/python")
        self._edits = 0

    def attempt(self, change: Change, also: tuple[str, ...] = ()) -> Tried:
        """Make a change, run its module's tests, then its package's and `also` until one fails, and undo it."""
        module = self._tree / change.path
        source = module.read_bytes()
        self._write(module, change.applied(source))
        try:
            for tests in self._tests_of(change.path, also):
                if not self._pass(tests):
                    return Tried(change=change, by=" ".join(tests))
        finally:
            self._write(module, source)
        return Tried(change=change, by="")

    def _write(self, module: Path, source: bytes) -> None:
        """Each edit gets a time of its own: what is compiled is known by time and size alone."""
        module.write_bytes(source)
        self._edits += 1
        os.utime(module, (self._edits, self._edits))

    def _tests_of(self, path: str, also: tuple[str, ...]) -> Iterator[list[str]]:
        mirror = self._tree / "tests" / path
        own = sorted(mirror.parent.glob(f"test_{mirror.stem}.py")) + sorted(
            mirror.parent.glob(f"test_{mirror.stem}_*.py")
        )
        if own:
            yield [str(test.relative_to(self._tree)) for test in own]
        package = next(folder for folder in mirror.parents if folder.is_dir())
        yield [str(package.relative_to(self._tree))]
        for more in also:
            yield [more]

    def _pass(self, tests: list[str]) -> bool:
        words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={self._folder / 'temp'}", *tests]
        run = subprocess.Popen(
            [self._python, *words],
            cwd=self._tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = run.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            code = 1
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        end_all_in(self._folder)
        return code in (0, 5)  # 5: there is no test


def _not_copied(root: Path, at: str, names: list[str]) -> set[str]:
    return _NOT_COPIED(at, names) | ({".venv-test"} if Path(at) == root else set())


@contextmanager
def copy_of(root: Path, limit_s: float = LIMIT_S) -> Iterator[Copy]:
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # other users enter it in some tests
        yield Copy(root, Path(folder), limit_s)
