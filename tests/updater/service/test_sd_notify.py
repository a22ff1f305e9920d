"""What the service manager gets, over a real socket of the kind that systemd has."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from updater.service.sd_notify import ServiceNotifier


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def heard(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().splitlines()


def environment(sock: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": sock.getsockname(), "PATH": "/bin", **more}


def test_it_is_sent_in_the_form_of_sd_notify(listening: socket.socket) -> None:
    manager = ServiceNotifier(environment(listening))
    manager.ready()
    assert heard(listening) == ["READY=1"]
    manager.status("2 agents\nREADY=0")
    assert heard(listening) == ["STATUS=2 agents READY=0"]  # one line, whatever an error brings
    manager.status("2 agents\nREADY=0")  # the same is not sent again
    manager.reloading()
    first, second = heard(listening)
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    manager.stopping(125)
    assert heard(listening) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=125000000"]


def test_the_watchdog_hears_of_us_and_not_too_often(listening: socket.socket) -> None:
    manager = ServiceNotifier(environment(listening, WATCHDOG_USEC="600000000", WATCHDOG_PID=str(os.getpid())))
    assert manager.patience_s == 150
    manager.alive()
    manager.alive()
    assert heard(listening) == ["WATCHDOG=1"]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(1)


def test_a_watchdog_that_is_meant_for_another_process_is_not_ours(listening: socket.socket) -> None:
    manager = ServiceNotifier(environment(listening, WATCHDOG_USEC="600000000", WATCHDOG_PID="1"))
    assert manager.patience_s is None
    manager.alive()
    manager.ready()
    assert heard(listening) == ["READY=1"]


def test_the_variables_are_for_us_alone(listening: socket.socket) -> None:
    environ = environment(listening, WATCHDOG_USEC="1", WATCHDOG_PID="1")
    ServiceNotifier(environ)
    assert environ == {"PATH": "/bin"}


def test_an_abstract_address(listening: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"ops-updater-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        ServiceNotifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        sock.settimeout(60)
        assert heard(sock) == ["READY=1"]


def test_no_socket_and_a_full_socket_are_no_error(tmp_path: Path, listening: socket.socket) -> None:
    ServiceNotifier({}).ready()
    ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "missing")}).ready()
    manager = ServiceNotifier(environment(listening))
    said = 2000  # far beyond what the kernel queues for one who doesn't read
    for _ in range(said):
        manager.ready()
    listening.setblocking(False)
    kept = 0
    with suppress(BlockingIOError):
        while heard(listening) == ["READY=1"]:
            kept += 1
    assert 0 < kept < said
