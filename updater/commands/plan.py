"""`plan`: what would be done here, or on other hosts from their exports. It can't act."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.assess.pass_context import DesiredFrom
from updater.commands.context import CHANGED, NO_DESIRED_STATE, OK, USAGE, UsageWrong, inspect_host, say, show
from updater.output.tables import plan_rows

if TYPE_CHECKING:
    from updater.output.report import Report


def plan(options: argparse.Namespace) -> int:
    if options.observed is not None:
        return _plan_fleet(options)
    ask = DesiredFrom.OFFLINE if options.offline else DesiredFrom.EXCHANGE
    inspection = inspect_host(options, "Plan", ask, whole=False)
    if isinstance(inspection, int):
        return inspection
    document = inspection.document
    if options.out is not None or options.output == "json":
        _write(options, document)
    if options.output != "json":
        show(options, plan_rows(document, quiet=options.quiet))
    return CHANGED if options.detailed_exitcode and document.pending else OK


def _write(options: argparse.Namespace, document: Report) -> None:
    """The plan as JSON: into a file, to standard output, or both."""
    from updater.output.json_form import to_json

    content = to_json(document)
    if options.out is not None:
        from updater.service.saved_plan import save

        try:
            save(options.out, content)
        except OSError as err:
            raise UsageWrong(f"--out {options.out} can't be written: {err.strerror}") from None
    if options.output == "json":
        print(content)


def _refuse_of_this_host(options: argparse.Namespace) -> None:
    """Raise UsageWrong where other hosts' plans are asked for with what is for this one."""
    if options.desired is None or "://" in options.desired:
        raise UsageWrong("--observed needs --desired FILE: a response in the contract's form")
    if options.names or options.offline or options.out is not None:
        raise UsageWrong("--observed goes with --desired alone: NAME, --offline and --out are for this host")


def _plan_fleet(options: argparse.Namespace) -> int:
    """Plan for hosts that are not this one: no config, no probe, no network."""
    from reconcile.errors import ReconcileError
    from reconcile.source import HostReport
    from updater.fleet import plan
    from updater.fleet.documents import complaint, status_files
    from updater.sources.file import DesiredFile

    _refuse_of_this_host(options)
    nothing = HostReport(hostname="", ip="", run_user="", updater_version="")
    try:
        answer = DesiredFile(Path(options.desired)).exchange(nothing)
    except ReconcileError as err:
        return say(NO_DESIRED_STATE, err.message)
    planned = plan.plan_fleet(status_files(options.observed), answer)
    if options.output == "json":
        print(plan.to_json(planned))
    else:
        show(options, plan.plan_rows(planned, quiet=options.quiet))
    trouble = complaint(planned.hosts, planned.unreadable, "the plan")
    if trouble:
        return say(USAGE, trouble)
    return CHANGED if options.detailed_exitcode and planned.pending else OK
