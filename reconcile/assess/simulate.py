"""Plan for a host that is not at hand, from its snapshot. It reads nothing and makes no request."""

from __future__ import annotations

from attrs import evolve

from probes.observed import HomeRef, ObservedAgent, ObservedHost
from reconcile.assess.assess_agent import evaluate_agents
from reconcile.assess.homes import abandoned_homes, homes_to_observe
from reconcile.assess.pass_context import HostContext, HostSnapshot
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import DesiredHost
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.policy.accept import accept, users_named
from reconcile.decide.policy.inputs import Lookups, Policy
from reconcile.source import Answer


def simulate(host: HostContext, snapshot: HostSnapshot, desired: DesiredHost) -> tuple[AgentEvaluation, ...]:
    """What a pass over that host would plan if this were `expected` of it. Nothing is read, and no request is made.

    A home that the snapshot lacks is taken as empty: nothing was managed there.
    """
    homes = tuple(_as_seen(home, snapshot.seen) for home in homes_to_observe(desired.agents, snapshot.state))
    in_places = evolve(snapshot.seen, agents=homes)
    unseen = (ObservedAgent(home=home) for home in abandoned_homes(in_places, desired.agents, snapshot.state))
    in_places = evolve(in_places, agents=(*in_places.agents, *unseen))
    context = EvaluationContext(now=in_places.at, answered=Freshness.LIVE)
    return evaluate_agents(desired.agents, evolve(snapshot, seen=in_places), context, host)


def expected(policy: Policy, snapshot: HostSnapshot, answer: Answer) -> DesiredHost:
    """An answer through that host's policy, as far as its snapshot says: where links lead there is not known."""
    last_entries = snapshot.state.last_entries
    uids = snapshot.uids_of(users_named(answer, policy, last_entries))
    return accept(answer, policy, Lookups(uids=uids, delivered=snapshot.state.delivered), last_entries)


def _as_seen(home: HomeRef, seen: ObservedHost) -> ObservedAgent:
    agent = seen.find(home)
    if agent is None:
        return ObservedAgent(home=home)
    if agent.home.config_name == home.config_name:
        return agent
    # Its digest was taken of another file.
    staged, following, previous = (
        frozenset(evolve(tree, config=None) for tree in trees) for trees in (agent.staged, agent.next, agent.previous)
    )
    active = None if agent.active is None else evolve(agent.active, tree=evolve(agent.active.tree, config=None))
    return evolve(agent, home=home, active=active, staged=staged, next=following, previous=previous)
