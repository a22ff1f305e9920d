"""The page for people: one look at a daemon, as HTML. Pure. All of its ages are by one clock.

It is whole without a script; page.js only fetches it again and exchanges the parts that differ, by their ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from probes.observed import ProcessState
from probes.values import frozen
from reconcile.decide.actions import Action, Held
from reconcile.decide.admission import duration
from reconcile.decide.conditions import FALSE, TRUE, Condition, ready_of
from reconcile.decide.desired import Refusal, RunState
from reconcile.storage.codec import HistoryEntry as Event
from updater.monitoring.html import Html, join, tag
from updater.monitoring.status_board import DaemonStatus, RunningAction, Snapshot
from updater.output.format import brief, rfc3339
from updater.output.history import on_whose_word, without_repeats
from updater.output.report import NOTHING, AgentReport, healing, is_pending, seen_where
from updater.output.words import seen, what
from updater.version import VERSION

_MARKS = {"good": "✓", "pending": "…", "held": "‖", "bad": "✕", "quiet": "·", "back": "↩"}
_EVENTS_SHOWN = 15  # the others are there to be opened
_RESULTS = {"done": "good", "unchanged": "good", "failed": "bad"}
_TROUBLE = "/?trouble"  # the page with what is in trouble alone
# The ages in messages of a plan (reconcile/decide/admission.py): they were right when the plan was made.
_AHEAD = re.compile(r"((?:again|opens|fetch,) in |changes, )(?:\d+[smhd]){1,2}")
_SINCE = re.compile(r"(group \S+ since )((?:\d+[smhd]){1,2})")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@frozen
class _Clock:
    """`now`: when the page is made. `planned_at`: when what it tells was planned."""

    now: float
    planned_at: float

    def ago(self, at: float) -> Html:
        """A time that has passed, as people say it; in full where one points at it."""
        text = "just now" if self.now - at < 1 else f"{duration(self.now - at)} ago"
        return tag("time", text, datetime=rfc3339(at), title=rfc3339(at))

    def ahead(self, at: float) -> Html:
        text = "now" if at - self.now < 1 else f"in {duration(at - self.now)}"
        return tag("time", text, datetime=rfc3339(at), title=rfc3339(at))

    def left(self, at: float) -> Html:
        return tag("time", f"{duration(max(1.0, at - self.now))} more", datetime=rfc3339(at), title=rfc3339(at))

    def span(self, since: float) -> str:
        return duration(max(0.0, self.now - since))

    def message(self, text: str, until: float | None) -> Html:
        """What a plan says, its ages by this clock."""
        if until is not None:
            text = _AHEAD.sub(lambda found: f"{found[1]}{duration(max(1.0, until - self.now))}", text)
        return _prose(_SINCE.sub(lambda found: f"{found[1]}{duration(self._grown(found[2]))}", text))

    def _grown(self, age: str) -> float:
        then = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", age))
        return then + max(0.0, self.now - self.planned_at)


def page(look: DaemonStatus, now: float, *, trouble_alone: bool = False) -> str:
    """The whole document at this time (Unix seconds), or the same with what is in trouble alone."""
    clock = _Clock(now, now if look.snapshot is None else look.snapshot.document.assessment.at)
    host = "this host" if look.snapshot is None else look.snapshot.document.host
    kind, headline = _overall(look)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{_MARKS[kind]} {host}: {headline}"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("link", rel="icon", href=_icon(kind)),
        tag("script", src="/page.js", defer=True),
        tag("noscript", tag("meta", http_equiv="refresh", content="15")),
    )
    body = tag(
        "body",
        tag("a", "Skip to the agents", class_="skip", href="#agents"),
        tag("header", _headline(host, kind, headline), _facts(look, clock), id="top", class_="top"),
        tag("main", *_sections(look, clock, trouble_alone=trouble_alone), id="main"),
        tag("footer", _footer(), id="end"),
        tag("p", "", id="silence", class_="silence", role="status", hidden=True),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en').text}\n"


# --- the top: who, how it is, what happens next ---


def _overall(look: DaemonStatus) -> tuple[str, str]:
    """How it is in one line, and its kind."""
    if look.snapshot is None:
        return ("bad", "No desired state") if look.trouble else ("pending", "The first pass is being made")
    document = look.snapshot.document
    if document.assessment.nothing_desired or not (document.agents or document.assessment.refused):
        return "quiet", "Nothing is managed"
    if look.running:
        return "pending", f"At work on {', '.join(sorted({one.agent for one in look.running}))}"
    kinds = [_state(told)[0] for told in document.agents] + ["bad"] * len(document.assessment.refused)
    count = len(kinds)
    by_operator = all(told.held_by_operator for told in document.agents if _state(told)[0] == "held")
    held = "held by an operator" if by_operator else "held or waiting"
    for kind, word in (("bad", "need attention"), ("pending", "in progress"), ("held", held)):
        found = kinds.count(kind)
        if found:
            word = "needs attention" if (kind, found) == ("bad", 1) else word
            return kind, f"{found} of {count} {word}" if count > 1 else word.capitalize()
    if any(condition.status == FALSE for condition in document.conditions):
        return "pending", "All agents as desired, the updater has trouble"
    return "good", "As desired" if count == 1 else f"All {count} agents as desired"


def _headline(host: str, kind: str, headline: str) -> Html:
    return tag(
        "div",
        tag("h1", host),
        tag("p", _badge(kind, headline), class_="overall", role="status"),
        class_="headline",
    )


def _facts(look: DaemonStatus, clock: _Clock) -> Html:
    rows: list[tuple[str, Html]] = [("Next pass", _next(look, clock))]
    if look.snapshot is not None:
        rows.append(("Last pass", _last(look.snapshot, clock)))
        found = look.snapshot.document.assessment
        origin = found.came_from.removesuffix(" (kept)")  # its age says so
        rows.append(("Desired state", join(f"from {origin}, ", clock.ago(found.desired_at))))
        rows += [
            (
                _OWN.get(condition.type, condition.type),
                join(_badge(_condition_kind(condition), condition.reason), " ", _prose(condition.message)),
            )
            for condition in look.snapshot.document.conditions
            if condition.status == FALSE
        ]
    if look.trouble:
        rows.append(("No pass was made", join(_badge("bad", "Trouble"), " ", _prose(look.trouble))))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="facts")


_OWN = {
    "ServerReachable": "Server",
    "StateStored": "Memory",
    "ToolsPresent": "Tools",
    "LockServerReachable": "Fleet's lock",
    "ReportDelivered": "Report",
}


def _next(look: DaemonStatus, clock: _Clock) -> Html:
    if look.running:
        return join(_badge("pending", "Now"), " being made")
    if look.next_at is None:
        return join(_badge("pending", "Now"), " looking and asking")
    return clock.ahead(look.next_at)


def _last(snapshot: Snapshot, clock: _Clock) -> Html:
    return join(clock.ago(snapshot.ended_at), f", took {brief(snapshot.took_s)}")


# --- the agents ---


def _sections(look: DaemonStatus, clock: _Clock, *, trouble_alone: bool) -> Iterable[Html]:
    if look.snapshot is None:
        text = "No answer of the server was accepted yet, so nothing is known to do." if look.trouble else "One moment."
        yield _section("agents", "Agents", tag("p", text, class_="empty"))
        return
    document = look.snapshot.document
    found = document.assessment
    doing = {one.agent: one for one in look.running}
    agents = {told.view.desired.name: told for told in document.agents}
    refused = {refusal.name for refusal in found.refused}
    in_trouble = {name for name, told in agents.items() if _state(told)[0] == "bad"} | refused
    history = look.snapshot.history
    if found.nothing_desired:
        rows = [tag("li", tag("b", agent.name), f" {seen(agent)}") for agent in found.bystanders]
        known = tag("ul", *rows, class_="bystanders") if rows else None
        yield _section("agents", "Agents", tag("p", f"{NOTHING[0].upper()}{NOTHING[1:]}.", class_="empty"), known)
    else:
        shown = agents.keys() & in_trouble if trouble_alone else agents.keys()
        cards = [_agent(told, doing.get(name), look.next_at, clock) for name, told in agents.items() if name in shown]
        none = "No agent is in trouble." if trouble_alone else "The server names none."
        views = _views(len(agents.keys() | refused), len(in_trouble), trouble_alone=trouble_alone)
        yield _section("agents", "Agents", views, *(cards or [tag("p", none, class_="empty")]))
    if found.refused:
        yield _section("refused", "Refused entries", *map(_refusal, found.refused))
    if trouble_alone:
        history = tuple(event for event in history if event.name in in_trouble)
    yield _section("history", "History", _history(history, agents.keys(), clock))


def _views(count: int, in_trouble: int, *, trouble_alone: bool) -> Html | None:
    """From all agents to those in trouble, and back; nothing where there is no choice."""
    if not in_trouble and not trouble_alone:
        return None
    here = {True: "page", False: None}
    return tag(
        "nav",
        tag("a", f"All {count}", href="/", aria_current=here[not trouble_alone]),
        tag("a", f"In trouble {in_trouble}", href=_TROUBLE, aria_current=here[trouble_alone]),
        id="views",
        class_="views",
        aria_label="Which agents",
    )


def _section(id: str, title: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title, id=f"{id}-title"), *content, id=id, aria_labelledby=f"{id}-title")


def _state(told: AgentReport) -> tuple[str, str]:
    """The kind of an agent's state, and its word: a reason, as the conditions have it."""
    ready = ready_of(told.conditions)
    if ready is None:
        return "pending", "Unknown"
    if told.held_by_operator and _is_down(told):
        return "bad", "Down, and held"
    if told.waits_as_wanted:
        return "held", ready.reason
    if ready.status == TRUE:
        return ("pending" if ready.reason == "Confirming" else "good"), ready.reason
    if ready.reason in ("FirstInstall", "VersionDiffers", "DigestDiffers", "ConfigDiffers"):
        return "pending", ready.reason  # the next pass will act
    return ("held" if ready.reason == "Pinned" else "bad"), ready.reason


