"""Plans for hosts that are not this one: snapshots and a response in, what it would do to all of them out.

Offline and pure but for reading the files that it is given: no probe, no network. Remote configs and digest files are
taken as each host saw them last. What has the same agent, reason and actions is one group; small groups are the odd
ones out, whose hosts are named.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import evolve

from probes.home import StatusLimits
from probes.host.facts import User
from probes.host.home_reader import open_regular
from probes.status_parser import printable
from probes.values import frozen
from reconcile.decide.actions import Held
from reconcile.decide.admission import duration
from reconcile.decide.desired import DesiredHost
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.engine.pass_context import HostContext, HostFacts
from reconcile.engine.simulate import expected, simulate
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.source import Answer
from updater.fleet.host_export import HostExport, SnapshotUnusable, from_json, unmasked
from updater.output.report import (
    FORMAT_VERSION,
    Palette,
    agent_to_json,
    assessed,
    healing,
    is_pending,
    not_ours,
    rfc3339,
)
from updater.settings.composition import policy_of, rules_of
from updater.sources.file import DesiredFile

_LIMIT = 64 * 1024 * 1024
_ODD_SHARE = 20  # a group is odd where it has less than one in so many of the hosts that have the agent
_FEW = 3  # ... or no more than so many, and is not the only one
_NAMED = 12


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


@frozen(kw_only=True)
class Group:
    """Hosts on which the same is planned for one agent. `odd`: few, compared with the others."""

    agent: str
    reason: str
    message: str
    actions: tuple[str, ...]
    hosts: tuple[str, ...]
    odd: bool = False


@frozen(kw_only=True)
class FleetPlan:
    """Plans for all hosts. `unreadable`: file -> why it is left out."""

    desired_from: str
    hosts: tuple[HostPlan, ...]
    groups: tuple[Group, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def pending(self) -> int:
        return sum(host.pending for host in self.hosts)


def snapshot_files(paths: Iterable[Path]) -> list[Path]:
    """The files that were named; of a folder its *.json."""
    return [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]


def plan_fleet(files: Iterable[Path], answer: Answer) -> FleetPlan:
    """Plan for every snapshot. One that can't be used is left out and named; the others are planned."""
    hosts: list[HostPlan] = []
    unreadable: list[tuple[str, str]] = []
    for file in files:
        try:
            hosts.append(plan_host(_read(file), answer, str(file)))
        except SnapshotUnusable as err:
            unreadable.append((str(file), str(err)))
    hosts.sort(key=lambda host: (host.host, host.file))
    return FleetPlan(
        desired_from=answer.came_from, hosts=tuple(hosts), groups=_grouped(hosts), unreadable=tuple(unreadable)
    )


def plan_host(snapshot: HostExport, answer: Answer, file: str) -> HostPlan:
    """Plan for one host, by its own rules."""
    host = _around(snapshot)
    picture = snapshot.picture
    desired = expected(host.policy, picture, answer)
    wanted = {agent.name: agent for agent in desired.agents}
    records = [
        unmasked(record, wanted[record.name]) if record.name in wanted else record for record in picture.state.records
    ]
    views = simulate(host, evolve(picture, state=evolve(picture.state, records=tuple(records))), desired)
    return HostPlan(host=snapshot.host, file=file, at=picture.seen.at, agents=views, desired=desired)


def _around(snapshot: HostExport) -> HostContext:
    """That host, as far as planning goes. Its source, http and limits are never used: `simulate` asks nobody."""
    config = snapshot.config
    own = User(name=snapshot.own_user, uid=snapshot.own_uid, gid=0, home="", shell="")
    at = snapshot.picture.seen.at
    return HostContext(
        source=DesiredFile(Path("/dev/null")),
        operator_source=False,
        policy=policy_of(config, own, snapshot.own_folders, snapshot.arch),
        limits=StatusLimits(),
        http=HttpClient(HttpOptions(user_agent="")),
        facts=HostFacts(hostname=snapshot.host, ip="", run_user=own.name, updater_version=""),
        rules=evolve(rules_of(config), hostname=snapshot.host),
        boot=snapshot.boot,
        holds=Path("/dev/null"),
        clock=lambda: at,
    )


def _read(file: Path) -> HostExport:
    try:
        with open(open_regular(file), "rb") as content:
            document = _fit(json.loads(content.read(_LIMIT)))
    except OSError as err:
        raise SnapshotUnusable(f"it can't be read: {err.strerror}") from None
    except (ValueError, RecursionError) as err:
        raise SnapshotUnusable(f"it is no JSON: {err}") from None
    return from_json(document)


