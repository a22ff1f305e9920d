"""A FIFO, a socket or a device in the place of each file that we open: nothing is waited for, and agents are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host

VAR = ("state.db", "state.db-journal", "state.db-wal", "app.log", "holds/other.json", "metrics.prom", "app.pid")


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["FIFO", "device"])
@pytest.mark.parametrize("name", VAR)
def test_what_crashed_is_healed_whatever_stands_below_var(
    host: Host, name: str, make: Callable[[Path], object]
) -> None:
    host.configure(metrics_textfile="var/metrics.prom")
    host.install("1.0.0")
    host.settle()
    in_place_of(host.var / name, make)
    host.crash()
    healed = host.updater("apply", "--once")
    assert healed.code in (0, 3), healed
    assert host.ask().version == "1.0.0"
    for command in ("status", "plan", "history", "check"):
        result = host.updater(*command.split())
        assert result.code in (0, 3), (command, result)
    host.updater("apply", "--once")
    assert host.pid() is not None


@pytest.mark.parametrize("name", ["updater.lock", "cache"])
def test_what_can_not_be_used_is_named(host: Host, name: str) -> None:
    host.install("1.0.0")
    in_place_of(host.var / name, os.mkfifo)
    result = host.updater("apply", "--once")
    assert result.code in (0, 1, 3), result
    assert host.pid() is not None


NAMED = {
    "cfg.json": (("plan",), 78),
    "password": (("plan",), 0),
    "ca.pem": (("plan",), 78),
    "p.json": (("apply", "--plan", "{folder}/p.json"), 64),
    "desired.json": (("plan", "--desired", "{folder}/desired.json"), 69),
    "snapshot.json": (("plan", "--observed", "{folder}/snapshot.json", "--desired", "{folder}/ok.json"), 64),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_a_person_named(host: Host, name: str) -> None:
    host.install("1.0.0")
    command, code = NAMED[name]
    (host.folder / "ok.json").write_text('{"errorMessage": "", "desiredAgents": []}')
    if name == "password":
        host.configure(auth={"user": "me", "password_file": "password"})
    if name == "ca.pem":
        host.configure(tls={"ca_file": "ca.pem"})
    in_place_of(host.folder / name, os.mkfifo)
    result = host.updater(*(word.format(folder=host.folder) for word in command))
    assert result.code == code, result
    assert host.pid(NAME) is not None
