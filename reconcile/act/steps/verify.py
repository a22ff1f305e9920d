"""Verify the tarball on the bench, its digests and its signature; only then does it get its place in the cache.

Every digest that was given must match. No byte has been parsed by then.
"""

from __future__ import annotations

import fcntl

from attrs import evolve

from reconcile.act.cache import kinds_of, part_of, same_digest, take_digests, trim_cache
from reconcile.act.context import StepContext, WrongBytes
from reconcile.act.host.atomic_fs import as_error
from reconcile.act.signatures import check_bytes
from reconcile.decide.actions import Result, Verify
from reconcile.errors import DigestMismatch, SignatureInvalid


def verify(action: Verify, context: StepContext) -> Result:
    """Compare, and throw the bytes away where they differ. Raise DigestMismatch, SignatureInvalid."""
    bench = context.bench
    assert bench.tarball is not None
    assert bench.path is not None
    wanted = frozenset(str(digest) for digest in action.digests)
    if not wanted:
        raise DigestMismatch("no digest is known for the tarball, so it can't be verified; nothing is unpacked")
    try:
        part = part_of(bench.path)
        try:
            _compare(action, wanted, context)
        except (DigestMismatch, SignatureInvalid):
            (part if bench.seen else bench.path).unlink(missing_ok=True)
            raise
        if bench.seen:
            part.rename(bench.path)
            fcntl.flock(bench.tarball, fcntl.LOCK_UN)
        trim_cache(context.cache, context.bounds.cache_size, bench.path)
    except OSError as err:
        raise as_error(err, "verify in the cache", str(bench.path)) from err
    return Result.DONE


def _compare(action: Verify, wanted: frozenset[str], context: StepContext) -> None:
    bench = context.bench
    assert bench.tarball is not None
    found = bench.seen or take_digests(kinds_of(action.digests), bench.tarball)
    if found != wanted:
        served = None if bench.served is None else evolve(bench.served, found=_listed(found))
        raise WrongBytes(
            f"the tarball is {_listed(found)}, expected {_listed(wanted)}{_whose(wanted, context)}; it is thrown away: "
            f"publish it again, or correct the digest at ops-meta (`md5` may be the digest itself or the URL base of "
            f"digest files)",
            served,
        )
    if action.signing is not None:
        if bench.signed is None or bench.signed.signing != action.signing:
            raise SignatureInvalid("no signature was fetched for the tarball; nothing is unpacked")
        check_bytes(bench.signed, bench.tarball)


def _whose(wanted: frozenset[str], context: StepContext) -> str:
    """Say of which other version the expected digest is, where that is known: the field was forgotten at ops-meta."""
    assert context.bench.path is not None
    on_disk = {f"{context.home.name} {version}" for digest, version in context.on_disk.items() if digest in wanted}
    own = " ".join(context.bench.path.name.split("@")[:2])
    others = sorted({*on_disk, *same_digest(context.bench.path)} - {own})
    return f", which is the digest of {', '.join(others)}" if others else ""


def _listed(digests: frozenset[str]) -> str:
    return ", ".join(sorted(digests))
