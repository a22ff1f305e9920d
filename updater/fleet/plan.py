"""Plans for hosts that are not this one: snapshots and a response in, what it would do to all of them out.

Offline and pure but for reading the files that it is given: no probe, no network. Remote configs and digest files are
taken as each host saw them last. What has the same agent, reason and actions is one group; small groups are the odd
ones out, whose hosts are named.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from attrs import evolve

from probes.home import StatusLimits
from probes.host.facts import User
from probes.values import frozen
from reconcile.assess.pass_context import HostContext, HostFacts
from reconcile.assess.simulate import expected, simulate
from reconcile.decide.actions import Held
from reconcile.decide.admission import duration
from reconcile.decide.desired import DesiredHost
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.source import Answer
from updater.fleet.documents import each_usable, read_status
from updater.fleet.groups import Described, Group, fleet_rows, group_rows, group_to_json, grouped, hosts_counted
from updater.fleet.host_export import HostExport, from_json, unmasked
from updater.output.format import rfc3339
from updater.output.json_form import agent_to_json, refused_to_json, to_document
from updater.output.report import assessed, healing, is_pending, not_ours
from updater.output.rows import Block, Span, line
from updater.settings.composition import policy_of, rules_of
from updater.sources.file import DesiredFile


@frozen(kw_only=True)
class HostPlan:
    """What the response would do to one host. `at`: when it was seen."""

    host: str
    file: str
    at: float
    agents: tuple[AgentEvaluation, ...]
    desired: DesiredHost

    @property
    def pending(self) -> bool:
        return any(is_pending(view) for view in self.agents)


class Planned(NamedTuple):
    """What is planned for one agent on the hosts of a group."""

    reason: str
    message: str
    actions: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return self.reason in ("AsDesired", "ObserveOnly") and not self.actions


@frozen(kw_only=True)
class FleetPlan:
    """Plans for all hosts. `unreadable`: file -> why it is left out."""

    desired_from: str
    hosts: tuple[HostPlan, ...]
    groups: tuple[Group[Planned], ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def pending(self) -> int:
        return sum(host.pending for host in self.hosts)


def plan_fleet(files: Iterable[Path], answer: Answer) -> FleetPlan:
    """Plan for every snapshot. One that can't be used is left out and named; the others are planned."""
    hosts, unreadable = each_usable(files, lambda file: plan_host(from_json(read_status(file)), answer, str(file)))
    hosts.sort(key=lambda host: (host.host, host.file))
    return FleetPlan(
        desired_from=answer.came_from, hosts=tuple(hosts), groups=grouped(_kinds(hosts)), unreadable=unreadable
    )


def plan_host(export: HostExport, answer: Answer, file: str) -> HostPlan:
    """Plan for one host, by its own rules."""
    host = _host_context(export)
    snapshot = export.snapshot
    desired = expected(host.policy, snapshot, answer)
    wanted = {agent.name: agent for agent in desired.agents}
    records = [
        unmasked(record, wanted[record.name]) if record.name in wanted else record for record in snapshot.state.records
    ]
    views = simulate(host, evolve(snapshot, state=evolve(snapshot.state, records=tuple(records))), desired)
    return HostPlan(host=export.host, file=file, at=snapshot.seen.at, agents=views, desired=desired)


def _host_context(export: HostExport) -> HostContext:
    """That host, as far as planning goes. Its source, http and limits are never used: `simulate` makes no request."""
    config = export.config
    own = User(name=export.own_user, uid=export.own_uid, gid=0, home="", shell="")
    at = export.snapshot.seen.at
    return HostContext(
        source=DesiredFile(Path("/dev/null")),
        policy=policy_of(config, own, export.own_folders, export.arch),
        limits=StatusLimits(),
        http=HttpClient(HttpOptions(user_agent="")),
        facts=HostFacts(hostname=export.host, ip="", run_user=own.name, updater_version=""),
        rules=evolve(rules_of(config), hostname=export.host),
        boot=export.boot,
        holds=Path("/dev/null"),
        clock=lambda: at,
    )


# Groups


def _kinds(hosts: Iterable[HostPlan]) -> Iterator[tuple[str, str, Planned]]:
    for host in hosts:
        for view in host.agents:
            yield view.desired.name, host.host, _kind(view)
        refused = [(refusal, f"refused by rule {refusal.rule}: {refusal.message}") for refusal in host.desired.refused]
        for entry, message in (*refused, *((entry, not_ours(entry)) for entry in host.desired.ruled_out)):
            yield entry.name, host.host, Planned(reason=entry.reason, message=message)


def _kind(view: AgentEvaluation) -> Planned:
    """What makes plans the same for people. A hold's words hold times and owners, so its reason is enough."""
    actions = tuple(action.type for action in (*healing(view), *view.plan.actions))
    if isinstance(view.verdict, Held):
        wanted = view.plan.message or view.plan.reason
        return Planned(reason=view.verdict.reason, message=f"held; wanted: {wanted}", actions=actions)
    return Planned(reason=view.plan.reason, message=view.plan.message, actions=actions)


# Rows and JSON


def plan_rows(plan: FleetPlan, *, quiet: bool = False) -> Iterator[Block]:
    """The summary first, the odd ones out named. `quiet`: without what is as desired; nothing where all is."""
    groups = group_rows(plan.groups, _described, quiet=quiet)
    return fleet_rows(_headline(plan), groups, plan.unreadable, quiet=quiet)


def _headline(plan: FleetPlan) -> Block:
    hosts = hosts_counted(len(plan.hosts))
    left = f", {len(plan.unreadable)} left out" if plan.unreadable else ""
    oldest = min((host.at for host in plan.hosts), default=None)
    seen = "" if oldest is None else f"; the oldest snapshot is {duration(max(0.0, time.time() - oldest))} old"
    origin = Span(f"desired from {plan.desired_from}{seen}", "dim")
    return line((Span(hosts, "name"), Span(f": {plan.pending or 'nothing'} pending{left}; "), origin))


def _described(group: Group[Planned]) -> Described:
    kind = group.kind
    colour = "good" if kind.is_well else "pending" if kind.actions else "bad"
    return Described(title=kind.reason, colour=colour, text=kind.message, actions=" ".join(kind.actions))


def to_json(plan: FleetPlan) -> str:
    """One document of kind FleetPlan: the summary and the groups, then each host as `plan -o json` has it."""
    document = {
        "created_at": rfc3339(time.time()),
        "desired_from": plan.desired_from,
        "summary": {
            "hosts": len(plan.hosts),
            "pending": plan.pending,
            "odd": len({host for group in plan.groups if group.odd for host in group.hosts}),
            "unreadable": len(plan.unreadable),
        },
        "groups": [group_to_json(group) for group in plan.groups],
        "hosts": [_host_to_json(host) for host in plan.hosts],
        "unreadable": [{"file": file, "message": why} for file, why in plan.unreadable],
    }
    return to_document("FleetPlan", document)


def _host_to_json(host: HostPlan) -> dict[str, Any]:
    return {
        "host": host.host,
        "file": host.file,
        "observed_at": rfc3339(host.at),
        "pending": host.pending,
        "agents": [agent_to_json(assessed(view, host.at), host.at) for view in host.agents],
        "refused": refused_to_json((*host.desired.refused, *host.desired.ruled_out)),
    }