def _is_down(told: AgentReport) -> bool:
    """Whether it must run, and is stopped or not there at all."""
    active = told.observed.active
    stopped = active is None or active.process is ProcessState.STOPPED
    return told.view.desired.run is RunState.START and stopped


def _agent(told: AgentReport, doing: RunningAction | None, next_at: float | None, clock: _Clock) -> Html:
    name = told.view.desired.name
    kind, word = _state(told)
    if doing is not None:
        kind, word = "pending", doing.action
    return tag(
        "article",
        tag(
            "div",
            tag("h3", name, id=f"agent-{name}-title"),
            _badge(kind, word),
            tag("p", *_versions(told), class_="versions"),
            class_="line",
        ),
        _now(doing, clock),
        _plan_of(told, next_at, clock),
        _details(told, clock),
        id=f"agent-{name}",
        class_=f"agent {kind}",
        aria_labelledby=f"agent-{name}-title",
    )


def _versions(told: AgentReport) -> Iterable[Html | str]:
    """What is in use; and what is wanted, where that is something else."""
    desired, active = told.view.desired, told.observed.active
    now, _ = seen_where(told, "")
    yield tag("b", now)
    wanted = {
        RunState.START: f"{desired.version} started",
        RunState.STOP: "stopped",
        RunState.OBSERVE: "observed only",
    }[desired.run]
    now, wanted = seen_where(told, wanted)
    there = active is not None and wanted in (now, active.process.value)
    if not there:
        yield tag("span", f" wanted: {wanted}", class_="muted")


