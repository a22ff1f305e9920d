"""Whether one of the keys that this host trusts signed something, in minisign's way.

It is the only module that uses PyNaCl, which is there only where `./control setup --with signatures` was run. It
fetches and opens nothing; the forms are decide/minisign.py's.
"""

from __future__ import annotations

from collections.abc import Iterable

from probes.errors import ToolMissing
from probes.host.own_installation import get_part
from reconcile.decide.minisign import PublicKey, Signature, key_id_text, parse_public_key
from reconcile.errors import SignatureInvalid


def signer_of(signature: Signature, keys: Iterable[str], where: str) -> PublicKey:
    """The key by which the trusted comment was signed. `where`: what the message begins with. Raise SignatureInvalid,
    ToolMissing."""
    candidates = [key for key in map(parse_public_key, sorted(keys)) if key.key_id == signature.key_id]
    if not candidates:
        raise SignatureInvalid(
            f"{where}: made with key {key_id_text(signature.key_id)}, which is not among trusted_keys in cfg.json"
        )
    for key in candidates:
        if is_by(key, signature.global_signature, signature.signature + signature.comment):
            return key
    raise SignatureInvalid(f"{where}: its trusted comment was not signed by key {candidates[0].name}")


def is_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the key signed this message. Raise ToolMissing."""
    try:
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey
    except ImportError:
        needs = f"trusted_keys needs PyNaCl, which is not installed: {get_part('signatures')}"
        raise ToolMissing(needs) from None
    try:
        VerifyKey(key.key).verify(message, signature)
    except BadSignatureError:
        return False
    return True
