"""A real daemon under a stand-in for the manager's socket: what it says from its start to its end."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.host import ROOT, Host
from tests.e2e.processes import Processes, until
from tests.e2e.steps import service_manager

pytestmark = pytest.mark.slow


def test_a_daemon_says_how_it_is_from_start_to_end(host: Host, processes: Processes) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    with service_manager(host.folder / "notify") as (heard, said):
        environ = {**os.environ, "NOTIFY_SOCKET": str(host.folder / "notify"), "WATCHDOG_USEC": "8000000"}
        daemon = processes.start(host.command("daemon", "--now"), cwd=ROOT, env=environ)
        try:
            until(lambda: heard("READY=1"), "it is ready")
            until(lambda: heard("STATUS=1 of 1 agents as desired; next pass "), "it says how it stands")
            until(lambda: heard("WATCHDOG=1"), "it says that it lives")
            host.publish("1.1.0")
            host.desire("1.1.0")
            until(lambda: heard("STATUS=falcon-agent: start 1.1.0"), "it says what it does")
            until(lambda: host.ask().version == "1.1.0", "the new version runs")
            said.clear()
            daemon.send_signal(signal.SIGHUP)
            until(lambda: heard("RELOADING=1") and heard("READY=1"), "it reads its config again")
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=120)
        assert heard("STOPPING=1")
        assert daemon.returncode == 0
