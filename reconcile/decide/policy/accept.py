"""What this host allows: turn an answer's entries into accepted agents and refusals. Pure.

Names, users and paths from a server are checked here, once, for every source and for the stored state too, and never
interpreted. ops-meta decides what is wanted; the host decides what it accepts. A refusal names its rule.

A refused entry counts as no answer for its agent (docs/adr/0042): the one that was accepted last is served in its
place, to observe the agent, to report it, and to start what crashed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import suppress

from attrs import evolve

from probes.values import frozen
from reconcile.decide.desired import DesiredAgent, DesiredHost, Refusal, RuleViolation, RunState
from reconcile.decide.host_rules import bar_content, bar_name
from reconcile.decide.policy.clashes import find_clashes
from reconcile.decide.policy.content import artifact_of, config_of
from reconcile.decide.policy.inputs import Lookups, Policy, RuleBroken
from reconcile.decide.policy.names import check_name, escaped, is_name, is_user_name
from reconcile.decide.policy.who_and_where import accept_who_and_where, check_faults, wanted_user, work_dir_of
from reconcile.source import Answer, Entry, Malformed


def users_named(answer: Answer, policy: Policy, last_entries: tuple[Entry, ...] = ()) -> frozenset[str]:
    """The other users whose uids `accept` must know."""
    named = {wanted_user(entry, policy) for entry in (*answer.entries, *last_entries) if isinstance(entry, Entry)}
    named |= policy.restrictions.allow_users or frozenset()
    return frozenset(name for name in named - {policy.own_user} if is_user_name(name))


def homes_named(answer: Answer, policy: Policy, last_entries: tuple[Entry, ...] = ()) -> frozenset[str]:
    """The workDirs and homes of which `accept` must know where they lead."""
    found: set[str] = set()
    for entry in (*answer.entries, *last_entries):
        if isinstance(entry, Entry) and is_name(entry.name):
            with suppress(RuleBroken):
                work_dir = work_dir_of(entry, policy)
                found |= {work_dir, posixpath.join(work_dir, entry.name)}
    return frozenset(found)


def accept(answer: Answer, policy: Policy, lookups: Lookups, last_entries: tuple[Entry, ...] = ()) -> DesiredHost:
    """Check every entry by itself, then that no two share a home, or have one in the other's.

    `last_entries`: of each agent the one that was accepted last, as an earlier call returned them. It serves where
    that agent's entry is refused now.
    """
    agents: list[DesiredAgent] = []
    accepted: dict[str, Entry] = {}
    refused: list[Refusal] = []
    for entry in answer.entries:
        if isinstance(entry, Malformed):
            refused.append(_refusal(entry.name, RuleBroken("form", entry.message)))
        elif _is_for_us(entry.name.strip(), policy):
            try:
                agents.append(_accept_entry(entry, policy, lookups))
                accepted[entry.name] = _trimmed(entry)
            except RuleBroken as err:
                refused.append(_refusal(entry.name, err))
    live = _apart(agents, refused, find_clashes(agents, lookups))
    last = {entry.name: entry for entry in last_entries}
    live, standing_in = _stand_in(live, refused, _Last(answer=answer, policy=policy, lookups=lookups, entries=last))
    acceptable = last | {agent.name: accepted[agent.name] for agent in live}
    names = dict.fromkeys(entry.name.strip() for entry in answer.entries)
    return DesiredHost(
        agents=(*live, *standing_in),
        refused=tuple(refused),
        ruled_out=tuple(_ruled_out(answer, policy)),
        last_entries=tuple(acceptable[name] for name in names if name in acceptable),
    )


def _is_for_us(name: str, policy: Policy) -> bool:
    return policy.desired_agent in (None, name) and bar_name(name, policy.restrictions) is None


def _ruled_out(answer: Answer, policy: Policy) -> Iterator[Refusal]:
    for entry in answer.entries:
        name = entry.name.strip()
        if isinstance(entry, Entry) and (broken := bar_name(name, policy.restrictions)):
            yield _refusal(name, broken)


def _refusal(name: str, broken: RuleBroken | RuleViolation) -> Refusal:
    return Refusal(name=escaped(name), reason=broken.reason, rule=broken.rule, message=broken.message)


def _accept_entry(entry: Entry, policy: Policy, lookups: Lookups) -> DesiredAgent:
    agent = accept_who_and_where(entry, policy, lookups)
    if agent.run is not RunState.START:
        # To stop or to look on, nothing else of the entry is needed: a broken rest must not keep it from being obeyed.
        return agent
    check_faults(entry)
    check_name("version", entry.version)
    agent = evolve(
        agent,
        version=entry.version,
        artifact=artifact_of(entry, policy),
        config=config_of(entry, delivered=entry.name in lookups.delivered),
        rollout=entry.rollout,
    )
    return evolve(agent, barred=bar_content(agent, policy.restrictions))


def _trimmed(entry: Entry) -> Entry:
    """What is kept of an accepted entry: who, where and whether it is to run. What it is made of lies on the disk."""
    return Entry(
        name=entry.name, version=entry.version, cmd=entry.cmd, run_user=entry.run_user, work_dir=entry.work_dir
    )


@frozen(kw_only=True)
class _Last:
    """The entries that were accepted last, by their names, and all that judges them."""

    answer: Answer
    policy: Policy
    lookups: Lookups
    entries: Mapping[str, Entry]


def _stand_in(
    live: list[DesiredAgent], refused: list[Refusal], last: _Last
) -> tuple[list[DesiredAgent], list[DesiredAgent]]:
    """The agents that are served as entered now, and those as their last accepted entry has them.

    Where one of these lives, another entry may not lead: that one is refused, since what runs comes first. Two that
    were accepted at different times may get into each other's way: then neither is served.
    """
    while True:
        standing_in = _as_last_accepted(live, refused, last)
        clashes = find_clashes([*live, *standing_in], last.lookups)
        if not any(agent.name in clashes for agent in live):
            return live, [agent for agent in standing_in if agent.name not in clashes]
        live = _apart(live, refused, clashes)


def _as_last_accepted(live: list[DesiredAgent], refused: list[Refusal], last: _Last) -> list[DesiredAgent]:
    """The agents of which every entry is refused, as the one accepted last has them."""
    starts = _asked_to_start(last.answer)
    served = {agent.name for agent in live}
    found: dict[str, DesiredAgent | None] = {}
    for refusal in refused:
        name = refusal.name.strip()
        if name in last.entries and name not in served and name not in found:
            found[name] = _last_accepted(last.entries[name], refusal, last, starts=starts.get(name, False))
    return [agent for agent in found.values() if agent is not None]


def _asked_to_start(answer: Answer) -> dict[str, bool]:
    """Whether all that is said of an agent says start. An entry that can't be read says nothing of the kind."""
    starts_of: dict[str, bool] = {}
    for entry in answer.entries:
        starts = isinstance(entry, Entry) and entry.cmd == RunState.START.value
        name = entry.name.strip()
        starts_of[name] = starts_of.get(name, True) and starts
    return starts_of


