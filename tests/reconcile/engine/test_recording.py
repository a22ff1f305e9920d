"""What is left in memory of a pass: each agent's record, what history tells of it, and what counts as changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.actions import Result
from reconcile.decide.conditions import FALSE, TRUE, UNKNOWN, Condition
from reconcile.decide.desired import Refusal
from reconcile.decide.hold import Hold
from reconcile.decide.records.content import DigestFile
from reconcile.decide.records.record import Crashes, FailureKind, Pin, UpgradePhase
from reconcile.engine.recording import (
    Refusals,
    as_recorded,
    changed,
    record,
    refusals_of,
    timed,
    transitions_of,
    wake_times,
)
from reconcile.engine.results import AgentResult, going_on
from reconcile.storage.store import Store, StoredState, read_history, read_state
from tests.reconcile.decide.worlds import NAME, NOW, WATCH
from tests.reconcile.decide.worlds import memory as config
from tests.reconcile.decide.worlds import record as remembered
from tests.reconcile.engine.agent_results import (
    BACK,
    PRUNE,
    START,
    STOP,
    WATCHED,
    executed,
    held,
    outcome,
    pass_found,
    ready,
    result_of,
    view_of,
)

LATER = NOW + 500
FOR_EVER = Refusal(name="a", reason="PolicyRefused", rule="name", message="no")


class Memory:
    """A store, and what it says once something was recorded in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, Store(path)

    def told(self, *results: AgentResult, refusals: Refusals | None = None) -> list[tuple[str, str, float]]:
        """What history says of these: on whose word, what, and when."""
        before = len(read_history(self.path))
        record(self.store, results, refusals)
        events = read_history(self.path)[before:]
        return [(event.by, event.message if event.reason == "News" else event.reason, event.at) for event in events]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    memory = Memory(tmp_path / "state.db")
    yield memory
    memory.store.close()


# --- what counts as changed ---


def one(type: str, status: str, reason: str = "AsDesired", message: str = "") -> Condition:
    return Condition(type=type, status=status, reason=reason, message=message)


@pytest.mark.parametrize(
    ("now", "before", "counts"),
    [
        # One that is new counts where it tells of trouble.
        (one("Ready", TRUE), None, False),
        (one("Ready", FALSE), None, True),
        (one("Ready", UNKNOWN), None, True),
        (one("Held", FALSE), None, False),
        (one("Held", TRUE), None, True),
        (one("Quarantined", FALSE), None, False),
        (one("Quarantined", TRUE), None, True),
        (one("Ready", TRUE), one("Running", FALSE), False),  # another condition's past is not its own
        # A status that is another, either way.
        (one("Running", FALSE), one("Running", TRUE), True),
        (one("Running", TRUE), one("Running", FALSE), True),
        (one("Running", TRUE), one("Running", TRUE), False),
        # Not ready as before, for another cause.
        (one("Ready", FALSE, "StartFailed"), one("Ready", FALSE, "FetchFailed"), True),
        (one("Ready", FALSE, "StartFailed"), one("Ready", FALSE, "StartFailed", "other words"), False),
        (one("Ready", UNKNOWN, "A"), one("Ready", UNKNOWN, "B"), True),
        (one("Ready", TRUE, "Confirming"), one("Ready", TRUE, "AsDesired"), False),
        (one("Running", FALSE, "A"), one("Running", FALSE, "B"), False),
        # What a failure that was reported leads to is no other cause.
        (one("Ready", FALSE, "BackingOff"), one("Ready", FALSE, "FetchFailed"), False),
        (one("Ready", FALSE, "Quarantined"), one("Ready", FALSE, "RolledBack"), False),
        (one("Ready", FALSE, "FetchFailed"), one("Ready", FALSE, "BackingOff"), False),
        (one("Ready", FALSE, "FetchFailed"), one("Ready", FALSE, "Quarantined"), True),
        # Not installed as before, where something else is wanted.
        (one("Installed", FALSE, "A", "wanted: 3.0"), one("Installed", FALSE, "A", "wanted: 2.0"), True),
        (one("Installed", FALSE, "B", "wanted: 2.0"), one("Installed", FALSE, "A", "wanted: 2.0"), False),
        (one("Installed", TRUE, "A", "3.0 in use"), one("Installed", TRUE, "A", "2.0 in use"), False),
    ],
)
def test_what_counts_as_changed(now: Condition, before: Condition | None, counts: bool) -> None:
    assert changed([now], [] if before is None else [before]) == ((now,) if counts else ())


