"""Foreign text and URLs as people see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.text import one_line, redact_url, sanitize

anything = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\t", "two\\nlines\\t"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        ("\x1b[2J\u202e\udc80", "\\x1b[2J\\u202e\\udc80"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_escaped(text: str | bytes, expected: str) -> None:
    assert sanitize(text) == expected
    assert sanitize(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x" * 9, "x" * 9), ("x" * 10, "x" * 6 + "..."), ("\x1b" * 3, "\\x1b..."), ("\x01" * 900, "\\x01...")],
)
def test_no_escape_is_broken_where_a_text_is_cut(text: str, expected: str) -> None:
    assert sanitize(text, 9) == expected


def test_the_lines_of_a_text_become_one() -> None:
    assert one_line(b" not\r\n\t found \x07") == "not found \\x07"
    assert one_line("word " * 100, 12) == "word word..."


@given(anything | st.binary())
def test_any_text_is_printable_and_within_its_limit(text: str | bytes) -> None:
    assert sanitize(text).isprintable()
    assert len(sanitize(text, 20)) <= 20
    assert sanitize(text, 20).isprintable()
    assert one_line(text).isprintable()
    assert len(one_line(text)) <= 200


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8/a/b", "http://h:8/a/b"),
        ("https://u:canary@h/a?canary#canary", "https://h/a"),
        ("http://canary@[::1]:8/a", "http://[::1]:8/a"),
        ("http://u:1/canary@h/x", "http://u:1/..."),
        ("http://u:can/ary@h/x", "(an URL that can't be read)"),
        ("u:canary@h", "(an URL without a host)"),
        ("h/x", "'h/x'"),
        ("http://h/\x1b[2J\n", "http://h/\\x1b[2J"),
        ("http://[::1", "(an URL that can't be read)"),
    ],
)
def test_an_url_without_its_secrets(url: str, expected: str) -> None:
    assert redact_url(url) == expected


@given(st.text())
def test_anything_may_stand_where_an_url_is_expected(text: str) -> None:
    assert redact_url(text).isprintable()
    assert "canary" not in redact_url(f"http://canary:canary@h/{text.replace('canary', '')}?canary")
