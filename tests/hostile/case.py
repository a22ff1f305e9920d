"""One case of the corpus as a value, and what was seen of it.

A case's name says what the other side does; doing it, and looking, is its `observe`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from attrs import evolve, frozen

MEMORY_LIMIT = 64 * 1024  # KiB that the updater's process may take, whatever comes


@frozen(kw_only=True)
class Seen:
    """How a case ended. `end`: in the words of `Case.expected`. `said`: what people see. `breach`: a promise that
    did not hold on the way, whatever the end. `peak`: KiB of memory, where it was measured."""

    end: str
    said: str = ""
    breach: str = ""
    peak: int | None = None
    seconds: float = 0.0


@frozen(kw_only=True)
class Case:
    """An attack or an accident, and how it must end. `observe` does it, in an empty folder of its own.

    `says`: a pattern that must be found in what people see. `benign`: a look-alike, which must be served.
    `slow`: left out of the quick tests; `long`: of all tests but `./control prove`.
    """

    group: str
    name: str
    expected: str
    observe: Callable[[Path], Seen]
    says: str = ""
    benign: bool = False
    slow: bool = False
    long: bool = False

    @property
    def id(self) -> str:
        return f"{self.group}: {'benign: ' * self.benign}{self.name}"


@frozen(kw_only=True)
class Verdict:
    """A case and what was seen of it."""

    case: Case
    seen: Seen

    @property
    def wrong(self) -> str:
        """Why this is not the expected end; empty where it is."""
        case, seen = self.case, self.seen
        if seen.breach:
            return seen.breach
        if seen.end != case.expected:
            return f"ended with {seen.end}, expected {case.expected}: {seen.said}"
        if re.search(case.says, seen.said) is None:
            return f"said {seen.said!r}, expected to find {case.says!r} in it"
        if "\n" in seen.said or not seen.said.isprintable():
            return f"said what is not fit for a terminal: {seen.said!r}"
        if seen.peak is not None and seen.peak >= MEMORY_LIMIT:
            return f"took {seen.peak} KiB of memory, at most {MEMORY_LIMIT} are allowed"
        return ""


def judge(case: Case, folder: Path) -> Verdict:
    """Do it and look. What is raised unexpectedly is an end, too, and never the expected one."""
    began = time.monotonic()
    try:
        seen = case.observe(folder)
    except Exception as err:
        seen = Seen(end=f"{type(err).__name__} came out", said=repr(err), breach=f"{type(err).__name__}: {err}")
    return Verdict(case=case, seen=evolve(seen, seconds=seen.seconds or time.monotonic() - began))
