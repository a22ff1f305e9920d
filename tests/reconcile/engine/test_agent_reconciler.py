"""One agent's part of a pass: the way back in the same pass, what a failure leaves running, and what is written down.

Real passes over real agents; `yard.settle` lets the watch pass.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from attrs import evolve

from probes.errors import UserMissing
from probes.host.facts import User
from probes.observed import Evidence
from probes.worker import pool
from reconcile.act.context import ControlLimits
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Action, Fetch, Held, Outcome, Plan, Start, Stop
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.hold import Hold
from reconcile.decide.records.record import Crashes, FailureKind, Pin, UpgradePhase
from reconcile.decide.target import RemoteInputs, Target
from reconcile.engine.operator_requests import remember_pin
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import AgentResult, PassResult
from reconcile.errors import WriteFailed
from reconcile.storage.hold_files import put_hold, put_release, read_requests
from reconcile.storage.store import read_state
from tests.reconcile.decide.worlds import seen
from tests.reconcile.decide.worlds import wish as wish_of
from tests.support.sample_agents import AgentBehavior, control_script
from tests.yard import GIVEN_UP, NAME, SHORT, Yard, ready, the_agent, types
from updater.demo import agent

BRING = "fetch=done verify=done unpack=done"


def wish(yard: Yard, version: str, **keys: Any) -> None:
    yard.meta.desire(yard.meta.agent(NAME, version, **keys))


def installed(yard: Yard, version: str = "1.0.0", **keys: Any) -> int:
    """A version that became good; its pid."""
    yard.publish(version)
    wish(yard, version, **keys)
    yard.run()
    assert ready(yard.settle()) == ("True", "AsDesired")
    return agent.ask(yard.home()).pid


def broken(yard: Yard, version: str = "2.0.0", **keys: Any) -> None:
    """Want a version that does not start."""
    yard.publish(version, broken_start=True)
    wish(yard, version, **keys)


def verdict(result: PassResult) -> Held:
    held = the_agent(result).after.verdict
    assert isinstance(held, Held)
    return held


# The way back


def test_a_version_that_does_not_start_is_rolled_back_in_the_same_pass(yard: Yard) -> None:
    installed(yard)
    broken(yard)
    result = yard.run(control=GIVEN_UP)
    one = the_agent(result)
    assert [types(done.outcomes) for done in one.executed] == [
        f"{BRING} stop=done switch=done start=failed",
        "switch=done start=done",  # its control says that it is stopped: no stop, and no download
    ]
    assert (one.went_back, one.runs, one.is_quarantined, result.is_final) == (True, True, True, True)
    assert ready(result) == ("False", "RolledBack")
    assert agent.ask(yard.home()).version == "1.0.0"
    [failure] = yard.record().failures
    assert (failure.content.version, failure.verdict, failure.reason) == (
        "2.0.0",
        FailureKind.ROLLED_BACK,
        "StartFailed",
    )
    [said] = one.news
    assert said.endswith("; back to 1.0.0")
    assert yard.history()[-3:] == ["VersionDiffers", "RolledBack", said]


def test_rolled_back_content_is_not_tried_again_by_time(yard: Yard) -> None:
    installed(yard)
    broken(yard)
    yard.run(control=GIVEN_UP)
    pid, downloads = agent.ask(yard.home()).pid, yard.tarball_requests()
    yard.later += 30 * 86400
    result = yard.run(control=GIVEN_UP)
    one = the_agent(result)
    assert (one.acted, one.went_back, verdict(result).reason) == (False, False, "Quarantined")
    assert ready(result) == ("False", "Quarantined")
    assert (agent.ask(yard.home()).pid, yard.tarball_requests()) == (pid, downloads)


def test_what_failed_beside_a_process_that_was_left_is_tried_again_by_time_and_once(yard: Yard) -> None:
    helper = "start() {\n    sleep 600 >/dev/null 2>&1 &\n    echo $! >>../helpers"
    control = control_script(NAME, "1.0.0", AgentBehavior()).replace("start() {", helper, 1)
    yard.publish("1.0.0", control=control)
    wish(yard, "1.0.0")
    yard.run()
    assert ready(yard.settle()) == ("True", "AsDesired")
    broken(yard)
    short = evolve(GIVEN_UP, outlasting_s=0.1)
    try:
        one = the_agent(result := yard.run(control=short))
        [failed] = [outcome for outcome in one.outcomes if outcome.error]
        pid = (yard.home() / "helpers").read_text().split()[0]
        assert f"; process {pid} (sleep) outlived the stop" in failed.error
        assert (ready(result), one.went_back, one.is_quarantined) == (("False", "RolledBack"), True, False)
        result = yard.run(control=short)
        assert (ready(result), the_agent(result).acted) == (("False", "BackingOff"), False)
        yard.later += 61
        one = the_agent(yard.run(control=short))
        assert (one.went_back, one.is_quarantined) == (True, True)
        yard.later += 86400
        assert ready(yard.run(control=short)) == ("False", "Quarantined")
        assert agent.ask(yard.home()).version == "1.0.0"
    finally:
        for pid in (yard.home() / "helpers").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


CRLF = "#!/bin/sh\r\necho started\r\n"


@pytest.mark.parametrize("content", [CRLF, "#!/usr/bin/env bash5\n", "echo started\n"], ids=["crlf", "env", "no-line"])
def test_a_control_that_can_not_be_executed_is_known_before_the_stop(yard: Yard, content: str) -> None:
    pid = installed(yard)
    yard.publish("2.0.0", control=content)
    wish(yard, "2.0.0")
    one = the_agent(result := yard.run())
    assert types(one.outcomes) == "fetch=done verify=done unpack=failed stop=skipped switch=skipped start=skipped"
    assert (ready(result), agent.ask(yard.home()).pid) == (("False", "InterpreterMissing"), pid)
    assert (yard.version(), yard.record().confirmation) == ("1.0.0", None)
    held = verdict(result := yard.run())
    assert (the_agent(result).acted, held.reason) == (False, "BackingOff")
    assert "2.0.0/control" in held.message
    yard.later += 61  # it is staged by now, and looked at again before the stop
    one = the_agent(result := yard.run())
    assert types(one.outcomes) == "stop=failed switch=skipped start=skipped"
    assert (ready(result), agent.ask(yard.home()).pid) == (("False", "InterpreterMissing"), pid)
    (yard.home() / "2.0.0" / "control").write_text(control_script(NAME, "2.0.0", AgentBehavior()))
    yard.later += 301
    assert types(the_agent(yard.run()).outcomes) == "stop=done switch=done start=done"


def test_a_first_install_whose_control_can_not_be_executed_is_not_switched_to(yard: Yard) -> None:
    yard.publish("1.0.0", control=CRLF)
    wish(yard, "1.0.0")
    result = yard.run()
    assert ready(result) == ("False", "InterpreterMissing")
    assert not (yard.home() / ".version").exists()


def test_a_replacement_whose_control_can_not_be_executed_takes_no_place(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("1.0.0", control=CRLF)
    wish(yard, "1.0.0")
    assert ready(yard.run()) == ("False", "InterpreterMissing")
    assert agent.ask(yard.home()).pid == pid


def test_a_way_back_that_can_not_be_executed_stops_nothing(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.run()
    assert ready(yard.settle()) == ("True", "AsDesired")
    pid = agent.ask(yard.home()).pid
    (yard.home() / "1.0.0" / "control").write_text(CRLF)
    with yard.runtime() as runtime:
        runtime.store.save([evolve(yard.record(), pin=Pin(version="1.0.0", owner="ann", at=0))])
    one = the_agent(yard.run())
    assert types(one.outcomes) == "stop=failed switch=skipped start=skipped"
    assert one.outcomes[0].reason == "InterpreterMissing"
    assert (yard.version(), agent.ask(yard.home()).pid) == ("2.0.0", pid)


@pytest.mark.parametrize("gone", ["", "1.0.0"], ids=["its home", "its version's folder"])
def test_what_runs_from_a_removed_folder_is_never_doubled(yard: Yard, gone: str) -> None:
    """The same version is left as it is; a stop or another version ends it, since its control is gone."""
    pid = installed(yard)
    shutil.rmtree(yard.home() / gone)
    result = yard.run()
    assert (the_agent(result).acted, ready(result)) == (False, ("Unknown", "StatusUnknown"))
    assert f"runs from {yard.home()}/1.0.0, which was removed" in the_agent(result).conditions[0].message
    assert agent.running_below(yard.home()) == (pid,)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    assert types(the_agent(yard.run()).outcomes) == f"{BRING} stop=done switch=done start=done"
    assert agent.running_below(yard.home()) == (agent.ask(yard.home()).pid,)
    assert agent.ask(yard.home()).version == "2.0.0"
    shutil.rmtree(yard.home())
    wish(yard, "2.0.0", cmd="stop")
    result = yard.run()
    assert types(the_agent(result).outcomes) == "stop=done"
    assert ready(result) == ("True", "AsDesired"), the_agent(result).conditions[0].message
    assert agent.running_below(yard.home()) == ()


def test_what_runs_though_its_home_was_moved_away_is_never_doubled(yard: Yard) -> None:
    """Its paths lead nowhere, but it is of the session of the last start."""
    pid = installed(yard)
    away = yard.home().rename(yard.folder / "away")
    one = the_agent(yard.run())
    assert (one.acted, one.observed.evidence) == (False, Evidence.SEEN)
    assert f"process {pid} (" in one.observed.blocked_by
    assert "is gone, moved away or unmounted: no second copy is started beside it" in one.observed.blocked_by
    away.rename(yard.home())
    assert (yard.run().all_ready, agent.ask(yard.home()).pid) == (True, pid)


def test_what_runs_from_a_removed_folder_and_does_not_end_stays_alone(yard: Yard) -> None:
    yard.publish("1.0.0", ignores_term=True)
    wish(yard, "1.0.0")
    yard.run()
    pid = agent.ask(yard.home()).pid
    shutil.rmtree(yard.home())
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    one = the_agent(yard.run(control=ControlLimits(stop_s=0.3)))
    assert types(one.outcomes) == f"{BRING} stop=failed switch=skipped start=skipped"
    assert f"process {pid} " in one.outcomes[3].error
    assert agent.running_below(yard.home()) == (pid,)


def test_other_content_or_a_release_lifts_it(yard: Yard) -> None:
    installed(yard)
    broken(yard)
    yard.run(control=GIVEN_UP)
    put_release(yard.holds, NAME)
    result = yard.run(control=GIVEN_UP)  # it was released, tried, and is as bad as before
    assert types(the_agent(result).outcomes) == "stop=done switch=done start=failed switch=done start=done"
    assert not list(yard.holds.iterdir())
    yard.publish("2.0.0", extra={"mended.txt": b""})
    wish(yard, "2.0.0")
    result = yard.run(control=GIVEN_UP)
    assert types(the_agent(result).outcomes) == f"{BRING} stop=done switch=done start=done"
    assert agent.ask(yard.home()).version == "2.0.0"


def test_the_way_back_makes_no_confirmation(yard: Yard) -> None:
    """There is nothing further to go back to: what one went back to is merely kept running."""
    installed(yard)
    broken(yard)
    notes: list[tuple[str, UpgradePhase | None]] = []

    def begins(view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Start):
            open_switch = yard.record().confirmation
            notes.append((action.version, None if open_switch is None else open_switch.stage))

    result = yard.run(control=GIVEN_UP, begins=begins)
    assert notes[0] == ("2.0.0", UpgradePhase.SWITCHING)
    assert [version for version, _ in notes] == ["2.0.0", "1.0.0"]
    assert yard.record().confirmation is None
    assert not the_agent(result).after.confirming
    agent.crash(yard.home())
    assert types(the_agent(yard.run()).outcomes) == "start=done"
    assert agent.ask(yard.home()).version == "1.0.0"


def test_a_version_that_dies_within_its_watch_is_rolled_back_by_the_next_pass(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert (ready(result), result.is_final) == (("True", "Confirming"), False)
    open_switch = yard.record().confirmation
    assert open_switch is not None
    assert open_switch.deadline is not None
    assert result.wake_at == pytest.approx(open_switch.deadline, abs=1)
    agent.crash(yard.home())
    result = yard.run()
    one = the_agent(result)
    assert types(one.outcomes) == "switch=done start=done"
    assert one.view.news.startswith("2.0.0 did not keep running")
    assert agent.ask(yard.home()).version == "1.0.0"
    assert verdict(result).reason == "Quarantined"


def test_a_rollback_that_heals_before_the_config_is_asked_is_reported(yard: Yard) -> None:
    url = yard.meta.publish_config("/conf/cfg.json", b"{}")
    keys = {"configFileName": "cfg.json", "configRemoteUrl": url}
    installed(yard, **keys)
    yard.publish("2.0.0")
    wish(yard, "2.0.0", **keys)
    yard.run()
    agent.crash(yard.home())
    one = the_agent(yard.run())
    assert [types(done.outcomes) for done in one.executed] == ["switch=done start=done"]
    assert agent.ask(yard.home()).version == "1.0.0"
    [news] = one.news
    assert news.startswith("2.0.0 did not keep running")
    assert yard.history().count(news) == 1


def test_a_config_that_breaks_the_agent_is_rolled_back(yard: Yard) -> None:
    """The control script of this agent refuses to start with it."""
    url = yard.meta.publish_config("/conf/cfg.json", b'{"greeting": "old"}')
    keys = {"configFileName": "cfg.json", "configRemoteUrl": url}
    yard.publish("1.0.0", control=NEEDS_A_GREETING)
    wish(yard, "1.0.0", **keys)
    yard.run()
    yard.settle()
    yard.meta.publish_config("/conf/cfg.json", b"broken")
    result = yard.run(control=GIVEN_UP)
    assert [types(done.outcomes) for done in the_agent(result).executed] == [
        "configure=done stop=done switch=done start=failed",
        "configure=done switch=done start=done",
    ]
    assert ready(result) == ("False", "RolledBack")
    assert (yard.home() / "1.0.0" / "cfg.json").read_text() == '{"greeting": "old"}'


NEEDS_A_GREETING = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) grep -q greeting cfg.json && touch up ;;
stop) rm -f up ;;
status) [ -e up ] && echo started || echo stoped ;;
esac
"""


