"""From a tarball or a folder to a Report: read it, unpack it as a host would, run it, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from attrs import evolve

from probes.errors import UpdaterError
from probes.host.agent_logs import LogEnd, read_log_ends
from probes.text import one_line
from probes.values import frozen
from probes.worker.pool import WorkerPool
from reconcile.errors import ReconcileError
from updater.lint import sandbox, static_checks
from updater.lint.checks import CHECKS, LintFinding, LintReport, LintVerdict
from updater.lint.runner import Runner
from updater.lint.runtime_checks import CallLimits, RuntimeChecks

_LOG_BYTES, _LOG_FILES, _READING_S = 4096, 3, 20.0  # of each file; of each version; to read them
_STATIC = "only read (--static)"
_NO_ARCHIVE = "a folder was given, and an archive is what has a name"
_NOTHING_TO_RUN = "there is nothing that could be run"


def lint(
    target: Path,
    *,
    run: bool,
    delivered: Mapping[str, bytes],
    limits: CallLimits,
    keep: bool = False,
    say: Callable[[str], None] = lambda words: None,
) -> LintReport:
    """Check an agent. `run`: not only by reading. `delivered`: files beside `control`, by their names. `keep`: leave
    the scratch folder where it is. Raise LintUnusable."""
    _refuse_special(target)
    name = static_checks.named(target)
    user = sandbox.trial_user() if run else None
    with _ended_by_signals(), sandbox.folder(keep=keep) as folder:
        if keep:
            say(f"the scratch folder is {folder}, and stays")
        found = {} if target.is_dir() else {"archive-name": name.wrong}
        tree = _read(sandbox.packed(target, folder / "packed.tar.gz"), folder / "read" / name.version, found)
        if user is None:
            trial = _no_trial(_STATIC)
        elif tree is None or found.get("first-line"):
            trial = _no_trial(_NOTHING_TO_RUN)
        else:
            place = sandbox.furnish(folder, tree, name.name, name.version, delivered, user)
            trial = _try(place, limits, say)
    return LintReport(
        target=one_line(target.name or str(target), 200),
        ran_as=trial.ran_as,
        findings=(*_of_reading(found), *trial.findings),
        wrote=trial.wrote,
        unread=trial.unread,
        scratch=str(folder) if keep else "",
    )


def _refuse_special(target: Path) -> None:
    """Raise LintUnusable where there is neither a file nor a folder: a FIFO may never say anything, nor a device ever
    end."""
    try:
        mode = target.stat().st_mode
    except OSError as err:
        raise sandbox.LintUnusable(f"{target}: {err.strerror}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise sandbox.LintUnusable(f"{target}: expected a tarball or a folder, found neither")


@frozen(kw_only=True)
class _Trial:
    """What came of running an agent; the fields are those of LintReport."""

    findings: tuple[LintFinding, ...]
    ran_as: str | None = None
    wrote: tuple[LogEnd, ...] = ()
    unread: str = ""


def _no_trial(why: str) -> _Trial:
    skipped = (LintFinding(check=check, verdict=LintVerdict.SKIPPED, seen=why) for check in CHECKS if check.runs)
    return _Trial(findings=tuple(skipped))


def _try(place: sandbox.Sandbox, limits: CallLimits, say: Callable[[str], None]) -> _Trial:
    with Runner(place.path, place.user) as runner:
        findings = RuntimeChecks(runner, place, limits, say).run()
    wrote, unread = _written(place, findings)
    return _Trial(findings=findings, ran_as=place.user.name, wrote=wrote, unread=unread)


def _written(place: sandbox.Sandbox, findings: Iterable[LintFinding]) -> tuple[tuple[LogEnd, ...], str]:
    """What the agent wrote itself in the homes where it failed, paths counted from the scratch folder, and why some of
    it can't be read."""
    failed = {finding.check.id for finding in findings if finding.is_error}
    elsewhere = {"spaces": place.spaced, "other-version": place.moved}
    homes = [home for id, home in elsewhere.items() if id in failed] + [place.plain] * bool(failed - set(elsewhere))
    ends: list[LogEnd] = []
    workers = WorkerPool()
    try:
        for home in homes:
            directories = (home.first.name, home.second.name)
            reader = workers.of(place.user.name, _READING_S)
            ends += reader.do(read_log_ends, home.path, directories, limit=_LOG_BYTES, most=_LOG_FILES)
    except UpdaterError as err:
        return (), err.message
    finally:
        workers.end()
    return tuple(_below(place.path, end) for end in ends), ""


def _below(folder: Path, end: LogEnd) -> LogEnd:
    return evolve(end, seen=evolve(end.seen, path=os.path.relpath(end.path, folder)))


def _of_reading(found: Mapping[str, str]) -> Iterator[LintFinding]:
    """The checks that read. `found`: see `_read`."""
    for check in CHECKS:
        if check.runs:
            continue
        if check.id in found:
            verdict = LintVerdict.FAILED if found[check.id] else LintVerdict.PASSED
            yield LintFinding(check=check, verdict=verdict, seen=found[check.id])
        else:
            why = _NO_ARCHIVE if check.id == "archive-name" else _NOTHING_TO_RUN
            yield LintFinding(check=check, verdict=LintVerdict.SKIPPED, seen=why)


def _read(tarball: Path, into: Path, found: dict[str, str]) -> Path | None:
    """Make the checks that read: `found` gets each one's fault, or an empty text. Return the tree, if there is one."""
    try:
        listed = static_checks.members(tarball)
        found["control"], found["litter"] = listed.control, static_checks.listed(listed.litter)
        if listed.control:
            return None  # the unpacker would say the same once more
        with tarball.open("rb") as file:
            tree = sandbox.unpacked(file, into)
        found["archive"] = ""
    except ReconcileError as err:
        found["archive"] = one_line(err.message, 300)
        return None
    except OSError as err:
        raise sandbox.LintUnusable(f"{tarball}: {err.strerror or err}") from None
    homes, own = static_checks.fixed_paths(tree / "control")
    found |= {
        "first-line": static_checks.execution_fault(tree / "control"),
        "home-paths": static_checks.listed(homes),
        "own-paths": static_checks.listed(own),
    }
    return tree


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does, so that the agent is ended too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, behaviour in before.items():
            signal.signal(number, behaviour)
