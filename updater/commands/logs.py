"""`logs`: what an agent wrote itself. It can't act."""

from __future__ import annotations

import argparse
import sys
import time

from probes.errors import UpdaterError
from reconcile.assess.assess_host import accepted
from reconcile.storage.store import read_state
from updater.commands.context import NO_DESIRED_STATE, NOT_AS_DESIRED, OK, configured, host_context, say, wanted


def logs(options: argparse.Namespace) -> int:
    from updater.output import agent_logs

    options.desired, options.offline = None, False
    config = configured(options)
    host = host_context(config, options)
    state = read_state(config.var / "state.db")
    if state.trouble:
        return say(NO_DESIRED_STATE, state.trouble)
    homes = agent_logs.homes(accepted(host.policy, state), state)
    wanted([options.name], homes)
    reader = agent_logs.Reader(host.workers, homes[options.name])
    with host.workers.at_work():
        try:
            for line in reader.lines(options.lines):
                print(line)
            if not reader.found:
                say(OK, f"{options.name} wrote no log that can be read below {homes[options.name].path}")
            while options.follow:
                sys.stdout.flush()
                time.sleep(agent_logs.PAUSE_S)
                for line in reader.new_lines():
                    print(line)
        except UpdaterError as err:
            return say(NOT_AS_DESIRED, err.message)
        except KeyboardInterrupt:
            if not options.follow:
                raise
    return OK
