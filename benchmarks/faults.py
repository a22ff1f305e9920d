"""What a fault costs, in seconds: a version that dies at once (P1b), a crash while servers hang (P11)."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import hosts
from benchmarks.measure import Ratio, counted, interleaved, last_time, served, updater

_DIES = """#!/bin/sh
case $1 in status) echo stoped ;; esac
"""
_WATCH_S = 30  # the default; `hosts.host` has none
_PATIENCE_S = 60.0


def failed_upgrade(folder: Path) -> Ratio:
    """Old gone -> old ready again, where the new version's start leaves nothing that runs."""
    config = hosts.host(folder, 1, hosts.TIMED, watch=_WATCH_S)
    home = config.parent / "agents" / "agent-0"
    (home / "1.0" / "up").touch()
    subprocess.run(updater(config, "apply", "--once", "-q"), check=True)  # so that it is known to be good
    with served(folder / "www") as url:

        def ours() -> float:
            version = f"{next(versions)}.0"
            packed = hosts.published(folder / "www", version)
            hosts.tarball(packed, f"{_DIES}# {version}\n")
            md5 = hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()
            hosts.desire(folder, [hosts.entry("agent-0", version, home.parent, url, md5)])
            subprocess.run(updater(config, "apply", "--once", "-q"), stdout=subprocess.DEVNULL)
            assert (home / ".version").read_text().strip() == "1.0"
            return last_time(home / "ready") - last_time(home / "gone")

        versions = iter(range(2, 100))
        return interleaved(ours, counted, 2)


def healed_while_origins_hang(folder: Path, origins: int = 20) -> Ratio:
    """A pass begins -> the crashed agent is ready, while as many servers take requests and answer none."""
    rounds = iter(range(100))
    with ExitStack() as stack:
        hanging = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(origins)]
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}/cfg.json" for one in hanging]

        def ours() -> float:
            config = hosts.host(folder / str(next(rounds)), origins, hosts.INSTANT)
            home = config.parent / "agents" / "agent-0"
            (home / "1.0" / "control").write_text(hosts.TIMED)
            more = ({"configFileName": "cfg.json", "configRemoteUrl": url} for url in urls)
            entries = [hosts.entry(f"agent-{n}", "1.0", home.parent) | one for n, one in enumerate(more)]
            hosts.desire(config.parent, entries)
            began = time.time()
            with subprocess.Popen(updater(config, "apply", "--once", "-q"), stdout=subprocess.DEVNULL) as run:
                while not (home / "ready").exists() and run.poll() is None and time.time() < began + _PATIENCE_S:
                    time.sleep(0.01)
                run.terminate()
            return last_time(home / "ready") - began

        return interleaved(ours, counted, 3)
