"""One agent assessed: what this look makes of what is remembered, what remote files change, and what breaks alone."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from probes.observed import ObservedHost
from reconcile.assess.assess_agent import evaluate_agents, settle_inputs, with_healed, with_remote
from reconcile.assess.pass_context import HostSnapshot
from reconcile.assess.remote_inputs import RemoteAnswer
from reconcile.decide.actions import Held
from reconcile.decide.admission import Freshness
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.records.record import AgentRecord, UpgradePhase
from reconcile.storage.hold_files import put_hold
from reconcile.storage.store import StoredState
from tests.reconcile.decide.worlds import BOOT, NAME, NOW, memory, record, seen, types, wish
from tests.reconcile.engine.agent_results import LIVE, WATCHED, pass_found, view_of
from tests.yard import Yard

BRING = "fetch verify unpack"
NOTHING = Requests()
HOLD = Hold(owner="ann", reason="mine", since=NOW)
OVER = evolve(WATCHED, deadline=NOW - 1, boot=BOOT)


def inputs(asked: str, world: str, kept: AgentRecord | None) -> AgentInputs:
    return AgentInputs(desired=wish(asked).desired, observed=seen(world), record=kept)


def settled(yard: Yard, asked: str, world: str, kept: AgentRecord | None, *, held: bool = False) -> Any:
    host = yard.around(boot=BOOT)
    found, news = settle_inputs(inputs(asked, world, kept), LIVE, host, held=held)
    return found.record, news


@pytest.mark.parametrize(
    ("asked", "world", "is_remembered"),
    [("stop", "1.0=A started", True), ("stop", "", False), ("start 1.0=A", "1.0=A started", False)],
)
def test_what_is_told_to_stop_is_remembered_from_the_first_look(
    yard: Yard, asked: str, world: str, is_remembered: bool
) -> None:
    found, news = settled(yard, asked, world, None)
    assert (found is not None, news) == (is_remembered, "")
    if found is not None:
        assert found.told_to_stop == ("1.0",)
        assert found.home.same_home(seen(world).home)


def test_a_watch_that_has_passed_is_settled_by_a_look_unless_the_agent_is_held(yard: Yard) -> None:
    kept = record(confirmation=OVER)
    found, news = settled(yard, "start 1.0=A", "1.0=A started", kept)
    assert (found.confirmation, found.good.version, bool(news)) == (None, "1.0", True)
    found, news = settled(yard, "start 1.0=A", "1.0=A started", kept, held=True)
    assert (found.confirmation.deadline, found.good, news) == (OVER.deadline, None, "")


def test_what_died_within_its_watch_is_news(yard: Yard) -> None:
    before = evolve(OVER, deadline=NOW + 20)
    found, news = settled(yard, "start 1.0=A", "1.0=A stoped", record(confirmation=before))
    assert (found.confirmation, bool(news)) == (None, True)
    found, news = settled(yard, "start 1.0=A", "1.0=A stoped", record(confirmation=before), held=True)
    assert (found.confirmation, news) == (before, "")


def test_what_is_not_to_run_proves_nothing(yard: Yard) -> None:
    found, news = settled(yard, "stop", "1.0=A started", record(confirmation=evolve(OVER, boot="an earlier one")))
    assert (found.confirmation.stage, found.confirmation.deadline) == (UpgradePhase.SWITCHING, None)
    assert (found.confirmation.boot, news) == (BOOT, "")


# --- views ---


def viewed(
    yard: Yard,
    asked: str,
    world: str,
    *,
    asks: bool = False,
    requests: Requests = NOTHING,
    kept: AgentRecord | None = None,
    moment: Any = LIVE,
    **changes: Any,
) -> AgentEvaluation:
    state = StoredState(records=() if kept is None else (kept,))
    snapshot = HostSnapshot(seen=ObservedHost(at=NOW, agents=(seen(world),)), state=state, requests=requests)
    desired = evolve(wish(asked).desired, **changes)
    [view] = evaluate_agents([desired], snapshot, moment, yard.around(rules=Rules(keep=99)), asks=asks)
    return view


def test_a_view_knows_who_holds_and_who_released(yard: Yard) -> None:
    requests = Requests(holds=((NAME, HOLD),), releases=frozenset({NAME}), releasers=((NAME, "eve"),))
    view = viewed(yard, "start 1.0=A", "1.0=A started", requests=requests, kept=record())
    assert (view.hold, view.released_by, view.verdict.reason) == (HOLD, "eve", "HeldByOperator")
    others = Requests(holds=(("another", HOLD),), releases=frozenset({"another"}))
    view = viewed(yard, "start 1.0=A", "1.0=A started", requests=others, kept=record())
    assert (view.hold, view.released_by) == (None, None)


def test_what_is_held_is_not_settled_by_a_look(yard: Yard) -> None:
    for requests, is_settled in ((NOTHING, True), (Requests(holds=((NAME, HOLD),)), False)):
        kept = record(confirmation=evolve(OVER, boot="boot-1"))
        view = viewed(yard, "start 1.0=A", "1.0=A started", requests=requests, kept=kept)
        assert view.record is not None
        assert (view.record.confirmation is None, bool(view.news)) == (is_settled, is_settled)


def test_nothing_remote_is_asked_unless_that_is_said(yard: Yard) -> None:
    snapshot = HostSnapshot(
        seen=ObservedHost(at=NOW, agents=(seen("1.0=B+c1 started"),)), state=StoredState(), requests=NOTHING
    )
    [view] = evaluate_agents([wish("start 1.0=B+c1").desired], snapshot, LIVE, yard.around())
    assert view.asks is None


@pytest.mark.parametrize(
    ("asked", "world", "asks", "heals"),
    [
        ("start 2.0=A", "1.0=B stoped", False, True),  # its change is fetched
        ("start 1.0=B", "1.0=B stoped", False, False),  # its start is all
        ("start 1.0=B+c1", "1.0=B+c1 stoped", True, True),  # its config is asked for
        ("start 1.0=B+c1", "1.0=B+c1 stoped", False, False),
        ("start 2.0=A", "1.0=B started", False, False),
    ],
)
def test_what_is_down_is_healed_before_anything_remote_is_waited_for(
    yard: Yard, asked: str, world: str, asks: bool, heals: bool
) -> None:
    kept = record(config=memory("c1"), remote_config=memory("c1"))
    view = viewed(yard, asked, world, asks=asks, kept=kept)
    assert (view.heal is not None) is heals
    assert (view.asks is not None) is asks


def test_a_change_that_is_held_heals_by_what_is_done_meanwhile(yard: Yard) -> None:
    moment = evolve(LIVE, answered=Freshness.LAST_ACCEPTED)
    view = viewed(yard, "start 2.0=A", "1.0=B stoped", kept=record(), moment=moment)
    assert (view.heal, types(view.due)) == (None, "start")


class Odd:
    """A version that can't be compared with any other, which breaks what is made of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("nobody expected this")

    __hash__ = object.__hash__


