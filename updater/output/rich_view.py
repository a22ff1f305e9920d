"""What commands tell on a terminal: the values of report.py, laid out for eyes with rich.

Only a terminal gets this; whatever is piped gets report.py's plain lines, word for word as they always were. Nothing is
decided here. rich costs some 50 ms to load, so only the commands that print to a terminal import this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from probes.host.agent_logs import LogEnd
from reconcile.decide.actions import Held, Outcome, Plan, Result, Start, Stop, Switch
from reconcile.decide.admission import duration
from reconcile.decide.conditions import Condition, ready_of
from reconcile.decide.desired import Refusal, RunState
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.storage.codec import HistoryEntry as Event
from updater.output.report import (
    NOTHING,
    RELEASE_ASKED,
    RESULTS,
    AgentReport,
    Report,
    brief,
    counts,
    done,
    is_pending,
    kind_of,
    not_ours,
    place_asked,
    releases,
    rfc3339,
    ruled_out,
    seen,
    seen_where,
    still_runs,
    what,
    where_from,
)

_MARGIN = 3  # columns that what belongs to a line above it stands further in
NARROWEST = 50  # columns; below that lines are better broken by the terminal than by us
_THEME = Theme(
    {
        "good": "green",
        "bad": "red",
        "pending": "yellow",
        "name": "bold",
        "downtime": "yellow",
    }
)
# The usual status of each condition; one that has it needs no words.
_USUAL = {"Held": "False", "Quarantined": "False"}
_IN_DOWNTIME = (Stop, Switch, Start)


def console(file: TextIO, *, colour: bool) -> Console:
    """A console for a terminal. Without `colour` (NO_COLOR, --color never) the layout stays.

    No `markup`: what a script says or a server names may hold brackets, which must neither style nor break anything.
    """
    return Console(
        file=file, theme=_THEME, no_color=not colour, highlight=False, soft_wrap=False, emoji=False, markup=False
    )


class Marks:
    """Signs of how an agent stands; plain ones where the terminal's encoding has no others."""

    def __init__(self, encoding: str) -> None:
        try:
            "✓✗●‖→·│".encode(encoding)
            self.good, self.bad, self.pending, self.held = "✓", "✗", "●", "‖"
            self.arrow, self.dot, self.bar = "→", "·", "│"
        except (UnicodeEncodeError, LookupError):
            self.good, self.bad, self.pending, self.held = "+", "x", "*", "="
            self.arrow, self.dot, self.bar = "->", "-", "|"


