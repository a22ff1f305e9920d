"""`status`: how the agents are, here or on other hosts from their statuses. It can't act."""

from __future__ import annotations

import argparse
import json

from reconcile.engine.pass_context import DesiredFrom
from updater.commands.context import (
    NOT_AS_DESIRED,
    OK,
    USAGE,
    Inspection,
    UsageWrong,
    inspect_host,
    palette,
    put,
    say,
    screen,
    wanted,
)
from updater.output.report import status_text, to_json


def status(options: argparse.Namespace) -> int:
    if options.observed is not None:
        return _fleet_status(options)
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


def _fleet_status(options: argparse.Namespace) -> int:
    """Tell how other hosts are, by their files alone: no config, no probe, no network."""
    from updater.fleet import status as fleet
    from updater.fleet.documents import complaint, status_files

    if options.desired is not None or options.offline:
        raise UsageWrong("--observed goes without --desired and --offline: a status has what its host was asked")
    found = fleet.fleet_status(status_files(options.observed))
    if options.names:
        found = fleet.only(found, wanted(options.names, dict.fromkeys(group.agent for group in found.groups)))
    if options.output == "json":
        print(fleet.to_json(found))
    else:
        put(fleet.to_text(found, palette(options), quiet=options.quiet))
    trouble = complaint(found.hosts, found.unreadable, "the status")
    if trouble:
        return say(USAGE, trouble)
    return OK if found.is_well or not options.detailed_exitcode else NOT_AS_DESIRED


def _status_json(looked: Inspection, *, whole: bool) -> str:
    """A status with its snapshot; where it is not `whole` there is none, since some agents would be missing in it."""
    from updater.fleet import host_export

    content = json.loads(to_json(looked.document))
    if whole:
        found = looked.document.assessment
        content["snapshot"] = host_export.to_json(looked.config, looked.host, found, looked.state)
    return json.dumps(content, indent=2, ensure_ascii=False)
