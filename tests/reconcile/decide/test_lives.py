"""Every small life, not a sample: changes whose content comes up, doesn't, or dies within its watch, on a host that may
go down at each point, twice. Whatever fails, the agent runs in the end, and nothing is done and undone for ever.
"""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve

from probes.observed import Origin, ProcessState, Tree
from reconcile.decide.actions import Held, Start, Switch
from reconcile.decide.admission import Freshness
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import Pin
from tests.reconcile.decide.lives import Agent, Circumstances, Passed, a_pass, later, passes, stopped, with_process
from tests.reconcile.decide.worlds import (
    BOOT,
    DIGESTS,
    NOW,
    WATCH,
    Life,
    Wish,
    as_wished,
    config_digest,
    content,
    litter,
    record,
    remembered,
    seen,
    wish,
)

LIVE, KEPT = Circumstances(), Circumstances(answered=Freshness.LAST_ACCEPTED)
REFUSED = Circumstances(refused=True)  # the fleet's lock has no place
ENOUGH = 14  # passes; each of these lives has come to its end by then

CHANGES = [
    # asked | in use and running | remembered of its config
    ("start 2.0=A", "1.0=B", "bare"),
    ("start 2.0=A", "1.0?", "bare"),
    ("start 2.0=A+c1", "1.0=B+c0", "c0"),
    ("start 2.0=A+c1", "1.0?+c0", "none"),
    ("start 1.0=A", "1.0=B", "bare"),
    ("start 1.0=A+c1", "1.0=B+c0", "c0"),
    ("start 1.0=B+c1", "1.0=B+c0", "c0"),
    ("start 1.0=B+c1", "1.0?+c0", "c0"),
]


def is_new(tree: Tree) -> bool:
    """Whether it is what CHANGES ask for."""
    return str(DIGESTS["A"]) in tree.digests or tree.config == config_digest("c1")


GOOD = Agent()
BROKEN = Agent(starts=lambda tree: not is_new(tree))
SHORT_LIVED = Agent(stays=lambda tree: not is_new(tree))
MUTE = Agent(starts=lambda tree: not is_new(tree), is_mute=is_new)


def runs(life: Life) -> bool:
    return life.observed.active is not None and life.observed.active.process is ProcessState.RUNNING


def is_lost(life: Life) -> bool:
    """A tree without our marker that doesn't run any more when the change away from it begins: it is unknown whether it
    is whole, so there is no way back to it."""
    active = life.observed.active
    return active is not None and active.tree.origin is Origin.FOREIGN and not runs(life)


def whole_life(life: Life, wanted: Wish, agent: Agent, around: Circumstances) -> list[Passed]:
    """Its passes, until nothing has been pending for a while."""
    found = list(itertools.islice(passes(life, wanted, agent, around), ENOUGH))
    for passed in found:
        check_pass(passed, wanted)
    return found


def check_pass(passed: Passed, wanted: Wish) -> None:
    """What holds at each pass: what waits fetches nothing, and a hold hides no crash."""
    verdict = passed.view.verdict
    if isinstance(verdict, Held):
        assert not {"fetch", "verify", "unpack"} & {action.type for action in verdict.meanwhile.actions}
        active = passed.view.observed.active
        crashed = active is not None and active.process is ProcessState.STOPPED
        paced = passed.view.record is not None and passed.view.record.crashes is not None
        if crashed and not paced and verdict.reason != "HeldByOperator":
            assert any(isinstance(action, Start) for action in verdict.meanwhile.actions), verdict


