"""What is aimed at: whose change a config is, when a start is due, when content is known to differ, what healing is."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from probes.observed import Active, ProcessState
from reconcile.decide.aim import Aim, Findings, Trouble, WantedConfig, aim, aim_to_heal, differs
from reconcile.decide.desired import Digest, RunState
from tests.reconcile.decide.worlds import (
    CONFIG_NAME,
    DIGESTS,
    NAME,
    URL,
    Life,
    aim_at,
    config_digest,
    remembered,
    seen,
    tree,
    wish,
)


def digests(letters: str) -> frozenset[Digest]:
    return frozenset(DIGESTS[letter] for letter in letters)


def test_the_wish_as_a_whole() -> None:
    life = Life(seen("1.0=B started"), remembered("new"))
    assert aim_at(wish("start 2.0=AS+c1"), life) == Aim(
        name=NAME,
        run=RunState.START,
        version="2.0",
        url=URL,
        digests=digests("AS"),
        config=WantedConfig(name=CONFIG_NAME, digest=config_digest("c1")),
    )


@pytest.mark.parametrize(("asked", "run"), [("stop", RunState.STOP), ("observe", RunState.OBSERVE)])
def test_to_stop_or_to_look_on_nothing_else_counts(asked: str, run: RunState) -> None:
    life = Life(seen("1.0=B unknown"), remembered("c0 0.9>1.0"))
    assert aim_at(wish(asked), life) == Aim(name=NAME, run=run)


def test_a_wish_without_an_artifact_has_no_url() -> None:
    desired = evolve(wish("start 1.0").desired, artifact=None)
    assert aim(desired, None, seen("1.0 started"), Findings()).url == ""


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
    ("asked", "record", "world", "edited"),
    [
        # as it is remembered and as it is now at the server: whoever changed the file did so here
        ("start 1.0+c1", "c1", "1.0+e started", True),
        ("start 1.0+c1", "c1", "1.0+e stoped", True),
        ("start 1.0+c1", "c1", "1.0+c1 started", False),
        # changed at the server too: it is delivered, since nothing else could ever be
        ("start 1.0+c1", "c0", "1.0+e started", False),
        ("start 1.0+c1", "c0", "1.0+c0 started", False),
        # nobody knows: left alone
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
def test_whose_change_a_config_is(asked: str, record: str, world: str, edited: bool) -> None:
    found = aim_at(wish(asked), Life(seen(world), remembered(record)))
    assert found.edited is edited
    wanted = not edited and "+" in asked
    assert found.config == (WantedConfig(name=CONFIG_NAME, digest=config_digest("c1")) if wanted else None)


def test_another_file_name_is_no_local_edit() -> None:
    record = remembered("c1")
    assert record is not None
    assert record.config is not None
    record = evolve(record, config=evolve(record.config, name="old.json"))
    assert not aim_at(wish("start 1.0+c1"), Life(seen("1.0+e started"), record)).edited


def test_a_config_that_could_not_be_had_is_left_as_it_is() -> None:
    trouble = Findings(digests=digests("A"), trouble=Trouble(reason="FetchFailed", message="HTTP 404"))
    found = aim(wish("start 1.0=A+c1").desired, remembered("c0"), seen("1.0=A+c0 started"), trouble)
    assert (found.config, found.edited) == (None, False)


@pytest.mark.parametrize(
    ("record", "world", "due"),
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
def test_a_start_is_due_once_it_was_written_down_and_not_seen(record: str, world: str, due: bool) -> None:
    life = Life(seen(world), remembered(record))
    assert aim_at(wish("start 1.0"), life).start_due is due


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
    found = aim_to_heal(wish("start 2.0=A+c1").desired, remembered("c0"), seen(world))
    if version is None:
        assert found is None
    else:
        assert found == Aim(name=NAME, run=RunState.START, version=version, prune=False)


@pytest.mark.parametrize("asked", ["stop", "observe"])
def test_what_is_not_to_run_is_not_healed(asked: str) -> None:
    assert aim_to_heal(wish(asked).desired, None, seen("1.0=A stoped")) is None
