"""What is said of a folder is true of it, and of none where there is none."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from probes.host.user_access import DirectoryAccess, directory_access, python_info


def test_the_seat_is_this_python() -> None:
    assert (python_info().python, python_info().version) == (sys.executable, sys.version.split()[0].rstrip("+"))


def test_the_first_folder_that_exists_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    here = directory_access((f"{tmp_path}/none", f"{tmp_path}/file", str(tmp_path), "/"))
    assert (here.path, here.may_write) == (str(tmp_path), True)
    total = shutil.disk_usage(tmp_path).total
    assert 0 < here.free <= total


def test_where_none_exists_nothing_is_said(tmp_path: Path) -> None:
    assert directory_access((f"{tmp_path}/none", "a\0b")) == DirectoryAccess()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not directory_access((str(tmp_path),)).may_write
    tmp_path.chmod(0o700)