def check_end(found: list[Passed], wanted: Wish, agent: Agent, *, asked: Freshness) -> None:
    """Something that works runs, nothing is pending, and nothing lies about."""
    last = found[-1]
    active = last.life.observed.active
    assert not any(passed.done for passed in found[-3:]), [passed.done for passed in found]
    assert runs(last.life), last.life
    assert active is not None
    assert agent.starts(active.tree)
    assert agent.stays(active.tree)
    assert last.life.record is not None
    assert last.life.record.confirmation is None
    assert not litter(last.life.observed) or asked is Freshness.LAST_ACCEPTED, last.life
    # No flip-flop: there, back, and at the most one more where a crash fell between two renames.
    switches = [kind for passed in found for kind in passed.done if kind == "switch"]
    assert len(switches) <= 3, [passed.done for passed in found]
    if agent is GOOD:
        assert asked is Freshness.LAST_ACCEPTED or as_wished(last.view.target, last.life.observed)
    elif asked is Freshness.LIVE:
        assert isinstance(last.view.verdict, Held)
        assert last.view.verdict.reason == "Quarantined"
        assert not is_new(active.tree)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "in_use", "kept"), CHANGES)
@pytest.mark.parametrize("agent", [GOOD, BROKEN, SHORT_LIVED, MUTE], ids=["good", "broken", "short-lived", "mute"])
def test_whatever_the_new_content_does_the_agent_runs(asked: str, in_use: str, kept: str, agent: Agent) -> None:
    """And wherever one crash and another may fall: ours, or the host's; with a live answer afterwards, or none."""
    wanted = wish(asked)
    begin = Life(seen(f"{in_use} started"), remembered(kept))
    waiting, known = [(begin, BOOT, 0)], {(begin, BOOT)}
    while waiting:
        life, boot, age = waiting.pop()
        found = whole_life(life, wanted, agent, evolve(LIVE, boot=boot))
        check_end(found, wanted, agent, asked=Freshness.LIVE)
        check_end(
            whole_life(life, wanted, agent, evolve(KEPT, boot=boot)), wanted, agent, asked=Freshness.LAST_ACCEPTED
        )
        if age == 2:
            continue
        for passed in found:
            for torn in passed.torn:
                for left in ((torn, boot), (stopped(torn, agent), f"{boot}+1")):
                    if left not in known and not is_lost(left[0]):
                        known.add(left)
                        waiting.append((*left, age + 1))
    assert len(known) > 9


@pytest.mark.parametrize(("asked", "in_use", "kept"), CHANGES)
@pytest.mark.parametrize("agent", [GOOD, BROKEN, SHORT_LIVED], ids=["good", "broken", "short-lived"])
def test_where_a_place_is_refused_the_agent_runs_on_and_changes_once_it_is_given(
    asked: str, in_use: str, kept: str, agent: Agent
) -> None:
    """From the first pass on, or once a crash left it at any point of the change: what runs is what ran, or the way
    back; nothing is stopped. A switch that was made is settled as ever."""
    wanted, begin = wish(asked), Life(seen(f"{in_use} started"), remembered(kept))
    crashed = [life for passed in whole_life(begin, wanted, agent, LIVE)[:2] for life in passed.torn]
    lives = [(begin, BOOT), *((life, BOOT) for life in crashed), *((stopped(life, agent), "next") for life in crashed)]
    for left, boot in dict.fromkeys(life for life in lives if not is_lost(life[0])):
        was = left.observed.active
        found = whole_life(left, wanted, agent, evolve(REFUSED, boot=boot))
        ran = found[-1].life
        assert runs(ran), left
        assert ran.observed.active is not None
        switched = was is not None and is_new(was.tree)
        assert switched or was is None or not is_new(ran.observed.active.tree), "the new content came into use"
        if was is not None and not switched:
            assert not any("stop" in passed.done for passed in found), left
            tried = {kind for passed in found[3:] for kind in passed.done}
            assert tried <= {"configure"}, (
                "nothing is fetched or unpacked twice; a config is written beside at each try"
            )
        after = whole_life(ran, wanted, agent, evolve(LIVE, boot=boot, now=NOW + ENOUGH * WATCH))
        check_end(after, wanted, agent, asked=Freshness.LIVE)


