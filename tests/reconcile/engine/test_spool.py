"""Bytes kept on the disk for later in a pass: in one file without a name, for as long as they may be read."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest

from reconcile.engine.spool import Spool
from reconcile.errors import WriteFailed


def files_below(folder: Path) -> int:
    """How many files there this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(link.startswith(f"{folder}/") for link in links)


def test_what_is_put_is_read_again_in_any_order_and_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    spool = Spool(folder)
    assert not folder.exists(), "with the first bytes"
    contents = [b"one", b"", bytes(range(256)) * 10_000, b"last"]
    readers = [spool.put(content) for content in contents]
    for _ in range(2):
        assert [reader() for reader in reversed(readers)] == list(reversed(contents))
    assert (os.listdir(folder), folder.stat().st_mode & 0o777) == ([], 0o700)
    assert files_below(folder) == 1, "one file for all"
    last = readers[-1]
    del spool, readers
    gc.collect()
    assert last() == b"last", "it is kept for as long as it may be read"
    del last
    gc.collect()
    assert files_below(folder) == 0


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match=r"write '.*/file/cache': Not a directory"):
        Spool(tmp_path / "file" / "cache").put(b"x")
    with pytest.raises(WriteFailed, match=r"write '.*/file'"):
        Spool(tmp_path / "file").put(b"x")
