"""Values <-> JSON: what fits comes through as it was, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import field

from probes.codec import KEY, CodecError, decode, encode, parse
from probes.home import StatusLimits
from probes.host.control_script import CallEnd, ScriptResult
from probes.host.paths import AgentHome
from probes.observed import Active, Evidence, HomeRef, ObservedAgent, ProcessState, Tree
from probes.values import frozen

PLACE = HomeRef(name="falcon-agent", work_dir="/srv/\udcff agents", run_user="falcon")
TREE = Tree(version="1.0.0", digests=frozenset({"md5:00"}))
SEEN = ObservedAgent(
    home=PLACE,
    version_text="1.0.0",
    active=Active(tree=TREE, process=ProcessState.RUNNING),
    staged=frozenset({TREE}),
)

VALUES: list[tuple[Any, Any]] = [
    (ObservedAgent, SEEN),
    (tuple[ObservedAgent, ...], (SEEN, ObservedAgent(home=PLACE))),
    (ScriptResult, ScriptResult(ended=CallEnd.EXITED, code=3, output=b"\0\xff")),
    (StatusLimits, StatusLimits(limit_s=2, agent_env={"A": "b"}, words={"*": {"up": ProcessState.RUNNING}})),
    (AgentHome, AgentHome(Path("/srv/x"), "falcon")),
    (bytes | None, None),
    (bytes | None, b"\xff" * 1000),
    (tuple[int, str], (1, "x")),
    (Mapping[str, int], {"a": 1}),
    (type(None), None),
    (bool, True),
]


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=lambda one: repr(one)[:40])
def test_a_value_comes_through_as_it_was(hint: Any, value: Any) -> None:
    assert decode(hint, parse(json.dumps(encode(value)).encode())) == value


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        (int, True),
        (int, 1.0),
        (bool, 1),
        (float, float("nan")),
        (float, float("inf")),
        (float, True),
        (str, None),
        (bytes, "not base64!"),
        (bytes, 7),
        (Path, 7),
        (ProcessState, "running"),
        (ProcessState, ["RUNNING"]),
        (type(None), 0),
        (tuple[int, ...], {"0": 1}),
        (tuple[int, int], [1]),
        (frozenset[str], [1]),
        (frozenset[str], [["a"]]),
        (Mapping[str, str], []),
        (HomeRef, []),
        (HomeRef, {"name": "x"}),
        (HomeRef, encode(PLACE) | {"more": 1}),
        (AgentHome, {"work_dir": "/x", "name": None}),
    ],
)
def test_what_is_of_another_type_is_refused(hint: Any, found: Any) -> None:
    with pytest.raises(CodecError):
        decode(hint, found)


def test_what_has_no_form_is_our_own_mistake() -> None:
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises(TypeError):
        decode(object, {})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"\xff", b"9" * 10_000, b"9" * 21, b"[" + b"[]," * 200_000 + b"1]", b"[1e999"],
    ids=lambda body: repr(body)[:20],
)
def test_what_is_no_json_or_too_much_is_refused(body: bytes) -> None:
    with pytest.raises(CodecError):
        parse(body)


@frozen(kw_only=True)
class Sample:
    must: str
    may: int = 3
    renamed: bool = field(default=False, metadata={KEY: "old"})
    _made: int = field(init=False, default=0)


def test_an_absent_key_has_its_default_and_one_without_a_default_is_missed() -> None:
    assert decode(Sample, {"must": "x"}) == Sample(must="x")
    with pytest.raises(CodecError, match="without must"):
        decode(Sample, {"may": 4})


def test_a_key_may_be_older_than_the_name_of_its_field() -> None:
    assert encode(Sample(must="x", renamed=True)) == {"must": "x", "may": 3, "old": True}
    assert decode(Sample, {"must": "x", "old": True}).renamed
    with pytest.raises(CodecError, match="unknown key"):
        decode(Sample, {"must": "x", "renamed": True})


def test_what_an_agent_was_seen_as_keeps_the_keys_of_older_versions() -> None:
    seen = ObservedAgent(home=PLACE, blocked_by="no", blocked_reason="Why", evidence=Evidence.UP)
    assert {key: encode(seen)[key] for key in ("stray", "stray_reason", "astray")} == {
        "stray": "no",
        "stray_reason": "Why",
        "astray": "up",
    }
    assert encode(Active(tree=TREE, process=ProcessState.STOPPED, status_output="down"))["said"] == "down"


def test_a_set_has_one_form() -> None:
    trees = frozenset(Tree(version=str(number)) for number in range(20))
    assert [tree["version"] for tree in encode(trees)] == sorted(map(str, range(20)))
    assert encode(frozenset("cab")) == ["a", "b", "c"]


def test_no_member_of_an_enum_is_taken_for_another_that_compares_equal() -> None:
    assert decode(CallEnd, CallEnd.EXITED.value) is CallEnd.EXITED
    with pytest.raises(CodecError):
        decode(CallEnd, True)


def test_a_union_without_a_distinction_is_our_own_mistake() -> None:
    with pytest.raises(TypeError):
        decode(int | str, 1)


def test_the_longest_number_is_read() -> None:
    assert parse(b"9" * 20) == 10**20 - 1
    with pytest.raises(CodecError, match="a number of 21 digits"):
        parse(b"9" * 21)