@pytest.mark.parametrize(("asked", "in_use", "kept"), CHANGES)
@pytest.mark.parametrize("agent", [BROKEN, SHORT_LIVED, MUTE], ids=["broken", "short-lived", "mute"])
def test_back_without_a_download_and_never_again_by_time(asked: str, in_use: str, kept: str, agent: Agent) -> None:
    """The content that ran runs again, the config included; a year later it still does."""
    wanted, begin = wish(asked), Life(seen(f"{in_use} started"), remembered(kept))
    found = whole_life(begin, wanted, agent, LIVE)
    done = [kind for passed in found for kind in passed.done]
    assert [kind for kind in done if kind in ("switch", "start")] == ["switch", "start", "switch", "start"]
    assert done.count("fetch") == done.count("unpack") <= 1
    was, now = begin.observed.active, found[-1].life.observed.active
    assert was is not None
    assert now is not None
    assert (now.version, now.tree.digests, now.tree.config) == (was.version, was.tree.digests, was.tree.config)
    year = list(itertools.islice(passes(found[-1].life, wanted, agent, evolve(LIVE, now=NOW + 3e7)), 3))
    assert not any(passed.done for passed in year)


def test_what_does_not_come_up_is_rolled_back_in_the_same_pass() -> None:
    passed = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), BROKEN, LIVE)
    assert " ".join(passed.done) == "fetch verify unpack stop switch start switch start"
    assert passed.news == ("no; back to 1.0",)
    assert runs(passed.life)


@pytest.mark.parametrize("agent", [BROKEN, SHORT_LIVED], ids=["broken", "short-lived"])
@pytest.mark.parametrize("asked", ["start 1.0=A", "start 1.0=A+c1"])
def test_a_first_install_has_nothing_to_go_back_to_and_is_tried_on(asked: str, agent: Agent) -> None:
    """At the pace of crashes: at once, then after 10 s doubling; never more than 5 min."""
    found = list(itertools.islice(passes(Life(seen(""), None), wish(asked), agent, LIVE, every=301), 8))
    for passed in found[2:]:
        assert "start" in passed.done
        assert "switch" not in passed.done
        assert not isinstance(passed.view.verdict, Held)


@pytest.mark.parametrize(("asked", "in_use", "kept"), CHANGES)
@pytest.mark.parametrize("failing", ["fetch", "verify", "unpack", "configure", "stop", "switch"])
@pytest.mark.parametrize("agent", [GOOD, BROKEN, SHORT_LIVED], ids=["good", "broken", "short-lived"])
def test_a_full_disk_or_a_failing_server_stops_no_agent(
    asked: str, in_use: str, kept: str, failing: str, agent: Agent
) -> None:
    """From the first pass on, or from any later one: after each, what can run runs, or is started in time."""
    wanted, begin = wish(asked), Life(seen(f"{in_use} started"), remembered(kept))
    full = evolve(agent, fails=frozenset({failing}))
    for passed in whole_life(begin, wanted, full, LIVE):
        assert runs(passed.life) or failing not in passed.done
    for passed in whole_life(begin, wanted, agent, LIVE)[:4]:
        for life in dict.fromkeys(passed.torn):
            found = whole_life(life, wanted, full, LIVE)
            ends = found[-1].life.observed.active
            can_run = ends is not None and agent.starts(ends.tree) and agent.stays(ends.tree)
            assert not can_run or runs(found[-1].life), found[-1].life
            # What can't be gone back from at least is started again and again.
            assert can_run or ends is None or any("start" in passed.done for passed in found[-6:]), found[-1]


