"""The child's side of working as another user: take calls from standard input, carry them out, answer.

Each call has a thread, so one that hangs keeps no other from its end. What is called is named as `module:function`,
and its module comes along where it isn't known yet: this module knows none. It ends when its standard input
does, for whatever reason: calls under way go on to their end, within their own limits, and nothing outlasts those.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import threading
import time
import traceback
import typing
from io import BufferedReader
from typing import Any, BinaryIO, cast

from probes.codec import encode, parse
from probes.errors import UpdaterError
from probes.host.facts import own_user
from probes.worker.protocol import CHUNK, MAX_BODY, CallbackArgs, Frame, FrameDecoder, decode_argument

_STDOUT = 1
_ALIVE_S = 2.0  # between two signs of life while calls are under way
_MAX_EVIDENCE = 16 << 10


def serve(source: BufferedReader, sources: dict[str, Any]) -> None:
    """Serve calls until `source` ends, then end this process. `sources`: where sent modules are looked for."""
    os.umask(0o022)
    os.chdir("/")
    user = own_user()
    os.environ.clear()
    os.environ |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell, "LANG": "C.UTF-8"}
    server = _Server(sources)
    splitter = FrameDecoder()
    server.say(Frame("hello", 0, json.dumps([user.uid, os.getpid()]).encode()))
    while piece := source.read1(CHUNK):
        for frame in splitter.feed(piece):
            server.take(frame)
    server.end()


class _Server:
    def __init__(self, sources: dict[str, Any]) -> None:
        self._sources = sources
        self._speaking = threading.Lock()
        self._calls: dict[int, tuple[threading.Thread, float]] = {}
        self._streams: dict[int, queue.SimpleQueue[bytes | None]] = {}
        threading.Thread(target=self._live, daemon=True).start()

    def take(self, frame: Frame) -> None:
        if frame.kind == "load":
            self._sources |= json.loads(frame.body)
        elif frame.kind in ("more", "lost"):
            stream = self._streams.get(frame.number)
            if stream is not None:
                stream.put(frame.body if frame.kind == "more" else None)
        elif frame.kind == "call":
            call = parse(frame.body)
            self._streams[frame.number] = queue.SimpleQueue()
            thread = threading.Thread(target=self._carry_out, args=(frame.number, call), daemon=True)
            self._calls[frame.number] = (thread, time.monotonic() + call["limit_s"])
            try:
                thread.start()
            except RuntimeError as err:  # not here instead: then nothing would read what the call asks for
                self._answer(Frame("failed", frame.number, _failed("", f"the host is short of a resource: {err}")))

    def end(self) -> None:
        """Let what is under way come to its end, but not beyond its limit; then end, threads that hang included."""
        for stream in list(self._streams.values()):
            stream.put(None)
        for thread, until in list(self._calls.values()):
            thread.join(max(0.0, until - time.monotonic()))
        os._exit(0)

    def say(self, frame: Frame) -> None:
        left = memoryview(frame.packed())
        try:
            with self._speaking:
                while left:
                    left = left[os.write(_STDOUT, left) :]
        except OSError:
            return  # the updater has ended: standard input closes as well, and ends us

    def want(self, number: int, size: int) -> bytes:
        """Ask for the next bytes of a call's stream."""
        self.say(Frame("more", number, b"%d" % size))
        piece = self._streams[number].get()
        if piece is None:
            raise OSError(0, "the updater's end of it was closed")
        return piece

    def report(self, number: int, value: int) -> None:
        """Tell a call's caller a number, and wait until it was taken up."""
        self.say(Frame("reported", number, b"%d" % value))
        if self._streams[number].get() is None:
            raise OSError(0, "the updater did not take it up")

    def _live(self) -> None:
        """Report from time to time that calls go on, and that this process was not stopped."""
        while True:
            time.sleep(_ALIVE_S)
            if self._calls:
                self.say(Frame("alive", 0))

    def _carry_out(self, number: int, call: dict[str, Any]) -> None:
        try:
            body = json.dumps(self._result(number, call)).encode()
            if len(body) > MAX_BODY:
                raise ValueError(f"the answer has {len(body)} bytes, at most {MAX_BODY} are taken")
            answer = Frame("done", number, body)
        except UpdaterError as err:
            answer = Frame("failed", number, _failed(type(err).__name__, err.message, err.evidence))
        except BaseException as err:
            evidence = traceback.format_exc()[-_MAX_EVIDENCE:]
            answer = Frame("failed", number, _failed("", f"unexpected: {err!r}"[:1000], evidence))
        self._answer(answer)

    def _answer(self, answer: Frame) -> None:
        del self._calls[answer.number], self._streams[answer.number]
        self.say(answer)

    def _result(self, number: int, call: dict[str, Any]) -> Any:
        module, _, name = call["operation"].partition(":")
        operation = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(operation)
        ends = CallbackArgs(
            stream=cast(BinaryIO, _CallStream(self, number)), hook=lambda value: self.report(number, value)
        )
        arguments = {key: decode_argument(hints[key], one, ends) for key, one in call["arguments"].items()}
        return encode(operation(**arguments))


def _failed(error: str, message: str, evidence: str = "") -> bytes:
    """The body of a failure. `error`: the name of its class, empty for none of ours."""
    return json.dumps({"error": error, "message": message, "evidence": evidence}).encode()


class _CallStream:
    """The updater's open file, read over standard input, forward only."""

    def __init__(self, server: _Server, number: int) -> None:
        self._server = server
        self._number = number

    def read(self, size: int) -> bytes:
        return self._server.want(self._number, min(size, CHUNK))
