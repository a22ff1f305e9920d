"""Configs and digest files on servers: when they are asked, by conditional GETs, and what they say of an agent.

It only reads.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, evolve, field

from probes.observed import ObservedAgent
from probes.text import one_line, redact_url
from probes.values import frozen
from reconcile.decide.desired import DesiredAgent, Md5, RunState
from reconcile.decide.records.content import ConfigMemory, DigestFile
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.target import Blocker, RemoteInputs, differs
from reconcile.errors import DiskTooSmall, FetchFailed, FetchInterrupted, WriteFailed
from reconcile.net.http_client import HttpClient, HttpReply, check_status, etag_of, origin_of

if TYPE_CHECKING:
    from concurrent.futures import Future

_CONFIG_LIMIT = 1024 * 1024  # bytes
_DIGEST_LIMIT = 4096  # bytes; `md5sum` prints about 100
_REDIRECTS = 3
LIMIT_S = 30.0  # for all remote files of a pass together
_LONGEST_WAIT_S = 600.0  # of one thread for another that asks the same; requests have limits of their own
_MD5_MEANING = "`md5` in the response may be the digest itself (32 hex digits) or the URL base of digest files"

_Found = TypeVar("_Found")
Keep = Callable[[bytes], "Callable[[], bytes] | None"]


@frozen(kw_only=True)
class RemoteConfig:
    """A config file as its server has it. `content` reads its bytes; None where it is unchanged since the
    `CachedVersion` one, or they are not kept."""

    digest: str
    etag: str | None
    content: Callable[[], bytes] | None = field(default=None, eq=False, repr=False)


@frozen(kw_only=True)
class CachedVersion:
    """A file as it was fetched before: the digest of a config, or that in a digest file, and the ETag that came with
    it."""

    digest: str
    etag: str


@frozen(kw_only=True)
class RemoteDigest:
    """What a digest file says: `digest` is `md5:` and its hex digits in lower case."""

    digest: str
    etag: str | None


class RemoteFileReader:
    """The reads of ONE pass: made for each, and within it each URL is asked once, whether it answered or not.

    Threads share it. All requests together have one time limit: no number of servers that hang makes a pass longer.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        deadline_s: float = LIMIT_S,
        keep: Keep = lambda content: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`deadline_s` bounds all requests together, from now on. `keep`: given the bytes of each config, which are
        let go of then; returns what reads them again, and may raise WriteFailed."""
        self._http = http
        self._keep = keep
        self._limit_s = deadline_s
        self._until = clock() + deadline_s
        self._clock = clock
        self._configs: _Memo[RemoteConfig] = _Memo()
        self._digests: _Memo[RemoteDigest] = _Memo()

    def config(self, url: str, known: CachedVersion | None = None) -> RemoteConfig:
        """Fetch a config file, or learn that it is still the `known` one. Raise FetchFailed or FetchInterrupted."""
        return self._configs.once((url, known), lambda: self._config(url, known))

    def digest(self, url: str, known: CachedVersion | None = None) -> RemoteDigest:
        """Fetch a digest file, or learn that it still is the `known` one.

        A digest file is what `md5sum` prints or the bare digits: only its first word counts. Raise FetchFailed, also
        where the file holds something else, or FetchInterrupted.
        """
        return self._digests.once((url, known), lambda: self._digest(url, known))

    def _config(self, url: str, known: CachedVersion | None) -> RemoteConfig:
        reply = self._get(url, {} if known is None else {"If-None-Match": known.etag}, _CONFIG_LIMIT)
        if reply.status == 304:
            if known is None:
                raise FetchFailed(f"{redact_url(url)}: HTTP 304, unchanged, though the request was not conditional")
            return RemoteConfig(digest=known.digest, etag=known.etag)
        import hashlib

        return RemoteConfig(
            digest=f"sha256:{hashlib.sha256(reply.body).hexdigest()}",
            etag=etag_of(reply),
            content=self._keep(reply.body),
        )

    def _digest(self, url: str, known: CachedVersion | None) -> RemoteDigest:
        try:
            reply = self._get(url, {} if known is None else {"If-None-Match": known.etag}, _DIGEST_LIMIT)
        except FetchFailed as error:
            raise FetchFailed(f"digest file {error.message}; {_MD5_MEANING}") from error
        if reply.status == 304:
            if known is None:
                raise FetchFailed(
                    f"digest file {redact_url(url)}: HTTP 304, unchanged, though the request was not conditional"
                )
            return RemoteDigest(digest=known.digest, etag=known.etag)
        return RemoteDigest(digest=parse_digest_file(reply.body, url), etag=etag_of(reply))

    def _get(self, url: str, headers: Mapping[str, str], limit: int) -> HttpReply:
        """Make one GET whose Reply is 200 or 304, within what is left of the time."""
        left = self._until - self._clock()
        if left <= 0:
            raise FetchInterrupted(
                f"{redact_url(url)}: not asked, the {self._limit_s:g} s that a pass has for remote files are "
                "over; does one of their servers hang?"
            )
        reply = self._http.small("GET", url, headers=headers, limit=limit, deadline_s=left, redirects=_REDIRECTS)
        check_status(reply.status, reply.headers, reply.url)
        if reply.status not in (200, 304):
            raise FetchFailed(f"{redact_url(reply.url)}: HTTP {reply.status}, expected 200 and the file")
        return reply


def parse_digest_file(content: bytes, url: str) -> str:
    """Return what a digest file says, as `md5:` and 32 hex digits in lower case. Raise FetchFailed."""
    text = content.decode("utf-8-sig", "replace")
    word = (text.split(maxsplit=1) or [""])[0]
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", word):
        raise FetchFailed(
            f"digest file {redact_url(url)}: expected 32 hex digits first, found {one_line(text, 60)!r}; {_MD5_MEANING}"
        )
    return f"md5:{word.lower()}"


@define
class _Memo(Generic[_Found]):
    """What each question came to, asked once however many threads want to know."""

    _lock: threading.Lock = field(factory=threading.Lock)
    _answers: dict[tuple[str, CachedVersion | None], Future[_Found]] = field(factory=dict)

    def once(self, key: tuple[str, CachedVersion | None], ask: Callable[[], _Found]) -> _Found:
        """Return or raise what `ask` came to the first time."""
        from concurrent.futures import Future  # here: a look that asks nothing remote begins without it

        with self._lock:
            first = key not in self._answers
            answer = self._answers.setdefault(key, Future())
        if first:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)
        return answer.result(timeout=_LONGEST_WAIT_S)


ConfigSource = Callable[[], bytes] | None

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
    """Begin to ask them all, and return. The threads are not waited for, even by the end of the process. On a host
    without a further thread those that there are ask all; without any, they are asked here."""
    waiting = _Waiting()
    count = 0
    for one in questions:
        waiting.of_origin[one.origin].append(one)
        count += 1
    for number in range(min(count, _AT_ONCE)):
        try:
            threading.Thread(target=waiting.work, name="remote files", daemon=True).start()
        except RuntimeError:
            if number == 0:
                waiting.work()
            return


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
    return None if is_in_place(desired, observed) else desired.artifact.digest_url


def known_inputs(desired: DesiredAgent, record: AgentRecord | None) -> RemoteInputs:
    """What is known of an agent's remote files without asking."""
    if desired.run is not RunState.START or desired.artifact is None:
        return RemoteInputs()
    if desired.barred is not None or record is None:
        return RemoteInputs(digests=desired.artifact.digests)
    seen = record.remote_config if record.remote_config is not None else record.config
    known = seen if seen is not None and _same(seen, desired) else None
    return RemoteInputs(digests=desired.artifact.digests, config=known)


