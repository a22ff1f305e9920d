"""`var/holds/`: an operator's holds as plain files, so that configuration management can drop one too.

`NAME.json` holds one agent, `--all.json` all of them (no agent's name begins with a dash). `release NAME` removes the
file and leaves `NAME.release` beside it, which the next pass takes up for pins and quarantine; `release --all` ends the
hold of all, and nothing else. Needs no lock.
"""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

from attrs import evolve

from probes.host.home_reader import read_regular
from probes.text import one_line
from reconcile.decide.hold import Hold, Requests
from reconcile.storage.small_file import free_name, read_json, remove, write_text

ALL = "--all"
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # nothing has its name, or what can hold no file
_LIMIT = 64 * 1024
_LATEST = 253402300800.0  # the year 10000, beyond which no date can be written
_HOLD, _RELEASE, _PLACE = ".json", ".release", ".place"
_CLOCK_TOLERANCE_S = 60.0  # who dropped the file may go by another host's clock


def read_requests(folder: Path) -> Requests:
    """Read what operators left. A hold that can't be read holds all the same: in doubt nothing is done."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as err:
        if err.errno in _NO_FOLDER:
            return Requests()
        why = f"{folder} can't be read ({err.strerror}): whether agents are held is not known; make it readable"
        return Requests(for_all=Hold(owner="unknown", reason=why, everyone=True))
    visible = [name for name in names if not name.startswith(".")]
    holds = {name: _read_hold(folder / f"{name}{_HOLD}", everyone=name == ALL) for name in _without(_HOLD, visible)}
    releases = _without(_RELEASE, names)
    return Requests(
        for_all=holds.pop(ALL, None),
        holds=tuple(holds.items()),
        releases=frozenset(releases),
        place_releases=frozenset(_without(_PLACE, names)),
        releasers=tuple((name, _read_releaser(folder / f"{name}{_RELEASE}")) for name in sorted(releases)),
    )


def _without(suffix: str, names: list[str]) -> list[str]:
    """The names that end so, without their end."""
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def put_hold(folder: Path, name: str, hold: Hold) -> None:
    """Leave a hold, whole or not at all. Raise OSError."""
    content = {
        "owner": hold.owner,
        "reason": hold.reason,
        "since": None if hold.since is None else _rfc3339(hold.since),
        "until": None if hold.until is None else _rfc3339(hold.until),
    }
    _put(folder, f"{name}{_HOLD}", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def put_release(folder: Path, name: str, owner: str = "") -> None:
    """End an agent's hold, and ask the next pass for the end of its pin, quarantine and delays, on `owner`'s word.
    Raise OSError."""
    remove(folder / f"{name}{_HOLD}")
    _put(folder, f"{name}{_RELEASE}", owner)


def put_place_release(folder: Path, name: str) -> None:
    """Ask the next pass to give back the place in the fleet's lock of this agent's group. Raise OSError."""
    _put(folder, f"{name}{_PLACE}", "")


def end_hold_of_all(folder: Path) -> None:
    """End the hold of all agents. Raise OSError."""
    remove(folder / f"{ALL}{_HOLD}")


def take_up(folder: Path, requests: Requests, now: float) -> None:
    """Remove the releases that a pass has taken up, and holds that have ended by themselves. Raise OSError.

    A hold from the future (the clock was set back) is written down again, with its span from now on: else it would end
    only when the clock is there again.
    """
    for name in requests.releases:
        remove(folder / f"{name}{_RELEASE}")
    for name in requests.place_releases:
        remove(folder / f"{name}{_PLACE}")
    held = [*requests.holds, *([(ALL, requests.for_all)] if requests.for_all is not None else [])]
    for name, hold in held:
        path = folder / f"{name}{_HOLD}"
        if _read_hold(path, everyone=hold.everyone) != hold:
            continue  # lifted, or put again, while the pass went on
        if not hold.lasts(now):
            remove(path)
        elif hold.until is not None and hold.since is not None and hold.since > now + _CLOCK_TOLERANCE_S:
            put_hold(folder, name, evolve(hold, since=now, until=now + hold.until - hold.since))


def _put(folder: Path, name: str, content: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free_name(folder / name)
    write_text(folder / name, content)


def _read_hold(path: Path, *, everyone: bool) -> Hold:
    try:
        document = read_json(path)
        return Hold(
            owner=one_line(str(document.get("owner") or "unknown"), 500),
            reason=one_line(str(document.get("reason") or "no reason given"), 500),
            since=_seconds(document.get("since")),
            until=_seconds(document.get("until")),
            everyone=everyone,
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as err:
        return Hold(owner="unknown", reason=f"{path} can't be read as a hold ({err})", everyone=everyone)


def _read_releaser(path: Path) -> str:
    """Who asked for a release: the file is a wish even where it says nothing, or can't be read."""
    try:
        return one_line(read_regular(path, _LIMIT), 500) or "unknown"
    except (OSError, ValueError):
        return "unknown"


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < _LATEST:
            raise ValueError(f"{str(value)[:40]} is not a time in seconds since 1970")
        return float(value)
    from datetime import datetime, timezone

    moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
