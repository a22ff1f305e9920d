"""Values compare, hash and show as attrs makes them do, though their methods are not generated."""

from __future__ import annotations

import inspect
import pickle
import threading
from typing import Any

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


# A class is finished when it is needed


def fresh(parent: type = object) -> Any:
    """A class of which nothing was made yet."""

    @frozen
    class Fresh(parent):  # type: ignore[misc]
        last: int = 3

    return Fresh


def test_a_class_of_which_no_value_is_made_costs_no_call_of_attrs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    whole = attrs.frozen

    def counted(kind: Any, **options: Any) -> Any:
        made.append(kind)
        return whole(kind, **options)

    monkeypatch.setattr(attrs, "frozen", counted)
    kinds = [fresh(), fresh()]
    assert made == []
    assert (kinds[0](), kinds[0](4).last, made) == (kinds[0](3), 4, kinds[:1])


def test_the_fields_of_a_class_are_there_before_its_first_value() -> None:
    kind = fresh()
    assert [attrs.has(each) for each in (kind, int)] == [True, False]
    assert str(inspect.signature(fresh())).startswith("(last: 'int' = 3)")
    assert [(one.name, one.default) for one in attrs.fields(kind)] == [("last", 3)]
    assert kind(last=1) == kind(1)


def test_a_class_finishes_those_that_it_inherits_from() -> None:
    @frozen
    class First:
        first: int

    kind = fresh(First)
    assert repr(kind(1)).endswith("Fresh(first=1, last=3)")
    assert (First(2).first, kind(2) == First(2)) == (2, False)


def test_its_values_are_matched_by_position() -> None:
    @frozen
    class Pair:
        one: int
        two: int

    match Pair(1, 2):
        case Pair(one, two):
            assert (one, two) == (1, 2)


def test_threads_that_make_the_first_values_at_once_get_whole_ones() -> None:
    for kind in [fresh() for _ in range(50)]:
        together = threading.Barrier(4)
        got: list[object] = []

        def make(kind: Any = kind, together: threading.Barrier = together, got: list[object] = got) -> None:
            together.wait(10)
            got.append(kind(last=5))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert got == [kind(5)] * 4


def test_values_without_eq_are_distinct() -> None:
    @frozen(eq=False)
    class Single:
        one: int

    assert Single(1) != Single(1)
    assert len({Single(1), Single(1)}) == 2
