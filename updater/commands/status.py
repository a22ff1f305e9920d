"""`status`: how the agents are, here or on other hosts from their statuses. It can't act."""

from __future__ import annotations

import argparse
import json
import sys
import time

from reconcile.assess.pass_context import DesiredFrom
from updater.commands.context import (
    NOT_AS_DESIRED,
    OK,
    USAGE,
    Inspection,
    UsageWrong,
    inspect_host,
    say,
    screen,
    show,
    wanted,
)
from updater.output.json_form import to_json
from updater.output.tables import status_rows

_EVERY_S = 2.0  # between the end of a look and the next, with --watch


def status(options: argparse.Namespace) -> int:
    if options.observed is not None:
        return _fleet_status(options)
    if options.watch:
        return _watch(options)
    inspection = _inspect(options)
    if isinstance(inspection, int):
        return inspection
    if options.output == "json":
        print(_status_json(inspection, whole=not options.names))
    else:
        show(options, status_rows(inspection.document, wide=options.output == "wide", quiet=options.quiet))
    return _exit_code(options, inspection)


def _inspect(options: argparse.Namespace) -> Inspection | int:
    return inspect_host(
        options, "Status", DesiredFrom.EXCHANGE if options.desired is not None else DesiredFrom.READ_ONLY
    )


def _exit_code(options: argparse.Namespace, inspection: Inspection) -> int:
    document = inspection.document
    well = not document.assessment.refused and not any(agent.is_trouble for agent in document.agents)
    return OK if well or not options.detailed_exitcode else NOT_AS_DESIRED


def _watch(options: argparse.Namespace) -> int:
    """Show the status over and over on a terminal, until Ctrl-C; the last one stays on it."""
    eyes = screen(options)
    if eyes is None:
        raise UsageWrong("--watch needs a terminal, at least 50 columns wide, and `-o text` or `-o wide`")
    inspection = _inspect(options)
    try:
        while not isinstance(inspection, int):
            rows = tuple(status_rows(inspection.document, wide=options.output == "wide", quiet=options.quiet))
            eyes.redraw(rows)
            time.sleep(_EVERY_S)
            inspection = _inspect(options)
    except KeyboardInterrupt:
        assert not isinstance(inspection, int)
        sys.stdout.write("\n")
        return _exit_code(options, inspection)
    return inspection


def _fleet_status(options: argparse.Namespace) -> int:
    """Tell how other hosts are, by their files alone: no config, no probe, no network."""
    from updater.fleet import status as fleet
    from updater.fleet.documents import complaint, status_files

    if options.desired is not None or options.offline:
        raise UsageWrong("--observed goes without --desired and --offline: a status has what its host was asked")
    if options.watch:
        raise UsageWrong("--watch is of this host; --observed of the files of others")
    found = fleet.fleet_status(status_files(options.observed))
    if options.names:
        found = fleet.only(found, wanted(options.names, dict.fromkeys(group.agent for group in found.groups)))
    if options.output == "json":
        print(fleet.to_json(found))
    else:
        show(options, fleet.status_rows(found, quiet=options.quiet))
    trouble = complaint(found.hosts, found.unreadable, "the status")
    if trouble:
        return say(USAGE, trouble)
    return OK if found.is_well or not options.detailed_exitcode else NOT_AS_DESIRED


def _status_json(inspection: Inspection, *, whole: bool) -> str:
    """A status with its snapshot; where it is not `whole` there is none, since some agents would be missing in it."""
    from updater.fleet import host_export

    content = json.loads(to_json(inspection.document))
    if whole:
        found = inspection.document.assessment
        content["snapshot"] = host_export.to_json(inspection.config, inspection.host, found, inspection.state)
    return json.dumps(content, indent=2, ensure_ascii=False)
