"""Who signed a tarball: minisign signatures verified with the keys that this host trusts.

It is the only module that uses PyNaCl, which is there only where `./control setup --with signatures` was run. It
fetches and opens nothing. The order is the safety: comment and key first, which needs no tarball, then the bytes, and
only after that somebody parses them.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from probes.errors import ToolMissing
from probes.values import frozen
from reconcile.act.cache import take_digests
from reconcile.decide.desired import Signing
from reconcile.decide.minisign import PublicKey, Signature, parse_public_key, parse_signature, shown_id
from reconcile.errors import SignatureInvalid
from reconcile.net.http_client import escaped, shown

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
    where = f"the signature {shown(signing.url)}"
    try:
        signature = parse_signature(content)
    except ValueError as err:
        raise SignatureInvalid(f"{where}: {err}") from None
    if signature.comment != signing.comment.encode():
        said = escaped(signature.comment.decode("utf-8", "replace"), 120)
        raise SignatureInvalid(
            f"{where}: its trusted comment is {said!r}, expected {signing.comment!r}; sign with `minisign -t`"
        )
    candidates = [key for key in map(parse_public_key, sorted(signing.keys)) if key.key_id == signature.key_id]
    if not candidates:
        raise SignatureInvalid(
            f"{where}: made with key {shown_id(signature.key_id)}, which is not among trusted_keys in cfg.json"
        )
    for key in candidates:
        if _is_by(key, signature.global_signature, signature.signature + signature.comment):
            return Signed(signing=signing, signature=signature, key=key)
    raise SignatureInvalid(f"{where}: its trusted comment was not signed by key {candidates[0].name}")


def check_bytes(signed: Signed, tarball: BinaryIO) -> None:
    """Hold the tarball's bytes, all of them, against its signature. Raise SignatureInvalid, ToolMissing, OSError."""
    signature = signed.signature
    if signature.prehashed:
        [digest] = take_digests(frozenset({"blake2b"}), tarball)
        message = bytes.fromhex(digest.partition(":")[2])
    else:
        if tarball.seek(0, os.SEEK_END) > LEGACY_LIMIT:
            raise SignatureInvalid(
                f"the signature {shown(signed.signing.url)} is of minisign's legacy form, which is verified up to "
                f"{LEGACY_LIMIT} bytes; sign without -l (before minisign 0.10: with -H)"
            )
        tarball.seek(0)
        message = tarball.read()
    if not _is_by(signed.key, signature.signature, message):
        raise SignatureInvalid(
            f"the tarball is not what key {signed.key.name} signed ({shown(signed.signing.url)}); it is thrown away: "
            "sign the published file, or publish the signed one"
        )


def _is_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey
    except ImportError:
        raise ToolMissing(
            "trusted_keys needs PyNaCl, which is not installed: run `./control setup --with signatures`"
        ) from None
    try:
        VerifyKey(key.key).verify(message, signature)
    except BadSignatureError:
        return False
    return True
