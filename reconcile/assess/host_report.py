"""The report to the source of desired state: what was seen of the agents, in the words of its protocol."""

from __future__ import annotations

from probes.observed import ObservedAgent, ObservedHost, ProcessState
from reconcile.assess.pass_context import HostFacts
from reconcile.decide.conditions import ready_of
from reconcile.decide.records.record import AgentRecord
from reconcile.source import HostReport, ReportedAgent
from reconcile.storage.store import StoredState


def report(facts: HostFacts, state: StoredState, *seen: ObservedHost) -> HostReport:
    """What the heartbeat says: the managed agents whose `.version` exists, and nothing that was not `seen`."""
    agents = tuple(
        ReportedAgent(
            name=agent.name,
            version=agent.version_text,
            status=_reported_status(agent),
            timestamp=int(host.at),
            run_user=agent.home.run_user,
            work_dir=agent.home.work_dir,
            extra=_extra(facts, state.record(agent.name)),
        )
        for host in seen
        for agent in host.agents
        if agent.version_text is not None
    )
    return HostReport(
        hostname=facts.hostname,
        ip=facts.ip,
        run_user=facts.run_user,
        updater_version=facts.updater_version,
        agents=agents,
    )


def _reported_status(agent: ObservedAgent) -> str:
    """The word of the wire, or what was seen instead: never `started` where that was not said."""
    if agent.blocked_by:
        return agent.blocked_by[:200]
    if agent.active is None:
        return f"version {agent.version_text} is not on disk"[:200]
    if agent.active.process is ProcessState.UNKNOWN:
        return (agent.active.status_output or "control status printed nothing")[:200]
    return str(agent.active.process.value)


def _extra(facts: HostFacts, record: AgentRecord | None) -> tuple[tuple[str, str], ...]:
    if not facts.report_extra or record is None:
        return ()
    ready = ready_of(record.conditions)
    if ready is None:
        return ()
    return (("ready", ready.status), ("reason", ready.reason), ("message", ready.message))
