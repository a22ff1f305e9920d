"""Make the Python environment that the updater runs in: `.venv` of a checkout, for `./control setup`.

It runs before there is one, so the standard library must do. `control` runs this file by the Python that it found; its
errors are `control`'s. A venv says in `.complete` which lock files it was made from, as their checksum, and in `.with`
which optional parts it has; `control` reads both.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
FAILED, USAGE, TOOL_MISSING = 1, 64, 72
_LOCK_WAIT_S = 600  # the longest setup, without a cache and over a slow link, takes minutes
_COMMAND = """\
#!/bin/sh
# The `updater` command, made by `./control setup`; it may be linked to from elsewhere.
self=$0
while [ -L "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=${self%/*}/$link ;;
    esac
done
exec "${self%/*}/python" -I -m updater "$@"
"""


class SetupFailed(Exception):
    """The environment can't be made. The message is for people; `code` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Environment:
    """A venv that holds what a lock file lists.

    Args:
        folder: of the venv.
        lock: the name of the lock file.
        parts: the optional parts that it is to have.
    """

    def __init__(self, folder: Path, lock: str, parts: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.locks = (lock, *(f"requirements-{part}.lock" for part in parts))
        self._parts = parts
        self._former = folder.with_name(f"{folder.name}.old")

    def is_ready(self) -> bool:
        """Whether it was made from these lock files, to its end, and works: an upgrade of the system's Python leaves
        a venv behind that finds none of its packages."""
        if parts_of(self.folder) != self._parts or _read(self.folder / ".complete") != self._checksum():
            return False
        return runs(self.folder / "bin/python", "-I", "-c", "import updater.version, attr")

    def make(self, python: str) -> None:
        """Make it. Where that fails or is interrupted, a former one is put back and nothing half-made stays.

        Raise SetupFailed.
        """
        if (self.folder / ".complete").is_file():
            rmtree(self._former, ignore_errors=True)
            self.folder.rename(self._former)
        else:  # a setup was killed in it; the venv that this one had set aside still serves
            self._remove()
        log = ROOT / ".setup.log"
        try:
            with log.open("w") as said:
                self._fill(python, said)
        except BaseException:
            self._remove()
            if self._former.is_dir():
                self._former.rename(self.folder)
            raise
        rmtree(self._former, ignore_errors=True)
        log.unlink()

    def _fill(self, python: str, log: IO[str]) -> None:
        if not runs(python, "-m", "venv", str(self.folder), log=log):
            hint = f"{python} has no venv and ensurepip modules: install them (on Debian: apt-get install python3-venv)"
            raise SetupFailed(f"{hint}. What it said is in {log.name}", TOOL_MISSING)
        pip = (str(self.folder / "bin/python"), "-I", "-m", "pip", "--disable-pip-version-check")
        files = (word for lock in self.locks for word in ("-r", lock))
        if not runs(*pip, "install", "--require-hashes", "--no-input", *files, log=log):
            errors = re.findall(r"^ERROR: *(.*)", Path(log.name).read_text(errors="replace"), re.MULTILINE)
            raise SetupFailed(
                f"can't install what {' '.join(self.locks)} lists: {errors[-1] if errors else 'pip failed'}; "
                f"is a package index reachable? All that pip said is in {log.name}"
            )
        (packages,) = self.folder.glob("lib/python3*/site-packages")
        # The updater runs from its folder; a relative path, so that the folder can be moved.
        (packages / "ops-updater.pth").write_text(f"{os.path.relpath(ROOT, packages)}\n")
        command = self.folder / "bin/updater"
        command.write_text(_COMMAND)
        command.chmod(0o777 & ~_umask())
        (self.folder / ".with").write_text(f"{' '.join(self._parts)}\n")
        (self.folder / ".complete").write_text(self._checksum())

    def _checksum(self) -> str:
        """The checksum of the lock files, by the tool that `control` uses."""
        content = b"".join((ROOT / lock).read_bytes() for lock in self.locks)
        return subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout.decode()

    def _remove(self) -> None:
        if self.folder.is_symlink():
            self.folder.unlink()
        elif self.folder.exists():
            rmtree(self.folder)


def main(argv: list[str]) -> int:
    """Make `.venv` where it is not as wanted. Words: what runs this, the daemon's pid or '', [--with NAME[,NAME]]."""
    python, daemon, *words = argv
    with errors_for_people():
        environment = Environment(ROOT / ".venv", "requirements.lock", _wanted_parts(words))
        if environment.is_ready():
            return 0
        with setup_lock():
            if environment.is_ready():
                return 0
            # A running daemon imports some modules late: it must not find others than it began with.
            if daemon:
                raise SetupFailed(f"the updater runs (pid {daemon}), and .venv must be made anew: ./control stop first")
            print(f"setup: making .venv with {python} ({sys.version_info[0]}.{sys.version_info[1]})", file=sys.stderr)
            environment.make(python)
    return 0


@contextmanager
def errors_for_people() -> Iterator[None]:
    """End with one line and the exit code where a setup fails, and with a signal's code where it is interrupted."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    except SetupFailed as err:
        print(f"control: {err}", file=sys.stderr)
        sys.exit(err.code)
    except OSError as err:
        print(f"control: can't make the Python environment: {err}", file=sys.stderr)
        sys.exit(FAILED)


@contextmanager
def setup_lock() -> Iterator[None]:
    """Hold the lock of setups of this folder; the kernel drops it with this process. Wait for another. Raise
    SetupFailed."""
    try:
        file = (ROOT / ".setup.lock").open("a")
    except OSError:
        raise SetupFailed(f"can't write in {ROOT}, where .venv is to be made") from None
    with file:
        if not _locks(file):
            print("control: waiting for another setup of this folder", file=sys.stderr)
            deadline = time.monotonic() + _LOCK_WAIT_S
            while not _locks(file):
                if time.monotonic() > deadline:
                    raise SetupFailed("another setup of this folder has not ended for 10 minutes")
                time.sleep(0.1)
        yield


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wanted_parts(words: list[str]) -> tuple[str, ...]:
    """The optional parts that are asked for, else those that .venv has. Raise SetupFailed."""
    if not words:
        return parts_of(ROOT / ".venv")
    if len(words) != 2 or words[0] != "--with":
        raise SetupFailed(f"setup takes --with NAME[,NAME] (got: {' '.join(words)})", USAGE)
    wanted = tuple(dict.fromkeys(part for part in words[1].split(",") if part not in ("", "none")))
    if unknown := [part for part in wanted if part not in _known_parts()]:
        raise SetupFailed(f"there is no optional part {unknown[0]}; known: {' '.join(_known_parts())}, and none", USAGE)
    return wanted


def parts_of(venv: Path) -> tuple[str, ...]:
    """The optional parts that a venv has, as far as there are such parts."""
    return tuple(part for part in _read(venv / ".with").split() if part in _known_parts())


def _known_parts() -> list[str]:
    found = re.findall(r"^requirements-([a-z]+)\.lock$", "\n".join(sorted(os.listdir(ROOT))), re.MULTILINE)
    return [part for part in found if part != "dev"]


def runs(*command: str | Path, log: IO[str] | None = None) -> bool:
    """Whether the command succeeds in this folder; what it says goes to the log."""
    out = subprocess.DEVNULL if log is None else log
    try:
        return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode == 0
    except OSError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
