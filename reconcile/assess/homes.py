"""The homes of agents: which are observed, and the look at them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from probes.host import processes
from probes.host.processes import Leader
from probes.observe import observe, observe_agent, reread
from probes.observed import Evidence, HomeRef, ObservedAgent, ObservedHost
from probes.text import sanitize
from reconcile.assess.pass_context import HostContext
from reconcile.decide.desired import DesiredAgent
from reconcile.decide.evaluate import AgentInputs, inputs_of
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.relocation import home_lived_in, homes_of
from reconcile.storage.store import StoredState


def homes_to_observe(agents: tuple[DesiredAgent, ...], state: StoredState) -> tuple[HomeRef, ...]:
    """Where the agents are wanted, and where they live or may have to go back to if that is elsewhere."""
    return tuple(dict.fromkeys(home for agent in agents for home in homes_of(agent, state.record(agent.name))))


def abandoned_homes(seen: ObservedHost, agents: Iterable[DesiredAgent], state: StoredState) -> tuple[HomeRef, ...]:
    """Homes of which nothing is left of a former user's, so that they are observed as the wanted one's."""
    homes = (home_lived_in(agent, state.record(agent.name), seen.find) for agent in agents)
    return tuple(home for home in homes if seen.find(home) is None)


def observe_now(desired: DesiredAgent, record: AgentRecord | None, host: HostContext) -> AgentInputs:
    """Look at one agent now."""
    seen = observe(homes_of(desired, record), host.limits, at=host.clock(), workers=host.workers)
    lives = home_lived_in(desired, record, seen.find)
    if seen.find(lives) is None:
        seen = evolve(seen, agents=(*seen.agents, observe_agent(lives, host.limits, host.workers)))
    return inputs_of(desired, record, with_runaways(seen, () if record is None else (record,), host.boot))


def with_runaways(seen: ObservedHost, records: Iterable[AgentRecord], boot: str) -> ObservedHost:
    """The same, with what runs though its home is gone: moved away as a whole, or its disk unmounted. Its paths lead
    nowhere any more, but it still is of the session of the start that was the last thing done for it."""
    found = {}
    for record in records:
        home = seen.find(record.home)
        why = _runaway(record, boot) if home is not None and _is_gone(home) else ""
        if home is not None and why:
            found[home.home.key] = evolve(home, blocked_by=why, evidence=Evidence.SEEN)
    return evolve(seen, agents=tuple(found.get(agent.home.key, agent) for agent in seen.agents)) if found else seen


def _runaway(record: AgentRecord, boot: str) -> str:
    """What runs of an agent whose home is gone, for people; empty: nothing that is known."""
    start = next(iter(record.calls), None)
    if start is None or start.verb != "start" or start.boot != boot:
        return ""
    left = processes.left_of_call(Leader(pid=start.pid, started=start.started))
    if not left:
        return ""
    pid, command = left[0]
    return (
        f"process {pid} ({sanitize(command)}), which the last start of {start.version} left, runs, and "
        f"{record.home.path} is gone, moved away or unmounted: no second copy is started beside it; put the "
        f"home back, or end it (kill {pid}), and the next pass goes on"
    )


def _is_gone(home: ObservedAgent) -> bool:
    return evolve(home, no_home="", no_home_reason="WorkDirMissing") == ObservedAgent(home=home.home)


def see_also(seen: ObservedHost, homes: tuple[HomeRef, ...], host: HostContext) -> ObservedHost:
    """Observe what an answer names and was not seen yet; no control script is asked twice."""
    found = {home: agent for home in homes if (agent := seen.find(home))}
    unseen = observe([home for home in homes if home not in found], host.limits, at=seen.at, workers=host.workers)
    # Of these another config counts by now.
    found |= reread({home: agent for home, agent in found.items() if agent.home != home}, host.workers)
    keys = {home.key for home in homes}
    rest = [agent for agent in seen.agents if agent.home.key not in keys]
    return evolve(seen, agents=(*found.values(), *unseen.agents, *rest))
