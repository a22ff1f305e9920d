"""When the next pass is, and whether it asks the server. Pure: the clock and the random number come in as arguments.

Each host has a slot on the wall clock, so hosts that were started together don't call together, and a restart of the
server leaves no herd behind (docs/adr/0009). A lost answer is asked for once more, an outage is not (docs/adr/0036).
"""

from __future__ import annotations

import math

from probes.values import frozen

RETRY_AFTER_LIMIT_S = 3600.0


@frozen(kw_only=True)
class Next:
    """`at`: Unix seconds. `exchange`: whether the server is asked, or agents are only healed."""

    at: float
    exchange: bool = True


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


def next_poll(now: float, every: float, offset: float, *, quiet_until: float | None = None) -> float:
    """When a file is asked next whether it changed: at the host's slot within `every`, once what the server asked for
    by Retry-After (`quiet_until`) is over."""
    return next_slot(now if quiet_until is None else max(now, quiet_until), every, offset)


def after_pass(
    now: float,
    interval: float,
    offset: float,
    *,
    failed_exchanges: int = 0,
    quiet_until: float | None = None,
    wake_at: float | None = None,
    chance: float,
) -> Next:
    """When to make the next pass. `failed_exchanges`: in a row, 0 after a success. `quiet_until`: as Unix seconds what
    the server asked for by Retry-After when it failed; None: nothing. `wake_at`: when a watch or a hold ends, for a
    pass without an exchange. `chance`: a random number in [0, 1)."""
    at = next_slot(now, interval, offset)
    following = Next(at=at, exchange=quiet_until is None or quiet_until <= at)
    if failed_exchanges == 1 and quiet_until is None:
        # Anywhere before the slot, sooner rather than later: squared, half of them come within a quarter of the time.
        following = Next(at=min(at, now + chance**2 * (at - now)))
    if wake_at is not None:
        # A second later at the least: a clock that runs back must not make us spin.
        wake = max(wake_at, now + 1.0)
        if wake < following.at:
            following = Next(at=wake, exchange=False)
    return following
