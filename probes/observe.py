"""Build the observed-state model: each user's homes looked at as that user, all users side by side.

Looking is home.py's; this brings it to the right user, and checks what another user's child says of its homes before
anything believes it. A user that we can't become is trouble of that user's agents alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from attrs import evolve

from probes.errors import PolicyRefused, Unreadable, UpdaterError, WorkerLost
from probes.home import StatusLimits, home_of, probe_homes, read_homes
from probes.host import home_reader, process_title
from probes.host.control_script import ScriptResult
from probes.host.facts import find_user
from probes.host.output_capture import TAIL_LIMIT
from probes.host.remote_mounts import silent_on
from probes.host.trusted_path import why_home_refused
from probes.observed import Active, HomeRef, ObservedAgent, ObservedHost, ProcessState, Tree, is_reserved
from probes.text import sanitize
from probes.worker.pool import AT_ONCE, WorkerPool, is_us, run_per_user

# The homes of one user, beside their scripts: a child that goes on and on delays the pass of all.
_READING_S, _READING_EACH_S = 5.0, 0.1
_CONFIG = re.compile(r"unreadable:|sha256:[0-9a-f]{64}")
_TEXT, _VERSION_TEXT = 2000, 64
_MANY = 4096  # names in a home
_BLOCKED_REASONS = (Unreadable.reason, PolicyRefused.reason)
_HIGHEST_CODE = 255  # of an exit; signals are fewer


def observe(
    homes: Iterable[HomeRef], limits: StatusLimits, *, at: float, workers: WorkerPool | None = None
) -> ObservedHost:
    """Look at all `homes` now. Expected trouble of one is part of what is seen there, never an exception.

    `workers`: whose children look at other users' homes; None: they live for this call.
    """
    homes = tuple(homes)
    process_title.hide(home.name for home in homes)
    silent = silent_on(home.path for home in homes)
    asked = tuple(home for home in homes if home.path not in silent)
    users = min(len({home.run_user for home in asked}), AT_ONCE)
    share = evolve(limits, at_once=max(1, limits.at_once // max(1, users)))

    def observe_as(run_user: str, its: tuple[HomeRef, ...], used: WorkerPool) -> dict[HomeRef, ObservedAgent]:
        return _observe_as(run_user, its, share, used)

    found = _as_each_user(asked, observe_as, workers)
    found |= {home: _on_silent(home, silent[home.path]) for home in homes if home.path in silent}
    return ObservedHost(at=at, agents=tuple(found[home] for home in homes))


def _on_silent(home: HomeRef, mount: str) -> ObservedAgent:
    return _unseen(
        home,
        Unreadable(
            f"{home.path} can't be looked at: the file system at {sanitize(mount)} does not answer; is its server up? "
            "Nothing is done for this agent until it does"
        ),
    )


def observe_agent(home: HomeRef, limits: StatusLimits, workers: WorkerPool | None = None) -> ObservedAgent:
    """Look at one home now."""
    return observe([home], limits, at=0.0, workers=workers).agents[0]


def reread(seen: Mapping[HomeRef, ObservedAgent], workers: WorkerPool | None = None) -> dict[HomeRef, ObservedAgent]:
    """The same agents with the digests of the config files that these homes name, without asking their control scripts
    again. What changed meanwhile, or can't be read, is left for the next pass."""
    in_use = tuple(home for home, agent in seen.items() if agent.active is not None)
    fresh = _as_each_user(in_use, _reread_as, workers)
    return {home: _with_config(agent, home, fresh.get(home)) for home, agent in seen.items()}


def _as_each_user(
    homes: tuple[HomeRef, ...],
    work: Callable[[str, tuple[HomeRef, ...], WorkerPool], dict[HomeRef, ObservedAgent]],
    workers: WorkerPool | None,
) -> dict[HomeRef, ObservedAgent]:
    """What `work` sees of each user's homes, as that user, and as several users side by side."""
    by_user: dict[str, list[HomeRef]] = {}
    for home in homes:
        by_user.setdefault(home.run_user, []).append(home)
    used = workers if workers is not None else WorkerPool()
    try:
        seen = run_per_user(by_user, lambda run_user: work(run_user, tuple(by_user[run_user]), used))
    finally:
        if workers is None:
            used.end()
    return {home: agent for one in seen.values() for home, agent in one.items()}


def _reread_as(run_user: str, homes: tuple[HomeRef, ...], workers: WorkerPool) -> dict[HomeRef, ObservedAgent]:
    try:
        fresh = workers.of(run_user, _READING_S + _READING_EACH_S * len(homes)).do(read_homes, homes)
    except UpdaterError:
        return {}
    found = {}
    for home, read in zip(homes, fresh, strict=False):  # of a liar fewer, and they are checked
        with suppress(UpdaterError):
            in_use = None if read.in_use is None else Active(tree=read.in_use, process=ProcessState.UNKNOWN)
            agent = evolve(read.agent, active=in_use)  # not asked how it is
            found[home] = agent if is_us(run_user) else _believed(agent, home)
    return found


