"""The four ways by which a server's bytes come in, each taken for real: heartbeat, digest file, config, tarball."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import evolve, frozen

from probes.home import StatusLimits
from probes.host.facts import own_user
from probes.observed import HomeRef
from reconcile.act.context import Bounds, ControlLimits, StepContext, Throttle
from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.verify import verify
from reconcile.decide.actions import Fetch, Verify
from reconcile.decide.desired import Digest, Md5
from reconcile.errors import FetchInterrupted, ReconcileError
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.net.remote_files import RemoteFileReader
from reconcile.source import HostReport
from tests.hostile.case import Seen
from updater.sources.ops_meta import OpsMeta

REPORT = HostReport(hostname="host-1", ip="127.0.0.1", run_user="admin", updater_version="0.0.0")
STALL_S = 30.0  # of a download; a limit of the updater's own
MAX_TARBALL = 8 << 20


@frozen(kw_only=True)
class Pace:
    """How fast time runs. `deadline_s`: of a heartbeat and of other small answers. `speed`: of the clock by which a
    download's pace is judged, against the real one. `slack_s`: what may pass beyond a limit."""

    deadline_s: float
    speed: float
    slack_s: float

    @property
    def stall_s(self) -> float:
        return STALL_S / self.speed


# With the slack of a host that is busy with other tests: there it is seen that they end, and REAL shows when.
QUICK = Pace(deadline_s=0.4, speed=75, slack_s=20)
REAL = Pace(deadline_s=30, speed=1, slack_s=1)


@frozen(kw_only=True)
class Visit:
    """A server to be asked: where, at what pace, trusting which authority; `folder` is for what is fetched. `digest`:
    of the tarball; none fits where nothing may come of it. `tries`: of the fetch, each after one that broke off."""

    origin: str
    pace: Pace
    folder: Path
    ca_file: Path | None = None
    digest: str = "0" * 32
    tries: int = 1


Door = Callable[[Visit], Seen]


def _ended(work: Callable[[], object], limit_s: float, slack_s: float) -> Seen:
    """Do it, and see how it ends, and that it does so in time."""
    began = time.monotonic()
    try:
        seen = Seen(end="served", said=str(work() or ""))
    except ReconcileError as err:
        seen = Seen(end=type(err).__name__, said=err.message)
    seconds = time.monotonic() - began
    # What is served may take its time: a slow link must do.
    is_late = seen.end != "served" and seconds > limit_s + slack_s
    late = f"took {seconds:.1f} s, at most {limit_s + slack_s:.1f} are allowed" if is_late else ""
    return evolve(seen, breach=late, seconds=seconds)


def _options(visit: Visit) -> HttpOptions:
    return HttpOptions(user_agent="ops-updater/test", ca_file=visit.ca_file)


def heartbeat(visit: Visit) -> Seen:
    """Report to it, and take its answer for the desired state."""
    source = OpsMeta(visit.origin, HttpClient(_options(visit)), deadline_s=visit.pace.deadline_s)
    return _ended(lambda: source.exchange(REPORT).entries, visit.pace.deadline_s, visit.pace.slack_s)


def digest_file(visit: Visit) -> Seen:
    """Ask it for the digest of a tarball."""
    remote = RemoteFileReader(HttpClient(_options(visit)), deadline_s=visit.pace.deadline_s)
    return _ended(
        lambda: remote.digest(f"{visit.origin}/x.tar.gz.md5").digest, visit.pace.deadline_s, visit.pace.slack_s
    )


def config(visit: Visit) -> Seen:
    """Ask it for an agent's config file."""
    remote = RemoteFileReader(HttpClient(_options(visit)), deadline_s=visit.pace.deadline_s)
    return _ended(lambda: remote.config(f"{visit.origin}/cfg.json").digest, visit.pace.deadline_s, visit.pace.slack_s)


def tarball(visit: Visit) -> Seen:
    """Fetch a tarball from it, and verify it: nothing gets its place in the cache unverified."""
    tools = tools_of(visit)
    digests = frozenset[Digest]({Md5(visit.digest)})

    def work() -> None:
        try:
            fetch(Fetch(url=f"{visit.origin}/x.tar.gz", version="1.0.0", digests=digests), tools)
            verify(Verify(digests=digests), tools)
        finally:
            tools.results.clear()

    for _ in range(visit.tries - 1):
        with suppress(FetchInterrupted):
            work()
    seen = _ended(work, visit.pace.stall_s, visit.pace.slack_s)
    if seen.end != "served" and list(tools.cache.glob("*.tar.gz")):
        return evolve(seen, breach="what was not verified has its place in the cache")
    return seen


def tools_of(visit: Visit) -> StepContext:
    """What the steps are given for this visit."""
    own = own_user().name
    return StepContext(
        home=HomeRef(name="falcon-agent", work_dir=str(visit.folder / "work"), run_user=own, config_name=None),
        http=HttpClient(_options(visit), clock=lambda: time.monotonic() * visit.pace.speed),
        cache=visit.folder / "cache",
        bounds=Bounds(max_tarball=MAX_TARBALL),
        throttle=Throttle(None),
        control=ControlLimits(),
        status=StatusLimits(),
        contents={},
        note=lambda note: None,
        ending=threading.Event(),
    )
