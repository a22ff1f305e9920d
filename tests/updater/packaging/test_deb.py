"""The pack as a Debian package. The real dpkg: tests/system/test_deb.py."""

from __future__ import annotations

import io
import tarfile

from updater.packaging.deb import write_deb
from updater.packaging.sources import sources
from updater.version import VERSION


def members(deb: bytes) -> dict[str, bytes]:
    """The members of an `ar` archive."""
    assert deb.startswith(b"!<arch>\n")
    found, at = {}, 8
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip(), int(deb[at + 48 : at + 58])
        found[name] = deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def test_a_debian_package_has_the_pack_the_units_and_the_command() -> None:
    one, other = io.BytesIO(), io.BytesIO()
    items = sources()
    write_deb(one, items, "arm64")
    write_deb(other, items[::-1], "arm64")
    assert one.getvalue() == other.getvalue()
    found = members(one.getvalue())
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    with tarfile.open(fileobj=io.BytesIO(found["data.tar.gz"])) as data:
        names = data.getnames()
        assert data.getmember("./usr/bin/updater").linkname == "/opt/ops-updater/updater"
    assert {f"./opt/ops-updater/{item.name}" for item in items} <= set(names)
    assert {
        "./usr/share/man/man1/updater.1",
        "./usr/lib/systemd/system/ops-updater.service",
        "./usr/lib/systemd/system/ops-updater-once.timer",
    } <= set(names)
    assert not [name for name in names if name.endswith(("/cfg.json", "/var"))]
    with tarfile.open(fileobj=io.BytesIO(found["control.tar.gz"])) as control:
        content = control.extractfile("./control")
        assert content is not None
        fields = content.read().decode()
    assert f"Version: {VERSION}\nArchitecture: arm64\n" in fields
    assert "Depends: python3 (>= 3.10)\n" in fields