def test_what_was_gone_back_to_is_started_once_more_in_the_same_pass(yard: Yard) -> None:
    installed(yard)
    tree = yard.home() / "1.0.0"
    control = (tree / "control").read_text().partition("\n")
    (tree / "control").write_text(
        f'{control[0]}\n[ "$1" = start ] && rm {tree}/fails-once 2>/dev/null && exit 1\n{control[2]}'
    )
    (tree / "fails-once").touch()
    broken(yard, "2.0.0")
    result = yard.run(control=GIVEN_UP)
    assert [types(done.outcomes).split()[-1] for done in the_agent(result).executed] == [
        "start=failed",
        "start=failed",
        "start=done",
    ]
    assert agent.ask(yard.home()).version == "1.0.0"


def test_where_there_is_nothing_to_go_back_to_it_is_started_again(yard: Yard) -> None:
    broken(yard, "1.0.0")
    result = yard.run(control=GIVEN_UP)
    one = the_agent(result)
    assert [types(done.outcomes) for done in one.executed] == [f"{BRING} switch=done start=failed"], "once in a pass"
    assert one.news[0].endswith("; there is nothing to go back to")
    assert (one.went_back, one.is_quarantined) == (False, False)
    assert yard.record().crashes is not None
    assert (verdict(result).reason, ready(result)) == ("BackingOff", ("False", "StartFailed"))
    yard.later += 11
    assert types(the_agent(yard.run(control=GIVEN_UP)).outcomes) == "start=failed"


