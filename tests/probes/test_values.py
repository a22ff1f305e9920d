"""Values compare, hash and show as attrs makes them do, though their methods are not generated."""

from __future__ import annotations

import pickle

import attrs
import pytest
from attrs import evolve, field
from hypothesis import given
from hypothesis import strategies as st

from probes.values import frozen


@frozen(kw_only=True)
class Ours:
    one: int
    two: str = ""
    secret: str = field(default="", repr=False)
    aside: int = field(default=0, eq=False)


@attrs.frozen(kw_only=True)
class Theirs:
    one: int
    two: str = ""
    secret: str = field(default="", repr=False)
    aside: int = field(default=0, eq=False)


@frozen
class Empty:
    pass


@frozen
class Narrow:
    one: int


class Narrower(Narrow):
    pass


fields = st.fixed_dictionaries(
    {"one": st.integers(0, 2), "two": st.sampled_from(["", "a"]), "secret": st.text(), "aside": st.integers(0, 1)}
)


@given(fields, fields)
def test_they_compare_and_show_as_those_of_attrs(one: dict[str, object], other: dict[str, object]) -> None:
    equal = Theirs(**one) == Theirs(**other)  # type: ignore[arg-type]
    assert (Ours(**one) == Ours(**other)) is equal  # type: ignore[arg-type]
    assert (Ours(**one) != Ours(**other)) is not equal  # type: ignore[arg-type]
    assert not equal or hash(Ours(**one)) == hash(Ours(**other))  # type: ignore[arg-type]
    assert repr(Ours(**one)) == repr(Theirs(**one)).replace("Theirs", "Ours")  # type: ignore[arg-type]


def test_what_is_secret_is_not_shown() -> None:
    assert "canary" not in repr(Ours(one=1, secret="canary"))


def test_only_values_of_one_class_are_equal() -> None:
    assert Narrow(1) != Narrower(1)
    assert Narrow(1) not in [1, "Narrow(one=1)"]
    assert (Empty() == Empty(), hash(Empty()) == hash(Empty()), repr(Empty())) == (True, True, "Empty()")


def test_they_are_frozen_and_can_be_evolved_and_sent() -> None:
    value = Ours(one=1, two="a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.one = 2  # type: ignore[misc]
    assert evolve(value, one=2) == Ours(one=2, two="a")
    assert pickle.loads(pickle.dumps(value)) == value
    match value:
        case Ours(one=found):
            assert found == 1