def test_a_way_back_that_a_full_disk_bars_starts_what_is_in_use_and_is_tried_again() -> None:
    """An agent that runs, whatever its control says, must not stay down for want of room for a way back."""
    wanted, full = wish("start 2.0=A"), evolve(SHORT_LIVED, fails=frozenset({"switch"}))
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wanted, SHORT_LIVED, LIVE).life
    passed = a_pass(stopped(life), wanted, full, evolve(LIVE, now=NOW + 5))
    assert passed.done == ("switch", "start")
    assert runs(passed.life)
    found = a_pass(stopped(passed.life), wanted, SHORT_LIVED, evolve(LIVE, now=NOW + 70))
    assert found.done == ("switch", "start")
    assert found.life.observed.version_text == "1.0"
    assert found.life.record is not None
    assert [failure.verdict.value for failure in found.life.record.failures] == ["rolled back"]


MUTE_BUT_ALIVE = evolve(MUTE, lingers=True)


def test_a_mute_version_of_which_a_process_is_left_is_not_joined_by_a_second_copy() -> None:
    """It stays as it is; once that process is gone, the way back is made in its time."""
    wanted = wish("start 2.0=A")
    passed = a_pass(Life(seen("1.0=B started"), remembered("bare")), wanted, MUTE_BUT_ALIVE, LIVE)
    assert " ".join(passed.done) == "fetch verify unpack stop switch start stop"
    assert passed.life.observed.version_text == "2.0"
    assert a_pass(passed.life, wanted, MUTE, evolve(LIVE, now=NOW + 59)).done == ()
    found = a_pass(passed.life, wanted, MUTE, evolve(LIVE, now=NOW + 61))
    assert found.done == ("stop", "switch", "start")
    assert found.life.observed.version_text == "1.0"
    assert runs(found.life)


def test_a_mute_version_that_was_seen_up_once_must_say_itself_that_it_stopped() -> None:
    """Whoever saw it: the next pass does, though it only waits for the way back."""
    wanted = wish("start 2.0=A")
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wanted, MUTE_BUT_ALIVE, LIVE).life
    up = with_process(life, ProcessState.RUNNING)
    life = a_pass(up, wanted, evolve(MUTE_BUT_ALIVE, is_mute=lambda tree: False), evolve(LIVE, now=NOW + 5)).life
    unknown = with_process(life, ProcessState.UNKNOWN)
    passed = a_pass(unknown, wanted, MUTE, evolve(LIVE, now=NOW + 999))
    assert passed.done == ("stop",)
    assert passed.life.observed.version_text == "2.0"


@pytest.mark.parametrize("first", ["1.0=B started", ""], ids=["with a way back", "without one"])
def test_a_mute_version_is_replaced_by_a_mended_one(first: str) -> None:
    """It never said started, so it need not say stopped; with a process of it left, it must."""
    agent = evolve(MUTE_BUT_ALIVE if first else MUTE)
    life = a_pass(Life(seen(first), remembered("bare") if first else None), wish("start 2.0=A"), agent, LIVE).life
    passed = a_pass(life, wish("start 2.1=S"), MUTE, evolve(LIVE, now=NOW + 5))
    assert passed.done[-3:] == ("stop", "switch", "start")
    assert passed.life.observed.version_text == "2.1"
    assert runs(passed.life)


def test_what_was_rolled_back_is_left_even_while_the_next_wish_waits() -> None:
    """The server already wants 3.0, whose tarball is not there: 1.0 is healed, and not the 2.0 that died."""
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), SHORT_LIVED, LIVE).life
    no_tarball = evolve(SHORT_LIVED, fails=frozenset({"fetch"}))
    for host in (evolve(LIVE, now=NOW + 5), evolve(KEPT, now=NOW + 5)):
        passed = a_pass(stopped(life), wish("start 3.0=S"), no_tarball, host)
        assert passed.life.observed.version_text == "1.0"
        assert runs(passed.life)


