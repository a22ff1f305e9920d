"""The Chinese pages say what the English ones do, as far as a machine can see: commands, reasons, promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from updater.output.reasons import REASONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Page in docs/zh -> the English pages that it stands for.
PAGES = {
    "quickstart.md": ["quickstart.md"],
    "operating.md": ["operating.md", "steering.md", "watching.md"],
    "reasons.md": ["reasons.md"],
    "agents.md": ["agents.md"],
    "migrating.md": ["migrating.md"],
}
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What is said beside a command: a comment, or, of `updater lint`, a column of its own.
_BESIDE = re.compile(r"(?<=\s)# .*|(?<=^updater lint )(.*?)\s{3,}.*", re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(*pages: Path, comments: bool = False) -> list[str]:
    """What the pages let one type or show; without what is said beside it."""
    found = [block for page in pages for block in _BLOCK.findall(read(page))]
    if comments:
        return found
    plain = (_BESIDE.sub(lambda beside: beside[1] or "", block) for block in found)
    return ["\n".join(line.rstrip() for line in block.splitlines()) for block in plain]


def test_each_page_is_there() -> None:
    assert {page.name for page in (DOCS / "zh").iterdir()} == set(PAGES)


def test_the_quickstart_types_the_same() -> None:
    assert blocks(DOCS / "zh/quickstart.md", comments=True) == blocks(DOCS / "quickstart.md", comments=True)


@pytest.mark.parametrize("name", PAGES)
def test_what_is_typed_and_shown_is_that_of_the_english_page(name: str) -> None:
    english = blocks(*(DOCS / page for page in PAGES[name]))
    chinese = blocks(DOCS / "zh" / name)
    assert [block for block in chinese if block not in english] == []
    assert len(chinese) >= 0.75 * len(english)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_leads_to_its_fellow(name: str) -> None:
    assert f"\n[English](../{name}) | 中文\n" in read(DOCS / "zh" / name)
    assert f"\nEnglish | [中文](zh/{name})\n" in read(DOCS / name)


def paragraphs() -> dict[str, str]:
    _, *parts = re.split(r"^### ", read(DOCS / "zh/reasons.md"), flags=re.MULTILINE)
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def test_each_reason_has_its_paragraph() -> None:
    assert list(paragraphs()) == list(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_has_the_same_remedy(name: str) -> None:
    """The same commands and keys, and the same words of messages."""
    reason, chinese = REASONS[name], paragraphs()[name]
    assert ("**处理" in chinese) == bool(reason.remedy)
    assert re.findall(r'^- "(.+?)"\uff1a', chinese, flags=re.MULTILINE) == list(reason.cases)
    english = " ".join([reason.meaning, reason.by_itself, reason.remedy, *reason.cases.values()])
    assert set(re.findall(r"`[^`]+`", chinese)) == set(re.findall(r"`[^`]+`", english))


def promises(page: Path) -> list[tuple[str, list[str]]]:
    """The number of each promise, and the tests that it leads to."""
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]*) \|", read(page), flags=re.MULTILINE)
    return [(number, re.findall(r"\]\(([^)]+)\)", tests)) for number, tests in rows]


def test_the_readme_promises_the_same() -> None:
    assert promises(ROOT / "README.zh.md") == promises(ROOT / "README.md")
    assert len(promises(ROOT / "README.md")) == 21


def test_the_readme_shows_the_same() -> None:
    assert blocks(ROOT / "README.zh.md") == blocks(ROOT / "README.md")
