"""The planner: diff a target against what is observed, and emit the ordered actions. Pure; no clock, record, log.

The order is the safety: fetch, verify, unpack, configure (all that can fail without touching the agent), then stop,
switch, start, and last prune. An unknown status alone never starts or stops anything.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from probes.observed import (
    PREVIOUS_CONFIG,
    STAGE_PREFIX,
    STAGED_CONFIG,
    Active,
    Evidence,
    HomeRef,
    ObservedAgent,
    Origin,
    ProcessState,
    Tree,
    find_version,
    next_name,
    old_name,
    previous_name,
)
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Plan,
    Prune,
    Start,
    Stop,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.decide.desired import RunState
from reconcile.decide.target import Target, differs


def plan_agent(target: Target, observed: ObservedAgent) -> Plan:
    """What is pending for one agent, and why. Empty actions: nothing; the reason still says why not."""
    if target.run is RunState.OBSERVE:
        return Plan(
            name=target.name, reason="ObserveOnly", message="cmd is empty: observed and reported, not acted upon"
        )
    if observed.blocked_by and not _ends_removed(target, observed):
        return Plan(name=target.name, reason=observed.blocked_reason, message=observed.blocked_by)
    plan = _plan_stop(target, observed) if target.run is RunState.STOP else _plan_start(target, observed)
    return _with_prune(plan, target, observed)


def _ends_removed(target: Target, observed: ObservedAgent) -> bool:
    """Whether what runs although its folder was removed may be ended: it is not the version that is to run."""
    return bool(observed.removed) and not (target.run is RunState.START and target.version == observed.removed)


def plan_move(target: Target, lives: ObservedAgent, there: ObservedAgent) -> Plan:
    """What is pending for an agent that is to run in another home than the one that it lives in. The same plan goes
    back."""
    left, into = lives.home, there.home
    if lives.blocked_by:
        return Plan(name=target.name, reason=lives.blocked_reason, message=f"in {left.work_dir}: {lives.blocked_by}")
    message = f"{_housed(lives.version_text or 'no version', left)} -> {_housed(target.version, into)}"
    if left.work_dir == into.work_dir:
        return Plan(name=target.name, reason="RunUserChanged", message=message)
    actions = _move(target, lives, there)
    return Plan(name=target.name, reason="WorkDirChanged", message=message, actions=actions)


def _move(target: Target, lives: ObservedAgent, there: ObservedAgent) -> tuple[Action, ...]:
    """Actions to another home.

    All that can fail is done in the new home first; then it is stopped in the old one, as its old user; the switch lets
    the new `.version` name a version and the old one none; and it is started in the new one. Of the home that it leaves
    only what interrupted steps of ours left is removed.
    """
    usual = _plan_start(target, evolve(there, active=_at_rest(there.active))).actions
    in_place = next((action for action in usual if isinstance(action, SwitchTree | SwitchConfig)), None)
    switch = in_place or SwitchVersion(from_version=lives.version_text, to=target.version)
    return (
        *(action for action in usual if isinstance(action, Fetch | Verify)),
        *(evolve(action, at=there.home) for action in usual if isinstance(action, Unpack | Configure)),
        *(evolve(stop, at=lives.home) for stop in _stop(lives.active, target)),
        MoveHome(switch=evolve(switch, at=there.home), leaves=lives.home),
        Start(version=target.version, at=there.home),
        *([Prune(names=tuple(sorted(lives.leftovers)), at=lives.home)] if lives.leftovers else ()),
    )


def _housed(version: str, home: HomeRef) -> str:
    return f"{version} in {home.work_dir} as {home.run_user}"


def _at_rest(active: Active | None) -> Active | None:
    """The version that another home names: whether it runs there is judged before, and no part of what is brought."""
    return None if active is None else evolve(active, process=ProcessState.STOPPED)


def _plan_stop(target: Target, observed: ObservedAgent) -> Plan:
    active = observed.active
    if observed.removed:
        actions = _stop_removed(observed, target)
        return Plan(name=target.name, reason="UnexpectedlyRunning", message=observed.blocked_by, actions=actions)
    if active is None:
        return Plan(name=target.name, reason="AsDesired", message="not installed, and not to run")
    match active.process:
        case ProcessState.STOPPED:
            return Plan(name=target.name, reason="AsDesired", message=f"{active.version} stopped")
        case ProcessState.UNKNOWN if not target.for_good:
            return _unknown(target, active)
        case ProcessState.UNKNOWN | ProcessState.RUNNING:  # pragma: no branch (mypy: there is no fourth)
            stop = Stop(version=active.version, never_up=target.never_up and target.for_good)
            message = f"{active.version} runs and must not"
            return Plan(name=target.name, reason="UnexpectedlyRunning", message=message, actions=(stop,))


def _plan_start(target: Target, observed: ObservedAgent) -> Plan:
    active = observed.active
    if active is None or active.version != target.version:
        return _plan_version(target, observed)
    if target.displaced:
        message = f"{active.version}: back to the tree that it replaced"
        return Plan(name=target.name, reason="DigestDiffers", message=message, actions=_put_back(target, observed))
    if differs(active, target.digests):
        message = f"{active.version}: same version, another tarball"
        return Plan(name=target.name, reason="DigestDiffers", message=message, actions=_replace(target, observed))
    if target.config is not None and target.config.digest != active.tree.config:
        return _plan_config(target, active)
    return _plan_process(target, active)


def _plan_version(target: Target, observed: ObservedAgent) -> Plan:
    """To another version than the one in use, or to a first one."""
    active, named = observed.active, observed.version_text
    if active is None and named is None:
        message, actions = f"install {target.version}", _change_version(target, observed)
        return Plan(name=target.name, reason="FirstInstall", message=message, actions=actions)
    if active is None and named == target.version:
        # A tree that appears under the name that `.version` holds is in use at once, whatever still has to be done to
        # it: so it is made aside and takes its place whole, as the rest of an interrupted replacement does.
        message, actions = f".version names {target.version}, which is not whole", _replace(target, observed)
    else:
        message = f"{named or 'no usable version'} -> {target.version}"
        actions = _change_version(target, observed)
    return Plan(name=target.name, reason="VersionDiffers", message=message, actions=actions)


def _plan_process(target: Target, active: Active) -> Plan:
    """To have the content in use run, which is the one wanted."""
    match active.process:
        case ProcessState.RUNNING:
            edited = "; its config was edited here and is left alone" if target.edited else ""
            return Plan(name=target.name, reason="AsDesired", message=f"{active.version} started{edited}")
        case ProcessState.UNKNOWN if not target.start_due:
            return _unknown(target, active)
        case ProcessState.UNKNOWN | ProcessState.STOPPED:  # pragma: no branch (mypy: there is no fourth)
            message = f"{active.version} does not run"
            return Plan(
                name=target.name, reason="NotRunning", message=message, actions=(Start(version=active.version),)
            )


def _unknown(target: Target, active: Active) -> Plan:
    said = active.status_output or "nothing"
    return Plan(name=target.name, reason="StatusUnknown", message=f"control status of {active.version} says: {said}")


def _change_version(target: Target, observed: ObservedAgent) -> tuple[Action, ...]:
    """Actions to another version than the one in use, or to a first one."""
    staged = find_version(observed.staged, target.version)
    usable = _serves(staged, target)
    return (
        *(() if usable else _bring(target, target.version)),
        *_configure(target, staged if usable else None, target.version),
        *(_stop_removed(observed, target) or _stop(observed.active, target)),
        SwitchVersion(from_version=None if observed.active is None else observed.active.version, to=target.version),
        Start(version=target.version),
    )


def _replace(target: Target, observed: ObservedAgent) -> tuple[Action, ...]:
    """Actions to other content under the version that `.version` names: staged beside it, then exchanged."""
    staged = find_version(observed.next, target.version)
    usable = _serves(staged, target)
    directory = next_name(target.version)
    return (
        *(() if usable else _bring(target, directory)),
        *_configure(target, staged if usable else None, directory),
        *(_stop_removed(observed, target) or _stop(observed.active, target)),
        SwitchTree(version=target.version),
        Start(version=target.version),
    )


def _put_back(target: Target, observed: ObservedAgent) -> tuple[Action, ...]:
    """Actions to the tree that the one in use displaced."""
    is_named_so = find_version(observed.previous, target.version) is not None
    return (
        *_stop(observed.active, target),
        SwitchTree(version=target.version, previous=is_named_so),
        Start(version=target.version),
    )


def _plan_config(target: Target, active: Active) -> Plan:
    assert target.config is not None
    actions: tuple[Action, ...] = (
        Configure(name=target.config.name, digest=target.config.digest, directory=None),
        *(evolve(stop, adopt=False) for stop in _stop(active, target)),
        SwitchConfig(version=active.version, name=target.config.name, digest=target.config.digest),
        Start(version=active.version),
    )
    message = f"{target.config.name} changed at the server"
    return Plan(name=target.name, reason="ConfigDiffers", message=message, actions=actions)


def _serves(tree: Tree | None, target: Target) -> bool:
    """Whether a tree on disk can be used as it is: it must be known by every digest that the target names, and where a
    signature is asked for, one of a key that is trusted today must have been verified before it was unpacked."""
    if tree is None or not {str(digest) for digest in target.digests} <= tree.digests:
        return False
    return target.signing is None or tree.signed_by in target.signing.keys


def _bring(target: Target, directory: str) -> tuple[Action, ...]:
    return (
        Fetch(url=target.url, version=target.version, digests=target.digests, signing=target.signing),
        Verify(digests=target.digests, signing=target.signing),
        Unpack(
            version=target.version, directory=directory, url=target.url, digests=target.digests, signing=target.signing
        ),
    )


def _configure(target: Target, tree: Tree | None, directory: str) -> tuple[Action, ...]:
    if target.config is None or (tree is not None and tree.config == target.config.digest):
        return ()
    return (Configure(name=target.config.name, digest=target.config.digest, directory=directory),)


def _stop(active: Active | None, target: Target) -> tuple[Stop, ...]:
    """Stop whatever is not known to be stopped; a tree without a marker that was seen running is marked first."""
    if active is None or active.process is ProcessState.STOPPED:
        return ()
    adopt = active.process is ProcessState.RUNNING and active.tree.origin is Origin.FOREIGN
    never_up = target.never_up and active.process is ProcessState.UNKNOWN
    return (Stop(version=active.version, adopt=adopt, never_up=never_up, for_good=target.for_good),)


def _stop_removed(observed: ObservedAgent, target: Target) -> tuple[Stop, ...]:
    """End a version whose folder was removed while it ran."""
    return (Stop(version=observed.removed, removed=True, for_good=target.for_good),) if observed.removed else ()


def _with_prune(plan: Plan, target: Target, observed: ObservedAgent) -> Plan:
    """Add the removal of what nothing needs any more; not while the status can't be understood."""
    if not target.prune or plan.reason == "StatusUnknown":
        return plan
    names = _unneeded(plan, target, observed)
    again = names & target.stuck
    if not names - again:
        return plan
    prune = Prune(names=tuple(sorted(names - again)), again=tuple(sorted(again)))
    return evolve(plan, actions=(*plan.actions, prune))


