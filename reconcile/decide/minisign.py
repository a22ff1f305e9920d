"""The text forms of minisign: public keys and signatures, strictly read. Pure; nothing is verified here.

The format is that of minisign 0.11 and of all before it: `Ed` signs the file itself, `ED` its BLAKE2b-512 digest. A
second, global signature binds the trusted comment to the first. Verifying is the business of reconcile/trusted_keys.py.
"""

from __future__ import annotations

import base64

from attrs import field

from probes.values import frozen

_KEY_BYTES, _ID_BYTES, _SIGNATURE_BYTES = 32, 8, 64
_LEGACY, _PREHASHED = b"Ed", b"ED"


@frozen(kw_only=True)
class PublicKey:
    """`text`: the one line that `minisign -G` prints. `key_id` tells keys apart for people, it proves nothing."""

    text: str
    key_id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign writes it."""
        return key_id_text(self.key_id)


@frozen(kw_only=True)
class Signature:
    """`prehashed`: whether the BLAKE2b-512 digest was signed. `comment`: the trusted one, as bytes."""

    prehashed: bool
    key_id: bytes
    signature: bytes = field(repr=False)
    comment: bytes
    global_signature: bytes = field(repr=False)


_A_PUBLIC_KEY = "expected a minisign public key: the second line of its .pub file, 56 characters"


def parse_public_key(text: str) -> PublicKey:
    """Read a public key, the base64 line alone. Raise ValueError."""
    try:
        raw = _decoded(text.encode("ascii", "replace"))
    except ValueError as err:
        raise ValueError(f"{err}; {_A_PUBLIC_KEY}") from None
    if len(raw) > 100:  # an encrypted secret key has 158 bytes
        raise ValueError("this is a SECRET key: a config must never hold it; use the line of its .pub file")
    if len(raw) != 2 + _ID_BYTES + _KEY_BYTES or raw[:2] != _LEGACY:
        raise ValueError(_A_PUBLIC_KEY)
    return PublicKey(text=text, key_id=raw[2:10], key=raw[10:])


def parse_signature(content: bytes) -> Signature:
    """Read the four lines of a signature file. Raise ValueError, for people."""
    lines = content.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if len(lines) != 4 or not lines[0].startswith(b"untrusted comment: "):
        raise ValueError("expected the four lines of a minisign signature")
    trusted = b"trusted comment: "
    if not lines[2].startswith(trusted):
        raise ValueError("its third line is not a trusted comment")
    raw, global_signature = _decoded(lines[1]), _decoded(lines[3])
    if len(raw) != 2 + _ID_BYTES + _SIGNATURE_BYTES or raw[:2] not in (_LEGACY, _PREHASHED):
        raise ValueError("its second line is not an Ed25519 signature of minisign")
    if len(global_signature) != _SIGNATURE_BYTES:
        raise ValueError("its fourth line is not an Ed25519 signature")
    return Signature(
        prehashed=raw[:2] == _PREHASHED,
        key_id=raw[2:10],
        signature=raw[10:],
        comment=lines[2].removeprefix(trusted),
        global_signature=global_signature,
    )


def key_id_text(key_id: bytes) -> str:
    """A key's id as minisign shows it: its bytes as a little-endian number, in hex."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def _decoded(line: bytes) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except ValueError:
        raise ValueError("it is not base64") from None
    if base64.b64encode(raw) != line:
        raise ValueError("it is not base64 in its one spelling")
    return raw