class Screen:
    """One command's output on a terminal."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._marks = Marks(out.encoding)
        self._widest = 0  # of the names, so that what follows them stands in one column

    @property
    def out(self) -> Console:
        """Where it prints."""
        return self._out

    def plan(self, document: Report, *, quiet: bool = False) -> None:
        """The pending actions in order, each agent with its reason, and why the others are not acted upon."""
        if quiet and not document.has_news(is_pending(told.view) for told in document.agents):
            return
        self._head(document)
        for told in document.agents:
            if is_pending(told.view) or not quiet:
                self._print_agent(told, self._plan_of(told))
        self._end(document)

    def status(self, document: Report, *, quiet: bool = False) -> None:
        """What is observed now, beside what is desired, and the conditions that are not as usual."""
        if quiet and not document.has_news(not told.ready for told in document.agents):
            return
        self._head(document)
        now = document.assessment.at
        for told in document.agents:
            if not (quiet and told.ready):
                self._print_agent(told, self._conditions(told, now))
        for agent in document.assessment.bystanders:
            self._out.print(Text.assemble(("  ", ""), (agent.name, "name"), f"  {seen(agent)}"))
        self._end(document)

    def result(self, document: Report, flipped: Iterable[tuple[str, Condition]], *, everything: bool) -> None:
        """What was done and what changed, and with `everything` how the others stand."""
        self._measure(document)
        changed = tuple(flipped)
        for told in document.agents:
            if told.acted or everything or any(name == told.view.desired.name for name, _ in changed):
                self._print_agent(told, [self._outcomes(told.outcomes)] if told.outcomes else [], done=True)
        for condition in [condition for name, condition in changed if not name]:
            self._out.print(self._own(condition))
        self._refusals(document.assessment.refused)

    def history(self, events: Iterable[Event]) -> None:
        """What was done, one event a paragraph, the newest last."""
        told = tuple(events)
        widest = max((len(event.name) for event in told), default=0)
        for event in told:
            self._out.print(self._event(event, named=f"{event.name:<{widest}}"))
        if not told:
            self._out.print(Text("nothing was done yet", style="dim"))

    def why(self, document: Report, events: tuple[Event, ...], logs: tuple[LogEnd, ...], trouble: str) -> None:
        """One agent told in full. `logs`: what it wrote itself; `trouble`: why not all of that could be read."""
        self._head(document)
        now = document.assessment.at
        for told in document.agents:
            self._print_agent(told, [self._table(told, told.conditions, now), *self._plan_of(told)])
        evidence = list(self._evidence(events))
        if evidence:
            self._out.print(Text("last failures", style="name"))
            self._out.print(Padding(Group(*evidence), (0, 0, 1, 3)))
        if logs or trouble:
            self._out.print(Text("what it wrote itself", style="name"))
            self._out.print(Padding(Group(*self._logs(logs, trouble)), (0, 0, 1, 3)))
        self._out.print(Text("history", style="name"))
        for event in events:
            self._out.print(Padding(self._event(event), (0, 0, 0, 3)))

    # --- an agent ---

    def _print_agent(self, told: AgentReport, below: list[RenderableType], *, done: bool = False) -> None:
        """Its line: mark, name, what is seen and wanted, the reason; then what a command has to say of it."""
        mark, kind = self._mark(told)
        ready = ready_of(told.conditions)
        verdict = told.view.verdict
        reason = ready.reason if ready is not None else told.view.plan.reason
        line = Table.grid(padding=(0, 2), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(justify="right", no_wrap=True)
        state = Text.assemble((f"{told.view.desired.name:<{self._widest}}", "name"), f"  {self._state(told)}")
        waits = isinstance(verdict, Held) and not told.outcomes
        line.add_row(Text(mark, style=kind), state, Text(f"held: {verdict.reason}" if waits else reason, style=kind))
        message = self._message(told, ready, done=done)
        body = [Text(message, style="dim")] if message else []
        self._out.print(line)
        if body or below:
            self._out.print(Padding(Group(*body, *below), (0, 0, 1, 3)))

    def _mark(self, told: AgentReport) -> tuple[str, str]:
        if isinstance(told.view.verdict, Held):
            return self._marks.held, "pending" if told.waits_as_wanted else "bad"
        if is_pending(told.view) and not told.outcomes:
            return self._marks.pending, "pending"
        return (self._marks.good, "good") if told.ready else (self._marks.bad, "bad")

    def _state(self, told: AgentReport) -> str:
        desired, active = told.view.desired, told.observed.active
        wanted = {RunState.START: f"{desired.version} started", RunState.STOP: "stopped", RunState.OBSERVE: ""}
        now, then = seen_where(told, wanted[desired.run]) if wanted[desired.run] else (seen(told.observed), "")
        if desired.run is RunState.STOP and active is not None and active.process.value == "stoped":
            return now
        return now if then in ("", now) else f"{now} {self._marks.arrow} {then}"

    def _message(self, told: AgentReport, ready: Condition | None, *, done: bool) -> str:
        """Why it stands so, unless an action below says it."""
        if isinstance(told.view.verdict, Held) and not done:
            return told.view.verdict.message
        if ready is None or told.ready or any(ready.message == outcome.error for outcome in told.outcomes):
            return ""
        plain = {told.view.plan.message} if told.view.plan.actions and not done else set()
        message = ready.message
        for outcome in told.outcomes:  # one that was taken back says of its error what is to be read below
            message = message.replace(f": {outcome.error}", "") if outcome.error else message
        return "" if message in plain else message

    # --- what is below it ---

    def _plan_of(self, told: AgentReport) -> list[RenderableType]:
        verdict = told.view.verdict
        lines: list[RenderableType] = []
        if told.view.heal is not None:
            lines += [Text("heal"), self._actions(told.view.heal.due)]
            lines += [Text("then")] if isinstance(verdict, Plan) and verdict.actions else []
        if isinstance(verdict, Held):
            if verdict.meanwhile.actions:
                lines += [Text("meanwhile"), self._actions(verdict.meanwhile)]
            if verdict.plan.actions:
                when = "" if verdict.until is None else f", until {_when(verdict.until)}"
                lines += [
                    Text(f"held back{when}", style="dim"),
                    self._actions(verdict.plan, view=told.view, quiet=True),
                ]
        elif verdict.actions:
            lines.append(self._actions(verdict, view=told.view))
        return lines

    def _actions(self, plan: Plan, *, view: AgentEvaluation | None = None, quiet: bool = False) -> Table:
        """The numbered actions; those of the downtime have a colour of their own."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold", style="dim" if quiet else "")
        for number, action in enumerate(plan.actions, 1):
            asked = "" if view is None else place_asked(view, action)
            style = "dim" if quiet else "downtime" if isinstance(action, _IN_DOWNTIME) else ""
            table.add_row(str(number), Text(action.type, style=style), self._arrows(what(action)) + asked)
        return table

    def _arrows(self, text: str) -> str:
        return text.replace("->", self._marks.arrow)

    def _outcomes(self, outcomes: tuple[Outcome, ...]) -> RenderableType:
        """What was done: action, result, how long it took, and beneath it the errors."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for outcome in outcomes:
            kind = RESULTS[outcome.result.value]
            about = self._arrows(done(outcome))
            tries = f" ({outcome.attempts} tries)" if outcome.attempts > 1 else ""
            told = Text(about + tries, style="dim" if outcome.result is Result.SKIPPED else "")
            took = brief(outcome.seconds) if outcome.attempts else ""
            table.add_row(outcome.action.type, Text(outcome.result.value, style=kind), took, told)
        errors = [
            Text.assemble((f"{outcome.action.type}: {outcome.reason}: ", "bad"), outcome.error)
            for outcome in outcomes
            if outcome.error
        ]
        left = [Text(f"{outcome.action.type}: {still_runs(outcome)}") for outcome in outcomes if outcome.outlived]
        return Group(table, *errors, *left)

    def _conditions(self, told: AgentReport, now: float) -> list[RenderableType]:
        """Those that are not as usual in full, the others in one quiet line."""
        conditions = told.conditions
        unusual = [c for c in conditions if c.status != _USUAL.get(c.type, "True")]
        usual = [c for c in conditions if c not in unusual]
        words = [c.type if c.type not in _USUAL else f"not {c.type.lower()}" for c in usual]
        lines: list[RenderableType] = [self._table(told, unusual, now)] if unusual else []
        return [*lines, Text(f" {self._marks.dot} ".join(words), style="dim")] if words else lines

    def _table(self, told: AgentReport, conditions: Iterable[Condition], now: float) -> RenderableType:
        """One row a condition. What several of them have to say is said once, above."""
        said = self._message(told, ready_of(told.conditions), done=False)
        shown = tuple(conditions)
        ages = [f"for {duration(max(0.0, now - c.since))}" for c in shown]
        cells = [(c.type, c.status, c.reason, age) for c, age in zip(shown, ages, strict=True)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines: list[RenderableType] = []
        for c, row in zip(shown, cells, strict=True):
            kind, status, reason, age = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            head = Text.assemble(f"{kind}  ", (status, kind_of(c)), f"  {reason}  ", (age, "dim"))
            lines += self._with(head, Text("" if c.message == said else c.message, style="dim"))
        return Group(*lines)

    def _with(self, head: Text, words: Text) -> list[RenderableType]:
        """Words beside their head, or beneath it where they have no room."""
        if not words:
            return [head]
        if len(head) + 2 + len(words) <= self._out.width - _MARGIN:
            return [Text("  ").join([head, words])]
        return [head, Padding(words, (0, 0, 0, _MARGIN))]

    # --- the whole ---

    def _measure(self, document: Report) -> None:
        self._widest = max((len(told.view.desired.name) for told in document.agents), default=0)

    def _head(self, document: Report) -> None:
        self._measure(document)
        words = f" {self._marks.dot} ".join(counts(document))
        self._out.print(Text.assemble((document.host, "name"), f"  {words}"))
        self._out.print(Text(where_from(document), style="dim"))
        self._out.print()

    def _end(self, document: Report) -> None:
        found = document.assessment
        self._refusals(found.refused)
        for entry in ruled_out(document):
            self._out.print(Text.assemble((entry.name, "name"), (f"  {not_ours(entry)}", "dim")))
        for name in releases(found):
            self._out.print(Text.assemble((name, "name"), f"  {RELEASE_ASKED}"))
        if found.nothing_desired:
            self._out.print(Text.assemble(("NothingDesired", "pending"), f": {NOTHING}"))
        for condition in document.conditions:
            if condition.status == "False":
                self._out.print(self._own(condition))

    def _own(self, condition: Condition) -> Text:
        reason = (condition.reason, kind_of(condition))
        return Text.assemble(f"{condition.type}: ", reason, f": {condition.message}" if condition.message else "")

    def _refusals(self, refused: Iterable[Refusal]) -> None:
        for entry in refused:
            head = Text.assemble((self._marks.bad, "bad"), "  ", (entry.name, "name"), "  refused")
            head.append(f"  {entry.reason}, rule {entry.rule}", style="bad")
            self._out.print(head)
            self._out.print(Padding(Text(entry.message, style="dim"), (0, 0, 0, 3)))

    # --- history ---

    def _event(self, event: Event, *, named: str = "") -> RenderableType:
        """When and what, and the steps; with `named`, the agent, the errors too: `why` has told them by then."""
        times = f"  ({event.count} times since {_when(event.first_at)})" if event.count > 1 else ""
        news = event.reason == "News"
        what_it_was = event.message if news else self._arrows(f"{event.reason} by {event.by}: {event.message}")
        words = Text(f"{what_it_was}{times}")
        head = Text.assemble((_when(event.at), "dim"), *([f"  {named}"] if named else []))
        below = [self._steps(event)] if event.actions else []
        met = [f"{one['reason']}: {one['error']}" for one in event.actions if one["error"]]
        below += [Text(error, style="bad") for error in met if named]
        return Group(*self._with(head, words), *(Padding(line, (0, 0, 0, _MARGIN)) for line in below))

    def _steps(self, event: Event) -> Text:
        """Each step and how long it took; what was skipped, after a failure, is left out. A row never parts the two."""
        rows = [Text()]
        for one in event.actions:
            if one["result"] == "skipped":
                continue
            failed = one["result"] == "failed"
            step = Text.assemble((f"{one['type']} failed", "bad") if failed else (one["type"], "good"))
            step.append("".join(f" {name}" for name in one.get("names", ())))
            step.append(f" {brief(one['seconds'])}", style="dim")
            if len(rows[-1]) + 2 + len(step) > self._out.width - 3 * _MARGIN:
                rows.append(Text())
            rows[-1] = Text("  ").join([rows[-1], step]) if rows[-1] else step
        return Text("\n").join(rows)

    def _evidence(self, events: Iterable[Event]) -> Iterator[RenderableType]:
        """The last failures with the control script's own words."""
        from updater.output.history import failures

        for at, head, lines in failures(events):
            yield Text.assemble((f"{_when(at)}  ", "dim"), (head, "bad"))
            for line in lines:
                yield Text.assemble((f"{self._marks.bar} ", "dim"), line)

    def _logs(self, logs: Iterable[LogEnd], trouble: str) -> Iterator[RenderableType]:
        """What an agent wrote itself, below the path of each file."""
        for end in logs:
            yield Text(end.path)
            for line in end.lines:
                yield Text.assemble((f"{self._marks.bar} ", "dim"), line)
        if trouble:
            yield Text(f"can't be read: {trouble}", style="bad")


def _when(at: float) -> str:
    """A time in UTC, easier to read than in a log: 2026-11-24 02:00:00Z."""
    return rfc3339(at).replace("T", " ")
