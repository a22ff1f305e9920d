"""The drawn profile names what exists, and its bars are as long as the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import profiles

ROOT = Path(profiles.__file__).parent.parent


@pytest.mark.parametrize("place", [*profiles.NO_OP, *profiles.UPGRADE])
def test_each_part_names_code_that_is_there(place: str) -> None:
    file, _, function = place.partition(":")
    assert (ROOT / file).exists()
    assert not function or f"def {function}(" in (ROOT / file).read_text()


def test_bars_are_as_long_as_the_time() -> None:
    profile = profiles.Profile(
        title="A pass",
        wall_s=0.2,
        parts=(("spawn", 0.1), ("read", 0.05), ("little", 0.0001)),
        ours_s=0.05,
        scripts_s=0.1,
        floors={"alone": 0.08},
    )
    head, spawn, read, little, floor = profile.drawn().splitlines()
    assert head == "A pass: 200 ms; CPU 50 ms of ours, 100 ms of control scripts"
    assert (spawn.count("█"), read.count("█"), little.count("█")) == (20, 10, 0)
    assert ("50%" in spawn, "80.0 ms" in floor) == (True, True)


def test_time_is_given_to_the_innermost_function_of_ours() -> None:
    sampler = profiles.Sampler(
        {"probes/": "look", "probes/host/control_script.py": "wait", "probes/host/control_script.py:run": "go"}
    )
    assert sampler.named("probes/host/control_script.py", "run") == "go"
    assert sampler.named("probes/host/control_script.py", "other") == "wait"
    assert sampler.named("probes/home.py", "look") == "look"
    assert sampler.named("updater/cli.py", "run") == ""
