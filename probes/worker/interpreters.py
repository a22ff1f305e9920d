"""Find a Python that a user can execute: our own, or one of the system's. Decides by permissions; runs nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from probes.errors import InterpreterMissing
from probes.host.facts import User
from probes.host.trusted_path import can_execute

_SYSTEM = (
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    *(f"{folder}/python3.{minor}" for minor in range(14, 9, -1) for folder in ("/usr/bin", "/usr/local/bin")),
)


def interpreters_for(user: User, own: str = sys.executable, system: tuple[str, ...] = _SYSTEM) -> tuple[str, ...]:
    """The interpreters that `user` can execute, best first; they may yet be too old. Raise InterpreterMissing."""
    tried = (own, *system)
    found = tuple(path for path in tried if path and can_execute(Path(path), user))
    if not found:
        raise InterpreterMissing(
            f"the user {user.name!r} can execute no Python here: neither ours, {own}, nor /usr/bin/python3; install "
            f"the system's python3 (3.10 or newer), or let that user read the folder of ours"
        )
    return found


def nameless_path(interpreter: str) -> tuple[str, str]:
    """How an interpreter is named on a command line, and the folder in which that is run.

    The folder of ours may hold an agent's name, and a worker's command line, sudo's too, is seen by scripts that look
    for theirs. sudo compares files: a rule with the whole path allows `./python` as well.
    """
    if interpreter in _SYSTEM:
        return interpreter, "/"
    folder, name = os.path.split(interpreter)
    return f"./{name}", folder