def test_a_fetch_that_fails_ends_no_watch() -> None:
    """2.0 is in its watch when 3.0 is asked for in vain: it still is rolled back when it dies."""
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), SHORT_LIVED, LIVE).life
    no_tarball = evolve(SHORT_LIVED, fails=frozenset({"fetch"}))
    passed = a_pass(life, wish("start 3.0=S"), no_tarball, evolve(LIVE, now=NOW + 5))
    assert passed.done == ("fetch",)
    assert passed.life.record is not None
    assert passed.life.record.confirmation is not None
    again = a_pass(stopped(passed.life), wish("start 2.0=A"), SHORT_LIVED, evolve(LIVE, now=NOW + 10))
    assert again.life.observed.version_text == "1.0"
    assert runs(again.life)


def test_what_is_stopped_by_wish_within_its_watch_has_not_failed() -> None:
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), GOOD, LIVE).life
    life = a_pass(life, wish("stop"), GOOD, evolve(LIVE, now=NOW + 5)).life
    assert not runs(life)
    found = whole_life(life, wish("start 2.0=A"), GOOD, evolve(LIVE, now=NOW + 9000))
    check_end(found, wish("start 2.0=A"), GOOD, asked=Freshness.LIVE)
    assert found[-1].life.record is not None
    assert found[-1].life.record.good == content("2.0=A", config="")


def never(version: str, agent: Agent) -> Agent:
    """The same agent, of which this version must not be started."""

    def starts(tree: Tree) -> bool:
        assert tree.version != version, f"{version} was started"
        return agent.starts(tree)

    return evolve(agent, starts=starts)


def stopped_by_cmd(in_use: str, kept: str = "bare") -> Life:
    """An agent whose `cmd` became stop, and a pass later is stopped, if its status can be understood."""
    return a_pass(Life(seen(in_use), remembered(kept)), wish("stop"), GOOD, LIVE).life


@pytest.mark.parametrize("in_use", ["1.0=B started", "1.0? started", "1.0=B stoped", "1.0=B unknown"])
@pytest.mark.parametrize("agent", [GOOD, BROKEN, SHORT_LIVED, MUTE], ids=["good", "broken", "short-lived", "mute"])
@pytest.mark.parametrize("fails", [None, "fetch", "unpack", "stop", "switch"])
def test_an_agent_stopped_by_cmd_is_never_started_on_the_way_to_another_version(
    in_use: str, agent: Agent, fails: str | None
) -> None:
    """Wherever a crash falls, ours or the host's, and whatever fails; with an answer, or without one."""
    wanted, tried = wish("start 2.0=A"), never("1.0", agent)
    if fails is not None:
        tried = evolve(tried, fails=frozenset({fails}))
    begin = stopped_by_cmd(in_use)
    waiting, known = [(begin, BOOT, 0)], {(begin, BOOT)}
    while waiting:
        life, boot, age = waiting.pop()
        found = list(itertools.islice(passes(life, wanted, tried, evolve(LIVE, boot=boot)), ENOUGH))
        found += itertools.islice(passes(life, wanted, tried, evolve(KEPT, boot=boot)), 2)
        last = found[ENOUGH - 1]
        if fails is None:
            assert runs(last.life) is (agent is GOOD), last.life
            assert last.life.observed.version_text == "2.0"
            assert agent is GOOD or (isinstance(last.view.verdict, Held) and last.view.verdict.reason == "Quarantined")
            assert not any(passed.done for passed in found[ENOUGH - 3 : ENOUGH]), "it stays so"
        for passed in found if age < 1 else ():
            for torn in passed.torn:
                for left in ((torn, boot), (stopped(torn, agent), f"{boot}+1")):
                    if left not in known:
                        known.add(left)
                        waiting.append((*left, age + 1))
    assert len(known) > 1


def test_where_the_new_version_fails_it_stays_stopped_and_that_is_a_rollback() -> None:
    passed = a_pass(stopped_by_cmd("1.0=B started"), wish("start 2.0=A"), never("1.0", BROKEN), LIVE)
    assert " ".join(passed.done) == "fetch verify unpack switch start"
    assert passed.news == ("no; it stays stopped, as was desired before",)
    assert passed.after.is_back
    assert isinstance(passed.after.verdict, Held)
    assert (passed.after.verdict.reason, passed.after.due.actions) == ("Quarantined", ())


