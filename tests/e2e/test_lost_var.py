"""A daemon whose var/ or whole folder was removed or moved: it is still found, still alone, and says so."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Completed, Host
from tests.e2e.processes import until

LOST: dict[str, Callable[[Host], object]] = {
    "removed": lambda host: shutil.rmtree(host.var),
    "removed and made anew": lambda host: made_again(host.var),
    "moved away": lambda host: host.var.rename(host.folder / "elsewhere"),
    "its pid file removed": lambda host: (host.var / "app.pid").unlink(),
    "a FIFO as pid file": lambda host: fifo(host.var / "app.pid"),
}


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_again(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir(mode=0o700)


def control(host: Host, verb: str) -> Completed:
    return host.run(str(ROOT / "control"), "-c", str(host.folder / "cfg.json"), verb)


@pytest.mark.parametrize("how", LOST)
def test_it_is_found_and_alone_and_there_again(host: Host, how: str) -> None:
    host.install("1.0.0")
    with host.daemon() as daemon:
        host.wait_for_log("the server is asked at this host's slot")
        assert control(host, "status").out == "started\n"
        LOST[how](host)
        assert control(host, "status").out == "started\n"
        assert control(host, "pid").out == f"{daemon.pid}\n"
        second = host.updater("daemon")
        assert second.code == 75, second
        assert f"process {daemon.pid} " in second.err
        if how != "a FIFO as pid file":
            daemon.send(signal.SIGHUP)  # or else within a minute
            until(lambda: (host.var / "app.pid").exists(), "its pid file is there again")
            until(lambda: (host.var / "app.pid").read_text() == f"{daemon.pid}\n", "and names it")
            host.wait_for_log("was without the pid file of this daemon")
        assert control(host, "status").out == "started\n"
        assert daemon.runs
    assert control(host, "status").out == "stoped\n"


def test_one_whose_folder_was_moved_ends_and_says_so(host: Host) -> None:
    host.install("1.0.0")
    pid = host.pid()
    with host.daemon() as daemon:
        host.wait_for_log("the server is asked at this host's slot")
        moved = host.folder.with_name("moved")
        host.folder.rename(moved)
        daemon.send(signal.SIGHUP)
        ended = daemon.ended()
    assert ended.code == 78
    assert "was removed or moved away while its daemon ran" in ended.err
    assert not host.folder.exists(), "nothing is made in an unexpected place"
    assert host.pid(NAME) == pid
    moved.rename(host.folder)
    assert host.apply().code == 0
