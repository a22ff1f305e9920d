"""`history`: what was done. It can't act."""

from __future__ import annotations

import argparse
import json

from reconcile.storage.store import read_history
from updater.commands.context import (
    OK,
    configured,
    palette,
    screen,
)
from updater.output.report import FORMAT_VERSION


def history(options: argparse.Namespace) -> int:
    from updater.output.history import history_json, history_text

    events = read_history(configured(options).var / "state.db", options.names)
    if options.output == "json":
        content = {"format_version": FORMAT_VERSION, "kind": "History", "events": history_json(events)}
        print(json.dumps(content, indent=2))
        return OK
    eyes = screen(options)
    if eyes is not None:
        eyes.history(events)
    else:
        print(history_text(events, palette(options)))
    return OK
