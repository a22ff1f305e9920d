"""Worlds in one line, for the tests of the pure core: what is seen, what is asked, what is remembered.

    seen("1.0=A started; staged 2.0=B+c1; next 1.0; previous 1.0?; kept c0; left .stage-x")
    wish("start 2.0=A+c1")    wish("stop")    wish("observe")    remembered("c1 1.0>2.0")

A tree is `VERSION[=DIGESTS][?|~][+CONFIG]`: `?` is foreign (no marker), `~` adopted. `names` is what `.version` says
where nothing usable has that name, `kept` a config that a change displaced. `legal` and `torn` are the tests' own
judgement of an action, and know no planner. Whole passes over such worlds, with failures, are in lives.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import evolve, frozen

from probes.observed import (
    MARKER,
    PREVIOUS_CONFIG,
    STAGED_CONFIG,
    Active,
    HomeRef,
    ObservedAgent,
    Origin,
    ProcessState,
    Tree,
    next_name,
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
    Switch,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.decide.desired import Artifact, DesiredAgent, DesiredConfig, Digest, Md5, RunState, Sha256
from reconcile.decide.planner import plan_agent, world_after
from reconcile.decide.records.changes import record_for, remember_config, remember_use
from reconcile.decide.records.content import NO_CONFIG, ConfigMemory, Content
from reconcile.decide.records.record import AgentRecord, PendingUpgrade
from reconcile.decide.target import RemoteInputs, Target, target_for
from reconcile.decide.upgrade.events import Observed, StartConfirmed, SwitchStarted
from reconcile.decide.upgrade.table import advance

NAME, WORK_DIR, USER = "falcon-agent", "/home/falcon/agents", "falcon"
URL, CONFIG_NAME, CONFIG_URL = "http://meta/falcon", "cfg.json", "http://meta/cfg.json"
PLACE = HomeRef(name=NAME, work_dir=WORK_DIR, run_user=USER, config_name=CONFIG_NAME)
DIGESTS: dict[str, Digest] = {
    "A": Md5("a" * 32),
    "B": Md5("b" * 32),
    "S": Sha256("5" * 64),
    "T": Sha256("7" * 64),
}
NOW, WATCH, BOOT = 1_000_000.0, 30.0, "this boot"
KEEP = 99  # no version is pruned, but where a test is about that
ORDER = ("fetch", "verify", "unpack", "configure", "stop", "switch", "start", "prune")

_TREE = re.compile(r"(?P<version>[^=+?~]+)(?:=(?P<digests>[A-Z]+))?(?P<origin>[?~])?(?:\+(?P<config>\w+))?")
_ORIGINS = {"?": Origin.FOREIGN, "~": Origin.ADOPTED, None: Origin.UNPACKED}


@frozen(kw_only=True)
class Wish:
    """What the server asks, and what its files say."""

    desired: DesiredAgent
    remote: RemoteInputs


@frozen
class Life:
    """An agent and what is remembered of it: all that outlives a crash."""

    observed: ObservedAgent
    record: AgentRecord | None


def config_digest(word: str) -> str:
    return f"sha256:{word}"


def tree(text: str) -> Tree:
    match = _TREE.fullmatch(text)
    assert match is not None, text
    return Tree(
        version=match["version"],
        origin=_ORIGINS[match["origin"]],
        digests=frozenset(str(DIGESTS[letter]) for letter in match["digests"] or ""),
        config=None if match["config"] is None else config_digest(match["config"]),
    )


def seen(text: str) -> ObservedAgent:
    agent = ObservedAgent(home=PLACE)
    for part in filter(None, (part.strip() for part in text.split(";"))):
        word, _, rest = part.partition(" ")
        match word:
            case "names":
                agent = evolve(agent, version_text=rest)
            case "staged":
                agent = evolve(agent, staged=agent.staged | {tree(rest)})
            case "next":
                agent = evolve(agent, next=agent.next | {tree(rest)})
            case "previous":
                agent = evolve(agent, previous=agent.previous | {tree(rest)})
            case "kept":
                agent = evolve(agent, previous_config=config_digest(rest))
            case "left":
                agent = evolve(agent, leftovers=agent.leftovers | {rest})
            case "stray":
                agent = evolve(agent, blocked_by=rest)
            case _:
                active = Active(tree=tree(word), process=ProcessState(rest), status_output=rest)
                agent = evolve(agent, version_text=active.version, active=active)
    return agent


def wish(text: str) -> Wish:
    verb, _, content = text.partition(" ")
    run = {"start": RunState.START, "stop": RunState.STOP, "observe": RunState.OBSERVE}[verb]
    desired = DesiredAgent(name=NAME, run=run, work_dir=WORK_DIR, run_user=USER)
    if run is not RunState.START:
        return Wish(desired=desired, remote=RemoteInputs())
    match = _TREE.fullmatch(content)
    assert match is not None, content
    digests = frozenset(DIGESTS[letter] for letter in match["digests"] or "")
    desired = evolve(
        desired,
        version=match["version"],
        artifact=Artifact(url=URL, digests=digests),
        config=None if match["config"] is None else DesiredConfig(name=CONFIG_NAME, url=CONFIG_URL),
    )
    config = None if match["config"] is None else memory(match["config"])
    return Wish(desired=desired, remote=RemoteInputs(digests=digests, config=config))


def memory(word: str) -> ConfigMemory:
    return ConfigMemory(name=CONFIG_NAME, url=CONFIG_URL, digest=config_digest(word))


def content(text: str, *, config: str | None = None) -> Content:
    """`VERSION[=DIGESTS][+CONFIG]`. `config`: what is said of it where the text names none."""
    found = tree(text)
    return Content(version=found.version, digests=found.digests, config=found.config or config)


def record(**fields: Any) -> AgentRecord:
    return AgentRecord(**{"name": NAME, "work_dir": WORK_DIR, "run_user": USER, **fields})


def remembered(text: str) -> AgentRecord | None:
    """`none`: no record; `new`: nothing of a config; `bare`: none was wanted; else the config. Then an open switch, and
    after `; told` the versions that were stopped by cmd."""
    text, _, stopped = text.partition("; told ")
    what, _, switch = text.partition(" ")
    if what == "none":
        return None
    config = {"new": None, "bare": NO_CONFIG}.get(what, memory(what))
    begun = None
    if switch:
        old, _, new = switch.partition(">")
        begun = PendingUpgrade(to=content(new), before=content(old) if old else None, at=NOW, boot=BOOT)
    return record(config=config, confirmation=begun, told_to_stop=tuple(stopped.split()))


def target_at(wanted: Wish, life: Life, *, keep: int = KEEP) -> Target:
    return target_for(wanted.desired, life.record, life.observed, wanted.remote, keep=keep)


def types(plan: Plan) -> str:
    return " ".join(action.type for action in plan.actions)


def through(observed: ObservedAgent, actions: Iterable[Action]) -> ObservedAgent:
    """The world after actions that all succeed; AssertionError at one that is not legal there."""
    for action in actions:
        problem = legal(observed, action)
        assert not problem, f"{action}: {problem}, in {observed}"
        observed = world_after(observed, action)
    return observed


def legal(observed: ObservedAgent, action: Action) -> str:
    """Why an action must not be tried in this world; empty: it may."""
    active = observed.active
    match action:
        case Fetch() | Verify():
            return ""
        case Unpack():
            named = observed.version_text == action.directory
            return "the tree of the version in use is written over" if named else ""
        case Configure(directory=None):
            return "" if active is not None else "no version is in use"
        case Configure():
            names = {t.version for t in observed.staged} | {next_name(t.version) for t in observed.next}
            return "" if action.directory in names else "no such tree, or it is in use"
        case Stop():
            if active is None or active.version != action.version:
                return "it is not in use"
            return "stopped already" if active.process is ProcessState.STOPPED else ""
        case SwitchVersion() | SwitchTree() | SwitchConfig():
            return _illegal_switch(observed, action)
        case MoveHome():
            return _illegal_switch(observed, action.switch)
        case Start():
            if active is None or active.version != action.version:
                return "it is not in use"
            return "a second copy is started" if active.process is ProcessState.RUNNING else ""
        case Prune():
            return "nothing is removed" if not action.names else ""
        case _:
            assert_never(action)


def _illegal_switch(observed: ObservedAgent, action: SwitchVersion | SwitchTree | SwitchConfig) -> str:
    active = observed.active
    if active is not None and active.process is not ProcessState.STOPPED:
        return "a switch under a live process"
    in_use = None if active is None else active.version
    if in_use != action.from_version and not isinstance(action, SwitchTree):
        return "it comes from another version"
    match action:
        case SwitchConfig():
            return "" if STAGED_CONFIG in observed.leftovers else "no config lies ready"
        case SwitchTree():
            trees = observed.previous if action.previous else observed.next
        case SwitchVersion():
            trees = observed.staged
        case _:
            assert_never(action)
    return "" if any(tree.version == action.to for tree in trees) else "no whole tree lies ready"


def torn(observed: ObservedAgent, action: Action) -> Iterator[ObservedAgent]:
    """The worlds that a crash amid an action may leave, neither the one before it nor the one after it."""
    active = observed.active
    match action:
        case Unpack():
            yield _littered(observed, ".stage-torn")
            aside = _littered(observed, f".stage-old-{action.directory}")
            if any(t.version == action.directory for t in observed.staged):
                yield evolve(aside, staged=frozenset(t for t in aside.staged if t.version != action.directory))
            if any(next_name(t.version) == action.directory for t in observed.next):
                yield evolve(aside, next=frozenset(t for t in aside.next if next_name(t.version) != action.directory))
        case Stop():
            assert active is not None
            if action.adopt:
                active = evolve(active, tree=evolve(active.tree, origin=Origin.ADOPTED))
                yield evolve(observed, active=active)
            yield evolve(observed, active=evolve(active, process=ProcessState.UNKNOWN, status_output="stopping"))
        case SwitchTree(previous=True):
            assert active is not None
            yield from _torn_way_back(observed, active, action.version)
        case SwitchTree():
            if active is not None:
                yield from _torn_exchange(observed, active, action.version)
        case MoveHome():
            yield from torn(observed, action.switch)
        case SwitchVersion() | SwitchConfig():
            yield _littered(observed, ".stage-.version-torn")
        case Start():
            assert active is not None
            yield evolve(observed, active=evolve(active, process=ProcessState.UNKNOWN, status_output="starting"))
        case Prune():
            for name in action.names:
                yield world_after(observed, Prune(names=(name,)))
                if name in observed.leftovers or not name.startswith((next_name(""), previous_name(""))):
                    continue
                # The marker goes first, and without it a replacement is none.
                yield _littered(world_after(observed, Prune(names=(name,))), name)
        case Configure(directory=None):
            yield _littered(observed, STAGED_CONFIG)
            if observed.previous_config != action.digest:
                yield evolve(_littered(observed, STAGED_CONFIG), previous_config=None)
        case _:
            return


def _torn_exchange(observed: ObservedAgent, active: Active, version: str) -> Iterator[ObservedAgent]:
    new = next(t for t in observed.next if t.version == version)
    bare = evolve(observed, previous=frozenset(t for t in observed.previous if t.version != version))
    yield bare
    # Exchanged, and the displaced tree not yet renamed; one without a marker is no whole replacement.
    other = observed.next - {new}
    stopped = evolve(bare, active=Active(tree=new, process=ProcessState.STOPPED, status_output="stoped"), next=other)
    if active.tree.origin is Origin.FOREIGN:
        yield _littered(stopped, next_name(version))
    else:
        yield evolve(stopped, next=other | {active.tree})
    # Where the kernel can't exchange: between the two renames.
    yield evolve(bare, active=None, previous=bare.previous | {active.tree})


def _torn_way_back(observed: ObservedAgent, active: Active, version: str) -> Iterator[ObservedAgent]:
    """Only where the kernel can't exchange it has a middle: the failed tree is aside, the way back not yet there."""
    bare = evolve(observed, next=frozenset(t for t in observed.next if t.version != version))
    yield bare
    yield evolve(bare, active=None, next=bare.next | {active.tree})


