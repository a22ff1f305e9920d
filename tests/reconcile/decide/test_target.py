"""What is aimed at: whose change a config is, when a start is due, when content is known to differ, what healing is."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from probes.observed import Active, ProcessState
from reconcile.decide.actions import SwitchTree
from reconcile.decide.desired import Digest, RunState
from reconcile.decide.planner import plan_agent
from reconcile.decide.records.content import EMPTY_FILE, Content
from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, PendingUpgrade, Pin
from reconcile.decide.target import (
    Blocker,
    RemoteInputs,
    Target,
    WantedConfig,
    differs,
    stranded,
    target_back,
    target_for,
    target_to_heal,
    why_not_emptied,
)
from tests.reconcile.decide.worlds import (
    CONFIG_NAME,
    DIGESTS,
    NAME,
    NOW,
    PLACE,
    URL,
    Life,
    config_digest,
    content,
    record,
    remembered,
    seen,
    target_at,
    tree,
    types,
    wish,
)


def digests(letters: str) -> frozenset[Digest]:
    return frozenset(DIGESTS[letter] for letter in letters)


def test_the_wish_as_a_whole() -> None:
    life = Life(seen("1.0=B started"), remembered("new"))
    assert target_at(wish("start 2.0=AS+c1"), life) == Target(
        name=NAME,
        run=RunState.START,
        version="2.0",
        url=URL,
        digests=digests("AS"),
        config=WantedConfig(name=CONFIG_NAME, digest=config_digest("c1")),
        keep=frozenset({"1.0", "2.0"}),
        home=PLACE,
    )


@pytest.mark.parametrize(
    ("world", "stopped", "heals"),
    [
        ("1.0=B stoped", "1.0", None),
        ("1.0=B stoped", "0.9 1.0", None),
        ("1.0=B stoped", "0.9", "1.0"),
        ("names 1.0; next 1.0=A; previous 1.0=B", "1.0", None),
        ("2.0=A stoped", "1.0", "2.0"),
    ],
)
def test_an_agent_stopped_by_cmd_is_not_healed_while_another_version_is_desired(
    world: str, stopped: str, heals: str | None
) -> None:
    life = Life(seen(world), remembered(f"bare; told {stopped}"))
    healing = target_to_heal(wish("start 3.0=S").desired, life.record, life.observed)
    assert (None if healing is None else healing.version) == heals
    assert target_at(wish("start 3.0=S"), life).for_good is (heals is None)


def test_nor_is_what_failed_after_that() -> None:
    failed = Failure(
        content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="no", at=NOW
    )
    remembers = record(told_to_stop=("1.0",), failures=(failed,))
    down, up, mute = seen("2.0=A stoped"), seen("2.0=A started"), seen("2.0=A unknown")
    asked = wish("start 3.0=S").desired
    assert target_to_heal(asked, remembers, down) is None
    for observed, done in ((down, ""), (up, "stop"), (mute, "stop")):
        back = target_back(asked, remembers, observed, failed.content, keep=2)
        assert back is not None
        assert (back.run, types(plan_agent(back, observed))) == (RunState.STOP, done)
    stopped_once = evolve(remembers, stopped_by_us=True)
    back = target_back(asked, stopped_once, mute, failed.content, keep=2)
    assert back is not None
    assert types(plan_agent(back, mute)) == "", "one stop is enough where the status is unknown"
    assert target_back(asked, remembers, seen(""), failed.content, keep=2) is None
    assert target_back(asked, remembers, seen("1.5 started"), failed.content, keep=2) is None, "that is nothing of it"


@pytest.mark.parametrize(("asked", "run"), [("stop", RunState.STOP), ("observe", RunState.OBSERVE)])
def test_to_stop_or_to_look_on_nothing_else_counts(asked: str, run: RunState) -> None:
    life = Life(seen("1.0=B unknown"), remembered("c0 0.9>1.0"))
    assert target_at(wish(asked), life) == Target(name=NAME, run=run, prune=False)
    assert target_at(wish(asked), Life(life.observed, remembered("c0"))) == Target(name=NAME, run=run)


def test_a_wish_without_an_artifact_has_no_url() -> None:
    desired = evolve(wish("start 1.0").desired, artifact=None)
    assert target_for(desired, None, seen("1.0 started"), RemoteInputs(), keep=2).url == ""


@pytest.mark.parametrize(
    ("in_use", "wanted", "differ"),
    [
        ("1.0=A", "A", False),
        ("1.0=A", "B", True),
        ("1.0=A", "", False),
        ("1.0", "A", False),
        ("1.0?", "A", False),
        ("1.0=A", "S", False),
        ("1.0=AS", "A", False),
        ("1.0=A", "AS", False),
        ("1.0=AS", "AT", True),
        ("1.0=AS", "BS", True),
        ("1.0=BT", "AS", True),
    ],
)
def test_content_differs_only_where_it_is_known_to(in_use: str, wanted: str, differ: bool) -> None:
    active = Active(tree=tree(in_use), process=ProcessState.RUNNING)
    assert differs(active, digests(wanted)) is differ


@given(st.sets(st.sampled_from("AS")), st.sets(st.sampled_from("AS")))
def test_digests_of_one_tarball_never_differ(known: set[str], wanted: set[str]) -> None:
    letters = "".join(sorted(known))
    active = Active(tree=tree(f"1.0={letters}" if letters else "1.0"), process=ProcessState.RUNNING)
    assert not differs(active, digests("".join(wanted)))


@pytest.mark.parametrize(
    ("asked", "kept", "world", "edited"),
    [
        # as it is remembered and as it is now at the server: the file was changed here
        ("start 1.0+c1", "c1", "1.0+e started", True),
        ("start 1.0+c1", "c1", "1.0+e stoped", True),
        ("start 1.0+c1", "c1", "1.0+c1 started", False),
        # changed at the server too: it is delivered, since nothing else could ever be
        ("start 1.0+c1", "c0", "1.0+e started", False),
        ("start 1.0+c1", "c0", "1.0+c0 started", False),
        # unknown: left alone
        ("start 1.0+c1", "none", "1.0+e started", True),
        ("start 1.0+c1", "new", "1.0+e started", True),
        ("start 1.0+c1", "none", "1.0 started", False),
        ("start 1.0+c1", "new", "1.0 started", False),
        # it was managed without one: what is wanted now is new
        ("start 1.0+c1", "bare", "1.0+e started", False),
        # removed here: no reason to stop an agent that runs, but needed before the next start
        ("start 1.0+c1", "c1", "1.0 started", True),
        ("start 1.0+c1", "c1", "1.0 unknown", True),
        ("start 1.0+c1", "c1", "1.0 stoped", False),
        # another tree than the one that was edited
        ("start 2.0+c1", "c1", "1.0+e started", False),
        ("start 1.0=A+c1", "c1", "1.0=B+e started", False),
        ("start 1.0+c1", "c1", "names 1.0", False),
        # no config is wanted, or it could not be had
        ("start 1.0", "c1", "1.0+e started", False),
    ],
)
def test_whose_change_a_config_is(asked: str, kept: str, world: str, edited: bool) -> None:
    found = target_at(wish(asked), Life(seen(world), remembered(kept)))
    assert found.edited is edited
    wanted = not edited and "+" in asked
    assert found.config == (WantedConfig(name=CONFIG_NAME, digest=config_digest("c1")) if wanted else None)


@pytest.mark.parametrize(
    ("kept", "world", "edited"),
    [
        # the server went back to what was delivered before, and the run that delivered the other was killed
        ("c1", "1.0+c2 stoped", False),
        ("c1", "1.0+c2 started", False),
        ("none", "1.0+c2 started", False),
        ("bare", "1.0+c2 started", False),
        # a person changed it since
        ("c1", "1.0+e started", True),
        ("none", "1.0+e started", True),
        ("c1", "1.0 started", True),
    ],
)
def test_what_we_were_about_to_write_is_no_local_edit(kept: str, world: str, edited: bool) -> None:
    known = remembered(kept) or record()
    known = evolve(known, delivering=config_digest("c2"))
    assert target_at(wish("start 1.0+c1"), Life(seen(world), known)).edited is edited


def test_another_file_name_is_no_local_edit() -> None:
    kept = remembered("c1")
    assert kept is not None
    assert kept.config is not None
    kept = evolve(kept, config=evolve(kept.config, name="old.json"))
    assert not target_at(wish("start 1.0+c1"), Life(seen("1.0+e started"), kept)).edited


def test_a_config_that_could_not_be_had_is_left_as_it_is() -> None:
    trouble = RemoteInputs(digests=digests("A"), blocker=Blocker(reason="FetchFailed", message="HTTP 404"))
    found = target_for(wish("start 1.0=A+c1").desired, remembered("c0"), seen("1.0=A+c0 started"), trouble, keep=2)
    assert (found.config, found.edited) == (None, False)


@pytest.mark.parametrize(
    ("kept", "world", "due"),
    [
        ("new 0.9>1.0", "1.0 unknown", True),
        ("new 0.9>1.0", "1.0 stoped", True),
        ("new 1.0>1.0", "1.0 unknown", True),
        ("new >1.0", "1.0 unknown", True),
        ("new 0.9>1.0", "1.0 started", False),
        ("new 1.0>2.0", "1.0 unknown", False),
        ("new 0.9>1.0", "names 1.0", False),
        ("new", "1.0 unknown", False),
        ("none", "1.0 unknown", False),
    ],
)
def test_a_start_is_due_once_it_was_written_down_and_not_seen(kept: str, world: str, due: bool) -> None:
    life = Life(seen(world), remembered(kept))
    assert target_at(wish("start 1.0"), life).start_due is due


@pytest.mark.parametrize(
    ("world", "version"),
    [
        ("1.0=B stoped; staged 2.0=A; next 1.0=A", "1.0"),
        ("1.0? started", "1.0"),
        ("names 1.0; next 1.0=A; previous 1.0?", "1.0"),
        # no half-done exchange: what lies there was never in use
        ("names 1.0; next 1.0=A", None),
        ("names 1.0; previous 1.0=A", None),
        ("names 1.0; next 2.0=A; previous 2.0=A", None),
        ("names 9.9; staged 1.0=A", None),
        ("names ; next 1.0=A", None),
        ("staged 1.0=A", None),
    ],
)
def test_healing_keeps_the_version_in_use(world: str, version: str | None) -> None:
    found = target_to_heal(wish("start 2.0=A+c1").desired, remembered("c0"), seen(world))
    if version is None:
        assert found is None
    else:
        assert found == Target(name=NAME, run=RunState.START, version=version, prune=False)


@pytest.mark.parametrize("asked", ["stop", "observe"])
def test_what_is_not_to_run_is_not_healed(asked: str) -> None:
    assert target_to_heal(wish(asked).desired, None, seen("1.0=A stoped")) is None


def test_content_is_what_a_failure_is_written_down_by() -> None:
    def of(asked: str, world: str = "1.0=B started", kept: str = "c0") -> Content:
        return target_at(wish(asked), Life(seen(world), remembered(kept))).content

    assert of("start 2.0=AS+c1") == content("2.0=AS+c1")
    assert of("start 2.0=A") == content("2.0=A", config="")  # none is wanted, which is known
    assert of("start 1.0=B+c0", "1.0=B+e started") == content("1.0=B")  # an edit: unknown


FELL = Failure(content=content("2.0=A"), verdict=FailureKind.ROLLED_BACK, reason="StartFailed", message="no", at=NOW)
PIN = Pin(version="1.0", owner="ann", at=NOW)


def back(kept: AgentRecord, world: str, failed: str, asked: str = "start 2.0=A+c1") -> str | None:
    """The actions of the way back, or None where there is none."""
    found = target_back(wish(asked).desired, kept, seen(world), content(failed), keep=2)
    return None if found is None else types(plan_agent(found, seen(world)))


@pytest.mark.parametrize(
    ("fallback", "world", "failed", "way"),
    [
        # another version: whatever is on disk under it will do, an adopted tree too
        ("1.0=B", "2.0=A started; staged 1.0=B", "2.0=A", "stop switch start"),
        ("1.0=B", "2.0=A stoped; staged 1.0=B", "2.0=A", "switch start"),
        ("1.0", "2.0=A stoped; staged 1.0~", "2.0=A", "switch start"),
        ("1.0=B", "names 2.0; staged 1.0=B", "2.0=A", "switch start"),
        ("1.0=B", "2.0=A stoped", "2.0=A", None),
        ("1.0=B", "2.0=A stoped; previous 1.0=B", "2.0=A", None),
        ("1.0=B", "names 2.0", "2.0=A", None),
        # gone back already
        ("1.0=B", "1.0=B started; staged 2.0=A", "2.0=A", ""),
        ("1.0=B", "1.0=B stoped; staged 2.0=A", "2.0=A", "start"),
        # the same version: the tree that was displaced, under either of its names
        ("1.0=B", "1.0=A stoped; previous 1.0=B", "1.0=A", "switch start"),
        ("1.0=B", "1.0=A unknown; previous 1.0=B", "1.0=A", "stop switch start"),
        ("1.0=B", "1.0=A stoped; next 1.0=B", "1.0=A", "switch start"),
        ("1.0=B", "1.0=A stoped; next 1.0=S", "1.0=A", None),
        ("1.0=B", "1.0=A stoped", "1.0=A", None),
        ("1.0=B", "1.0=A stoped; previous 1.0=B", "1.0=AS", "switch start"),  # the server names one more digest now
        ("1.0=B", "1.0=B started; previous 1.0=A", "1.0=A", "prune"),
        ("1.0=B", "1.0~ started; previous 1.0=B", "1.0=A", "prune"),  # an unknown tree is not known to have failed
        # the same tree with another config: its bytes were kept
        ("1.0=B+c0", "1.0=B+c1 stoped; kept c0", "1.0=B+c1", "configure switch start"),
        ("1.0=B+c0", "1.0=B+c1 started; kept c0", "1.0=B+c1", "configure stop switch start"),
        ("1.0+c0", "1.0?+c1 stoped; kept c0", "1.0=B+c1", "configure switch start"),
        ("1.0=B+c0", "1.0=B+c1 stoped; kept e", "1.0=B+c1", "start prune"),
        ("1.0=B+c0", "1.0=B+c0 started; kept c0", "1.0=B+c1", "prune"),
        ("1.0=B", "1.0=B+c1 stoped; kept c0", "1.0=B+c1", "start prune"),
    ],
)
def test_the_way_back(fallback: str, world: str, failed: str, way: str | None) -> None:
    kept = record(fallback=content(fallback), good=content("0.5"))
    version, _, rest = failed.partition("=")
    found = back(kept, world, failed, f"start {version}={rest.partition('+')[0]}+c1")
    assert found == way


def test_where_there_is_no_way_back_or_nothing_is_to_run() -> None:
    assert back(record(good=content("1.0")), "2.0=A stoped; staged 1.0", "2.0=A") is None
    kept = record(fallback=content("1.0"))
    for asked in ("stop", "observe"):
        assert back(kept, "2.0=A started; staged 1.0", "2.0=A", asked) is None


@pytest.mark.parametrize(
    ("world", "way"),
    [
        ("2.0=A started; staged 1.0=B", "stop switch start"),
        ("1.0=B started; staged 2.0=A", ""),
        ("1.0=B stoped", "start"),
        ("1.0=A started; previous 1.0=B; kept c0", "prune"),
        ("2.0=A started", None),
    ],
)
def test_a_pin_goes_before_the_fallback_and_means_a_version(world: str, way: str | None) -> None:
    kept = record(pin=PIN, fallback=content("0.9=B"))
    assert back(kept, world, "2.0=A") == way


def test_a_tree_that_was_exchanged_and_not_yet_renamed_is_taken_from_where_it_lies() -> None:
    target = target_back(
        wish("start 1.0=A").desired,
        record(fallback=content("1.0=B")),
        seen("1.0=A stoped; next 1.0=B"),
        content("1.0=A"),
        keep=2,
    )
    assert target is not None
    assert plan_agent(target, seen("1.0=A stoped; next 1.0=B")).switch == SwitchTree(version="1.0")


@pytest.mark.parametrize(
    ("world", "stuck"),
    [
        ("2.0=A stoped", True),
        ("2.0=A started", False),  # whatever was thought of it: what runs is not stopped for that
        ("2.0=A unknown", False),
        ("2.0=S stoped", True),
        ("2.0=B stoped", False),
        ("1.0=A stoped", False),
        ("names 2.0", False),
    ],
)
def test_what_was_rolled_back_and_stands_still_is_stranded(world: str, stuck: bool) -> None:
    assert stranded(record(failures=(FELL,)), seen(world)) == (content("2.0=A") if stuck else None)
    assert stranded(record(failures=(evolve(FELL, verdict=FailureKind.NOT_REACHED),)), seen(world)) is None
    assert stranded(None, seen(world)) is None


SWITCH = PendingUpgrade(to=content("2.0=A"), before=content("1.0=B"), at=NOW)


@pytest.mark.parametrize(
    ("kept", "keep", "stay"),
    [
        (record(), 1, "4.0 5.0"),
        (record(), 2, "4.0 5.0"),
        # whatever `keep` says: the last good, the ways back, the pinned
        (record(good=content("1.0")), 1, "1.0 4.0 5.0"),
        (record(fallback=content("1.0")), 1, "1.0 4.0 5.0"),
        (record(interrupted=content("1.0")), 1, "1.0 4.0 5.0"),
        (record(confirmation=SWITCH), 1, "1.0 4.0 5.0"),
        (record(confirmation=evolve(SWITCH, before=None)), 1, "4.0 5.0"),
        (record(pin=PIN), 1, "1.0 4.0 5.0"),
        (
            record(good=content("1.0"), fallback=content("2.0"), pin=evolve(PIN, version="3.0")),
            1,
            "1.0 2.0 3.0 4.0 5.0",
        ),
        # up to it, those that were in use last; what is not on disk any more takes no place
        (record(used=("5.0", "2.0", "1.0", "3.0")), 3, "2.0 4.0 5.0"),
        (record(used=("5.0", "9.9", "1.0")), 3, "1.0 4.0 5.0"),
        (record(good=content("4.0"), used=("5.0", "2.0", "1.0")), 4, "1.0 2.0 4.0 5.0"),
        # memory was lost: as many stay as may
        (record(), 3, "3.0 4.0 5.0"),
        (record(used=("5.0", "1.0")), 4, "1.0 3.0 4.0 5.0"),
        (record(), 9, "1.0 2.0 3.0 4.0 5.0"),
    ],
)
def test_the_versions_that_stay(kept: AgentRecord, keep: int, stay: str) -> None:
    """4.0 is in use, 5.0 is wanted."""
    life = Life(seen("4.0=B started; staged 1.0; staged 2.0; staged 3.0"), kept)
    found = target_at(wish("start 5.0=A"), life, keep=keep).keep
    assert found == frozenset(stay.split())


def test_without_a_record_all_versions_stay() -> None:
    assert target_at(wish("start 5.0=A"), Life(seen("4.0=B started; staged 1.0"), None), keep=1).keep is None


def test_going_back_keeps_what_failed_so_that_a_release_needs_no_download() -> None:
    kept = record(fallback=content("1.0=B"))
    found = target_back(
        wish("start 2.0=A").desired, kept, seen("1.0=B started; staged 2.0=A"), content("2.0=A"), keep=1
    )
    assert found is not None
    assert found.keep == frozenset({"1.0", "2.0"})


def test_nothing_is_pruned_while_the_end_of_a_switch_is_open() -> None:
    life = Life(seen("2.0=A started; staged 1.0=B; left .stage-x"), record(confirmation=SWITCH))
    assert not target_at(wish("start 2.0=A"), life).prune


@pytest.mark.parametrize(("world", "never"), [("2.0=A unknown", True), ("1.5=S unknown", False), ("names 2.0", False)])
def test_going_back_knows_whether_what_failed_was_ever_up(world: str, never: bool) -> None:
    kept = record(fallback=content("1.0=B"), never_up=content("2.0=A"))
    target = target_back(wish("start 2.0=A").desired, kept, seen(f"{world}; staged 1.0=B"), content("2.0=A"), keep=2)
    assert target is not None
    assert target.never_up is never


# A remote config that is empty


@pytest.mark.parametrize(
    ("asked", "in_use", "delivered", "waits"),
    [
        ("1.0", "1.0", "c1", True),
        ("2.0", "1.0", "c1", True),
        ("1.0", "1.0+c0", None, True),
        ("2.0", "1.0+c0", None, False),  # the file of another version's tarball was never delivered
        ("1.0", "1.0", None, False),
        ("2.0", "", None, False),
        ("1.0", "1.0", "bare", False),
    ],
)
def test_an_empty_config_waits_where_the_one_before_it_is_not(
    asked: str, in_use: str, delivered: str | None, waits: bool
) -> None:
    observed = seen(f"{in_use} started" if in_use else "")
    remembers = remembered(delivered or "new")
    assert remembers is not None
    wanted = Target(
        name=NAME, run=RunState.START, version=asked, config=WantedConfig(name=CONFIG_NAME, digest=EMPTY_FILE)
    )
    trouble = why_not_emptied(wanted, remembers, observed)
    assert (trouble is not None) is waits
    assert trouble is None or trouble.reason == "ConfigDiffers"
    assert why_not_emptied(wanted, evolve(remembers, empty_released=True), observed) is None
    full = evolve(wanted, config=WantedConfig(name=CONFIG_NAME, digest="sha256:1"))
    assert why_not_emptied(full, remembers, observed) is None
    assert why_not_emptied(evolve(wanted, config=None), remembers, observed) is None
    assert (why_not_emptied(wanted, None, observed) is not None) is (in_use == "1.0+c0" and asked == "1.0")


def test_one_that_is_in_place_already_waits_for_nothing() -> None:
    active = Active(tree=evolve(tree("1.0=B"), config=EMPTY_FILE), process=ProcessState.RUNNING)
    wanted = Target(
        name=NAME, run=RunState.START, version="1.0", config=WantedConfig(name=CONFIG_NAME, digest=EMPTY_FILE)
    )
    assert why_not_emptied(wanted, remembered("c1"), evolve(seen("1.0=B started"), active=active)) is None
