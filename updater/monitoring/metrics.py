"""A snapshot as Prometheus metrics: served by the daemon, or written as a file for node_exporter, cron included.

Gauges say how it is after the last pass. Counters are kept in `var/state.db`: cron leaves no process behind that could
count (docs/adr/0031). Needs prometheus_client, of the optional part `web`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from probes.host.trusted_path import open_folder
from reconcile.decide.actions import Held
from reconcile.decide.conditions import TRUE, UNKNOWN, ready_of
from reconcile.storage.codec import HistoryEntry as Event
from reconcile.storage.counts import Counted, Counts
from updater.monitoring.status_board import DaemonStatus, Snapshot
from updater.output.report import AgentReport, is_pending
from updater.version import VERSION

_Value = Callable[[AgentReport], bool]

_COUNTED = {
    Counted.RESTARTED: ("restarts", "How often a change stopped and started the agent."),
    Counted.ROLLED_BACK: ("rollbacks", "How often what was wanted did not come up, and was rolled back."),
    Counted.HEALED: ("heals", "How often it was down and was to run, and was started."),
}
_OWN = {
    "ServerReachable": ("server_reachable", "Whether the last exchange with ops-meta gave a valid answer."),
    "StateStored": ("state_stored", "Whether the updater's memory can be read and written."),
    "LockServerReachable": (
        "lock_server_reachable",
        "Whether the fleet's lock server answered the last time.",
    ),
    "ReportDelivered": ("report_delivered", "Whether the last report to report_to was delivered."),
    "ToolsPresent": ("tools_present", "Whether the external tools that the updater relies on are there."),
}


def _is(type: str) -> _Value:
    """Whether this condition of an agent holds."""
    return lambda agent: any(condition.type == type and condition.status == TRUE for condition in agent.conditions)


_PER_AGENT: dict[str, tuple[str, _Value]] = {
    "ready": ("Whether the agent is as desired.", lambda agent: agent.ready),
    "running": ("Whether its control script says started.", _is("Running")),
    "pending": ("Whether a change is pending, held ones included.", lambda agent: is_pending(agent.view)),
    "held": ("Whether a change waits or an operator holds it.", _is("Held")),
    "quarantined": ("Whether what is wanted was rolled back here.", _is("Quarantined")),
    "waits": (
        "Whether it is not as desired since its operator or its publisher wants it so: held, or it runs and waits.",
        lambda agent: not agent.ready and agent.waits_as_wanted,
    ),
}


def exposition(status: DaemonStatus) -> bytes:
    """What `/metrics` answers: the last pass, when the next one is, and the daemon as a process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Of([*_daemon(status), *([] if status.snapshot is None else _families(status.snapshot))]))
    return generate_latest(registry)


def write_textfile(path: Path, snapshot: Snapshot) -> None:
    """Write the metrics of a pass for node_exporter's textfile collector, whole or not at all. Raise OSError.

    The folder often belongs to node_exporter's user: whatever lies or happens there, nothing is written elsewhere. Not
    fsynced: what a power cut loses, the next pass writes.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Of(_families(snapshot)))
    beside = f".{path.name}.new"  # not *.prom: node_exporter must not read it half written
    folder = open_folder(path.parent)
    try:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
        with os.fdopen(fd, "wb") as file:
            file.write(generate_latest(registry))
            os.fchmod(fd, 0o644)  # node_exporter is another user, whatever our umask is
        os.rename(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


class _Of(Collector):
    """The registry's way to take what is already there."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _gauge(name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> GaugeMetricFamily:
    found = list(samples)
    labels = list(found[0][0]) if found else []
    family = GaugeMetricFamily(f"ops_updater_{name}", help, labels=labels)
    for values, value in found:
        family.add_metric(list(values.values()), value)
    return family


def _one(name: str, help: str, value: float | None) -> GaugeMetricFamily:
    return _gauge(name, help, () if value is None else [({}, value)])


