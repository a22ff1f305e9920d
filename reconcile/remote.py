"""What must be known of the network before a plan can be made: an agent's config file, and digests kept in files.

Bounded conditional GETs that only read. `plan` makes the same ones as a real pass; the bytes of a config go on to
Configure, so that what was planned is what is written. Tarballs are not fetched here, and nothing is written.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field

from probes.values import frozen
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.http import Http, Reply, check_status, escaped, etag_of, shown

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
    """A config file as its server has it. `content` reads its bytes; None where it is unchanged since the `Known` one,
    or nobody keeps them."""

    digest: str
    etag: str | None
    content: Callable[[], bytes] | None = field(default=None, eq=False, repr=False)


@frozen(kw_only=True)
class Known:
    """A file as it was fetched before: the digest of a config, or that in a digest file, and the ETag that came with
    it."""

    digest: str
    etag: str


@frozen(kw_only=True)
class RemoteDigest:
    """What a digest file says: `digest` is `md5:` and its hex digits in lower case."""

    digest: str
    etag: str | None


class Remote:
    """The reads of ONE pass: made anew for each, and within it each URL is asked once, whether it answered or not.

    Threads share it. All requests together have one time limit: no number of servers that hang makes a pass longer.
    """

    def __init__(
        self,
        http: Http,
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

    def config(self, url: str, known: Known | None = None) -> RemoteConfig:
        """Fetch a config file, or learn that it is still the `known` one. Raise FetchFailed or FetchInterrupted."""
        return self._configs.once((url, known), lambda: self._config(url, known))

    def digest(self, url: str, known: Known | None = None) -> RemoteDigest:
        """Fetch a digest file, or learn that it still is the `known` one.

        A digest file is what `md5sum` prints or the bare digits: only its first word counts. Raise FetchFailed, also
        where the file holds something else, or FetchInterrupted.
        """
        return self._digests.once((url, known), lambda: self._digest(url, known))

    def _config(self, url: str, known: Known | None) -> RemoteConfig:
        reply = self._get(url, {} if known is None else {"If-None-Match": known.etag}, _CONFIG_LIMIT)
        if reply.status == 304:
            if known is None:
                raise FetchFailed(f"{shown(url)}: HTTP 304, unchanged, though nobody asked whether it was")
            return RemoteConfig(digest=known.digest, etag=known.etag)
        import hashlib

        return RemoteConfig(
            digest=f"sha256:{hashlib.sha256(reply.body).hexdigest()}",
            etag=etag_of(reply),
            content=self._keep(reply.body),
        )

    def _digest(self, url: str, known: Known | None) -> RemoteDigest:
        try:
            reply = self._get(url, {} if known is None else {"If-None-Match": known.etag}, _DIGEST_LIMIT)
        except FetchFailed as error:
            raise FetchFailed(f"digest file {error.message}; {_MD5_MEANING}") from error
        if reply.status == 304:
            if known is None:
                raise FetchFailed(f"digest file {shown(url)}: HTTP 304, unchanged, though nobody asked whether it was")
            return RemoteDigest(digest=known.digest, etag=known.etag)
        return RemoteDigest(digest=parse_digest_file(reply.body, url), etag=etag_of(reply))

    def _get(self, url: str, headers: Mapping[str, str], limit: int) -> Reply:
        """Make one GET whose Reply is 200 or 304, within what is left of the time."""
        left = self._until - self._clock()
        if left <= 0:
            raise FetchInterrupted(
                f"{shown(url)}: not asked, the {self._limit_s:g} s that a pass has for remote files are over; does one "
                "of their servers hang?"
            )
        reply = self._http.small("GET", url, headers=headers, limit=limit, deadline_s=left, redirects=_REDIRECTS)
        check_status(reply.status, reply.headers, reply.url)
        if reply.status not in (200, 304):
            raise FetchFailed(f"{shown(reply.url)}: HTTP {reply.status}, expected 200 and the file")
        return reply


def parse_digest_file(content: bytes, url: str) -> str:
    """Return what a digest file says, as `md5:` and 32 hex digits in lower case. Raise FetchFailed."""
    text = content.decode("utf-8-sig", "replace")
    word = (text.split(maxsplit=1) or [""])[0]
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", word):
        raise FetchFailed(
            f"digest file {shown(url)}: expected 32 hex digits first, found {escaped(text, 60)!r}; {_MD5_MEANING}"
        )
    return f"md5:{word.lower()}"


@define
class _Memo(Generic[_Found]):
    """What each question came to, asked once however many threads want to know."""

    _lock: threading.Lock = field(factory=threading.Lock)
    _answers: dict[tuple[str, Known | None], Future[_Found]] = field(factory=dict)

    def once(self, key: tuple[str, Known | None], ask: Callable[[], _Found]) -> _Found:
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
