"""A real daemon that waits as a small process between its passes: it stays the same daemon for all who look, obeys as
before, and forgets nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Daemon, Host
from tests.e2e.processes import Processes, until
from tests.e2e.steps import service_manager
from tests.loopback import Loopback, Peer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.python_sensitive,
    pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux to wait so"),
]

ALWAYS = ("--stand-by-from", "0")
NOBODY = "127.0.0.1:1"  # the port of no service that is in use
HELD = 6  # descriptors of a wait: the three standard ones, the folder, app.pid, the document
_MIB = 2**20


def waits(pid: int) -> bool:
    """Whether the process is the small one: it has the document open, and nothing of the network's library."""
    try:
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        loaded = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return any("ops-updater-daemon" in link for link in links) and "sqlite" not in loaded


def seen(pid: int) -> tuple[bytes, bytes, str]:
    """What others see of a process: its command line, its environment, its working directory."""
    folder = Path(f"/proc/{pid}")
    return (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes(), os.readlink(folder / "cwd")


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB


def descriptors(pid: int) -> list[str]:
    """What the small process has open, except for what it reads while it loads the program; empty while it changes."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
    return sorted(link for link in links if "memfd:said" not in link)


@contextmanager
def waiting(host: Host, *argv: str) -> Iterator[Daemon]:
    """A daemon that has come to its first wait."""
    with host.daemon(*argv, *ALWAYS) as daemon:
        until(lambda: waits(daemon.pid), "it waits")
        yield daemon


def test_it_is_the_same_daemon_for_all_who_look_and_holds_less_than_twelve_mebibytes(host: Host) -> None:
    host.install("1.0.0")
    host.configure(interval="100d")
    with host.daemon("--stand-by-from", "1000d") as whole:
        host.wait_for_log("the server is asked at this host's slot")
        usual = seen(whole.pid)
    with waiting(host) as daemon:
        assert (host.var / "app.pid").read_text() == f"{daemon.pid}\n"
        until(lambda: seen(daemon.pid)[1], "exec has set up its environment")
        command, environ, folder = seen(daemon.pid)
        assert (environ, folder) == usual[1:]
        assert command.replace(b"\0--stand-by-from\x000", b"") == usual[0].replace(b"\0--stand-by-from\x001000d", b"")
        assert rss(daemon.pid) <= 12
        assert host.updater("daemon").code == 75
        daemon.send(signal.SIGTERM)
        assert daemon.ended().code == 0
    assert host.log.rstrip().endswith("ended")
    assert (host.var / "app.pid").read_text() == ""


def test_it_comes_back_for_each_slot_heals_upgrades_and_keeps_no_descriptor(host: Host) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    with waiting(host) as daemon:
        before = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= before + 3, "three more heartbeats")
        until(lambda: waits(daemon.pid) and len(descriptors(daemon.pid)) == HELD, "it waits, with few files open")
        host.crash()
        until(host.pid, "the crash is healed")
        host.publish("1.1.0")
        host.desire("1.1.0")
        until(lambda: host.ask().version == "1.1.0", "the new version runs")
        before = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= before + 5, "five more heartbeats")
        until(lambda: waits(daemon.pid) and len(descriptors(daemon.pid)) == HELD, "it waits, with no more of them")
    assert host.log.count("started, pid") == 1


def test_the_config_in_force_stays_until_a_reload(host: Host) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    with waiting(host) as daemon:
        good = (host.folder / "cfg.json").read_text()
        (host.folder / "cfg.json").write_text("{")
        before = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= before + 3, "three more heartbeats by the config in force")
        daemon.send(signal.SIGHUP)
        host.wait_for_log("the config is wrong, the old one stays")
        (host.folder / "cfg.json").write_text(good.replace("liutian-01", "liutian-02"))
        daemon.send(signal.SIGHUP)
        host.wait_for_log("config read again")
        host.meta.wait_for_heartbeat(lambda beat: beat["hostname"] == "liutian-02", 60)


def test_what_lasts_is_logged_once_over_all_waits(host: Host) -> None:
    host.install("1.0.0")
    host.configure(interval=1, server=f"http://{NOBODY}")
    with waiting(host) as daemon:
        until(lambda: host.log.count("ServerReachable is now False") == 1, "the outage is logged")
        for _ in range(3):
            until(lambda: not waits(daemon.pid), "it makes a pass")
            until(lambda: waits(daemon.pid), "it waits")
    assert host.log.count("ServerReachable is now False") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_ends_it(host: Host, number: int) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    for moment in range(6):
        with waiting(host, "--now") as daemon:
            for _ in range(moment):  # some come while it turns into the other process, and some amid a pass
                os.sched_yield()
            if moment % 2:
                until(lambda daemon=daemon: not waits(daemon.pid), "it comes back")  # type: ignore[misc]
            daemon.send(number)
            assert daemon.ended().code == 0
    assert host.log.count("started, pid") == host.log.count("ended")


def test_an_agents_name_is_hidden_while_it_waits_too(host: Host, tmp_path: Path, processes: Processes) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    host.folder = host.folder.rename(tmp_path / NAME)
    with waiting(host) as daemon:
        before = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= before + 2, "two more heartbeats")
        until(lambda: waits(daemon.pid), "it waits")
        until(lambda: NAME.encode() not in seen(daemon.pid)[0], "its command line does not hold the agent's name")


def test_a_lost_var_is_made_again_and_a_lost_folder_ends_it(host: Host, tmp_path: Path) -> None:
    host.install("1.0.0")
    host.configure(interval="100d")
    with waiting(host) as daemon:
        shutil.rmtree(host.var)
        daemon.send(signal.SIGHUP)  # it looks at once, and not within its minute
        until(lambda: (host.var / "app.pid").exists(), "var/ is there again")
        until(lambda: waits(daemon.pid), "it waits")
        assert (host.var / "app.pid").read_text() == f"{daemon.pid}\n"
        host.folder.rename(tmp_path / "moved")
        daemon.send(signal.SIGCHLD)
        assert daemon.ended().code == 78
    assert "was removed or moved away while its daemon ran" in (tmp_path / "moved/var/app.log").read_text()


def test_what_crashed_is_healed_though_the_memory_can_not_be_read_by_now(host: Host) -> None:
    host.install("1.0.0")
    host.configure(interval=1, server=f"http://{NOBODY}")
    with waiting(host), closing(sqlite3.connect(host.var / "state.db")) as another:
        another.execute("BEGIN EXCLUSIVE")
        host.crash()
        until(host.pid, "the crash is healed")


def test_a_service_manager_hears_of_one_daemon(host: Host, processes: Processes) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    with service_manager(host.folder / "notify") as (heard, said):
        environ = {**os.environ, "NOTIFY_SOCKET": str(host.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        daemon = processes.start(host.command("daemon", *ALWAYS), cwd=ROOT, env=environ)
        try:
            until(lambda: heard("READY=1") and waits(daemon.pid), "it waits")
            host.configure(interval="100d")
            daemon.send_signal(signal.SIGHUP)
            until(lambda: heard("RELOADING=1") and waits(daemon.pid), "it has read its config")
            said.clear()
            until(lambda: heard("WATCHDOG=1") and waits(daemon.pid), "it says that it lives while it waits")
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=120)
        assert heard("STOPPING=1")
        assert daemon.returncode == 0


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program, to be upgraded under its daemon."""
    folder = tmp_path / "program"
    for package in ("updater", "reconcile", "probes"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_an_upgrade_under_it_is_taken_up_once_it_can_be_loaded(host: Host, processes: Processes, program: Path) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    argv = [sys.executable, "-m", "updater", "-c", str(host.folder / "cfg.json"), "daemon", *ALWAYS]
    daemon = processes.start(argv, cwd=program, env=dict(os.environ))
    try:
        until(lambda: waits(daemon.pid), "it waits")
        version = program / "updater/version.py"
        version.rename(program / "updater/version.half")
        host.wait_for_log("no pass was made: the updater can't be loaded")
        before = host.log.count("can't be loaded")
        until(lambda: host.log.count("can't be loaded") > before, "it is tried again at the next slot")
        version.write_text((program / "updater/version.half").read_text().replace("0.1.0", "9.9.9"))
        host.wait_for_log("the updater was upgraded from 0.1.0 to 9.9.9")
        before = len(host.meta.heartbeats)
        host.crash()
        until(host.pid, "the crash is healed")
        until(lambda: len(host.meta.heartbeats) > before, "a heartbeat")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=120)
    assert daemon.returncode == 0


def test_a_start_that_fails_for_good_leaves_it_waiting_and_it_still_ends_on_sigterm(
    host: Host, processes: Processes, program: Path
) -> None:
    host.install("1.0.0")
    host.configure(interval=1)
    argv = [sys.executable, "-m", "updater", "-c", str(host.folder / "cfg.json"), "daemon", *ALWAYS]
    daemon = processes.start(argv, cwd=program, env=dict(os.environ))
    try:
        until(lambda: waits(daemon.pid), "it waits")
        shutil.rmtree(program / "updater/commands")
        host.wait_for_log("can't be loaded")
        assert host.pid() is not None
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=120)
    assert daemon.returncode == 0


