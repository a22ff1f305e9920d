"""The planner as a table: what is asked, what is remembered, what is seen, what is pending, and why.

Worlds are spelt as worlds.py tells. The laws that hold for all worlds are in test_planner_laws.py, and each small
world is tried in test_small_worlds.py.
"""

from __future__ import annotations

import pytest
from attrs import evolve

from probes.observed import Evidence, HomeRef
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Prune,
    Start,
    Stop,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
)
from reconcile.decide.actions import assert_never as never
from reconcile.decide.desired import Signing
from reconcile.decide.planner import plan_agent, world_after
from reconcile.decide.target import Target, target_to_heal
from tests.reconcile.decide.worlds import (
    DIGESTS,
    NAME,
    URL,
    Life,
    config_digest,
    remembered,
    seen,
    target_at,
    types,
    wish,
)

BRING = "fetch verify unpack"
TABLE = [
    # asked | remembered | seen | pending | reason
    # a first install; all that can fail without touching an agent comes first
    ("start 1.0=A", "none", "", f"{BRING} switch start", "FirstInstall"),
    ("start 1.0=A+c1", "none", "", f"{BRING} configure switch start", "FirstInstall"),
    ("start 1.0=A", "none", "staged 1.0=A", "switch start", "FirstInstall"),
    ("start 1.0=A", "none", "staged 1.0=B", f"{BRING} switch start", "FirstInstall"),
    ("start 1.0=A", "none", "left .stage-x", f"{BRING} switch start", "FirstInstall"),
    # upgrade, downgrade: the running agent is stopped only when all lies ready
    ("start 2.0=A", "new", "1.0=B started", f"{BRING} stop switch start", "VersionDiffers"),
    ("start 1.0=A", "new", "2.0=B started", f"{BRING} stop switch start", "VersionDiffers"),
    ("start 2.0=A+c1", "new", "1.0=B started", f"{BRING} configure stop switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=B stoped", f"{BRING} switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=B unknown", f"{BRING} stop switch start", "VersionDiffers"),
    # a version that is on disk needs no fetch; its config is made right where it isn't
    ("start 2.0=A", "new", "1.0=B started; staged 2.0=A", "stop switch start", "VersionDiffers"),
    ("start 2.0=AS", "new", "1.0=B started; staged 2.0=AS", "stop switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=B started; staged 2.0=AS", "stop switch start", "VersionDiffers"),
    ("start 2.0=AS", "new", "1.0=B started; staged 2.0=A", f"{BRING} stop switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=B started; staged 2.0=B", f"{BRING} stop switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=B started; staged 2.0~", f"{BRING} stop switch start", "VersionDiffers"),
    ("start 2.0", "new", "1.0=B started; staged 2.0~", "stop switch start", "VersionDiffers"),
    ("start 2.0=A+c1", "new", "1.0=B started; staged 2.0=A+c1", "stop switch start", "VersionDiffers"),
    ("start 2.0=A+c1", "new", "1.0=B started; staged 2.0=A+c0", "configure stop switch start", "VersionDiffers"),
    # the same version with another digest is a replacement by exchange; unknown never differs
    ("start 1.0=A", "new", "1.0=B started", f"{BRING} stop switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "1.0=B stoped", f"{BRING} switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "1.0=B unknown", f"{BRING} stop switch start", "DigestDiffers"),
    ("start 1.0=A+c1", "c1", "1.0=B+e started", f"{BRING} configure stop switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "1.0=B started; next 1.0=A", "stop switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "1.0=B started; next 1.0=B", f"{BRING} stop switch start", "DigestDiffers"),
    ("start 1.0=AS", "new", "1.0=AT started", f"{BRING} stop switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "1.0=S started", "", "AsDesired"),
    ("start 1.0=AS", "new", "1.0=A started", "", "AsDesired"),
    ("start 1.0=A", "new", "1.0? started", "", "AsDesired"),
    ("start 1.0=A", "new", "1.0~ started", "", "AsDesired"),
    ("start 1.0", "new", "1.0=B started", "", "AsDesired"),
    # a crash, and a status that can't be understood: it never starts or stops anything by itself
    ("start 1.0=A", "new", "1.0=A started", "", "AsDesired"),
    ("start 1.0=A", "new", "1.0=A stoped", "start", "NotRunning"),
    ("start 1.0=A", "new", "1.0? stoped", "start", "NotRunning"),
    ("start 1.0=A", "new", "1.0=A unknown", "", "StatusUnknown"),
    ("start 1.0=A", "new 0.9>1.0", "1.0=A unknown", "start", "NotRunning"),
    ("start 1.0=A", "new 1.0>1.0", "1.0=A unknown", "start", "NotRunning"),
    ("start 1.0=A", "new 1.0>0.9", "1.0=A unknown", "", "StatusUnknown"),
    ("start 1.0=A", "new 0.9>1.0", "1.0=A started", "", "AsDesired"),
    # a remote change is delivered by configure stop switch start; a change made here is not written over
    ("start 1.0=A+c1", "c1", "1.0=A+c1 started", "", "AsDesired"),
    ("start 1.0=A+c1", "c0", "1.0=A+c0 started", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "c0", "1.0=A+c0 stoped", "configure switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "c0", "1.0=A+c0 unknown", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "c0", "1.0=A+e started", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "c0", "1.0? started", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "c1", "1.0=A+e started", "", "AsDesired"),
    ("start 1.0=A+c1", "c1", "1.0=A+e stoped", "start", "NotRunning"),
    ("start 1.0=A+c1", "c1", "1.0=A started", "", "AsDesired"),
    ("start 1.0=A+c1", "c1", "1.0=A stoped", "configure switch start", "ConfigDiffers"),
    ("start 1.0=A", "c1", "1.0=A+e started", "", "AsDesired"),
    # the change-over: it is unknown whose the file is; but one that is newly wanted is delivered
    ("start 1.0=A+c1", "none", "1.0?+c1 started", "", "AsDesired"),
    ("start 1.0=A+c1", "none", "1.0?+e started", "", "AsDesired"),
    ("start 1.0=A+c1", "new", "1.0?+e started", "", "AsDesired"),
    ("start 1.0=A+c1", "none", "1.0? started", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A+c1", "bare", "1.0=A+e started", "configure stop switch start", "ConfigDiffers"),
    # to stop: whatever the version; nothing is fetched
    ("stop", "new", "1.0=A started", "stop", "UnexpectedlyRunning"),
    ("stop", "new", "1.0? started", "stop", "UnexpectedlyRunning"),
    ("stop", "new", "1.0=A stoped", "", "AsDesired"),
    ("stop", "new", "1.0=A unknown", "", "StatusUnknown"),
    ("stop", "new 0.9>1.0", "1.0=A unknown", "", "StatusUnknown"),
    ("stop", "none", "", "", "AsDesired"),
    ("stop", "none", "names 9.9", "", "AsDesired"),
    ("stop", "new", "1.0=A started; left .stage-x", "stop prune", "UnexpectedlyRunning"),
    # to look on, and what runs where `.version` doesn't say so: hands off
    ("observe", "none", "", "", "ObserveOnly"),
    ("observe", "new", "1.0=A stoped; left .stage-x; next 1.0=B", "", "ObserveOnly"),
    ("observe", "new", "stray process 7 runs in it", "", "ObserveOnly"),
    ("start 1.0=A", "none", "stray process 7 runs in it; left .stage-x", "", "StatusUnknown"),
    ("stop", "none", "names 9.9; stray process 7 runs in it", "", "StatusUnknown"),
    # `.version` names nothing usable
    ("start 1.0=A", "none", "names 9.9", f"{BRING} switch start", "VersionDiffers"),
    ("start 1.0=A", "none", "names ", f"{BRING} switch start", "VersionDiffers"),
    ("start 1.0=A", "none", "names 9.9; staged 1.0=A", "switch start", "VersionDiffers"),
    ("start 1.0=A+c1", "c1", "names 1.0", f"{BRING} configure switch start", "VersionDiffers"),
    # a replacement that stopped between its two renames is finished, or its content brought again
    ("start 1.0=A", "new 1.0>1.0", "names 1.0; next 1.0=A; previous 1.0=B", "switch start", "VersionDiffers"),
    ("start 1.0=A", "new", "names 1.0; next 1.0=B; previous 1.0=A", f"{BRING} switch start", "VersionDiffers"),
    ("start 1.0+c1", "c1", "names 1.0; next 1.0=A+c1; previous 1.0=B", "switch start", "VersionDiffers"),
    ("start 1.0+c1", "c1", "names 1.0; next 1.0=A; previous 1.0=B", "configure switch start", "VersionDiffers"),
    ("start 2.0=A", "new", "names 1.0; next 1.0=A; previous 1.0=B", f"{BRING} switch start prune", "VersionDiffers"),
    ("stop", "new", "names 1.0; next 1.0=A; previous 1.0=B", "", "AsDesired"),
    ("stop", "new", "names 1.0; next 2.0=A; previous 1.0=B", "prune", "AsDesired"),
    # cleaning up stands last, and not while the status can't be understood
    ("start 1.0=A", "new", "1.0=A started; left .stage-x", "prune", "AsDesired"),
    ("start 1.0=A", "new", "1.0=A started; left .stage-config", "prune", "AsDesired"),
    ("start 1.0=A", "new", "1.0=A started; next 1.0=B", "prune", "AsDesired"),
    ("start 1.0=A", "new", "1.0=A stoped; previous 1.0=B", "start prune", "NotRunning"),
    ("start 1.0=A", "new", "1.0=A unknown; left .stage-x", "", "StatusUnknown"),
    ("start 2.0=A", "new", "1.0=A started; next 2.0=A", f"{BRING} stop switch start prune", "VersionDiffers"),
    ("start 2.0=A", "new", "1.0=A started; staged 2.0=A; left .stage-x", "stop switch start prune", "VersionDiffers"),
    ("start 1.0+c1", "c0", "1.0+c0 started; left .stage-config", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A", "new", "1.0=B started; left .next-1.0", f"{BRING} stop switch start", "DigestDiffers"),
    ("start 1.0=A", "new", "names 1.0; next 1.0=A", "switch start", "VersionDiffers"),
    # what a change displaced stays until the new content is confirmed: neither the change nor its watch removes it
    ("start 1.0+c1", "c1", "1.0+c1 started; kept c0", "prune", "AsDesired"),
    ("start 1.0+c2", "c1", "1.0+c1 started; kept c0", "configure stop switch start", "ConfigDiffers"),
    ("start 1.0=A", "new 1.0=B>1.0=A", "1.0=A started; previous 1.0=B; kept c0; left .stage-x", "", "AsDesired"),
    ("start 1.0=A", "new 1.0=B>1.0=A", "1.0=A stoped; previous 1.0=B; kept c0", "start", "NotRunning"),
    ("start 2.0=A", "new", "1.0=B started; previous 1.0=A", f"{BRING} stop switch start", "VersionDiffers"),
    ("stop", "new", "1.0=A stoped; previous 1.0=B; kept c0", "prune", "AsDesired"),
]


@pytest.mark.parametrize(
    ("asked", "world", "pending"),
    [
        ("stop", "", "stop"),
        ("stop", "names 1.0", "stop"),
        ("observe", "names 1.0", ""),
        ("start 1.0=A", "names 1.0", ""),
        ("start 2.0=A", "names 1.0", "fetch verify unpack stop switch start"),
        ("start 2.0=A", "names 1.0; staged 2.0=A", "stop switch start"),
        ("start 2.0=A", "names 2.0; next 2.0=A", "stop switch start"),
    ],
)
def test_what_runs_from_a_removed_folder_is_ended_for_a_stop_or_another_version(
    asked: str, world: str, pending: str
) -> None:
    there = evolve(seen(world), blocked_by="process 7 runs from 1.0", evidence=Evidence.SEEN, removed="1.0")
    plan = plan_agent(target_at(wish(asked), Life(there, None)), there)
    assert types(plan) == pending
    for action in plan.actions:
        if isinstance(action, Stop):
            assert (action.version, action.removed) == ("1.0", True)
            after = world_after(there, action)
            assert (after.blocked_by, after.removed) == ("", "")


@pytest.mark.parametrize(("asked", "record", "world", "pending", "reason"), TABLE)
def test_what_is_pending_and_why(asked: str, record: str, world: str, pending: str, reason: str) -> None:
    life = Life(seen(world), remembered(record))
    plan = plan_agent(target_at(wish(asked), life), life.observed)
    assert (types(plan), plan.reason) == (pending, reason)
    assert plan.name == NAME
    assert plan.message


A = frozenset({DIGESTS["A"]})
IN_FULL: list[tuple[str, str, str, tuple[Action, ...]]] = [
    (
        "start 2.0=A+c1",
        "new",
        "1.0? started; left .next-2.0",
        (
            Fetch(url=URL, version="2.0", digests=A),
            Verify(digests=A),
            Unpack(version="2.0", directory="2.0", url=URL, digests=A),
            Configure(name="cfg.json", digest=config_digest("c1"), directory="2.0"),
            Stop(version="1.0", adopt=True),
            SwitchVersion(from_version="1.0", to="2.0"),
            Start(version="2.0"),
            Prune(names=(".next-2.0",)),
        ),
    ),
    (
        "start 1.0=A+c1",
        "c0",
        "1.0=B+c0 started; left .next-1.0; left .stage-x; previous 0.9",
        (
            Fetch(url=URL, version="1.0", digests=A),
            Verify(digests=A),
            Unpack(version="1.0", directory=".next-1.0", url=URL, digests=A),
            Configure(name="cfg.json", digest=config_digest("c1"), directory=".next-1.0"),
            Stop(version="1.0"),
            SwitchTree(version="1.0"),
            Start(version="1.0"),
        ),
    ),
    (
        "start 1.0+c1",
        "c0",
        "1.0?+c0 started",
        (
            Configure(name="cfg.json", digest=config_digest("c1"), directory=None),
            Stop(version="1.0"),
            SwitchConfig(version="1.0", name="cfg.json", digest=config_digest("c1")),
            Start(version="1.0"),
        ),
    ),
    (
        "start 2.0=A",
        "new",
        "1.0? unknown; staged 2.0=A",
        (Stop(version="1.0"), SwitchVersion(from_version="1.0", to="2.0"), Start(version="2.0")),
    ),
    # what an earlier run switched to, and was never seen running, need not say that it stopped; if it ran, it must
    (
        "start 2.0=A",
        "new >1.0=B",
        "1.0=B unknown; staged 2.0=A",
        (Stop(version="1.0", never_up=True), SwitchVersion(from_version="1.0", to="2.0"), Start(version="2.0")),
    ),
    (
        "start 2.0=A",
        "new >1.0=B",
        "1.0=B started; staged 2.0=A",
        (Stop(version="1.0"), SwitchVersion(from_version="1.0", to="2.0"), Start(version="2.0")),
    ),
]


@pytest.mark.parametrize(("asked", "record", "world", "actions"), IN_FULL)
def test_actions_in_full(asked: str, record: str, world: str, actions: tuple[Action, ...]) -> None:
    life = Life(seen(world), remembered(record))
    assert plan_agent(target_at(wish(asked), life), life.observed).actions == actions


@pytest.mark.parametrize(
    ("asked", "record", "world", "message"),
    [
        ("start 1.0=A", "none", "", "install 1.0"),
        ("start 2.0=A", "new", "1.0=A started", "1.0 -> 2.0"),
        ("start 2.0=A", "new", "names ", "no usable version -> 2.0"),
        ("start 1.0=A", "new", "names 1.0", ".version names 1.0, which is not whole"),
        ("start 1.0=A", "new", "1.0=B started", "1.0: same version, another tarball"),
        ("start 1.0=A", "new", "1.0=A unknown", "control status of 1.0 says: unknown"),
        ("start 1.0+c1", "c1", "1.0+e started", "1.0 started; its config was edited here and is left alone"),
        ("start 1.0+c1", "c0", "1.0+c0 started", "cfg.json changed at the server"),
        ("stop", "none", "names 9.9; stray process 7 runs in it", "process 7 runs in it"),
    ],
)
def test_the_message_of_each_case(asked: str, record: str, world: str, message: str) -> None:
    life = Life(seen(world), remembered(record))
    assert plan_agent(target_at(wish(asked), life), life.observed).message == message


def test_a_status_that_printed_nothing_is_reported_as_such() -> None:
    world = seen("1.0=A unknown")
    assert world.active is not None
    world = evolve(world, active=evolve(world.active, status_output=""))
    plan = plan_agent(target_at(wish("stop"), Life(world, None)), world)
    assert plan.message == "control status of 1.0 says: nothing"


@pytest.mark.parametrize(
    ("record", "world", "pending"),
    [
        ("new", "1.0=B stoped; staged 2.0=A; left .stage-x; next 1.0=A", "start"),
        ("new", "1.0=B started; left .stage-x", ""),
        ("new", "1.0=B unknown", ""),
        ("new 2.0>1.0", "1.0=B unknown", "start"),
        ("new", "names 1.0; next 1.0=A; previous 1.0=B", "switch start"),
    ],
)
def test_healing_starts_what_is_in_use_and_nothing_else(record: str, world: str, pending: str) -> None:
    target = target_to_heal(wish("start 2.0=A+c1").desired, remembered(record), seen(world))
    assert target is not None
    assert types(plan_agent(target, seen(world))) == pending


def test_a_plan_says_how_much_it_touches() -> None:
    def plan(asked: str, world: str) -> tuple[bool, bool]:
        found = plan_agent(target_at(wish(asked), Life(seen(world), remembered("new"))), seen(world))
        return found.touches_agent, found.only_starts

    assert plan("start 1.0=A", "1.0=A started") == (False, True)
    assert plan("start 1.0=A", "1.0=A started; left .stage-x") == (False, True)
    assert plan("start 1.0=A", "1.0=A stoped; left .stage-x") == (True, True)
    assert plan("start 2.0=A", "1.0=A stoped; staged 2.0=A") == (True, False)
    assert plan("stop", "1.0=A started") == (True, False)


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        ("1.0 started", Fetch(url=URL, version="2.0", digests=A), "1.0 started"),
        ("1.0 started", Unpack(version="2.0", directory="2.0", url=URL, digests=A), "1.0 started; staged 2.0=A"),
        (
            "1.0=B started; left .stage-x; left .next-1.0; left .previous-1.0; next 1.0=B",
            Unpack(version="1.0", directory=".next-1.0", url=URL, digests=A),
            "1.0=B started; left .previous-1.0; next 1.0=A",
        ),
        (
            "1.0+c0 started; staged 2.0; staged 3.0",
            Configure(name="cfg.json", digest=config_digest("c1"), directory="2.0"),
            "1.0+c0 started; staged 2.0+c1; staged 3.0",
        ),
        ("1.0? started", Stop(version="1.0", adopt=True), "1.0~ stoped"),
        ("1.0? started", Stop(version="1.0"), "1.0? stoped"),
        ("1.0? stoped; staged 2.0=A", SwitchVersion(from_version="1.0", to="2.0"), "2.0=A stoped"),
        ("1.0~ stoped; staged 2.0=A", SwitchVersion(from_version="1.0", to="2.0"), "2.0=A stoped; staged 1.0~"),
        ("names 9.9; staged 2.0=A", SwitchVersion(from_version=None, to="2.0"), "2.0=A stoped"),
        (
            "1.0=B stoped; next 1.0=A; previous 1.0?",
            SwitchTree(version="1.0"),
            "1.0=A stoped; previous 1.0=B; left .stage-old-.previous-1.0",
        ),
        (
            "1.0=A stoped; previous 1.0=B",
            SwitchTree(version="1.0", previous=True),
            "1.0=B stoped; previous 1.0=A",
        ),
        (
            "1.0+c0 started",
            Configure(name="cfg.json", digest=config_digest("c1"), directory=None),
            "1.0+c0 started; left .stage-config; kept c0",
        ),
        # the way back: what was displaced stays where it is until that is over too
        (
            "1.0+c1 started; kept c0",
            Configure(name="cfg.json", digest=config_digest("c0"), directory=None),
            "1.0+c1 started; left .stage-config; kept c0",
        ),
        (
            "1.0+c0 stoped; left .stage-config; kept c0",
            SwitchConfig(version="1.0", name="cfg.json", digest=config_digest("c1")),
            "1.0+c1 stoped; kept c0",
        ),
        ("1.0 started; kept c0; staged 0.9", Prune(names=(".previous-.config", "0.9")), "1.0 started"),
        ("1.0=A stoped", Start(version="1.0"), "1.0=A started"),
        (
            "1.0 started; left .stage-x; next 1.0; next 2.0; previous 1.0",
            Prune(names=(".next-1.0", ".previous-1.0", ".stage-x")),
            "1.0 started; next 2.0",
        ),
    ],
)
def test_the_model_of_success(before: str, action: Action, after: str) -> None:
    assert world_after(seen(before), action) == seen(after)


@pytest.mark.parametrize(
    ("switch", "from_version", "to"),
    [
        (SwitchVersion(from_version=None, to="1.0"), None, "1.0"),
        (SwitchTree(version="1.0"), "1.0", "1.0"),
        (SwitchConfig(version="1.0", name="cfg.json", digest="sha256:1"), "1.0", "1.0"),
    ],
)
def test_every_switch_says_what_it_comes_from_and_where_it_is_made(
    switch: SwitchVersion | SwitchTree | SwitchConfig, from_version: str | None, to: str
) -> None:
    home = HomeRef(name=NAME, work_dir="/srv/new", run_user="me")
    move = MoveHome(switch=evolve(switch, at=home), leaves=evolve(home, work_dir="/srv/old"))
    for made in (switch, move):
        assert (made.type, made.from_version, made.to) == ("switch", from_version, to)
    assert (switch.at, move.at) == (None, home)


def test_an_action_without_an_arm_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no arm for 'dance'"):
        never("dance")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="no arm"):
        world_after(seen("1.0 started"), "dance")  # type: ignore[arg-type]


def test_versions_beyond_those_to_keep_go_last_of_all() -> None:
    target = Target(name=NAME, run=wish("start 1.0").desired.run, version="2.0", keep=frozenset({"2.0", "1.0"}))
    world = seen("1.0=B started; staged 2.0=A; staged 0.9; staged 0.8~; left .stage-x")
    # with the change itself nothing goes that one could go back to
    assert plan_agent(target, world).actions[-1] == Prune(names=(".stage-x",))
    after = seen("2.0=A started; staged 1.0=B; staged 0.9; staged 0.8~")
    assert plan_agent(target, after).actions == (Prune(names=("0.8", "0.9")),)
    assert plan_agent(evolve(target, keep=None), after).actions == ()
    assert plan_agent(evolve(target, prune=False), after).actions == ()


def test_back_to_the_tree_that_a_replacement_displaced() -> None:
    """By the exchange that brought the failed one, the other way round; without a download."""
    target = Target(name=NAME, run=wish("start 1.0").desired.run, version="1.0", displaced=True)
    plan = plan_agent(target, seen("1.0=A started; previous 1.0=B"))
    assert plan.reason == "DigestDiffers"
    assert plan.message == "1.0: back to the tree that it replaced"
    assert plan.actions == (
        Stop(version="1.0"),
        SwitchTree(version="1.0", previous=True),
        Start(version="1.0"),
    )
    assert types(plan_agent(target, seen("1.0=A stoped; previous 1.0=B"))) == "switch start"


def test_a_target_alone_is_enough_to_plan() -> None:
    """Plans for hosts that are not this one need neither a record nor a response."""
    target = Target(name=NAME, run=wish("start 1.0").desired.run, version="1.0", url=URL)
    assert types(plan_agent(target, seen(""))) == f"{BRING} switch start"


# Signatures

SIGNING = Signing(url=f"{URL}.minisig", comment="linux_amd64/x.tar.gz", keys=frozenset({"RWone", "RWtwo"}))


@pytest.mark.parametrize(
    ("signed_by", "pending"),
    [
        ("RWone", "stop switch start"),
        ("RWtwo", "stop switch start"),
        ("RWrevoked", "fetch verify unpack stop switch start"),
        (None, "fetch verify unpack stop switch start"),
    ],
)
def test_a_tree_on_disk_serves_if_a_key_that_is_trusted_today_has_signed_it(
    signed_by: str | None, pending: str
) -> None:
    observed = seen("1.0=B started; staged 2.0=A")
    observed = evolve(observed, staged=frozenset(evolve(tree, signed_by=signed_by) for tree in observed.staged))
    asked = wish("start 2.0=A")
    life = Life(observed, remembered("new"))
    target = evolve(target_at(asked, life), signing=SIGNING)
    plan = plan_agent(target, observed)
    assert types(plan) == pending
    for action in plan.actions:
        if isinstance(action, Fetch | Verify | Unpack):
            assert action.signing == SIGNING
        observed = world_after(observed, action)
    assert types(plan_agent(target, observed)) in ("", "prune")


def test_what_is_in_use_needs_no_signature_to_stay_or_to_be_started() -> None:
    for world, pending in (("1.0=A started", ""), ("1.0=A stoped", "start")):
        life = Life(seen(world), remembered("new"))
        assert (
            types(plan_agent(evolve(target_at(wish("start 1.0=A"), life), signing=SIGNING), life.observed)) == pending
        )


def test_a_replacement_needs_a_signature_too() -> None:
    life = Life(seen("1.0=B started; next 1.0=A"), remembered("new"))
    target = evolve(target_at(wish("start 1.0=A"), life), signing=SIGNING)
    assert types(plan_agent(target, life.observed)) == "fetch verify unpack stop switch start"


def test_what_could_not_be_removed_is_planned_only_beside_what_can() -> None:
    target = Target(name=NAME, run=wish("start 1.0").desired.run, version="2.0", keep=frozenset({"2.0", "1.0"}))
    target = evolve(target, stuck=frozenset({".stage-old-0.7", "0.9"}))
    world = seen("2.0 started; staged 1.0; staged 0.9; left .stage-old-0.7")
    assert plan_agent(target, world).actions == ()
    assert plan_agent(target, world).reason == "AsDesired"
    world = seen("2.0 started; staged 1.0; staged 0.9; staged 0.8; left .stage-old-0.7")
    expected = Prune(names=("0.8",), again=(".stage-old-0.7", "0.9"))
    assert plan_agent(target, world).actions == (expected,)
    assert world_after(world, expected) == seen("2.0 started; staged 1.0")
