"""The reading half of a pass: observe, exchange, accept, ask remote files, target, plan, admit. Writes nothing.

All that `plan` and `status` need is here, and it can't reach reconcile/act (an import contract holds that), so a dry
run is dry by construction. Together with reconciler.py it is the only file that knows a pass's order.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path

from attrs import evolve, field

from probes.errors import UpdaterError
from probes.home import StatusLimits
from probes.host.facts import real_paths, uids_of
from probes.observe import observe, observe_agent, reread
from probes.observed import HomeRef, ObservedAgent, ObservedHost, ProcessState
from probes.values import frozen
from probes.worker.pool import WorkerPool
from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import EvaluationContext, Freshness, waits
from reconcile.decide.conditions import FALSE, TRUE, UNKNOWN, Condition, UpgradeState, derive, ready_of, with_since
from reconcile.decide.desired import DesiredAgent, DesiredHost, Refusal, RunState
from reconcile.decide.evaluate import (
    AgentEvaluation,
    AgentInputs,
    Rules,
    evaluate_agent,
    heal_of,
    not_yet,
    sighted,
    view_healed,
    where_they_live,
)
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.policy import Lookups, Policy, accept, homes_named, users_named
from reconcile.decide.records import AgentRecord, heed, record_for, released
from reconcile.decide.relocation import home_lived_in, homes_of
from reconcile.decide.target import Blocker, RemoteInputs, Target, target_for
from reconcile.decide.timing.fetch_slot import waits_its_turn
from reconcile.decide.timing.fleet_places import PlaceWait
from reconcile.decide.upgrade import paused, seen_up, settle
from reconcile.errors import FetchInterrupted, ReconcileError, ResponseInvalid, ServerUnreachable
from reconcile.net.http_client import HttpClient, shown
from reconcile.net.remote_files import (
    LIMIT_S,
    ConfigSource,
    Keep,
    Question,
    RemoteFileReader,
    ask_side_by_side,
    find_out,
    question,
    url_asked,
)
from reconcile.source import Answer, DesiredSource, Entry, HostReport, ReportedAgent
from reconcile.storage.hold_files import read_requests
from reconcile.storage.store import StoredState


class DesiredFrom(Enum):
    """Where the desired state of a pass comes from. EXCHANGE: the server; LIVE: its last answer, not older than an
    interval; KEPT: what was last accepted, to heal only; OFFLINE: the same, to act upon on an operator's word; LOOK:
    the same, without any network, to show it."""

    EXCHANGE = "exchange"
    LIVE = "live"
    KEPT = "kept"
    OFFLINE = "offline"
    LOOK = "look"


_GRACE_S = 1.0  # beyond the limit of all remote files, for who asked them to say so
_SOME_UID = -1  # of a user of whom no more is known than that it is not root


class NoDesiredState(ReconcileError):
    """No valid answer, and none was accepted before."""

    reason = "ServerUnreachable"


@frozen(kw_only=True)
class HostFacts:
    """What this host says of itself in a report."""

    hostname: str
    ip: str
    run_user: str
    updater_version: str
    report_extra: bool = False


@frozen(kw_only=True)
class HostContext:
    """All that assessing may use. `operator_source`: the source is a file that an operator named, and not a server.
    `lacking`: what the config needs and the host lacks, so that changes wait. `refused_places`: by the fleet's lock.
    `workers`: whoever looks at other users' homes; they are ended by whoever makes the pass."""

    source: DesiredSource
    operator_source: bool
    policy: Policy
    limits: StatusLimits
    http: HttpClient
    facts: HostFacts
    rules: Rules
    boot: str
    holds: Path
    clock: Callable[[], float]
    lacking: str = ""
    refused_places: Callable[[], tuple[PlaceWait, ...]] = tuple
    workers: WorkerPool = field(factory=WorkerPool)


@frozen(kw_only=True)
class Assessment:
    """What a pass found and would do. `fresh`: the answer of this pass, to be kept; `kept`: of each agent that it
    names the entry accepted last. `ruled_out`: entries that are none of this host's business. `bystanders`: agents last
    known that are observed and reported alone, since an empty answer manages nothing. `failed`: why the exchange
    failed."""

    at: float
    moment: EvaluationContext
    came_from: str
    desired_at: float
    agents: tuple[AgentEvaluation, ...]
    refused: tuple[Refusal, ...]
    ruled_out: tuple[Refusal, ...]
    bystanders: tuple[ObservedAgent, ...]
    nothing_desired: bool
    server: Condition
    seen: ObservedHost
    requests: Requests
    fresh: Answer | None = None
    kept: tuple[Entry, ...] = ()
    failed: ServerUnreachable | ResponseInvalid | None = None

    @property
    def answered(self) -> Freshness:
        return self.moment.answered


