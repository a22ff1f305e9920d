"""Verify the tarball on the bench against every digest that was given; only then does it get its place in the cache."""

from __future__ import annotations

import fcntl

from attrs import evolve

from reconcile.act.cache import kinds_of, part_of, take_digests, trim_cache
from reconcile.act.host.write import as_error
from reconcile.act.tools import Tools, WrongBytes
from reconcile.decide.actions import Result, Verify
from reconcile.errors import DigestMismatch


def verify(action: Verify, tools: Tools) -> Result:
    """Compare, and throw the bytes away where they differ. Raise DigestMismatch."""
    bench = tools.bench
    assert bench.tarball is not None
    assert bench.path is not None
    wanted = frozenset(str(digest) for digest in action.digests)
    if not wanted:
        raise DigestMismatch("no digest is known for the tarball, so it can't be verified; nothing is unpacked")
    try:
        found = bench.seen or take_digests(kinds_of(action.digests), bench.tarball)
        part = part_of(bench.path)
        if found != wanted:
            (part if bench.seen else bench.path).unlink(missing_ok=True)
            served = None if bench.served is None else evolve(bench.served, found=_listed(found))
            raise WrongBytes(
                f"the tarball is {_listed(found)}, expected {_listed(wanted)}; it is thrown away: publish it again, or "
                f"correct the digest at ops-meta (`md5` may be the digest itself or the URL base of digest files)",
                served,
            )
        if bench.seen:
            part.rename(bench.path)
            fcntl.flock(bench.tarball, fcntl.LOCK_UN)
        trim_cache(tools.cache, tools.bounds.cache_size, bench.path)
    except OSError as err:
        raise as_error(err, "verify in the cache", str(bench.path)) from err
    return Result.DONE


def _listed(digests: frozenset[str]) -> str:
    return ", ".join(sorted(digests))
