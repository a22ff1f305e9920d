"""What the objects in `cfg.json` become. Sizes in bytes, times in seconds."""

from __future__ import annotations

from pathlib import Path

from attrs import field

from probes.values import frozen
from reconcile.decide.timing.fleet_places import Groups


@frozen(kw_only=True)
class HttpConfig:
    """Local HTTP. `listen`: host:port; without a host all of this machine's addresses."""

    enabled: bool
    listen: str


@frozen(kw_only=True)
class AuthConfig:
    """Basic auth: sent to the server's own origin and to `hosts` (origins). `password`: what the file holds; None where
    it can't be read now, with the `trouble` of it."""

    user: str
    password_file: Path = field(eq=False)
    hosts: tuple[str, ...]
    password: str | None = field(default=None, repr=False)
    trouble: str = ""


@frozen(kw_only=True)
class TlsConfig:
    """Whose certificates are trusted, and which must be served by the own origins (None: any of those)."""

    ca_file: Path | None
    pin_sha256: frozenset[str] | None


@frozen(kw_only=True)
class ControlTimeouts:
    """Limits of one control call and its effect, together."""

    status: float
    start: float
    stop: float


@frozen(kw_only=True)
class FleetLockConfig:
    """A FleetLock server, and the group of each agent."""

    url: str
    group: Groups
