"""`updater publish`: check tarballs, lay them out as hosts ask for them, and name them in a desired-state file.

Nothing is written before everything was checked and signed. Each file appears by one rename; a signature before what
it signs, the desired state last. Any web server or object store serves the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.values import frozen
from reconcile.decide import version_order
from reconcile.decide.desired_serial import desired_comment
from reconcile.decide.policy.names import is_name
from updater.lint.checks import LintReport
from updater.lint.lint import lint
from updater.lint.runtime_checks import CallLimits
from updater.publish.desired_file import Release, with_release
from updater.publish.signing import next_serial, sign

_SUFFIX = ".tar.gz"
_MODE, _FOLDER_MODE = 0o644, 0o755
_SCRATCH = ".publish-"
_ARCH = re.compile(r"[a-z0-9]+_[a-z0-9]+")


class PublishRefused(Exception):
    """What was asked for can't be published. The message is for people."""


class PublishBusy(Exception):
    """Another publisher is at work in the folder. The message is for people."""


@frozen(kw_only=True)
class Order:
    """What is to be published. `name`, `version`: of the one tarball whose file name does not say them. `desired`: the
    file that names it for hosts; `url`, `cmd`, `percent` are for its entry."""

    tarballs: tuple[Path, ...]
    to: Path
    arch: str
    name: str | None = None
    version: str | None = None
    desired: Path | None = None
    url: str | None = None
    cmd: str | None = None
    percent: float | None = None
    key: Path | None = None


@frozen(kw_only=True)
class Parcel:
    """A tarball and the name and version that it is published under."""

    tarball: Path
    name: str
    version: str

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}{_SUFFIX}"


def split_release(stem: str) -> tuple[str, str] | None:
    """Name and version of `NAME-VERSION`: split at the first `-` before a digit; None where that gives no two names."""
    split = version_order.split_release(stem)  # as hosts that ask for signatures do
    return split if split is not None and all(map(is_name, split)) else None


def faults(order: Order) -> Iterator[tuple[Parcel, LintReport]]:
    """Check each tarball by reading it; yield those in which an error was found. Raise PublishRefused."""
    is_named = order.name is not None
    for parcel in parcels(order):
        report = lint(parcel.tarball, run=False, delivered={}, limits=CallLimits())
        errors = [finding for finding in report.findings if finding.is_error]
        if [finding for finding in errors if not is_named or finding.check.id != "archive-name"]:
            yield parcel, report


def parcels(order: Order) -> tuple[Parcel, ...]:
    """Name each tarball. Raise PublishRefused."""
    if not _ARCH.fullmatch(order.arch):
        raise PublishRefused(f"--arch: expected OS_CPU in Go's names such as linux_amd64, found {order.arch!r}")
    if (order.name is None) != (order.version is None):
        raise PublishRefused("--name and --version go together")
    if order.name is not None and len(order.tarballs) > 1:
        raise PublishRefused("--name and --version are of one tarball; publish the others by themselves")
    found = tuple(_parcel(tarball, order) for tarball in order.tarballs)
    if len({parcel.name for parcel in found}) < len(found):
        raise PublishRefused("two of the tarballs are of one agent; publish each version by itself")
    return found


def publish(order: Order, say: Callable[[str], None]) -> None:
    """Lay everything out. Raise PublishRefused, EntryRefused, SigningFailed, ToolMissing, Busy, OSError."""
    found = parcels(order)
    folder = order.to / order.arch
    with _alone(order.to), _Scratch() as scratch:
        for left in folder.glob(f"{_SCRATCH}*"):  # by a publisher that was killed
            shutil.rmtree(left, ignore_errors=True)
        renames: list[tuple[Path, Path]] = []
        releases = []
        for parcel in found:
            staged = scratch.take(folder / parcel.file_name)
            md5, sha256 = _copy(parcel.tarball, staged)
            for suffix, digest in ((".md5", md5), (".sha256", sha256)):
                sidecar = folder / f"{parcel.file_name}{suffix}"
                renames.append((scratch.write(sidecar, f"{digest}  {parcel.file_name}\n"), sidecar))
            if order.key is not None:
                signature = folder / f"{parcel.file_name}.minisig"
                made = scratch.take(signature)
                sign(staged, order.key, f"{order.arch}/{parcel.file_name}", made)
                renames.append((made, signature))
            renames.append((staged, folder / parcel.file_name))
            releases.append(_release(parcel, order, md5, sha256))
        words = [f"{path}: {_news(staged, path)}" for staged, path in renames if path.name.endswith(_SUFFIX)]
        if order.desired is not None:
            renames += _desired(order.desired, releases, order.key, scratch, words)
        for staged, path in renames:
            staged.chmod(_MODE)
            _date_after(staged, path)
            os.replace(staged, path)
    for line in words:
        say(line)


