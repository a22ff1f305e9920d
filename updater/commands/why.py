"""`why`: all that is known of one agent. It can't act."""

from __future__ import annotations

import argparse
import json

from reconcile.assess.pass_context import DesiredFrom
from reconcile.storage.store import read_history
from updater.commands.context import OK, inspect_host, show
from updater.output.json_form import to_json

_EVENTS = 10


def why(options: argparse.Namespace) -> int:
    from updater.output import agent_logs
    from updater.output.explanation import why_rows
    from updater.output.history import history_json

    options.names, options.desired, options.offline = [options.name], None, False
    inspection = inspect_host(options, "Why", DesiredFrom.READ_ONLY)
    if isinstance(inspection, int):
        return inspection
    document = inspection.document
    events = read_history(inspection.config.var / "state.db", options.names, limit=_EVENTS)
    ends, trouble = agent_logs.of_agents(inspection.host.workers, document.agents, events)
    if options.output == "json":
        logs = {"logs": agent_logs.to_json(ends), "history": history_json(events)}
        print(json.dumps({**json.loads(to_json(document)), **logs}, indent=2))
    else:
        show(options, why_rows(document, events, ends, trouble))
    return OK
