"""`why`: all that is known of one agent. It can't act."""

from __future__ import annotations

import argparse
import json

from reconcile.engine.pass_context import DesiredFrom
from reconcile.storage.store import read_history
from updater.commands.context import (
    OK,
    inspect_host,
    palette,
    screen,
)
from updater.output.report import plan_text, status_text, to_json


def why(options: argparse.Namespace) -> int:
    from updater.output import agent_logs
    from updater.output.history import evidence_text, history_json, history_text

    options.names, options.desired, options.offline = [options.name], None, False
    looked = inspect_host(options, "Why", DesiredFrom.LOOK)
    if isinstance(looked, int):
        return looked
    document = looked.document
    events = read_history(looked.config.var / "state.db", options.names, limit=10)
    ends, trouble = agent_logs.of_agents(looked.host.workers, document.agents, events)
    if options.output == "json":
        logs = {"logs": agent_logs.to_json(ends), "history": history_json(events)}
        print(json.dumps({**json.loads(to_json(document)), **logs}, indent=2))
        return OK
    eyes = screen(options)
    if eyes is not None:
        eyes.why(document, events, ends, trouble)
        return OK
    paint = palette(options)
    parts = [status_text(document, paint), plan_text(document, paint).partition("\n\n")[2]]
    parts += [evidence_text(events, paint), agent_logs.to_text(ends, trouble, paint), history_text(events, paint)]
    print("\n\n".join(parts).replace("\n\n\n", "\n\n"))
    return OK
