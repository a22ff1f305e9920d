"""`history`: what was done. It can't act."""

from __future__ import annotations

import argparse
import json
import time

from reconcile.storage.store import read_history
from updater.commands.context import OK, configured, show
from updater.output.json_form import FORMAT_VERSION

_EVENTS = 50  # that are printed for people, unless -n says otherwise


def history(options: argparse.Namespace) -> int:
    from updater.output.history import has_failed, history_json, history_rows

    as_json = options.output == "json"
    earliest = None if options.since is None else time.time() - options.since
    found = [
        event
        for event in read_history(configured(options).var / "state.db", options.names, limit=None)
        if (earliest is None or event.at >= earliest) and (not options.failed or has_failed(event))
    ]
    count = options.count or (len(found) if as_json else _EVENTS)
    events = found[-count:] if count else []
    if as_json:
        content = {"format_version": FORMAT_VERSION, "kind": "History", "events": history_json(events)}
        print(json.dumps(content, indent=2))
    else:
        show(options, history_rows(events, left_out=len(found) - len(events)))
    return OK
