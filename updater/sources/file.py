"""A file in the contract's form, as a source of desired state: for hosts without a server, for trials, for tests.

A file takes no report, so it is dropped. The form is wire.py's.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from probes.host.home_reader import read_regular
from probes.text import one_line
from reconcile.errors import DesiredUnsigned, ResponseInvalid, ServerUnreachable
from reconcile.source import Answer, DesiredSignature, HostReport
from updater.sources import wire
from updater.sources.signed import SIGNATURE_LIMIT, SUFFIX, DesiredVerifier

_LIMIT = 1024 * 1024  # bytes, as of a server's answer


class DesiredFile:
    """A source of desired state that reads a local file at each exchange."""

    def __init__(self, path: Path, verifier: DesiredVerifier | None = None) -> None:
        self._path = path
        self._verifier = verifier

    @property
    def came_from(self) -> str:
        return one_line(str(self._path), 300)

    @property
    def takes_reports(self) -> bool:
        return False

    def exchange(self, report: HostReport) -> Answer:
        """Read the file. Raise ServerUnreachable where it can't be read, ResponseInvalid on its content or for want
        of a signature that is asked for."""
        try:
            body = read_regular(self._path, _LIMIT + 1)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            raise ServerUnreachable(f"the desired state in {self.came_from} can't be read: {_why(error)}") from error
        if len(body) > _LIMIT:
            raise ResponseInvalid(f"{self.came_from} is larger than {_LIMIT} bytes, which is all that is taken")
        signature = None if self._verifier is None else self._signature(body, self._verifier)
        return evolve(wire.parse_answer(body, self.came_from), signature=signature)

    def _signature(self, body: bytes, verifier: DesiredVerifier) -> DesiredSignature:
        """Verify the signature beside the file. Raise DesiredUnsigned."""
        path = self._path.with_name(self._path.name + SUFFIX)
        where = one_line(str(path), 300)
        try:
            minisig = read_regular(path, SIGNATURE_LIMIT + 1)
        except OSError as error:
            why = "a desired state must be signed here (require_signed_desired): put its signature beside it"
            raise DesiredUnsigned(f"the signature {where} can't be read: {_why(error)}; {why}") from error
        signature = verifier.verify(body, minisig, where)
        verifier.admit(signature, where)
        return signature


def _why(error: OSError | ValueError) -> str:
    return one_line((error.strerror if isinstance(error, OSError) else None) or str(error))
