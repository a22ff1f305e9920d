"""`hold` and `release`. They write files beside the config, and wait for nobody."""

from __future__ import annotations

import argparse

from reconcile.storage.hold_files import ALL, read_requests
from reconcile.storage.store import read_state
from updater.commands.context import OK, USAGE, UsageWrong, configured, say
from updater.output import history


def hold(options: argparse.Namespace) -> int:
    config = configured(options)
    names, unknown = _names(options), ""
    folder = config.var / "holds"
    if not options.ahead:
        state, requests = read_state(config.var / "state.db"), read_requests(folder)
        unknown = history.unknown_names(names, state, requests)
        names = tuple(name for name in names if not history.unknown_names([name], state, requests))
    for name in [ALL] if options.all else names:
        print(history.hold(folder, name, options.reason, options.span))
    return say(USAGE, f"{unknown}; `--ahead` holds an agent before it comes") if unknown else OK


def release(options: argparse.Namespace) -> int:
    config = configured(options)
    names, folder, state = _names(options), config.var / "holds", read_state(config.var / "state.db")
    if options.place and options.all:
        raise UsageWrong("release: --place goes with NAME; see `updater release --help`")
    if options.place and config.fleet_lock is None:
        raise UsageWrong("release: --place is of a fleet's lock, and `fleet_lock` is not set in the config")
    if options.all:
        print("\n".join(history.release_all(folder, state)))
        return OK
    requests = read_requests(folder)
    unknown = history.unknown_names(names, state, requests)
    for name in names:
        if not history.unknown_names([name], state, requests):
            lines = history.release_place(folder, name) if options.place else history.release(folder, name, state)
            print("\n".join(lines))
    return say(USAGE, unknown) if unknown else OK


def _names(options: argparse.Namespace) -> tuple[str, ...]:
    """Whom it is about; none: all agents. Raise UsageWrong where that can't be meant."""
    try:
        return history.checked_names(options.names, options.all)
    except history.NoSuchName as err:
        raise UsageWrong(f"{options.command}: {err}; see `updater {options.command} --help`") from None