def test_a_way_back_that_did_not_succeed_is_no_rollback(yard: Yard) -> None:
    """What failed still is in use, and is reported so, in this pass and in later ones."""
    installed(yard)
    yard.publish("2.0.0", status_words=("so so", "stoped"), ignores_term=True)
    wish(yard, "2.0.0")
    result = yard.run(control=SHORT)
    one = the_agent(result)
    assert types(one.executed[1].outcomes) == "stop=failed start=failed switch=skipped start=skipped"
    assert ready(result) == ("False", "StopFailed")
    assert (one.went_back, one.is_quarantined, result.is_final) == (False, False, False)
    assert yard.version() == "2.0.0"
    again = yard.run(control=SHORT)
    assert not the_agent(again).acted
    assert ready(again) == ("False", "Quarantined")
    assert "2.0.0 failed, and going back from it has not succeeded yet" in verdict(again).message

    agent.end_all(yard.home())
    yard.later += 61
    late = yard.run(control=GIVEN_UP)
    assert (ready(late), the_agent(late).went_back) == (("False", "RolledBack"), True)
    assert agent.ask(yard.home()).version == "1.0.0"
    assert verdict(late).message.endswith(f"not tried again until its content changes, or `updater release {NAME}`")


def short_of_processes(monkeypatch: pytest.MonkeyPatch, verb: str, times: int, number: int = errno.EAGAIN) -> list[str]:
    """The kernel refuses so many forks for this verb; what was refused."""
    spawn, refused = subprocess.Popen.__init__, list[str]()

    def init(self: Any, argv: list[str], **keywords: Any) -> None:
        if argv[-1] == verb and len(refused) < times:
            refused.append(verb)
            raise OSError(number, os.strerror(number))
        spawn(self, argv, **keywords)

    monkeypatch.setattr(subprocess.Popen, "__init__", init)
    return refused


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.EIO])
def test_a_cause_on_the_host_fails_no_version(yard: Yard, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    refused = short_of_processes(monkeypatch, "start", 99, number)
    result = yard.run()
    assert ready(result) == ("False", "StartFailed")
    assert os.strerror(number) in the_agent(result).outcomes[-1].error
    assert (yard.version(), yard.record().failures, yard.record().crashes) == ("2.0.0", (), None)
    pending = yard.record().confirmation
    assert pending is not None
    assert pending.stage is UpgradePhase.SWITCHING, "it was not seen running, so no watch has begun"
    refused += [""] * 99
    assert ready(yard.run()) == ("True", "Confirming")
    assert agent.ask(yard.home()).version == "2.0.0"


def test_a_user_that_we_can_not_become_any_more_fails_no_version(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when sudo goes, or its rule, between the switch and the start."""
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")

    def gone(name: str) -> User:
        raise UserMissing(f"the user {name!r} does not exist on this host")

    def begins(view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Start):
            monkeypatch.setattr(pool, "is_us", lambda user: False)
            monkeypatch.setattr(pool, "find_user", gone)

    def ended(view: AgentEvaluation, outcome: Outcome) -> None:
        if isinstance(outcome.action, Start):
            monkeypatch.undo()  # it is back: all that happens in this pass from here on is as ever

    result = yard.run(begins=begins, ended=ended)
    outcomes = [outcome for one in the_agent(result).executed[:1] for outcome in one.outcomes]
    assert types(tuple(outcomes)) == f"{BRING} stop=done switch=done start=failed"
    assert outcomes[-1].reason == "UserMissing"
    assert (yard.version(), yard.record().failures, yard.record().crashes) == ("2.0.0", (), None)
    assert ready(yard.run()) == ("True", "Confirming")
    assert agent.ask(yard.home()).version == "2.0.0"


def test_a_moment_short_of_processes_is_waited_out(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    short_of_processes(monkeypatch, "stop", 1)
    result = yard.run()
    assert types(the_agent(result).outcomes) == f"{BRING} stop=done switch=done start=done"


def test_an_agent_that_could_not_be_asked_is_no_unknown_status(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch is over and its status can't be asked for want of a process: that takes nothing back."""
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    yard.run()
    yard.later += 31
    refused = short_of_processes(monkeypatch, "status", 999)
    result = yard.run()
    assert not the_agent(result).acted
    assert ready(result) == ("Unknown", "StatusUnknown")
    refused += [""] * 999
    assert ready(yard.run()) == ("True", "AsDesired")
    assert agent.ask(yard.home()).version == "2.0.0"


# A failure before the switch


def test_a_change_that_fetches_waits_until_what_is_in_use_was_started(yard: Yard) -> None:
    """Nobody knows how long the server takes: it sends nothing, and the agent runs already."""
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    runs: list[bool] = []

    def begins(view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Fetch):
            runs.append(agent.pid_of(yard.home()) is not None)

    result = yard.run(begins=begins)
    assert runs == [True]
    assert [types(done.outcomes) for done in the_agent(result).executed] == [
        "start=done",
        f"{BRING} stop=done switch=done start=done",
    ]
    view = the_agent(result).view
    assert view.heal is not None
    planned = (*view.heal.due.actions, *view.plan.actions)
    assert [outcome.action for outcome in the_agent(result).outcomes] == list(planned)
    assert all(outcome.action is action for outcome, action in zip(the_agent(result).outcomes, planned, strict=True))
    assert yard.history()[-2:] == ["NotRunning", "VersionDiffers"]
    assert ready(result) == ("True", "Confirming")
    assert (agent.ask(yard.home()).version, yard.record().crashes) == ("2.0.0", None)


def test_what_does_not_come_up_again_keeps_no_change_away(yard: Yard) -> None:
    """The version in use is beyond repair, and what the server asks for is the repair."""
    installed(yard)
    agent.crash(yard.home())
    (yard.home() / "1.0.0" / "control").write_text("#!/bin/sh\necho stoped\n")
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run(control=GIVEN_UP)
    assert [types(done.outcomes) for done in the_agent(result).executed] == [
        "start=failed",
        f"{BRING} switch=done start=done",
    ]
    assert ready(result) == ("True", "Confirming")


def test_a_failure_before_the_switch_leaves_the_agent_running_and_is_retried_later(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    yard.meta.corrupt(NAME, "2.0.0")
    wish(yard, "2.0.0")
    result = yard.run()
    assert [types(done.outcomes) for done in the_agent(result).executed] == [
        "start=done",
        "fetch=done verify=failed unpack=skipped stop=skipped switch=skipped start=skipped",
    ]
    assert agent.ask(yard.home()).version == "1.0.0"
    assert (verdict(result).reason, yard.record().confirmation) == ("BackingOff", None)
    downloads = yard.tarball_requests()
    for delay in (59, 2, 299, 2):  # it is tried again after one minute, then after five
        yard.later += delay
        yard.run()
    assert yard.tarball_requests() == downloads + 2


def test_a_stop_that_fails_is_held_back_and_the_agent_runs_on(yard: Yard) -> None:
    yard.publish("1.0.0", ignores_term=True)
    wish(yard, "1.0.0")
    yard.run()
    yard.settle()
    pid = agent.ask(yard.home()).pid
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run(control=ControlLimits(stop_s=0.3))
    assert types(the_agent(result).outcomes) == f"{BRING} stop=failed start=done switch=skipped start=skipped"
    assert (verdict(result).reason, agent.ask(yard.home()).pid) == ("BackingOff", pid)
    assert yard.record().crashes in (None, Crashes(count=1, at=yard.record().failures[0].at))


def test_one_that_crashed_and_was_then_stopped_in_vain_is_started_at_once(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is healed before its change is fetched, so that its next crash would be paced: but we stopped it."""
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    rename = os.rename

    def no_switch(source: Any, target: Any, **keys: Any) -> None:
        if target == ".version":
            raise OSError(errno.EIO, "as if the disk broke")
        rename(source, target, **keys)

    with monkeypatch.context() as failing:
        failing.setattr(os, "rename", no_switch)
        result = yard.run()
    assert [types(done.outcomes) for done in the_agent(result).executed] == [
        "start=done",
        f"{BRING} stop=done switch=failed start=skipped",
        "start=done",
    ]
    assert (agent.ask(yard.home()).version, verdict(result).reason) == ("1.0.0", "BackingOff")
    crashes = yard.record().crashes
    assert (crashes is not None and crashes.count, yard.record().stopped_by_us) == (1, False)


# What waits for people


def unready(reason: str, world: str, *, asked: str = "start 1.0=A", due: str = "", is_back: bool = True) -> AgentResult:
    """One that is held for this reason, as it stands at the end of its pass. `due`: a version to start meanwhile."""
    desired, observed = wish_of(asked).desired, seen(world)
    plan = Plan(name=desired.name, reason=reason, message="")
    meanwhile = evolve(plan, actions=(Start(version=due),) if due else ())
    view = AgentEvaluation(
        desired=desired,
        observed=observed,
        record=None,
        remote=RemoteInputs(),
        target=Target(name=desired.name, run=desired.run),
        verdict=Held(plan=plan, reason=reason, message="", meanwhile=meanwhile),
        is_back=is_back,
    )
    return AgentResult(view=view, after=view, executed=(), conditions=(), record=None, at=0.0)


@pytest.mark.parametrize(
    ("reason", "world", "further", "expected"),
    [
        ("PolicyRefused", "2.0=A started", {}, True),
        ("PolicyRefused", "", {}, True),  # what was never here waits for nothing
        ("PolicyRefused", "2.0=A stoped", {}, False),  # it crashed, and is started once its delay has passed
        ("PolicyRefused", "2.0=A stoped", {"due": "2.0"}, False),
        ("PolicyRefused", "2.0=A stoped", {"asked": "stop"}, True),
        ("UserMissing", "", {}, True),
        ("RunUserChanged", "1.0=A started", {}, True),
        ("SudoRefused", "stray sudo says no", {}, True),
        ("Quarantined", "1.0=A started", {}, True),
        ("Quarantined", "1.0=A stoped", {}, False),
        ("Quarantined", "1.0=A started", {"is_back": False}, False),
        ("Pinned", "1.0=A started", {}, True),
        ("Pinned", "2.0=A started", {"is_back": False}, False),  # its way back failed, and is tried again
        ("BackingOff", "1.0=A started", {}, False),
        ("ServerUnreachable", "1.0=A started", {}, False),
        ("StatusUnknown", "1.0=A unknown", {}, False),
        ("UnexpectedlyRunning", "1.0=A started", {}, False),  # the other one may end by itself
        ("FetchFailed", "1.0=A started", {}, False),
    ],
)
def test_what_no_further_pass_betters(reason: str, world: str, further: dict[str, Any], expected: bool) -> None:
    assert unready(reason, world, **further).is_for_people is expected


# Notes


def refuse(yard: Yard, stage: UpgradePhase) -> Callable[[AgentEvaluation, Action], None]:
    """From the first action on, let the memory refuse a record whose switch is at this stage."""

    def begins(view: AgentEvaluation, action: Action) -> None:
        with closing(sqlite3.connect(yard.db)) as db, db:
            db.execute("DROP TRIGGER IF EXISTS full")
            db.execute(
                f"""CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.record LIKE '%"stage": "{stage.value}"%' """
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        db.close()

    return begins


def test_a_note_that_can_not_be_written_before_the_stop_stops_nothing(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run(begins=refuse(yard, UpgradePhase.SWITCHING))
    assert types(the_agent(result).outcomes) == f"{BRING} stop=failed switch=skipped start=skipped"
    failed = the_agent(result).outcomes[3]
    assert (failed.reason, "disk full" in failed.error) == ("WriteFailed", True)
    assert agent.ask(yard.home()).pid == pid
    stored = next(c for c in result.conditions if c.type == "StateStored")
    assert (stored.status, stored.reason) == ("False", "WriteFailed")


def test_a_note_that_can_not_be_written_after_the_start_is_no_failure(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    result = yard.run(begins=refuse(yard, UpgradePhase.WATCHING))
    assert types(the_agent(result).outcomes) == f"{BRING} stop=done switch=done start=done"
    assert result.all_ready
    open_switch = yard.record().confirmation
    assert open_switch is not None
    assert open_switch.stage is UpgradePhase.SWITCHING  # the next run sees it up, and its watch begins then
    with closing(sqlite3.connect(yard.db)) as db, db:
        db.execute("DROP TRIGGER full")
    db.close()
    yard.run()
    open_switch = yard.record().confirmation
    assert open_switch is not None
    assert open_switch.stage is UpgradePhase.WATCHING
    assert ready(yard.settle()) == ("True", "AsDesired")


def test_a_switch_whose_fsync_fails_was_made_and_its_way_back_is_not_forgotten(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    fsync = os.fsync

    def fail_once_it_is_in_use(fd: int) -> None:
        if (yard.home() / ".version").read_text() == "2.0.0":
            raise OSError(errno.EIO, "as if the disk broke")
        fsync(fd)

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fail_once_it_is_in_use)
        result = yard.run()
    assert types(the_agent(result).executed[0].outcomes) == f"{BRING} stop=done switch=failed start=skipped"
    open_switch = yard.record().confirmation
    assert open_switch is not None
    assert open_switch.before is not None
    assert open_switch.before.version == "1.0.0"
    assert yard.record().failures == ()
    yard.run()
    assert agent.ask(yard.home()).version == "2.0.0"
    assert ready(yard.settle()) == ("True", "AsDesired")


# An operator's hand


def hold(yard: Yard, until: float | None = None) -> None:
    put_hold(yard.holds, NAME, Hold(owner="anna", reason="looking", until=until))


def test_a_held_agent_is_observed_and_nothing_else_crashes_included(yard: Yard) -> None:
    installed(yard)
    hold(yard)
    broken(yard)
    agent.crash(yard.home())
    result = yard.run()
    one = the_agent(result)
    assert (one.acted, one.is_held_by_operator, one.runs) == (False, True, False)
    assert (result.all_ready, result.unready) == (True, ())  # an operator's hold is no failure
    assert yard.history()[-1] == "held by anna: looking"
    yard.run()
    assert yard.history().count("held by anna: looking") == 1
    put_release(yard.holds, NAME, "ann")
    wish(yard, "1.0.0")
    assert types(the_agent(yard.run()).outcomes) == "start=done"
    assert any(said.startswith("released by ann: ") for said in yard.history())


def test_a_hold_that_comes_while_we_fetch_is_seen_before_the_stop(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")

    def ended(view: AgentEvaluation, outcome: Outcome) -> None:
        hold(yard)

    result = yard.run(ended=ended)
    assert types(the_agent(result).outcomes) == f"{BRING} stop=skipped switch=skipped start=skipped"
    assert agent.ask(yard.home()).pid == pid
    assert yard.record().failures == ()


def test_a_hold_ends_by_itself_and_the_daemon_wakes_for_it(yard: Yard) -> None:
    installed(yard)
    yard.now = 1_800_000_000.0
    hold(yard, until=yard.now + 100)
    agent.crash(yard.home())
    result = yard.run()
    assert result.wake_at == yard.now + 100
    yard.now += 101
    assert types(the_agent(yard.run()).outcomes) == "start=done"
    assert not list(yard.holds.iterdir())


def rollback(yard: Yard, version: str) -> AgentResult:
    pin = Pin(version=version, owner="anna", at=yard.around().clock())
    with yard.runtime(control=GIVEN_UP) as runtime:
        return the_agent(run_pass(runtime, PassRequest(ask=DesiredFrom.OFFLINE, pins=((NAME, pin),))))


def test_a_pinned_agent_goes_back_stays_there_and_is_healed(yard: Yard) -> None:
    installed(yard)
    installed(yard, "2.0.0")
    one = rollback(yard, "1.0.0")
    assert types(one.outcomes) == "stop=done switch=done start=done"
    for change in (lambda: None, lambda: agent.crash(yard.home())):
        change()
        result = yard.run()
        assert verdict(result).reason == "Pinned"
        assert agent.ask(yard.home()).version == "1.0.0"
    yard.later += 86400
    assert the_agent(yard.run()).acted is False
    put_release(yard.holds, NAME)
    assert types(the_agent(yard.run()).outcomes) == "stop=done switch=done start=done"
    assert (agent.ask(yard.home()).version, yard.record().pin) == ("2.0.0", None)


def test_a_release_that_was_asked_for_before_a_pin_does_not_end_it(yard: Yard) -> None:
    installed(yard)
    put_release(yard.holds, NAME)
    for name in (NAME, "one that nobody desires"):
        with yard.runtime() as runtime:
            remember_pin(yard.around(), runtime.store, name, Pin(version="1.0.0", owner="ann", at=1.0))
    assert not read_requests(yard.holds).releases
    assert yard.run().all_ready is False
    assert yard.record().pin == Pin(version="1.0.0", owner="ann", at=1.0)
    assert read_state(yard.db).record("one that nobody desires") is None


def test_a_pin_that_can_not_be_remembered_touches_nothing(yard: Yard) -> None:
    installed(yard)
    pid = installed(yard, "2.0.0")
    with closing(sqlite3.connect(yard.db)) as db, db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    db.close()
    with pytest.raises(WriteFailed, match="disk full"):
        rollback(yard, "1.0.0")
    assert agent.ask(yard.home()).pid == pid


# Versions on disk


def test_versions_beyond_keep_go_and_never_one_that_is_needed(yard: Yard) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        installed(yard, version)
    assert yard.look().installed == ("1.1.0", "1.2.0")
    broken(yard)
    yard.run(control=GIVEN_UP)
    yard.later += 3600
    yard.run()
    there = yard.look().installed
    assert {"1.2.0", "2.0.0"} <= set(there)  # in use, and at hand for a release


def test_a_plan_that_is_not_approved_is_not_carried_out(yard: Yard) -> None:
    pid = installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")

    def refused(found: object) -> None:
        raise RuntimeError("not this one")

    with yard.runtime() as runtime, pytest.raises(RuntimeError, match="not this one"):
        run_pass(runtime, PassRequest(ask=DesiredFrom.EXCHANGE, approve=refused))
    assert agent.ask(yard.home()).pid == pid
    assert yard.look().installed == ("1.0.0",)


def test_to_end_amid_a_change_that_fails_still_goes_back(yard: Yard) -> None:
    """We are asked to end at the stop; the new version does not start, and the agent is not left down."""
    installed(yard)
    broken(yard)

    def begins(view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Stop):
            yard.ending.set()

    result = yard.run(control=GIVEN_UP, begins=begins)
    assert types(the_agent(result).outcomes).endswith("start=failed switch=done start=done")
    assert agent.ask(yard.home()).version == "1.0.0"


def test_an_end_after_a_failure_that_touched_nothing_leaves_the_rest_for_later(yard: Yard) -> None:
    installed(yard, "2.0.0")
    installed(yard)
    url = yard.meta.publish_config("/conf/cfg.json", b'{"greeting": "one"}')
    wish(yard, "2.0.0", configFileName="cfg.json", configRemoteUrl=url)
    (yard.home() / "2.0.0" / "cfg.json" / "in the way").mkdir(parents=True)

    def begins(view: AgentEvaluation, action: Action) -> None:
        agent.crash(yard.home())

    def ended(view: AgentEvaluation, outcome: Outcome) -> None:
        yard.ending.set()

    result = yard.run(begins=begins, ended=ended)
    assert types(the_agent(result).outcomes) == "configure=failed stop=skipped switch=skipped start=skipped"
    assert not the_agent(result).runs
    yard.ending.clear()
    assert agent.pid_of(yard.home()) is None
    assert types(the_agent(yard.run()).outcomes).endswith("start=done")
