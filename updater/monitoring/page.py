"""The page for people: the status of a daemon, as HTML. Pure. All of its ages are by one clock.

It is whole without a script; page.js only fetches it again and exchanges the parts that differ, by their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from reconcile.decide.conditions import FALSE
from updater.monitoring.agent_card import agent_card, refusal_card, state_of
from updater.monitoring.history_list import history_list
from updater.monitoring.html import Html, join, tag
from updater.monitoring.page_parts import MARKS, Clock, badge, condition_kind, icon, prose
from updater.monitoring.status_board import DaemonStatus, Snapshot
from updater.output.format import brief
from updater.output.report import NOTHING, Report
from updater.output.words import seen
from updater.version import VERSION

_TROUBLE = "/?trouble"  # the page with what is in trouble alone
_OWN = {
    "ServerReachable": "Server",
    "StateStored": "Memory",
    "ToolsPresent": "Tools",
    "LockServerReachable": "Fleet's lock",
    "ReportDelivered": "Report",
}


def page(status: DaemonStatus, now: float, *, trouble_alone: bool = False) -> str:
    """The whole document at this time (Unix seconds), or the same with what is in trouble alone."""
    clock = Clock(now, now if status.snapshot is None else status.snapshot.document.assessment.at)
    host = "this host" if status.snapshot is None else status.snapshot.document.host
    kind, headline = _overall(status)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{MARKS[kind]} {host}: {headline}"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("link", rel="icon", href=icon(kind)),
        tag("script", src="/page.js", defer=True),
        tag("noscript", tag("meta", http_equiv="refresh", content="15")),
    )
    body = tag(
        "body",
        tag("a", "Skip to the agents", class_="skip", href="#agents"),
        tag("header", _headline(host, kind, headline), _facts(status, clock), id="top", class_="top"),
        tag("main", *_sections(status, clock, trouble_alone=trouble_alone), id="main"),
        tag("footer", _footer(), id="end"),
        tag("p", "", id="silence", class_="silence", role="status", hidden=True),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en').text}\n"


def _overall(status: DaemonStatus) -> tuple[str, str]:
    """How it is in one line, and its kind."""
    if status.snapshot is None:
        return ("bad", "No desired state") if status.trouble else ("pending", "The first pass is being made")
    document = status.snapshot.document
    if document.assessment.nothing_desired or not (document.agents or document.assessment.refused):
        return "quiet", "Nothing is managed"
    if status.running:
        return "pending", f"At work on {', '.join(sorted({one.agent for one in status.running}))}"
    return _worst(document) or _all_well(document)


def _worst(document: Report) -> tuple[str, str] | None:
    """How many agents are in the worst state that needs a person; None: all are well."""
    states = [(state_of(agent)[0], agent) for agent in document.agents]
    kinds = [kind for kind, _ in states] + ["bad"] * len(document.assessment.refused)
    by_operator = all(agent.held_by_operator for kind, agent in states if kind == "held")
    held = "held by an operator" if by_operator else "held or waiting"
    for kind, word in (("bad", "need attention"), ("pending", "in progress"), ("held", held)):
        found = kinds.count(kind)
        if found:
            word = "needs attention" if (kind, found) == ("bad", 1) else word
            return kind, f"{found} of {len(kinds)} {word}" if len(kinds) > 1 else word.capitalize()
    return None


def _all_well(document: Report) -> tuple[str, str]:
    if any(condition.status == FALSE for condition in document.conditions):
        return "pending", "All agents as desired, the updater has trouble"
    count = len(document.agents)
    return "good", "As desired" if count == 1 else f"All {count} agents as desired"


def _headline(host: str, kind: str, headline: str) -> Html:
    return tag(
        "div",
        tag("h1", host),
        tag("p", badge(kind, headline), class_="overall", role="status"),
        class_="headline",
    )


def _facts(status: DaemonStatus, clock: Clock) -> Html:
    rows: list[tuple[str, Html]] = [("Next pass", _next(status, clock))]
    if status.snapshot is not None:
        rows.append(("Last pass", _last(status.snapshot, clock)))
        found = status.snapshot.document.assessment
        origin = found.came_from.removesuffix(" (kept)")  # its age says so
        rows.append(("Desired state", join(f"from {origin}, ", clock.ago(found.desired_at))))
        rows += [
            (
                _OWN.get(condition.type, condition.type),
                join(badge(condition_kind(condition), condition.reason), " ", prose(condition.message)),
            )
            for condition in status.snapshot.document.conditions
            if condition.status == FALSE
        ]
    if status.trouble:
        rows.append(("No pass was made", join(badge("bad", "Trouble"), " ", prose(status.trouble))))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="facts")


def _next(status: DaemonStatus, clock: Clock) -> Html:
    if status.running:
        return join(badge("pending", "Now"), " being made")
    if status.next_at is None:
        return join(badge("pending", "Now"), " looking and asking")
    return clock.ahead(status.next_at)


def _last(snapshot: Snapshot, clock: Clock) -> Html:
    return join(clock.ago(snapshot.ended_at), f", took {brief(snapshot.took_s)}")


def _sections(status: DaemonStatus, clock: Clock, *, trouble_alone: bool) -> Iterable[Html]:
    if status.snapshot is None:
        text = (
            "No answer of the server was accepted yet, so nothing is known to do." if status.trouble else "One moment."
        )
        yield _section("agents", "Agents", tag("p", text, class_="empty"))
        return
    document = status.snapshot.document
    names, refused = {agent.name for agent in document.agents}, document.assessment.refused
    in_trouble = _in_trouble(document)
    if document.assessment.nothing_desired:
        yield _bystanders(document)
    else:
        views = _views(len(names | in_trouble), len(in_trouble), trouble_alone=trouble_alone)
        listed, none = (in_trouble, "No agent is in trouble.") if trouble_alone else (names, "The server names none.")
        yield _section("agents", "Agents", views, *_cards(status, document, clock, listed, none))
    if refused:
        yield _section("refused", "Refused entries", *map(refusal_card, refused))
    history = status.snapshot.history
    if trouble_alone:
        history = tuple(event for event in history if event.name in in_trouble)
    yield _section("history", "History", history_list(history, names, clock))


def _in_trouble(document: Report) -> set[str]:
    """The agents that need a person, and those whose entry is refused."""
    found = {agent.name for agent in document.agents if state_of(agent)[0] == "bad"}
    return found.union(entry.name for entry in document.assessment.refused)


def _bystanders(document: Report) -> Html:
    """The agents that are still observed where an answer named none."""
    rows = [tag("li", tag("b", agent.name), f" {seen(agent)}") for agent in document.assessment.bystanders]
    known = tag("ul", *rows, class_="bystanders") if rows else None
    return _section("agents", "Agents", tag("p", f"{NOTHING[0].upper()}{NOTHING[1:]}.", class_="empty"), known)


def _cards(status: DaemonStatus, document: Report, clock: Clock, listed: Set[str], none: str) -> list[Html]:
    """A card of each agent that is listed. `none`: what is said where there is none."""
    running = {one.agent: one for one in status.running}
    agents = [agent for agent in document.agents if agent.name in listed]
    cards = [agent_card(agent, running.get(agent.name), status.next_at, clock) for agent in agents]
    return cards or [tag("p", none, class_="empty")]


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


def _footer() -> Html:
    links = (("/status", "status as JSON"), ("/metrics", "metrics"))
    return tag(
        "p",
        f"ops-updater {VERSION}. This page only looks; to steer: ",
        tag("code", "updater hold, release, rollback"),
        ". ",
        *(join(tag("a", text, href=path), ". ") for path, text in links),
    )
