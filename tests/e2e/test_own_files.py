"""Each of our own files in var/ as something else: what crashed is started all the same, and nothing is waited for."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def a_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)  # the whole name would be too long for one
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


KINDS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": a_socket,
    "folder": a_folder,
    "file": lambda path: path.write_text("what nobody expects\n"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}
FILES: tuple[str, ...] = (
    "updater.lock",
    "app.pid",
    "app.log",
    "state.db",
    "state.db-journal",
    "state.db-wal",
    "state.db.users",
)
FILES += ("state.db.users.new", "places.json", "metrics.prom")
FOLDERS = ("cache", "holds")
CASES = [(name, "up") for name in (*FILES, *FOLDERS)]
# Not the memory itself: where that is lost and no server says what is wanted, nothing is known.
CASES += [(name, "down") for name in ("updater.lock", "state.db-journal", "holds")]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(("name", "server"), CASES)
def test_what_crashed_is_started_whatever_has_the_name(host: Host, name: str, server: str) -> None:
    host.configure(metrics_textfile=str(host.var / "metrics.prom"))
    host.install("1.0.0")
    host.settle()
    before = host.var.with_name("before")
    shutil.copytree(host.var, before)
    if server == "down":
        host.meta.down()
    for kind, make in KINDS.items():
        if kind == ("folder" if name in FOLDERS else "file"):
            continue
        shutil.rmtree(host.var)
        shutil.copytree(before, host.var)
        remove(host.var / name)
        make(host.var / name)
        host.crash()
        healed = host.updater("apply", "--once")
        assert "please report" not in healed.out + healed.err, (kind, healed)
        assert (healed.code, host.pid() is not None) == (0, True), (kind, healed)
        shutil.rmtree(host.var / "holds", ignore_errors=True)


def test_a_daemon_without_its_own_lock_files_heals_and_is_the_only_one(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    for name in ("updater.lock", "app.pid"):
        remove(host.var / name)
        os.mkfifo(host.var / name)
    host.crash()
    with host.daemon("--now") as daemon:
        assert host.ask().version == "1.0.0"
        second = host.updater("daemon")
        assert (second.code, f"process {daemon.pid} " in second.err) == (75, True), second
    check = host.updater("check").out
    assert f"{host.var / 'updater.lock'} is no file; {host.var / 'app.pid'} is no file" in check


def test_a_var_that_is_no_folder_is_one_line(host: Host) -> None:
    shutil.rmtree(host.var, ignore_errors=True)
    os.mkfifo(host.var)
    refused = host.updater("apply", "--once", NAME)
    assert (refused.code, len(refused.err.splitlines())) == (78, 1), refused
    assert "is not a folder; move it away" in refused.err
