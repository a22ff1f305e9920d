"""Make `ops-updater-{version}.tar.gz`: the updater with all that it needs, for hosts without a package index.

The archive keeps the convention that we ask of agents. Sources and dependencies lie side by side in `updater-lib/`,
which Python runs as a folder: that comes first on its path even with `-I`, so neither a venv nor a .pth file is needed.
The dependencies are the wheels of requirements.lock, checked against its hashes by pip; all of them are pure Python, so
one archive serves every host. The same sources and lock give the same bytes. Only `./control pack` calls this.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from updater.deb import file_name, write_deb
from updater.man import man_page
from updater.packed import Item, write
from updater.version import VERSION

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("probes", "reconcile", "updater")
_BESIDE = ("control", "cfg.example.json", "CHANGELOG.md", "LICENSE", "README.md", "README.zh.md", "requirements.lock")
_PARTS = ("web", "signatures")
_OLDEST = (3, 10)
_PIP_S, _PYTHON_S = 1800, 60  # how long pip may take for all wheels, and a Python for a line
_MAIN = '''\
"""Runs a packed updater: `python3 -I updater-lib COMMAND`."""

import sys

if sys.version_info < (3, 10):
    found = (*sys.version_info[:2], sys.executable)
    sys.stderr.write("updater: Python 3.10 or newer is needed, and this is %d.%d at %s\\n" % found)
    sys.exit(72)

from updater.__main__ import main

main()
'''
_COMMAND = """\
#!/bin/sh
# The `updater` command of a packed updater; it may be linked to from elsewhere. PYTHON names a Python.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -L "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=${self%/*}/$link ;;
    esac
