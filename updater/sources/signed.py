"""Whether a desired state is signed as `require_signed_desired` asks: by a trusted key, as this very file, and not an
older one.

Nothing is parsed before that is known. What serials were accepted is remembered by who keeps the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit, urlunsplit

from probes.errors import ToolMissing
from probes.text import one_line
from reconcile.decide.desired_serial import serial_of, why_refused
from reconcile.decide.minisign import parse_signature
from reconcile.errors import DesiredUnsigned, SignatureInvalid
from reconcile.source import DesiredSignature
from reconcile.storage.serial_file import SerialMemory
from reconcile.trusted_keys import is_by, signer_of

SUFFIX = ".minisig"
SIGNATURE_LIMIT = 4096  # bytes; minisign writes about 300
_SIGN = "sign it by `updater publish --minisign-key`"


class DesiredVerifier:
    """Verifies one desired state. `file_name`: what it must have been signed as. Threads may share it."""

    def __init__(self, file_name: str, keys: frozenset[str], memory: SerialMemory, clock: Callable[[], float]) -> None:
        self._file_name = file_name
        self._keys = keys
        self._memory = memory
        self._clock = clock

    def verify(self, body: bytes, minisig: bytes, where: str) -> DesiredSignature:
        """Say by which key and with which serial these bytes were signed. `where`: the signature, for people. Raise
        DesiredUnsigned."""
        import hashlib  # it loads OpenSSL, and most commands verify nothing

        where = f"the signature {where}"
        if len(minisig) > SIGNATURE_LIMIT:
            raise DesiredUnsigned(f"{where}: larger than {SIGNATURE_LIMIT} bytes, which is not a signature; {_SIGN}")
        try:
            signature = parse_signature(minisig)
        except ValueError as err:
            raise DesiredUnsigned(f"{where}: {err}; {_SIGN}") from None
        try:
            serial = serial_of(signature.comment, self._file_name)
        except ValueError as err:
            said = one_line(signature.comment.decode("utf-8", "replace"), 120)
            raise DesiredUnsigned(
                f"{where}: its trusted comment is {said!r}, {one_line(str(err), 300)}; {_SIGN}"
            ) from None
        try:
            key = signer_of(signature, self._keys, where)
            message = hashlib.blake2b(body).digest() if signature.prehashed else body
            if not is_by(key, signature.signature, message):
                why = "it may have been replaced just now, and is asked for again"
                raise DesiredUnsigned(f"{where}: it is not of the file that is served; {why}")
        except SignatureInvalid as err:
            raise DesiredUnsigned(f"{err.message}; {_SIGN}") from None
        except ToolMissing as err:
            raise DesiredUnsigned(f"{where} can't be verified: {err.message}") from None
        return DesiredSignature(key=key.text, serial=serial, digest=hashlib.sha256(body).hexdigest())

    def admit(self, signature: DesiredSignature, where: str) -> None:
        """Hold the serial of a good signature against those accepted before. Raise DesiredUnsigned."""
        if why := why_refused(signature, self._memory.accepted, self._clock()):
            raise DesiredUnsigned(f"the signature {where}: {why}")


def signature_url(url: str) -> str:
    """Where the signature of a desired URL is: beside the file, with the same query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + SUFFIX))


def file_name_of(url: str) -> str:
    """The file that an URL names: its last path segment, decoded. Raise ValueError where that is no name of a file."""
    encoded = urlsplit(url).path.rpartition("/")[2]
    try:
        name = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not name or name in (".", "..") or "/" in name or not name.isprintable():
        raise ValueError(f"{one_line(encoded, 80)!r} is not a file's name, and a signature is of a file with a name")
    return name
