"""The page for people: one look at a daemon, as HTML. Pure but for the clock that its ages need.

It is whole without a script; page.js only fetches it again and exchanges the parts that differ, by their ids.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from probes.values import frozen
from reconcile.decide.actions import Action, Held
from reconcile.decide.admission import duration
from reconcile.decide.conditions import FALSE, TRUE, Condition, ready_of
from reconcile.decide.desired import Refusal, RunState
from reconcile.storage.codec import HistoryEntry as Event
from updater.monitoring.html import Html, join, tag
from updater.monitoring.status_board import DaemonStatus, RunningAction, Snapshot
from updater.output.report import NOTHING, AgentReport, brief, healing, is_pending, rfc3339, seen, seen_where, what
from updater.version import VERSION

_MARKS = {"good": "✓", "pending": "…", "held": "‖", "bad": "✕", "quiet": "·"}
_EVENTS_SHOWN = 15  # the others are there to be opened
_RESULTS = {"done": "good", "unchanged": "good", "failed": "bad"}


@frozen
class _Clock:
    now: float

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


def page(look: DaemonStatus) -> str:
    """The whole document."""
    clock = _Clock(time.time())
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
        tag("main", *_sections(look, clock), id="main"),
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
    for kind, word in (("bad", "need attention"), ("pending", "in progress"), ("held", "held by an operator")):
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
        rows.append(("Desired state", join(f"from {found.came_from}, ", clock.ago(found.desired_at))))
        rows += [
            (_OWN[condition.type], join(_badge(_condition_kind(condition), condition.reason), " ", condition.message))
            for condition in look.snapshot.document.conditions
            if condition.status == FALSE
        ]
    if look.trouble:
        rows.append(("No pass was made", join(_badge("bad", "Trouble"), " ", look.trouble)))
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


def _sections(look: DaemonStatus, clock: _Clock) -> Iterable[Html]:
    if look.snapshot is None:
        text = "No answer of the server was accepted yet, so nothing is known to do." if look.trouble else "One moment."
        yield _section("agents", "Agents", tag("p", text, class_="empty"))
        return
    document = look.snapshot.document
    found = document.assessment
    doing = {one.agent: one for one in look.running}
    if found.nothing_desired:
        rows = [tag("li", tag("b", agent.name), f" {seen(agent)}") for agent in found.bystanders]
        known = tag("ul", *rows, class_="bystanders") if rows else None
        yield _section("agents", "Agents", tag("p", f"{NOTHING[0].upper()}{NOTHING[1:]}.", class_="empty"), known)
    else:
        agents = [_agent(told, doing.get(told.view.desired.name), look.next_at, clock) for told in document.agents]
        yield _section("agents", "Agents", *(agents or [tag("p", "The server names none.", class_="empty")]))
    if found.refused:
        yield _section("refused", "Refused entries", *map(_refusal, found.refused))
    yield _section("history", "History", _history(look.snapshot.history, clock))


def _section(id: str, title: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title, id=f"{id}-title"), *content, id=id, aria_labelledby=f"{id}-title")


def _state(told: AgentReport) -> tuple[str, str]:
    """The kind of an agent's state, and its word: a reason, as the conditions have it."""
    ready = ready_of(told.conditions)
    if ready is None:
        return "pending", "Unknown"
    if told.held_by_operator:
        return "held", ready.reason
    if ready.status == TRUE:
        return ("pending" if ready.reason == "Confirming" else "good"), ready.reason
    if ready.reason in ("FirstInstall", "VersionDiffers", "DigestDiffers", "ConfigDiffers"):
        return "pending", ready.reason  # the next pass will act
    return ("held" if ready.reason == "Pinned" else "bad"), ready.reason


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
            tag("p", tag("b", "Held"), when, ": ", _prose(verdict.message)),
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
    return text.rpartition("/")[2] if action.type == "fetch" else f"{text[:14]}…" if action.type == "verify" else text


def _details(told: AgentReport, clock: _Clock) -> Html:
    name = told.view.desired.name
    messages: list[str] = []  # a held change says the same as Ready and as Held
    rows = [
        tag(
            "tr",
            tag("th", condition.type, scope="row"),
            tag("td", _badge(_condition_kind(condition), condition.status)),
            tag("td", condition.reason),
            tag("td", clock.span(condition.since), class_="muted"),
            _says(condition.message, messages),
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


def _says(message: str, before: list[str]) -> Html:
    if message and message in before:
        return tag("td", "the same", class_="muted")
    before.append(message)
    return tag("td", _prose(message))


def _condition_kind(condition: Condition) -> str:
    if condition.type in ("Held", "Quarantined"):
        return "held" if condition.status == TRUE else "quiet"
    return {TRUE: "good", FALSE: "bad"}.get(condition.status, "pending")


def _refusal(refusal: Refusal) -> Html:
    return tag(
        "article",
        tag("div", tag("h3", refusal.name), _badge("bad", refusal.reason), class_="line"),
        tag("p", f"By rule {refusal.rule}: {refusal.message}", class_="next"),
        class_="agent bad",
    )


# --- what was done ---


def _history(history: tuple[Event, ...], clock: _Clock) -> Html:
    if not history:
        return tag("p", "Nothing was done yet.", class_="empty")
    events = [_event(event, clock) for event in reversed(history)]
    older = events[_EVENTS_SHOWN:]
    return join(
        tag("ol", *events[:_EVENTS_SHOWN], class_="history"),
        tag("details", tag("summary", f"{len(older)} older"), tag("ol", *older, class_="history"), id="older")
        if older
        else None,
    )


def _event(event: Event, clock: _Clock) -> Html:
    tried = [action for action in event.actions if action["result"] != "skipped"]
    failed = [action for action in tried if action["result"] == "failed"]
    went_back = event.reason == "RolledBack"
    kind = "bad" if failed else "quiet" if event.reason == "News" else "pending" if went_back else "good"
    reason = None if event.reason == "News" else tag("span", f"{event.reason} by {event.by}: ", class_="muted")
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
            tag("p", _mark(kind), tag("b", event.name), " ", reason, _arrows(event.message), times),
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
    """A message, with what stands between its backquotes as what one types."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return join(text)
    return join(*(tag("code", part) if number % 2 else part for number, part in enumerate(parts)))


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
