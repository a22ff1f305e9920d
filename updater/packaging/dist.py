"""Make all that a release publishes, in one folder: sdist, wheel, a pack and a Debian package for each kind of host,
SHA256SUMS and, where a key is given, its minisign signature, which so holds for each of them.

The same commit gives the same bytes: nothing of the machine, the folder, the time, the umask gets in. `./control
dist` runs this in the tests' environment, whose lock file names the setuptools that builds the wheel.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve

from updater.commands.argument_parser import Parser
from updater.packaging.archive import MTIME, Item, whole, write
from updater.packaging.pack import PackContents, made, members, written
from updater.packaging.wheels import ARCHITECTURES, ROOT, PackImpossible
from updater.publish.signing import sign
from updater.version import VERSION

_SUMS = "SHA256SUMS"
_BUILD_S = 600
_NAME = f"ops_updater-{VERSION}"  # of sdist and wheel, as Python's installers write it


def main(argv: list[str]) -> int:
    """Make the release, and list it. The exit code."""
    words = "make all that a release publishes, the same bytes each time"
    parser = Parser(prog="./control dist", description=words)
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "dist", help="default: dist/ beside control")
    parser.add_argument("--key", metavar="FILE", type=Path, help="sign SHA256SUMS with this secret key of minisign")
    parser.add_argument("--wheels", metavar="DIR", type=Path, help="take the wheels from here, not from the index")
    return made(parser, argv, lambda options: dist(options.out, options.key, options.wheels))


def dist(out: Path, key: Path | None, wheels: Path | None) -> list[Path]:
    """Make the release in `out`, where nothing appears before all is made. Return its files.

    Raise PackImpossible, SigningFailed, ToolMissing, OSError.
    """
    if key is not None and not key.is_file():
        raise PackImpossible(f"--key {key}: there is no such file; expected a secret key that `minisign -G -s` made")
    files = tuple(_committed())
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        folder = Path(scratch) / "made"
        wheel = _wheel(Path(scratch), folder, files)
        _sdist(folder, files, wheel)
        for arch in ARCHITECTURES:
            contents = PackContents(parts=("web", "signatures"), arch=arch, wheels=wheels)
            items = members(contents)
            for deb in (False, True):
                written(folder, items, contents, deb=deb)
        _sums(folder)
        if key is not None:
            sign(folder / _SUMS, key, f"ops-updater {VERSION} {_SUMS}", folder / f"{_SUMS}.minisig")
        return _moved(folder, out)


def _committed() -> Iterator[Item]:
    """The files of the commit that is checked out. Raise PackImpossible where something else lies between them."""
    changed = _git("status", "--porcelain").splitlines()
    if changed:
        raise PackImpossible(f"{ROOT} is not as it was committed ({changed[0].strip()}): a release is made of a commit")
    for name in _git("ls-files", "-z").split("\0")[:-1]:
        path = ROOT / name
        if path.is_symlink():
            yield Item(name=name, link=os.readlink(path))
        else:
            yield Item(name=name, path=path, program=bool(path.stat().st_mode & 0o100))


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_BUILD_S).stdout
    except FileNotFoundError:
        raise PackImpossible("a release is made of a commit: install git") from None
    except subprocess.CalledProcessError as err:
        raise PackImpossible(f"a release is made of a commit, in a clone: {err.stderr.strip()}") from None


def _wheel(scratch: Path, made: Path, files: tuple[Item, ...]) -> Path:
    """Have setuptools build the wheel, in a copy that has no traces of this one. Raise PackImpossible."""
    source = scratch / "source"
    for item in files:
        path = source / item.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.link is not None:
            path.symlink_to(item.link)
            continue
        path.write_bytes(item.read())
        path.chmod(0o755 if item.program else 0o644)
    words = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(made), str(source)]
    ran = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", *words],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(MTIME)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o022,
        timeout=_BUILD_S,
    )
    if ran.returncode != 0:
        raise PackImpossible(f"the wheel can't be built: {ran.stderr.strip()[-300:]}")
    return made / f"{_NAME}-py3-none-any.whl"


def _sdist(made: Path, files: tuple[Item, ...], wheel: Path) -> None:
    """All that is committed, so that `control` and the tests work in it, and the description that installers read."""
    with zipfile.ZipFile(wheel) as archive:
        described = Item(name="PKG-INFO", content=archive.read(f"{_NAME}.dist-info/METADATA"))
    with (made / f"{_NAME}.tar.gz").open("wb") as file:
        write(file, [evolve(item, name=f"{_NAME}/{item.name}") for item in (*files, described)])


def _sums(made: Path) -> None:
    """Write the sums, in the form that `sha256sum -c` reads."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made.iterdir())]
    (made / _SUMS).write_text("".join(lines), encoding="ascii")


def _moved(made: Path, out: Path) -> list[Path]:
    """Each file whole or not at all; the sums last, so that what they name is there."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _SUMS).unlink(missing_ok=True)
    (out / f"{_SUMS}.minisig").unlink(missing_ok=True)
    names = sorted((path.name for path in made.iterdir()), key=lambda name: (name.startswith(_SUMS), name))
    for name in names:
        with whole(out / name) as file:
            file.write((made / name).read_bytes())
    return [out / name for name in names]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
