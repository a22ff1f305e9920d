"""A page's commands, typed word for word into one shell, block after block."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tests.e2e.host import ROOT, SCRIPT

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_GIT = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}


def blocks(page: str, language: str = "sh") -> list[str]:
    """The fenced blocks of a page under docs/, in their order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [dedent(content) for _, kind, content in _BLOCK.findall(text) if kind == language]


def installed(folder: Path) -> Path:
    """A folder as of an installed updater, whose `.venv` is that of the tests."""
    programs = folder / "ops-updater" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "updater").symlink_to(SCRIPT)
    (folder / "ops-updater" / "contrib").symlink_to(ROOT / "contrib")
    return folder / "ops-updater"


def free_port() -> int:
    """A port of loopback that no process listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class PageShell:
    """A shell in which the first command that fails ends all."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._typed = 0

    def type(self, block: str) -> str:
        """Type a block; return what it printed once it has ended. What it began in the background goes on."""
        self._typed += 1
        end = f"--- block {self._typed} has ended"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{block}\necho '{end}'\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.rstrip("\n") == end:
                return "".join(said)
            said.append(line)
        raise AssertionError(f"this block failed:\n{block}\nand it said:\n{''.join(said)}")


@contextmanager
def page_shell(folder: Path, environ: Mapping[str, str] = {}) -> Iterator[PageShell]:
    """A shell in this folder; what it began ends with it."""
    env = {**os.environ, **_GIT, "HOME": str(folder), **environ}
    process = subprocess.Popen(
        ["sh", "-e"],
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield PageShell(process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=120)
