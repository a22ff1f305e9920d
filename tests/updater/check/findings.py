"""Findings of one check, for the tests of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.updater.conftest import Folder
from updater.check.check import CHECKS, check
from updater.check.subject import CheckContext, CheckFinding, CheckState, open_context

# Room that any machine has on which tests run.
SMALL = {"max_tarball": "1MiB", "max_unpacked": "1MiB", "cache_size": "1MiB"}
# More than any disk has.
HUGE = "900000000GiB"


def found(folder: Folder, about: str, state: CheckState | None = None, *, offline: bool = False) -> list[CheckFinding]:
    """What that one check finds; what a wrong config or loose rights say comes with each."""
    alone = tuple(one for one in CHECKS if one.__name__ == about)
    findings = check(folder.path / "cfg.json", offline=offline, checks=alone)
    return [one for one in findings if one.about == about and state in (None, one.state)]


def shown(folder: Folder, about: str, state: CheckState | None = None) -> str:
    return "\n".join(one.message for one in found(folder, about, state))


@contextmanager
def subject(folder: Folder) -> Iterator[CheckContext]:
    """What checks are given, when no server is asked."""
    with open_context(folder.config, offline=True) as looked:
        yield looked
