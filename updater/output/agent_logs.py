"""What an agent wrote itself, for the terminal of the person who asks: `why` and `logs`, and nothing else shows it.

It never goes into a snapshot, the page, metrics, a report, our own log or the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from probes.errors import UpdaterError
from probes.host.agent_logs import LogEnd, Position, read_log_ends
from probes.observed import HomeRef, next_name, previous_name
from probes.worker.pool import WorkerPool
from reconcile.decide.desired import DesiredHost
from reconcile.storage.codec import HistoryEntry as Event
from reconcile.storage.store import StoredState
from updater.output.report import AgentReport
from updater.output.rows import Block, Span, cell, line, row

PAUSE_S = 0.5  # between two looks of `logs -f`
_LIMIT_S = 20.0  # of one look, as another user
_WHY_BYTES, _WHY_FILES = 4096, 3  # of each file; of each version
_LINES_BYTES, _LINES_FILES = 256 * 1024, 9
_FAILED_VERSIONS = 2  # beside the one in use


def of_agents(
    workers: WorkerPool, agents: Iterable[AgentReport], events: Iterable[Event]
) -> tuple[tuple[LogEnd, ...], str]:
    """The last lines of what agents wrote, in the version in use and in those that failed lately; and why some could
    not be read, for people."""
    failed = tuple(_failed_versions(events))
    ends: list[LogEnd] = []
    troubles: list[str] = []
    with workers.at_work():
        for agent in agents:
            home = agent.observed.home
            try:
                ends += workers.of(home.run_user, _LIMIT_S).do(
                    read_log_ends, Path(home.path), failed, limit=_WHY_BYTES, most=_WHY_FILES
                )
            except UpdaterError as err:
                troubles.append(err.message)
    return tuple(ends), "; ".join(troubles)


def _failed_versions(events: Iterable[Event]) -> Iterator[str]:
    """The directories of the versions whose start failed last, wherever they lie by now."""
    failed = [
        str(action["version"])
        for event in events
        for action in event.actions
        if action["result"] == "failed" and action["type"] == "start"
    ]
    for version in list(dict.fromkeys(reversed(failed)))[:_FAILED_VERSIONS]:
        yield from (version, next_name(version), previous_name(version))


def log_rows(ends: Iterable[LogEnd], trouble: str) -> Iterator[Block]:
    """What agents wrote, below the path of each file; nothing where there is nothing to print."""
    for end in ends:
        yield line(end.path, indent=1)
        yield from map(quoted, end.lines)
    if trouble:
        yield line(cell(f"can't be read: {trouble}", "bad"), indent=1)


def quoted(words: str) -> Block:
    """A line of somebody else's."""
    return Block(rows=(row((Span("| ", "dim"), Span(words, "quoted"))),), indent=2, hang="| ")


def to_json(ends: Iterable[LogEnd]) -> list[dict[str, Any]]:
    return [{"path": end.path, "lines": list(end.lines)} for end in ends]


def homes(managed: DesiredHost, state: StoredState) -> dict[str, HomeRef]:
    """Where each agent lives that is managed or was, by what is remembered."""
    return {agent.name: agent.home for agent in managed.agents} | {record.name: record.home for record in state.records}


class Reader:
    """Reads an agent's logs as its user, and goes on where it ended. `found`: whether there was anything yet."""

    def __init__(self, workers: WorkerPool, home: HomeRef) -> None:
        self._worker = workers.of(home.run_user, _LIMIT_S)
        self._home = Path(home.path)
        self._positions: dict[str, Position] = {}
        self._last = ""

    @property
    def found(self) -> bool:
        return bool(self._positions)

    def lines(self, count: int) -> Iterator[str]:
        """The last lines of each file, below a head. Raise UpdaterError."""
        return self._read(count)

    def new_lines(self) -> Iterator[str]:
        """What was written since. Raise UpdaterError."""
        return self._read(None)

    def _read(self, count: int | None) -> Iterator[str]:
        since = tuple(self._positions.values())
        ends = self._worker.do(read_log_ends, self._home, limit=_LINES_BYTES, most=_LINES_FILES, since=since)
        for end in ends:
            self._positions[end.path] = end.seen
            if not end.lines:
                continue
            if end.path != self._last:
                yield from ([""] if self._last else [])
                yield f"==> {end.path} <=="
                self._last = end.path
            yield from end.lines if count is None else end.lines[-count:]
