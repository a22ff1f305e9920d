"""What passes between the updater and a worker: frames, and calls' arguments, of which some stay with the caller.

What a worker sends is another user's, and untrusted: what does not fit is a CodecError (probes/codec.py).
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from typing import Any, BinaryIO

from probes.codec import CodecError, decode, encode
from probes.values import frozen

CHUNK = 1 << 20  # bytes of a stream at a time
MAX_BODY = 8 << 20  # bytes of a frame: a config file of 1 MiB, or what is seen of a user's agents, many times over
_MAX_HEAD = 64
_HEAD = re.compile(rb"([a-z]{1,8}) ([0-9]{1,9}) ([0-9]{1,9})")
_STREAM, _HOOK = "stream", "hook"


@frozen(kw_only=True)
class CallbackArgs:
    """The arguments of a call that stay with its caller: an open file, and what is called with a number."""

    stream: BinaryIO | None = None
    hook: Callable[[int], None] | None = None


_NO_ENDS = CallbackArgs()


@frozen
class Frame:
    """One message. `number`: of the call that it belongs to."""

    kind: str
    number: int
    body: bytes = b""

    def packed(self) -> bytes:
        return b"%s %d %d\n%s" % (self.kind.encode(), self.number, len(self.body), self.body)


class FrameDecoder:
    """Takes bytes as they come and gives whole frames. `max_body` bounds what it keeps."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are complete with `piece`. Raise CodecError."""
        self._buffer += piece
        frames: list[Frame] = []
        while (end := self._buffer.find(b"\n", 0, _MAX_HEAD)) >= 0:
            head = _HEAD.fullmatch(self._buffer[:end])
            if head is None or int(head[3]) > self._max_body:
                raise CodecError("a frame that is malformed or too large")
            size = int(head[3])
            if len(self._buffer) < end + 1 + size:
                return frames
            body = bytes(self._buffer[end + 1 : end + 1 + size])
            del self._buffer[: end + 1 + size]
            frames.append(Frame(head[1].decode("ascii"), int(head[2]), body))
        if len(self._buffer) >= _MAX_HEAD:
            raise CodecError("what came is not a frame")
        return frames


def encode_argument(value: object) -> Any:
    """An argument of a call as what JSON can hold: an open file, or what is called with a number, only says that there
    is one."""
    if hasattr(value, "read"):
        return _STREAM
    return _HOOK if callable(value) else encode(value)


def decode_argument(hint: Any, found: Any, ends: CallbackArgs = _NO_ENDS) -> Any:
    """The argument of type `hint` that JSON stands for. Raise CodecError where it is of another type."""
    hints = [one for one in (hint, *typing.get_args(hint)) if one is BinaryIO or typing.get_origin(one) is Callable]
    if found is None or not hints:
        return decode(hint, found)
    word, end = (_STREAM, ends.stream) if hints[0] is BinaryIO else (_HOOK, ends.hook)
    if found != word or end is None:
        raise CodecError("nothing that stays with the caller")
    return end