def test_what_came_up_in_vain_is_stopped_where_it_lingers() -> None:
    """It says started when its watch has an end that is none: what was rolled back must not run on."""
    life = a_pass(stopped_by_cmd("1.0=B started"), wish("start 2.0=A"), never("1.0", GOOD), LIVE).life
    mute = with_process(life, ProcessState.UNKNOWN)
    passed = a_pass(mute, wish("start 2.0=A"), never("1.0", GOOD), evolve(LIVE, now=NOW + WATCH))
    assert passed.done == ("stop",)
    assert not runs(passed.life)


@pytest.mark.parametrize("agent", [GOOD, BROKEN], ids=["good", "broken"])
def test_an_answer_that_says_start_at_that_version_lifts_it(agent: Agent) -> None:
    """Also after the other one failed, and for all that comes then."""
    life = a_pass(stopped_by_cmd("1.0=B started"), wish("start 2.0=A"), BROKEN, LIVE).life
    found = list(itertools.islice(passes(life, wish("start 1.0=B"), agent, LIVE), ENOUGH))
    assert runs(found[-1].life)
    assert found[-1].life.observed.version_text == "1.0"
    straight = a_pass(stopped_by_cmd("1.0=B started"), wish("start 1.0=B"), agent, LIVE)
    assert straight.done == ("start",)


def test_an_operator_who_goes_back_to_that_version_lifts_it() -> None:
    life = stopped_by_cmd("1.0=B started")
    assert life.record is not None
    pinned = Life(life.observed, evolve(life.record, pin=Pin(version="1.0", owner="ann", at=NOW)))
    passed = a_pass(pinned, wish("start 2.0=A"), GOOD, LIVE)
    assert passed.done == ("start",)
    assert runs(passed.life)


def test_once_the_new_version_is_good_it_is_the_way_back() -> None:
    found = whole_life(stopped_by_cmd("1.0=B started"), wish("start 2.0=A"), never("1.0", GOOD), LIVE)
    assert found[-1].life.record is not None
    assert found[-1].life.record.told_to_stop == ()
    agent = Agent(starts=lambda tree: tree.version == "2.0")
    passed = a_pass(found[-1].life, wish("start 3.0=S"), agent, evolve(LIVE, now=NOW + 9000))
    assert passed.life.observed.version_text == "2.0"
    assert runs(passed.life)


def test_a_quarantine_from_before_the_stop_starts_nothing_either() -> None:
    """2.0 was rolled back to 1.0, whose `cmd` then became stop: 2.0 is asked again, and neither runs."""
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), BROKEN, LIVE).life
    life = a_pass(life, wish("stop"), GOOD, LIVE).life
    passed = a_pass(life, wish("start 2.0=A"), never("1.0", BROKEN), LIVE)
    assert passed.done == ()
    assert isinstance(passed.after.verdict, Held)
    assert passed.after.verdict.reason == "Quarantined"
    by_hand = a_pass(with_process(life, ProcessState.RUNNING), wish("start 2.0=A"), never("1.0", BROKEN), LIVE)
    assert by_hand.done == (), "what a person started runs on"


def test_a_power_cut_within_the_watch_is_no_failure() -> None:
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), GOOD, LIVE).life
    found = whole_life(stopped(life), wish("start 2.0=A"), GOOD, evolve(LIVE, now=NOW + 5, boot="the next"))
    assert found[0].done == ("start",)
    check_end(found, wish("start 2.0=A"), GOOD, asked=Freshness.LIVE)


