"""The scratch folder: where an agent is unpacked, run and thrown away, and the user that it runs as.

When we are root that is `nobody`, who gets the homes in it and nothing else. Its own HOME lies in it too, so that
nobody's real home is touched. Each trial that needs a fresh home finds one, made before anything runs: later, as root,
we would be writing where the agent's user may write.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from probes.errors import UserMissing
from probes.host.control_script import clean_env
from probes.host.facts import User, find_user, own_user
from probes.values import frozen
from reconcile.act.host.archive import ArchiveLimits, unpack

_PROBE_LIMIT_S = 30


class LintUnusable(Exception):
    """The agent can't be tried here at all. The message is for people."""


@frozen(kw_only=True)
class SandboxHome:
    """An agent's home with its versions' folders, as hosts have them. `first` is tried; `second` is the same again."""

    path: Path
    first: Path
    second: Path


@frozen(kw_only=True)
class Sandbox:
    """`read`: the unpacked tree, for reading alone. `plain`, `spaced`, `moved`: homes for the trials."""

    path: Path
    read: Path
    user: User
    plain: SandboxHome
    spaced: SandboxHome
    moved: SandboxHome

    @property
    def env(self) -> dict[str, str]:
        """The whole environment that an agent gets."""
        return clean_env(self.user.name, str(self.path / "home"), "/bin/sh", {})


def trial_user() -> User:
    """Who the agent runs as: us, or nobody when we are root. Raise LintUnusable."""
    own = own_user()
    if own.uid != 0:
        return own
    try:
        user = find_user("nobody")
    except UserMissing as err:
        raise LintUnusable(f"{err.message}; run lint as another user than root") from None
    return User(name=user.name, uid=user.uid, gid=user.gid, home=user.home, shell="/bin/sh")


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """A folder that is gone at the end, unless it is kept. Others may enter it, and not write."""
    path = Path(tempfile.mkdtemp(prefix="lint-")).resolve()
    try:
        path.chmod(0o755)
        yield path
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def packed(target: Path, into: Path) -> Path:
    """A tarball of `target`: itself, or of a folder's content. Raise LintUnusable where that can't be read."""
    if not target.is_dir():
        return target
    try:
        with tarfile.open(into, "w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as tar:
            for entry in sorted(os.listdir(target)):
                tar.add(target / entry, arcname=entry)
    except OSError as err:
        raise LintUnusable(f"{target} can't be read: {err.filename or ''}: {err.strerror or err}") from None
    return into


def unpacked(tarball: BinaryIO, into: Path) -> Path:
    """Unpack as on a host. Raise UnpackRefused, DiskTooSmall, WriteFailed."""
    into.mkdir(parents=True)
    fd = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpack(tarball, fd, ArchiveLimits())
    finally:
        os.close(fd)
    return into


def furnish(path: Path, read: Path, name: str, version: str, delivered: Mapping[str, bytes], user: User) -> Sandbox:
    """Make the homes out of the unpacked tree, with the files that a host would have delivered. Raise LintUnusable.

    `delivered`: name -> content, laid beside `control` as configFileName is.
    """
    try:
        homes = [
            _home(path / work / name, read, (version, f"{version}.next"), delivered)
            for work in ("plain", "a path with spaces", "moved")
        ]
        (path / "home").mkdir()
        _chown_all([path / "home", *(home.path.parent for home in homes)], user)
        _try_a_program(path, user)
    except OSError as err:
        raise LintUnusable(f"{path}: {err.strerror or err}; set TMPDIR to a folder with more room") from None
    return Sandbox(path=path, read=read, user=user, plain=homes[0], spaced=homes[1], moved=homes[2])


def _home(home: Path, read: Path, versions: tuple[str, str], delivered: Mapping[str, bytes]) -> SandboxHome:
    for version in versions:
        shutil.copytree(read, home / version, symlinks=True)
        for name, content in delivered.items():
            place = home / version / name
            place.unlink(missing_ok=True)
            place.write_bytes(content)
    (home / ".version").write_text(versions[0])
    return SandboxHome(path=home, first=home / versions[0], second=home / versions[1])


def _chown_all(folders: list[Path], user: User) -> None:
    """Give the folders and all in them to the agent's user. Nothing runs yet, so no link can be swapped below us."""
    if os.geteuid() != 0:
        return
    for top in folders:
        for below, directories, files in os.walk(top):
            os.lchown(below, user.uid, user.gid)
            for entry in (*directories, *files):
                os.lchown(Path(below, entry), user.uid, user.gid)


def _try_a_program(path: Path, user: User) -> None:
    """Run a script of our own first: what fails there is this folder's fault and not the agent's."""
    script = path / "home" / "probe"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    try:
        subprocess.run([script], cwd=path / "home", check=True, timeout=_PROBE_LIMIT_S, **as_user(user))
    except (OSError, subprocess.SubprocessError) as err:
        raise LintUnusable(
            f"{user.name} can't run programs in {path} ({err}): is it mounted noexec, or a folder above it closed? "
            f"Set TMPDIR to another folder"
        ) from None
    script.unlink()


def as_user(user: User) -> dict[str, Any]:
    """What `Popen` needs to run something as this user."""
    if os.geteuid() != 0:
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}
