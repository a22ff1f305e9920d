"""The reading half of a pass, in its order: observe, exchange, accept, assess each agent, ask remote files.

This is all that `plan` and `status` do, so nothing is written here.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from attrs import evolve

from probes.host.facts import real_paths, uids_of
from probes.host.remote_mounts import silent_on
from probes.observe import observe
from probes.observed import ObservedHost
from probes.values import frozen
from reconcile.assess.assess_agent import evaluate_agents, with_remote
from reconcile.assess.exchange import ExchangeResult, exchange
from reconcile.assess.homes import abandoned_homes, homes_to_observe, see_also, with_runaways
from reconcile.assess.pass_context import Assessment, DesiredFrom, HostContext, HostSnapshot, NoDesiredState
from reconcile.assess.remote_inputs import RemoteAnswer, ask_remote_files
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.conditions import Condition, server_condition
from reconcile.decide.desired import DesiredHost
from reconcile.decide.evaluate import where_they_live
from reconcile.decide.policy.accept import accept, homes_named, users_named
from reconcile.decide.policy.inputs import Lookups, Policy
from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.net.remote_files import LIMIT_S, Keep
from reconcile.source import Answer
from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import Accepted, StoredState

_GRACE_S = 1.0  # beyond the limit of all remote files, for who asked them to say so


@frozen(kw_only=True)
class Known:
    """What is seen of the homes that the last accepted answer names. `lived_in`: each agent once."""

    at: float
    desired: DesiredHost
    seen: ObservedHost
    lived_in: ObservedHost


def observe_known(host: HostContext, state: StoredState, *, whole: bool = True) -> Known:
    """Observe what the last accepted answer names; not `whole`: nothing yet."""
    now = host.clock()
    known = accepted(host.policy, state)
    homes = homes_to_observe(known.agents, state) if whole else ()
    seen = observe(homes, host.limits, at=now, workers=host.workers)
    seen = with_runaways(seen, state.records, host.boot)
    return Known(at=now, desired=known, seen=seen, lived_in=where_they_live(seen, known.agents, state.record))


def assess(host: HostContext, state: StoredState, ask: DesiredFrom, *, whole: bool = True) -> Assessment:
    """Look, ask, and plan. Raise NoDesiredState; whatever is wrong with one agent is part of its view. Not `whole`:
    where no report arrives, an agent that is known and not desired is not looked at.

    No server is asked by who can't read the memory: the report would say that no agent is here. A pass does ask, since
    it has to heal.
    """
    if state.trouble and not state.damaged and ask is DesiredFrom.EXCHANGE and host.source.takes_reports:
        raise NoDesiredState(state.trouble)
    known = observe_known(host, state, whole=whole or host.source.takes_reports)
    answer = exchange(host, state, known.lived_in) if ask is DesiredFrom.EXCHANGE else None
    return completed(host, accept_answer(host, state, ask, known, answer))


def accept_answer(
    host: HostContext, state: StoredState, ask: DesiredFrom, known: Known, answered: ExchangeResult | None
) -> Assessment:
    """Put an answer through the policy, observe what it names newly, and plan as far as that goes without remote files.
    Raise NoDesiredState."""
    answer, failed = (answered, None) if isinstance(answered, Answer) else (None, answered)
    # What an operator named is gone by, or nothing is: not the server's answer in its place.
    if answer is None and (state.accepted is None or (failed is not None and host.operator is not None)):
        raise _nothing_known(failed, state)
    context = evolve(_context_of(host, ask, known.at, failed), refused_places=host.refused_places())
    believed = _believed(state, known.at, answer)
    desired = _desired(host, state, known, answer)
    seen = see_also(known.seen, homes_to_observe(desired.agents, state), host)
    seen = see_also(seen, abandoned_homes(seen, desired.agents, state), host)
    snapshot = HostSnapshot(seen=seen, state=state, requests=read_requests(host.holds))
    asks = ask is not DesiredFrom.READ_ONLY and context.answered is not Freshness.LAST_ACCEPTED
    found = Assessment(
        at=known.at,
        evaluation_context=context,
        came_from=host.source.came_from if answer is not None else f"{believed.answer.came_from} (kept)",
        desired_at=believed.at,
        nothing_desired=believed.nothing,
        server=_server_condition(host, ask, failed),
        seen=seen,
        requests=snapshot.requests,
        signature=believed.answer.signature,
        fresh=answer,
        last_entries=desired.last_entries,
        failed=failed,
    )
    if found.nothing_desired:  # what was managed is observed and reported, and nothing is done
        seen = see_also(seen, homes_to_observe(known.desired.agents, state), host)
        there = where_they_live(seen, known.desired.agents, state.record).agents
        return evolve(found, seen=seen, bystanders=tuple(filter(lambda agent: agent.version_text is not None, there)))
    views = evaluate_agents(desired.agents, snapshot, context, host, asks=asks)
    return evolve(found, agents=views, refused=desired.refused, ruled_out=desired.ruled_out)


def _server_condition(
    host: HostContext, ask: DesiredFrom, failed: ServerUnreachable | ResponseInvalid | None
) -> Condition:
    return server_condition(
        host.source.came_from,
        asked=ask is DesiredFrom.EXCHANGE and host.operator is None,
        failed=None if failed is None else (failed.reason, failed.message),
    )


def _believed(state: StoredState, now: float, answer: Answer | None) -> Accepted:
    """The answer that counts: that of this pass, or the one accepted last."""
    if answer is not None:
        return Accepted(at=now, answer=answer, nothing=not answer.entries)
    assert state.accepted is not None
    return state.accepted


def _nothing_known(failed: ServerUnreachable | ResponseInvalid | None, state: StoredState) -> NoDesiredState:
    if failed is None:
        asked = "a daemon asks within `interval`, `updater apply --once` at once"
        return NoDesiredState(state.trouble or f"no answer of ops-meta was accepted yet: {asked}")
    if state.accepted is None:
        before = state.trouble or "no answer was accepted before, so nothing is known to do"
        return NoDesiredState(f"{failed.message} (and {before})")
    return NoDesiredState(failed.message)


def _desired(host: HostContext, state: StoredState, known: Known, answer: Answer | None) -> DesiredHost:
    """What an answer desires; most say the same again."""
    if answer is None or (state.accepted is not None and answer == state.accepted.answer):
        return known.desired
    return accepted(host.policy, state, answer)


def completed(host: HostContext, found: Assessment, keep: Keep = lambda content: None) -> Assessment:
    """The same with what remote files say, asked side by side. `keep`: the bytes of configs, for who acts."""
    asking = {view.desired.name: view for view in found.agents if view.asks is not None}
    if not asking:
        return found
    answers: queue.SimpleQueue[tuple[str, RemoteAnswer]] = queue.SimpleQueue()
    ask_remote_files(host, asking.values(), lambda name, answer: answers.put((name, answer)), keep)
    answered: dict[str, RemoteAnswer] = {}
    until = time.monotonic() + LIMIT_S + _GRACE_S
    while asking.keys() - answered.keys():
        try:
            name, one = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        answered[name] = one
    return evolve(
        found, agents=tuple(with_remote(host, found, view, answered.get(view.desired.name)) for view in found.agents)
    )


def only(found: Assessment, wanted: Callable[[str], bool]) -> Assessment:
    """The same, of the wanted agents alone: the others are neither planned nor acted upon."""
    releases = frozenset(filter(wanted, found.requests.releases))
    return evolve(
        found,
        requests=evolve(found.requests, releases=releases),
        agents=tuple(filter(lambda view: wanted(view.desired.name), found.agents)),
        refused=tuple(filter(lambda entry: wanted(entry.name), found.refused)),
        ruled_out=tuple(filter(lambda entry: wanted(entry.name), found.ruled_out)),
        bystanders=tuple(filter(lambda agent: wanted(agent.name), found.bystanders)),
    )


def accepted(policy: Policy, state: StoredState, answer: Answer | None = None) -> DesiredHost:
    """An answer through today's policy, with what this host knows of the users and paths that it names. Without an
    answer: the one that is remembered."""
    if answer is None:
        if state.accepted is None:
            return DesiredHost()
        answer = state.accepted.answer
    paths = {*homes_named(answer, policy, state.last_entries), *(policy.restrictions.allow_work_dirs or ())}
    lives_as = {record.name: record.home.run_user for record in state.records}
    lookups = Lookups(
        uids=uids_of(users_named(answer, policy, state.last_entries) | set(lives_as.values())),
        leads_to=real_paths(paths - silent_on(paths).keys()),
        delivered=state.delivered,
        lives_as=lives_as,
    )
    return accept(answer, policy, lookups, state.last_entries)


def _context_of(
    host: HostContext, ask: DesiredFrom, now: float, failed: ServerUnreachable | ResponseInvalid | None
) -> EvaluationContext:
    if ask in (DesiredFrom.OFFLINE, DesiredFrom.READ_ONLY):
        return EvaluationContext(now=now, answered=Freshness.OPERATOR)
    if ask is DesiredFrom.LIVE:
        return EvaluationContext(now=now, answered=Freshness.LIVE)
    if ask is DesiredFrom.LAST_ACCEPTED:
        return EvaluationContext(now=now, answered=Freshness.LAST_ACCEPTED, why_not_live="it was not asked yet")
    if failed is not None:
        return EvaluationContext(now=now, answered=Freshness.LAST_ACCEPTED, why_not_live=failed.message)
    answered = Freshness.LIVE if host.operator is None else Freshness.OPERATOR
    return EvaluationContext(now=now, answered=answered, asked_by=host.asked_by)