done
folder=${self%/*}
python=$folder/python/bin/python3 # what `./control pack --python` took along
[ -x "$python" ] || python=python3
exec "${PYTHON:-$python}" -I "$folder/updater-lib" "$@"
"""
# What a wheel says for installers alone. Its METADATA and licences come along.
_FOR_INSTALLERS = ("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "entry_points.txt", "top_level.txt")


class PackImpossible(Exception):
    """The archive can't be made. The message is for people."""


def main(argv: list[str]) -> int:
    """Make the archive, and say where it lies. The exit code."""
    words = "make ops-updater-VERSION.tar.gz, the updater with all that it needs"
    parser = argparse.ArgumentParser(prog="./control pack", allow_abbrev=False, description=words)
    parser.add_argument("--out", metavar="DIR", type=Path, default=_ROOT / "dist", help="default: dist/ beside control")
    parser.add_argument("--python", metavar="DIR", type=Path, help="take this interpreter along: DIR/bin/python3")
    parser.add_argument(
        "--with",
        metavar="PART[,PART]",
        dest="parts",
        default="",
        help="take optional parts along: web (the page and metrics), signatures (trusted_keys; needs --python)",
    )
    parser.add_argument("--deb", action="store_true", help="make a Debian package of it, with the units")
    parser.add_argument("--wheels", metavar="DIR", type=Path, help="take the wheels from here, not from the index")
    options = parser.parse_args(argv)
    try:
        parts = tuple(part for part in options.parts.split(",") if part)
        path = pack(options.out, options.python, options.wheels, parts=parts, deb=options.deb)
    except PackImpossible as err:
        print(f"control: {err}", file=sys.stderr)
        return 1
    content = path.read_bytes()
    print(f"{path}\n{len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


def pack(
    out: Path, python: Path | None, wheels: Path | None, *, parts: tuple[str, ...] = (), deb: bool = False
) -> Path:
    """Make the archive in `out`, whole or not at all, and return its path. Raise PackImpossible."""
    if unknown := [part for part in parts if part not in _PARTS]:
        raise PackImpossible(f"--with {','.join(parts)}: there is no part {unknown[0]}; known: {', '.join(_PARTS)}")
    if "signatures" in parts and python is None:
        raise PackImpossible(
            "--with signatures: PyNaCl is made for one Python and one kind of machine; name it by --python DIR"
        )
    taken_along = [] if python is None else list(interpreter(python))
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        locks = ["requirements.lock", *(f"requirements-{part}.lock" for part in parts if part != "signatures")]
        items = [*sources(), *dependencies(_downloaded(Path(scratch), wheels, locks)), *taken_along]
        if python is not None and "signatures" in parts:
            items += dependencies(_native(Path(scratch), wheels, python), native=True)
        name = file_name(items) if deb else f"ops-updater-{VERSION}.tar.gz"
        return _written(out / name, items, deb=deb)


def _written(path: Path, items: list[Item], *, deb: bool) -> Path:
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                (write_deb if deb else write)(file, items)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as err:
        raise PackImpossible(f"{path}: {err.strerror or err}") from None
    return path


def pure_requirements(lock: str) -> str:
    """The lock's requirements for every machine, without markers. What is for some machines alone is left out: it is
    native and optional.

    pip would judge markers by the Python that it runs on, and leave out what an older one needs.
    """
    kept = []
    for requirement in re.findall(r"^[\w.-]+==(?:[^\n]*\\\n)*[^\n]*", lock, flags=re.MULTILINE):
        first, _, hashes = requirement.partition("\n")
        pinned, _, marker = first.removesuffix("\\").partition(";")
        if "platform" not in marker:
            kept.append(f"{pinned.strip()} \\\n{hashes}\n")
    return "".join(kept)


def _downloaded(scratch: Path, wheels: Path | None, locks: list[str]) -> Path:
    """Have pip bring every wheel of these lock files, its hash checked. Raise PackImpossible."""
    for_all = ["--platform=any", "--implementation=py", "--abi=none", "--python-version=" + ".".join(map(str, _OLDEST))]
    lock = "".join((_ROOT / name).read_text(encoding="utf-8") for name in locks)
    return _by_pip(scratch / "wheels", wheels, pure_requirements(lock), for_all)


def _native(scratch: Path, wheels: Path | None, python: Path) -> Path:
    """Have pip bring the wheels of the signatures' lock file that are made for the Python that is taken along."""
    lock = (_ROOT / "requirements-signatures.lock").read_text(encoding="utf-8")
    version = subprocess.run(
        [python / "bin" / "python3", "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_PYTHON_S,
    ).stdout.strip()
    return _by_pip(scratch / "native", wheels, lock, ["--python-version=" + version])


def _by_pip(folder: Path, wheels: Path | None, requirements: str, words: list[str]) -> Path:
    listed = folder.with_suffix(".txt")
    listed.write_text(requirements, encoding="utf-8")
    words = [*words, "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-input", f"--dest={folder}"]
    if wheels is not None:
        words += ["--no-index", f"--find-links={wheels.absolute()}"]
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "download", *words, "-r", str(listed)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PIP_S)
    except subprocess.TimeoutExpired:
        raise PackImpossible(f"pip was not done within {_PIP_S} s; is a package index reachable?") from None
    if ran.returncode != 0:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR: ")]
        last = errors[-1].removeprefix("ERROR: ") if errors else ran.stderr.strip()[-300:]
        raise PackImpossible(f"can't get what requirements.lock lists: {last}; is a package index reachable?")
    return folder


def sources() -> Iterator[Item]:
    """Our own files."""
    for name in _BESIDE:
        yield Item(name=name, path=_ROOT / name, program=name == "control")
    for page in (_ROOT / "docs").rglob("*.md"):
        yield Item(name=str(page.relative_to(_ROOT)), path=page)
    for path in (_ROOT / "contrib").rglob("*.*"):
        content = path.read_bytes().replace(b"/.venv/bin/updater ", b"/updater ")  # what units run
        yield Item(name=str(path.relative_to(_ROOT)), content=content)
    for path in (_ROOT / "updater/agent_template").iterdir():
        yield Item(name=f"contrib/agent-template/{path.name}", path=path, program=True)
    yield Item(name="man/updater.1", content=man_page().encode())
    yield Item(name="updater", content=_COMMAND.encode(), program=True)
    yield Item(name="updater-lib/__main__.py", content=_MAIN.encode())
    for package in _PACKAGES:
        for path in (_ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield Item(name=f"updater-lib/{path.relative_to(_ROOT)}", path=path)


def dependencies(folder: Path, *, native: bool = False) -> Iterator[Item]:
    """What the wheels in a folder bring. `native`: they may be for one kind of host alone. Raise PackImpossible."""
    for wheel in sorted(folder.iterdir()):
        if not native and not wheel.name.endswith("-none-any.whl"):
            raise PackImpossible(f"{wheel.name} is not pure Python, and would serve one kind of host alone")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                top, _, rest = name.partition("/")
                installer = top.endswith(".dist-info") and rest in _FOR_INSTALLERS
                if not name.endswith("/") and not top.endswith(".data") and not installer:
                    yield Item(name=f"updater-lib/{name}", content=archive.read(name))


def interpreter(folder: Path) -> Iterator[Item]:
    """The files of a Python that can be moved, such as python-build-standalone's. Raise PackImpossible."""
    python = folder / "bin" / "python3"
    script = "import sys, ssl, sqlite3, zlib; print(*sys.version_info[:2])"
    try:
        said = subprocess.run(
            [python, "-I", "-c", script],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_PYTHON_S,
        ).stdout.split()
    except FileNotFoundError:
        raise PackImpossible(f"--python {folder}: there is no bin/python3 in it") from None
    except (OSError, subprocess.SubprocessError) as err:
        raise PackImpossible(f"--python {folder}: bin/python3 does not run, or lacks ssl or sqlite3: {err}") from None
    if tuple(map(int, said)) < _OLDEST:
        raise PackImpossible(f"--python {folder}: it is Python {'.'.join(said)}; 3.{_OLDEST[1]} or newer is needed")
    top = folder.resolve()
    _refuse_rooted(top)
    for path in sorted(folder.rglob("*")):
        name = f"python/{path.relative_to(folder)}"
        mode = path.lstat().st_mode
        if "__pycache__" in path.parts:
            continue
        if stat.S_ISLNK(mode):
            target = os.readlink(path)
            if os.path.isabs(target) or not path.resolve().is_relative_to(top):
                raise PackImpossible(f"{path} links to {target}, outside of --python; expected a folder that is whole")
            yield Item(name=name, link=target)
        elif stat.S_ISREG(mode):
            yield Item(name=name, path=path, program=bool(mode & 0o111))


def _refuse_rooted(top: Path) -> None:
    """Refuse a Python that loads its own library by the path where it was built, as one with a shared libpython does:
    moved, it runs here and on no other host. Raise PackImpossible."""
    maps = Path("/proc/self/maps")  # what a process has loaded; on Linux alone
    script = f"import ssl, sqlite3, zlib; print(open('{maps}').read())"
    if not maps.exists():
        return
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        moved = Path(scratch).resolve() / "python"
        shutil.copytree(top, moved, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "test"))
        words = [str(moved / "bin" / "python3"), "-I", "-c", script]
        try:
            ran = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PYTHON_S)
        except subprocess.TimeoutExpired as err:
            raise PackImpossible(f"--python {top}: moved to another place it does not end: {err}") from None
    left_behind = re.search(rf"\s({re.escape(str(top))}/.*)", ran.stdout)
    if left_behind is None and ran.returncode == 0:
        return
    why = f"it still loads {left_behind[1]}" if left_behind else f"it does not run: {ran.stderr.strip()[-200:]}"
    expected = "expected one that can be, such as python-build-standalone's"
    raise PackImpossible(f"--python {top}: moved to another place {why}; {expected}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
