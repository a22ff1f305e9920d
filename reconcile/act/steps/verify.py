"""Verify the open tarball, its digests and its signature; only then does it get its place in the cache.

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
    results = context.results
    assert results.tarball is not None
    assert results.path is not None
    wanted = frozenset(str(digest) for digest in action.digests)
    if not wanted:
        raise DigestMismatch("no digest is known for the tarball, so it can't be verified; nothing is unpacked")
    try:
        part = part_of(results.path)
        try:
            _compare(action, wanted, context)
        except (DigestMismatch, SignatureInvalid):
            (part if results.seen else results.path).unlink(missing_ok=True)
            raise
        if results.seen:
            part.rename(results.path)
            fcntl.flock(results.tarball, fcntl.LOCK_UN)
        trim_cache(context.cache, context.bounds.cache_size, results.path)
    except OSError as err:
        raise as_error(err, "verify in the cache", str(results.path)) from err
    return Result.DONE


def _compare(action: Verify, wanted: frozenset[str], context: StepContext) -> None:
    results = context.results
    assert results.tarball is not None
    found = results.seen or take_digests(kinds_of(action.digests), results.tarball)
    if found != wanted:
        served = None if results.served is None else evolve(results.served, found=_listed(found))
        raise WrongBytes(
            f"the tarball is {_listed(found)}, expected {_listed(wanted)}{_whose(wanted, context)}; it is thrown away: "
            f"publish it again, or correct the digest at ops-meta (`md5` may be the digest itself or the URL base of "
            f"digest files)",
            served,
        )
    if action.signing is not None:
        if results.signed is None or results.signed.signing != action.signing:
            raise SignatureInvalid("no signature was fetched for the tarball; nothing is unpacked")
        check_bytes(results.signed, results.tarball)


def _whose(wanted: frozenset[str], context: StepContext) -> str:
    """Say of which other version the expected digest is, where that is known: the field was forgotten at ops-meta."""
    assert context.results.path is not None
    on_disk = {f"{context.home.name} {version}" for digest, version in context.on_disk.items() if digest in wanted}
    own = " ".join(context.results.path.name.split("@")[:2])
    others = sorted({*on_disk, *same_digest(context.results.path)} - {own})
    return f", which is the digest of {', '.join(others)}" if others else ""


def _listed(digests: frozenset[str]) -> str:
    return ", ".join(sorted(digests))
