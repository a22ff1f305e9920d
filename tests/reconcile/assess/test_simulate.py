"""Plans for a host that is not at hand: by its snapshot alone, as a pass there would plan."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from probes.observed import ProcessState
from reconcile.assess.pass_context import DesiredFrom, HostSnapshot
from reconcile.assess.simulate import expected, simulate
from reconcile.decide.actions import Plan
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.hold import Requests
from reconcile.decide.policy.inputs import Policy
from reconcile.decide.records.record import Pin
from reconcile.source import Answer, Entry
from reconcile.storage.store import read_state
from tests.yard import NAME, OWN, Yard
from updater.demo import agent


def snapshot_of(yard: Yard, **changes: Any) -> HostSnapshot:
    """What a pass saw of this host, where 1.0.0 is good."""
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **changes))
    yard.run()
    yard.settle()
    seen = yard.run(DesiredFrom.READ_ONLY).assessment.seen
    return HostSnapshot(seen=seen, state=read_state(yard.db), requests=Requests())


def answer(*agents: Entry) -> Answer:
    return Answer(came_from="there", entries=agents)


def entry(yard: Yard, version: str = "2.0.0", **changes: Any) -> Entry:
    wanted = Entry(
        name=NAME,
        version=version,
        tarball=f"http://{yard.meta.server}/releases",
        md5="0" * 32,
        cmd="start",
        run_user=OWN,
        work_dir=str(yard.work),
    )
    return evolve(wanted, **changes)


def planned(yard: Yard, snapshot: HostSnapshot, wanted: Entry) -> AgentEvaluation:
    host = yard.around()
    desired = expected(host.policy, snapshot, answer(wanted))
    assert desired.refused == ()
    [view] = simulate(host, snapshot, desired)
    return view


def actions(view: AgentEvaluation) -> str:
    return f"{view.plan.reason}: {' '.join(action.type for action in view.plan.actions)}"


def test_a_change_is_planned_for_what_was_seen(yard: Yard) -> None:
    snapshot = snapshot_of(yard)
    agent.crash(yard.home())  # the host is not looked at
    asked = len(yard.meta.requests)
    view = planned(yard, snapshot, entry(yard))
    assert actions(view) == "VersionDiffers: fetch verify unpack stop switch start"
    assert isinstance(view.verdict, Plan), "the answer is taken for a live one"
    same = entry(yard, "1.0.0", md5=yard.meta.release(NAME, "1.0.0").md5)
    assert actions(planned(yard, snapshot, same)) == "AsDesired: "
    assert len(yard.meta.requests) == asked


def test_a_home_that_the_snapshot_lacks_is_taken_as_empty(yard: Yard) -> None:
    snapshot = snapshot_of(yard)
    nothing = evolve(snapshot, seen=evolve(snapshot.seen, agents=()), state=evolve(snapshot.state, records=()))
    view = planned(yard, nothing, entry(yard))
    assert view.observed.version_text is None
    assert actions(view) == "FirstInstall: fetch verify unpack switch start"


def test_what_is_known_of_one_config_says_nothing_of_another(yard: Yard) -> None:
    url = yard.meta.publish_config("/conf/cfg.json", b"{}")
    snapshot = snapshot_of(yard, configFileName="cfg.json", configRemoteUrl=url)
    same = entry(yard, config_file_name="cfg.json", config_remote_url=url)
    for wanted, is_known in ((same, True), (evolve(same, config_file_name="other.json"), False)):
        view = planned(yard, snapshot, wanted)
        assert view.observed.active is not None
        assert view.observed.active.process is ProcessState.RUNNING
        assert (view.observed.active.tree.config is not None) is is_known
    stopped = evolve(snapshot.seen.agents[0], active=None)
    gone = evolve(snapshot, seen=evolve(snapshot.seen, agents=(stopped,)))
    assert planned(yard, gone, evolve(same, config_file_name="other.json")).observed.active is None


def test_whose_users_are_not_looked_up_is_taken_to_exist_and_not_to_be_root(yard: Yard) -> None:
    snapshot = evolve(snapshot_of(yard), users={"falcon": 1001, "nobody-there": None})
    names = ("falcon", "nobody-there", "root", "other")
    assert snapshot.uids_of(names) == {"falcon": 1001, "root": 0, "other": -1}


def test_a_release_counts_before_a_pass_has_taken_it_up(yard: Yard) -> None:
    snapshot = snapshot_of(yard)
    record = snapshot.state.record(NAME)
    assert record is not None
    held = evolve(record, pin=Pin(version="0.9.0", owner="ann", at=1.0))
    before = evolve(snapshot, state=evolve(snapshot.state, records=(held,)))
    assert before.record(NAME) == held
    released = evolve(before, requests=Requests(releases=frozenset({NAME})))
    there = released.record(NAME)
    assert there is not None
    assert there.pin is None
    assert released.record("another") is None


def test_root_owns_no_agent_on_a_host_whose_own_user_is_another(yard: Yard) -> None:
    snapshot = snapshot_of(yard)
    policy = Policy(own_user="falcon", own_folders=(), arch="linux_amd64")
    desired = expected(policy, snapshot, answer(entry(yard, run_user="root")))
    assert [refusal.name for refusal in desired.refused] == [NAME]