def _now(doing: RunningAction | None, clock: _Clock) -> Html | None:
    if doing is None:
        return None
    return tag("p", tag("b", "Now: "), f"{doing.action} {doing.about}, for {clock.span(doing.since)}", class_="now")


def _plan_of(told: AgentReport, next_at: float | None, clock: _Clock) -> Html | None:
    """What happens next with this agent, and when; nothing where nothing will."""
    verdict = told.view.verdict
    confirming = told.view.confirming and told.view.record is not None and told.view.record.confirmation
    if isinstance(verdict, Held):
        when = join(" for ", clock.left(verdict.until)) if verdict.until is not None else None
        meanwhile = verdict.meanwhile.actions
        return tag(
            "div",
            tag(
                "p",
                tag("b", "Held"),
                when,
                ": ",
                clock.message(verdict.message, verdict.until),
            ),
            tag("p", tag("b", "Meanwhile: "), _steps(meanwhile)) if meanwhile else None,
            tag("p", "It would: ", _steps(verdict.plan.actions), class_="muted") if verdict.plan.actions else None,
            class_="next",
        )
    if confirming and confirming.deadline is not None:
        return tag(
            "p", tag("b", "Watched"), ": good if it still runs ", clock.ahead(confirming.deadline), class_="next"
        )
    if is_pending(told.view):
        when = clock.ahead(next_at) if next_at is not None else None
        steps = (*healing(told.view), *verdict.actions)
        return tag("p", tag("b", "Next "), when, ": ", _steps(steps), class_="next")
    if not told.ready and verdict.message:
        return tag("p", _prose(verdict.message), class_="next")
    return None