def _unneeded(plan: Plan, target: Target, observed: ObservedAgent) -> set[str]:
    """The names in a home that nothing needs once the plan was carried out."""
    unpacked = {action.directory for action in plan.actions if isinstance(action, Unpack)}
    replaces = {action.version for action in plan.actions if isinstance(action, SwitchTree)}
    # Of an interrupted replacement that isn't finished now, its two trees are all that is left of the version in use.
    halfway = observed.version_text if observed.active is None and not plan.touches_agent else None
    names = _unused(observed.leftovers, plan, replaces)
    names |= {next_name(tree.version) for tree in observed.next if tree.version not in replaces | {halfway}}
    if plan.switch is None:
        names |= _displaced(observed, halfway) | _beyond_retention(target, observed)
    return names - unpacked


def _unused(leftovers: frozenset[str], plan: Plan, replaces: set[str]) -> set[str]:
    """The leftovers that a plan neither takes up (a staged config, and what a displaced tree takes the place of) nor
    sweeps by itself, as what is unpacked sweeps all stages."""
    sweeps = any(isinstance(action, Unpack) for action in plan.actions)
    stages_config = any(isinstance(action, Configure) and action.directory is None for action in plan.actions)
    used = {previous_name(version) for version in replaces} | ({STAGED_CONFIG} if stages_config else set())
    return {name for name in leftovers - used if not (sweeps and name.startswith(STAGE_PREFIX))}


