"""A few words to the service manager, in the form of sd_notify(3): ready, reloading, what is done, still alive.

One datagram each, to the socket that the environment names. Without one nothing is sent, and nothing fails by it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceNotifier:
    """What started us, if it wants reports. The variables are taken out of `environ`: they are for us alone."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.variables = {name: environ[name] for name in _VARIABLES if name in environ}
        address = environ.pop("NOTIFY_SOCKET", "")
        watchdog, meant = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(os.getpid()))
        # An address that begins with @ is in Linux's abstract namespace, which has a zero byte there.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = int(watchdog) / 1e6 if watchdog.isdigit() and meant == str(os.getpid()) else 0.0
        self._alive_at = 0.0  # monotonic seconds
        self._status = ""

    @property
    def patience_s(self) -> float | None:
        """How long we may keep silent, at most; None: for ever."""
        return self._watchdog_s / 4 if self._watchdog_s else None

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """The config is read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, within_s: float) -> None:
        """We end, within so many seconds: a unit's TimeoutStopSec may not know this config's limits."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    def status(self, line: str) -> None:
        """What `systemctl status` shows."""
        if line != self._status:
            self._status = line
            self._send(f"STATUS={' '.join(line.split())}")

    def alive(self) -> None:
        """Keep the watchdog away; call it more often than it matters."""
        now = time.monotonic()
        if self._watchdog_s and now - self._alive_at >= self._watchdog_s / 8:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # Never wait for it: a manager that doesn't read must not hold up a pass.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(text.encode("utf-8", "replace"), self._address)
