"""Read a tar.gz forward, within bounds: inflate it, and show tarfile no header that could make it grow or hang.

tarfile parses the headers; this module decides what it gets to see, since it reads extended headers whole, believes
their lengths, and ends quietly at damage. What a member may be, and the making of it, is archive.py's business.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from reconcile.act.host.atomic_fs import as_error
from reconcile.errors import UnpackRefused


def _best_inflater() -> Any:
    """isal is twice as fast and has zlib's interface, and wheels for some platforms only (docs/adr/0030)."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


inflater = _best_inflater()

_PIECE = 1 << 20  # inflated bytes at a time
_COMPRESSED_PIECE = 1 << 16
_GZIP = 31  # zlib's wbits for: gzip header, and the CRC and length at the end are checked
_MAX_GZIP_MEMBERS = 65_536  # bgzip ends one each 64 KiB: 2 GiB are 32,768. Without a bound, empty ones burn CPU
_MAX_PADDING = 16 << 20  # zeros after the end of the archive; GNU tar pads to 10 KiB, tapes to 1 MiB or so

_PAX = b"xgX"  # type flags of extended headers: of a member, global, Solaris
_GNU_LONG = b"LK"
_GNU_SPARSE = b"S"
_PAX_RECORD = re.compile(rb"([0-9]{1,6}) ([^=\n\0]+)=")
_SPARSE_KEYS = (b"GNU.sparse.", b"SCHILY.realsize")
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 256


