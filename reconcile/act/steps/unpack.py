"""Unpack the verified tarball: the very file that fetch left open, as the agent's user.

What is made of it, and in which order, is install.py's.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from probes.home import home_of
from probes.text import redact_url
from reconcile.act.context import StepContext
from reconcile.act.install import UnpackRequest, unpack_tree
from reconcile.decide.actions import Result, Unpack
from reconcile.errors import UnpackRefused

_SMALLEST_GZIP = 18  # bytes: header and trailer of RFC 1952
_LIMIT_S = 3600.0  # for 2 GiB and 100,000 files, each brought to a slow disk


def unpack(action: Unpack, context: StepContext) -> Result:
    """Make `{home}/{directory}`. Raise UnpackRefused, DiskTooSmall, WriteFailed; then nothing of it stays."""
    tarball = context.results.tarball
    assert tarball is not None
    signed = None if action.signing is None else context.results.signed
    parcel = UnpackRequest(
        directory=action.directory,
        digests=frozenset(str(digest) for digest in action.digests),
        source=redact_url(action.url),
        signed_by=None if signed is None else signed.key.text,
        size=_size_unpacked(tarball),
        limits=context.bounds.archive,
    )
    tarball.seek(0)
    context.workers.of(context.home.run_user, _LIMIT_S).do(unpack_tree, home_of(context.home), parcel, tarball)
    return Result.DONE


def _size_unpacked(tarball: BinaryIO) -> int:
    """What the file says that it unpacks to. Raise UnpackRefused where it is too short to say anything.

    A gzip member ends with its unpacked size modulo 4 GiB (RFC 1952); of several members it names the last one alone,
    so it can only be too small, and the unpacker finds out.
    """
    if tarball.seek(0, os.SEEK_END) < _SMALLEST_GZIP:
        raise UnpackRefused("the tarball is not a gzip file: it is shorter than the shortest one")
    tarball.seek(-4, os.SEEK_END)
    return int.from_bytes(tarball.read(4), "little")