def test_the_changes_of_a_pass_are_told_but_for_plans_that_go_on() -> None:
    down = view_of(world="1.0=A stoped")
    state = StoredState(records=(remembered(conditions=ready(FALSE, "NotRunning")),))
    assert {c.type for _, c in transitions_of([result_of(down)], StoredState())} == {"Ready", "Running"}
    assert [(name, c.type) for name, c in transitions_of([result_of(down)], state)] == [(NAME, "Running")]
    assert list(transitions_of([going_on(down, NOW)], StoredState())) == []


# --- times ---


def test_a_result_says_since_when_it_is_so_and_what_of_it_changed() -> None:
    before = (one("Ready", TRUE), one("Installed", TRUE))
    view = view_of(world="1.0=A stoped", kept=remembered(conditions=tuple(evolve(c, since=5.0) for c in before)))
    result = timed(result_of(view, at=LATER))
    assert {c.type: c.since for c in result.conditions if c.type in ("Ready", "Installed", "Running")} == {
        "Ready": LATER,
        "Installed": 5.0,
        "Running": LATER,
    }
    assert {c.type for c in result.transitions} == {"Ready", "Running"}
    new = timed(result_of(view_of(record=None), at=LATER))
    assert {c.since for c in new.conditions} == {LATER}
    assert new.transitions == ()


def test_what_was_done_counts_from_its_end() -> None:
    started = executed(outcome(START, at=LATER, seconds=7))
    result = timed(result_of(view_of(world="1.0=A stoped"), started, after=view_of()))
    assert {c.since for c in result.conditions if c.type in ("Ready", "Running")} == {LATER + 7}


# --- the record ---


def test_an_agent_that_could_not_be_observed_keeps_its_record() -> None:
    kept = remembered(pin=Pin(version="1.0", owner="ann", at=NOW))
    broken = view_of(kept=kept, broken=RuntimeError("unexpected"))
    assert as_recorded(result_of(broken, record=remembered())).record == evolve(
        kept, conditions=timed(result_of(broken)).conditions
    )
    assert as_recorded(result_of(evolve(broken, record=None), record=remembered())).record is None
    assert as_recorded(result_of(view_of(), record=None)).record is None


def test_what_remote_files_said_last_stays_until_they_say_something_else() -> None:
    digest_file = DigestFile(url="http://meta/md5", digest="md5:" + "a" * 32)
    kept = remembered(remote_config=config("c1"), digest_file=digest_file)
    view = view_of(kept=kept)
    silent = as_recorded(result_of(view)).record
    assert silent is not None
    assert (silent.remote_config, silent.digest_file) == (config("c1"), digest_file)
    other = evolve(digest_file, digest="md5:" + "b" * 32)
    said = evolve(view, remote=evolve(view.remote, config=config("c2"), digest_file=other))
    answered = as_recorded(result_of(said)).record
    assert answered is not None
    assert (answered.remote_config, answered.digest_file) == (config("c2"), other)
    assert answered.used == ("1.0",)
    assert answered.conditions == as_recorded(result_of(said)).conditions != ()


def test_records_and_refusals_are_kept(memory: Memory) -> None:
    result = as_recorded(result_of())
    record(memory.store, [result, result_of(record=None)], Refusals(at=NOW, remembered=(FOR_EVER,)))
    state = read_state(memory.path)
    assert (state.records, state.refused) == ((result.record,), (FOR_EVER,))
    record(memory.store, [], Refusals(at=NOW))
    record(memory.store, [])
    assert read_state(memory.path).refused == (FOR_EVER,), "as they were"


# --- history ---