class _Gunzip:
    """Inflates whole gzip members, one after another, with zeros after them and nothing else."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._inflate = inflater.decompressobj(_GZIP)
        self._members = 1
        self._input = b""
        self._output = memoryview(b"")

    def some(self, size: int) -> memoryview:
        """Return 1 to `size` bytes; none at the end. Raises UnpackRefused."""
        if not self._output:
            self._output = memoryview(self._next_piece())
        piece, self._output = self._output[:size], self._output[size:]
        return piece

    def _next_piece(self) -> bytes:
        while not self._inflate.eof or self._begin_member():
            fed = self._input or self._read()
            try:
                piece: bytes = self._inflate.decompress(fed, _PIECE)
            except inflater.error as err:
                raise UnpackRefused(
                    f"the tarball's gzip member {self._members} is not gzip data, or damaged ({err}): "
                    "expected gzip members, zeros at most after the last; pack it again"
                ) from err
            self._input = self._inflate.unconsumed_tail
            if piece:
                return piece
            if not fed and not self._inflate.eof:
                raise UnpackRefused("the tarball ends amid its gzip data: expected the whole file; pack it again")
        return b""

    def _begin_member(self) -> bool:
        rest = self._inflate.unused_data.lstrip(b"\0")
        while not rest:
            piece = self._read()
            if not piece:
                return False
            rest = piece.lstrip(b"\0")
        self._members += 1
        if self._members > _MAX_GZIP_MEMBERS:
            raise UnpackRefused(f"the tarball has more than {_MAX_GZIP_MEMBERS} gzip members; pack it as one")
        self._inflate = inflater.decompressobj(_GZIP)
        self._input = rest
        return True

    def _read(self) -> bytes:
        try:
            return self._source.read(_COMPRESSED_PIECE)
        except OSError as err:
            raise as_error(err, "read", "the tarball") from err


class TarStream:
    """A tar.gz as its members' headers and data, in turn. `max_header` bounds the bytes of one member's headers,
    extended ones included; `max_headers` those of all."""

    def __init__(self, tarball: BinaryIO, *, max_header: int, max_headers: int) -> None:
        self._gunzip = _Gunzip(tarball)
        self._max_header = max_header
        self._header_left = max_header
        self._headers_left = max_headers
        self._position = 0
        self._block = b""  # what tarfile read last
        self._body_of = b""  # the type flag of the extended header whose body comes next
        self._member = "the first member"

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield each member's header; `data` must have given all its bytes before the next is asked for.

        Raises UnpackRefused, also where what follows the last member is not the end of a tar archive.
        """
        with self._damage_refused():
            tar = tarfile.TarFile(fileobj=self, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        while True:
            with self._damage_refused():
                member = tar.next()
            if member is None:
                break
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header for ever
            self._member = f"what follows {member.name[:200]!r}"
            end = int(tar.offset)
            if member.isreg() and not 0 <= member.size <= end - self._position < member.size + tarfile.BLOCKSIZE:
                raise UnpackRefused(f"{member.name[:200]!r} has headers that disagree about its size ({member.size})")
            if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > self._max_header:
                raise UnpackRefused(f"the global headers exceed {self._max_header} bytes in all")
            yield member
            self._exactly(end - self._position)  # the padding to a whole block
            self._header_left = self._max_header
        self._check_end()

    def data(self, size: int) -> memoryview:
        """Return 1 to `size` bytes of the current member's data. Raises UnpackRefused where the archive ends."""
        piece = self._gunzip.some(size)
        if not piece:
            raise UnpackRefused("the tar archive ends amid a member's data: expected the whole file; pack it again")
        self._position += len(piece)
        return piece

    # What tarfile calls.

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Stay: all data was read before, so a wish to move comes from a size that lies."""
        if position != self._position:
            raise UnpackRefused(f"the header of {self._member} gives an impossible size")
        return position

    def read(self, size: int) -> bytes:
        """Give tarfile one header block, or the body of an extended header, checked first."""
        if not 0 <= size <= min(self._header_left, self._headers_left):
            raise UnpackRefused(
                f"the header of {self._member} is too large or lies about its size: "
                f"expected at most {self._max_header} bytes a member"
            )
        self._header_left -= size
        self._headers_left -= size
        self._block = self._exactly(size)
        body_of, self._body_of = self._body_of, b""
        if body_of and body_of in _PAX:
            self._check_pax(self._block)
        elif not body_of:
            flag = self._block[156:157]
            if flag == _GNU_SPARSE:
                raise UnpackRefused(f"the header of {self._member} is of a sparse file: pack without --sparse")
            self._body_of = flag if flag and flag in _PAX + _GNU_LONG else b""
        return self._block

    def _exactly(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        pieces = []
        while size > 0:
            piece = self._gunzip.some(size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)

    def _check_pax(self, body: bytes) -> None:
        """Hold extended records to their form: of one whose length lies, tarfile makes 1 GB out of 64 KiB, and one
        long number costs it seconds (CVE-2024-6232)."""
        start, end = 0, len(body.rstrip(b"\0"))
        while start < end:
            record = _PAX_RECORD.match(body, start)
            stop = start + int(record[1]) if record else 0
            if record is None or not record.end() < stop <= end or body[stop - 1 : stop] != b"\n":
                raise UnpackRefused(f"the extended header of {self._member} is malformed: expected 'LENGTH KEY=VALUE'")
            if record[2].startswith(_SPARSE_KEYS):
                raise UnpackRefused(f"the header of {self._member} is of a sparse file: pack without --sparse")
            start = stop
        if _LONG_NUMBER in body.translate(_DIGITS_AS_ZERO):
            raise UnpackRefused(f"the extended header of {self._member} has a number of {len(_LONG_NUMBER)} digits")

    def _check_end(self) -> None:
        """See that tarfile stopped at a block of zeros, or behind a whole one where a tool wrote no end, not at damage,
        and that only zeros follow, through the last CRC."""
        if self._block.strip(b"\0") or self._position % tarfile.BLOCKSIZE:
            raise UnpackRefused(
                f"{self._member} is neither a header nor the end of the archive: damaged or cut short; pack it again"
            )
        padding = 0
        while piece := self._gunzip.some(_PIECE):
            padding += len(piece)
            if padding > _MAX_PADDING or bytes(piece).strip(b"\0"):
                raise UnpackRefused(
                    "data follows the end of the tar archive: expected zeros alone, "
                    f"at most {_MAX_PADDING >> 20} MiB; pack it again"
                )

    @contextmanager
    def _damage_refused(self) -> Iterator[None]:
        """Turn what tarfile raises at hostile headers, over all its versions, into a refusal."""
        try:
            yield
        except (tarfile.TarError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as err:
            raise UnpackRefused(f"the header of {self._member} can't be read ({err}); pack it again") from err