def _with_config(agent: ObservedAgent, home: HomeRef, fresh: ObservedAgent | None) -> ObservedAgent:
    active = None if fresh is None else fresh.active
    if fresh is None or agent.active is None or active is None or active.version != agent.active.version:
        return evolve(agent, home=home)
    return evolve(fresh, active=evolve(agent.active, tree=active.tree))


def _observe_as(
    run_user: str, homes: tuple[HomeRef, ...], limits: StatusLimits, workers: WorkerPool
) -> dict[HomeRef, ObservedAgent]:
    # Where nothing is in use all versions are asked, a few each: their number is only known there.
    rounds = 1 + 4 * len(homes) // limits.at_once
    limit_s = _READING_S + _READING_EACH_S * len(homes) + rounds * (limits.limit_s + 6)
    try:
        seen = workers.of(run_user, limit_s).do(probe_homes, homes, limits)
        if len(seen) != len(homes):
            raise WorkerLost(f"what works as {run_user} looked at {len(seen)} homes, expected {len(homes)}")
        if is_us(run_user):
            return dict(zip(homes, seen, strict=True))
        return {
            home: _with_home_refusal(_checked(agent, home), limits.homes_allowed_below)
            for home, agent in zip(homes, seen, strict=True)
        }
    except UpdaterError as err:
        return {home: _unseen(home, err) for home in homes}


def _with_home_refusal(agent: ObservedAgent, allowed: tuple[str, ...]) -> ObservedAgent:
    """Add why root may not make the home of another user, where that user itself can't."""
    if not agent.no_home or os.geteuid() != 0 or not os.path.isdir(agent.home.work_dir):
        return agent
    why = why_home_refused(home_of(agent.home), find_user(agent.home.run_user).uid, allowed)
    return evolve(agent, no_home=sanitize(why)[:_TEXT], no_home_reason=PolicyRefused.reason)


def _unseen(home: HomeRef, err: UpdaterError) -> ObservedAgent:
    return ObservedAgent(home=home, blocked_by=err.message, blocked_reason=err.reason)


def _checked(agent: ObservedAgent, home: HomeRef) -> ObservedAgent:
    try:
        return _believed(agent, home)
    except WorkerLost as err:
        return _unseen(home, err)


# --- what another user's child says is only as good as its form ---


def believed_call(result: ScriptResult, run_user: str) -> ScriptResult:
    """How a control call of this user went, if it can have gone so. Raise WorkerLost where it can't."""
    if is_us(run_user):
        return result
    sound = (
        (result.code is None or 0 <= result.code <= _HIGHEST_CODE)
        and len(result.output) <= TAIL_LIMIT
        and result.error.isprintable()
        and len(result.error) <= _TEXT
    )
    if not sound:
        raise WorkerLost(f"what works as {run_user} says of a control script what can't be")
    return result


def _believed(agent: ObservedAgent, home: HomeRef) -> ObservedAgent:
    """What was seen, if it can be what we would have seen ourselves. Raise WorkerLost where it can't."""
    sound = (
        agent.home == home
        and _are_trees_sound(agent)
        and _are_texts_sound(agent)
        and agent.no_home_reason == "WorkDirMissing"
        and agent.blocked_reason in _BLOCKED_REASONS  # another is ours alone to give
        and (agent.previous_config is None or _CONFIG.fullmatch(agent.previous_config) is not None)
    )
    if not sound:
        raise WorkerLost(f"what works as {home.run_user} says of {home_of(home).path} what can't be")
    return agent


def _are_trees_sound(agent: ObservedAgent) -> bool:
    trees = [*agent.staged, *agent.next, *agent.previous, *([agent.active.tree] if agent.active else [])]
    return (
        len(trees) + len(agent.leftovers) <= _MANY
        and all(map(_is_sound, trees))
        and all(is_reserved(name) and name.isprintable() and "/" not in name for name in agent.leftovers)
    )


def _are_texts_sound(agent: ObservedAgent) -> bool:
    version, output = agent.version_text or "", agent.active.status_output if agent.active else ""
    texts = (agent.blocked_by, agent.no_home, version, output)
    return (
        all(text.isprintable() and len(text) <= _TEXT for text in texts)
        and len(version) <= _VERSION_TEXT
        and (not agent.removed or (home_reader.is_version(agent.removed) and bool(agent.blocked_by)))
    )


def _is_sound(tree: Tree) -> bool:
    return (
        home_reader.is_version(tree.version)
        and all(home_reader.is_digest(digest) for digest in tree.digests)
        and (tree.signed_by is None or home_reader.is_key(tree.signed_by))
        and (tree.config is None or _CONFIG.fullmatch(tree.config) is not None)
    )