def test_an_agent_whose_assessment_breaks_is_left_alone(yard: Yard) -> None:
    view = viewed(yard, "start 1.0=A", "1.0=A started", kept=record(), version=Odd())
    assert repr(view.broken) == "RuntimeError('nobody expected this')"
    assert (view.target.run, view.due.actions, view.is_left_alone) == (RunState.OBSERVE, (), True)
    assert (view.observed, view.record) == (seen("1.0=A started"), record())
    assert "unexpected, please report it" in view.plan.message


# --- with remote files, and after a heal ---


def test_a_view_that_asks_nothing_stays_as_it_is(yard: Yard) -> None:
    view = view_of()
    assert with_remote(yard.around(), pass_found(), view, None) is view


def asking(**changes: Any) -> AgentEvaluation:
    return view_of("start 2.0=A+c2", "1.0=B+c1 started", asks="http://user:secret@meta/cfg.json?token=t", **changes)


def test_remote_files_that_do_not_answer_in_time_block_the_change(yard: Yard) -> None:
    view = with_remote(yard.around(), pass_found(), asking(news="came up"), None)
    assert view.remote.blocker is not None
    assert (view.remote.blocker.reason, view.remote.config) == ("FetchFailed", None)
    assert "no answer within the" in view.remote.blocker.message
    assert "secret" not in view.remote.blocker.message
    assert isinstance(view.verdict, Held)
    assert (view.asks, view.news) == (None, "came up")


def test_what_remote_files_say_is_planned_with(yard: Yard) -> None:
    wanted = wish("start 2.0=A+c2")
    answer = RemoteAnswer(inputs=wanted.remote, content=lambda: b"{}")
    before = asking(news="came up", released_by="eve", hold=HOLD)
    view = with_remote(yard.around(), pass_found(), before, answer)
    assert (view.remote, view.asks, view.news, view.released_by) == (wanted.remote, None, "came up", "eve")
    assert (view.hold, view.verdict.reason) == (HOLD, "HeldByOperator")
    assert view.content is answer.content


def test_a_config_that_is_asked_for_has_what_is_down_healed_first(yard: Yard) -> None:
    before = view_of("start 1.0=B", "1.0=B stoped", asks="http://meta/cfg.json")
    answer = RemoteAnswer(inputs=before.remote)
    assert with_remote(yard.around(), pass_found(), before, answer).heal is not None


@pytest.mark.parametrize("how", ["asking", "planning"])
def test_an_agent_whose_remote_files_break_is_left_alone(yard: Yard, how: str) -> None:
    err = RuntimeError("nobody expected this")
    odd: Any = object()
    answer = RemoteAnswer(broken=err) if how == "asking" else RemoteAnswer(inputs=odd)
    view = with_remote(yard.around(), pass_found(), asking(), answer)
    assert view.broken is err if how == "asking" else isinstance(view.broken, AttributeError)
    assert (view.due.actions, view.observed) == ((), asking().observed)


def test_what_was_healed_is_planned_for_as_it_is_then(yard: Yard) -> None:
    before = view_of("start 2.0=A", "1.0=B stoped", heal=view_of("start 2.0=A", "1.0=B stoped"), content=lambda: b"")
    now = with_healed(yard.around(), before, inputs("start 2.0=A", "1.0=B started", record()), LIVE)
    assert types(now.due).startswith(BRING)
    assert (now.heal, now.content, now.hold) == (before.heal, before.content, None)
    put_hold(yard.holds, NAME, HOLD)
    now = with_healed(yard.around(), before, inputs("start 2.0=A", "1.0=B started", record()), LIVE)
    assert (now.hold, now.due.actions) == (HOLD, ())


def test_a_config_that_was_removed_while_it_was_down_is_missed_once_it_was_healed(yard: Yard) -> None:
    kept = record(config=memory("c1"))
    before = view_of("start 1.0=B+c1", "1.0=B stoped", kept)
    now = with_healed(yard.around(), before, inputs("start 1.0=B+c1", "1.0=B started", kept), LIVE)
    assert (types(now.due), now.target.edited) == ("configure stop switch start", False)


def test_what_breaks_after_a_heal_is_left_alone(yard: Yard) -> None:
    version: Any = Odd()
    found = inputs("start 2.0=A", "1.0=B started", record())
    found = evolve(found, desired=evolve(found.desired, version=version))
    now = with_healed(yard.around(), view_of("start 2.0=A", "1.0=B stoped"), found, LIVE)
    assert (repr(now.broken), now.due.actions) == ("RuntimeError('nobody expected this')", ())
