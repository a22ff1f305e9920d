"""Our own files, as members of a pack: the programs, the docs, the units, and what starts a packed updater."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from attrs import evolve

from updater.packaging.archive import Item
from updater.packaging.man import man_page
from updater.packaging.wheels import ROOT

_PACKAGES = ("probes", "reconcile", "updater")
_BESIDE = ("control", "cfg.example.json", "CHANGELOG.md", "LICENSE", "README.md", "README.zh.md", "requirements.lock")
_PAGES = (".md", ".svg")  # of docs/; screenshots are as large as all else in it
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
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def sources() -> tuple[Item, ...]:
    """Our own files. A link of a page that leads to what a pack has not, such as a test, is its text alone."""
    items = tuple(_files())
    names = {item.name for item in items}
    return tuple(_page(item, names) if item.name.endswith(".md") else item for item in items)


def _files() -> Iterator[Item]:
    for name in _BESIDE:
        yield Item(name=name, path=ROOT / name, program=name == "control")
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in _PAGES:
            yield Item(name=str(path.relative_to(ROOT)), path=path)
    for path in (ROOT / "contrib").rglob("*.*"):
        content = path.read_bytes().replace(b"/.venv/bin/updater ", b"/updater ")  # what units run
        yield Item(name=str(path.relative_to(ROOT)), content=content)
    for path in (ROOT / "updater/agent_template").iterdir():
        yield Item(name=f"contrib/agent-template/{path.name}", path=path, program=True)
    yield Item(name="man/updater.1", content=man_page().encode())
    yield Item(name="updater", content=_COMMAND.encode(), program=True)
    yield Item(name="updater-lib/__main__.py", content=_MAIN.encode())
    for package in _PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield Item(name=f"updater-lib/{path.relative_to(ROOT)}", path=path)


def _page(page: Item, names: set[str]) -> Item:
    folder = PurePosixPath("/", page.name).parent

    def link_or_text(link: re.Match[str]) -> str:
        target = posixpath.normpath(folder / link[2]).lstrip("/")
        there = "://" in link[2] or target in names or any(name.startswith(f"{target}/") for name in names)
        return link[0] if there else link[1]

    return evolve(page, path=None, content=_LINK.sub(link_or_text, page.read().decode()).encode())
