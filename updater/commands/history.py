"""`history`: what was done. It can't act."""

from __future__ import annotations

import argparse
import json
import time

from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import read_history, read_state
from updater.commands.context import OK, UsageWrong, configured, show, unknown_names
from updater.output.json_form import FORMAT_VERSION

_EVENTS = 50  # that are printed for people, unless -n says otherwise


def history(options: argparse.Namespace) -> int:
    from updater.output.history import has_failed, history_json, history_rows

    config = configured(options)
    path = config.var / "state.db"
    events = read_history(path, options.names, limit=None)
    silent = sorted(set(options.names) - {event.name for event in events})
    unknown = unknown_names(silent, read_state(path), read_requests(config.var / "holds")) if silent else ""
    if unknown:
        raise UsageWrong(unknown)
    as_json = options.output == "json"
    earliest = None if options.since is None else time.time() - options.since
    found = [
        event
        for event in events
        if (earliest is None or event.at >= earliest) and (not options.failed or has_failed(event))
    ]
    count = options.count or (len(found) if as_json else _EVENTS)
    shown = found[-count:] if count else []
    if as_json:
        content = {"format_version": FORMAT_VERSION, "kind": "History", "events": history_json(shown)}
        print(json.dumps(content, indent=2))
    else:
        show(options, history_rows(shown, left_out=len(found) - len(shown)))
    return OK
