"""What remote files say of agents, asked side by side: configs, and digest files unless a change waits anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.assess.pass_context import HostContext
from reconcile.decide.admission import waits
from reconcile.decide.evaluate import AgentEvaluation, not_yet
from reconcile.decide.target import RemoteInputs, target_for
from reconcile.decide.timing.fetch_slot import waits_for_its_slot
from reconcile.net.remote_files import (
    ConfigSource,
    Keep,
    Question,
    RemoteFileReader,
    ask_side_by_side,
    is_in_place,
    known_inputs,
    question,
    with_config,
    with_digest,
    with_known_digest,
)


@frozen(kw_only=True)
class RemoteAnswer:
    """What remote files say of an agent. `content`: reads its config's bytes, where they were fetched. `broken`: the
    unexpected error that ended the asking."""

    inputs: RemoteInputs = RemoteInputs()
    content: ConfigSource = None
    broken: Exception | None = None


def ask_remote_files(
    host: HostContext,
    views: Iterable[AgentEvaluation],
    answered: Callable[[str, RemoteAnswer], None],
    keep: Keep = lambda content: None,
) -> None:
    """Begin to ask the remote files of agents, and return. `answered` is called in other threads, once for each."""
    remote = RemoteFileReader(host.http, keep=keep)

    def of(view: AgentEvaluation) -> Question:
        def ask() -> None:
            try:
                answer = _ask(host, view, remote)
            except Exception as err:
                answer = RemoteAnswer(broken=err)
            answered(view.desired.name, answer)

        return question(view.asks or "", ask)

    ask_side_by_side([of(view) for view in views])


def _ask(host: HostContext, view: AgentEvaluation, remote: RemoteFileReader) -> RemoteAnswer:
    """The config first, since it is part of what a change would bring; then the digest file."""
    desired, record, there = view.desired, view.record, view.agent_inputs.seen_in(view.desired.home)
    found, content = with_config(known_inputs(desired, record), desired, there, record, remote)
    if desired.artifact is None or desired.artifact.digest_url is None or is_in_place(desired, there):
        return RemoteAnswer(inputs=found, content=content)
    known = with_known_digest(found, desired, record)
    if known is not None and _is_deferred(host, view, there, known):
        return RemoteAnswer(inputs=known, content=content)
    return RemoteAnswer(inputs=with_digest(found, desired, record, remote), content=content)


def _is_deferred(host: HostContext, view: AgentEvaluation, there: ObservedAgent, known: RemoteInputs) -> bool:
    """Whether a change to what is known now would not be made in this pass anyway."""
    desired, record, rules, now = view.desired, view.record, host.rules, host.clock()
    if view.hold is not None or record is None:
        return view.hold is not None
    target = target_for(desired, record, there, known, keep=rules.keep)
    if not_yet(desired, there, target, rules) or (rules.windows is not None and not rules.windows.is_open(now)):
        return True
    wanted = target.content
    is_held_back = waits(record, wanted, now, rules.quarantine_for, desired.home)
    return is_held_back or waits_for_its_slot(record, wanted, rules.splay, now)