def _steps(actions: Iterable[Action]) -> Html:
    return tag("span", ", ".join(f"{action.type} {_short(action)}" for action in actions), class_="steps")


def _short(action: Action) -> str:
    """An action without its host or a long digest: the page of a plan is `updater plan`."""
    text = _arrows(what(action))
    return text.rpartition("/")[2] if action.type == "fetch" else re.sub(r"([0-9a-f]{8})[0-9a-f]{8,}", r"\1…", text)


def _details(told: AgentReport, clock: _Clock) -> Html:
    name = told.view.desired.name
    until = told.view.verdict.until if isinstance(told.view.verdict, Held) else None
    messages: list[str] = []  # a held change says the same as Ready and as Held
    rows = [
        tag(
            "tr",
            tag("th", condition.type, scope="row"),
            tag("td", _badge(_condition_kind(condition), condition.status)),
            tag("td", condition.reason),
            tag("td", clock.span(condition.since), class_="muted"),
            _says(condition.message, messages, clock.message(condition.message, until)),
        )
        for condition in told.conditions
    ]
    head = tag(
        "thead", tag("tr", *(tag("th", text, scope="col") for text in ("Condition", "", "Reason", "For", "Says")))
    )
    where = f"as {told.view.desired.run_user} in {told.view.desired.work_dir}/{name}"
    installed = ", ".join(told.observed.installed) or "none"
    return tag(
        "details",
        tag("summary", "Conditions", tag("span", f" of {name}", class_="unseen")),
        tag("table", head, tag("tbody", *rows), class_="conditions"),
        tag(
            "p",
            f"Runs {where}. Versions on disk: {installed}. More: ",
            tag("code", f"updater why {name}"),
            class_="muted",
        ),
        id=f"conditions-{name}",
    )


def _says(message: str, before: list[str], shown: Html) -> Html:
    if message and message in before:
        return tag("td", "the same", class_="muted")
    before.append(message)
    return tag("td", shown)


def _condition_kind(condition: Condition) -> str:
    if condition.type in ("Held", "Quarantined"):
        return "held" if condition.status == TRUE else "quiet"
    return {TRUE: "good", FALSE: "bad"}.get(condition.status, "pending")


def _refusal(refusal: Refusal) -> Html:
    return tag(
        "article",
        tag("div", tag("h3", refusal.name), _badge("bad", refusal.reason), class_="line"),
        tag("p", f"By rule {refusal.rule}: ", _prose(refusal.message), class_="next"),
        class_="agent bad",
    )


