"""Makes small changes in a copy of the tree, one at a time, and runs the tests that should notice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.e2e.processes import end_all_in
from tests.mutants.changes import Change
from tests.mutants.reach import Reach, reach_of

_NOT_COPIED = shutil.ignore_patterns(".git", "var", "__pycache__", ".*_cache", ".venv", ".hypothesis")
_AT_ONCE = 40  # tests that a change is shown to, the nearest first; where none of them notices it, the next ones
_AROUND, _OF_EACH = 4, 2  # lines beside it, and tests of each
_HANGS_S = 180  # one test that takes longer hangs: it notices the change
LIMIT_S = 900.0  # of one run of tests


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
        self._reach: Reach = {}
        self._also: tuple[str, ...] = ()

    def learn(self, paths: Sequence[str], also: Sequence[str] = ()) -> None:
        """Learn which tests reach the lines of these modules and folders: those of their packages, and `also`."""
        self._also = tuple(also)
        packages = {str(self._package(path).relative_to(self._tree)) for path in paths}
        self._reach = reach_of(self._python, self._tree, self._folder, paths, sorted({*packages, *also}))

    def attempt(self, change: Change) -> Tried:
        """Make a change, run the tests that reach it, and undo it. What fails without it, too, has not noticed it."""
        tests = self._tests_of(change)
        module = self._tree / change.path
        source = module.read_bytes()
        shutil.rmtree(self._folder / "failed", ignore_errors=True)
        self._write(module, change.applied(source))
        try:
            shown = next((some for some in _in_parts(tests) if not self._pass(some)), None)
        finally:
            self._write(module, source)
        noticed = shown is not None and self._pass(self._last_failed() or shown)
        return Tried(change=change, by=" ".join(shown or ()) if noticed else "")

    def _last_failed(self) -> list[str]:
        """The tests that failed when pytest ran last, or their module where it can't be imported; none: pytest was
        killed, or ended itself where one hung."""
        try:
            failed = json.loads((self._folder / "failed/v/cache/lastfailed").read_text())
        except OSError:
            return []
        return [name for name in failed if name]  # the root, of which all tests are, fails with a module

    def _write(self, module: Path, source: bytes) -> None:
        """Each edit gets a time of its own: what is compiled is known by time and size alone."""
        module.write_bytes(source)
        self._edits += 1
        os.utime(module, (self._edits, self._edits))

    def _tests_of(self, change: Change) -> list[str]:
        """Tests that reach the changed line. Where none of its module's is known to, since it runs in a process that
        they start or while the module is imported, these, too; where none at all is, its package's, and the others that
        were named."""
        by_line = self._reach.get(change.path, {})
        reaching = _reaching(by_line, change.line)
        mirror = self._tree / "tests" / change.path
        files = {*mirror.parent.glob(f"test_{mirror.stem}.py"), *mirror.parent.glob(f"test_{mirror.stem}_*.py")}
        own = [str(test.relative_to(self._tree)) for test in sorted(files)]
        if by_line.get(change.line) and any(test.partition("::")[0] in own for test in reaching):
            return list(reaching)
        others = [] if reaching or own else [str(self._package(change.path).relative_to(self._tree))]
        return [*own, *reaching, *others, *(() if reaching else self._also)]

    def _package(self, path: str) -> Path:
        """The folder of the tests of a module or folder."""
        mirror = self._tree / "tests" / path
        return next(folder for folder in (mirror, *mirror.parents) if folder.is_dir())

    def _pass(self, words: list[str]) -> bool:
        settings = ("faulthandler_exit_on_timeout=true", f"faulthandler_timeout={_HANGS_S}")
        options = [f"-o{setting}" for setting in (*settings, f"cache_dir={self._folder / 'failed'}")]
        run = subprocess.Popen(
            [self._python, "-m", "pytest", "-q", "-x", *options, f"--basetemp={self._folder / 'temp'}", *words],
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


def _reaching(by_line: Mapping[int, tuple[str, ...]], line: int) -> tuple[str, ...]:
    """The nearest tests that reach a line, with some that reach, and that don't reach, each line around it: those tell
    of a condition. Of a line that runs while its module is imported the nearest of each other line."""
    found = by_line.get(line, ())
    if not found:
        return tuple(dict.fromkeys(tests[0] for tests in by_line.values() if tests))[:_AT_ONCE]
    around = sorted((set(by_line.get(at, ())) for at in range(line - _AROUND, line + _AROUND + 1)), key=len)
    sides = [[one for one in found if (one in tests) is is_reached] for tests in around for is_reached in (True, False)]
    beside = [test for side in sorted(sides, key=len) for test in side[:_OF_EACH]]
    return tuple(dict.fromkeys((*found[: _AT_ONCE // 2], *beside, *found)))


def _in_parts(tests: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(tests), _AT_ONCE):
        yield tests[first : first + _AT_ONCE]


def _not_copied(root: Path, at: str, names: list[str]) -> set[str]:
    return _NOT_COPIED(at, names) | ({".venv-test"} if Path(at) == root else set())


@contextmanager
def copy_of(root: Path, limit_s: float = LIMIT_S) -> Iterator[Copy]:
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # other users enter it in some tests
        yield Copy(root, Path(folder), limit_s)
