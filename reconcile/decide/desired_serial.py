"""Which signature of a desired state this host takes: one of that file, with a serial that is not older. Pure.

The trusted comment of a desired state names its file, so that another team's can't be served in its place, and a
serial, which is a time in seconds: so an older file can't either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconcile.source import DesiredSignature

_AHEAD_S = 86_400  # a serial of tomorrow is a clock that is wrong; later ones would shut out all that follow


def desired_comment(file_name: str, serial: int) -> str:
    """The trusted comment of a desired-state file (docs/interface.md, section 7)."""
    return f"ops-updater desired {file_name} serial={serial}"


def serial_of(comment: bytes, file_name: str) -> int:
    """The serial that a trusted comment gives to this very file. Raise ValueError, for people."""
    before, serial = desired_comment(file_name, 0)[:-1].encode(), comment.rpartition(b"=")[2]
    if comment != before + serial or re.fullmatch(rb"0|[1-9][0-9]{0,17}", serial) is None:
        raise ValueError(f"expected {before.decode()}N")
    return int(serial)


def why_refused(signature: DesiredSignature, accepted: Iterable[DesiredSignature], now: float) -> str:
    """Why a signature that is good is not taken; empty where it is. `accepted`: the last ones, of each key at most
    one."""
    if signature.serial > now + _AHEAD_S:
        return f"its serial {signature.serial} is more than a day ahead of this host's clock; is that clock right?"
    last = next((one for one in accepted if one.key == signature.key), None)
    if last is None or signature.serial > last.serial:
        return ""
    if signature.serial < last.serial:
        return (
            f"its serial {signature.serial} is older than {last.serial}, which was accepted before; an old file is "
            "served: serve the latest, or publish again"
        )
    if signature.digest != last.digest:
        return f"its serial {signature.serial} was accepted with other bytes before; sign each file with a higher one"
    return ""


def highest(*memories: Iterable[DesiredSignature], keys: frozenset[str]) -> tuple[DesiredSignature, ...]:
    """Return the signature with the highest serial of each of these keys; of equal ones the first."""
    found: dict[str, DesiredSignature] = {}
    for one in (one for memory in memories for one in memory if one.key in keys):
        if one.key not in found or one.serial > found[one.key].serial:
            found[one.key] = one
    return tuple(found[key] for key in sorted(found))