# --- what was done ---


def _history(history: tuple[Event, ...], named: Set[str], clock: _Clock) -> Html:
    """`named`: the agents that the page has, or the other view of it."""
    if not history:
        return tag("p", "Nothing was done yet.", class_="empty")
    # Agents are recorded when their plans end: the times of one lie among another's.
    found = sorted(without_repeats(history), key=lambda one: one[0].at)[::-1]
    events = [_event(event, message, clock, is_named=event.name in named) for event, message in found]
    older = events[_EVENTS_SHOWN:]
    return join(
        tag("ol", *events[:_EVENTS_SHOWN], class_="history"),
        tag("details", tag("summary", f"{len(older)} older"), tag("ol", *older, class_="history"), id="older")
        if older
        else None,
    )


def _event(event: Event, message: str, clock: _Clock, *, is_named: bool) -> Html:
    tried = [action for action in event.actions if action["result"] != "skipped"]
    failed = [action for action in tried if action["result"] == "failed"]
    went_back = event.reason == "RolledBack"
    kind = "bad" if failed else "quiet" if event.reason == "News" else "back" if went_back else "good"
    reason = None if event.reason == "News" else tag("span", f"{event.reason}{on_whose_word(event)}: ", class_="muted")
    name = tag("a", event.name, href=f"/#agent-{event.name}") if is_named else event.name
    times = (
        tag("span", f" {event.count} times, first ", clock.ago(event.first_at), class_="muted")
        if event.count > 1
        else None
    )
    return tag(
        "li",
        tag("div", clock.ago(event.at), class_="when muted"),
        tag(
            "div",
            tag("p", _mark(kind), tag("b", name), " ", reason, _prose(_arrows(message)), times),
            tag("p", *map(_done, tried), class_="actions") if tried else None,
            *(tag("p", _prose(f"{action['reason']}: {action['error']}"), class_="error") for action in failed),
        ),
        class_=kind,
    )


def _done(action: Mapping[str, Any]) -> Html:
    """A step that was tried; what was skipped after it failed is not told."""
    result = str(action["result"])
    took = tag("span", f" {brief(action['seconds'])}", class_="muted")
    version = "".join(f" {name}" for name in (action["version"], *action.get("names", ())) if name)
    word = tag("span", f" {result}", class_="unseen")
    return join(tag("span", _mark(_RESULTS[result]), f"{action['type']}{version}", word, took, class_="action"), " ")


# --- small things ---


def _arrows(text: str) -> str:
    """A change of versions, as a page can write it."""
    return text.replace("->", "→")


def _prose(text: str) -> Html:
    """A message, with what stands between its backquotes (or `these', as GNU's tools write) as what one types."""
    parts = re.split(r"`([^`'\n]+)[`']", text)
    return join(*(tag("code", part) if number % 2 else part.replace("`", "'") for number, part in enumerate(parts)))


def _badge(kind: str, text: str) -> Html:
    """A state: its mark and its word; the colour only repeats them."""
    return tag("span", _mark(kind), text, class_=f"badge {kind}")


def _mark(kind: str) -> Html:
    return tag("span", _MARKS[kind], class_=f"mark {kind}", aria_hidden="true")


_COLOURS = {"good": "1a7f37", "pending": "9a6700", "held": "5b5bd6", "bad": "c4281c", "quiet": "6b7280"}


def _icon(kind: str) -> str:
    circle = f"%3Ccircle cx='8' cy='8' r='7' fill='%23{_COLOURS[kind]}'/%3E"
    return f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E{circle}%3C/svg%3E"


def _footer() -> Html:
    links = (("/status", "status as JSON"), ("/metrics", "metrics"))
    return tag(
        "p",
        f"ops-updater {VERSION}. This page only looks; to steer: ",
        tag("code", "updater hold, release, rollback"),
        ". ",
        *(join(tag("a", text, href=path), ". ") for path, text in links),
    )
