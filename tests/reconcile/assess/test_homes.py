"""Which homes are observed: by whose user, and where nothing is left of a former one's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from attrs import evolve

from probes.host import procfs
from probes.observed import Evidence, HomeRef, ObservedAgent, ObservedHost
from reconcile.assess.homes import abandoned_homes, homes_to_observe, observe_now, with_runaways
from reconcile.decide.records.record import AgentRecord, ControlCall
from reconcile.storage.store import StoredState
from tests.reconcile.decide.worlds import BOOT, NAME, PLACE, WORK_DIR, record, seen, wish
from tests.yard import OWN, Yard

FORMER = HomeRef(name=NAME, work_dir=WORK_DIR, run_user="former")


def test_a_home_without_traces_of_its_former_user_is_observed_as_the_wanted_user() -> None:
    desired = wish("start 2.0=A").desired
    state = StoredState(records=(evolve(record(), run_user="former"),))
    assert homes_to_observe((desired,), state) == (FORMER,)
    for there, given_up in ((ObservedAgent(home=FORMER), True), (evolve(seen("1.0=A started"), home=FORMER), False)):
        host = ObservedHost(at=0.0, agents=(there,))
        assert abandoned_homes(host, (desired,), state) == ((desired.home,) if given_up else ())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks as other users without sudo")
def test_a_second_look_finds_it_at_home_where_nothing_is_left_of_its_former_user(yard: Yard) -> None:
    desired = evolve(wish("start 2.0=A").desired, work_dir="/var/tmp", run_user=OWN)
    for former in (None, evolve(record(), work_dir="/var/tmp", run_user="nobody")):
        with yard.around().workers.at_work():
            found = observe_now(desired, former, yard.around())
        assert (found.observed.home, found.observed.blocked_by) == (desired.home, "")


# --- what runs though its home is gone ---

GONE = ObservedAgent(home=PLACE)


@pytest.fixture
def started() -> Iterator[ControlCall]:
    """The last start of 1.0, of which a process is left."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        ticks = procfs.started_at(process.pid)
        assert ticks is not None
        yield ControlCall(version="1.0", verb="start", pid=process.pid, started=ticks, boot=BOOT, limit_s=60, over=True)
        process.kill()


def runs_away(there: ObservedAgent, *records: AgentRecord, boot: str = BOOT) -> str:
    """Why the agent is left alone; empty: it is not."""
    host = ObservedHost(at=0.0, agents=(evolve(GONE, home=FORMER), there))
    other, found = with_runaways(host, records, boot).agents
    assert other == evolve(GONE, home=FORMER), "no record is of that home"
    assert (found == there) is (found.blocked_by == "")
    assert found.evidence is (Evidence.SEEN if found.blocked_by else there.evidence)
    return found.blocked_by


def test_what_the_last_start_left_keeps_a_second_copy_away(started: ControlCall) -> None:
    why = runs_away(GONE, record(calls=(started,)))
    assert f"process {started.pid} (sleep), which the last start of 1.0 left, runs, and " in why
    assert f"/{NAME} is gone" in why
    unmounted = evolve(GONE, no_home="its disk is not there", no_home_reason="WorkDirMissing")
    assert runs_away(unmounted, record(calls=(started,))) == why


def test_a_home_that_is_there_has_no_runaway(started: ControlCall) -> None:
    for there in (seen("1.0=A started"), seen("names 1.0"), seen("left .stage-x")):
        assert runs_away(there, record(calls=(started,))) == ""


def test_only_the_last_call_of_this_boot_says_what_is_left(started: ControlCall) -> None:
    stop = evolve(started, verb="stop")
    assert runs_away(GONE, record(calls=(started,)), boot="another") == ""
    assert runs_away(GONE, record(calls=(stop, started))) == ""
    assert runs_away(GONE, record(calls=(evolve(started, pid=2**22 + 1),))) == ""
    assert runs_away(GONE, record()) == ""
    assert runs_away(GONE) == ""
