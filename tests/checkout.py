"""What developers' tasks need before nox runs them: an environment for the tests and, as root, code that only root can
write. `control` runs this for `test`, `bench`, `prove`, `dist` and `setup --tests`; noxfile.py has the tasks.

It runs before there is an environment, so the standard library must do.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it is run as a file, and isolated

from updater.packaging.environment import (
    ROOT,
    USAGE,
    Environment,
    SetupFailed,
    errors_for_people,
    runs,
    setup_lock,
)

MINORS = range(10, 15)  # of the Pythons 3.x that it is tested on
_HARNESSES = ("crash", "hostile", "soak", "mutants")
# A task is to see the environment of a host, not of its user; and modules are compiled once.
_NOT_INHERITED = ("CONFIG", "PYTHON", "CONTROL_START_TIMEOUT", "CONTROL_STOP_TIMEOUT", "PYTHONDONTWRITEBYTECODE")
_NOT_CODE = {".git", "var"}


def main(argv: list[str]) -> int:
    verb, *words = argv
    with errors_for_people():
        if verb == "test" and os.geteuid() == 0 and _others_can_write(ROOT):
            return _test_a_copy(words)
        session_words = _session_words(verb, words)
        if verb == "setup":
            print(f"setup: .venv-test/{_environment().name} is as requirements-dev.lock wants it")
            return 0
        made = subprocess.run([ROOT / "control", "setup"], stdout=subprocess.DEVNULL).returncode
        if made != 0:
            return made
        nox = _environment() / "bin/nox"
        os.chdir(ROOT)
        env = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        os.execve(nox, [str(nox), "-s", *session_words], env)


def _session_words(verb: str, words: list[str]) -> tuple[str, ...]:
    """What nox is called with for a verb: sessions, and their arguments. Raise SetupFailed."""
    first = words[0] if words else ""
    match verb, first:
        case "test", "--quick":
            return ("lint", "types", "quick", "--", *words[1:])
        case "test", "--system":
            if os.geteuid() != 0:
                raise SetupFailed("test --system makes users and mounts and installs packages: run it as root", USAGE)
            return ("system", "--", *words[1:])
        case "test", _:
            return ("lint", "types", "tests", "--", *words)
        case "prove", _ if first and first not in _HARNESSES:
            known = f"{', '.join(_HARNESSES[:-1])} and {_HARNESSES[-1]}"
            raise SetupFailed(f"prove knows {known} (got: {' '.join(words)}); ./control help lists the verbs", USAGE)
        case _:
            return (verb, "--", *words)


def _environment() -> Path:
    """The venv of the tests for PYTHON, else for the newest Python, made where it is missing. Raise SetupFailed.

    Unlike .venv it can't be moved with the folder: the tools' scripts name their Python by its whole path.
    """
    if python := os.environ.get("PYTHON"):
        minor = _minor_of(python)
    else:
        minor, python = max(pythons().items())
    environment = Environment(ROOT / ".venv-test" / f"3.{minor}", "requirements-dev.lock")
    folder = environment.folder
    folder.parent.mkdir(exist_ok=True)
    with setup_lock():
        if not environment.is_ready() or not runs(folder / "bin/coverage", "--version"):
            print(f"setup: making .venv-test/{folder.name} with {python}", file=sys.stderr)
            environment.make(python)
    return folder


def pythons() -> dict[int, str]:
    """Each Python that can run the tests, by its minor version: ours, on the PATH, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    names = ["python3", *(f"python3.{minor}" for minor in MINORS), *map(str, pyenv.glob("versions/3.*/bin/python3"))]
    found = {sys.version_info.minor: sys.executable}
    for path in filter(None, map(shutil.which, names)):
        minor = _minor_of(path)
        if minor in MINORS:
            found.setdefault(minor, path)
    return found


def _minor_of(python: str) -> int:
    """Its minor version; 0 where it does not run, is not a Python 3 or can't make venvs."""
    code = "import sys, ensurepip, venv; print(*sys.version_info[:2])"
    ran = subprocess.run([python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    major, _, minor = ran.stdout.strip().partition(" ")
    return int(minor) if major == "3" else 0


def _others_can_write(folder: Path) -> bool:
    """Whether other users can write the folder, a folder on the way there, or the code in it.

    As root the updater runs no such code, and a developer's checkout is the developer's.
    """
    if any(_is_loose(path) for path in (folder, *folder.parents)):
        return True
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_CODE and not name.startswith(".venv")]
        if any(_is_loose(Path(path, name)) for name in (*folders, *files)):
            return True
    return False


def _is_loose(path: Path) -> bool:
    status = path.lstat()
    writable = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    return not stat.S_ISLNK(status.st_mode) and bool(status.st_uid != 0 or writable)


def _test_a_copy(words: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "ops-updater"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=_left_out)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o022)
        print(f"others can write {ROOT}, and root runs no such code: testing a copy, {copy}", flush=True)
        return subprocess.run([copy / "control", "test", *words]).returncode


def _left_out(folder: str, names: list[str]) -> list[str]:
    if Path(folder) != ROOT:
        return []
    return [name for name in names if name == "var" or name.startswith(".venv")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
