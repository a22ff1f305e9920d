"""A fleet of hosts and the load that it puts on its server: simulated second by second, with the real schedule.

When each host calls is `reconcile.decide.timing.schedule`'s decision; only the server's answers and the passing of time
are made up here. Nothing is measured, so the figures are the same on every machine.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator

from attrs import frozen

from benchmarks.verdicts import Figure
from reconcile.decide.records.record import Awaited
from reconcile.decide.timing.fetch_slot import Splay, fetch_time
from reconcile.decide.timing.schedule import Next, after_pass, next_slot, slot

HOSTS, INTERVAL = 100_000, 300.0
_START = 1_000_000_000.0  # any Unix time
TARBALL = 200 * 10**6  # bytes
_PUBLISHED = 450.0  # seconds after the start
_FETCH_S = 10.0  # from a host's turn until it asks for a place: the download, unpacking
_CHANGE_S = 35.0  # of a place: stop, switch and start of an agent that is up within 5 s, and the watch of 30 s
_OBSERVE_S = 0.3  # from the begin of a pass to its call: the look at the agents

# What the server does with a call at a time, after the start: None for an answer, else the seconds of Retry-After; 0.0
# for a failure without one.
Server = Callable[[float], float | None]


@frozen(kw_only=True)
class Load:
    """Calls by second after the start, and what they would be if all came evenly."""

    calls: Counter[int]
    mean: float

    def peak(self, begin: float, end: float) -> float:
        """The busiest second of a span, as a multiple of the mean."""
        return max((self.calls[second] for second in range(int(begin), int(end))), default=0) / self.mean


def simulate(server: Server, intervals: int, *, hosts: int = HOSTS, restart_at: float | None = None) -> Load:
    """Run a fleet whose daemons started at random times before. `restart_at`: all of them are started again then."""
    chance = random.Random(1)
    offsets = [slot(*host, INTERVAL) for host in _hosts(hosts)]
    due = [(next_slot(_START, INTERVAL, offset), n) for n, offset in enumerate(offsets)]
    heapq.heapify(due)
    failed = [0] * hosts
    calls: Counter[int] = Counter()
    end = _START + intervals * INTERVAL
    restarted = restart_at is None
    while due[0][0] < end:
        at, n = heapq.heappop(due)
        if not restarted and restart_at is not None and at >= _START + restart_at:
            restarted = True  # a daemon that starts waits for its host's slot
            starts = _START + restart_at
            due = [(next_slot(starts, INTERVAL, offset), host) for host, offset in enumerate(offsets)]
            heapq.heapify(due)
            failed = [0] * hosts
            continue
        now = at + _OBSERVE_S
        calls[int(now - _START)] += 1
        answer = server(now - _START)
        failed[n] = 0 if answer is None else failed[n] + 1
        following = _following(now, offsets[n], failed[n], now + answer if answer else None, chance.random())
        heapq.heappush(due, (following.at, n))
    return Load(calls=calls, mean=hosts / INTERVAL)


def _following(now: float, offset: float, failed: int, quiet_until: float | None, chance: float) -> Next:
    """The next pass that asks the server."""
    while True:
        found = after_pass(
            now, INTERVAL, offset, failed_exchanges=failed, quiet_until=quiet_until, wake_at=None, chance=chance
        )
        if found.exchange:
            return found
        now = found.at


def fetches(splay_s: float, published: float, *, hosts: int = HOSTS) -> Counter[int]:
    """When a fleet begins to fetch what was published, by second after the start: at a host's slot it learns of it, and
    at its turn it fetches."""
    return Counter(int(turn - _START) for turn in _turns(splay_s, published, hosts))


@frozen(kw_only=True)
class Ramp:
    """A version on its way through a fleet with a lock. `hours`: from its publishing until the last host that changed
    was done. `touched`: the hosts that changed. `asks`: of the lock server, by second after the start."""

    hours: float
    touched: int
    asks: Counter[int]


def ramp(splay_s: float, places: int, *, good: bool, hosts: int = HOSTS, further_s: float = 3600.0) -> Ramp:
    """Publish a version that comes up, or one that is rolled back wherever it is tried; watch for so long beyond the
    splay. Each host fetches at its turn and asks for a place; refused, it asks again at its slot. A place is given back
    when the watch has ended, or kept, and then asserted in each pass."""
    offsets = [slot(*host, INTERVAL) for host in _hosts(hosts)]
    due = [(fetched + _FETCH_S, n) for n, fetched in enumerate(_turns(splay_s, _PUBLISHED, hosts))]
    heapq.heapify(due)
    back: list[float] = []  # when places that were taken are given back
    asks: Counter[int] = Counter()
    touched = kept = 0
    while due and due[0][0] < _START + splay_s + further_s:
        now, n = heapq.heappop(due)
        while back and back[0] <= now:
            asks[int(heapq.heappop(back) - _START)] += 1
        asks[int(now - _START)] += 1
        if n >= hosts:  # it asserts the place that it keeps
            heapq.heappush(due, (next_slot(now, INTERVAL, offsets[n - hosts]) + _OBSERVE_S, n))
        elif len(back) + kept == places:
            heapq.heappush(due, (next_slot(now, INTERVAL, offsets[n]) + _OBSERVE_S, n))
        else:
            touched += 1
            if good:
                heapq.heappush(back, now + _CHANGE_S)
            else:
                kept += 1
                heapq.heappush(due, (next_slot(now, INTERVAL, offsets[n]) + _OBSERVE_S, n + hosts))
    last = max(back, default=_START + _PUBLISHED)
    return Ramp(hours=(last - _START - _PUBLISHED) / 3600, touched=touched, asks=asks)


def _turns(splay_s: float, published: float, hosts: int) -> list[float]:
    """When each host begins to fetch what was published, as Unix seconds."""
    turns = []
    for host in _hosts(hosts):
        learned = next_slot(_START + published, INTERVAL, slot(*host, INTERVAL)) + _OBSERVE_S
        splay = Splay(span=splay_s, slot=slot(*host, splay_s)) if splay_s else None
        turns.append(fetch_time(Awaited(content=None, since=learned), splay, learned) or learned)
    return turns


def _hosts(count: int) -> list[tuple[str, str]]:
    return [(f"host-{n:06}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(count)]


def answers(seconds: float) -> float | None:
    return None


def down(begin: float, end: float, retry_after: float = 0.0) -> Server:
    """Fails between two times, and asks to wait where it is told to."""
    return lambda seconds: retry_after if begin <= seconds < end else None


def report() -> dict[str, float]:
    """Peak of a second over the mean, in each story (P9)."""
    steady = simulate(answers, 4)
    restart = simulate(answers, 4, restart_at=450.0)
    outage = simulate(down(600, 1500), 10)
    short = simulate(down(600, 720), 10)
    asked = simulate(down(600, 630, retry_after=900.0), 12)
    slow = simulate(down(600, 1200, retry_after=30.0), 10)
    return {
        "steady": steady.peak(300, 1200),
        "mass restart": restart.peak(450, 1200),
        "in the first interval of an outage of three": outage.peak(600, 900),
        "in the second": outage.peak(900, 1200),
        "in the third": outage.peak(1200, 1500),
        "in the first interval after it": outage.peak(1500, 1800),
        "an interval after that": outage.peak(1800, 3000),
        "in an outage of two minutes": short.peak(600, 720),
        "in the interval after it": short.peak(720, 1020),
        "one interval later": short.peak(1020, 3000),
        "Retry-After of 900 s obeyed": asked.peak(600, 3600),
        "slow server, Retry-After of 30 s": slow.peak(600, 1500),
        "one interval after it was slow": slow.peak(1500, 3000),
    }


def rush() -> dict[str, float]:
    """A new version of 200 MB for all: what the busiest minute asks of the servers, in Gbit/s, without and with
    `fetch_splay`."""
    return {
        "without fetch_splay": _busiest_minute(fetches(0.0, _PUBLISHED)),
        "fetch_splay of 1 h": _busiest_minute(fetches(3600.0, _PUBLISHED)),
        "fetch_splay of 8 h": _busiest_minute(fetches(8 * 3600.0, _PUBLISHED)),
    }


def locked() -> dict[str, float]:
    """The same with a fleet's lock of 150 places and `fetch_splay` of 8 h: how long a good version takes, how many
    hosts a bad one touches, and how the hosts that wait for a place ask then."""
    splay = 8 * 3600.0
    good, bad = ramp(splay, 150, good=True), ramp(splay, 150, good=False)
    halted = [bad.asks[second] for second in range(int(splay) + 900, int(splay) + 3600)]
    return {
        "hours that a good version takes": good.hours,
        "hosts that a good version reaches": good.touched,
        "hosts that a bad version touches": bad.touched,
        "asks in the busiest second over the mean, fleet halted": max(halted) * len(halted) / sum(halted),
        "asks a second, fleet halted": sum(halted) / len(halted),
    }


AIMS = {
    "steady": 1.2,
    "mass restart": 1.2,
    "in the first interval of an outage of three": 2.2,
    "in the first interval after it": 1.2,
}


def figures() -> Iterator[Figure]:
    """The load that 100,000 hosts put on the server, by the real schedule."""
    for story, peak in report().items():
        work, mean = "calls in the busiest second", "their mean"
        yield Figure.exact(f"P9 {story}", work, peak, yardstick=mean, aim=AIMS.get(story))
    for story, gbit in rush().items():
        yield Figure.exact(f"P9 {story}", "200 MB for all, busiest minute", gbit, unit="Gbit/s")


LOCKED_AIMS = {
    "hours that a good version takes": 8.1,
    "hosts that a bad version touches": 150,
    "asks in the busiest second over the mean, fleet halted": 1.3,
}


def locked_figures() -> Iterator[Figure]:
    """The same fleet with a lock of 150 places and a `fetch_splay` of 8 h."""
    for what, value in locked().items():
        yield Figure.exact(f"P12 {what}", "lock of 150 places, splay 8 h", value, aim=LOCKED_AIMS.get(what))


def _busiest_minute(begun: Counter[int]) -> float:
    minutes: Counter[int] = Counter()
    for second, count in begun.items():
        minutes[second // 60] += count
    return max(minutes.values()) / 60 * TARBALL * 8 / 1e9


if __name__ == "__main__":
    for name, value in report().items():
        print(f"{name:60} {value:10.2f}")
    for name, value in rush().items():
        print(f"{name:60} {value:10.2f} Gbit/s")
    for name, value in locked().items():
        print(f"{name:60} {value:10.2f}")