def test_a_child_that_ends_while_it_waits_is_no_zombie(host: Host, processes: Processes) -> None:
    """An agent in the foreground of its `start` stays the daemon's child."""
    host.install("1.0.0")
    host.configure(interval="100d")
    spawn = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    argv = [sys.executable, "-c", spawn, *host.command("daemon", *ALWAYS)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            child = int(daemon.stdout.readline())
            until(lambda: waits(daemon.pid), "it waits")
            os.kill(child, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{child}").exists(), "the child is reaped")
            assert waits(daemon.pid)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=120)


def test_the_document_has_standard_output_for_itself(host: Host) -> None:
    """A process that is given the document of another takes it for nothing."""
    fd = os.memfd_create("ops-updater-daemon", 0)
    try:
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "resumes": False}).encode(), 0)
        ended = subprocess.run(
            host.command("daemon", "--check"), cwd=ROOT, pass_fds=(fd,), capture_output=True, text=True, timeout=120
        )
    finally:
        os.close(fd)
    assert "Traceback" not in ended.stderr


def test_no_report_is_lost_nor_what_became_of_it(host: Host) -> None:
    """It waits so only once a slow server has the report: else it would be reported nowhere."""
    came, goes_on = threading.Event(), threading.Event()

    def slow(peer: Peer) -> None:
        peer.request()
        came.set()
        goes_on.wait(60)
        peer.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    with Loopback(slow) as server:
        host.install("1.0.0")
        host.configure(interval="30d", log_level="debug", report_to=f"{server.origin}/in")
        with host.daemon("--now", *ALWAYS):
            assert came.wait(60)
            host.wait_for_log("next pass in")  # the pass is over, and would not wait for it
            goes_on.set()
            host.wait_for_log("ReportDelivered is now False (ServerUnreachable)")
            until(
                lambda: host.status().condition("ReportDelivered", None) == ("False", "ServerUnreachable"), "it is kept"
            )
        assert len(server.requests) == 1
