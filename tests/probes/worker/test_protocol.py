"""Frames and arguments: what fits comes through as it was, and nothing else does."""

from __future__ import annotations

import io
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.codec import CodecError
from probes.worker.protocol import CallbackArgs, Frame, FrameDecoder, decode_argument, encode_argument


def test_an_open_file_only_says_that_there_is_one() -> None:
    file = io.BytesIO(b"x")
    assert decode_argument(BinaryIO, encode_argument(file), CallbackArgs(stream=file)) is file
    with pytest.raises(CodecError):
        decode_argument(BinaryIO, encode_argument(file))
    with pytest.raises(CodecError):
        decode_argument(BinaryIO, "/etc/shadow", CallbackArgs(stream=file))


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
    with pytest.raises(CodecError):
        FrameDecoder().feed(said)


@given(st.lists(st.sampled_from([b"call", b"done", b" ", b"7", b"100", b"\n", b"\xff"])).map(b"".join))
def test_garbage_after_a_frame_is_a_frame_or_refused(said: bytes) -> None:
    decoder, first = FrameDecoder(100), Frame("call", 1, b"body")
    assert decoder.feed(first.packed()) == [first]
    try:
        more = decoder.feed(said)
    except CodecError:
        return
    assert all(frame.body in said and len(frame.body) <= 100 for frame in more)
