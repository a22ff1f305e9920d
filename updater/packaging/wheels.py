"""The dependencies of a pack: the wheels that the lock files name, brought by pip, which checks their hashes.

A wheel that is pure Python serves every host. One with compiled parts serves one kind of machine, and most of them one
Python: they are brought for each Python that may run the pack there. The file names of their compiled modules have the
Python in them, so that these lie side by side, and all other files of such wheels are the same.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from updater.packaging.archive import Item

ROOT = Path(__file__).parent.parent.parent
MINORS = range(10, 15)  # of the Pythons 3.x that run a pack
_PIP_S = 1800  # how long pip may take for the wheels of one Python
# What the lock files name that is compiled: isal of all packs, the others for the part `signatures`. cffi needs
# pycparser, which the lock names too, to compile alone.
_COMPILED = {"requirements.lock": ("isal",), "requirements-signatures.lock": ("cffi", "pynacl")}
# pip asks for wheels of just these tags, where it asks for those of another machine than its own.
_MACHINES = {"linux_amd64": "x86_64", "linux_arm64": "aarch64"}
ARCHITECTURES = tuple(_MACHINES)
_MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_24", "manylinux_2_26", "manylinux_2_28")
# What a wheel says for installers alone. Its METADATA and licences come along.
_FOR_INSTALLERS = ("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "entry_points.txt", "top_level.txt")


class PackImpossible(Exception):
    """An archive can't be made. The message is for people."""


def own_architecture(machine: str) -> str:
    """The kind of host that this machine is, by what its kernel says, as tarballs of agents name it."""
    return next((arch for arch, name in _MACHINES.items() if name == machine), machine)


def lock_files_of_compiled(parts: Iterable[str], arch: str) -> list[str]:
    """The lock files of what is compiled. isal has wheels for some kinds of hosts, and its work is done without it."""
    return ["requirements.lock"] * (arch in ARCHITECTURES) + ["requirements-signatures.lock"] * ("signatures" in parts)


def pure(scratch: Path, wheels: Path | None, parts: Iterable[str]) -> Path:
    """Have pip bring the wheels for every host into a folder. Raise PackImpossible.

    Args:
        wheels: a folder to take them from, instead of the package index.
    """
    locks = ["requirements.lock", *(f"requirements-{part}.lock" for part in parts if part != "signatures")]
    words = ["--platform=any", "--implementation=py", "--abi=none", f"--python-version=3.{MINORS[0]}"]
    return _by_pip(scratch / "pure", wheels, "".join(pure_requirements(_lock(name)) for name in locks), words)


def compiled(
    scratch: Path, wheels: Path | None, locks: list[str], arch: str | None, minors: Iterable[int]
) -> list[Path]:
    """Have pip bring the wheels with compiled parts, for each of these Pythons into a folder. Raise PackImpossible.

    Args:
        arch: the kind of host; None: that of the Python which runs this.
    """
    if not locks:
        return []
    wanted = "".join(named_requirements(_lock(lock), _COMPILED[lock]) for lock in locks)
    platforms = [f"--platform={tag}_{_MACHINES[arch]}" for tag in _MANYLINUX] if arch else []
    return [
        _by_pip(scratch / f"compiled-{minor}", wheels, wanted, [*platforms, f"--python-version=3.{minor}"])
        for minor in minors
    ]


def dependencies(folders: Iterable[Path], *, of_one_kind: bool = False) -> Iterator[Item]:
    """What the wheels in these folders bring. Raise PackImpossible.

    Args:
        of_one_kind: they may have compiled parts, for one kind of host.
    """
    brought: dict[str, bytes] = {}
    for wheel in (wheel for folder in folders for wheel in sorted(folder.iterdir())):
        if not of_one_kind and not wheel.name.endswith("-none-any.whl"):
            raise PackImpossible(f"{wheel.name} is not pure Python, and would serve one kind of host alone")
        for name, content in _code(wheel):
            if brought.setdefault(name, content) != content:
                raise PackImpossible(f"{wheel.name} has another {name} than that of another Python")
    for name, content in brought.items():
        yield Item(name=f"updater-lib/{name}", content=content)


def _code(wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            top, _, rest = name.partition("/")
            installer = top.endswith(".dist-info") and rest in _FOR_INSTALLERS
            if not name.endswith("/") and not top.endswith(".data") and not installer:
                yield name, archive.read(name)


def _lock(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _requirements(lock: str) -> Iterator[tuple[str, str, str, str]]:
    """Each one's name, its pin, its marker, its hashes."""
    for requirement in re.findall(r"^[\w.-]+==(?:[^\n]*\\\n)*[^\n]*", lock, flags=re.MULTILINE):
        first, _, hashes = requirement.partition("\n")
        pinned, _, marker = first.removesuffix("\\").partition(";")
        yield pinned.partition("==")[0], pinned.strip(), marker, hashes


def pure_requirements(lock: str) -> str:
    """The lock's requirements for every machine, without markers. What is for some machines alone is left out: it is
    compiled and optional.

    pip would judge markers by the Python that it runs on, and leave out what an older one needs.
    """
    return "".join(
        f"{pin} \\\n{hashes}\n" for _, pin, marker, hashes in _requirements(lock) if "platform" not in marker
    )


def named_requirements(lock: str, names: Iterable[str]) -> str:
    """The lock's requirements of these names, without markers."""
    return "".join(f"{pin} \\\n{hashes}\n" for name, pin, _, hashes in _requirements(lock) if name in names)


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