@frozen(kw_only=True)
class Known:
    """What is seen of the homes that the last accepted answer names. `lived_in`: each agent once."""

    at: float
    desired: DesiredHost
    seen: ObservedHost
    lived_in: ObservedHost


def look(host: HostContext, state: StoredState) -> Known:
    """Observe what the last accepted answer names."""
    now = host.clock()
    known = managed(host.policy, state)
    seen = observe(_places(known.agents, state), host.limits, at=now, workers=host.workers)
    return Known(at=now, desired=known, seen=seen, lived_in=where_they_live(seen, known.agents, state.record))


def exchange(
    host: HostContext, state: StoredState, *seen: ObservedHost
) -> Answer | ServerUnreachable | ResponseInvalid:
    """Report what was seen, and get an answer, or why there is none."""
    try:
        return host.source.exchange(report(host.facts, state, *seen))
    except (ServerUnreachable, ResponseInvalid) as err:
        return err


def assess(host: HostContext, state: StoredState, ask: DesiredFrom) -> Assessment:
    """Look, ask, and plan. Raise NoDesiredState; whatever is wrong with one agent is part of its view."""
    known = look(host, state)
    answer = exchange(host, state, known.lived_in) if ask is DesiredFrom.EXCHANGE else None
    return completed(host, accept_answer(host, state, ask, known, answer))


def accept_answer(
    host: HostContext,
    state: StoredState,
    ask: DesiredFrom,
    known: Known,
    answered: Answer | ServerUnreachable | ResponseInvalid | None,
) -> Assessment:
    """Put an answer through the policy, observe what it names anew, and plan as far as that goes without remote files.
    Raise NoDesiredState."""
    now = known.at
    failed = answered if isinstance(answered, UpdaterError) else None
    answer = answered if isinstance(answered, Answer) else None
    if answer is None and state.accepted is None:
        if failed is not None:
            raise NoDesiredState(f"{failed.message} (and no answer was accepted before, so nothing is known to do)")
        raise NoDesiredState(
            "no answer of ops-meta was accepted yet: a daemon asks within `interval`, `updater apply --once` at once"
        )
    moment = evolve(_moment(host, ask, now, failed), refused_places=host.refused_places())
    desired, nothing = known.desired, state.accepted is not None and state.accepted.nothing
    if answer is not None:
        nothing = not answer.entries
        if state.accepted is None or answer != state.accepted.answer:  # most say the same again
            desired = accepted(answer, host.policy, state)
    seen = _see_also(known.seen, _places(desired.agents, state), host)
    seen = _see_also(seen, _given_up(seen, desired.agents, state), host)
    requests = read_requests(host.holds)
    picture = HostSnapshot(seen=seen, state=state, requests=requests)
    asks = ask is not DesiredFrom.LOOK and moment.answered is not Freshness.KEPT
    views = () if nothing else _views(desired.agents, picture, moment, host, asks=asks)
    kept_at = now if state.accepted is None else state.accepted.at
    came_from = host.source.came_from
    if answer is None and state.accepted is not None:
        came_from = f"{state.accepted.answer.came_from} (kept)"
    there = (agent for agent in known.lived_in.agents if agent.version_text is not None)
    return Assessment(
        at=now,
        moment=moment,
        came_from=came_from,
        desired_at=now if answer is not None else kept_at,
        agents=views,
        refused=() if nothing else desired.refused,
        ruled_out=() if nothing else desired.ruled_out,
        bystanders=tuple(there) if nothing else (),
        nothing_desired=nothing,
        server=_server_condition(host, ask, failed),
        seen=seen,
        requests=requests,
        fresh=answer,
        kept=desired.kept,
        failed=failed,
    )


