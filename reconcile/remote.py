"""What must be known of the network before a plan can be made: an agent's config file, and digests kept in files.

Bounded conditional GETs that only read. `plan` makes the same ones as a real pass; the bytes of a config go on to
Configure, so that what was planned is what is written. Tarballs are not fetched here, and nothing is written.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import field

from probes.values import frozen
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.http import Http, Reply, check_status, escaped, etag_of, origin_of, shown

_CONFIG_LIMIT = 1024 * 1024  # bytes
_DIGEST_LIMIT = 4096  # bytes; `md5sum` prints about 100
_REDIRECTS = 3
_PATIENCE = 60.0  # seconds that one origin may cost a pass in requests that came to nothing
_MD5_MEANING = "`md5` in the response may be the digest itself (32 hex digits) or the URL base of digest files"

_Found = TypeVar("_Found")


@frozen(kw_only=True)
class RemoteConfig:
    """A config file as its server has it. `content` is None where it is unchanged since the `Known` one."""

    digest: str
    etag: str | None
    content: bytes | None = field(repr=False)


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

    For one thread. A server that hangs would cost every URL its whole deadline, so an origin that has used up its
    patience is not asked any more in this pass.
    """

    def __init__(self, http: Http, *, deadline_s: float = 30, clock: Callable[[], float] = time.monotonic) -> None:
        """`deadline_s` bounds each request."""
        self._http = http
        self._deadline_s = deadline_s
        self._clock = clock
        self._wasted: defaultdict[str, float] = defaultdict(float)
        self._configs: dict[tuple[str, Known | None], RemoteConfig | FetchFailed | FetchInterrupted] = {}
        self._digests: dict[tuple[str, Known | None], RemoteDigest | FetchFailed | FetchInterrupted] = {}

    def config(self, url: str, known: Known | None = None) -> RemoteConfig:
        """Fetch a config file, or learn that it is still the `known` one. Raise FetchFailed or FetchInterrupted."""
        return _once(self._configs, (url, known), lambda: self._config(url, known))

    def digest(self, url: str, known: Known | None = None) -> RemoteDigest:
        """Fetch a digest file, or learn that it still is the `known` one.

        A digest file is what `md5sum` prints or the bare digits: only its first word counts. Raise FetchFailed, also
        where the file holds something else, or FetchInterrupted.
        """
        return _once(self._digests, (url, known), lambda: self._digest(url, known))

    def _config(self, url: str, known: Known | None) -> RemoteConfig:
        reply = self._get(url, {} if known is None else {"If-None-Match": known.etag}, _CONFIG_LIMIT)
        if reply.status == 304:
            if known is None:
                raise FetchFailed(f"{shown(url)}: HTTP 304, unchanged, though nobody asked whether it was")
            return RemoteConfig(digest=known.digest, etag=known.etag, content=None)
        import hashlib

        return RemoteConfig(
            digest=f"sha256:{hashlib.sha256(reply.body).hexdigest()}", etag=etag_of(reply), content=reply.body
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
        """Make one GET whose Reply is 200 or 304; an origin that only wastes our time is not asked for ever."""
        origin = _origin(url)
        if self._wasted[origin] >= _PATIENCE:
            raise FetchInterrupted(f"{shown(url)}: not asked, its server has hung for a minute in this pass already")
        began = self._clock()
        try:
            reply = self._http.small(
                "GET", url, headers=headers, limit=limit, deadline_s=self._deadline_s, redirects=_REDIRECTS
            )
        except FetchInterrupted:
            self._wasted[origin] += self._clock() - began
            raise
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


_Key = TypeVar("_Key")


def _once(memo: dict[_Key, _Found | FetchFailed | FetchInterrupted], key: _Key, ask: Callable[[], _Found]) -> _Found:
    """Return or raise what `ask` came to the first time."""
    if key not in memo:
        try:
            memo[key] = ask()
        except (FetchFailed, FetchInterrupted) as error:
            memo[key] = error
    found = memo[key]
    if isinstance(found, (FetchFailed, FetchInterrupted)):
        raise found
    return found


def _origin(url: str) -> str:
    try:
        return origin_of(url)
    except ValueError:
        return url  # the request itself will say what is wrong with it
