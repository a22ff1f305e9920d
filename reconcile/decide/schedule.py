"""When the next pass is, and whether it asks the server. Pure: the clock and the random number come in as arguments.

Each host has a slot on the wall clock, so hosts that were started together don't call together, and a restart of the
server leaves no herd behind (docs/adr/0009).
"""

from __future__ import annotations

import math

from attrs import frozen

RETRIES_PER_INTERVAL = 2
RETRY_BASE_S = 30.0
RETRY_AFTER_LIMIT_S = 3600.0


@frozen(kw_only=True)
class Next:
    """`at`: Unix seconds. `exchange`: whether the server is asked, or agents are only healed. `retry`: a further try
    within an interval whose exchange failed."""

    at: float
    exchange: bool = True
    retry: bool = False


def slot(hostname: str, ip: str, span: float) -> float:
    """This host's second within `span`, in [0, span): the same after every restart."""
    if span <= 0:
        return 0.0
    import hashlib  # it loads OpenSSL, and `plan` has no slot

    # JSON-like framing: ("ab", "c") and ("a", "bc") must not share a slot.
    digest = hashlib.sha256(f"{hostname}\0{ip}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * span


def next_slot(now: float, interval: float, offset: float) -> float:
    """The first time after `now` that is at the slot: congruent to `offset` modulo `interval`."""
    at = math.floor((now - offset) / interval) * interval + offset
    while at <= now:
        at += interval
    return at


def after_pass(
    now: float,
    interval: float,
    offset: float,
    *,
    failed_exchanges: int = 0,
    quiet_until: float = 0.0,
    wake_at: float | None = None,
    chance: float,
) -> Next:
    """When to make the next pass. `failed_exchanges`: in a row within this interval, 0 after a success. `quiet_until`:
    the server's Retry-After as Unix seconds. `wake_at`: when a watch or a hold ends, for a pass without an exchange.
    `chance`: a random number in [0, 1)."""
    at = next_slot(now, interval, offset)
    following = Next(at=at, exchange=quiet_until <= at)
    if 0 < failed_exchanges <= RETRIES_PER_INTERVAL:
        retry = now + chance * RETRY_BASE_S * 2 ** (failed_exchanges - 1)
        if quiet_until <= retry < at:
            following = Next(at=retry, retry=True)
    if wake_at is not None:
        # A second later at the least: a clock that runs back must not make us spin.
        wake = max(wake_at, now + 1.0)
        if wake < following.at:
            following = Next(at=wake, exchange=False, retry=True)
    return following
