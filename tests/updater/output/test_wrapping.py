"""Where text is broken for a terminal: between words, and within one only where it has a joint."""

from __future__ import annotations

import pytest

from updater.output.wrapping import columns_of, wrapped

LONG = "http://meta:2000/releases/falcon-agent/linux_amd64/falcon-agent-5.1.3.tar.gz"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("it fits", 7, ["it fits"]),
        ("one two three", 9, ["one two", "  three"]),
        ("  further in", 11, ["  further", "  in"]),
        ("run `updater release a`, then", 22, ["run", "  `updater release a`,", "  then"]),
        ("`updater release falcon-agent`", 20, ["`updater release", "  falcon-agent`"]),
        (LONG, 60, ["http://meta:2000/releases/falcon-agent/linux_amd64/", "  falcon-agent-5.1.3.tar.gz"]),
        (f"no answer from {LONG}", 60, ["no answer from", f"  {LONG[:51]}", "  falcon-agent-5.1.3.tar.gz"]),
        ("x" * 12, 8, ["xxxxxx", "  xxxxxx"]),
        ("/a/" + "x" * 9, 8, ["/a/xxx", "  xxxxxx"]),
        ("调试内存泄漏。请勿动它", 14, ["调试内存泄", "  漏。请勿动它"]),
        ("held by alice: 调试内存泄漏", 20, ["held by alice: 调", "  试内存泄漏"]),
    ],
)
def test_lines(text: str, width: int, lines: list[str]) -> None:
    assert wrapped(text, width) == lines
    assert all(columns_of(line) <= width for line in lines)


@pytest.mark.parametrize("width", range(1, 40))
def test_no_letter_is_lost_and_no_line_is_too_wide(width: int) -> None:
    text = f"调试, see {LONG} or run `updater why falcon-agent -o json`; 完了。 {'y' * 50}"
    lines = wrapped(text, width, hang="")
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(columns_of(line) <= max(2, width) or (len(line) == 2 and not line[1].isalnum()) for line in lines)


def test_columns() -> None:
    assert [columns_of(text) for text in ("", "abc", "请勿", "e\u0301")] == [0, 3, 4, 1]
