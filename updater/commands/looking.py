"""Commands that only look: `plan`, `status`, `why`, `logs`, `history`, `check`. Nothing that acts is in their reach."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from probes.errors import UpdaterError
from reconcile.assess import Ask, managed
from reconcile.store import read_history, read_state
from updater.commands.ending import CHANGED, NO_DESIRED_STATE, NOT_AS_DESIRED, OK, USAGE, Command, UsageWrong, say
from updater.commands.given import Looked, configured, look, surroundings, wanted
from updater.commands.shown import palette, put, screen
from updater.render import FORMAT_VERSION, plan_text, status_text, to_json


def plan(options: argparse.Namespace) -> int:
    if options.observed is not None:
        return _plan_fleet(options)
    looked = look(options, "Plan", Ask.OFFLINE if options.offline else Ask.EXCHANGE)
    if isinstance(looked, int):
        return looked
    document = looked.document
    if options.out is not None:
        from updater.saved import save

        save(options.out, to_json(document))
    eyes = screen(options)
    if eyes is not None:
        eyes.plan(document, quiet=options.quiet)
    elif options.output == "json":
        print(to_json(document))
    else:
        put(plan_text(document, palette(options), quiet=options.quiet))
    return CHANGED if options.detailed_exitcode and document.pending else OK


def _plan_fleet(options: argparse.Namespace) -> int:
    """Plan for hosts that are not this one: no config, no probe, no network."""
    from reconcile.errors import ReconcileError
    from reconcile.source import HostReport
    from updater import fleet
    from updater.sources.file import DesiredFile

    if options.desired is None or "://" in options.desired:
        raise UsageWrong("--observed needs --desired FILE: a response in the contract's form")
    if options.names or options.offline or options.out is not None:
        raise UsageWrong("--observed goes with --desired alone: NAME, --offline and --out are for this host")
    nobody = HostReport(hostname="", ip="", run_user="", updater_version="")
    try:
        answer = DesiredFile(Path(options.desired)).exchange(nobody)
    except ReconcileError as err:
        return say(NO_DESIRED_STATE, err.message)
    planned = fleet.plan_fleet(fleet.snapshot_files(options.observed), answer)
    if options.output == "json":
        print(fleet.to_json(planned))
    else:
        print(fleet.to_text(planned, palette(options), quiet=options.quiet))
    if planned.unreadable or not planned.hosts:
        return say(USAGE, f"{len(planned.unreadable)} of the files are no usable snapshots; the plan is without them")
    return CHANGED if options.detailed_exitcode and planned.pending else OK


def status(options: argparse.Namespace) -> int:
    looked = look(options, "Status", Ask.EXCHANGE if options.desired is not None else Ask.LOOK)
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


def _status_json(looked: Looked, *, whole: bool) -> str:
    """A status with its snapshot; where it is not `whole` there is none, since some agents would be missing in it."""
    from updater import host_snapshot

    content = json.loads(to_json(looked.document))
    if whole:
        found = looked.document.assessment
        content["snapshot"] = host_snapshot.to_json(looked.config, looked.around, found, looked.state)
    return json.dumps(content, indent=2, ensure_ascii=False)


def history(options: argparse.Namespace) -> int:
    from updater.steer import history_json, history_text

    events = read_history(configured(options).var / "state.db", options.names)
    if options.output == "json":
        content = {"format_version": FORMAT_VERSION, "kind": "History", "events": history_json(events)}
        print(json.dumps(content, indent=2))
        return OK
    eyes = screen(options)
    if eyes is not None:
        eyes.history(events)
    else:
        print(history_text(events, palette(options)))
    return OK


def why(options: argparse.Namespace) -> int:
    from updater import agent_logs
    from updater.steer import evidence_text, history_json, history_text

    options.names, options.desired, options.offline = [options.name], None, False
    looked = look(options, "Why", Ask.LOOK)
    if isinstance(looked, int):
        return looked
    document = looked.document
    events = read_history(looked.config.var / "state.db", options.names, limit=10)
    ends, trouble = agent_logs.of_agents(looked.around.hands, document.agents, events)
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


def logs(options: argparse.Namespace) -> int:
    from updater import agent_logs

    options.desired, options.offline = None, False
    config = configured(options)
    around = surroundings(config, options)
    state = read_state(config.var / "state.db")
    homes = agent_logs.homes(managed(around.policy, state), state)
    wanted([options.name], homes)
    reader = agent_logs.Reader(around.hands, homes[options.name])
    with around.hands.at_work():
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


def check(options: argparse.Namespace) -> int:
    import socket

    from updater.check import tell
    from updater.check.check import check
    from updater.check.finding import State

    findings = check(options.config, offline=options.offline)
    told = tuple(finding for finding in findings if finding.state is not State.GOOD or not options.quiet)
    eyes = screen(options)
    if options.output == "json":
        print(tell.to_json(told, socket.gethostname()))
    elif eyes is not None:
        tell.to_terminal(told, eyes.out)
    else:
        put(tell.to_text(told, palette(options)))
    return NOT_AS_DESIRED if any(finding.state is State.BAD for finding in findings) else OK


COMMANDS: Mapping[str, Command] = {
    "plan": plan,
    "status": status,
    "why": why,
    "logs": logs,
    "history": history,
    "check": check,
}
