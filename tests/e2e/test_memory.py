"""What a pass takes of memory, whatever the number of entries and the size of what they name."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.host import Host

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("OPS_UPDATER_CONFIGS", "120"))  # 400: the most entries that an answer may have
AT_ONCE = 32  # remote files that are asked side by side
SIZE = 1024 * 1024
ROOM = 64 * 1024  # KiB above what it takes without
PASSES = 10  # a pass takes what comes within its limit of time, which a loaded machine may fill with few


def peak(host: Host, *argv: str) -> int:
    """The most that a run had in memory, in KiB, as far as that could be seen from outside."""
    run, most = host.begin(*argv), 0
    status = Path(f"/proc/{run.pid}/status")
    reader = threading.Thread(target=run.ended)  # else it waits for who reads what it prints
    reader.start()
    while reader.is_alive():
        with suppress(OSError):  # it has ended
            seen = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
            most = max([most, *map(int, seen)])
        time.sleep(0.01)
    reader.join()
    assert most
    return most


@pytest.mark.parametrize("command", [("plan", "-o", "json"), ("apply", "--once", "-o", "json")])
def test_large_configs_of_many_agents_lie_on_the_disk(host: Host, command: tuple[str, ...]) -> None:
    """None of them can be delivered yet: the tarballs are not there."""
    content = b"x" * SIZE
    small = [host.meta.agent(f"agent-{n}", "1.0.0") for n in range(COUNT)]
    host.meta.desire(*small)
    rest = peak(host, *command)
    large = [
        {**agent, "configFileName": "cfg", "configRemoteUrl": host.meta.publish_config(f"/conf/{n}", content)}
        for n, agent in enumerate(small)
    ]
    host.meta.desire(*large)
    fetched = 0
    for _ in range(PASSES):
        before = len(host.meta.requests)
        above = peak(host, *command) - rest
        fetched = sum(1 for request in host.meta.requests[before:] if request.path.startswith("/conf/"))
        print(f"{fetched} of {COUNT} configs: {above / 1024:.1f} MiB above {rest / 1024:.1f}")
        assert above < ROOM
        if fetched > 2 * AT_ONCE:
            break
    assert fetched > 2 * AT_ONCE, "more than could be in memory for being asked at once"
    assert [path.name for path in (host.var / "cache").glob("*")] == [], "and nothing is left of them"