def completed(host: HostContext, found: Assessment, keep: Keep = lambda content: None) -> Assessment:
    """The same with what remote files say, asked side by side. `keep`: the bytes of configs, for who acts."""
    asking = {view.desired.name: view for view in found.agents if view.asks is not None}
    if not asking:
        return found
    answers: queue.SimpleQueue[tuple[str, Found]] = queue.SimpleQueue()
    ask_remote_files(host, asking.values(), lambda name, said: answers.put((name, said)), keep)
    said: dict[str, Found] = {}
    until = time.monotonic() + LIMIT_S + _GRACE_S
    while asking.keys() - said.keys():
        try:
            name, one = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        said[name] = one
    return evolve(
        found, agents=tuple(with_found(host, found, view, said.get(view.desired.name)) for view in found.agents)
    )


@frozen(kw_only=True)
class Found:
    """What remote files say of an agent. `broken`: what nobody expected and ended the asking."""

    findings: RemoteInputs = RemoteInputs()
    content: ConfigSource = None
    broken: Exception | None = None


def ask_remote_files(
    host: HostContext,
    views: Iterable[AgentEvaluation],
    answered: Callable[[str, Found], None],
    keep: Keep = lambda content: None,
) -> None:
    """Begin to ask the remote files of agents, and return. `answered` is called in other threads, once for each."""
    remote = RemoteFileReader(host.http, keep=keep)

    def of(view: AgentEvaluation) -> Question:
        def ask() -> None:
            try:
                findings, content = _find_out(host, view, remote)
                found = Found(findings=findings, content=content)
            except Exception as err:
                found = Found(broken=err)
            answered(view.desired.name, found)

        return question(view.asks or "", ask)

    ask_side_by_side([of(view) for view in views])


def _find_out(host: HostContext, view: AgentEvaluation, remote: RemoteFileReader) -> tuple[RemoteInputs, ConfigSource]:
    desired, record, there = view.desired, view.record, view.sighting.home(view.desired.place)
    now = host.clock()

    def waiting(found: RemoteInputs) -> bool:
        if view.hold is not None or record is None:
            return view.hold is not None
        target = target_for(desired, record, there, found, keep=host.rules.keep)
        windows, wanted = host.rules.windows, target.content
        if not_yet(desired, there, target, host.rules) or (windows is not None and not windows.is_open(now)):
            return True
        return waits(record, wanted, now, host.rules.quarantine_for, desired.place) or waits_its_turn(
            record, wanted, host.rules.splay, now
        )

    return find_out(desired, there, record, remote, waiting)


def with_found(host: HostContext, found: Assessment, view: AgentEvaluation, said: Found | None) -> AgentEvaluation:
    """The view of an agent with what its remote files say; None: they did not answer in time."""
    if view.asks is None:
        return view
    said = said or Found(findings=_unanswered(view))
    if said.broken is not None:
        return _broken_view(view.desired, view.sighting, said.broken)
    try:
        planned = _planned(view.sighting, said.findings, found.moment, host, view.hold, asks=view.asks)
    except Exception as err:  # who acts writes it into the log; reading writes nothing
        return _broken_view(view.desired, view.sighting, err)
    return evolve(planned, content=said.content, news=view.news, asks=None)


def with_healed(
    host: HostContext, view: AgentEvaluation, seen: AgentInputs, moment: EvaluationContext
) -> AgentEvaluation:
    """The view of an agent that was healed, as it was seen after that."""
    hold = read_requests(host.holds).hold_on(view.desired.name, moment.now)
    try:
        planned = evaluate_agent(evolve(seen, healed=True), view.findings, moment, host.rules, hold)
    except Exception as err:
        return _broken_view(view.desired, seen, err)
    return evolve(planned, content=view.content, hold=hold, heal=view.heal)


def _unanswered(view: AgentEvaluation) -> RemoteInputs:
    message = f"{shown(view.asks or '')}: no answer within the {LIMIT_S:g} s that a pass has for all remote files"
    return evolve(view.findings, config=None, trouble=Blocker(reason=FetchInterrupted.reason, message=message))


@frozen(kw_only=True)
class HostSnapshot:
    """What was seen and is remembered of a host at one time, and what operators asked for since. `users`: the uids of
    those that were looked up there, None for one that it lacked."""

    seen: ObservedHost
    state: StoredState
    requests: Requests
    users: Mapping[str, int | None] = {}

    def uids_of(self, names: Iterable[str]) -> dict[str, int]:
        """The uids of those users that existed; one that was not looked up is taken to exist, and not to be root."""
        found = {name: self.users.get(name, 0 if name == "root" else _SOME_UID) for name in names}
        return {name: uid for name, uid in found.items() if uid is not None}

    def record(self, name: str) -> AgentRecord | None:
        record = self.state.record(name)
        return released(record) if record is not None and self.requests.released(name) else record


