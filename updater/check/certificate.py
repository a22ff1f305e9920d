"""From when to when a certificate is valid: the two times in its DER form (RFC 5280, section 4.1). Pure.

Python's ssl tells them of certificates alone that it has verified, and a pinned one is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

_VERSION, _UTC_TIME = 0xA0, 0x17  # tags; of a version that is given, and of a time with two digits for its year


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Return when a certificate's time begins and ends. Raise ValueError on what is none."""
    try:
        (_, certificate), *_ = _parts(der)
        (_, signed), *_ = _parts(certificate)
        parts = [content for tag, content in _parts(signed) if tag != _VERSION]
        begins, ends = _parts(parts[3])  # after the serial number, the signature's algorithm, the issuer
        return _time(*begins), _time(*ends)
    except (IndexError, ValueError) as err:
        raise ValueError("no certificate in DER form") from err


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each value that stands in `content`."""
    at = 0
    while at < len(content):
        tag, size = content[at], content[at + 1]
        at += 2
        if size & 0x80:  # so many bytes hold the size
            count = size & 0x7F
            size, at = int.from_bytes(content[at : at + count], "big"), at + count
        yield tag, content[at : at + size]
        at += size


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # until 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