def _parcel(tarball: Path, order: Order) -> Parcel:
    if not tarball.is_file():
        raise PublishRefused(f"{tarball}: {'expected a file' if tarball.exists() else 'there is no such file'}")
    name, version = _named(tarball, order)
    if order.key is not None and split_release(f"{name}-{version}") != (name, version):
        raise PublishRefused(
            f"{name}-{version} reads as another name and version, split at the first `-` before a digit: hosts that "
            "ask for signatures refuse it (SignatureInvalid)"
        )
    return Parcel(tarball=tarball, name=name, version=version)


def _named(tarball: Path, order: Order) -> tuple[str, str]:
    """The name and version of a tarball: as ordered, else as its file is called. Raise PublishRefused."""
    if order.name is not None and order.version is not None:
        for word in (order.name, order.version):
            if not is_name(word):
                raise PublishRefused(f"{word!r} is not a name: letters, digits and . _ + ~ - , at most 64 characters")
        return order.name, order.version
    split = split_release(tarball.name.removesuffix(_SUFFIX)) if tarball.name.endswith(_SUFFIX) else None
    if split is None:
        raise PublishRefused(f"{tarball.name} is not NAME-VERSION{_SUFFIX}: give --name and --version")
    return split


def _release(parcel: Parcel, order: Order, md5: str, sha256: str) -> Release:
    """The entry of a tarball. One digest is one file's: where other architectures have that version with other bytes,
    hosts are led to the digest files instead."""
    others = [path for path in order.to.glob(f"*_*/{parcel.file_name}.sha256") if path.parent.name != order.arch]
    if any(path.read_bytes().split()[:1] != [sha256.encode()] for path in others):
        md5, sha256 = "", ""
    return Release(
        name=parcel.name,
        version=parcel.version,
        md5=md5,
        sha256=sha256,
        url=order.url,
        cmd=order.cmd,
        percent=order.percent,
    )


def _desired(
    path: Path, releases: list[Release], key: Path | None, scratch: _Scratch, words: list[str]
) -> list[tuple[Path, Path]]:
    """Stage the desired state, and its signature before it."""
    signature = path.parent / f"{path.name}.minisig"
    if key is None and signature.exists():
        raise PublishRefused(f"{path} is signed, and its signature would no longer be of it: give --minisign-key")
    text = _text_of(path) if path.exists() else None
    for release in releases:
        text, changed = with_release(text, release, str(path))
        words.append(f"{path}: {release.name} {changed}")
    staged = scratch.write(path, text or "")
    if key is None:
        return [(staged, path)]
    serial = next_serial(signature, time.time())
    made = scratch.take(signature)
    sign(staged, key, desired_comment(path.name, serial), made)
    words.append(f"{signature}: serial {serial}")
    return [(made, signature), (staged, path)]


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as err:
        raise PublishRefused(f"{path} is not UTF-8 text ({err.reason} at byte {err.start}); correct it") from None


def _make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, for a web server to read, whatever our umask is."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(_FOLDER_MODE)


def _date_after(staged: Path, path: Path) -> None:
    """Date a file a second later than the one that it replaces, at least. nginx makes its ETag of the size and of whole
    seconds: who got the former one within this second must not get the answer that nothing changed."""
    before = int(path.stat().st_mtime) if path.exists() else 0
    if int(staged.stat().st_mtime) <= before:
        os.utime(staged, (before + 1, before + 1))


def _copy(source: Path, into: Path) -> tuple[str, str]:
    """Copy a file durably; return its md5 and its sha256, of the bytes that were written."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with source.open("rb") as read, into.open("wb") as write:
        while chunk := read.read(1 << 20):
            md5.update(chunk)
            sha256.update(chunk)
            write.write(chunk)
        write.flush()
        os.fsync(write.fileno())
    return md5.hexdigest(), sha256.hexdigest()


def _news(staged: Path, path: Path) -> str:
    if not path.exists():
        return "new"
    with staged.open("rb") as one, path.open("rb") as other:
        while (chunk := one.read(1 << 20)) == other.read(1 << 20):
            if not chunk:
                return "unchanged"
    return "replaced"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other publishers out of the folder, which is made where it is missing."""
    _make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise PublishBusy(f"another publisher is at work in {folder}; nothing was written") from None
    finally:
        os.close(descriptor)


class _Scratch:
    """Temporary folders beside what is to be published, so that each file comes by one rename."""

    def __init__(self) -> None:
        self._folders: dict[Path, Path] = {}

    def take(self, path: Path) -> Path:
        """A temporary path in the folder of the one that is to be published."""
        _make_folder(path.parent)
        if path.parent not in self._folders:
            self._folders[path.parent] = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=path.parent))
        return self._folders[path.parent] / path.name

    def write(self, path: Path, text: str) -> Path:
        """Write a text there, durably."""
        staged = self.take(path)
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return staged

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
