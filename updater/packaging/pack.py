"""Make `ops-updater-{version}.tar.gz`: the updater with all that it needs, for hosts without a package index.

The archive keeps the convention that we ask of agents. Sources and dependencies lie side by side in `updater-lib/`,
which Python runs as a folder: that comes first on its path even with `-I`, so neither a venv nor a .pth file is needed.
Without compiled parts one archive serves every host. The same sources and locks give the same bytes. Only `./control
pack` and the release call this.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import frozen

from probes.errors import ToolMissing
from updater.commands.argument_parser import Parser
from updater.commands.context import USAGE, UsageWrong
from updater.packaging.archive import Item, whole, write
from updater.packaging.deb import write_deb
from updater.packaging.interpreter import interpreter, minor_version
from updater.packaging.sources import sources
from updater.packaging.wheels import (
    ARCHITECTURES,
    MINORS,
    ROOT,
    PackImpossible,
    compiled,
    dependencies,
    lock_files_of_compiled,
    own_architecture,
    pure,
)
from updater.publish.signing import SigningFailed
from updater.version import VERSION

_PARTS = ("web", "signatures")


@frozen(kw_only=True)
class PackContents:
    """What goes into a pack beside the updater and what it needs.

    Args:
        parts: optional parts.
        arch: the kind of host that it is for, with compiled parts for each Python there; None: every host.
        python: the folder of a Python that is taken along, for hosts of this machine's kind; not together with arch.
        wheels: the folder to take wheels from, instead of the package index.
    """

    parts: tuple[str, ...] = ()
    arch: str | None = None
    python: Path | None = None
    wheels: Path | None = None

    @property
    def kind(self) -> str | None:
        """The only kind of host that the pack serves; None: every host."""
        if self.python is None:
            return self.arch
        return own_architecture(platform.machine())


def main(argv: list[str]) -> int:
    """Make the archive, and say where it lies. The exit code."""
    words = "make ops-updater-VERSION.tar.gz, the updater with all that it needs"
    parser = Parser(prog="./control pack", description=words)
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "dist", help="default: dist/ beside control")
    parser.add_argument("--arch", metavar="ARCH", help=f"for hosts of this kind alone: {', '.join(ARCHITECTURES)}")
    parser.add_argument("--python", metavar="DIR", type=Path, help="take this interpreter along: DIR/bin/python3")
    parser.add_argument(
        "--with",
        metavar="PART[,PART]",
        dest="parts",
        default="",
        help="optional parts: web (the page and metrics), signatures (trusted_keys; with --arch or --python)",
    )
    parser.add_argument("--deb", action="store_true", help="make a Debian package of it, with the units")
    parser.add_argument("--wheels", metavar="DIR", type=Path, help="take the wheels from here, not from the index")
    return made(parser, argv, _make)


def _make(options: argparse.Namespace) -> list[str]:
    parts = tuple(part for part in options.parts.split(",") if part)
    contents = PackContents(parts=parts, arch=options.arch, python=options.python, wheels=options.wheels)
    path = pack(options.out, contents, deb=options.deb)
    content = path.read_bytes()
    return [str(path), f"{len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}"]


def made(parser: Parser, argv: list[str], make: Callable[[argparse.Namespace], Iterable[object]]) -> int:
    """Make what the words ask for, and print what that was, or why it can't be. The exit code."""
    try:
        lines = make(parser.parse_args(argv))
    except UsageWrong as err:
        print(f"control: {err}", file=sys.stderr)
        return USAGE
    except (PackImpossible, SigningFailed, ToolMissing, OSError) as err:
        print(f"control: {err}", file=sys.stderr)
        return 1
    print(*lines, sep="\n")
    return 0


def pack(out: Path, contents: PackContents, *, deb: bool = False) -> Path:
    """Make the archive in `out`, whole or not at all, and return its path. Raise PackImpossible."""
    return written(out, members(contents), contents, deb=deb)


def members(contents: PackContents) -> tuple[Item, ...]:
    """All that lies in the pack. Raise PackImpossible."""
    _refuse(contents)
    minors = MINORS if contents.python is None else (minor_version(contents.python),)
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        folders = [pure(Path(scratch), contents.wheels, contents.parts)]
        if contents.kind is not None:
            locks = lock_files_of_compiled(contents.parts, contents.kind)
            folders += compiled(Path(scratch), contents.wheels, locks, contents.arch, minors)
        taken_along = () if contents.python is None else interpreter(contents.python)
        return (*sources(), *dependencies(folders, of_one_kind=contents.kind is not None), *taken_along)


def _refuse(contents: PackContents) -> None:
    if unknown := [part for part in contents.parts if part not in _PARTS]:
        known = ", ".join(_PARTS)
        raise PackImpossible(f"--with {','.join(contents.parts)}: there is no part {unknown[0]}; known: {known}")
    if contents.arch is not None and contents.arch not in ARCHITECTURES:
        raise PackImpossible(f"--arch {contents.arch}: expected one of {', '.join(ARCHITECTURES)}")
    if contents.arch is not None and contents.python is not None:
        raise PackImpossible("--python DIR serves hosts of this machine's kind: leave out --arch, or the Python")
    if "signatures" in contents.parts and contents.kind is None:
        raise PackImpossible(
            "--with signatures: PyNaCl is made for one kind of machine; name that by --arch, or take a Python along "
            "by --python DIR"
        )


def written(out: Path, items: tuple[Item, ...], contents: PackContents, *, deb: bool = False) -> Path:
    """Write the archive of these members into `out`, whole or not at all. Raise PackImpossible."""
    kind = f"-{contents.arch}" if contents.arch else ""
    architecture = (contents.kind or "all").removeprefix("linux_")  # in dpkg's words
    name = f"ops-updater_{VERSION}_{architecture}.deb" if deb else f"ops-updater-{VERSION}{kind}.tar.gz"
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            if deb:
                write_deb(file, items, architecture)
            else:
                write(file, items)
    except OSError as err:
        raise PackImpossible(f"{path}: {err.strerror or err}") from None
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