def test_history_tells_what_was_found_then_what_was_done_then_what_came_of_it(memory: Memory) -> None:
    plans = (
        executed(outcome(STOP, at=NOW + 1), by="server", reason="VersionDiffers"),
        executed(outcome(PRUNE, Result.SKIPPED), by="server", reason="AsDesired"),
        executed(outcome(START, at=NOW + 3, seconds=4), outcome(PRUNE, Result.SKIPPED), by="heal", reason="NotRunning"),
    )
    result = result_of(view_of(news="found"), *plans, news=("found", "came up"))
    assert memory.told(result) == [
        ("server", "found", NOW),
        ("server", "VersionDiffers", NOW + 1),
        ("heal", "NotRunning", NOW + 3),
        ("server", "came up", NOW + 7),
    ]


def test_history_tells_of_several_agents_in_the_order_of_their_times(memory: Memory) -> None:
    first = result_of(None, executed(outcome(STOP, at=NOW + 9)))
    other = result_of(None, executed(outcome(START, at=NOW + 1)), at=NOW)
    refusals = Refusals(at=NOW + 5, new=(FOR_EVER,), no_more=("b",), remembered=(FOR_EVER,))
    assert [at for _, _, at in memory.told(first, other, refusals=refusals)] == [NOW + 1, NOW + 5, NOW + 5, NOW + 9]


def test_history_has_nothing_of_a_plan_that_goes_on_or_that_was_skipped(memory: Memory) -> None:
    skipped = executed(outcome(STOP, Result.SKIPPED), outcome(START, Result.SKIPPED))
    assert memory.told(result_of(view_of(news="found"), goes_on=True), result_of(None, skipped)) == []
    assert memory.told(result_of(None, skipped, news=("late",))) == [("server", "late", NOW)]


def test_refusals_are_told_where_they_are_remembered(memory: Memory) -> None:
    of_a_file = Refusals(at=NOW, new=(FOR_EVER,), no_more=("b",))
    assert memory.told(refusals=of_a_file) == []
    assert memory.told(refusals=evolve(of_a_file, remembered=(FOR_EVER,))) == [
        ("server", FOR_EVER.summary, NOW),
        ("server", "no longer refused", NOW),
    ]


ANN, PINNED = Hold(owner="ann", reason="mine"), remembered(pin=Pin(version="1.0", owner="bob", at=NOW))


@pytest.mark.parametrize(
    ("verdict", "hold", "kept", "before", "done", "news"),
    [
        (held("HeldByOperator", message="ann: mine"), ANN, None, (), False, [("operator:ann", "held by ann: mine")]),
        (held("HeldByOperator"), ANN, None, (one("Held", TRUE, "HeldByOperator"),), False, []),  # it was before
        (held("HeldByOperator"), ANN, None, (one("Held", FALSE, "HeldByOperator"),), False, [("operator:ann", None)]),
        (held("HeldByOperator"), ANN, None, (one("Held", TRUE, "BackingOff"),), False, [("operator:ann", None)]),
        (held("HeldByOperator"), ANN, None, (one("Ready", TRUE, "HeldByOperator"),), False, [("operator:ann", None)]),
        (held("HeldByOperator"), None, None, (), False, []),
        (held("BackingOff"), ANN, PINNED, (), False, []),
        (held("Pinned", message="went back"), None, PINNED, (), False, [("operator:bob", "went back")]),
        (held("Pinned"), None, PINNED, (one("Held", TRUE, "Pinned"),), False, []),
        (held("Pinned"), None, remembered(), (), False, []),
        (held("Pinned"), None, PINNED, (), True, []),  # what was done tells of it
        (view_of().verdict, ANN, PINNED, (), False, []),
    ],
)
def test_history_tells_once_what_an_operator_asked_for(
    memory: Memory, verdict: Any, hold: Any, kept: Any, before: Any, done: bool, news: list[tuple[str, str | None]]
) -> None:
    view = view_of(kept=remembered(conditions=before))
    after = view_of(verdict=verdict, hold=hold, record=kept)
    plans = [executed(outcome(START, Result.SKIPPED))] if done else []
    said = memory.told(result_of(view, *plans, after=after))
    assert [(by, message if wanted else None) for (by, message, _), (_, wanted) in zip(said, news, strict=True)] == news


def test_a_hold_of_an_agent_without_a_record_is_told(memory: Memory) -> None:
    result = result_of(view_of(record=None), after=view_of(verdict=held("HeldByOperator"), hold=ANN))
    assert [by for by, _, _ in memory.told(result)] == ["operator:ann"]


