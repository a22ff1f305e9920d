"""Which of two versions is older, for the host's rules `refuse_downgrade` and `min_version`, and where a version begins
in the name of a release. Pure.

Nothing else compares versions: what is installed follows the server's wish, whatever its number. The field's versions
follow no one scheme, so this order is ours; docs/configuration.md tells it to people.
"""

from __future__ import annotations

import re

# A part that begins with one of these words comes before the release that it leads to.
_BEFORE_RELEASE = frozenset({"alpha", "beta", "cr", "dev", "milestone", "pre", "preview", "rc", "snapshot"})

_Part = tuple[int, int, str]
_ABSENT: _Part = (0, 0, "")  # as the number 0


def is_older(version: str, other: str) -> bool:
    """Whether `version` comes before `other`.

    A version is made of parts: runs of digits, which are compared as numbers, and runs of letters, in any case. `.`,
    `_`, `-`, `+` only separate. The numbers that it begins with are compared first, from the left, and a missing one is
    0; then what follows them. There `~` and the words of pre-releases (rc, beta, ...) come before nothing, other words
    after it, and after those numbers.
    """
    (one, rest), (two, other_rest) = _parts(version), _parts(other)
    length = max(len(rest), len(other_rest))
    return (one, _padded(rest, length)) < (two, _padded(other_rest, length))


def split_release(text: str) -> tuple[str, str] | None:
    """Split `NAME-VERSION` at its first `-` before a digit; None where there is none.

    A signature names a release in one word. Only one way to split it keeps what was signed as one agent's version from
    being installed as another agent's.
    """
    match = re.fullmatch(r"(.+?)-([0-9].*)", text)
    return None if match is None else (match[1], match[2])


def _parts(version: str) -> tuple[list[int], list[_Part]]:
    """The numbers that a version begins with, without zeros at their end, and what follows."""
    found = re.findall(r"[0-9]+|[A-Za-z]+|~", re.sub(r"^[vV](?=[0-9])", "", version))
    count = next((at for at, text in enumerate(found) if not text.isdigit()), len(found))
    release = [int(text) for text in found[:count]]
    while release and release[-1] == 0:
        release.pop()
    return release, [_part(text.lower()) for text in found[count:]]


def _part(text: str) -> _Part:
    if text == "~":
        return (-2, 0, "")
    if text.isdigit():
        return (0, int(text), "")
    return (-1 if text in _BEFORE_RELEASE else 0, 0, text)


def _padded(parts: list[_Part], length: int) -> list[_Part]:
    return parts + [_ABSENT] * (length - len(parts))
