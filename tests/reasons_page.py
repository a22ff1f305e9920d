"""Write the list of reasons in docs/reasons.md from the table that `why` uses: `python -m tests.reasons_page`."""

from __future__ import annotations

from pathlib import Path

from updater.output.reasons import REASONS, Reason

PAGE = Path(__file__).parent.parent / "docs" / "reasons.md"
_BEGIN, _END = "<!-- reasons: begin -->\n", "<!-- reasons: end -->\n"
_WIDTH = 118


def listed() -> str:
    """All reasons, as the page has them between its two marks."""
    contents = ", ".join(f"[{name}](#{name.lower()})" for name in sorted(REASONS))
    return "\n\n".join(["", *_wrapped(contents), *(_paragraphs(name, one) for name, one in REASONS.items()), ""])[1:]


def with_list(page: str) -> str:
    """The page with the list as it is now."""
    before, _, rest = page.partition(_BEGIN)
    return f"{before}{_BEGIN}{listed()}{_END}{rest.partition(_END)[2]}"


def _paragraphs(name: str, reason: Reason) -> str:
    cases = [f'- "{words}": {text}' for words, text in reason.cases.items()]
    parts = [
        f"### {name}",
        *_wrapped(reason.meaning),
        *_wrapped(f"**By itself:** {reason.by_itself}"),
        *_wrapped(f"**Remedy:** {reason.remedy}" if reason.remedy else ""),
        "\n".join(line for case in cases for line in _wrapped(case, "  ")),
        *_wrapped(f"See {reason.see}." if reason.see else ""),
    ]
    return "\n\n".join(part for part in parts if part)


def _wrapped(text: str, indent: str = "") -> list[str]:
    """The text in lines; a word of a link is never broken, nor are texts between backticks."""
    lines: list[str] = []
    for word in text.split(" ") if text else []:
        if lines and len(lines[-1]) + 1 + len(word) <= _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indent if lines else ''}{word}")
    return ["\n".join(lines)] if lines else []


if __name__ == "__main__":
    PAGE.write_text(with_list(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
