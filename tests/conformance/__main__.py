"""Ask a server that is not ours whether it keeps what the updater relies on.

    python -m tests.conformance ops-meta 10.0.0.1:2000 --hostname one-that-it-knows
    python -m tests.conformance fleet-lock https://lock-1/ https://lock-2/ --places 3 --group conformance \\
        --restart 'ssh lock systemctl restart fleetlock'

One line for each promise; it ends with 1 where one is broken. The group of a lock must be free, and no host may use it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from tests.conformance import fleet_lock, ops_meta
from tests.conformance.check import Check, run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    meta = kinds.add_parser("ops-meta")
    meta.add_argument("server", help="as in cfg.json")
    meta.add_argument("--hostname", default="conformance", help="one that it knows")
    lock = kinds.add_parser("fleet-lock")
    lock.add_argument("urls", metavar="URL", nargs="+", help="of each replica")
    lock.add_argument("--places", type=int, required=True, help="of the group")
    lock.add_argument("--group", default="default")
    lock.add_argument("--restart", metavar="COMMAND", default="", help="restarts all replicas")
    findings = run(_checks(parser.parse_args()))
    for finding in findings:
        print(finding)
    return int(any(finding.trouble for finding in findings))


def _checks(given: argparse.Namespace) -> list[Check]:
    if given.kind == "ops-meta":
        return ops_meta.checks(ops_meta.Subject(server=given.server, hostname=given.hostname))
    urls = tuple(url.rstrip("/") for url in given.urls)
    restart = partial(subprocess.run, given.restart, shell=True, check=True) if given.restart else None
    return fleet_lock.checks(fleet_lock.Subject(urls=urls, places=given.places, group=given.group, restart=restart))


if __name__ == "__main__":
    sys.exit(main())
