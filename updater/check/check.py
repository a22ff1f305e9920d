"""All checks of a host: what is wrong first, then notes, then what is good. Changes nothing, but that the server gets a
true report.

A check is a function from a Subject to findings, and its name in CHECKS. What is bad is to be mended; a note is what
the operator may have meant so, and what it leaves open.
"""

from __future__ import annotations

import os
from pathlib import Path

from updater.check.conflicts import orphans, others, sessions
from updater.check.installation import disk, folders, loose_finding, proxy, python, rights, tools
from updater.check.policy import policy, protection, signatures
from updater.check.server import certificate, clock, desired, desired_poll, fleet_lock, report_to, server
from updater.check.subject import CheckFinding, CheckFunction, CheckState, bad, good, open_context
from updater.check.work_dirs import users, work_dirs
from updater.settings.config import ConfigWrong, load
from updater.settings.preflight import loose

_ORDER = (CheckState.BAD, CheckState.NOTE, CheckState.GOOD)
CHECKS: tuple[CheckFunction, ...] = (
    *(python, tools, rights, folders, disk),
    *(server, certificate, clock, desired_poll, report_to, fleet_lock, proxy, desired),
    *(users, work_dirs, others, orphans, sessions),
    *(policy, signatures, protection),
)


def check(path: Path, *, offline: bool = False, checks: tuple[CheckFunction, ...] = CHECKS) -> tuple[CheckFinding, ...]:
    """Make these checks. Where the config is wrong, or root may not go by it, that is all there is to say."""
    try:
        config = load(path)
    except ConfigWrong as err:
        remedy = "see docs/configuration.md"
        return tuple(bad("config", line, remedy) for line in err.errors)
    # Another user who can write it says what root would execute here, and send where: to look is to do so.
    if os.geteuid() == 0 and (found := loose(config, 0, os.getegid())):
        return tuple(loose_finding(flaw) for flaw in found)
    fine = good("config", f"{config.path} is valid")
    with open_context(config, offline=offline) as subject:
        findings = (fine, *(finding for one in checks for finding in one(subject)))
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.state)))
