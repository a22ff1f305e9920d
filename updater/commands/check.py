"""`check`: whether this host is fit. It can't act."""

from __future__ import annotations

import argparse
from pathlib import Path

from probes.host.facts import host_name
from updater.commands.context import NOT_AS_DESIRED, OK, show
from updater.settings.config import ConfigWrong, load


def check(options: argparse.Namespace) -> int:
    from updater.check import output
    from updater.check.check import check
    from updater.check.subject import CheckState

    findings = check(options.config, offline=options.offline)
    listed = tuple(finding for finding in findings if finding.state is not CheckState.GOOD or not options.quiet)
    if options.output == "json":
        print(output.to_json(listed, _host(options.config)))
    else:
        show(options, output.rows(listed), plain=[output.lines(listed)])
    return NOT_AS_DESIRED if any(finding.state is CheckState.BAD for finding in findings) else OK


def _host(config: Path) -> str:
    """This host's name, as it reports it: the config may give it another one."""
    try:
        return load(config, strict=False).hostname or host_name()
    except ConfigWrong:  # which is a finding
        return host_name()
