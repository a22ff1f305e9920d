"""The pack as a Debian package: the same files below /opt/ops-updater, the units, and a link in /usr/bin.

A package is an `ar` archive of two tarballs (deb(5)); it is written here, so that it can be made on any machine, and is
the same bytes each time. dpkg never sees `cfg.json` and `var/`: they survive upgrade and removal, and go by `purge`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from attrs import evolve

from updater.packaging.archive import Item, write
from updater.version import VERSION

FOLDER = "opt/ops-updater"
_UNITS = "usr/lib/systemd/system"
_CONTROL = """\
Package: ops-updater
Version: {version}
Architecture: {architecture}
Maintainer: the ops-updater authors <maintainers@ops-updater.invalid>
Installed-Size: {size}
Section: admin
Priority: optional
{depends}Description: keeps a host's agents at the version and in the state that a server asks for
 Reports their real versions and states, gets the desired ones back, and upgrades, starts and
 stops them by plans that can be looked at first. It never touches an agent for a fault of its own.
"""
# A daemon that runs is stopped before its files are replaced, and started again after that: by systemd where that
# started it, else by its own control. Agents are no part of it, and run on.
_BEFORE = """\
#!/bin/sh
set -e
case $1 in upgrade | remove) ;; *) exit 0 ;; esac
again=/run/ops-updater.start-again
rm -f "$again"
if [ -d /run/systemd/system ] && systemctl is-active --quiet ops-updater.service; then
    systemctl stop ops-updater.service
    if [ "$1" = upgrade ]; then echo systemd >"$again"; fi
elif /opt/ops-updater/control status 2>/dev/null | grep -qx started; then
    /opt/ops-updater/control stop
    if [ "$1" = upgrade ]; then echo control >"$again"; fi
fi
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now ops-updater.service ops-updater-once.timer || :
fi
find /opt/ops-updater -name __pycache__ -prune -exec rm -rf {} +
"""
_AFTER = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
again=/run/ops-updater.start-again
if [ -f "$again" ]; then
    how=$(cat "$again")
    rm -f "$again"
    if [ "$how" = systemd ]; then systemctl start ops-updater.service; else /opt/ops-updater/control start; fi
elif ! [ -e /opt/ops-updater/cfg.json ]; then
    echo "ops-updater: make /opt/ops-updater/cfg.json from cfg.example.json beside it, then: updater check"
fi
"""
_GONE = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || :; fi
if [ "$1" = purge ]; then
    rm -rf /opt/ops-updater/var /opt/ops-updater/cfg.json
    rmdir /opt/ops-updater 2>/dev/null || :
fi
"""


def write_deb(file: BinaryIO, items: Iterable[Item], architecture: str) -> None:
    """Write the package of a pack's members, for hosts of this architecture."""
    packed = tuple(items)
    placed = [*(evolve(item, name=f"./{FOLDER}/{item.name}") for item in packed), *_beside(packed)]
    data = _tarball(placed)
    sums = "".join(
        f"{hashlib.md5(item.read(), usedforsecurity=False).hexdigest()}  {item.name.removeprefix('./')}\n"
        for item in sorted(placed, key=lambda item: item.name)
        if item.link is None
    )
    control = _CONTROL.format(
        version=VERSION,
        architecture=architecture,
        size=sum(len(item.read()) for item in placed if item.link is None) // 1024,
        depends="" if any(item.name.startswith("python/") for item in packed) else "Depends: python3 (>= 3.10)\n",
    )
    scripts = {"prerm": _BEFORE, "postinst": _AFTER, "postrm": _GONE}
    described = [Item(name=f"./{name}", content=script.encode(), program=True) for name, script in scripts.items()]
    described += [Item(name="./control", content=control.encode()), Item(name="./md5sums", content=sums.encode())]
    file.write(b"!<arch>\n")
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", _tarball(described)),
        ("data.tar.gz", data),
    ):
        file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        file.write(content + b"\n" * (len(content) % 2))


def _beside(items: Iterable[Item]) -> Iterable[Item]:
    """The units, the manual page and the command, where systemd, man and a shell look for them."""
    for item in items:
        if item.name.startswith("contrib/systemd/"):
            yield evolve(item, name=f"./{_UNITS}/{Path(item.name).name}")
        elif item.name == "man/updater.1":
            yield evolve(item, name="./usr/share/man/man1/updater.1")
    yield Item(name="./usr/bin/updater", link=f"/{FOLDER}/updater")


def _tarball(items: Iterable[Item]) -> bytes:
    out = io.BytesIO()
    write(out, items, folders=True)
    return out.getvalue()
