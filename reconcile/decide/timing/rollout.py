"""Which hosts take new content while a rollout is under way (docs/interface.md, section 7). Pure.

Each host decides by itself, from a hash that anybody can compute: no host knows of another, raising the percentage
only adds hosts, and the same hosts come first each time that the seed is the same.
"""

from __future__ import annotations

from reconcile.source import Rollout

_SHARES = 10_000  # hundredths of a percent


def includes(rollout: Rollout, hostname: str, agent: str, version: str) -> bool:
    """Whether this host takes this agent's content by now."""
    seed = version if rollout.seed is None else rollout.seed
    return share_of(hostname, agent, seed) < round(rollout.percent * 100, 6)


def share_of(hostname: str, agent: str, seed: str) -> int:
    """This host's place among all, from 0 to 9999: it takes the content once percent x 100 is above it."""
    import hashlib  # it loads OpenSSL, and most entries have no rollout

    digest = hashlib.sha256("\0".join((hostname, agent, seed)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % _SHARES
