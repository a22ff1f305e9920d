"""`hold` and `release`: an operator's word on agents, left as plain files under `var/holds/`.

They need no lock and wait for no pass; the next one takes the files up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from probes.text import one_line
from reconcile.decide.hold import Hold
from reconcile.decide.policy.names import is_name
from reconcile.decide.records.record import AgentRecord, FailureKind
from reconcile.storage.hold_files import ALL, end_hold_of_all, put_hold, put_place_release, put_release, read_requests
from reconcile.storage.place_file import read_places
from reconcile.storage.store import StoredState, read_state
from updater.commands.context import OK, USAGE, UsageWrong, configured, report, say, unknown_names, whoami
from updater.output.format import duration
from updater.settings.config import Config


def hold(options: argparse.Namespace) -> int:
    config = configured(options)
    names, unknown = checked_names(options), ""
    if not options.reason.strip():
        raise UsageWrong("hold: --reason is empty; the next person will look for why it is held")
    folder = config.var / "holds"
    if not options.ahead:
        state, requests = read_state(config.var / "state.db"), read_requests(folder)
        unknown = unknown_names(names, state, requests)
        names = tuple(name for name in names if not unknown_names([name], state, requests))
    for name in [ALL] if options.all else names:
        report([hold_one(folder, name, options.reason, options.span)])
    return say(USAGE, f"{unknown}; `--ahead` holds an agent before it comes") if unknown else OK


def release(options: argparse.Namespace) -> int:
    config = configured(options)
    names, folder, state = checked_names(options), config.var / "holds", read_state(config.var / "state.db")
    if options.place:
        _refuse_place(options, config)
    if options.all:
        places = [line for record in state.records for line in _place_line(config, record.name)]
        report([*release_all(folder, state), *places])
        return OK
    requests = read_requests(folder)
    unknown = unknown_names(names, state, requests)
    for name in names:
        if not unknown_names([name], state, requests):
            place = _place_line(config, name)
            report(release_place(folder, name) if options.place else release_one(folder, name, state, place))
    return say(USAGE, unknown) if unknown else OK


def _refuse_place(options: argparse.Namespace, config: Config) -> None:
    """Raise UsageWrong where there is no place that `--place` could release."""
    if options.all:
        raise UsageWrong("release: --place goes with NAME; see `updater release --help`")
    if config.fleet_lock is None:
        raise UsageWrong("release: --place is of a fleet's lock, and `fleet_lock` is not set in the config")


def checked_names(options: argparse.Namespace) -> tuple[str, ...]:
    """The names to hold or release; none: all agents. Raise UsageWrong."""
    wrong = next((f"{name!r} is not an agent's name" for name in options.names if not is_name(name)), "")
    if options.all == bool(options.names):
        wrong = "expected NAME... or --all, one of them"
    if wrong:
        raise UsageWrong(f"{options.command}: {wrong}; see `updater {options.command} --help`")
    return tuple(dict.fromkeys(options.names))


def hold_one(folder: Path, name: str, reason: str, span_s: float | None) -> str:
    """Hold an agent, or all. What to tell the operator. Raise OSError."""
    now = time.time()
    until = None if span_s is None else now + span_s
    put_hold(folder, name, Hold(owner=whoami(), reason=reason, since=now, until=until))
    ends = "until released" if span_s is None else f"for {duration(span_s)}"
    whom, command = ("all agents", "--all") if name == ALL else (name, name)
    return f"{whom} held {ends}: {one_line(reason)} (`updater release {command}` ends it)"


def _place_line(config: Config, name: str) -> list[str]:
    """The line that says that this host keeps a place in the fleet's lock for the agent; none where it keeps none."""
    lock, places = config.fleet_lock, read_places(config.var / "places.json")
    if lock is None or places is None:
        return []
    group = lock.group.of(name)
    theirs = (note for note in places.notes if note.group == group and note.url in ("", lock.url))
    if not any(name in note.agents or not note.agents for note in theirs):
        return []
    words = f"the place of the group {group} in the fleet's lock"
    return [f"{name}: still stands: {words} (`updater release {name} --place` gives it back)"]


def release_one(folder: Path, name: str, state: StoredState, place: Sequence[str] = ()) -> list[str]:
    """End an agent's hold, and ask the next pass for the end of the rest. Return what ends and what still stands, for
    the operator. `place`: that one of a fleet's lock is kept for it. Raise OSError."""
    now, requests = time.time(), read_requests(folder)
    put_release(folder, name, whoami())
    own = dict(requests.holds).get(name)
    lines = [] if own is None or not own.lasts(now) else [f"{name}: ended: {_held_by(own)}"]
    lines += [f"{name}: ends with the next pass: {what}" for what in _remembered(state.record(name))]
    if requests.for_all is not None and requests.for_all.lasts(now):
        lines.append(f"{name}: still stands: {_held_by(requests.for_all)}, of all agents (`updater release --all`)")
    lines += place
    return lines or [f"{name}: nothing held it"]


def release_place(folder: Path, name: str) -> list[str]:
    """Ask the next pass to give the place of an agent's group back. Return what is so, for the operator. Raise
    OSError."""
    put_place_release(folder, name)
    return [f"{name}: the place of its group in the fleet's lock is given back with the next pass; nothing else ends"]


def release_all(folder: Path, state: StoredState) -> list[str]:
    """End the hold of all agents. Return what ended and what still stands, for the operator. Raise OSError."""
    now, requests = time.time(), read_requests(folder)
    end_hold_of_all(folder)
    for_all = requests.for_all if requests.for_all is not None and requests.for_all.lasts(now) else None
    lines = ["all agents: there was no hold of all" if for_all is None else f"all agents: ended: {_held_by(for_all)}"]
    held = {name: [_held_by(hold)] for name, hold in requests.holds if hold.lasts(now)}
    for record in state.records:
        if record.name not in requests.releases:
            held.setdefault(record.name, []).extend(_remembered(record))
    return lines + [
        f"{name}: still stands: {what} (`updater release {name}`)" for name in sorted(held) for what in held[name]
    ]


def _held_by(hold: Hold) -> str:
    return f"the hold of {hold.owner} ({hold.reason})"


def _remembered(record: AgentRecord | None) -> list[str]:
    """What a release ends of what is remembered of an agent, for people."""
    if record is None:
        return []
    lines = [] if record.pin is None else [f"the pin to {record.pin.version} of {record.pin.owner}"]
    if record.awaits_emptying and record.remote_config is not None:
        lines.append(f"the hold of the remote {record.remote_config.name}, which is empty")
    for failure in record.failures:
        rolled_back = failure.verdict is FailureKind.ROLLED_BACK
        lines.append(f"the {'quarantine' if rolled_back else 'delay'} of {failure.content.version} ({failure.reason})")
    crashed = record.crashes is not None and record.crashes.count > 0
    return [*lines, *(["the delay after its crashes"] if crashed else [])]