def simulate(host: HostContext, picture: HostSnapshot, desired: DesiredHost) -> tuple[AgentEvaluation, ...]:
    """What a pass over that host would plan if this were `expected` of it. Nothing is looked at, and nobody is asked.

    A home that the picture lacks is taken as empty: nothing was managed there.
    """
    homes = tuple(_as_seen(place, picture.seen) for place in _places(desired.agents, picture.state))
    in_places = evolve(picture.seen, agents=homes)
    unseen = (ObservedAgent(place=place) for place in _given_up(in_places, desired.agents, picture.state))
    in_places = evolve(in_places, agents=(*in_places.agents, *unseen))
    moment = EvaluationContext(now=in_places.at, answered=Freshness.LIVE)
    return _views(desired.agents, evolve(picture, seen=in_places), moment, host)


def expected(policy: Policy, picture: HostSnapshot, answer: Answer) -> DesiredHost:
    """An answer through that host's policy, as far as its picture tells: where links lead there is not known."""
    kept = picture.state.kept
    uids = picture.uids_of(users_named(answer, policy, kept))
    return accept(answer, policy, Lookups(uids=uids, delivered=_delivered(picture.state)), kept)


def _as_seen(place: HomeRef, seen: ObservedHost) -> ObservedAgent:
    agent = seen.find(place)
    if agent is None:
        return ObservedAgent(place=place)
    if agent.place.config_name == place.config_name:
        return agent
    # Its digest was taken of another file.
    staged, following, previous = (
        frozenset(evolve(tree, config=None) for tree in trees) for trees in (agent.staged, agent.next, agent.previous)
    )
    active = None if agent.active is None else evolve(agent.active, tree=evolve(agent.active.tree, config=None))
    return evolve(agent, place=place, active=active, staged=staged, next=following, previous=previous)


def only(found: Assessment, wanted: Callable[[str], bool]) -> Assessment:
    """The same, of the wanted agents alone: the others are neither planned nor acted upon."""
    return evolve(
        found,
        agents=tuple(view for view in found.agents if wanted(view.desired.name)),
        refused=tuple(refusal for refusal in found.refused if wanted(refusal.name)),
        ruled_out=tuple(entry for entry in found.ruled_out if wanted(entry.name)),
    )


def managed(policy: Policy, state: StoredState) -> DesiredHost:
    """The desired state that is remembered, through today's policy."""
    return DesiredHost() if state.accepted is None else accepted(state.accepted.answer, policy, state)


def accepted(answer: Answer, policy: Policy, state: StoredState) -> DesiredHost:
    """An answer through this host's policy, with the users that it names looked up, and where links lead."""
    kept = state.kept
    homes = homes_named(answer, policy, kept)
    lookups = Lookups(
        uids=uids_of(users_named(answer, policy, kept)),
        leads_to=real_paths((*homes, *(policy.restrictions.allow_work_dirs or ()))),
        delivered=_delivered(state),
    )
    return accept(answer, policy, lookups, kept)


def _delivered(state: StoredState) -> frozenset[str]:
    """The agents that were ever given a remote config."""
    return frozenset(record.name for record in state.records if record.config is not None and record.config.name)


