"""Values: what passes between all parts is a frozen class of attrs, made by this `frozen` instead of attrs' own.

attrs writes and compiles the methods of each class when it is made, at every start of every command. Comparing, hashing
and showing are here written once, for all of them; a class then costs half as much, and there are a hundred and more.
Nothing else differs: who reads the code, and mypy, may take it for `attrs.frozen`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrs import frozen as frozen
else:
    import attrs

    def frozen(kind=None, /, **options):
        if kind is None:
            return lambda kind: frozen(kind, **options)
        made = attrs.frozen(kind, eq=False, repr=False, **options)
        compared = [one.name for one in attrs.fields(made) if one.eq]
        made.__compared__ = attrgetter(*compared) if compared else lambda value: ()
        made.__eq__, made.__hash__, made.__repr__ = _equals, _hash, _shown
        return made


def _equals(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    kind: Any = self.__class__
    return kind.__compared__(self) == kind.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__class__.__compared__(self))


def _shown(self: Any) -> str:
    """As attrs shows it: a field with `repr=False` may be a secret."""
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in self.__attrs_attrs__ if one.repr)
    return f"{self.__class__.__qualname__.rpartition('>.')[2]}({', '.join(shown)})"
