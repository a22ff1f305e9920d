"""The observed-state model: names that are ours, places that are the same, what is found again."""

from __future__ import annotations

import pytest
from attrs import evolve

from probes.observed import (
    PREVIOUS_CONFIG,
    STAGE_PREFIX,
    Active,
    HomeRef,
    ObservedAgent,
    ObservedHost,
    ProcessState,
    Tree,
    find_version,
    is_reserved,
    next_name,
    old_name,
    previous_name,
)

PLACE = HomeRef(name="falcon-agent", work_dir="/home/falcon", run_user="falcon", config_name="cfg.json")
OLD, NEW = Tree(version="1.0"), Tree(version="2.0")


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        (".ops-updater.json", True),
        (".version", True),
        (".start.log", True),
        (".stage-", True),
        (".stage-config", True),
        (".stage-4f", True),
        (next_name("1.0"), True),
        (previous_name("1.0"), True),
        (PREVIOUS_CONFIG, True),
        (old_name("1.0"), True),
        (".stage", False),
        (".versions", False),
        ("version", False),
        ("1.0", False),
        ("control", False),
        ("", False),
    ],
)
def test_the_names_that_are_ours(name: str, reserved: bool) -> None:
    assert is_reserved(name) is reserved


def test_no_displaced_config_is_taken_for_the_tree_of_a_version() -> None:
    """A version's name never begins with a dot."""
    assert previous_name(".config") == PREVIOUS_CONFIG


def test_what_is_being_removed_is_a_leftover_whatever_its_name_was() -> None:
    assert old_name("1.0").startswith(STAGE_PREFIX)
    assert len(old_name("v" * 255)) < 100


def test_only_started_is_running() -> None:
    assert [state.is_running for state in ProcessState] == [True, False, False]


def test_a_place_is_the_same_whatever_config_is_looked_at() -> None:
    assert PLACE.same_home(evolve(PLACE, config_name=None))
    assert not PLACE.same_home(evolve(PLACE, name="other"))
    assert not PLACE.same_home(evolve(PLACE, work_dir="/srv"))
    assert not PLACE.same_home(evolve(PLACE, run_user="nobody"))


def test_what_is_installed_is_all_that_is_complete() -> None:
    agent = ObservedAgent(home=PLACE, staged=frozenset({NEW}), next=frozenset({OLD}))
    assert agent.name == "falcon-agent"
    assert agent.installed == ("2.0",)
    active = Active(tree=OLD, process=ProcessState.RUNNING)
    assert evolve(agent, version_text="1.0", active=active).installed == ("1.0", "2.0")


def test_an_agent_is_found_at_its_place() -> None:
    agent = ObservedAgent(home=PLACE)
    host = ObservedHost(at=1.0, agents=(ObservedAgent(home=evolve(PLACE, run_user="nobody")), agent))
    assert host.find(evolve(PLACE, config_name=None)) is agent
    assert host.find(evolve(PLACE, work_dir="/srv")) is None


def test_a_version_is_found_by_its_whole_name() -> None:
    assert find_version(frozenset({OLD, NEW}), "2.0") is NEW
    assert find_version(frozenset({OLD, NEW}), "2") is None
