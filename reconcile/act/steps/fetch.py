"""Fetch a tarball into our own cache, resuming what an earlier try left, and take its digests as it comes.

It bounds size, rate and stalls; it doesn't judge the bytes: `verify` does, before a byte of them is parsed.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from attrs import evolve

from probes.text import redact_url
from reconcile.act.cache import Partial, entry_name, kinds_of, remove_entry, take_digests, trim_cache
from reconcile.act.context import Interrupted, StepContext, WrongBytes
from reconcile.act.host.atomic_fs import as_error
from reconcile.act.signatures import check_comment
from reconcile.decide.actions import Fetch, ResponseFingerprint, Result
from reconcile.errors import DiskTooSmall, FetchFailed, FetchInterrupted, SignatureInvalid
from reconcile.net.http_client import Download, check_status

_SIGNATURE_LIMIT = 4096  # bytes; minisign writes about 300
_SIGNATURE_DEADLINE_S = 30.0
_VALIDATOR = re.compile(r"[\x20-\x7e]{1,256}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


def fetch(action: Fetch, context: StepContext) -> Result:
    """Bring the tarball into the cache and leave it open in `results`. UNCHANGED where it was there.

    Raise FetchFailed, FetchInterrupted, DiskTooSmall, WriteFailed; Interrupted when we are asked to end; DigestMismatch
    where the server still has what was refused before, without downloading it again. What arrived stays for the next
    try, unless the disk is full: then its room is given back. Passes that want the same tarball take turns, and the
    second finds it there. A signature that is asked for comes first, and again each time, for a tarball that was in the
    cache, too: raise SignatureInvalid.
    """
    context.results.clear()
    signed = None if action.signing is None else check_comment(_signature(action.signing.url, context), action.signing)
    result = _bring(action, context)
    context.results.signed = signed
    return result


def _signature(url: str, context: StepContext) -> bytes:
    """The signature file, in memory. One that is not there is as bad as a wrong one."""
    reply = context.http.small("GET", url, limit=_SIGNATURE_LIMIT, deadline_s=_SIGNATURE_DEADLINE_S, redirects=3)
    if reply.status in (404, 410):
        raise SignatureInvalid(
            f"{redact_url(url)}: HTTP {reply.status}; this host takes signed tarballs alone (trusted_keys in "
            "cfg.json): sign it, and publish the signature beside it"
        )
    check_status(reply.status, reply.headers, reply.url)
    if reply.status != 200:
        raise FetchFailed(f"{redact_url(reply.url)}: HTTP {reply.status}, expected 200 and the signature")
    return reply.body


def _bring(action: Fetch, context: StepContext) -> Result:
    def go_on() -> None:
        if context.ending.is_set():
            raise Interrupted

    path = context.cache / entry_name(context.home.name, action.version, action.digests)
    try:
        context.cache.mkdir(mode=0o700, exist_ok=True)
        trim_cache(context.cache, context.bounds.cache_size, path)
        while not isinstance(partial := Partial.take(path, action.url, action.digests, go_on), Partial):
            context.results.put(partial, path)  # closed when `results` is cleared
            # A power cut leaves an empty file under a good name: that is no failure of what the server has.
            if take_digests(kinds_of(action.digests), partial) == {str(digest) for digest in action.digests}:
                return Result.UNCHANGED
            remove_entry(path, partial)
        try:
            served = _download(action.url, context, partial, path)
            context.results.put(partial.file, path, seen=partial.finish(), served=served)
        except FetchInterrupted:
            partial.close()
            if context.ending.is_set():  # it broke off by our own doing, or it no longer matters
                raise Interrupted from None
            raise
        except BaseException as err:
            if _is_full(err):
                partial.discard()
            partial.close()
            raise
    except OSError as err:
        raise as_error(err, "write to the cache", str(path)) from err
    return Result.DONE


def _is_full(err: BaseException) -> bool:
    return isinstance(err, DiskTooSmall) or (isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT))


def _download(url: str, context: StepContext, partial: Partial, path: Path) -> ResponseFingerprint:
    is_asked_again = context.refused is not None and context.refused.url == url and not partial.resumes
    refused = context.refused if is_asked_again else None
    with context.http.download(url, _headers(partial, refused), is_cancelled=context.ending.is_set) as download:
        served = _check_answer(url, download, partial, refused)
        _begin(download, partial)
        expected = _expected_size(download.headers, partial.size)
        _check_size(url, expected, context)
        context.arrived(partial.size, expected)
        _make_room(url, 0 if expected is None else expected - partial.size, path, context)
        for block in chain.from_iterable(map(context.throttle.pieces, download.chunks())):
            _write(url, block, partial, context)
            context.arrived(partial.size, expected)
            context.throttle.take(len(block))
    if expected is not None and partial.size < expected:  # what is more than that is found wrong by its digest
        raise FetchInterrupted(f"{redact_url(url)}: {partial.size} bytes arrived, {expected} were announced")
    return evolve(served, length="" if expected is None else str(expected))


def _headers(partial: Partial, refused: ResponseFingerprint | None) -> dict[str, str]:
    """Ask for what follows a part; else, of what was refused before, only for something new."""
    headers = {"Accept-Encoding": "identity"}
    if partial.resumes:
        return headers | {"Range": f"bytes={partial.size}-", "If-Range": partial.validator}
    if refused is not None and refused.etag:
        headers["If-None-Match"] = refused.etag
    if refused is not None and refused.modified:
        headers["If-Modified-Since"] = refused.modified
    return headers


def _check_answer(
    url: str, download: Download, partial: Partial, refused: ResponseFingerprint | None
) -> ResponseFingerprint:
    """The fingerprint of what is served. Raise what check_status raises; FetchInterrupted where a part does not fit,
    WrongBytes where it still is what was refused before."""
    if download.status == 416 and partial.size:
        # What we have is no part of what the server has now (or is all of it, which its digest can't prove here).
        partial.restart()
        raise FetchInterrupted(
            f"{redact_url(url)}: HTTP 416, the part that an earlier try left does not fit; starting again"
        )
    check_status(download.status, download.headers, download.url)
    served = _served(url, download.headers)
    # A server that knows no conditions answers 200; its headers say as much, and the body is not waited for.
    if refused is not None and (download.status == 304 or refused.is_still(served)):
        raise WrongBytes(
            f"{redact_url(url)}: still what was refused before ({refused.found}), so it is not downloaded "
            f"again for now; publish it again, or correct the digest at ops-meta",
            refused,
        )
    return served


def _write(url: str, block: bytes, partial: Partial, context: StepContext) -> None:
    """Write a piece, within the bounds. Raise Interrupted, and what the bounds raise."""
    if context.ending.is_set():
        raise Interrupted
    if partial.size + len(block) > context.bounds.max_tarball:
        partial.restart()
        raise _too_large(url, context)
    _keep_free(url, len(block), context)
    partial.write(block)


def _served(url: str, headers: Mapping[str, str]) -> ResponseFingerprint:
    """The fingerprint of these bytes, as far as it can be kept and sent back."""

    def header(name: str) -> str:
        value = headers.get(name, "")
        return value if _VALIDATOR.fullmatch(value) else ""

    return ResponseFingerprint(
        url=url, etag=header("etag"), modified=header("last-modified"), length=header("content-length")
    )


def _begin(download: Download, partial: Partial) -> None:
    """Go on where the earlier try ended if the server does so too, else start again."""
    if download.status == 206:
        match = _CONTENT_RANGE.fullmatch(download.headers.get("content-range", ""))
        if match is not None and int(match[1]) == partial.size:
            return
        partial.restart()
        raise FetchInterrupted(
            f"{redact_url(download.url)}: HTTP 206 with another range than was asked for; starting again"
        )
    if download.status != 200:
        raise FetchFailed(f"{redact_url(download.url)}: HTTP {download.status}, expected 200 and the tarball")
    partial.restart()
    etag = download.headers.get("etag", "")
    # If-Range takes strong validators only (RFC 9110, section 13.1.5): a weak ETag may name other bytes.
    partial.remember(etag if etag.startswith('"') else download.headers.get("last-modified", ""))


def _expected_size(headers: Mapping[str, str], before: int) -> int | None:
    """The whole tarball's size as announced, in bytes; None where it is not. A part's own length says nothing of that
    where the server sends less than was asked for."""
    part = _CONTENT_RANGE.fullmatch(headers.get("content-range", "")) if before else None
    if part is not None and part[2] != "*":
        return int(part[2])
    announced = headers.get("content-length", "")
    return before + int(announced) if announced else None  # decimal: h11 takes no other


def _make_room(url: str, wanted: int, path: Path, context: StepContext) -> None:
    """See that `wanted` bytes have room before the first comes; what is cached for others is given up for it."""
    try:
        _keep_free(url, wanted, context)
    except DiskTooSmall:
        trim_cache(context.cache, 0, path)
        _keep_free(url, wanted, context)


def _keep_free(url: str, wanted: int, context: StepContext) -> None:
    """Stop before the disk is full, whatever fills it."""
    free, keep = shutil.disk_usage(context.cache).free, context.bounds.keep_free
    if wanted + keep > free:
        short = (wanted + keep - free) // 2**20 + 1
        raise DiskTooSmall(
            f"{redact_url(url)}: {wanted} bytes to come and {keep} to keep free, {short} MiB more than is free at "
            f"{context.cache}; free some"
        )


def _check_size(url: str, expected: int | None, context: StepContext) -> None:
    if expected is not None and expected > context.bounds.max_tarball:
        raise _too_large(url, context)


def _too_large(url: str, context: StepContext) -> FetchFailed:
    return FetchFailed(
        f"{redact_url(url)}: larger than max_tarball ({context.bounds.max_tarball} bytes); raise that in cfg.json "
        "if need be"
    )
