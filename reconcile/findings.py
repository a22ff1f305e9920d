"""What remote files say of agents, as far as it matters now: a config always, a digest file only now and then.

It knows when to ask, and asks for all agents side by side; how is the business of remote.py. What was learned goes on
as a value.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from attrs import define, evolve, field

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.decide.aim import Findings, Trouble, differs
from reconcile.decide.desired import DesiredAgent, Md5, RunState
from reconcile.decide.records import AgentRecord, ConfigMemory, DigestFile
from reconcile.errors import DiskTooSmall, FetchFailed, FetchInterrupted, WriteFailed
from reconcile.http import origin_of
from reconcile.remote import Known, Remote

Content = Callable[[], bytes] | None

# The digest file of a change that waits is asked again at each pass with this number, so that one which was put right
# is seen within an hour or so, and a fleet that waits costs its server little.
_ASKED_EVERY = 10
# Requests at once, in all and to one origin: one that hangs leaves room for the others.
_AT_ONCE, _OF_ONE_ORIGIN = 32, 16


@frozen(kw_only=True)
class Question:
    """The remote files of one agent. `origin`: of the first that is asked. `ask`: asks, in a thread; raises nothing."""

    origin: str
    ask: Callable[[], None]


def question(url: str, ask: Callable[[], None]) -> Question:
    """The question whose first URL is this."""
    try:
        return Question(origin=origin_of(url), ask=ask)
    except ValueError:
        return Question(origin=url, ask=ask)  # the request itself will say what is wrong with it


def ask_side_by_side(questions: Iterable[Question]) -> None:
    """Begin to ask them all, and return. The threads are not waited for, even by the end of the process."""
    waiting = _Waiting()
    count = 0
    for one in questions:
        waiting.of_origin[one.origin].append(one)
        count += 1
    for _ in range(min(count, _AT_ONCE)):
        threading.Thread(target=waiting.work, name="remote files", daemon=True).start()


@define
class _Waiting:
    """Questions that were not asked yet, in no order, so that none is always the last."""

    of_origin: defaultdict[str, list[Question]] = field(factory=lambda: defaultdict(list))
    _asking: Counter[str] = field(factory=Counter)
    _lock: threading.Lock = field(factory=threading.Lock)

    def work(self) -> None:
        """Ask until nothing is left that may be asked now; threads that ask at a full origin go on with its rest."""
        while (one := self._next()) is not None:
            try:
                one.ask()
            finally:
                with self._lock:
                    self._asking[one.origin] -= 1

    def _next(self) -> Question | None:
        with self._lock:
            open_ones = [at for at, left in self.of_origin.items() if left and self._asking[at] < _OF_ONE_ORIGIN]
            if not open_ones:
                return None
            origin = random.choice(open_ones)
            left = self.of_origin[origin]
            self._asking[origin] += 1
            return left.pop(random.randrange(len(left)))


def url_asked(desired: DesiredAgent, observed: ObservedAgent) -> str | None:
    """The first remote file that is asked of an agent before it can be planned for; None: there is none."""
    if desired.run is not RunState.START or desired.artifact is None or desired.barred is not None:
        return None
    if desired.config is not None:
        return desired.config.url
    in_place = observed.active is not None and observed.active.version == desired.version
    return None if in_place else desired.artifact.digest_url


def find_out(
    desired: DesiredAgent,
    observed: ObservedAgent,
    record: AgentRecord | None,
    remote: Remote | None,
    waiting: Callable[[Findings], bool],
) -> tuple[Findings, Content]:
    """Ask what must be known for a plan; and what reads the config's bytes, where they were fetched.

    A digest file matters only where a version must change. `waiting`: whether a change to what these findings say is
    not made now anyway.
    """
    if desired.run is not RunState.START or desired.artifact is None:
        return Findings(), None
    if desired.barred is not None:
        return Findings(digests=desired.artifact.digests), None  # what may not be used is not asked for either
    artifact, memory = desired.artifact, None if record is None else record.config
    if remote is None:
        seen = record.remote_config if record is not None and record.remote_config is not None else memory
        known = seen if seen is not None and _same(seen, desired) else None
        return Findings(digests=artifact.digests, config=known), None
    found = Findings(digests=artifact.digests)
    content: Content = None
    in_place = observed.active is not None and observed.active.version == desired.version
    try:
        if desired.config is not None:
            # Where the file has to be written its bytes are needed, and "unchanged" would bring none.
            active = observed.active if in_place else None
            has_one = active is not None and active.tree.config is not None and not differs(active, artifact.digests)
            config, content = _ask_config(desired, memory if has_one else None, remote)
            found = evolve(found, config=config)
    except (FetchFailed, FetchInterrupted, WriteFailed, DiskTooSmall) as err:
        found = evolve(found, trouble=Trouble(reason=err.reason, message=err.message))
    if artifact.digest_url is None or in_place:
        return found, content
    file = None if record is None or record.digest_file is None else record.digest_file
    if file is not None and file.url != artifact.digest_url:
        file = None
    if file is not None and file.unasked + 1 < _ASKED_EVERY:
        remembered = _with_digest(found, evolve(file, unasked=file.unasked + 1))
        if waiting(remembered):
            return remembered, content
    try:
        return _with_digest(found, _ask_digest_file(artifact.digest_url, file, remote)), content
    except (FetchFailed, FetchInterrupted) as err:
        return evolve(found, trouble=Trouble(reason=err.reason, message=err.message)), content


def _with_digest(found: Findings, file: DigestFile) -> Findings:
    digest = Md5(file.digest.removeprefix("md5:"))
    return evolve(found, digests=found.digests | {digest}, digest_file=file)


def _ask_digest_file(url: str, file: DigestFile | None, remote: Remote) -> DigestFile:
    known = None if file is None or file.etag is None else Known(digest=file.digest, etag=file.etag)
    found = remote.digest(url, known)
    return DigestFile(url=url, digest=found.digest, etag=found.etag)


def _ask_config(desired: DesiredAgent, memory: ConfigMemory | None, remote: Remote) -> tuple[ConfigMemory, Content]:
    assert desired.config is not None
    known = None
    if memory is not None and memory.etag is not None and _same(memory, desired):
        known = Known(digest=memory.digest, etag=memory.etag)
    found = remote.config(desired.config.url, known)
    memory = ConfigMemory(name=desired.config.name, url=desired.config.url, digest=found.digest, etag=found.etag)
    return memory, found.content


def _same(memory: ConfigMemory, desired: DesiredAgent) -> bool:
    return desired.config is not None and (memory.name, memory.url) == (desired.config.name, desired.config.url)
