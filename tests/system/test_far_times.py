"""Clocks that show what no clock should: before 1970, beyond 2262, the year 9999 and after it. Needs a C compiler."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, end_all_in
from tests.support.faulty_ops_meta import FaultyOpsMeta

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux"),
]

TIMES = {
    "1957": -2_200_000_000,
    "2255": 7_220_000_000,
    "2263": 7_441_000_000,
    "9999": 251_600_000_000,
    "beyond": 300_000_000_000,
    "the end": 9_000_000_000_000_000,
}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source], check=True)
    return made


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture
def host(tmp_path: Path, processes: Processes) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta:
        host = Host(tmp_path, meta, processes)
        host.configure(interval=1)
        yield host
        end_all_in(tmp_path)


def shifted(library: Path, shift: Path) -> dict[str, str]:
    return {"LD_PRELOAD": str(library), "SHIFT_FILE": str(shift)}


@pytest.mark.parametrize("year", TIMES)
def test_each_command_works_whatever_the_clock_shows(host: Host, library: Path, tmp_path: Path, year: str) -> None:
    shift = tmp_path / "shift"
    shift.write_text(str(TIMES[year]))
    env = shifted(library, shift)
    host.publish("1.0.0")
    host.desire("1.0.0")
    assert host.updater("apply", "--once", env=env).code == 0
    host.crash()
    assert host.updater("apply", "--once", env=env).code == 0
    assert host.ask().version == "1.0.0"
    for command in ("plan", "status", "history", f"why {NAME}", f"hold {NAME} --reason r --for 2h", f"release {NAME}"):
        result = host.updater(*command.split(), env=env)
        assert result.code == 0, (command, result)
    host.crash()
    assert host.apply().code == 0, "and when the clock is right again"
    assert host.ask().version == "1.0.0"


def test_a_daemon_lives_through_all_of_them_and_heals(
    host: Host, processes: Processes, library: Path, tmp_path: Path
) -> None:
    host.install("1.0.0")
    shift = tmp_path / "shift"
    shift.write_text("0")
    env = {**os.environ, **shifted(library, shift)}
    daemon = processes.start(host.command("daemon", "--now"), cwd=ROOT, env=env)
    for year in (*TIMES.values(), 0):
        host.updater("release", NAME)  # else what crashes again and again is started after a growing pause
        beats = len(host.meta.heartbeats)
        host.meta.wait_for_heartbeat(since=beats + 1)
        shift.write_text(str(year))
        host.crash()
        assert host.ask().version == "1.0.0", year
        assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    out, err = daemon.communicate(timeout=60)
    assert (daemon.returncode, "Traceback" in out + err + host.log) == (0, False), (out, err)
