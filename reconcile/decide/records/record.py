"""What is remembered of an agent between passes, as values. Pure; kept by reconcile/storage/store.py.

Memory never decides what is on disk: it holds what the disk can't show. Which content was good, which failed and how
often, and a switch whose end is still to be seen. What an observation or a plan changes in it is in upgrade/.
"""

from __future__ import annotations

from enum import Enum

from attrs import field

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.actions import ResponseFingerprint
from reconcile.decide.conditions import Condition
from reconcile.decide.records.content import ConfigMemory, Content, DigestFile

# The rules of retrying (docs/adr/0018). Seconds.
BEFORE_SWITCH_DELAYS = (60.0, 300.0, 900.0, 3600.0)
CRASH_FIRST_DELAY, CRASH_LONGEST_DELAY = 10.0, 300.0
CRASHES_FORGOTTEN_AFTER = 600.0
TRIES_WITHOUT_VERDICT = 3
LONG_AFTER_WATCH = 600.0  # beyond the usual pauses between two lines of cron
DOWNLOADED_AGAIN_AFTER = 6 * 3600.0


class FailureKind(Enum):
    """What a failure says about its content: NOT_REACHED, the old one still is in use; ROLLED_BACK, it was tried."""

    NOT_REACHED = "not reached"
    ROLLED_BACK = "rolled back"


@frozen(kw_only=True)
class Failure:
    """Content that failed. `count`: times in a row. `at`: Unix seconds of the last. `served`: the wrong bytes that were
    downloaded for it, `downloads` times, the last time at `downloaded_at`. `home`: the one that it was to move into,
    and failed in; None: it failed where the agent lives, and counts everywhere. `outlived`: what it replaced still had
    processes, which may be why it did not start, so it is tried again by time."""

    content: Content
    verdict: FailureKind
    reason: str
    message: str
    at: float
    count: int = 1
    served: ResponseFingerprint | None = None
    downloads: int = 0
    downloaded_at: float = 0.0
    home: HomeRef | None = field(default=None, metadata={"key": "place"})
    outlived: bool = False

    def is_of(self, content: Content, verdict: FailureKind, home: HomeRef | None) -> bool:
        """Whether it says so of this content in this home; without a home, of any."""
        there = self.home is None or home is None or self.home.same_home(home)
        return self.verdict is verdict and self.content.matches(content) and there

    def not_again(self, now: float) -> ResponseFingerprint | None:
        """The bytes that are not downloaded now if the server still has them; None: whatever it has is.

        A transfer breaks as well as a file, so the second try is a whole one; and a cache on the way may lie, so there
        is one now and then.
        """
        lately = now - self.downloaded_at < DOWNLOADED_AGAIN_AFTER
        return self.served if self.downloads > 1 and lately else None

    def again_at(self, now: float, quarantine_for: float | None) -> float | None:
        """When it may be tried again, as Unix seconds; None: not by time. A clock set back can't stretch it."""
        if self.verdict is FailureKind.ROLLED_BACK and not self.outlived:
            delay = quarantine_for
        else:
            delay = BEFORE_SWITCH_DELAYS[min(self.count, len(BEFORE_SWITCH_DELAYS)) - 1]
        return None if delay is None else min(self.at, now) + delay

    def holds(self, now: float, quarantine_for: float | None = None) -> bool:
        """Whether its content is not tried now."""
        again = self.again_at(now, quarantine_for)
        return again is None or again > now


class UpgradePhase(Enum):
    """SWITCHING: written down before the stop, and nothing seen since. WATCHING: it said started, until `deadline`."""

    SWITCHING = "switching"
    WATCHING = "watching"


@frozen(kw_only=True)
class PendingUpgrade:
    """A switch whose end is still to be seen, by whichever run comes next. `before`: what was in use and running when
    it began. `deadline`: Unix seconds, set with its span at the first status that says started. `boot`: of the host
    when it was last tried; `tries`: how many boots saw it begin without a verdict. `came_up`: it was seen up at least
    once, in whatever boot. `again`: when it ended is not known, and it is watched for the second time. `left`: the home
    that it moves out of, until it was seen to have moved: as long as that home has a `.version`, it lives there."""

    to: Content
    before: Content | None
    stage: UpgradePhase = UpgradePhase.SWITCHING
    at: float
    deadline: float | None = None
    boot: str = ""
    tries: int = 1
    came_up: bool = False
    again: bool = False
    left: HomeRef | None = None

    def remaining(self, now: float, watch: float) -> float:
        """Seconds of the watch that are left, never more than its span."""
        return watch if self.deadline is None else min(self.deadline - now, watch)


@frozen(kw_only=True)
class ControlCall:
    """A `control start` or `control stop` as it was spawned: whichever run comes next waits for one that still lives.
    `started`: clock ticks since the `boot`, which tell its process from a later one of the same id. `limit_s`: seconds
    that it was given. `over`: the run that made it saw what came of it."""

    version: str
    verb: str
    pid: int
    started: int
    boot: str
    limit_s: float
    over: bool = False


@frozen(kw_only=True)
class Crashes:
    """Unexpected ends of what is in use. `at`: Unix seconds of the last start that was made for it."""

    count: int
    at: float

    def again_at(self, now: float) -> float:
        """When it may be started again: at once the first time, then after 10 s doubling to 5 min."""
        if self.count < 1:
            return 0.0
        pause: float = CRASH_FIRST_DELAY * 2.0 ** min(self.count - 1, 10)
        return min(self.at, now) + min(pause, CRASH_LONGEST_DELAY)