def with_config(
    found: RemoteInputs,
    desired: DesiredAgent,
    observed: ObservedAgent,
    record: AgentRecord | None,
    remote: RemoteFileReader,
) -> tuple[RemoteInputs, ConfigSource]:
    """Ask the remote config, where one is wanted; and what reads its bytes, where they were fetched."""
    found = evolve(found, config=None)
    if desired.config is None:
        return found, None
    # Where the file has to be written its bytes are needed, and "unchanged" would bring none.
    active = observed.active if is_in_place(desired, observed) else None
    has_one = active is not None and active.tree.config is not None and not differs(active, found.digests)
    try:
        config, content = _ask_config(desired, record.config if record is not None and has_one else None, remote)
    except (FetchFailed, FetchInterrupted, WriteFailed, DiskTooSmall) as err:
        return evolve(found, blocker=Blocker(reason=err.reason, message=err.message)), None
    return evolve(found, config=config), content


def with_known_digest(found: RemoteInputs, desired: DesiredAgent, record: AgentRecord | None) -> RemoteInputs | None:
    """What the digest file said when it was asked last; None: it is to be asked in this pass in any case."""
    file = _known_file(desired, record)
    if file is None or file.unasked + 1 >= _ASKED_EVERY:
        return None
    return _with_digest(found, evolve(file, unasked=file.unasked + 1))


def with_digest(
    found: RemoteInputs, desired: DesiredAgent, record: AgentRecord | None, remote: RemoteFileReader
) -> RemoteInputs:
    """Ask the digest file."""
    assert desired.artifact is not None
    assert desired.artifact.digest_url is not None
    try:
        file = _ask_digest_file(desired.artifact.digest_url, _known_file(desired, record), remote)
    except (FetchFailed, FetchInterrupted) as err:
        return evolve(found, blocker=Blocker(reason=err.reason, message=err.message))
    return _with_digest(found, file)


def is_in_place(desired: DesiredAgent, observed: ObservedAgent) -> bool:
    """Whether the wanted version is in use: then no digest file matters, since no version has to change."""
    return observed.active is not None and observed.active.version == desired.version


def _known_file(desired: DesiredAgent, record: AgentRecord | None) -> DigestFile | None:
    file = None if record is None else record.digest_file
    url = None if desired.artifact is None else desired.artifact.digest_url
    return file if file is not None and file.url == url else None


def _with_digest(found: RemoteInputs, file: DigestFile) -> RemoteInputs:
    digest = Md5(file.digest.removeprefix("md5:"))
    return evolve(found, digests=found.digests | {digest}, digest_file=file)


def _ask_digest_file(url: str, file: DigestFile | None, remote: RemoteFileReader) -> DigestFile:
    known = None if file is None or file.etag is None else CachedVersion(digest=file.digest, etag=file.etag)
    found = remote.digest(url, known)
    return DigestFile(url=url, digest=found.digest, etag=found.etag)


def _ask_config(
    desired: DesiredAgent, memory: ConfigMemory | None, remote: RemoteFileReader
) -> tuple[ConfigMemory, ConfigSource]:
    assert desired.config is not None
    known = None
    if memory is not None and memory.etag is not None and _same(memory, desired):
        known = CachedVersion(digest=memory.digest, etag=memory.etag)
    found = remote.config(desired.config.url, known)
    memory = ConfigMemory(name=desired.config.name, url=desired.config.url, digest=found.digest, etag=found.etag)
    return memory, found.content


def _same(memory: ConfigMemory, desired: DesiredAgent) -> bool:
    return desired.config is not None and (memory.name, memory.url) == (desired.config.name, desired.config.url)
