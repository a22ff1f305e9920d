"""Who signed a tarball: minisign signatures verified with the keys that this host trusts.

It fetches and opens nothing. The order is the safety: comment and key first, which needs no tarball, then the bytes,
and only after that somebody parses them.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from probes.text import one_line, redact_url
from probes.values import frozen
from reconcile.act.cache import take_digests
from reconcile.decide.desired import Signing
from reconcile.decide.minisign import PublicKey, Signature, parse_signature
from reconcile.errors import SignatureInvalid
from reconcile.trusted_keys import is_by, signer_of

# The legacy form signs the file itself, so all of it has to be in memory, thrice.
LEGACY_LIMIT = 8 * 1024 * 1024


@frozen(kw_only=True)
class Signed:
    """A signature whose comment and key are good; the bytes are still to be compared with it."""

    signing: Signing
    signature: Signature
    key: PublicKey


def check_comment(content: bytes, signing: Signing) -> Signed:
    """Read a signature file, and hold its trusted comment and its key against what is asked for.

    The trusted comment is itself signed, and names architecture, agent and version: so the signature of another file
    is none of this one. Raise SignatureInvalid, ToolMissing.
    """
    where = f"the signature {redact_url(signing.url)}"
    try:
        signature = parse_signature(content)
    except ValueError as err:
        raise SignatureInvalid(f"{where}: {err}") from None
    if signature.comment != signing.comment.encode():
        said = one_line(signature.comment, 120)
        raise SignatureInvalid(
            f"{where}: its trusted comment is {said!r}, expected {signing.comment!r}; sign with `minisign -t`"
        )
    return Signed(signing=signing, signature=signature, key=signer_of(signature, signing.keys, where))


def check_bytes(signed: Signed, tarball: BinaryIO) -> None:
    """Hold the tarball's bytes, all of them, against its signature. Raise SignatureInvalid, ToolMissing, OSError."""
    signature = signed.signature
    if signature.prehashed:
        [digest] = take_digests(frozenset({"blake2b"}), tarball)
        message = bytes.fromhex(digest.partition(":")[2])
    else:
        if tarball.seek(0, os.SEEK_END) > LEGACY_LIMIT:
            raise SignatureInvalid(
                f"the signature {redact_url(signed.signing.url)} is of minisign's legacy form, which is verified up to "
                f"{LEGACY_LIMIT} bytes; sign without -l (before minisign 0.10: with -H)"
            )
        tarball.seek(0)
        message = tarball.read()
    if not is_by(signed.key, signature.signature, message):
        raise SignatureInvalid(
            f"the tarball is not what key {signed.key.name} signed ({redact_url(signed.signing.url)}); it is "
            "thrown away: sign the published file, or publish the signed one"
        )
