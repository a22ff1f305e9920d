"""What the daemon leaves to itself while it waits as a small process (waiter.py), and what it comes back with.

A form that a later version can't read is left out: then a trouble is logged once more, or the server is asked once
more. Only the config has to be read, since it is the one in force until a reload.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from probes.codec import decode, encode
from probes.host.process_title import command_line
from probes.values import frozen
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import Refusal
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.timing.schedule import Next
from reconcile.source import DesiredSignature, Entry
from reconcile.storage.codec import answer_from_json, answer_to_json
from reconcile.storage.store import Accepted, StoredState
from updater.service.pass_log import PassLog
from updater.service.waiter import OBEYED, Document
from updater.settings.config import Config, from_written
from updater.version import VERSION

T = TypeVar("T")

_NUMBERS = ("failed_exchanges", "quiet_since", "quiet_for", "live_until", "reload_from")
_LEVELS = {"INFO": ("trace", "debug", "info"), "ERROR": ("trace", "debug", "info", "warning", "error")}


@frozen(kw_only=True)
class Standby:
    """What is kept from one pass to the next. Times as `time.monotonic`, which goes on. `pid_file`, `folder`: open
    descriptors. `known`: what memory held when the last pass ended. `notify`: the service manager's variables.
    `reload`: whether the config is to be read again."""

    following: Next
    config: Config
    pid_file: int
    folder: int
    failed_exchanges: int
    quiet_since: float
    quiet_for: float
    live_until: float
    reload_from: float
    notify: Mapping[str, str]
    log: PassLog
    known: StoredState | None = None
    reload: bool = False
    version: str = VERSION


def can_stand_by() -> bool:
    """Whether this process can become the waiter and come back by its own command line."""
    typed = sys.argv[1:]
    ours = sys.orig_argv[len(sys.orig_argv) - len(typed) :] == typed  # not that of a program that has loaded us
    return ours and sys.platform == "linux" and bool(sys.executable)


def stand_by(left: Standby, is_called: Callable[[], bool]) -> None:
    """Replace this process by the waiter. Return only where a signal came before, which `is_called` says; one that
    comes later is the waiter's. Raise OSError where it can't be."""
    inherited = (left.pid_file, left.folder)
    document: Document | None = None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
    try:
        if is_called():
            return
        document = Document.new(_content(left))
        for fd in inherited:
            os.set_inheritable(fd, True)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)
        if document is not None:
            os.close(document.fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def left_behind(path: Path, *, by: int) -> Standby | None:
    """What process `by` left to itself, if this process was given it; None: this is an ordinary start. Raise
    ConfigWrong, ValueError."""
    document = Document.inherited(by)
    if document is None:
        return None
    content = document.content
    if by == os.getpid():  # what only checks whether the program loads was given neither pid file nor folder
        for fd in (document.fd, content["pid_file"], content["folder"]):
            os.set_inheritable(fd, False)
    as_noted = {name: content[name] for name in ("pid_file", "folder", "reload", *_NUMBERS)}
    return Standby(
        following=Next(at=content["at"], exchange=content["exchange"]),
        config=from_written(path, content["config"]),
        notify=content["notify"],
        log=_read(lambda: PassLog.from_remembered(content["log"])) or PassLog(),
        known=_read(lambda: _known(content["known"])),
        version=content["version"],
        **as_noted,
    )


def _content(left: Standby) -> dict[str, Any]:
    """What waiter.py reads, and what `left_behind` reads beside it."""
    config = left.config
    visible, typed = command_line(), "\0".join(sys.orig_argv).encode("utf-8", "surrogateescape")
    return {
        "pid": os.getpid(),
        "resumes": False,
        "reload": False,
        "at": left.following.at,
        "exchange": left.following.exchange,
        "interval_s": config.interval,
        "pid_file": left.pid_file,
        "pid_file_path": str(config.var / "app.pid"),
        "folder": left.folder,
        "folder_path": str(config.folder),
        "logged": [level for level, of in _LEVELS.items() if config.log_level in of],
        "shown": None if visible == typed else visible.decode("latin-1"),  # agents' names are hidden in it
        "notify": dict(left.notify),
        "config": dict(config.written),
        "version": left.version,
        "log": left.log.remembered(),
        "known": None if left.known is None else _known_to_json(left.known),
        **{name: getattr(left, name) for name in _NUMBERS},
    }


def _known_to_json(state: StoredState) -> dict[str, Any]:
    accepted = state.accepted
    return {
        "accepted": None if accepted is None else [answer_to_json(accepted.answer), accepted.at, accepted.nothing],
        "kept": encode(state.last_entries),
        "serials": encode(state.serials),
        "records": encode(state.records),
        "conditions": encode(state.conditions),
        "refused": encode(state.refused),
    }


def _known(content: Mapping[str, Any]) -> StoredState:
    accepted = content["accepted"]
    answer, at, nothing = (None, 0.0, False) if accepted is None else accepted
    return StoredState(
        accepted=None if answer is None else Accepted(answer=answer_from_json(answer), at=at, nothing=nothing),
        last_entries=decode(tuple[Entry, ...], content["kept"]),
        serials=decode(tuple[DesiredSignature, ...], content.get("serials", [])),
        records=decode(tuple[AgentRecord, ...], content["records"]),
        conditions=decode(tuple[Condition, ...], content["conditions"]),
        refused=decode(tuple[Refusal, ...], content["refused"]),
    )


def _read(read: Callable[[], T]) -> T | None:
    """What is read, or None where another version wrote it."""
    with suppress(LookupError, TypeError, ValueError, AttributeError):
        return read()
    return None
