"""Names that must stay clear, and folders that no list forgets."""

from __future__ import annotations

import ast
import configparser
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_no_class_name_stands_twice_in_the_product() -> None:
    names = Counter(
        node.name
        for package in ("probes", "reconcile", "updater")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []


def test_each_pure_module_is_traced() -> None:
    """A pattern of coverage's is of one folder: a new one below `decide` needs a line of its own."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    traced = settings["coverage:run"]["include"].split()
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "reconcile/decide").rglob("*.py")}
    assert {f"{folder}/*" for folder in folders} <= set(traced)


# Words of a former private language, and what a name has instead.
_REFUSED_WORDS = {
    "anew": "again, new",
    "around": "host, context",
    "aside": "displaced, renamed, a noun",
    "astray": "evidence",
    "bench": "results",
    "given": "an argument's own noun",
    "hand": "worker, edited",
    "hands": "workers",
    "hear": "ask, receive",
    "heard": "received, on_...",
    "kept": "last_accepted, retained, remaining, ..._AT_MOST",
    "look": "observe, probe, inspect, poll",
    "looked": "inspection, observed",
    "looks": "observes, polls",
    "means": "options, context",
    "seat": "user_access",
    "shop": "runtime",
    "shown": "printable, listed, a noun",
    "spot": "home, directory",
    "stray": "blocked_by",
    "tell": "report, print, send",
    "tells": "reports",
    "told": "reported, logged",
    "turn": "slot",
    "turns": "slots",
    "voice": "narrator",
    "way": "path, route, fallback",
    "ways": "paths, routes",
    "wish": "options, desired",
}
_HELD_OUTSIDE = {"told_to_stop": "a column of the database", "tell": "a method of Python's files"}


def names_in(path: Path) -> Iterator[str]:
    """All names that a module gives: to itself, to classes, functions, parameters, variables and attributes."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_no_name_in_the_product_has_a_word_of_the_former_private_language() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}: say {_REFUSED_WORDS[word]}"
        for package in ("probes", "reconcile", "updater")
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in sorted(set(names_in(path)))
        for word in sorted(words_of(name) & _REFUSED_WORDS.keys())
        if name not in _HELD_OUTSIDE
    ]
    assert found == []


@pytest.mark.parametrize("name", ["why_kept", "_LOOK_S", "LookUp", "HTTPLook", "setAside", "told"])
def test_a_word_is_found_in_each_way_of_writing_a_name(name: str) -> None:
    assert words_of(name) & _REFUSED_WORDS.keys()


@pytest.mark.parametrize("name", ["lookup", "handle", "always", "turnstile", "meanings", "unshown"])
def test_a_word_within_another_is_none(name: str) -> None:
    assert not words_of(name) & _REFUSED_WORDS.keys()
