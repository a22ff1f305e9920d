"""The names of agents, versions and users, and how foreign text is shown. Always by fullmatch."""

from __future__ import annotations

import re

from probes.observed import is_reserved
from probes.text import sanitize
from reconcile.decide.policy.inputs import RuleBroken

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,63}"
# A user's name is what the host's database knows (`svc@corp.example`, `CORP\\svc`, `1000agent`), except what sudo reads
# otherwise: an option, a number, a list, a path.
_USER = r"(?!-|#|[0-9]+\Z)[^:,/]{1,256}"


def is_name(text: str) -> bool:
    """Whether an agent or a version can have this name."""
    return re.fullmatch(_NAME, text) is not None and ".." not in text and not is_reserved(text)


def is_user_name(text: str) -> bool:
    """Whether a user can have this name."""
    return re.fullmatch(_USER, text) is not None and text.isprintable()


def check_name(rule: str, text: str) -> None:
    if not text:
        raise RuleBroken(rule, f"{rule} is empty; with cmd 'start' ops-meta must name one")
    if not is_name(text):
        raise RuleBroken(
            rule,
            f"{rule} {escaped(text)!r} is not allowed: expected 1 to 64 of A-Z a-z 0-9 . _ + ~ -, "
            f"starting with a letter, a digit or _, without '..'",
        )


def escaped(text: str) -> str:
    """What the server sent, as ASCII, so that letters which only look like others are seen."""
    return sanitize(text.encode("unicode_escape"), 80)
