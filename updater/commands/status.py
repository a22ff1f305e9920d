"""`status`: how the agents are. It can't act."""

from __future__ import annotations

import argparse
import json

from reconcile.engine.pass_context import DesiredFrom
from updater.commands.context import (
    NOT_AS_DESIRED,
    OK,
    Inspection,
    inspect_host,
    palette,
    put,
    screen,
)
from updater.output.report import status_text, to_json


def status(options: argparse.Namespace) -> int:
    looked = inspect_host(options, "Status", DesiredFrom.EXCHANGE if options.desired is not None else DesiredFrom.LOOK)
    if isinstance(looked, int):
        return looked
    document = looked.document
    eyes = screen(options)
    if eyes is not None:
        eyes.status(document, quiet=options.quiet)
    elif options.output == "json":
        print(_status_json(looked, whole=not options.names))
    else:
        put(status_text(document, palette(options), quiet=options.quiet))
    well = not document.assessment.refused and all(told.ready or told.waits_as_wanted for told in document.agents)
    return OK if well or not options.detailed_exitcode else NOT_AS_DESIRED


def _status_json(looked: Inspection, *, whole: bool) -> str:
    """A status with its snapshot; where it is not `whole` there is none, since some agents would be missing in it."""
    from updater.fleet import host_export

    content = json.loads(to_json(looked.document))
    if whole:
        found = looked.document.assessment
        content["snapshot"] = host_export.to_json(looked.config, looked.host, found, looked.state)
    return json.dumps(content, indent=2, ensure_ascii=False)
