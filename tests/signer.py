"""A publisher with a key: signs as minisign does. What the real program signs is in tests/reconcile/act/minisign/."""

from __future__ import annotations

import base64
import hashlib

from nacl.signing import SigningKey

from tests.support.ops_meta import host_arch


class Signer:
    """`public`: the line for `trusted_keys`."""

    def __init__(self, seed: int = 1, *, key_id: bytes | None = None) -> None:
        self._key = SigningKey(bytes([seed]) * 32)
        self._id = key_id or bytes([seed]) * 8
        self.public = _text(b"Ed" + self._id + bytes(self._key.verify_key))

    def sign(self, content: bytes, comment: str, *, legacy: bool = False) -> bytes:
        """The `.minisig` file of these bytes."""
        message = content if legacy else hashlib.blake2b(content).digest()
        signature = self._key.sign(message).signature
        bound = self._key.sign(signature + comment.encode()).signature
        lines = (
            "untrusted comment: of a test",
            _text((b"Ed" if legacy else b"ED") + self._id + signature),
            f"trusted comment: {comment}",
            _text(bound),
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def sign_release(self, content: bytes, name: str, version: str) -> bytes:
        """The signature of an agent's tarball for this host, as the contract asks for it."""
        return self.sign(content, f"{host_arch()}/{name}-{version}.tar.gz")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
