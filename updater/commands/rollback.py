"""`rollback`: go back to a former version, and stay there."""

from __future__ import annotations

import argparse
import time

from attrs import evolve

from updater.commands.context import NOT_AS_DESIRED, OK, inspect_host, progress, say, whoami
from updater.commands.run_passes import run_passes


def rollback(options: argparse.Namespace) -> int:
    from reconcile.assess.pass_context import DesiredFrom
    from reconcile.decide.records.record import Pin
    from updater.output.report import why_not_managed
    from updater.service.converge import ApplyOptions

    options.names, options.desired, options.offline, options.quiet = [options.name], None, True, False
    options.detailed_exitcode = False
    inspection = inspect_host(options, "Status", DesiredFrom.READ_ONLY)
    if isinstance(inspection, int):
        return inspection
    if not inspection.document.agents:
        return say(NOT_AS_DESIRED, f"{options.name}: nothing was touched: {why_not_managed(inspection.document)}")
    # A release that no pass has taken up yet does not have it leave what it went back to.
    view = evolve(inspection.document.agents[0].view, record=inspection.state.record(options.name))
    version, in_use = options.to or view.former_version, view.observed.active
    if version is None or version not in view.observed.installed:
        on_disk = ", ".join(view.observed.installed) or "none"
        no_good = "no version that was confirmed good is on disk to go back to; `--to VERSION` goes to any other"
        missing = no_good if version is None else f"{version} is not on disk"
        return say(NOT_AS_DESIRED, f"{options.name}: {missing} (there: {on_disk})")
    if in_use is not None and in_use.version == version:
        say(OK, f"{options.name}: {version} is in use already; it stays there until `updater release {options.name}`")
    pin = Pin(version=version, owner=whoami(), at=time.time())
    apply_options = ApplyOptions(
        names=frozenset({options.name}),
        pins=((options.name, pin),),
        offline=True,
        wait_s=options.timeout,
        progress=progress(options),
    )
    return run_passes(options, apply_options)
