"""var/state.db.users: users as they were last looked up, so that what crashes is healed while a look-up fails.

Directory services are down at times. The database's own word always comes first: this is asked where it gives none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from probes.codec import CodecError, decode, encode, parse
from probes.host.facts import User, know_users, known_users

_LIMIT = 1 << 20  # bytes
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def load(var: Path) -> None:
    """Take what an earlier run knew."""
    know_users(_read(var / "state.db.users"))


def _read(path: Path) -> dict[str, User]:
    """What the file says; nothing where it is missing or can't be read."""
    with suppress(OSError, CodecError), open(path, "rb", opener=_opened) as file:
        return dict(decode(Mapping[str, User], parse(file.read(_LIMIT))))
    return {}


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN, 0o600)


def save(var: Path) -> None:
    """Write down what is known now, if that is news. Where the disk doesn't let us, the next run knows less."""
    path, users = var / "state.db.users", known_users()
    if _read(path) == users:
        return
    beside = var / "state.db.users.new"  # one that was left by a run that was killed is written over
    with suppress(OSError):
        with open(beside, "w", encoding="utf-8", opener=_opened) as file:
            json.dump(encode(users), file)
        beside.replace(path)
