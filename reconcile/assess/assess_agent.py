"""Assess one agent: settle what is remembered of it by what is seen, target, plan, admit. Writes nothing.

What fails unexpectedly while an agent is assessed is part of its evaluation (`broken`), so that the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from probes.text import redact_url
from reconcile.assess.pass_context import Assessment, HostContext, HostSnapshot
from reconcile.assess.remote_inputs import RemoteAnswer
from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import EvaluationContext
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, evaluate_agent, heal_of, inputs_of, view_healed
from reconcile.decide.hold import Hold
from reconcile.decide.records.changes import heed, record_for
from reconcile.decide.target import Blocker, RemoteInputs, Target
from reconcile.decide.upgrade.events import Observed, Paused
from reconcile.decide.upgrade.steps import seen_up
from reconcile.decide.upgrade.table import advance
from reconcile.errors import FetchInterrupted
from reconcile.net.remote_files import LIMIT_S, known_inputs, url_asked
from reconcile.storage.hold_files import read_requests


def evaluate_agents(
    agents: Iterable[DesiredAgent],
    snapshot: HostSnapshot,
    context: EvaluationContext,
    host: HostContext,
    *,
    asks: bool = False,
) -> tuple[AgentEvaluation, ...]:
    """Each agent's view, by what is known without remote files. One agent's trouble is its own: where looking at it
    ends in an unexpected error, it is left alone. `asks`: whether remote files are asked in this pass."""

    def view_or_why_not(desired: DesiredAgent) -> AgentEvaluation:
        found = inputs_of(desired, snapshot.record(desired.name), snapshot.seen)
        try:
            return _view(found, snapshot, context, host, asks=asks)
        except Exception as err:  # who acts writes it into the log; reading writes nothing
            return _broken_view(desired, found, err)

    return tuple(map(view_or_why_not, agents))


def with_remote(
    host: HostContext, found: Assessment, view: AgentEvaluation, answer: RemoteAnswer | None
) -> AgentEvaluation:
    """The view of an agent with what its remote files say; None: they did not answer in time."""
    if view.asks is None:
        return view
    answer = answer or RemoteAnswer(inputs=_unanswered(view))
    if answer.broken is not None:
        return _broken_view(view.desired, view.agent_inputs, answer.broken)
    try:
        planned = _planned(view.agent_inputs, answer.inputs, found.evaluation_context, host, view.hold, asks=view.asks)
    except Exception as err:  # who acts writes it into the log; reading writes nothing
        return _broken_view(view.desired, view.agent_inputs, err)
    return evolve(planned, content=answer.content, news=view.news, released_by=view.released_by, asks=None)


def with_healed(
    host: HostContext, view: AgentEvaluation, seen: AgentInputs, context: EvaluationContext
) -> AgentEvaluation:
    """The view of an agent that was healed, as it was seen after that."""
    hold = read_requests(host.holds).hold_on(view.desired.name, context.now)
    try:
        planned = evaluate_agent(evolve(seen, healed=True), view.remote, context, host.rules, hold)
    except Exception as err:
        return _broken_view(view.desired, seen, err)
    return evolve(planned, content=view.content, hold=hold, heal=view.heal)


def settle_inputs(
    seen: AgentInputs, context: EvaluationContext, host: HostContext, *, held: bool
) -> tuple[AgentInputs, str]:
    """Update what is remembered by this observation, a pending upgrade for one; return the news of it too."""
    record = seen.record
    if record is None and seen.desired.run is RunState.STOP and seen.observed.version_text:
        record = record_for(seen.observed.home, None)
    if record is None:
        return seen, ""
    record = heed(seen_up(record, seen.observed), seen.desired, seen.observed)
    if seen.desired.run is not RunState.START:
        return evolve(seen, record=advance(record, Paused(boot=host.boot)).record), ""
    if held:
        return evolve(seen, record=record), ""
    settled = advance(record, Observed(observed=seen.observed, now=context.now, watch=host.rules.watch, boot=host.boot))
    return evolve(seen, record=settled.record), settled.news


def _view(
    found: AgentInputs, snapshot: HostSnapshot, context: EvaluationContext, host: HostContext, *, asks: bool
) -> AgentEvaluation:
    hold = snapshot.requests.hold_on(found.desired.name, context.now)
    seen, news = settle_inputs(found, context, host, held=hold is not None)
    there = seen.seen_in(seen.desired.home)
    remote = known_inputs(seen.desired, seen.record)
    url = url_asked(seen.desired, there) if asks else None
    planned = _planned(seen, remote, context, host, hold, asks=url)
    return evolve(planned, news=news, released_by=snapshot.requests.releaser(found.desired.name))


def _planned(
    seen: AgentInputs,
    remote: RemoteInputs,
    context: EvaluationContext,
    host: HostContext,
    hold: Hold | None,
    *,
    asks: str | None,
) -> AgentEvaluation:
    """Plan for one agent. Where its change needs something remote it is healed before that, and planned for as it is
    then."""
    view = evaluate_agent(seen, remote, context, host.rules, hold)
    needs_remote = asks is not None or (isinstance(view.verdict, Plan) and view.verdict.fetches)
    heal = heal_of(seen, remote, context, host.rules, hold) if needs_remote else None
    if heal is not None:
        view = view_healed(seen, remote, context, host.rules, hold, heal)
    return evolve(view, hold=hold, asks=asks)


def _unanswered(view: AgentEvaluation) -> RemoteInputs:
    message = f"{redact_url(view.asks or '')}: no answer within the {LIMIT_S:g} s that a pass has for all remote files"
    return evolve(view.remote, config=None, blocker=Blocker(reason=FetchInterrupted.reason, message=message))


def _broken_view(desired: DesiredAgent, seen: AgentInputs, err: Exception) -> AgentEvaluation:
    nothing = Plan(name=desired.name, reason="InternalError", message=f"unexpected, please report it: {err!r}")
    return AgentEvaluation(
        desired=desired,
        observed=seen.observed,
        record=seen.record,
        remote=RemoteInputs(),
        target=Target(name=desired.name, run=RunState.OBSERVE),
        verdict=Held(plan=nothing, reason=nothing.reason, message=nothing.message, meanwhile=nothing),
        elsewhere=seen.elsewhere,
        broken=err,
    )
