"""Calls of a run that was killed: their end, their effect, their limit. Real processes, real agents."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from probes.home import StatusLimits
from probes.host import processes, procfs
from reconcile.decide.records.changes import called
from reconcile.decide.records.record import ControlCall
from reconcile.engine.earlier_calls import wait_for_calls
from reconcile.storage.store import Store
from tests.yard import NAME, Yard, ready, the_agent, types
from updater.demo import agent

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

LIMIT_S = 60.0


@contextmanager
def call(*argv: str, verb: str = "start", limit_s: float = LIMIT_S) -> Iterator[ControlCall]:
    """A control call of 1.0.0 that runs, in a session of its own."""
    with subprocess.Popen(argv or ("sleep", "600"), start_new_session=True) as process:
        started = procfs.started_at(process.pid)
        assert started is not None
        try:
            yield ControlCall(
                version="1.0.0", verb=verb, pid=process.pid, started=started, boot="boot-1", limit_s=limit_s
            )
        finally:
            process.kill()


def waited(yard: Yard, *calls: ControlCall, is_cancelled: bool = False) -> ControlCall | None:
    return wait_for_calls(calls, yard.place(), StatusLimits(), lambda: is_cancelled)


def test_without_a_call_there_is_nothing_to_wait_for(yard: Yard) -> None:
    assert waited(yard) is None


def test_a_start_is_waited_for_with_its_effect(yard: Yard) -> None:
    """It ends at once; the agent says started a good while later."""
    tree = yard.put("1.0.0", slow_start=1.5)
    began = time.monotonic()
    with call(str(tree / "control"), "start") as start:
        assert waited(yard, start) is None
    active = yard.look().active
    assert active is not None
    assert active.process.is_running
    assert time.monotonic() - began < LIMIT_S / 2
    assert agent.ask(yard.home()).version == "1.0.0"


@pytest.mark.parametrize("in_use", [True, False])
def test_its_limit_is_for_both(yard: Yard, in_use: bool) -> None:
    """Nothing comes of it: it is not waited for longer than that, and not at all where another version is in use."""
    yard.put("1.0.0" if in_use else "2.0.0")
    began = time.monotonic()
    with call("true", limit_s=0.3 if in_use else LIMIT_S) as start:
        assert waited(yard, start) is None
    assert time.monotonic() - began < LIMIT_S / 2


def test_what_goes_on_beyond_its_limit_is_ended(yard: Yard) -> None:
    with call(limit_s=0) as start, call(verb="stop", limit_s=0) as stop:
        assert waited(yard, start, stop) is None
        for one in (start, stop):
            assert not processes.lives(processes.Leader(pid=one.pid, started=one.started))


def test_a_pass_that_is_to_end_waits_for_no_call(yard: Yard) -> None:
    with call() as start:
        assert waited(yard, start, is_cancelled=True) == start


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users without sudo")
def test_a_call_of_a_user_that_is_missing_is_seen_and_not_ended(yard: Yard) -> None:
    home = evolve(yard.place(), run_user="ops-updater-lacks")
    with call(limit_s=0) as lives, call("true", verb="stop") as over:
        assert wait_for_calls((over, lives), home, StatusLimits(), lambda: False) == lives
        assert processes.lives(processes.Leader(pid=lives.pid, started=lives.started))


# In a pass


def installed(yard: Yard) -> None:
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0"))
    yard.run()
    assert ready(yard.settle()) == ("True", "AsDesired")
    agent.crash(yard.home())


def remembered(yard: Yard, one: ControlCall) -> None:
    store = Store(yard.db)
    store.save([called(yard.record(), one)])
    store.close()


def test_a_pass_does_nothing_beside_a_call_that_nothing_ends(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(yard)
    monkeypatch.setattr(processes, "outwait", lambda leader, limit_s, is_cancelled, **how: False)
    with call() as start:
        remembered(yard, start)
        result = yard.run()
        assert types(the_agent(result).outcomes) == "start=failed"
        assert ready(result) == ("False", "ControlTimeout")
        assert f"process {start.pid}, of an earlier run does not end" in the_agent(result).outcomes[0].error
        assert not agent.running_below(yard.home())
        assert yard.record().crashes is None


def test_a_pass_that_is_to_end_does_not_wait(yard: Yard) -> None:
    installed(yard)
    with call() as start:
        remembered(yard, start)
        threading.Timer(0.2, yard.ending.set).start()
        result = yard.run()
        assert types(the_agent(result).outcomes) == "start=skipped"
        assert [one.over for one in yard.record().calls if one.pid == start.pid] == [False]


def test_a_call_of_another_boot_is_over(yard: Yard) -> None:
    installed(yard)
    with call() as start:
        remembered(yard, start)
        assert types(the_agent(yard.run(host=yard.around(boot="boot-2"))).outcomes) == "start=done"
        os.kill(start.pid, signal.SIGKILL)


def test_what_came_of_a_call_is_seen_once(yard: Yard) -> None:
    """A later crash is healed at once, though the limit of that call is not over yet."""
    installed(yard)
    assert all(one.over for one in yard.record().calls)
    assert [one.verb for one in yard.record().calls] == ["start"]
    assert types(the_agent(yard.run()).outcomes) == "start=done"
