"""Frames and values: what fits comes through as it was, and nothing else does."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.home import StatusLimits
from probes.host.control_script import CallEnd, ScriptResult
from probes.host.paths import AgentHome
from probes.observed import Active, HomeRef, ObservedAgent, ProcessState, Tree
from probes.worker.protocol import CallbackArgs, Frame, FrameDecoder, ProtocolError, decode, encode, parse

PLACE = HomeRef(name="falcon-agent", work_dir="/srv/\udcff agents", run_user="falcon")
TREE = Tree(version="1.0.0", digests=frozenset({"md5:00"}))
SEEN = ObservedAgent(
    place=PLACE,
    version_text="1.0.0",
    active=Active(tree=TREE, process=ProcessState.RUNNING),
    staged=frozenset({TREE}),
)

VALUES: list[tuple[Any, Any]] = [
    (ObservedAgent, SEEN),
    (tuple[ObservedAgent, ...], (SEEN, ObservedAgent(place=PLACE))),
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


def test_an_open_file_only_says_that_there_is_one() -> None:
    file = io.BytesIO(b"x")
    assert decode(BinaryIO, encode(file), CallbackArgs(stream=file)) is file
    with pytest.raises(ProtocolError):
        decode(BinaryIO, encode(file))
    with pytest.raises(ProtocolError):
        decode(BinaryIO, "/etc/shadow", CallbackArgs(stream=file))


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
    with pytest.raises(ProtocolError):
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
    with pytest.raises(ProtocolError):
        parse(body)


@given(
    st.lists(st.builds(Frame, st.sampled_from(["call", "done"]), st.integers(0, 99), st.binary(max_size=99))), st.data()
)
def test_frames_come_through_however_they_are_cut(frames: list[Frame], data: st.DataObject) -> None:
    left = b"".join(frame.packed() for frame in frames)
    splitter = FrameDecoder()
    seen: list[Frame] = []
    while left:
        size = data.draw(st.integers(1, len(left)))
        seen += splitter.feed(left[:size])
        left = left[size:]
    assert seen == frames


@pytest.mark.parametrize("said", [b"x" * 64, b"call 1\n", b"call 1 99999999\n", b"call -1 2\n", b"\n", b"Call 1 1\nx"])
def test_what_is_no_frame_is_refused(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder().feed(said)


@given(st.lists(st.sampled_from([b"call", b"done", b" ", b"7", b"100", b"\n", b"\xff"])).map(b"".join))
def test_garbage_after_a_frame_is_a_frame_or_refused(said: bytes) -> None:
    decoder, first = FrameDecoder(100), Frame("call", 1, b"body")
    assert decoder.feed(first.packed()) == [first]
    try:
        more = decoder.feed(said)
    except ProtocolError:
        return
    assert all(frame.body in said and len(frame.body) <= 100 for frame in more)