def report(facts: HostFacts, state: StoredState, *seen: ObservedHost) -> HostReport:
    """What the heartbeat says: the managed agents whose `.version` exists, and nothing that was not `seen`."""
    agents = tuple(
        ReportedAgent(
            name=agent.name,
            version=agent.version_text,
            status=_reported_status(agent),
            timestamp=int(host.at),
            run_user=agent.place.run_user,
            work_dir=agent.place.work_dir,
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


def settle_sighting(
    seen: AgentInputs, moment: EvaluationContext, host: HostContext, *, held: bool
) -> tuple[AgentInputs, str]:
    """Take up what this look makes of what is remembered, of an open switch for one; and the news of it."""
    record = seen.record
    if record is None and seen.desired.run is RunState.STOP and seen.observed.version_text:
        record = record_for(seen.observed.place, None)
    if record is None:
        return seen, ""
    record = heed(seen_up(record, seen.observed), seen.desired, seen.observed)
    if seen.desired.run is not RunState.START:
        return evolve(seen, record=paused(record, host.boot)), ""
    if held:
        return evolve(seen, record=record), ""
    settled = settle(record, seen.observed, now=moment.now, watch=host.rules.watch, boot=host.boot)
    return evolve(seen, record=settled.record), settled.news


def conditions_of(view: AgentEvaluation) -> tuple[Condition, ...]:
    """The conditions of an agent as it was assessed, before anything is done."""
    standing = UpgradeState.CONFIRMING if view.confirming else UpgradeState.SETTLED
    return derive(view.desired, view.observed, view.verdict, config=config_condition(view), standing=standing)


def config_condition(view: AgentEvaluation) -> Condition | None:
    """Whether the config in use is the remote one; None where none is desired."""
    wanted, active = view.desired.config, view.observed.active
    if wanted is None:
        return None
    if view.findings.config is None:
        why = "not asked" if view.findings.trouble is None else view.findings.trouble.message
        return Condition(type="ConfigInSync", status=UNKNOWN, reason="FetchFailed", message=why)
    if view.target.edited:
        message = f"{wanted.name} was edited on this host; it is left alone until the remote one changes"
        return Condition(type="ConfigInSync", status=FALSE, reason="ConfigEdited", message=message)
    if active is None or active.tree.config != view.findings.config.digest:
        message = f"{wanted.name} differs from the remote one"
        return Condition(type="ConfigInSync", status=FALSE, reason="ConfigDiffers", message=message)
    return Condition(type="ConfigInSync", status=TRUE, reason="AsDesired", message=f"{wanted.name} as delivered")


def stored_condition(trouble: str, set_aside: str = "") -> Condition:
    """Whether memory can be kept. `trouble`: why not; `set_aside`: where an older one went that could not be read."""
    if trouble:
        return Condition(type="StateStored", status=FALSE, reason="WriteFailed", message=trouble)
    if set_aside:
        message = f"the old memory could not be read and lies in {set_aside}; what is on disk counts"
        return Condition(type="StateStored", status=FALSE, reason="StateSetAside", message=message)
    return Condition(type="StateStored", status=TRUE, reason="AsDesired")


def own_conditions(
    found: Assessment,
    state: StoredState,
    *,
    stored: Condition,
    missing_tools: str = "",
    lock: Condition | None = None,
) -> tuple[Condition, ...]:
    """The conditions of the updater itself. `lock`: whether the fleet's lock server answered, where it was asked."""
    tools = Condition(type="ToolsPresent", status=TRUE, reason="AsDesired")
    if missing_tools:
        tools = Condition(type="ToolsPresent", status=FALSE, reason="ToolMissing", message=missing_tools)
    before = {condition.type: condition for condition in state.conditions}
    # A pass that did not ask knows nothing new of the server: what was last seen of it stands.
    server = found.server if found.server.status != UNKNOWN else before.get(found.server.type, found.server)
    lock = lock or before.get("LockServerReachable")
    own = (server, stored, tools, *([] if lock is None else [lock]))
    return with_since(own, state.conditions, found.at)


def _moment(
    host: HostContext, ask: DesiredFrom, now: float, failed: ServerUnreachable | ResponseInvalid | None
) -> EvaluationContext:
    if ask in (DesiredFrom.OFFLINE, DesiredFrom.LOOK):
        return EvaluationContext(now=now, answered=Freshness.OPERATOR)
    if ask is DesiredFrom.LIVE:
        return EvaluationContext(now=now, answered=Freshness.LIVE)
    if ask is DesiredFrom.KEPT:
        return EvaluationContext(now=now, answered=Freshness.KEPT, why_kept="it was not asked yet")
    if failed is not None:
        return EvaluationContext(now=now, answered=Freshness.KEPT, why_kept=failed.message)
    return EvaluationContext(now=now, answered=Freshness.OPERATOR if host.operator_source else Freshness.LIVE)


def _server_condition(
    host: HostContext, ask: DesiredFrom, failed: ServerUnreachable | ResponseInvalid | None
) -> Condition:
    if failed is not None:
        return Condition(type="ServerReachable", status=FALSE, reason=failed.reason, message=failed.message)
    if ask is not DesiredFrom.EXCHANGE:
        return Condition(type="ServerReachable", status=UNKNOWN, reason="AsDesired", message="not asked")
    return Condition(type="ServerReachable", status=TRUE, reason="AsDesired", message=host.source.came_from)


def _places(agents: tuple[DesiredAgent, ...], state: StoredState) -> tuple[HomeRef, ...]:
    """Where the agents are wanted, and where they live or may have to go back to if that is elsewhere."""
    return tuple(dict.fromkeys(place for agent in agents for place in homes_of(agent, state.record(agent.name))))


def _given_up(seen: ObservedHost, agents: Iterable[DesiredAgent], state: StoredState) -> tuple[HomeRef, ...]:
    """Homes of which nothing is left of a former user's, so that they are observed as the wanted one's."""
    homes = (home_lived_in(agent, state.record(agent.name), seen.find) for agent in agents)
    return tuple(home for home in homes if seen.find(home) is None)


def look_again(desired: DesiredAgent, record: AgentRecord | None, host: HostContext) -> AgentInputs:
    """Look at one agent now."""
    seen = observe(homes_of(desired, record), host.limits, at=host.clock(), workers=host.workers)
    lives = home_lived_in(desired, record, seen.find)
    if seen.find(lives) is None:
        seen = evolve(seen, agents=(*seen.agents, observe_agent(lives, host.limits, host.workers)))
    return sighted(desired, record, seen)


def _see_also(seen: ObservedHost, places: tuple[HomeRef, ...], host: HostContext) -> ObservedHost:
    """Observe what an answer names and was not seen yet; nobody's control script is asked twice."""
    found = {place: agent for place in places if (agent := seen.find(place))}
    wanted = [place for place in places if place not in found]
    unseen = observe(wanted, host.limits, at=seen.at, workers=host.workers)
    known = dict(found)
    others = {place: agent for place, agent in found.items() if agent.place != place}
    if others:
        known |= reread(others, host.workers)
    spots = {place.key for place in places}
    rest = [agent for agent in seen.agents if agent.place.key not in spots]
    return evolve(seen, agents=(*known.values(), *unseen.agents, *rest))


def _views(
    agents: Iterable[DesiredAgent],
    picture: HostSnapshot,
    moment: EvaluationContext,
    host: HostContext,
    *,
    asks: bool = False,
) -> tuple[AgentEvaluation, ...]:
    """Each agent's view, by what is known without remote files. One agent's trouble is its own: where looking at it
    ends in what nobody expected, it is left alone. `asks`: whether remote files are asked in this pass."""

    def view_or_why_not(desired: DesiredAgent) -> AgentEvaluation:
        found = sighted(desired, picture.record(desired.name), picture.seen)
        try:
            return _view(found, picture, moment, host, asks=asks)
        except Exception as err:  # who acts writes it into the log; reading writes nothing
            return _broken_view(desired, found, err)

    return tuple(map(view_or_why_not, agents))


def _broken_view(desired: DesiredAgent, seen: AgentInputs, err: Exception) -> AgentEvaluation:
    nothing = Plan(name=desired.name, reason="InternalError", message=f"unexpected, please report it: {err!r}")
    return AgentEvaluation(
        desired=desired,
        observed=seen.observed,
        record=seen.record,
        findings=RemoteInputs(),
        target=Target(name=desired.name, run=RunState.OBSERVE),
        verdict=Held(plan=nothing, reason=nothing.reason, message=nothing.message, meanwhile=nothing),
        elsewhere=seen.elsewhere,
        broken=err,
    )


def _view(
    found: AgentInputs, picture: HostSnapshot, moment: EvaluationContext, host: HostContext, *, asks: bool
) -> AgentEvaluation:
    hold = picture.requests.hold_on(found.desired.name, moment.now)
    seen, news = settle_sighting(found, moment, host, held=hold is not None)
    there = seen.home(seen.desired.place)
    findings, _ = find_out(seen.desired, there, seen.record, None, lambda found: False)
    url = url_asked(seen.desired, there) if asks else None
    return evolve(_planned(seen, findings, moment, host, hold, asks=url), news=news)


def _planned(
    seen: AgentInputs,
    findings: RemoteInputs,
    moment: EvaluationContext,
    host: HostContext,
    hold: Hold | None,
    *,
    asks: str | None,
) -> AgentEvaluation:
    """Plan for one agent. Where its change needs something remote it is healed before that, and planned for as it is
    then."""
    view = evaluate_agent(seen, findings, moment, host.rules, hold)
    needs_remote = asks is not None or (isinstance(view.verdict, Plan) and view.verdict.fetches)
    heal = heal_of(seen, findings, moment, host.rules, hold) if needs_remote else None
    if heal is not None:
        view = view_healed(seen, findings, moment, host.rules, hold, heal)
    return evolve(view, hold=hold, asks=asks)


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
