"""`history`: what was done. It can't act."""

from __future__ import annotations

import argparse
import json
import math
import time

from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import StoredState, read_history, read_state
from updater.commands.context import NO_DESIRED_STATE, OK, UsageWrong, configured, say, show, unknown_names
from updater.output.json_form import FORMAT_VERSION
from updater.settings.config import Config

_EVENTS = 50  # that are printed for people, unless -n says otherwise


def history(options: argparse.Namespace) -> int:
    from updater.output.history import has_failed, history_json, history_rows

    config = configured(options)
    path = config.var / "state.db"
    state = read_state(path)
    if state.trouble:
        return say(NO_DESIRED_STATE, state.trouble)
    events = read_history(path, options.names, limit=None)
    _refuse_unknown(set(options.names) - {event.name for event in events}, state, config)
    earliest = -math.inf if options.since is None else time.time() - options.since
    found = [event for event in events if event.at >= earliest and (has_failed(event) or not options.failed)]
    if options.output == "json":
        listed = history_json(found[-options.count :] if options.count else found)
        print(json.dumps({"format_version": FORMAT_VERSION, "kind": "History", "events": listed}, indent=2))
        return OK
    last = found[-(options.count or _EVENTS) :]
    show(options, history_rows(last, left_out=len(found) - len(last), narrowed=len(found) < len(events)))
    return OK


def _refuse_unknown(silent: set[str], state: StoredState, config: Config) -> None:
    """Raise UsageWrong where one of these names, which have no history, is no agent's."""
    if silent and (unknown := unknown_names(sorted(silent), state, read_requests(config.var / "holds"))):
        raise UsageWrong(unknown)
