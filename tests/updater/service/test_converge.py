"""`apply` itself: how often it makes passes, how it waits, and how it ends on a signal."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

import pytest

from reconcile.decide.actions import Action, Start
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.timing import schedule
from tests.updater.conftest import Folder
from updater.demo import agent
from updater.output.progress import Lines, Progress
from updater.service.converge import Apply, ApplyOptions
from updater.service.locks import Busy, pass_lock
from updater.service.pass_runner import make_var

pytestmark = pytest.mark.slow

NAME = "falcon-agent"


def applying(folder: Folder, **wish: object) -> Apply:
    make_var(folder.var)
    return Apply(folder.config, folder.around(), ApplyOptions(**wish))  # type: ignore[arg-type]


def test_one_pass_and_what_it_came_to(folder: Folder) -> None:
    folder.want()
    one = applying(folder)
    result = one.run()
    assert (result.all_ready, one.acted) == (True, True)
    document = one.document(result)
    assert (document.kind, document.host) == ("Result", "host-1")
    [reported] = document.agents
    assert (reported.ready, len(reported.outcomes)) == (True, 5)
    again = applying(folder)
    again.run()
    assert again.acted is False


def test_passes_are_made_until_all_is_as_desired(folder: Folder) -> None:
    """At first the digest can't be had; then the new version is within its watch, for which it waits too."""
    folder.configure(watch=1)
    folder.want()
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0", md5=""))
    folder.meta.fail(404, ".md5", times=1)
    one = applying(folder, timeout_s=60)
    result = one.run()
    assert (result.all_ready, result.is_final, one.acted) == (True, True, True)
    assert not result.agents[0].after.confirming
    [reported] = one.document(result).agents
    assert [outcome.action.type for outcome in reported.outcomes] == "fetch verify unpack switch start".split()


class Hears(Progress):
    """Notes for whom it is waited, and ends the run."""

    def __init__(self) -> None:
        self.unready: list[str] = []

    def rests(self, watched: tuple[str, ...], unready: tuple[str, ...], seconds: float) -> None:
        self.unready += unready
        os.kill(os.getpid(), signal.SIGTERM)