def _displaced(observed: ObservedAgent, halfway: str | None) -> set[str]:
    """What was in use before a switch: it stays until the new content is confirmed, since it is the way back."""
    trees = {previous_name(tree.version) for tree in observed.previous if tree.version != halfway}
    return trees | ({PREVIOUS_CONFIG} if observed.previous_config is not None else set())


def _beyond_retention(target: Target, observed: ObservedAgent) -> set[str]:
    keep = target.keep
    return set() if keep is None else {tree.version for tree in observed.staged if tree.version not in keep}


def world_after(observed: ObservedAgent, action: Action) -> ObservedAgent:
    """The model of success: what is observed once `action` succeeded. Tests hold every real step against it."""
    match action:
        case Fetch() | Verify():
            return observed
        case Unpack():
            return _after_unpack(observed, action)
        case Configure():
            return _after_configure(observed, action)
        case Stop():
            return _after_stop(observed, action)
        case MoveHome():
            return world_after(observed, action.switch)
        case SwitchVersion():
            return _after_version(observed, action)
        case SwitchTree():
            return _after_exchange(observed, action)
        case SwitchConfig():
            return _after_config(observed, action)
        case Start():
            return _with_process(observed, ProcessState.RUNNING)
        case Prune():
            return _after_prune(observed, {*action.names, *action.again})
        case _:
            assert_never(action)


