"""HTML as values: text is escaped where it enters, so no caller can forget it. It knows no page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from probes.values import frozen

_VOID = frozenset({"br", "link", "meta"})
# What HTML can't hold, or what would turn the writing around it (docs: Unicode's bidirectional controls).
_UNPRINTABLE = dict.fromkeys((*range(9), 11, *range(14, 32), 127, *range(8234, 8239), *range(8294, 8298)), "�")


@frozen
class Html:
    """Markup that is safe as it is. Only this module makes any but constants."""

    text: str


Content: TypeAlias = "Html | str | Iterable[Content] | None"


def tag(name: str, /, *content: Content, **attributes: str | bool | None) -> Html:
    """An element. Attributes: `class_` is class, `data_x` data-x; True is an attribute without a value, None or False
    is none."""
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*content).text}</{name}>")


def join(*content: Content) -> Html:
    """One after the other, without anything between."""
    return Html("".join(_written(content)))


def _written(content: Content) -> Iterable[str]:
    if content is None:
        return
    if isinstance(content, Html):
        yield content.text
    elif isinstance(content, str):
        yield _escaped(content)
    else:
        for part in content:
            yield from _written(part)


def _attribute(key: str, value: str | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    # A lone surrogate, as a file name may bring one, can't be encoded.
    return html.escape(text.translate(_UNPRINTABLE).encode("utf-8", "replace").decode("utf-8"))
