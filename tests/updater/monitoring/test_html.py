"""Text that enters is escaped, whatever it holds."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from updater.monitoring.html import join, tag


class Reader(HTMLParser):
    """What a browser would make of it: the tags, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Z"])))
def test_any_text_is_text_and_any_value_a_value(text: str) -> None:
    reader = Reader()
    reader.feed(tag("p", text, title=text).text)
    reader.close()
    assert reader.text == text
    assert reader.tags == [("p", [("title", text)])]


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_nothing_breaks_it(text: str) -> None:
    written = tag("p", text, title=text).text
    written.encode("utf-8")
    assert written.count("<") == 2


def test_what_would_turn_the_writing_or_end_it_is_replaced() -> None:
    assert tag("b", "a\0\x1b\u202eb\u2066").text == "<b>a\ufffd\ufffd\ufffdb\ufffd</b>"


def test_attributes_and_nothing() -> None:
    assert tag("meta", charset="utf-8", hidden=True, title=None, id=False).text == '<meta charset="utf-8" hidden>'
    assert (
        tag("p", None, ["a", [join("b", None)]], class_="x", aria_label="y").text
        == '<p class="x" aria-label="y">ab</p>'
    )
