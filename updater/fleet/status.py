"""How a fleet is, from the statuses of its hosts: of each agent which version is in use where, and why not the desired
one. Offline: it reads the files that it is given, and asks no host.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from probes.observed import ProcessState
from probes.values import frozen
from reconcile.decide.admission import duration
from reconcile.decide.timing.fleet_places import LONGEST_PATIENCE_S
from updater.fleet.documents import StatusUnusable, each_usable, read_status
from updater.fleet.groups import Described, Group, fleet_rows, group_rows, group_to_json, grouped, hosts_counted
from updater.output.format import rfc3339
from updater.output.json_form import to_document
from updater.output.rows import Block, Span, line


class FleetStanding(NamedTuple):
    """How an agent is on the hosts of a group. `version`: in use; empty: none. `ready`, `reason`: condition Ready."""

    version: str
    reason: str
    ready: bool


@frozen(kw_only=True)
class AgentStatus:
    """One agent of one host. `waits`: it runs, and its change waits as is wanted."""

    name: str
    standing: FleetStanding
    waits: bool = False


@frozen(kw_only=True)
class HostStatus:
    """What one host said. `at`: when, as Unix seconds."""

    host: str
    file: str
    at: float
    agents: tuple[AgentStatus, ...]

    @property
    def ready(self) -> bool:
        return all(agent.standing.ready for agent in self.agents)


@frozen(kw_only=True)
class FleetStatus:
    """All hosts. `unreadable`: file -> why it is left out."""

    hosts: tuple[HostStatus, ...]
    groups: tuple[Group[FleetStanding], ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def ready(self) -> int:
        return sum(host.ready for host in self.hosts)

    @property
    def is_well(self) -> bool:
        """Whether each agent of each host is as desired, or waits as is wanted."""
        return all(agent.standing.ready or agent.waits for host in self.hosts for agent in host.agents)


def fleet_status(files: Iterable[Path]) -> FleetStatus:
    """Read each host's status. One that can't be used is left out and named."""
    hosts, unreadable = each_usable(files, lambda file: _host(read_status(file), str(file)))
    hosts.sort(key=lambda host: (host.host, host.file))
    return _fleet(hosts, unreadable)


def only(fleet: FleetStatus, is_wanted: Callable[[str], bool]) -> FleetStatus:
    """The same of some agents alone, on the hosts that have one of them."""
    hosts = []
    for host in fleet.hosts:
        agents = tuple(agent for agent in host.agents if is_wanted(agent.name))
        if agents:
            hosts.append(HostStatus(host=host.host, file=host.file, at=host.at, agents=agents))
    return _fleet(hosts, fleet.unreadable)


def _fleet(hosts: Iterable[HostStatus], unreadable: Iterable[tuple[str, str]]) -> FleetStatus:
    known = tuple(hosts)
    groups = grouped((agent.name, host.host, agent.standing) for host in known for agent in host.agents)
    return FleetStatus(hosts=known, groups=groups, unreadable=tuple(unreadable))


def _host(document: Mapping[str, Any], file: str) -> HostStatus:
    try:
        return HostStatus(
            host=str(document["host"]),
            file=file,
            at=_time(document["created_at"]),
            agents=tuple(_agents(document)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as err:
        raise StatusUnusable(f"it is damaged, or of a newer updater: {type(err).__name__}: {err}") from None


def _agents(document: Mapping[str, Any]) -> Iterator[AgentStatus]:
    """The agents of a host, and the entries that it refuses of agents that it has never accepted."""
    lock_answers = all(
        one["status"] != "False" for one in document["conditions"] if one["type"] == "LockServerReachable"
    )
    for agent in document["agents"]:
        ready = _condition(agent, "Ready")
        yield AgentStatus(
            name=str(agent["name"]),
            standing=FleetStanding(
                version=str(agent["observed"]["version"] or ""),
                reason=str(agent["reason"] if ready is None else ready["reason"]),
                ready=ready is None or ready["status"] == "True",
            ),
            waits=_waits(agent, _time(document["created_at"]), lock_answers),
        )
    known = {str(agent["name"]) for agent in document["agents"]}
    for entry in document["refused"]:
        if entry["name"] not in known:
            standing = FleetStanding(version="", reason=str(entry["reason"]), ready=False)
            yield AgentStatus(name=str(entry["name"]), standing=standing)


def _waits(agent: Mapping[str, Any], at: float, lock_answers: bool) -> bool:
    """Whether it merely waits as its operator or its publisher wants (docs/interface.md, section 3)."""
    reason = None if agent["held"] is None else agent["held"]["reason"]
    if reason == "HeldByOperator":
        return True
    held = _condition(agent, "Held")
    patient = lock_answers and held is not None and at - _time(held["since"]) < LONGEST_PATIENCE_S
    waits = reason in ("NotYet", "OutsideWindow") or (reason == "WaitingForPlace" and patient)
    return waits and agent["observed"]["status"] == ProcessState.RUNNING.value


def _condition(agent: Mapping[str, Any], type: str) -> Mapping[str, Any] | None:
    return next((condition for condition in agent["conditions"] if condition["type"] == type), None)


def _time(text: str) -> float:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


# Rows and JSON


def status_rows(fleet: FleetStatus, *, quiet: bool = False) -> Iterator[Block]:
    """How many hosts are as desired, then each agent's groups; the hosts of those that are not are named.

    `quiet`: without the groups that are as desired; nothing where all are.
    """
    groups = group_rows(fleet.groups, _described, quiet=quiet)
    return fleet_rows(_headline(fleet), groups, fleet.unreadable, quiet=quiet)


def _headline(fleet: FleetStatus) -> Block:
    left = f", {len(fleet.unreadable)} left out" if fleet.unreadable else ""
    oldest = min((host.at for host in fleet.hosts), default=None)
    seen = "" if oldest is None else f"the oldest status is {duration(max(0.0, time.time() - oldest))} old"
    words = f": {fleet.ready} as desired{left}{'; ' if seen else ''}"
    return line((Span(hosts_counted(len(fleet.hosts)), "name"), Span(words), Span(seen, "dim")))


def _described(group: Group[FleetStanding]) -> Described:
    kind = group.kind
    return Described(
        title=kind.version or "not installed",
        colour="good" if kind.ready else "bad",
        text=kind.reason,
        names_hosts=not kind.ready,
    )


def to_json(fleet: FleetStatus) -> str:
    """One document of kind FleetStatus: the summary and the groups."""
    document = {
        "created_at": rfc3339(time.time()),
        "summary": {
            "hosts": len(fleet.hosts),
            "as_desired": fleet.ready,
            "unreadable": len(fleet.unreadable),
        },
        "groups": [group_to_json(group) | {"version": group.kind.version or None} for group in fleet.groups],
        "hosts": [{"host": host.host, "file": host.file, "observed_at": rfc3339(host.at)} for host in fleet.hosts],
        "unreadable": [{"file": file, "message": why} for file, why in fleet.unreadable],
    }
    return to_document("FleetStatus", document)