@pytest.mark.parametrize("agent", [GOOD, SHORT_LIVED], ids=["good", "short-lived"])
def test_what_ended_long_before_a_pass_runs_again_at_once(agent: Agent) -> None:
    """What crashed after a good week is kept; what dies within its second watch goes back, as ever."""
    wanted = wish("start 2.0=A")
    life = a_pass(Life(seen("1.0=B started"), remembered("bare")), wanted, agent, LIVE).life
    passed = a_pass(stopped(life), wanted, agent, evolve(LIVE, now=NOW + 7 * 86400))
    assert passed.done == ("start",)
    assert runs(passed.life)
    found = whole_life(later(passed.life, agent), wanted, agent, evolve(LIVE, now=NOW + 7 * 86400 + WATCH))
    check_end(found, wanted, agent, asked=Freshness.LIVE)


def test_a_version_that_takes_the_host_down_does_so_three_times() -> None:
    """Each boot is counted before anything is tried, and on disk by then."""
    wanted, life = wish("start 2.0=A"), Life(seen("1.0=B started"), remembered("bare"))
    life = next(t for t in a_pass(life, wanted, GOOD, LIVE).torn if t.observed.version_text == "2.0")
    for boot in ("2nd", "3rd"):
        passed = a_pass(life, wanted, GOOD, evolve(LIVE, boot=boot))
        assert passed.done == ("start",)
        life = passed.torn[0]  # it never came further
    passed = a_pass(life, wanted, GOOD, evolve(LIVE, boot="4th"))
    assert passed.done == ("switch", "start")
    assert passed.life.observed.version_text == "1.0"


def test_what_ran_before_an_interrupted_change_is_the_way_back_of_the_next_try() -> None:
    """Killed between stop and switch: what runs no more when it is tried again, ran when it began."""
    wanted = wish("start 2.0=A")
    first = a_pass(Life(seen("1.0? started"), remembered("bare")), wanted, BROKEN, LIVE)
    between = next(t for t in first.torn if t.observed.version_text == "1.0" and not runs(t))
    passed = a_pass(between, wanted, BROKEN, LIVE)
    assert passed.life.observed.version_text == "1.0"
    assert runs(passed.life)
    assert passed.life.record is not None
    assert passed.life.record.fallback == Content(version="1.0")


def test_a_displaced_tree_that_has_not_got_its_name_yet_is_the_way_back_too() -> None:
    """Killed right after the exchange: what ran lies where its replacement was staged."""
    first = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 1.0=A"), BROKEN, LIVE)
    exchanged = next(t for t in first.torn if "1.0=B" in names_of(t.observed.next))
    passed = a_pass(exchanged, wish("start 1.0=A"), BROKEN, LIVE)
    assert passed.done == ("start", "switch", "start")
    assert passed.life.observed.active is not None
    assert passed.life.observed.active.tree.digests == content("1.0=B").digests
    assert runs(passed.life)


def names_of(trees: frozenset[Tree]) -> set[str]:
    names = {str(digest): letter for letter, digest in DIGESTS.items()}
    return {f"{tree.version}={''.join(names[digest] for digest in tree.digests)}" for tree in trees}


def test_a_start_that_a_switch_still_owed_is_rolled_back_without_an_answer_too() -> None:
    """The kept answer already names another version: what was begun is finished or rolled back all the same."""
    first = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), BROKEN, LIVE)
    owed = next(t for t in first.torn if t.observed.version_text == "2.0")
    passed = a_pass(owed, wish("start 3.0=S"), BROKEN, KEPT)
    assert passed.life.observed.version_text == "1.0"
    assert runs(passed.life)


