"""What passes between us and a child that works as another user: frames, and values as JSON that their types check.

JSON and never pickle: what a child sends is another user's, and untrusted. A value is made from it by the type that is
expected, within bounds; whatever doesn't fit is a ProtocolError. What the values mean is their readers' business.
"""

from __future__ import annotations

import base64
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from probes.values import frozen

CHUNK = 1 << 20  # bytes of a stream at a time
MAX_BODY = 8 << 20  # bytes of a frame: a config file of 1 MiB, or what is seen of a user's agents, many times over
_MAX_HEAD = 64
# What is parsed takes many times the room of its text: an empty object 64 bytes for three. A host with 400 agents and
# ten versions of each says 50,000 values.
_MAX_VALUES = 200_000
_MAX_DIGITS = 20
_HEAD = re.compile(rb"([a-z]{1,8}) ([0-9]{1,9}) ([0-9]{1,9})")
_STREAM, _HOOK = "stream", "hook"


class ProtocolError(Exception):
    """What came is not what was expected: not a frame, not JSON, of another type, out of bounds."""


@frozen(kw_only=True)
class CallbackArgs:
    """What stands in a call's arguments for what stays with its caller: an open file, and whom to tell a number."""

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
        self._kept = bytearray()

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are complete with `piece`. Raise ProtocolError."""
        self._kept += piece
        frames: list[Frame] = []
        while (end := self._kept.find(b"\n", 0, _MAX_HEAD)) >= 0:
            head = _HEAD.fullmatch(self._kept[:end])
            if head is None or int(head[3]) > self._max_body:
                raise ProtocolError("a frame that is malformed or too large")
            size = int(head[3])
            if len(self._kept) < end + 1 + size:
                return frames
            body = bytes(self._kept[end + 1 : end + 1 + size])
            del self._kept[: end + 1 + size]
            frames.append(Frame(head[1].decode("ascii"), int(head[2]), body))
        if len(self._kept) >= _MAX_HEAD:
            raise ProtocolError("what came is no frame")
        return frames


def parse(body: bytes) -> Any:
    """A frame's JSON. Raise ProtocolError, also where it would take much more room than its text, or is slow to
    read."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        raise ProtocolError(f"JSON of more than {_MAX_VALUES} values")
    try:
        return json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError) as err:
        raise ProtocolError(f"no JSON: {err}") from None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ProtocolError(f"a number of {len(digits)} digits")
    return int(digits)


def encode(value: object) -> Any:
    """A value as what JSON can hold; an open file, or whom to tell a number, only says that there is one."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple | list | frozenset):
        return [encode(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): encode(one) for key, one in value.items()}
    kind: type[Any] = type(value)
    if attrs.has(kind):
        return {field.name: encode(getattr(value, field.name)) for field in attrs.fields(kind)}
    if hasattr(value, "read"):
        return _STREAM
    if callable(value):
        return _HOOK
    raise TypeError(f"{type(value).__name__} has no form on the wire")


def decode(hint: Any, found: Any, ends: CallbackArgs = _NO_ENDS) -> Any:
    """The value of type `hint` that JSON stands for. Raise ProtocolError where it is of another type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _one_of(inner, found, ends)
    if origin in (tuple, frozenset):
        return _collection(origin, inner, found)
    if hint is BinaryIO:
        return _end(found == _STREAM, ends.stream)
    if origin is Callable:
        return _end(found == _HOOK, ends.hook)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(found, dict):
            raise ProtocolError("no object")
        return {key: decode(inner[1], one) for key, one in found.items()}
    if hint is None or hint is type(None):
        if found is not None:
            raise ProtocolError("expected null")
        return None
    return _plain(hint, found)


def _end(is_meant: bool, end: Any) -> Any:
    if not is_meant or end is None:
        raise ProtocolError("nothing that stays with the caller")
    return end


def _one_of(hints: tuple[Any, ...], found: Any, ends: CallbackArgs) -> Any:
    if found is None and type(None) in hints:
        return None
    (hint,) = (hint for hint in hints if hint is not type(None))  # no value of ours has any other union
    return decode(hint, found, ends)


def _collection(origin: Any, inner: tuple[Any, ...], found: Any) -> Any:
    if not isinstance(found, list):
        raise ProtocolError("no list")
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(found) != len(inner):
            raise ProtocolError("a list of another length")
        return tuple(decode(hint, one) for hint, one in zip(inner, found, strict=True))
    return origin(decode(inner[0], one) for one in found)


def _plain(hint: Any, found: Any) -> Any:
    if hint is bytes:
        return _bytes(found)
    if hint is float:
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise ProtocolError("no number")
        return float(found)
    if hint in (bool, int, str):
        if type(found) is not hint:
            raise ProtocolError(f"expected {hint.__name__}")
        return found
    if hint is Path:
        return Path(_plain(str, found))
    if isinstance(hint, type) and issubclass(hint, Enum):
        if not isinstance(found, str) or found not in hint.__members__:
            raise ProtocolError(f"no {hint.__name__}")
        return hint[found]
    if isinstance(hint, type) and attrs.has(hint):
        return _structure(hint, found)
    raise TypeError(f"{hint} has no form on the wire")


def _bytes(found: Any) -> bytes:
    try:
        return base64.b64decode(_plain(str, found), validate=True)
    except ValueError:
        raise ProtocolError("no base64") from None


def _structure(hint: type, found: Any) -> Any:
    hints = typing.get_type_hints(hint)
    names = [field.name for field in attrs.fields(hint)]
    if not isinstance(found, dict) or set(found) != set(names):
        raise ProtocolError(f"no {hint.__name__}")
    values = {name: decode(hints[name], found[name]) for name in names}
    try:
        return hint(**values)
    except (TypeError, ValueError) as err:
        raise ProtocolError(f"no {hint.__name__}: {err}") from None
