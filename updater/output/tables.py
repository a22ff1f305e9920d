"""Plans, states and results as rows: what `plan`, `status` and `apply` print, on a terminal and into a pipe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconcile.decide.actions import Action, Held, Outcome, Result, Start, Stop, Switch
from reconcile.decide.conditions import Condition, ready_of
from reconcile.decide.desired import Refusal
from reconcile.decide.evaluate import AgentEvaluation
from updater.output.format import age, brief, duration, local_time
from updater.output.report import (
    NOTHING,
    AgentReport,
    AgentStanding,
    Report,
    counts,
    healing,
    is_pending,
    not_ours,
    ready_reason,
    ruled_out,
    seen_where,
)
from updater.output.rows import BLANK, Block, Cell, Row, Span, block, cell, line, row
from updater.output.words import done, place_asked, seen, still_runs, what, wished

RELEASE_ASKED = "released: the next pass ends its pin, quarantine and delays"
_NOTHING_DESIRED = line((Span("NothingDesired", "pending"), Span(f": {NOTHING}")), mark="pending")
# In which colour the result of an action is printed.
RESULTS = {"done": "good", "unchanged": "good", "failed": "bad", "skipped": "dim"}
_STEP_WIDTHS = (10, 9, 6)  # the longest type of an action, the longest result, a time
_MARKS = {
    AgentStanding.AS_DESIRED: "good",
    AgentStanding.PENDING: "pending",
    AgentStanding.HELD: "held",
    AgentStanding.PINNED: "held",
    AgentStanding.WAITING: "held",
    AgentStanding.HELD_BACK: "bad",
    AgentStanding.NOT_AS_DESIRED: "bad",
}
_KINDS = {"good": "good", "pending": "pending", "held": "pending", "bad": "bad"}


def plan_rows(report: Report, *, quiet: bool = False) -> Iterator[Block]:
    """The pending actions in order, each agent with its reason, and why the others are not acted upon.

    `quiet`: what is pending alone, and what is wrong; nothing where nothing is.
    """
    listed = [agent for agent in report.agents if is_pending(agent.view) or not quiet]
    if quiet and not (listed or report.has_news_besides_agents):
        return
    yield _headline(report)
    yield BLANK
    yield from _plans(listed, report)
    rest = tuple(besides(report))
    if listed and rest:
        yield BLANK
    yield from rest


def _plans(agents: Iterable[AgentReport], report: Report) -> Iterator[Block]:
    """Each agent with what is planned for it, set apart; agents with nothing to do stand line by line."""
    in_lines = True
    for number, agent in enumerate(agents):
        below = tuple(planned(agent.view, report.conditions))
        if number and (below or not in_lines):
            yield BLANK
        yield line(cell(agent.name, "name"), _plan_reason(agent), mark=mark(agent))
        yield from below
        in_lines = not below


def status_rows(report: Report, *, wide: bool = False, quiet: bool = False) -> Iterator[Block]:
    """One line an agent, what else is wrong, and a line that counts. `wide`: each agent's conditions, too.

    `quiet`: what is not as it should be alone; nothing where all is.
    """
    listed = [agent for agent in report.agents if agent.is_trouble or not quiet]
    if quiet and not (listed or report.has_news_besides_agents):
        return
    yield from _wide_rows(listed, report) if wide else _narrow_rows(listed, report)
    yield from bystander_rows(report)
    yield from besides(report)
    if not quiet:
        yield _headline(report)


def _narrow_rows(agents: Iterable[AgentReport], report: Report) -> Iterator[Block]:
    rows = tuple(_status_row(agent, report.assessment.at, why=True) for agent in agents)
    if rows:
        yield Block(rows=rows, cut=True)


def _wide_rows(agents: Iterable[AgentReport], report: Report) -> Iterator[Block]:
    now = report.assessment.at
    for agent in agents:
        yield Block(rows=(_status_row(agent, now, why=False),))
        yield conditions_block(agent.conditions, now, said=set())
        yield BLANK


def bystander_rows(report: Report) -> Iterator[Block]:
    """The agents last known, which are observed alone while nothing is desired."""
    return (line(cell(agent.name, "name"), seen(agent)) for agent in report.assessment.bystanders)


def result_rows(
    report: Report,
    *,
    transitions: Iterable[tuple[str, Condition]] = (),
    newly_refused: bool = False,
    everything: bool = False,
) -> Iterator[Block]:
    """What was done and what changed; nothing where there was neither, but for `everything`, which has each agent, and
    what is wrong with the updater itself. `newly_refused`: whether what is refused is news."""
    changed: dict[str, list[Condition]] = defaultdict(list)  # by agent; "": of the updater itself
    for name, condition in transitions:
        changed[name].append(condition)
    if everything:
        changed[""] += _lasting(report.troubles, changed[""])
    found = tuple(_result_blocks(report, changed, everything=everything))
    yield from found
    if everything and report.assessment.nothing_desired:
        yield _NOTHING_DESIRED
    if found or everything or newly_refused:
        yield from map(_refusal, report.assessment.refused)


def _lasting(troubles: Iterable[Condition], changed: Iterable[Condition]) -> list[Condition]:
    """The troubles that are not among what changed."""
    types = {condition.type for condition in changed}
    return [trouble for trouble in troubles if trouble.type not in types]


def _result_blocks(report: Report, changed: dict[str, list[Condition]], *, everything: bool) -> Iterator[Block]:
    """The agents that were acted upon or whose conditions `changed`, or each, and below them the updater itself."""
    for agent in report.agents:
        its_own = changed[agent.name]
        if agent.acted or its_own or everything:
            yield line(*_result_cells(agent, changed[""]), mark=mark(agent))
            yield from outcome_blocks(agent.outcomes)
            # Of an agent that was not touched Ready says all but this.
            yield from (_own(one, indent=1) for one in its_own if one.type == "ConfigInSync" and not agent.acted)
    yield from map(_own, changed[""])


def count_rows(report: Report) -> Iterator[Block]:
    """The line that `apply` ends with: it counts, and names what is not as desired, or still within its watch."""
    reasons = ((agent, ready_reason(agent)) for agent in report.agents)
    named = [
        f"{agent.name} ({reason})"
        for agent, reason in reasons
        if agent.standing is not AgentStanding.AS_DESIRED or reason == "Confirming"
    ]
    named += [f"{entry.name} (refused: {entry.reason})" for entry in report.assessment.refused]
    listed = f": {', '.join(named)}" if named else ""
    kind = _KINDS[_worst(report)]
    yield line((Span(report.host, "name"), Span(": "), Span(", ".join(counts(report)), kind), Span(listed)))


def _worst(report: Report) -> str:
    marks = {mark(agent) for agent in report.agents} | ({"bad"} if report.assessment.refused else set())
    return next((one for one in ("bad", "pending", "held") if one in marks), "good")


# --- an agent ---


def mark(agent: AgentReport) -> str:
    """The sign before it."""
    return _MARKS[agent.standing]


def kind_of(condition: Condition) -> str:
    """Return the colour in which a condition is printed."""
    if condition.type in ("Held", "Quarantined"):  # that it is so is what is unusual
        return "dim" if condition.status == "False" else "pending" if condition.type == "Held" else "bad"
    return {"True": "good", "False": "bad"}.get(condition.status, "pending")


def _status_row(agent: AgentReport, now: float, *, why: bool) -> Row:
    """An agent in a line. `why`: with what its Ready condition says, where that is not as desired."""
    ready = ready_of(agent.conditions)
    observed, desired = seen_where(agent, wished(agent.view.desired))
    same = _is_same(observed, desired)
    since = "" if ready is None else age(ready.since, now)
    message = ready.message if why and ready is not None and not agent.ready else ""
    return row(
        cell(agent.name, "name"),
        observed,
        cell(desired, "dim") if same else cell(f"-> {desired}"),
        ready_cell(agent),
        cell(since, "dim"),
        cell(message, "dim"),
        mark=mark(agent),
    )


def _is_same(observed: str, desired: str) -> bool:
    return observed == desired or (desired == "stopped" and observed.endswith(" stopped"))


def ready_cell(agent: AgentReport) -> Cell:
    """Why an agent is as it is, in the colour of how it stands."""
    return cell(ready_reason(agent), _KINDS[mark(agent)])


def conditions_block(conditions: Iterable[Condition], now: float, *, said: set[str]) -> Block:
    """One row a condition. `said`: the messages that stand above already, and are not repeated."""

    def one(condition: Condition) -> Row:
        message = "" if condition.message in said else condition.message
        said.add(message)
        return row(
            condition.type,
            cell(condition.status, kind_of(condition)),
            condition.reason,
            cell(age(condition.since, now), "dim"),
            cell(message, "dim"),
        )

    return block(map(one, conditions), indent=1)


def _plan_reason(agent: AgentReport) -> Cell:
    view = agent.view
    if agent.held is not None and not view.plan.touches_agent:
        return ()  # why it is held says all
    kind = "pending" if is_pending(view) else "good" if agent.ready else _KINDS[mark(agent)]
    return (Span(view.plan.reason, kind), Span(f"  {view.plan.message}" if view.plan.message else ""))


def planned(view: AgentEvaluation, own: Iterable[Condition]) -> Iterator[Block]:
    """What is below an agent in a plan. `own`: conditions of the updater itself, which are printed below all agents."""
    verdict = view.verdict
    if view.heal is not None:
        yield line(f"heal: {_listed(healing(view))}", indent=1)
    if isinstance(verdict, Held):
        yield line(_held_words(view, own), indent=1)
        if verdict.meanwhile.actions:
            yield line(f"meanwhile: {_listed(verdict.meanwhile.actions)}", indent=1)
    if view.plan.actions:
        yield numbered(view)


def _held_words(view: AgentEvaluation, own: Iterable[Condition]) -> Cell:
    """That a change is held, until when and why: `held` as an operator or a publisher wants, `held back` by trouble."""
    verdict = view.verdict
    assert isinstance(verdict, Held)
    wanted = verdict.reason in ("HeldByOperator", "Pinned") or verdict.as_wanted
    until = "" if verdict.until is None else f" until {local_time(verdict.until)}"
    head = Span("held" if wanted else "held back", "pending" if wanted else "bad")
    return (head, Span(f"{until}: {verdict.reason}: {without_own(verdict.message, own)}"))


def _listed(actions: Iterable[Action]) -> str:
    return ", ".join(f"{action.type} {what(action)}" for action in actions)


def numbered(view: AgentEvaluation) -> Block:
    """The planned actions; those of the downtime have a colour of their own, those of a held change are dim."""
    held = isinstance(view.verdict, Held)

    def one(number: int, action: Action) -> Row:
        downtime = isinstance(action, Stop | Switch | Start)
        return row(
            (Span(f"{number}. ", "dim"), Span(action.type, "dim" if held else "downtime" if downtime else "")),
            cell(what(action) + place_asked(view, action), "dim" if held else ""),
        )

    rows = (one(number, action) for number, action in enumerate(view.plan.actions, 1))
    return block(rows, indent=1, widths=(12,))


def _result_cells(agent: AgentReport, own: Iterable[Condition]) -> Iterator[Cell]:
    """How the agent is now. An error stands beside the action that met it, so here its reason is enough; so does what
    is wrong with the updater itself, `own`."""
    ready = ready_of(agent.conditions)
    yield cell(agent.name, "name")
    yield ready_cell(agent)
    if ready is None or agent.ready:
        yield cell("" if ready is None else ready.message)
        return
    observed, desired = seen_where(agent, wished(agent.view.desired))
    yield cell(observed if _is_same(observed, desired) else f"{observed} -> {desired}")
    message = ready.message
    for outcome in agent.outcomes:  # what was rolled back says of its error what is to be read below
        if outcome.error:
            message = "" if message == outcome.error else message.replace(f": {outcome.error}", "")
    yield cell(without_own(message, own))


def without_own(message: str, own: Iterable[Condition]) -> str:
    """A message without what conditions of the updater itself say, which stand below."""
    for condition in own:
        if condition.message and condition.status == "False":
            message = message.replace(f": {condition.message}", "")
    return message


def outcome_blocks(outcomes: Iterable[Outcome]) -> Iterator[Block]:
    """What was done: action, result, how long it took, and beneath it an error. What was skipped is left out."""
    for outcome in outcomes:
        if outcome.result is Result.SKIPPED:
            continue
        tries = f"  ({outcome.attempts} tries)" if outcome.attempts > 1 else ""
        yield step_block(outcome.action.type, outcome.result.value, outcome.seconds, done(outcome) + tries)
        if outcome.error:
            yield line((Span(f"{outcome.reason}: ", "bad"), Span(outcome.error)), indent=2)
        if outcome.outlived:
            yield line(still_runs(outcome.outlived), indent=2)


def step_block(type: str, result: str, seconds: float, about: str, *, at: str = "") -> Block:
    """One action that ended. `at`: when it began."""
    cells = (cell(type), cell(result, RESULTS[result]), cell(brief(seconds), "dim"), cell(about))
    if not at:
        return block([row(*cells)], indent=1, widths=_STEP_WIDTHS, right=(2,))
    return block([row(cell(at, "dim"), *cells)], indent=1, widths=(len(at), *_STEP_WIDTHS), right=(3,))


# --- the whole ---


def _headline(report: Report) -> Block:
    """Which host, how its agents stand, and where the desired state is from."""
    found = report.assessment
    old = found.at - found.desired_at
    signed = "" if found.signature is None else f", signed with serial {found.signature.serial}"
    origin = f"desired from {found.came_from}{signed}" + (f", {duration(old)} old" if old >= 1 else "")
    words = ", ".join(counts(report))
    return line((Span(report.host, "name"), Span(f": {words}; "), Span(origin, "dim")))


def besides(report: Report) -> Iterator[Block]:
    """What plan and status report besides the agents: refusals, and what is wrong with the updater itself."""
    found = report.assessment
    yield from map(_refusal, found.refused)
    yield from (line(cell(entry.name, "name"), cell(not_ours(entry), "dim")) for entry in ruled_out(report))
    yield from (line(cell(name, "name"), RELEASE_ASKED, mark="pending") for name in sorted(found.requests.releases))
    if found.nothing_desired:
        yield _NOTHING_DESIRED
    yield from map(_own, report.troubles)


def _own(condition: Condition, *, indent: int = 0) -> Block:
    """A condition in a line: one of the updater itself, or below its agent."""
    message = f": {condition.message}" if condition.message else ""
    head = (Span(f"{condition.type}: "), Span(condition.reason, kind_of(condition)), Span(message))
    if indent:
        return line(head, indent=indent)
    return line(head, mark={"True": "good", "False": "bad"}.get(condition.status, "pending"))


def _refusal(entry: Refusal) -> Block:
    words = (Span(entry.reason, "bad"), Span(f": refused by rule {entry.rule}: {entry.message}"))
    return line(cell(entry.name, "name"), words, mark="bad")