def _littered(observed: ObservedAgent, name: str) -> ObservedAgent:
    assert name != MARKER
    return evolve(observed, leftovers=observed.leftovers | {name})


def notes_before(life: Life, action: Action, plan: Plan, wanted: Wish) -> AgentRecord | None:
    """What is written down before an action: what is about to happen, where it takes the agent down."""
    first = next((a for a in plan.actions if isinstance(a, Stop | Switch)), None)
    if plan.switch is None or action is not first:
        return life.record
    to = target_at(wanted, life).content
    return advance(
        record_for(wanted.desired.home, life.record),
        SwitchStarted(to=to, active=life.observed.active, now=NOW, boot=BOOT),
    ).record


def step(life: Life, action: Action, plan: Plan, wanted: Wish) -> Life:
    """One action that succeeds, with the notes before and after it."""
    kept = notes_before(life, action, plan, wanted)
    if isinstance(action, Start) and kept is not None and plan.switch is not None:
        kept = advance(kept, StartConfirmed(now=NOW, watch=WATCH)).record
    return Life(world_after(life.observed, action), kept)


def crashes(life: Life, plan: Plan, wanted: Wish) -> Iterator[Life]:
    """All that a crash may leave of a plan: after each prefix, and amid each action."""
    for action in plan.actions:
        noted = notes_before(life, action, plan, wanted)
        yield Life(life.observed, noted)
        for world in torn(life.observed, action):
            yield Life(world, noted)
        life = step(life, action, plan, wanted)
        yield life


