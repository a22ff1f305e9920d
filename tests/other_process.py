"""A module of the tests that works in a process of its own, and is spoken to in JSON: a line in, a line out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]

SomeProcess = TypeVar("SomeProcess", bound="OtherProcess")


class OtherProcess:
    """The process, seen from here. A context manager: at its end the other one's input ends, and it is waited for."""

    def __init__(self, module: str, *arguments: str) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self: SomeProcess) -> SomeProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def send_json(self, order: object) -> None:
        """Send one order; `receive_json` waits for what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()

    def receive_json(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