class Watched(Hears):
    """The same, and notes whose watch was waited for; that is no reason to end the run."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[str] = []

    def rests(self, watched: tuple[str, ...], unready: tuple[str, ...], seconds: float) -> None:
        if not watched:
            super().rests(watched, unready, seconds)
        self.watched += [name for name in watched if name not in self.watched]


def test_while_it_waits_it_names_what_was_refused_too(folder: Folder) -> None:
    folder.want()
    folder.meta.vanish(NAME, "1.0.0")
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0"), folder.meta.agent("two words", "1.0.0"))
    hears = Hears()
    assert not applying(folder, timeout_s=600, progress=hears).run().all_ready
    assert hears.unready == [NAME, "two words (refused: InvalidSpec)"]


@pytest.mark.parametrize("rules", [{}, {"min_version": {"other": "2.0.0"}}], ids=["entry", "content"])
def test_apply_does_not_wait_for_refused_entries_alone(folder: Folder, rules: dict[str, object]) -> None:
    """The other agent is still waited for, to the end of its watch; a run that goes on beyond it
    is ended, and seen to have rested."""
    folder.configure(watch=1, **rules)
    folder.want()
    other = folder.meta.agent("other", "1.0.0") if rules else folder.meta.agent("two words", "1.0.0")
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0"), other)
    hears = Watched()
    result = applying(folder, timeout_s=600, progress=hears).run()
    assert (result.all_ready, result.confirming, hears.watched) == (False, (), [NAME])
    assert hears.unready == []


def test_a_rollback_is_final_and_has_its_own_exit_code(folder: Folder) -> None:
    folder.want()
    folder.configure(control_timeout={"start": 4})
    for _ in range(2):
        applying(folder).run()
    folder.want("2.0.0", broken_start=True)
    one = applying(folder, timeout_s=60)
    result = one.run()
    assert (result.all_ready, one.only_went_back(result)) == (False, True)
    again = applying(folder)
    assert not again.only_went_back(again.run())  # it was not in this run


def test_the_way_back_is_no_excuse_for_another_agent(folder: Folder) -> None:
    """One was rolled back, another could not be changed at all: that is not the same."""
    folder.want()
    folder.configure(control_timeout={"start": 4})
    for _ in range(2):
        applying(folder).run()
    folder.want("2.0.0", broken_start=True)
    folder.meta.desire(folder.meta.agent(NAME, "2.0.0"), folder.meta.agent("other", "1.0.0"))
    one = applying(folder)
    assert not one.only_went_back(one.run())


def test_it_gives_up_in_time(folder: Folder) -> None:
    folder.want()
    folder.meta.vanish(NAME, "1.0.0")
    began = time.monotonic()
    assert not applying(folder, timeout_s=0.5).run().all_ready
    assert time.monotonic() - began < 60


def test_one_pass_does_not_wait_for_another_and_several_do(folder: Folder) -> None:
    folder.want()
    make_var(folder.var)
    with pass_lock(folder.var):
        for wish in ({}, {"timeout_s": 0.2}):
            with pytest.raises(Busy):
                applying(folder, **wish).run()
    assert folder.meta.requests == []


def test_names_and_the_kept_state(folder: Folder) -> None:
    folder.want()
    assert applying(folder, names=frozenset({"other"})).run().agents == ()
    beats = len(folder.meta.heartbeats)
    assert applying(folder, offline=True).run().all_ready
    assert len(folder.meta.heartbeats) == beats


def test_progress_is_printed_on_standard_error(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.want()
    applying(folder, progress=Lines(sys.stderr)).run()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"falcon-agent: {step} ..." for step in ("fetch", "verify", "unpack", "switch", "start")
    ]


def test_a_splay_sleeps_this_hosts_slot(folder: Folder) -> None:
    """Once all is as desired: an install alone might take as long."""
    folder.want()
    applying(folder).run()
    facts = folder.around().facts
    began = time.monotonic()
    applying(folder).run()
    without = time.monotonic() - began
    splay_s = 10 * without + 1
    began = time.monotonic()
    applying(folder, splay_s=splay_s).run()
    assert time.monotonic() - began >= schedule.slot(facts.hostname, facts.ip, splay_s) > 2 * without


def test_to_end_amid_a_change_finishes_it_and_makes_no_further_pass(folder: Folder) -> None:
    """The agent takes its time to stop; meanwhile SIGTERM comes. That it is good was not seen: so 3."""
    folder.want(slow_stop=0.5)
    applying(folder).run()
    folder.configure(log_level="debug")
    folder.want("2.0.0")
    old = agent.ask(folder.home()).pid
    with folder.start("apply", "--timeout", "60", "-o", "json") as process:
        folder.meta.wait_for_request(lambda request: request.path.endswith("2.0.0.tar.gz"))
        while "stop 1.0.0: begins" not in folder.log() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 3
        process.communicate()
    found = agent.ask(folder.home())
    assert (found.version, found.pid != old) == ("2.0.0", True)


def test_to_end_before_a_change_touches_nothing(folder: Folder) -> None:
    folder.want()
    applying(folder).run()
    folder.want("2.0.0", size=100_000)
    folder.meta.stall("2.0.0.tar.gz")
    old = agent.ask(folder.home()).pid
    with folder.start("apply", "--timeout", "60") as process:
        folder.meta.wait_for_request(lambda request: request.path.endswith("2.0.0.tar.gz"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 3
        process.communicate()
    assert agent.ask(folder.home()).pid == old


class Interrupts(Progress):
    """Interrupts a run right after an agent's start began, or not. `finishing`: what was said to be finished then."""

    def __init__(self, *, amid: bool) -> None:
        self.run: Apply | None = None
        self.finishing: list[tuple[str, ...]] = []
        self._amid = amid

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Start) and self._amid and self.run is not None:
            self.run._end(signal.SIGTERM, None)

    def interrupted(self, finishing: tuple[str, ...], within_s: float) -> None:
        self.finishing.append(finishing)


@pytest.mark.parametrize(("amid", "finishing"), [(True, ("falcon-agent (start 1.0.0)",)), (False, ())])
def test_only_what_lies_between_stop_and_start_is_said_to_be_finished(
    folder: Folder, amid: bool, finishing: tuple[str, ...]
) -> None:
    folder.want()
    progress = Interrupts(amid=amid)
    progress.run = applying(folder, progress=progress)
    progress.run.run()
    progress.run._end(signal.SIGTERM, None)
    assert progress.finishing == [finishing], "once, whatever else comes"


def test_the_names_that_there_are_are_known_before_anything_is_done(folder: Folder) -> None:
    known: list[set[str]] = []

    def refused(names: Iterable[str]) -> None:
        known.append(set(names))
        raise RuntimeError("no such name")

    folder.want()
    with pytest.raises(RuntimeError, match="no such name"):
        applying(folder, names=frozenset({"other"}), check_names=refused).run()
    assert known == [{NAME}]
    assert not folder.home().exists()
