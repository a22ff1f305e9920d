"""Values <-> JSON, by their types: what a worker sends, what the store remembers, what a fleet export holds.

Never pickle: what is read may be another user's or another host's, and a value is made of it by the type that is
expected, within bounds. A key that is absent has its field's default, so that what an older version wrote can be read;
a key that is unknown is an error. What the values mean is their readers' business.
"""

from __future__ import annotations

import base64
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import attrs

KEY = "key"  # in a field's metadata: its key in JSON, where that is older than the field's name
# What is parsed takes many times the room of its text: an empty object 64 bytes for three. A host with 400 agents and
# ten versions of each says 50,000 values.
_MAX_VALUES = 200_000
_MAX_DIGITS = 20


class CodecError(ValueError):
    """What came is not what was expected: not JSON, of another type, out of bounds."""


def parse(body: bytes) -> Any:
    """The JSON that another user wrote. Raise CodecError, also where it would take much more room than its text, or is
    slow to read."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        raise CodecError(f"JSON of more than {_MAX_VALUES} values")
    try:
        return json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError) as err:
        raise CodecError(f"no JSON: {err}") from None


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise CodecError(f"a number of {len(digits)} digits")
    return int(digits)


def encode(value: object) -> Any:
    """A value as what JSON can hold."""
    kind: Any = type(value)
    return _writer(kind)(value)


@cache
def _writer(kind: type[Any]) -> Callable[[Any], Any]:
    for kinds, write in _FORMS:
        if issubclass(kind, kinds):
            return write
    if attrs.has(kind):
        fields = _fields(kind)
        return lambda value: {key: encode(getattr(value, field.name)) for key, field in fields.items()}
    raise TypeError(f"{kind.__name__} has no form in JSON")


_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    ((type(None), bool, int, float, str), lambda value: value),
    (bytes, lambda value: base64.b64encode(value).decode("ascii")),
    (Path, str),
    (Enum, lambda value: value.value),
    ((tuple, list), lambda value: [encode(one) for one in value]),
    (frozenset, lambda value: sorted(map(encode, value), key=lambda one: one if type(one) is str else json.dumps(one))),
    (Mapping, lambda value: {str(key): encode(one) for key, one in value.items()}),
)


def decode(hint: Any, found: Any) -> Any:
    """The value of type `hint` that JSON stands for. Raise CodecError where it is of another type."""
    return _reader(hint)(found)


@cache
def _fields(kind: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    """The fields that a value is made of, by their keys."""
    return {field.metadata.get(KEY, field.name): field for field in attrs.fields(kind) if field.init}


_Reader = Callable[[Any], Any]


@cache
def _reader(hint: Any) -> _Reader:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if typing.get_origin(hint) is not None:
        return _read_generic(typing.get_origin(hint), typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _read_enum(hint)
    if isinstance(hint, type) and attrs.has(hint):
        return _read_structure(hint)
    raise TypeError(f"{hint} has no form in JSON")


def _read_generic(origin: Any, inner: tuple[Any, ...]) -> _Reader:
    if origin in (types.UnionType, typing.Union):
        return _read_optional(inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return _read_tuple(inner)
    if origin in (tuple, frozenset):
        return _read_collection(origin, inner[0])
    if issubclass(origin, Mapping):
        return _read_mapping(inner[1])
    raise TypeError(f"{origin} has no form in JSON")


def _read_optional(hints: tuple[Any, ...]) -> _Reader:
    others = [hint for hint in hints if hint is not type(None)]
    if len(others) != 1:
        raise TypeError(f"no value of ours is one of {others}")
    reader = _reader(others[0])
    return lambda found: None if found is None else reader(found)


def _read_tuple(hints: tuple[Any, ...]) -> _Reader:
    readers = [_reader(hint) for hint in hints]

    def read(found: Any) -> Any:
        if not isinstance(found, list) or len(found) != len(readers):
            raise CodecError(f"expected a list of {len(readers)}")
        return tuple(reader(one) for reader, one in zip(readers, found, strict=True))

    return read


def _read_collection(kind: Callable[[Any], Any], hint: Any) -> _Reader:
    reader = _reader(hint)

    def read(found: Any) -> Any:
        if not isinstance(found, list):
            raise CodecError("expected a list")
        return kind(map(reader, found))

    return read


def _read_mapping(hint: Any) -> _Reader:
    reader = _reader(hint)

    def read(found: Any) -> Any:
        if not isinstance(found, dict):
            raise CodecError("expected an object")
        return {key: reader(one) for key, one in found.items()}

    return read


def _read_enum(kind: type[Enum]) -> _Reader:
    members = {member.value: member for member in kind}

    def read(found: Any) -> Any:
        if type(found) not in (str, int) or found not in members:
            raise CodecError(f"expected a {kind.__name__}")
        return members[found]

    return read


def _read_structure(kind: Any) -> _Reader:
    hints, fields = typing.get_type_hints(kind), _fields(kind)
    readers = {key: (field.alias or field.name, _reader(hints[field.name])) for key, field in fields.items()}
    required = {key for key, field in fields.items() if field.default is attrs.NOTHING}

    def read(found: Any) -> Any:
        if not isinstance(found, dict):
            raise CodecError(f"expected a {kind.__name__}")
        if not found.keys() <= readers.keys():
            raise CodecError(f"a {kind.__name__} with an unknown key")
        if missing := required - found.keys():
            raise CodecError(f"a {kind.__name__} without {', '.join(sorted(missing))}")
        values: dict[str, Any] = {}
        for key, one in found.items():
            name, reader = readers[key]
            values[name] = reader(one)
        try:
            return kind(**values)
        except (TypeError, ValueError) as err:
            raise CodecError(f"no {kind.__name__}: {err}") from None

    return read


def _read_exactly(kind: type) -> _Reader:
    def read(found: Any) -> Any:
        if type(found) is not kind:
            raise CodecError(f"expected {kind.__name__}")
        return found

    return read


def _read_float(found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise CodecError("expected a number")
    return float(found)


def _read_bytes(found: Any) -> bytes:
    try:
        return base64.b64decode(_read_text(found), validate=True)
    except ValueError:
        raise CodecError("expected base64") from None


_read_text = _read_exactly(str)
_PLAIN: dict[Any, _Reader] = {
    bool: _read_exactly(bool),
    int: _read_exactly(int),
    str: _read_text,
    float: _read_float,
    bytes: _read_bytes,
    Path: lambda found: Path(_read_text(found)),
    type(None): _read_exactly(type(None)),
    None: _read_exactly(type(None)),
}