def _daemon(status: DaemonStatus) -> Iterator[GaugeMetricFamily]:
    yield _one("pass_failed", "Whether the last pass could not be made at all.", bool(status.trouble))
    yield _one("next_pass_timestamp_seconds", "When the next pass is due; absent while one is made.", status.next_at)
    yield _one("actions_running", "Actions that are being carried out.", len(status.running))


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    document = snapshot.document
    found, agents = document.assessment, document.agents
    yield _gauge("build_info", "The version of the updater.", [({"version": VERSION}, 1)])
    yield _one("pass_timestamp_seconds", "When the last pass ended.", snapshot.ended_at)
    yield _one("pass_duration_seconds", "How long the last pass took.", snapshot.took_s)
    yield _one("desired_timestamp_seconds", "When the last valid answer of ops-meta came.", found.desired_at)
    serial = None if found.signature is None else found.signature.serial
    yield _one("desired_serial", "The serial of the signed desired state in force, a time in seconds.", serial)
    yield _one(
        "desired_serial_age_seconds",
        "How old that serial was when the last pass ended.",
        None if serial is None else snapshot.ended_at - serial,
    )
    yield _one(
        "nothing_desired", "Whether ops-meta named no agents, so that nothing is managed.", found.nothing_desired
    )
    yield _one("refused_entries", "Entries of the answer that this host refused.", len(found.refused))
    for condition in document.conditions:
        name, help = _OWN[condition.type]
        value = None if condition.status == UNKNOWN else condition.status == TRUE
        yield _one(name, help, value)
    yield _gauge(
        "place_held",
        "Whether this host may hold a place in the fleet's lock, by group.",
        [({"group": group}, 1) for group in snapshot.places_held],
    )
    for name, (help, is_so) in _PER_AGENT.items():
        yield _gauge(f"agent_{name}", help, [({"agent": agent.name}, is_so(agent)) for agent in agents])
    yield _gauge("agent_info", "Versions, the user and the reason of condition Ready.", map(_info, agents))
    yield _gauge("agent_held_until_timestamp_seconds", "When what holds a change ends, if by time.", _ends(agents))
    yield from _changes(snapshot.history)
    yield from _counted(snapshot.counts, agents)


def _info(agent: AgentReport) -> tuple[Mapping[str, str], float]:
    desired, active = agent.view.desired, agent.observed.active
    ready = ready_of(agent.conditions)
    return {
        "agent": desired.name,
        "version": "" if active is None else active.version,
        "desired_version": desired.version,
        "run_user": desired.run_user,
        "reason": "" if ready is None else ready.reason,
    }, 1


def _ends(agents: Iterable[AgentReport]) -> Iterator[tuple[Mapping[str, str], float]]:
    for agent in agents:
        verdict = agent.view.verdict
        if isinstance(verdict, Held) and verdict.until is not None:
            yield {"agent": agent.name}, verdict.until


def _counted(counts: Counts, agents: Iterable[AgentReport]) -> Iterator[CounterMetricFamily]:
    """How often, since this host's memory began: what never happened is 0, so that the first time is an increase."""
    names = [agent.name for agent in agents]
    for kind, (name, help) in _COUNTED.items():
        family = CounterMetricFamily(f"ops_updater_agent_{name}", help, labels=["agent"])
        for agent in names:
            family.add_metric([agent], counts.get(agent, {}).get(kind, 0))
        yield family


def _changes(history: Iterable[Event]) -> Iterator[GaugeMetricFamily]:
    """Return the last plan of each agent that was carried out, as far as history reaches."""
    last = {event.name: event for event in history if event.actions}
    named = [({"agent": name}, event) for name, event in sorted(last.items())]
    failed = {name: any(action["result"] == "failed" for action in event.actions) for name, event in last.items()}
    yield _gauge(
        "agent_last_change_timestamp_seconds",
        "When a plan was last carried out for the agent.",
        [(labels, event.at) for labels, event in named],
    )
    yield _gauge(
        "agent_last_change_failed",
        "Whether an action of it failed.",
        [(labels, failed[event.name]) for labels, event in named],
    )
    yield _gauge(
        "agent_last_change_duration_seconds",
        "How long its actions took.",
        [(labels, sum(action["seconds"] for action in event.actions)) for labels, event in named],
    )