def _last_accepted(entry: Entry, refusal: Refusal, last: _Last, *, starts: bool) -> DesiredAgent | None:
    """An agent as the entry accepted last has it, by today's rules of names, users and places; None: not at all.

    One that an operator has ruled out since is looked at as before, and not started any more.
    """
    policy = last.policy
    rules = evolve(policy.restrictions, allow_users=None, allow_work_dirs=None)
    try:
        agent = accept_who_and_where(entry, evolve(policy, restrictions=rules), last.lookups)
    except RuleBroken:
        return None
    try:
        accept_who_and_where(entry, policy, last.lookups)
    except RuleBroken:
        starts = False
    run = RunState.OBSERVE if agent.run is RunState.START and not starts else agent.run
    return evolve(
        agent, run=run, barred=RuleViolation(rule=refusal.rule, message=refusal.message, reason=refusal.reason)
    )


def _apart(agents: list[DesiredAgent], refused: list[Refusal], clashes: Mapping[str, str]) -> list[DesiredAgent]:
    """Refuse the agents that `clashes` names; return the others."""
    refused += [
        Refusal(name=agent.name, reason="InvalidSpec", rule="one_home", message=clashes[agent.name])
        for agent in agents
        if agent.name in clashes
    ]
    return [agent for agent in agents if agent.name not in clashes]
