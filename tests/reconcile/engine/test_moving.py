"""Moves with real agents: out of one workDir into another, and back where it does not come up there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from probes.host.processes import running_from
from reconcile.act.host.home_lock import home_lock
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Switch
from reconcile.decide.records.record import Pin, UpgradePhase
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import PassResult
from tests.support.sample_agents import AgentBehavior, control_script
from tests.yard import GIVEN_UP, NAME, OWN, Modelled, Yard, ready, the_agent, types
from updater.demo import agent

MOVED = "fetch=unchanged verify=done unpack=done stop=done switch=done start=done"


@pytest.fixture
def new(yard: Yard) -> Path:
    """The workDir that it is to move to."""
    return yard.folder / "new"


def wish(yard: Yard, version: str, where: Path, **keys: Any) -> None:
    yard.meta.desire(yard.meta.agent(NAME, version, workDir=str(where), **keys))


def installed(yard: Yard, *, control: str | None = None, **keys: Any) -> int:
    """1.0.0 runs in the old workDir, and is good."""
    yard.publish("1.0.0", control=control)
    wish(yard, "1.0.0", yard.work, **keys)
    assert yard.run().all_ready
    assert yard.settle().all_ready
    return agent.ask(yard.home()).pid


def running_in(where: Path) -> int:
    pids = tuple(process.pid for process in running_from(where / NAME) or ())
    assert len(pids) <= 1
    return pids[0] if pids else 0


def running(*homes: Path) -> list[Path]:
    return [home for home in homes if running_in(home)]


def outcomes(result: PassResult) -> str:
    return types(the_agent(result).outcomes)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_it_moves_and_the_old_versions_stay(yard: Yard, new: Path, version: str) -> None:
    old = installed(yard)
    yard.publish("2.0.0")
    wish(yard, version, new)
    result = yard.run()
    fetched = MOVED if version == "1.0.0" else MOVED.replace("unchanged", "done")
    assert (outcomes(result), ready(result)) == (fetched, ("True", "Confirming"))
    assert (agent.ask(new / NAME).version, running_in(yard.work)) == (version, 0)
    assert not Path(f"/proc/{old}/exe").exists()
    assert sorted(os.listdir(yard.home())) == [".start.log", "1.0.0"]
    assert yard.record().home.work_dir == str(new)
    [reported] = yard.meta.heartbeats[-1]["realAgents"]
    assert (reported["version"], reported["workDir"]) == (version, str(new))
    assert not yard.run().acted
    assert yard.settle().all_ready
    good = yard.record().good
    assert good is not None
    assert good.version == version
    assert not yard.run().acted
    assert not [home for home in (yard.home(), new / NAME) for name in os.listdir(home) if name.startswith(".stage")]


def test_a_config_goes_with_it(yard: Yard, new: Path) -> None:
    keys = {
        "configFileName": "cfg.json",
        "configRemoteUrl": yard.meta.publish_config("cfg.json", b'{"greeting": "hi"}'),
    }
    installed(yard, **keys)
    wish(yard, "1.0.0", new, **keys)
    assert "configure=done stop=done" in outcomes(yard.run())
    assert agent.ask(new / NAME).greeting == "hi"
    assert not yard.run().acted


def test_what_does_not_come_up_there_is_back_in_the_same_pass(yard: Yard, new: Path) -> None:
    """The very same content may fail there: for a library, a right, a port."""
    picky = control_script(NAME, "1.0.0", AgentBehavior()).replace(
        "start() {\n", "start() {\n    case $PWD in */new/*) echo no rights here; return 1 ;; esac\n", 1
    )
    installed(yard, control=picky)
    before = yard.tarball_requests()
    wish(yard, "1.0.0", new)
    result = yard.run(control=GIVEN_UP)
    assert outcomes(result).endswith("stop=done switch=done start=failed switch=done start=done")
    assert ready(result) == ("False", "RolledBack")
    assert (agent.ask(yard.home()).version, running_in(new)) == ("1.0.0", 0)
    assert not (new / NAME / ".version").exists()
    [reported] = yard.meta.heartbeats[-1]["realAgents"]
    assert reported["workDir"] == str(yard.work)
    result = yard.run()
    assert (result.acted, ready(result)) == (False, ("False", "Quarantined"))
    pid = agent.ask(yard.home()).pid
    agent.crash(yard.home())
    assert outcomes(yard.run()) == "start=done", "healed where it lives"
    assert agent.ask(yard.home()).pid != pid
    wish(yard, "1.0.0", yard.work)
    assert yard.run().all_ready, "it failed elsewhere, and not here"
    assert yard.tarball_requests() == before


def test_a_new_version_that_does_not_come_up_there_goes_back_without_a_download(yard: Yard, new: Path) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    wish(yard, "2.0.0", new)
    before = yard.tarball_requests()
    result = yard.run(control=GIVEN_UP)
    assert outcomes(result).endswith("stop=done switch=done start=failed switch=done start=done")
    assert (agent.ask(yard.home()).version, running_in(new)) == ("1.0.0", 0)
    assert yard.tarball_requests() == before + 1
    yard.publish("2.0.1")
    wish(yard, "2.0.1", new)
    assert yard.run().all_ready
    assert agent.ask(new / NAME).version == "2.0.1"


def test_what_dies_within_its_watch_there_goes_back(yard: Yard, new: Path) -> None:
    installed(yard)
    wish(yard, "1.0.0", new)
    assert yard.run().all_ready
    agent.crash(new / NAME)
    result = yard.run()
    assert (outcomes(result), ready(result)) == ("switch=done start=done", ("False", "RolledBack"))
    assert (agent.ask(yard.home()).version, running_in(new)) == ("1.0.0", 0)
    assert any(f"back to 1.0.0 in {yard.work}" in said for said in yard.history())


def test_until_it_moves_it_is_healed_where_it_lives(yard: Yard, new: Path) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0", new)
    yard.meta.corrupt(NAME, "2.0.0")
    result = yard.run()
    assert "verify=failed" in outcomes(result)
    agent.crash(yard.home())
    result = yard.run()
    assert (outcomes(result), ready(result)) == ("start=done", ("False", "BackingOff"))
    assert agent.ask(yard.home()).version == "1.0.0"
    yard.meta.heal()
    yard.later += 3600
    assert outcomes(yard.run()) == MOVED.replace("unchanged", "done")


def test_a_workdir_that_can_not_be_made_hides_no_crash(yard: Yard) -> None:
    installed(yard)
    nowhere = yard.folder / "no" / "such" / "place"
    wish(yard, "1.0.0", nowhere)
    agent.crash(yard.home())
    result = yard.run()
    assert (outcomes(result), ready(result)) == ("start=done", ("False", "WorkDirMissing"))
    assert agent.ask(yard.home()).version == "1.0.0"
    assert yard.record().home.work_dir == str(yard.work)


def test_an_old_home_that_another_process_acts_on_is_left_alone(yard: Yard, new: Path) -> None:
    pid = installed(yard)
    wish(yard, "1.0.0", new)
    with home_lock(yard.home()):
        result = yard.run()
    assert ready(result) == ("False", "HomeBusy")
    assert agent.ask(yard.home()).pid == pid
    assert outcomes(yard.run()) == MOVED, "that said nothing of what is wanted"


def test_a_workdir_that_leads_to_the_old_one_is_no_other(yard: Yard, new: Path) -> None:
    pid = installed(yard)
    new.symlink_to(yard.work)
    wish(yard, "1.0.0", new)
    result = yard.run()
    assert (result.acted, ready(result)) == (False, ("False", "UnexpectedlyRunning"))
    assert agent.ask(yard.home()).pid == pid
    agent.crash(yard.home())
    result = yard.run()
    assert "are one directory" in the_agent(result).outcomes[0].error
    assert yard.version() == "1.0.0"
    assert agent.ask(yard.home()).version == "1.0.0", "healed where it lives"


def test_a_second_copy_by_hand_is_touched_nowhere(yard: Yard, new: Path) -> None:
    pid = installed(yard)
    wish(yard, "1.0.0", new)
    yard_there = Yard(yard.folder, yard.meta)
    yard_there.work = new
    tree = yard_there.put("1.0.0")
    assert os.system(f"{tree}/control start >{yard.folder}/by-hand 2>&1") == 0
    by_hand = agent.ask(new / NAME).pid
    result = yard.run()
    assert (result.acted, ready(result)) == (False, ("False", "UnexpectedlyRunning"))
    assert (agent.ask(yard.home()).pid, agent.ask(new / NAME).pid) == (pid, by_hand)


@pytest.mark.parametrize("cmd", ["stop", ""])
def test_one_that_is_not_to_run_is_stopped_where_it_lives(yard: Yard, new: Path, cmd: str) -> None:
    installed(yard)
    wish(yard, "1.0.0", new, cmd=cmd)
    result = yard.run()
    assert (outcomes(result), running_in(yard.work) != 0) == (("stop=done", False) if cmd else ("", True))
    [reported] = yard.meta.heartbeats[-1]["realAgents"]
    assert reported["workDir"] == str(yard.work)
    assert not new.exists()
    wish(yard, "1.0.0", new)
    assert agent.ask((new if yard.run().all_ready else yard.work) / NAME).version == "1.0.0"
    assert running_in(yard.work) == 0


def test_without_an_answer_it_stays(yard: Yard, new: Path) -> None:
    installed(yard)
    wish(yard, "1.0.0", new)
    yard.publish("1.0.0")
    yard.run(begins=lambda view, action: yard.ending.set())  # the answer is kept, and nothing more is done
    yard.ending.clear()
    assert ready(yard.run(DesiredFrom.LAST_ACCEPTED)) == ("False", "ServerUnreachable")
    assert running_in(yard.work)


def test_an_operator_who_went_back_keeps_it_where_it_is(yard: Yard, new: Path) -> None:
    installed(yard)
    pin = Pin(version="1.0.0", owner="me", at=0.0)
    with yard.runtime() as runtime:
        run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE, pins=((NAME, pin),)))
    wish(yard, "1.0.0", new)
    result = yard.run()
    assert (result.acted, ready(result)) == (False, ("False", "Pinned"))
    assert running_in(yard.work)


class Killed(BaseException):
    """The updater is gone, amid an action."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cut", "starts", "then"),
    [
        # after the stop, and after the switch; the same wish once more is in tests/crash, at every operation
        *((cut, True, then) for cut in (3, 4) for then in ("kept", "back", "third")),
        (6, False, "third"),  # after the switch back
    ],
)
def test_whatever_the_server_says_after_an_updater_was_killed(
    yard: Yard, new: Path, cut: int, starts: bool, then: str
) -> None:
    """`cut`: the action after which it is gone, by an unexpected exception."""
    installed(yard)
    yard.publish("2.0.0", broken_start=not starts)
    wish(yard, "2.0.0", new)
    left = [cut]

    def ended(view: object, outcome: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    with pytest.raises(Killed):
        yard.run(ended=ended, control=GIVEN_UP)
    third = yard.folder / "third"
    wanted = {"back": yard.work, "third": third}.get(then, new)
    yard.publish("2.0.0")
    wish(yard, "2.0.0", wanted)
    yard.later += 1
    yard.run(DesiredFrom.LAST_ACCEPTED if then == "kept" else DesiredFrom.EXCHANGE, control=GIVEN_UP)
    assert len(running(yard.work, new, third)) == 1, "after one pass"
    for _ in range(2):
        yard.settle(control=GIVEN_UP)
    assert running(yard.work, new, third) == [wanted]


def test_a_switch_whose_old_home_can_not_be_left_is_none(
    yard: Yard, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old `.version` is what says where it lives: as long as it is there, it is started there."""
    from reconcile.act.steps import lifecycle
    from reconcile.errors import WriteFailed

    def fails(home: object) -> None:
        raise WriteFailed("can't remove .version: Input/output error")

    installed(yard)
    wish(yard, "1.0.0", new)
    monkeypatch.setattr(lifecycle, "leave_home", fails)
    result = yard.run()
    assert outcomes(result).endswith("stop=done switch=failed start=skipped start=done")
    assert (running_in(yard.work) != 0, running_in(new)) == (True, 0)
    assert yard.record().confirmation is None
    monkeypatch.undo()
    yard.later += 61
    assert outcomes(yard.run()) == "stop=done switch=done start=done"
    confirmation = yard.record().confirmation
    assert confirmation is not None
    assert (confirmation.stage, confirmation.left) == (UpgradePhase.WATCHING, None)


def test_a_read_only_old_home_is_found_out_before_the_stop(
    yard: Yard, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = installed(yard)
    wish(yard, "1.0.0", new)
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: "dir_fd" not in kwargs)  # the new one can be made
    result = yard.run()
    monkeypatch.undo()
    assert the_agent(result).outcomes[0].reason == "WriteFailed"
    assert agent.ask(yard.home()).pid == pid
    assert not any(o.attempts for o in the_agent(result).outcomes if isinstance(o.action, Switch))


@pytest.mark.parametrize(
    ("keys", "rule", "reason"),
    [
        ({"workDir": "/etc/agents"}, "work_dir", "PolicyRefused"),
        ({"runUser": "no-such-user"}, "run_user", "UserMissing"),
        ({"workDir": "relative"}, "work_dir", "InvalidSpec"),
    ],
)
def test_a_refused_place_leaves_it_healed_where_it_lives(
    yard: Yard, new: Path, keys: dict[str, str], rule: str, reason: str
) -> None:
    pid = installed(yard)
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **{"workDir": str(new), **keys}))
    result = yard.run()
    [refusal] = result.assessment.refused
    assert (refusal.rule, refusal.reason) == (rule, reason)
    assert (result.acted, ready(result), result.all_ready) == (False, ("False", reason), False)
    assert agent.ask(yard.home()).pid == pid
    [reported] = yard.meta.heartbeats[-1]["realAgents"]
    assert (reported["status"], reported["workDir"]) == ("started", str(yard.work))
    agent.crash(yard.home())
    assert outcomes(yard.run()) == "start=done"
    assert agent.ask(yard.home()).version == "1.0.0"
    wish(yard, "1.0.0", new)
    assert yard.run().all_ready
    assert running(yard.work, new) == [new]


@pytest.mark.slow
def test_both_homes_are_as_the_model_of_success_says_after_each_action(yard: Yard, new: Path) -> None:
    """There, and back: observed after every real action, and equal in every field."""
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    wish(yard, "2.0.0", new)
    model = Modelled(yard.place(), evolve(yard.place(), work_dir=str(new)))
    result = yard.run(ended=model.ended, control=GIVEN_UP)
    assert outcomes(result).endswith("switch=done start=failed switch=done start=done")
    assert len(model.equal) == 2 * 6
    assert all(model.equal)


def test_where_it_runs_is_said_of_its_user(yard: Yard, new: Path) -> None:
    installed(yard)
    wish(yard, "1.0.0", new)
    assert the_agent(yard.run()).view.plan.message == f"1.0.0 in {yard.work} as {OWN} -> 1.0.0 in {new} as {OWN}"
