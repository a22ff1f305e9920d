"""Laws of the planner, over worlds of any size: more versions, digests, leftovers and memories than the small ones."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.observed import Active, ObservedAgent, Origin, ProcessState, Tree
from reconcile.decide.actions import Configure, Fetch, Held, Prune, Start, Stop, Switch, Unpack, Verify
from reconcile.decide.admission import Freshness
from reconcile.decide.desired import RunState
from reconcile.decide.hold import Hold
from reconcile.decide.planner import plan_agent
from reconcile.decide.records.content import NO_CONFIG, Content
from reconcile.decide.records.record import (
    AgentRecord,
    Crashes,
    Failure,
    FailureKind,
    PendingUpgrade,
    Pin,
    UpgradePhase,
)
from reconcile.decide.target import RemoteInputs
from tests.reconcile.decide.lives import Circumstances, looked
from tests.reconcile.decide.worlds import (
    BOOT,
    DIGESTS,
    NOW,
    ORDER,
    PLACE,
    WATCH,
    Life,
    Wish,
    as_wished,
    config_digest,
    crashes,
    litter,
    looked_at,
    memory,
    proven,
    record,
    target_at,
    through,
    types,
    whole_pass,
    wish,
)

VERSIONS = ("1.0", "1.0.1", "2.0", "nightly")
CONFIGS = ("c0", "c1", "e")
versions = st.sampled_from(VERSIONS)
processes = st.sampled_from(ProcessState)


@st.composite
def trees(draw: st.DrawFn, version: str, *, marked: bool = True) -> Tree:
    origin = draw(st.sampled_from([Origin.UNPACKED, Origin.ADOPTED] if marked else list(Origin)))
    letters = draw(st.sets(st.sampled_from(sorted(DIGESTS)))) if origin is Origin.UNPACKED else ()
    config = draw(st.none() | st.sampled_from(CONFIGS).map(config_digest))
    digests = {str(DIGESTS[letter]).partition(":")[0]: str(DIGESTS[letter]) for letter in letters}
    return Tree(version=version, origin=origin, digests=frozenset(digests.values()), config=config)


@st.composite
def several(draw: st.DrawFn, *, marked: bool = True) -> frozenset[Tree]:
    return frozenset(draw(trees(version, marked=marked)) for version in sorted(draw(st.sets(versions))))


@st.composite
def observations(draw: st.DrawFn) -> ObservedAgent:
    """Any picture that a probe can give of a home in which nothing strays."""
    text = draw(st.none() | versions | st.sampled_from(["", "9.9", "\\x1b[31m"]))
    active = None
    if text in VERSIONS and draw(st.booleans()):
        process = draw(processes)
        active = Active(tree=draw(trees(text, marked=False)), process=process, status_output=process.value)
    whole = draw(several())
    left = draw(st.sets(st.sampled_from([".stage-1", ".stage-config", ".next-0.1", ".previous-0.1"])))
    return ObservedAgent(
        home=PLACE,
        version_text=text,
        active=active,
        staged=frozenset(found for found in whole if found.version != text),
        next=draw(several()),
        previous=draw(several(marked=False)),
        leftovers=frozenset(left),
        previous_config=draw(st.none() | st.sampled_from(CONFIGS).map(config_digest)),
    )


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    verb = draw(st.sampled_from(["start", "start", "start", "stop", "observe"]))
    if verb != "start":
        return wish(verb)
    digests = draw(st.sampled_from(["", "=A", "=B", "=S", "=AS", "=BT"]))
    config = draw(st.sampled_from(["", "+c0", "+c1"]))
    return wish(f"start {draw(versions)}{digests}{config}")


contents = st.builds(
    Content,
    version=versions,
    digests=st.sampled_from(["", "A", "B", "S", "AS"]).map(lambda ds: frozenset(str(DIGESTS[d]) for d in ds)),
    config=st.sampled_from([None, "", *map(config_digest, CONFIGS)]),
)
switches = st.builds(
    PendingUpgrade,
    to=contents,
    before=st.none() | contents,
    stage=st.just(UpgradePhase.SWITCHING),
    at=st.just(NOW),
    boot=st.just(BOOT),
) | st.builds(
    PendingUpgrade,
    to=contents,
    before=st.none() | contents,
    stage=st.just(UpgradePhase.WATCHING),
    at=st.just(NOW),
    deadline=st.just(NOW + WATCH),
    boot=st.just(BOOT),
)


@st.composite
def records(draw: st.DrawFn) -> AgentRecord | None:
    if draw(st.booleans()):
        return None
    return record(
        config=draw(st.none() | st.just(NO_CONFIG) | st.sampled_from(CONFIGS).map(memory)),
        confirmation=draw(st.none() | switches),
        good=draw(st.none() | contents),
        used=tuple(draw(st.lists(versions, unique=True))),
    )


lives = st.builds(Life, observations(), records())


@given(lives, wishes())
def test_a_plan_applied_leaves_nothing_to_do(life: Life, wanted: Wish) -> None:
    _, after = whole_pass(life, wanted)
    after = proven(after, wanted)
    again, settled = whole_pass(after, wanted, now=NOW + 9 * WATCH)
    assert again.actions == ()
    assert settled == after
    assert again.reason == "StatusUnknown" or as_wished(target_at(wanted, after), after.observed)


@settings(max_examples=60)
@given(lives, wishes(), st.data())
def test_a_crash_anywhere_is_healed_by_planning_again(life: Life, wanted: Wish, data: st.DataObject) -> None:
    """Even crash after crash: what counts is that one pass at last is not interrupted."""
    for _ in range(data.draw(st.integers(1, 4))):
        life = looked_at(life, wanted)
        plan = plan_agent(target_at(wanted, life), life.observed)
        places = list(crashes(life, plan, wanted))
        if not places:
            return
        life = data.draw(st.sampled_from(places))
    _, after = whole_pass(life, wanted)
    after = proven(after, wanted)
    rest = plan_agent(target_at(wanted, after), after.observed)
    assert rest.actions == ()
    assert rest.reason == "StatusUnknown" or as_wished(target_at(wanted, after), after.observed)


@given(lives, wishes())
def test_nothing_that_can_fail_without_touching_the_agent_stands_after_stop(life: Life, wanted: Wish) -> None:
    plan = plan_agent(target_at(wanted, life), life.observed)
    order = [ORDER.index(action.type) for action in plan.actions]
    assert order == sorted(set(order))
    if Stop in map(type, plan.actions):
        downtime = plan.actions[[*map(type, plan.actions)].index(Stop) + 1 :]
        assert all(isinstance(action, Switch | Start | Prune) for action in downtime)


@given(lives, wishes())
def test_before_the_stop_the_version_in_use_is_as_it_was(life: Life, wanted: Wish) -> None:
    """So a failure there changes nothing for the agent, and its own tree is not written to."""
    plan = plan_agent(target_at(wanted, life), life.observed)
    kinds = [action.type for action in plan.actions]
    first = min((kinds.index(kind) for kind in ("stop", "switch", "start") if kind in kinds), default=0)
    before = through(life.observed, plan.actions[:first])
    assert (before.active, before.version_text) == (life.observed.active, life.observed.version_text)


@given(lives, wishes())
def test_rollback_is_a_plan_for_the_previous_version_without_a_fetch(life: Life, wanted: Wish) -> None:
    """Whatever ran, marked by us or found running, is gone back to from what is on disk."""
    old = life.observed.active
    plan, after = whole_pass(life, wanted)
    if old is None or old.process is not ProcessState.RUNNING or old.version == wanted.desired.version:
        return
    if not any(isinstance(action, Switch) for action in plan.actions):
        return
    back = evolve(target_at(wanted, after), version=old.version, digests=frozenset(), config=None)
    rollback = plan_agent(back, after.observed)
    assert types(rollback) == "stop switch start"
    assert through(after.observed, rollback.actions).active == evolve(
        old, tree=evolve(old.tree, origin=_marked(old.tree.origin)), status_output="started"
    )


def _marked(origin: Origin) -> Origin:
    return Origin.ADOPTED if origin is Origin.FOREIGN else origin


@given(lives, wishes())
def test_an_unknown_status_alone_starts_and_stops_nothing(life: Life, wanted: Wish) -> None:
    """A change stops it; a start that was written down is made; nothing else."""
    active = life.observed.active
    plan = plan_agent(target_at(wanted, life), life.observed)
    if active is None or active.process is not ProcessState.UNKNOWN:
        return
    if wanted.desired.run is RunState.STOP:
        assert plan.actions == ()
    elif not any(isinstance(action, Switch) for action in plan.actions):
        assert plan.actions == () or target_at(wanted, life).start_due


@given(lives, wishes())
def test_a_stop_is_never_without_need(life: Life, wanted: Wish) -> None:
    """A running agent is stopped to be stopped, or for other content than it has; and then it is started again."""
    plan = plan_agent(target_at(wanted, life), life.observed)
    kinds = types(plan).split()
    if "stop" not in kinds:
        return
    active, target = life.observed.active, target_at(wanted, life)
    assert active is not None
    if target.run is RunState.START:
        assert {"switch", "start"} <= set(kinds)
        running = evolve(life.observed, active=evolve(active, process=ProcessState.RUNNING))
        assert not as_wished(target, running)


@given(lives, wishes())
def test_what_is_not_known_of_remote_files_changes_nothing_in_place(life: Life, wanted: Wish) -> None:
    """No fault of a server touches an agent whose version is the wished one."""
    active = life.observed.active
    if active is None or active.version != wanted.desired.version:
        return
    plan = plan_agent(target_at(Wish(desired=wanted.desired, remote=RemoteInputs()), life), life.observed)
    assert set(types(plan).split()) <= {"start", "prune"}


@given(lives, wishes())
def test_a_prune_takes_only_what_is_ours_and_aside(life: Life, wanted: Wish) -> None:
    """What belongs to a switch whose end is still to be seen stays until then."""
    plan, after = whole_pass(life, wanted)
    for action in plan.actions:
        if isinstance(action, Prune):
            assert all(name.startswith((".stage-", ".next-", ".previous-")) for name in action.names)
    if wanted.desired.run is RunState.STOP and after.record is not None and after.record.confirmation is not None:
        assert not any(isinstance(action, Prune) for action in plan.actions)
        return
    after = proven(after, wanted)
    plan = plan_agent(target_at(wanted, after), after.observed)
    if wanted.desired.run is not RunState.OBSERVE and plan.reason != "StatusUnknown":
        assert not litter(after.observed)
        assert {tree.version for tree in after.observed.staged} >= {tree.version for tree in life.observed.staged} - {
            wanted.desired.version
        }


@given(lives, wishes())
def test_what_is_unpacked_is_what_was_verified_and_fetched(life: Life, wanted: Wish) -> None:
    plan = plan_agent(target_at(wanted, life), life.observed)
    for action in plan.actions:
        if isinstance(action, Unpack):
            assert types(plan).startswith("fetch verify unpack")
            assert {getattr(a, "digests", action.digests) for a in plan.actions} == {wanted.remote.digests}


@given(lives, wishes(), st.text(min_size=1))
def test_what_strays_is_left_alone(life: Life, wanted: Wish, stray: str) -> None:
    world = evolve(life.observed, active=None, blocked_by=stray)
    assert plan_agent(target_at(wanted, Life(world, life.record)), world).actions == ()


# --- what is admitted: over memories with failures, ways back, pins and crashes ---

failures = st.builds(
    Failure,
    content=contents,
    verdict=st.sampled_from(FailureKind),
    reason=st.just("StartFailed"),
    message=st.just("no"),
    at=st.floats(NOW - 7200, NOW + 7200),
    count=st.integers(1, 9),
)
memories = st.builds(
    evolve,
    records().filter(lambda kept: kept is not None),
    fallback=st.none() | contents,
    interrupted=st.none() | contents,
    failures=st.lists(failures, max_size=4).map(tuple),
    crashes=st.none() | st.builds(Crashes, count=st.integers(0, 9), at=st.floats(NOW - 7200, NOW + 7200)),
    stopped_by_us=st.booleans(),
    pin=st.none() | st.builds(Pin, version=versions, owner=st.just("ann"), at=st.just(NOW)),
)
circumstances = st.builds(
    Circumstances,
    answered=st.sampled_from(Freshness),
    hold=st.none() | st.just(Hold(owner="ann", reason="looking")),
    quarantine_for=st.none() | st.just(3600.0),
    boot=st.sampled_from([BOOT, "another boot"]),
)
remembering = st.builds(Life, observations(), memories)


@given(remembering, wishes(), circumstances)
def test_what_is_done_meanwhile_never_fetches_or_unpacks(life: Life, wanted: Wish, around: Circumstances) -> None:
    """A rollback is a plan for content that is on disk, its config included."""
    verdict = looked(life, wanted, around).verdict
    if isinstance(verdict, Held):
        assert not any(isinstance(action, Fetch | Verify | Unpack) for action in verdict.meanwhile.actions)
        written = [action for action in verdict.meanwhile.actions if isinstance(action, Configure)]
        assert all(action.digest == life.observed.previous_config for action in written)
        through(life.observed, verdict.meanwhile.actions)


@given(remembering, wishes(), circumstances)
def test_a_held_change_never_hides_a_crash(life: Life, wanted: Wish, around: Circumstances) -> None:
    """What is stopped and is to run is started, except for an operator's hold and the pause between crashes."""
    view = looked(life, wanted, around)
    active = life.observed.active
    if wanted.desired.run is not RunState.START or active is None or active.process is not ProcessState.STOPPED:
        return
    again = 0.0 if view.record is None else view.record.start_again_at(around.now)
    if around.hold is not None:
        assert view.due.actions == ()
    elif again <= around.now:
        assert any(isinstance(action, Start) for action in view.due.actions), view.verdict