def home_left(observed: ObservedAgent) -> ObservedAgent:
    """The home that a move left: no version is in use there, and all versions stay."""
    old = observed.active
    staged = observed.staged
    if old is not None and old.tree.origin is not Origin.FOREIGN:
        staged |= {old.tree}
    return evolve(observed, version_text=None, active=None, staged=staged)


def _with_process(observed: ObservedAgent, process: ProcessState) -> ObservedAgent:
    assert observed.active is not None
    return evolve(observed, active=evolve(observed.active, process=process, status_output=process.value))


def _after_unpack(observed: ObservedAgent, action: Unpack) -> ObservedAgent:
    # Which of the keys has signed is known only then; any of them serves.
    signed_by = None if action.signing is None else min(action.signing.keys)
    digests = frozenset(str(digest) for digest in action.digests)
    made = Tree(version=action.version, digests=digests, signed_by=signed_by)
    swept = frozenset(name for name in observed.leftovers if not name.startswith(STAGE_PREFIX))
    if action.directory == action.version:
        return evolve(observed, staged=_put(observed.staged, made), leftovers=swept)
    return evolve(observed, next=_put(observed.next, made), leftovers=swept - {action.directory})


def _after_configure(observed: ObservedAgent, action: Configure) -> ObservedAgent:
    if action.directory is None:
        assert observed.active is not None
        in_use = observed.active.tree.config
        displaced = observed.previous_config if observed.previous_config == action.digest else in_use
        return evolve(observed, leftovers=observed.leftovers | {STAGED_CONFIG}, previous_config=displaced)

    def configured(trees: frozenset[Tree], directory: Callable[[str], str]) -> frozenset[Tree]:
        return frozenset(
            evolve(tree, config=action.digest) if directory(tree.version) == action.directory else tree
            for tree in trees
        )

    return evolve(observed, staged=configured(observed.staged, str), next=configured(observed.next, next_name))


def _after_stop(observed: ObservedAgent, action: Stop) -> ObservedAgent:
    if action.removed:
        return evolve(observed, blocked_by="", evidence=Evidence.UNSEEN, removed="")
    stopped = _with_process(observed, ProcessState.STOPPED)
    assert stopped.active is not None
    if not action.adopt:
        return stopped
    tree = evolve(stopped.active.tree, origin=Origin.ADOPTED)
    return evolve(stopped, active=evolve(stopped.active, tree=tree))


def _after_config(observed: ObservedAgent, action: SwitchConfig) -> ObservedAgent:
    assert observed.active is not None
    active = _stopped(evolve(observed.active.tree, config=action.digest))
    return evolve(observed, leftovers=observed.leftovers - {STAGED_CONFIG}, active=active)


def _after_version(observed: ObservedAgent, action: SwitchVersion) -> ObservedAgent:
    old = observed.active
    if old is not None and old.version == action.to:
        return evolve(observed, active=_stopped(old.tree))  # another home, whose `.version` named it already
    new = find_version(observed.staged, action.to)
    assert new is not None
    staged = observed.staged - {new}
    if old is not None and old.tree.origin is not Origin.FOREIGN:
        staged |= {old.tree}
    return evolve(observed, version_text=action.to, active=_stopped(new), staged=staged)


def _after_exchange(observed: ObservedAgent, action: SwitchTree) -> ObservedAgent:
    old = observed.active
    new = find_version(observed.previous if action.previous else observed.next, action.version)
    assert new is not None
    previous, leftovers = observed.previous - {new}, observed.leftovers
    if old is not None:
        former = previous_name(action.version)
        there = former in leftovers or find_version(previous, action.version) is not None
        if there and not action.previous:
            leftovers |= {old_name(former)}
        previous, leftovers = _put(previous, old.tree), leftovers - {former}
    next_trees = observed.next - {new}
    return evolve(observed, active=_stopped(new), next=next_trees, previous=previous, leftovers=leftovers)


def _after_prune(observed: ObservedAgent, gone: set[str]) -> ObservedAgent:
    return evolve(
        observed,
        leftovers=observed.leftovers - gone,
        next=frozenset(tree for tree in observed.next if next_name(tree.version) not in gone),
        previous=frozenset(tree for tree in observed.previous if previous_name(tree.version) not in gone),
        staged=frozenset(tree for tree in observed.staged if tree.version not in gone),
        previous_config=None if PREVIOUS_CONFIG in gone else observed.previous_config,
    )


def _stopped(tree: Tree) -> Active:
    return Active(tree=tree, process=ProcessState.STOPPED, status_output=ProcessState.STOPPED.value)


def _put(trees: frozenset[Tree], tree: Tree) -> frozenset[Tree]:
    return frozenset(other for other in trees if other.version != tree.version) | {tree}