@pytest.mark.parametrize("answered", [Freshness.LIVE, Freshness.LAST_ACCEPTED])
def test_quarantine_ends_by_time_where_the_host_says_so(answered: Freshness) -> None:
    wanted, host = wish("start 2.0=A"), Circumstances(quarantine_for=3600)
    life = whole_life(Life(seen("1.0=B started"), remembered("bare")), wanted, BROKEN, host)[-1].life
    early = a_pass(life, wanted, BROKEN, evolve(host, now=NOW + 3599))
    assert early.done == ()
    assert isinstance(early.view.verdict, Held)
    assert early.view.verdict.until == NOW + 3600
    late = a_pass(life, wanted, BROKEN, evolve(host, now=NOW + 3600, answered=answered))
    assert late.done.count("switch") == (2 if answered is Freshness.LIVE else 0)
    assert late.life.observed.version_text == "1.0"
    assert runs(late.life)
    if answered is Freshness.LIVE:
        again = a_pass(late.life, wanted, BROKEN, evolve(host, now=NOW + 7199))
        assert again.done == ()


@pytest.mark.parametrize(
    ("first", "then", "tried"),
    [
        ("start 2.0=A+c1", "start 2.0=B+c1", True),
        ("start 2.0=A+c1", "start 2.0=A+c2", True),
        ("start 2.0=A+c1", "start 2.1=A+c1", True),
        ("start 2.0=A+c1", "start 2.0=A", True),
        ("start 2.0=A", "start 2.0=A+c1", True),
        ("start 2.0=A+c1", "start 2.0=A+c1", False),
        # unknown differs from nothing
        ("start 2.0=A", "start 2.0", False),
        ("start 2.0=A", "start 2.0=S", False),
    ],
)
def test_other_content_lifts_the_quarantine(first: str, then: str, tried: bool) -> None:
    agent = Agent(starts=lambda tree: tree.version == "1.0")
    life = a_pass(Life(seen("1.0=B+c0 started"), remembered("c0")), wish(first), agent, LIVE).life
    passed = a_pass(life, wish(then), agent, evolve(LIVE, now=NOW + WATCH))
    assert ("switch" in passed.done) is tried
    assert isinstance(passed.view.verdict, Held) is not tried
    assert passed.life.observed.version_text == "1.0"
    assert runs(passed.life)


def test_a_rolled_back_config_stays_quarantined_when_the_old_one_is_desired() -> None:
    """The server takes its change back: all is as desired; and makes it again: still not tried."""
    life = Life(seen("1.0=B+c0 started"), remembered("c0"))
    life = whole_life(life, wish("start 1.0=B+c1"), BROKEN, LIVE)[-1].life
    back = a_pass(life, wish("start 1.0=B+c0"), BROKEN, LIVE)
    assert not isinstance(back.view.verdict, Held)
    assert back.done == ()
    again = a_pass(back.life, wish("start 1.0=B+c1"), BROKEN, LIVE)
    assert again.done == ()
    assert isinstance(again.after.verdict, Held)


def test_the_first_config_of_a_version_has_no_way_back_and_the_version_before_it_has() -> None:
    """A config can be put back, but not be taken away: so the last good version is the way back, if it is another."""
    bare = record(config=None, good=content("0.9=S", config=""))
    agent = Agent(starts=lambda tree: tree.config != config_digest("c1"))
    passed = a_pass(Life(seen("1.0=B started; staged 0.9=S"), bare), wish("start 1.0=B+c1"), agent, LIVE)
    assert passed.life.observed.version_text == "0.9"
    assert runs(passed.life)
    alone = a_pass(Life(seen("1.0=B started"), remembered("new")), wish("start 1.0=B+c1"), agent, LIVE)
    assert alone.news[0].endswith("there is nothing to go back to")
    assert alone.life.record is not None
    assert (alone.life.record.failures, alone.life.record.fallback) == ((), None)


def test_only_switches_that_were_written_down_are_made_for_what_is_wanted() -> None:
    passed = a_pass(Life(seen("1.0=B started"), remembered("bare")), wish("start 2.0=A"), GOOD, LIVE)
    assert any(isinstance(action, Switch) for action in passed.view.due.actions)
    assert passed.life.record is not None
    pending = passed.life.record.confirmation
    assert pending is not None
    assert (pending.to, pending.before, pending.boot) == (
        content("2.0=A", config=""),
        content("1.0=B"),
        BOOT,
    )
