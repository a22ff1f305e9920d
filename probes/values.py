"""Values: what passes between all parts is a frozen class of attrs, made by this `frozen` instead of attrs' own.

attrs writes and compiles the methods of each class, at every start of every command, which has need of a third of them.
So a class is finished when its first value is made, or its fields are asked for; comparing, hashing and showing are
written here, once for all of them. Nothing else differs: mypy, and people who read the code, may take it for
`attrs.frozen`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrs import frozen as frozen
else:
    import attrs

    _LATER = ("__init__", "__attrs_attrs__")  # the last: the fields
    _finishing = threading.RLock()  # a class finishes those that it inherits from

    def frozen(kind=None, /, *, eq=True, **options):
        if kind is None:
            return lambda kind: frozen(kind, eq=eq, **options)

        def finish():
            with _finishing:
                if "__compared__" in kind.__dict__:
                    return
                # Without slots a class stays the one that it is: attrs makes another one to have them.
                attrs.frozen(kind, init=True, eq=False, repr=False, slots=False, **options)
                compared = [one.name for one in attrs.fields(kind) if one.eq]
                kind.__compared__ = attrgetter(*compared) if compared else lambda value: ()

        for name in _LATER:
            setattr(kind, name, _Later(kind, name, finish))
        kind.__repr__ = _attrs_repr
        if eq:
            kind.__eq__, kind.__hash__ = _equals, _hash
        return kind


class _Later:
    """A part of a class that is made, with all others, when it is asked for."""

    def __init__(self, kind: type, name: str, finish: Callable[[], None]) -> None:
        self._kind = kind
        self._name = name
        self._finish = finish

    def __get__(self, value: object, kind: type) -> Any:
        self._finish()
        made = self._kind.__dict__[self._name]
        return made.__get__(value, kind) if hasattr(made, "__get__") else made


def _equals(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    kind: Any = self.__class__
    return kind.__compared__(self) == kind.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__class__.__compared__(self))


def _attrs_repr(self: Any) -> str:
    """Return what attrs prints: a field with `repr=False` may be a secret."""
    fields = (f"{one.name}={getattr(self, one.name)!r}" for one in self.__attrs_attrs__ if one.repr)
    return f"{self.__class__.__qualname__.rpartition('>.')[2]}({', '.join(fields)})"