def test_a_release_is_told_whatever_comes_of_it(memory: Memory) -> None:
    [(by, message, at)] = memory.told(result_of(view_of(released_by="eve")))
    assert (by, message.startswith("released by eve: "), at) == ("operator:eve", True, NOW)


@pytest.mark.parametrize(
    ("failure", "by"),
    [
        (None, "operator:ann"),
        (BACK, "rollback"),
        (evolve(BACK, message="other"), "operator:ann"),
        (evolve(BACK, verdict=FailureKind.NOT_REACHED), "operator:ann"),
    ],
)
def test_news_of_a_rollback_are_our_own_and_others_are_of_who_asked(memory: Memory, failure: Any, by: str) -> None:
    after = view_of(record=None if failure is None else remembered(failures=(failure,)))
    result = result_of(view_of(asked_by="operator:ann"), after=after, news=("no: it was rolled back",))
    assert [said for said, _, _ in memory.told(result)] == [by]


# --- what is refused ---


def refused(*names: str) -> tuple[Refusal, ...]:
    return tuple(evolve(FOR_EVER, name=name) for name in names)


def names_of(found: Iterable[Refusal] | None) -> str | None:
    return None if found is None else " ".join(entry.name for entry in found)


def test_refusals_are_compared_with_those_that_were_asked_about() -> None:
    state = StoredState(refused=refused("a", "b", "c"))
    found = refusals_of(pass_found(refused=refused("b", "d")), state, lambda name: name != "c", operator_source=False)
    assert (names_of(found.new), found.no_more, names_of(found.remembered)) == ("d", ("a",), "c b d")
    assert found.at == NOW


def test_what_an_operators_own_file_names_is_neither_compared_nor_remembered() -> None:
    state = StoredState(refused=refused("a"))
    found = refusals_of(pass_found(refused=refused("a", "b")), state, lambda name: True, operator_source=True)
    assert (names_of(found.new), found.no_more, found.remembered, found.at) == ("a b", (), None, NOW)


# --- when to look again ---

RUNS, DOWN = "1.0=A started", "1.0=A stoped"
SWITCHING = evolve(WATCHED, stage=UpgradePhase.SWITCHING, deadline=None)
CRASHED = Crashes(count=2, at=NOW - 5)


@pytest.mark.parametrize(
    ("verdict", "world", "kept", "times"),
    [
        (None, RUNS, {}, []),
        (held("BackingOff"), RUNS, {}, []),
        (held("BackingOff", until=NOW + 60), RUNS, {}, [NOW + 60]),
        (held("BackingOff", until=NOW - 60), RUNS, {}, [NOW]),
        (held("FetchFailed"), DOWN, {"crashes": CRASHED}, [NOW + 15]),
        (held("FetchFailed"), RUNS, {"crashes": CRASHED}, []),
        (
            held("FetchFailed"),
            DOWN,
            {"crashes": evolve(CRASHED, at=NOW - 20)},
            [],
        ),  # its time has come
        (None, RUNS, {"confirmation": WATCHED}, [NOW + 20]),
        (None, RUNS, {"confirmation": evolve(WATCHED, deadline=NOW - 1)}, [NOW]),
        (None, DOWN, {"confirmation": WATCHED}, [NOW + 20]),
        (None, RUNS, {"confirmation": SWITCHING}, [NOW + WATCH]),
        (None, DOWN, {"confirmation": SWITCHING}, []),
        (None, "", {"confirmation": WATCHED}, []),
        (held("HeldByOperator"), RUNS, {"confirmation": WATCHED}, []),  # its end would not be seen
    ],
)
def test_an_agent_is_observed_again_when_something_ends(
    verdict: Any, world: str, kept: dict[str, Any], times: list[float]
) -> None:
    view = view_of("start 1.0=A", world, remembered(**kept))
    view = view if verdict is None else evolve(view, verdict=verdict)
    assert list(wake_times(result_of(view), NOW, WATCH)) == times


def test_an_agent_that_is_not_remembered_is_observed_again_when_its_hold_ends() -> None:
    result = result_of(view_of(verdict=held("BackingOff", until=NOW + 9)), record=None)
    assert list(wake_times(result, NOW, WATCH)) == [NOW + 9]
