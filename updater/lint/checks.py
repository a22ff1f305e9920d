"""The checks: what each is called, how bad it is when it fails, and what to do then. Pure.

A check's id is what scripts name, so it never changes its meaning. What was seen is found by static_checks.py, which
looks at files, and by runtime_checks.py, which runs the agent.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from probes.values import frozen

if TYPE_CHECKING:
    from probes.host.agent_logs import LogEnd


class Level(Enum):
    """ERROR: some host will meet it as a failure. WARNING: it works, and hurts one day."""

    ERROR = "error"
    WARNING = "warning"


class LintVerdict(Enum):
    """What came of a check. SKIPPED: it was not judged, and `seen` says why."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen(kw_only=True)
class LintCheck:
    """One thing that is looked for. `runs`: the agent has to be run for it."""

    id: str
    level: Level
    title: str
    remedy: str
    runs: bool = True


@frozen(kw_only=True)
class LintFinding:
    """What came of one check. `seen`: for people, on one line, harmless on a terminal."""

    check: LintCheck
    verdict: LintVerdict
    seen: str = ""

    @property
    def is_error(self) -> bool:
        return self.verdict is LintVerdict.FAILED and self.check.level is Level.ERROR

    @property
    def is_warning(self) -> bool:
        return self.verdict is LintVerdict.FAILED and self.check.level is Level.WARNING


@frozen(kw_only=True)
class LintReport:
    """All that was found of one agent. `ran_as`: the user that it ran as; None: it was only read. `wrote`: where it
    failed, the ends of its own log files, and why some could not be read. `scratch`: its folder, if it stays."""

    target: str
    ran_as: str | None
    findings: tuple[LintFinding, ...]
    wrote: tuple[LogEnd, ...] = ()
    unread: str = ""
    scratch: str = ""

    @property
    def errors(self) -> int:
        return sum(finding.is_error for finding in self.findings)

    @property
    def warnings(self) -> int:
        return sum(finding.is_warning for finding in self.findings)

    @property
    def skipped(self) -> int:
        return sum(finding.verdict is LintVerdict.SKIPPED for finding in self.findings)


def _error(id: str, title: str, remedy: str, *, runs: bool = True) -> LintCheck:
    return LintCheck(id=id, level=Level.ERROR, title=title, remedy=remedy, runs=runs)


def _warning(id: str, title: str, remedy: str, *, runs: bool = True) -> LintCheck:
    return LintCheck(id=id, level=Level.WARNING, title=title, remedy=remedy, runs=runs)


# In the order of the report: files first, then an agent's life.
CHECKS = (
    _warning(
        "archive-name",
        "the tarball is named {name}-{version}.tar.gz",
        "rename it: hosts look for it under that name, and it tells versions apart",
        runs=False,
    ),
    _error(
        "control",
        "an executable `control` lies in the root",
        "chmod 755 control, and pack the folder's content, not the folder: tar czf NAME-VERSION.tar.gz -C FOLDER .",
        runs=False,
    ),
    _error(
        "archive",
        "the updater's own unpacker accepts it",
        "pack it again as a plain tar.gz of files, directories and links that stay inside",
        runs=False,
    ),
    _error(
        "first-line",
        "the kernel can execute `control`",
        "make `#!/bin/sh` its first line, with Unix line ends",
        runs=False,
    ),
    _error(
        "home-paths",
        "`control` names no home and no build folder",
        'begin with cd "$(dirname "$0")" and use relative paths: each host and each version has a folder of its own',
        runs=False,
    ),
    _warning(
        "own-paths",
        "`control` names no fixed place for the agent's own files",
        "keep what belongs to a version beside `control`, and all else where the config says",
        runs=False,
    ),
    _warning(
        "litter",
        "nothing of a former run or of a checkout is packed along",
        "pack from a clean folder: a pid file that is packed names a stranger's process on each host",
        runs=False,
    ),
    _error("runs", "`control` can be run", "run it by hand as its user, in a fresh folder, and repair what it reports"),
    _error(
        "status-words",
        "`control status` says whether the agent runs, in words that hosts understand",
        "print the one word `started`, or `stoped`; which sentences are understood as well stands in docs/agents.md. A "
        "host can name further words in its status_words",
    ),
    _warning(
        "status-plain",
        "`control status` prints one line",
        "print the line with the state, and nothing beside it: a further line that speaks of a state makes it unknown",
    ),
    _error(
        "status-in-time",
        "`control status` returns in time",
        "let it look at a pid or a port, with a time limit of its own: a host asks all its agents at each pass",
    ),
    _error(
        "fresh-status",
        "before the first start, status says stopped",
        "say started only where a process of this very folder was seen",
    ),
    _error(
        "verbs",
        "a word that is no verb does nothing",
        "end with a case that prints the usage and exits 1: `*) echo usage...; exit 1 ;;`",
    ),
    _error("stop-twice", "stop on a stopped agent changes nothing", "ask status first; where nothing runs, exit 0"),
    _error(
        "start-in-time",
        "`control start` returns in time",
        "put the program into the background (nohup ... &), and don't wait for what may never come",
    ),
    _error(
        "starts",
        "after start, status says started, and again half a second later",
        "see what start and the agent's log say; the agent must run without a person at a terminal",
    ),
    _error(
        "clean-environment",
        "it starts in a clean environment",
        "set what it needs in `control`: an agent gets PATH HOME USER LOGNAME SHELL LANG and no other variable "
        "(except what a host's agent_env names)",
    ),
    _error(
        "standard-input",
        "it starts without standard input",
        "ask nothing at start, and give the program </dev/null: no one is there to answer",
    ),
    _error(
        "held-output",
        "what start leaves running does not hold its output",
        "redirect the program's output: nohup ./agent </dev/null >>agent.log 2>&1 &. "
        "Who reads the output of `control start` to its end would wait for ever",
    ),
    _error("start-twice", "start on a running agent changes nothing", "ask status first; where it runs, exit 0"),
    _error(
        "kill-noticed",
        "a kill -9 is noticed by status",
        'look whether the process lives (kill -0 "$pid"), not whether a pid file is there',
    ),
    _error("starts-after-kill", "after a kill -9 it starts again", "let start overwrite the old pid file and lock"),
    _warning(
        "foreign-pid",
        "a pid file that names a stranger's process is not taken for the agent",
        "compare the process's command too (/proc/$pid/cmdline): after a reboot old pids belong to others",
    ),
    _error("stop-in-time", "`control stop` returns in time", "send SIGTERM, wait a few seconds, then send SIGKILL"),
    _error("stops", "after stop, status says stopped", "let stop wait until the process has ended, SIGKILL at last"),
    _error(
        "nothing-left",
        "after stop no process is left",
        "end the children too: stop them from the agent, or signal its process group",
    ),
    _warning(
        "exit-codes",
        "start on a running agent and stop on a stopped one exit 0",
        "exit 0 where what was asked for is already so; the updater copes, other tools may not",
    ),
    _error("spaces", "it works in a path with spaces", 'quote every expansion: "$(dirname "$0")", "$pid_file"'),
    _error(
        "other-version",
        "it works in another version's folder, the first one gone",
        "derive every path from where `control` lies, at each call",
    ),
)

BY_ID = {check.id: check for check in CHECKS}
