"""`why`: one agent in full, as rows, each fact once: how it is, what is planned, what failed, what it wrote itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from probes.host.agent_logs import LogEnd
from reconcile.decide.conditions import ready_of
from reconcile.storage.codec import HistoryEntry
from updater.output.agent_logs import log_rows, quoted
from updater.output.format import age, duration, local_time
from updater.output.history import NEWS, event_cells, failures, without_repeats
from updater.output.reasons import remedies
from updater.output.report import AgentReport, Report, seen_where
from updater.output.rows import BLANK, Block, Cell, Row, Span, block, cell, line, row
from updater.output.tables import besides, bystander_rows, conditions_block, mark, planned, ready_cell
from updater.output.words import strongest, wished


def why_rows(report: Report, events: tuple[HistoryEntry, ...], logs: Iterable[LogEnd], trouble: str) -> Iterator[Block]:
    """All that is known of an agent. `logs`: what it wrote itself; `trouble`: why not all of that could be read."""
    said: list[str] = []  # sentences that stand where they come first, and nowhere else
    for agent in report.agents:
        yield from _agent(report, agent, said)
    yield from bystander_rows(report)
    beside = tuple(besides(report))
    yield from (BLANK, *beside) if beside and report.agents else beside
    yield from _titled("what to do", _remedies(report, events))
    yield from _titled("last failures", _failures(events, said))
    yield from _titled("what it wrote itself", log_rows(logs, trouble))
    yield from _titled("history", _history(events, said))


def _agent(report: Report, agent: AgentReport, said: list[str]) -> Iterator[Block]:
    plan = agent.view.plan
    yield line(cell(agent.name, "name"), ready_cell(agent), mark=mark(agent))
    yield block(_facts(report, agent), indent=1)
    ready = ready_of(agent.conditions)
    messages = set() if agent.held is None else {agent.held.message}
    if ready is not None and not agent.ready and ready.message not in messages:
        messages.add(ready.message)
        yield line(ready.message, indent=1)
    below = tuple(planned(agent.view, report.conditions))
    if below and plan.touches_agent:
        messages.add(plan.message)
    yield from _titled("plan", below)
    yield from _titled("conditions", (conditions_block(agent.conditions, report.assessment.at, said=messages),))
    said += filter(None, messages)


def _remedies(report: Report, events: Iterable[HistoryEntry]) -> Iterator[Block]:
    """What the operator can do about each trouble, once."""
    found = (
        (reason, text)
        for name, reason, message in _troubles(report, events)
        for text in remedies(name, reason, message)
    )
    rows = tuple(row(cell(reason, "bold"), text) for reason, text in dict.fromkeys(found))
    if rows:
        yield block(rows, indent=1)


def _troubles(report: Report, events: Iterable[HistoryEntry]) -> Iterator[tuple[str, str, str]]:
    """Agent, reason and message of all that is not as desired, of what failed last, and of the updater itself."""
    last = tuple(failures(events))[-1:]
    for agent in report.agents:
        name = agent.name
        for condition in agent.conditions:
            if condition.type in ("Ready", "ConfigInSync") and condition.status != "True":
                yield name, condition.reason, condition.message
        if not agent.ready:
            yield from ((name, action["reason"], action["error"]) for _, action, _ in last)
    yield from ((entry.name, entry.reason, entry.message) for entry in report.assessment.refused)
    yield from (("NAME", one.reason, one.message) for one in report.troubles)


def _facts(report: Report, agent: AgentReport) -> Iterator[Row]:
    observed, desired = seen_where(agent, wished(agent.view.desired))
    active, found = agent.observed.active, report.assessment
    digest = None if active is None else strongest(active.tree.digests)
    wanted = strongest(map(str, agent.view.remote.digests))
    old = found.at - found.desired_at
    yield row("observed", _listed(observed, "" if active is None else _running_for(agent, found.at), digest))
    yield row("desired", _listed(desired, wanted if wanted != digest else None))
    yield row("from", _listed(found.came_from, f"{duration(old)} old" if old >= 1 else ""))
    yield row("home", f"{agent.observed.home.path} as {agent.observed.home.run_user}")
    if agent.observed.installed:
        yield row("on disk", _listed(*agent.observed.installed))


def _listed(*words: str | None) -> str:
    return ", ".join(filter(None, words))


def _running_for(agent: AgentReport, now: float) -> str:
    """How long it has been running, or has not."""
    return next((age(condition.since, now) for condition in agent.conditions if condition.type == "Running"), "")


def _titled(title: str, blocks: Iterable[Block]) -> Iterator[Block]:
    found = tuple(blocks)
    if found:
        yield BLANK
        yield line(cell(title, "name"))
        yield from found


def _failures(events: Iterable[HistoryEntry], said: list[str]) -> Iterator[Block]:
    """The last failures with the control script's own words."""
    for at, action, words in failures(events):
        error = "" if any(action["error"] in sentence for sentence in said) else action["error"]
        said.append(action["error"])
        version = f" {action['version']}" if action["version"] else ""
        head = Span(f"{action['type']}{version}: {action['reason']}", "bad")
        yield line(cell(local_time(at), "dim"), (head, Span(f": {error}" if error else "")), indent=1)
        yield from (quoted(one) for one in words)


def _history(events: Iterable[HistoryEntry], said: list[str]) -> Iterator[Block]:
    for event, message in without_repeats(events, said):
        at, _, what = event_cells(event, message)
        yield line(at, what, _ended(event), indent=1)


def _ended(event: HistoryEntry) -> Cell:
    """How it ended, where something was done."""
    failed = [str(action["type"]) for action in event.actions if action["result"] == "failed"]
    if event.reason == NEWS or not event.actions:
        return ()
    if failed:
        return cell(f"{', '.join(failed)} failed", "bad")
    finished = all(action["result"] != "skipped" for action in event.actions)
    return cell("done", "good") if finished else cell("not finished", "pending")