def _fit(value: Any) -> Any:
    """The same with every text fit for a terminal: a snapshot is what another host says."""
    if isinstance(value, dict):
        return {_fit(key): _fit(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fit(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


# Groups


def _grouped(hosts: Iterable[HostPlan]) -> tuple[Group, ...]:
    """The groups of each agent, the largest first."""
    found: dict[str, dict[tuple[str, str, tuple[str, ...]], list[str]]] = defaultdict(lambda: defaultdict(list))
    for host in hosts:
        for view in host.agents:
            found[view.desired.name][_kind(view)].append(host.host)
        told = [(refusal, f"refused by rule {refusal.rule}: {refusal.message}") for refusal in host.desired.refused]
        for entry, message in (*told, *((entry, not_ours(entry)) for entry in host.desired.ruled_out)):
            found[entry.name][entry.reason, message, ()].append(host.host)
    groups: list[Group] = []
    for agent, kinds in sorted(found.items()):
        everyone = sum(map(len, kinds.values()))
        for (reason, message, actions), names in sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[0])):
            few = len(names) * _ODD_SHARE < everyone or len(names) <= _FEW
            odd = few and len(names) < max(map(len, kinds.values()))
            groups.append(
                Group(agent=agent, reason=reason, message=message, actions=actions, hosts=tuple(names), odd=odd)
            )
    return tuple(groups)


def _kind(view: AgentEvaluation) -> tuple[str, str, tuple[str, ...]]:
    """What makes plans the same for people. A hold's words hold times and owners, so its reason is enough."""
    actions = tuple(action.type for action in (*healing(view), *view.plan.actions))
    if isinstance(view.verdict, Held):
        return view.verdict.reason, f"held; wanted: {view.plan.message or view.plan.reason}", actions
    return view.plan.reason, view.plan.message, actions


# Text and JSON


def to_text(plan: FleetPlan, paint: Palette, *, quiet: bool = False) -> str:
    """The summary first, the odd ones out named. `quiet`: without what is as desired on the hosts."""
    lines = [_headline(plan, paint)]
    for agent in dict.fromkeys(group.agent for group in plan.groups):
        groups = [group for group in plan.groups if group.agent == agent]
        shown = [group for group in groups if not (quiet and _is_well(group))]
        if shown:
            widest = max(len(str(len(group.hosts))) for group in shown)
            lines += [
                "",
                paint("bold", agent),
                *(line for group in shown for line in _group_lines(group, widest, paint)),
            ]
    for file, why in plan.unreadable:
        lines += ["", f"{paint('bad', 'left out')}: {file}: {why}"]
    return "\n".join(lines)


def _headline(plan: FleetPlan, paint: Palette) -> str:
    count = len(plan.hosts)
    hosts = "1 host" if count == 1 else f"{count} hosts"
    left = f", {len(plan.unreadable)} left out" if plan.unreadable else ""
    oldest = min((host.at for host in plan.hosts), default=None)
    seen = "" if oldest is None else f"; the oldest snapshot is {duration(max(0.0, time.time() - oldest))} old"
    origin = paint("dim", f"desired from {plan.desired_from}{seen}")
    return f"{paint('bold', hosts)}: {plan.pending or 'nothing'} pending{left}; {origin}"


def _is_well(group: Group) -> bool:
    return group.reason in ("AsDesired", "ObserveOnly") and not group.actions


def _group_lines(group: Group, widest: int, paint: Palette) -> list[str]:
    count = f"{len(group.hosts):>{widest}} host{'' if len(group.hosts) == 1 else 's'}"
    kind = "good" if _is_well(group) else "pending" if group.actions else "bad"
    odd = f"  {paint('bad', 'odd')}" if group.odd else ""
    lines = [f"  {count:<{widest + 6}}  {paint(kind, group.reason)}  {group.message}".rstrip() + odd]
    if group.actions:
        lines.append(f"  {' ' * (widest + 6)}  {paint('dim', ' '.join(group.actions))}")
    if group.odd:
        more = f" and {len(group.hosts) - _NAMED} more" if len(group.hosts) > _NAMED else ""
        lines.append(f"  {' ' * (widest + 6)}  {', '.join(group.hosts[:_NAMED])}{more}")
    return lines


def to_json(plan: FleetPlan) -> str:
    """One document of kind FleetPlan: the summary and the groups, then each host as `plan -o json` tells it."""
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": "FleetPlan",
        "created_at": rfc3339(time.time()),
        "desired_from": plan.desired_from,
        "summary": {
            "hosts": len(plan.hosts),
            "pending": plan.pending,
            "odd": len({host for group in plan.groups if group.odd for host in group.hosts}),
            "unreadable": len(plan.unreadable),
        },
        "groups": [
            {
                "agent": group.agent,
                "reason": group.reason,
                "message": group.message,
                "actions": list(group.actions),
                "odd": group.odd,
                "count": len(group.hosts),
                "hosts": list(group.hosts),
            }
            for group in plan.groups
        ],
        "hosts": [_host_to_json(host) for host in plan.hosts],
        "unreadable": [{"file": file, "message": why} for file, why in plan.unreadable],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _host_to_json(host: HostPlan) -> dict[str, Any]:
    return {
        "host": host.host,
        "file": host.file,
        "observed_at": rfc3339(host.at),
        "pending": host.pending,
        "agents": [agent_to_json(assessed(view, host.at), host.at) for view in host.agents],
        "refused": [
            {"name": r.name, "reason": r.reason, "rule": r.rule, "message": r.message}
            for r in (*host.desired.refused, *host.desired.ruled_out)
        ],
    }