def end_of_pass(life: Life, wanted: Wish) -> Life:
    """What a pass that was not interrupted remembers at its end."""
    kept = record_for(wanted.desired.home, life.record)
    edited = target_at(wanted, life).edited
    kept = remember_config(kept, wanted.desired, life.observed, wanted.remote.config, edited=edited)
    return Life(life.observed, remember_use(kept, life.observed))


def looked_at(life: Life, wanted: Wish, *, now: float = NOW) -> Life:
    """What a look at the agent makes of an open switch, at the beginning of a pass."""
    if life.record is None or wanted.desired.run is not RunState.START:
        return life
    return Life(
        life.observed, advance(life.record, Observed(observed=life.observed, now=now, watch=WATCH, boot=BOOT)).record
    )


def whole_pass(life: Life, wanted: Wish, *, now: float = NOW) -> tuple[Plan, Life]:
    """Look, plan, act with success all the way, remember."""
    life = looked_at(life, wanted, now=now)
    plan = plan_agent(target_at(wanted, life), life.observed)
    for action in plan.actions:
        problem = legal(life.observed, action)
        assert not problem, f"{action}: {problem}, in {life.observed}"
        life = step(life, action, plan, wanted)
    return plan, end_of_pass(life, wanted)


def proven(life: Life, wanted: Wish) -> Life:
    """The same after a watch in which the agent stayed up, and the passes that see it and clean up behind it."""
    for n in (1, 2, 3):
        plan, life = whole_pass(life, wanted, now=NOW + n * WATCH)
        assert {action.type for action in plan.actions} <= {"prune"}, f"{plan} in {life}"
        if not plan.actions and (life.record is None or life.record.confirmation is None):
            break
    return life


def as_wished(target: Target, observed: ObservedAgent) -> bool:
    """Whether the world is as the target says, judged without the planner."""
    active = observed.active
    if target.run is RunState.OBSERVE:
        return True
    if target.run is RunState.STOP:
        return active is None or active.process is ProcessState.STOPPED
    if active is None or active.version != target.version or active.process is not ProcessState.RUNNING:
        return False
    wanted = dict(str(digest).split(":") for digest in target.digests)
    known = dict(digest.split(":") for digest in active.tree.digests)
    if any(known.get(kind, digest) != digest for kind, digest in wanted.items()):
        return False
    return target.config is None or target.config.digest == active.tree.config


def litter(observed: ObservedAgent) -> frozenset[str]:
    """What of ours lies in the home that a version in use doesn't need."""
    aside = {next_name(t.version) for t in observed.next} | {previous_name(t.version) for t in observed.previous}
    if observed.active is None and observed.version_text:
        aside -= {next_name(observed.version_text), previous_name(observed.version_text)}
    return observed.leftovers | aside | ({PREVIOUS_CONFIG} if observed.previous_config is not None else set())
