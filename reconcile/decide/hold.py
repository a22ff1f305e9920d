"""An operator's hold on an agent: hands off, with owner, reason and end. Pure; reconcile/storage/hold_files.py reads
the files."""

from __future__ import annotations

from probes.values import frozen


@frozen(kw_only=True)
class Hold:
    """`since`, `until`: Unix seconds; None: the file doesn't say, so it lasts until it is released. `everyone`: it is
    the one for all agents."""

    owner: str
    reason: str
    since: float | None = None
    until: float | None = None
    everyone: bool = False

    def remaining(self, now: float) -> float | None:
        """Seconds until it ends, None for never. A clock that was set back can't stretch it beyond its span."""
        if self.until is None:
            return None
        left = self.until - now
        return left if self.since is None else min(left, self.until - self.since)

    def lasts(self, now: float) -> bool:
        remaining = self.remaining(now)
        return remaining is None or remaining > 0


@frozen(kw_only=True)
class Requests:
    """What operators left under `var/holds/`: holds by agent, the hold for all, and what the next pass takes up: the
    names of agents to release, and of those whose place in the fleet's lock is to be given back. `releasers`: who asked
    for a release, as far as that is known."""

    holds: tuple[tuple[str, Hold], ...] = ()
    for_all: Hold | None = None
    releases: frozenset[str] = frozenset()
    place_releases: frozenset[str] = frozenset()
    releasers: tuple[tuple[str, str], ...] = ()

    def hold_on(self, name: str, now: float) -> Hold | None:
        """The hold that lasts for an agent, its own before the one for all."""
        own = next((hold for held, hold in self.holds if held == name), None)
        for hold in (own, self.for_all):
            if hold is not None and hold.lasts(now):
                return hold
        return None

    def released(self, name: str) -> bool:
        return name in self.releases

    def releaser(self, name: str) -> str | None:
        """Who asked for an agent's release; None: it was not asked for."""
        return dict(self.releasers).get(name, "unknown") if name in self.releases else None
