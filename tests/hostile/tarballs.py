"""How the corpus's archives are made: a member is its blocks, an archive is members and an end.

By hand and not by tarfile, which writes nothing that it finds wrong.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterable

CONTROL = b"#!/bin/sh\nexit 0\n"


def member(
    name: str,
    content: bytes = b"",
    *,
    type: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    to: str = "",
    format: int = tarfile.GNU_FORMAT,
    pax: dict[str, str] | None = None,
    size: int | None = None,
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = type, mode, to
    info.size = len(content) if size is None else size
    info.pax_headers = pax or {}
    return info.tobuf(
        format,  # type: ignore[arg-type]
        "utf-8",
        "surrogateescape",
    ) + padded(content)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def directory(name: str, mode: int = 0o755) -> bytes:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def soft(name: str, to: str) -> bytes:
    return member(name, type=tarfile.SYMTYPE, to=to)


def hard(name: str, to: str) -> bytes:
    return member(name, type=tarfile.LNKTYPE, to=to)


def raw_header(
    name: bytes, type: bytes, size: bytes = b"00000000000\0", linkname: bytes = b"", magic: bytes = b"ustar\00000"
) -> bytes:
    """A header as no tool would write it, with a right checksum."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = type
    block[157 : 157 + len(linkname)] = linkname
    block[257:265] = magic.ljust(8, b"\0")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(body: bytes, type: bytes = b"x") -> bytes:
    return raw_header(b"ext", type, b"%011o\0" % len(body)) + padded(body)


CONTROL_MEMBER = member("control", CONTROL, mode=0o755)
END = bytes(1024)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def packed(*members: bytes) -> bytes:
    """A tar.gz with a good `control` and these members."""
    return gzip.compress(tar(CONTROL_MEMBER, *members), 1, mtime=0)


def gzip_of(pieces: Iterable[bytes]) -> bytes:
    """Compress without ever holding the whole."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*(deflate.compress(piece) for piece in pieces), deflate.flush()])
