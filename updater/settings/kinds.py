"""What a key of `cfg.json` takes: how its value is read, and its form for a JSON Schema.

An object is a kind as well, made of a table of keys. Reading it finds every error, each with the path from there on
and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from probes.values import frozen

_NAMES = {str: "a text", list: "a list", bool: "true or false", int: "a number", float: "a number"}


@frozen
class Flaw:
    """An error. `path`: from the value on in which it was found. `near`: that of the key that was probably meant."""

    path: str
    message: str
    near: str = ""

    def below(self, path: str) -> Flaw:
        """The same, as seen from the value in which the one with this path lies."""
        return Flaw(_joined(path, self.path), self.message, self.near and _joined(path, self.near))

    def __str__(self) -> str:
        return f"{self.path}: {self.message}{f'; did you mean `{self.near}`?' if self.near else ''}"


class ValuesWrong(ValueError):
    """Errors within one value."""

    def __init__(self, flaws: list[Flaw]) -> None:
        super().__init__("; ".join(map(str, flaws)))
        self.flaws = flaws


@frozen
class Kind:
    """`read`: from JSON's value to ours, None where it counts as not set; it raises ValueError. `schema`: its form.
    `keys`: those of an object. `of`: the kind of each value in a list, or in an object with free names."""

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    keys: tuple[Key, ...] = ()
    of: Kind | None = None


@frozen
class Key:
    """One key. `default`: as it would be written; None: none. `says`: its meaning in one line. `required`: within its
    object. `decides`: it has a part in what is planned, so a snapshot of this host has it. `field`: where its value
    goes, where that is not called as the key is."""

    name: str
    kind: Kind
    default: Any = None
    says: str = ""
    required: bool = False
    decides: bool = False
    field: str = ""

    def read(self, value: Any) -> Any:
        """Ours for a value as it is written, that of the default where it counts as not set. Raise ValueError."""
        found = None if value is None else self.kind.read(value)
        return self.kind.read(self.default) if found is None and self.default is not None else found


def object_of(make: Callable[..., Any], *keys: Key) -> Kind:
    """An object of these keys, and what it becomes. It counts as not set where a required value does."""

    def read(value: object) -> Any:
        found, flaws = read_keys(keys, value)
        if flaws:
            raise ValuesWrong(flaws)
        return None if any(key.required and found[key.name] is None for key in keys) else make(**found)

    return Kind(read, {"type": "object"}, keys)


def read_keys(keys: tuple[Key, ...], document: object) -> tuple[dict[str, Any], list[Flaw]]:
    """The value of each key by its field, its default where it is not set, and every error. `null` is not set."""
    if not isinstance(document, dict):
        # Not what: it may be the password that was to stand in a file.
        return {}, [Flaw("", f"expected an object, found {_NAMES.get(type(document), 'something else')}")]
    flaws = list(_unknown(document, [key.name for key in keys]))
    found = {}
    for key in keys:
        value = document.get(key.name)
        if value is None and key.required:
            flaws.append(Flaw(key.name, "missing"))
        try:
            found[key.field or key.name] = key.read(value)
        except ValueError as err:
            flaws += _flaws(err, key.name)
    return found, flaws


def read_each(values: Iterable[tuple[str, object]], kind: Kind) -> list[Any]:
    """Read values, each with its path. Raise ValuesWrong with the errors of all."""
    found, flaws = [], []
    for path, value in values:
        try:
            found.append(kind.read(value))
        except ValueError as err:
            flaws += _flaws(err, path)
    if flaws:
        raise ValuesWrong(flaws)
    return found


def _flaws(err: ValueError, path: str) -> list[Flaw]:
    """The errors of the value with this path."""
    inner = err.flaws if isinstance(err, ValuesWrong) else [Flaw("", str(err))]
    return [flaw.below(path) for flaw in inner]


def _joined(path: str, below: str) -> str:
    return f"{path}{below}" if below[:1] in ("", "[") else f"{path}.{below}"


def _unknown(document: Mapping[str, Any], known: list[str]) -> Iterator[Flaw]:
    for name in document:
        if name not in known:
            import difflib

            yield Flaw(name, "unknown key", "".join(difflib.get_close_matches(name, known, n=1)))
