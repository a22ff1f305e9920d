"""What is written into a complete tree, as the reading side and a person find it."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from probes.host.home_reader import Marker, read_marker
from probes.observed import MARKER, Origin
from reconcile.act.host import atomic_fs
from reconcile.act.install import mark

DIGESTS = frozenset({"md5:" + "0" * 32, "sha256:" + "f" * 64})


@pytest.mark.parametrize(
    ("origin", "digests"), [(Origin.UNPACKED, DIGESTS), (Origin.UNPACKED, frozenset()), (Origin.ADOPTED, frozenset())]
)
def test_what_is_marked_is_read_back(tmp_path: Path, origin: Origin, digests: frozenset[str]) -> None:
    fd = atomic_fs.open_dir(tmp_path)
    try:
        mark(fd, origin, digests, "http://127.0.0.1/x.tar.gz")
        assert read_marker(fd) == Marker(origin=origin, digests=digests)
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == [MARKER]


def test_who_signed_is_read_back(tmp_path: Path) -> None:
    fd = atomic_fs.open_dir(tmp_path)
    mark(fd, Origin.UNPACKED, DIGESTS, "http://127.0.0.1/x.tar.gz", "RWkey")
    assert read_marker(fd) == Marker(origin=Origin.UNPACKED, digests=DIGESTS, signed_by="RWkey")
    os.close(fd)


def test_people_can_read_it_too(tmp_path: Path) -> None:
    fd = atomic_fs.open_dir(tmp_path)
    mark(fd, Origin.UNPACKED, DIGESTS, "http://127.0.0.1/x.tar.gz")
    os.close(fd)
    marker = json.loads((tmp_path / MARKER).read_text())
    assert marker["format"] == 1
    assert marker["digests"] == sorted(DIGESTS)
    assert marker["source"] == "http://127.0.0.1/x.tar.gz"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", marker["at"])
    assert stat.S_IMODE((tmp_path / MARKER).stat().st_mode) == 0o644