@frozen(kw_only=True)
class Pin:
    """An operator went back to this version and stays there until `release`."""

    version: str
    owner: str
    at: float


@frozen(kw_only=True)
class Awaited:
    """A fetch that waits for this host's turn. `content`: what is to be fetched, None: whatever is, an operator wants
    it now. `since`: Unix seconds from which on it has waited for nothing else."""

    content: Content | None
    since: float


@frozen(kw_only=True)
class LateFetch:
    """A download that took longer than a run of its own has time for. `runs`: so many in a row ended before it did."""

    content: Content
    runs: int


@frozen(kw_only=True)
class AgentRecord:
    """What is remembered of one agent. An agent without a record was never managed, or our memory was lost.

    - `work_dir`, `run_user`: where it lives, or is moving to.
    - `config`: the remote config that the version in use has; None: not known yet, it could not be asked for.
    - `delivering`: the digest of the remote config that was written last, or was about to be: no person's edit.
    - `remote_config`, `digest_file`: as the server had them when it was asked last, delivered or not.
    - `confirmation`: the pending upgrade.
    - `good`: what last became good; `good_before`: what had been good until then, the newest first.
    - `fallback`: where to go back to while what is wanted is quarantined.
    - `interrupted`: what ran when a switch began that a crash ended before it was made; until something runs again.
    - `never_up`: what failed after its switch and was never seen running, as long as that is so.
    - `stopped_by_us`: what is in use is down since we stopped it, or were about to, and no crash.
    - `calls`: the last control calls that start or stop, the newest first.
    - `used`: versions by their last use, the newest first.
    - `told_to_stop`: those that were in use when `cmd` was stop, since new content last became good.
    - `stuck`: names in its home that could not be removed.
    - `empty_released`: an operator has released the remote config that is empty, though the one in use is not.
    - `awaited`: its next fetch; `late_fetch`: one that goes on from run to run.
    """

    name: str
    work_dir: str
    run_user: str
    config: ConfigMemory | None = None
    delivering: str | None = None
    remote_config: ConfigMemory | None = None
    digest_file: DigestFile | None = None
    confirmation: PendingUpgrade | None = None
    good: Content | None = None
    good_before: tuple[Content, ...] = ()
    fallback: Content | None = None
    interrupted: Content | None = None
    never_up: Content | None = None
    failures: tuple[Failure, ...] = ()
    crashes: Crashes | None = None
    stopped_by_us: bool = False
    pin: Pin | None = None
    calls: tuple[ControlCall, ...] = ()
    used: tuple[str, ...] = ()
    told_to_stop: tuple[str, ...] = ()
    stuck: frozenset[str] = frozenset()
    empty_released: bool = False
    awaited: Awaited | None = None
    late_fetch: LateFetch | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def home(self) -> HomeRef:
        return HomeRef(name=self.name, work_dir=self.work_dir, run_user=self.run_user)

    @property
    def left(self) -> HomeRef | None:
        """The home that it moves out of."""
        return None if self.confirmation is None else self.confirmation.left

    @property
    def former_contents(self) -> tuple[Content, ...]:
        """All content that it may have to go back to by itself, the likeliest first."""
        before = None if self.confirmation is None else self.confirmation.before
        contents = (before, self.good, self.fallback, self.interrupted)
        return tuple(content for content in contents if content is not None)

    @property
    def good_contents(self) -> tuple[Content, ...]:
        """All content that became good and was not rolled back since, the newest first."""
        known = (content for content in (self.good, *self.good_before) if content is not None)
        return tuple(content for content in known if not self.was_rolled_back(content))

    def failure_of(self, content: Content, verdict: FailureKind, home: HomeRef | None = None) -> Failure | None:
        """The failure of this content in this home; without a home, in any."""
        return next((f for f in self.failures if f.is_of(content, verdict, home)), None)

    def was_rolled_back(self, content: Content, home: HomeRef | None = None) -> bool:
        """Whether this content was rolled back from in this home; without a home, in any."""
        return self.failure_of(content, FailureKind.ROLLED_BACK, home) is not None

    def is_good(self, content: Content) -> bool:
        return any(good.same_tree(content) for good in self.good_contents)

    def last_good_of(self, versions: set[str]) -> str | None:
        """The one of these versions that became good last, and was not rolled back since."""
        return next((content.version for content in self.good_contents if content.version in versions), None)

    def start_again_at(self, now: float) -> float:
        """When what is in use may be started again, as Unix seconds: at once what we have stopped ourselves."""
        return 0.0 if self.crashes is None or self.stopped_by_us else self.crashes.again_at(now)

    @property
    def awaits_emptying(self) -> bool:
        """Whether the remote config is empty, what was delivered last is not, and no operator has released that."""
        is_empty = self.remote_config is not None and self.remote_config.is_empty
        is_delivered = self.config is not None and self.config.is_empty
        return is_empty and not is_delivered and not self.empty_released

    @property
    def pinned_or_fallback(self) -> Content | None:
        """Where it is to stay instead of what the server wants: an operator's pin, before the former content."""
        return self.fallback if self.pin is None else Content(version=self.pin.version)

    def went_back_to(self, version: str) -> bool:
        """Whether it is to stay at this version instead of what the server wants."""
        return self.pinned_or_fallback is not None and self.pinned_or_fallback.version == version