@given(remembering, wishes(), circumstances)
def test_no_hold_stops_what_runs_but_to_go_back(life: Life, wanted: Wish, around: Circumstances) -> None:
    """Waiting for an answer, for a file, for a delay: a running agent is left alone."""
    verdict = looked(life, wanted, around).verdict
    active = life.observed.active
    if isinstance(verdict, Held) and active is not None and active.process is ProcessState.RUNNING:
        back = verdict.reason in ("Quarantined", "Pinned")
        assert back or not any(isinstance(action, Stop | Switch | Start) for action in verdict.meanwhile.actions)


@given(remembering, wishes(), circumstances)
def test_a_hold_with_an_end_has_it_ahead(life: Life, wanted: Wish, around: Circumstances) -> None:
    """So that no daemon wakes in vain, and none is eternal by a clock that was wrong."""
    verdict = looked(life, wanted, evolve(around, hold=None)).verdict
    if isinstance(verdict, Held) and verdict.until is not None:
        assert around.now < verdict.until <= around.now + 3600


@given(remembering, wishes(), circumstances)
def test_a_look_is_enough_to_settle(life: Life, wanted: Wish, around: Circumstances) -> None:
    """A second one at once changes nothing more: what is not written down is found out again."""
    once = looked(life, wanted, around).record
    assert looked(Life(life.observed, once), wanted, around).record == once
