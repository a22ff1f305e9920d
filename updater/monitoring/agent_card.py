"""One agent on the page: how it is, what happens with it next, and its conditions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from probes.observed import ProcessState
from reconcile.decide.actions import Action, Held
from reconcile.decide.conditions import TRUE, ready_of
from reconcile.decide.desired import Refusal, RunState
from updater.monitoring.html import Html, join, tag
from updater.monitoring.page_parts import Clock, arrows, badge, condition_kind, prose
from updater.monitoring.status_board import RunningAction
from updater.output.report import AgentReport, healing, is_pending, seen_where
from updater.output.words import what


def agent_card(agent: AgentReport, doing: RunningAction | None, next_at: float | None, clock: Clock) -> Html:
    name = agent.name
    kind, word = state_of(agent)
    if doing is not None:
        kind, word = "pending", doing.action
    return tag(
        "article",
        tag(
            "div",
            tag("h3", name, id=f"agent-{name}-title"),
            badge(kind, word),
            tag("p", *_versions(agent), class_="versions"),
            class_="line",
        ),
        _now(doing, clock),
        _plan_of(agent, next_at, clock),
        _details(agent, clock),
        id=f"agent-{name}",
        class_=f"agent {kind}",
        aria_labelledby=f"agent-{name}-title",
    )


def refusal_card(refusal: Refusal) -> Html:
    return tag(
        "article",
        tag("div", tag("h3", refusal.name), badge("bad", refusal.reason), class_="line"),
        tag("p", f"By rule {refusal.rule}: ", prose(refusal.message), class_="next"),
        class_="agent bad",
    )


def state_of(agent: AgentReport) -> tuple[str, str]:
    """The kind of an agent's state, and its word: a reason, as the conditions have it."""
    ready = ready_of(agent.conditions)
    if ready is None:
        return "pending", "Unknown"
    if agent.held_by_operator and _is_down(agent):
        return "bad", "Down, and held"
    if agent.waits_as_wanted:
        return "held", ready.reason
    if ready.status == TRUE:
        return ("pending" if ready.reason == "Confirming" else "good"), ready.reason
    if ready.reason in ("FirstInstall", "VersionDiffers", "DigestDiffers", "ConfigDiffers"):
        return "pending", ready.reason  # the next pass will act
    return ("held" if ready.reason == "Pinned" else "bad"), ready.reason


def _is_down(agent: AgentReport) -> bool:
    """Whether it must run, and is stopped or not there at all."""
    active = agent.observed.active
    stopped = active is None or active.process is ProcessState.STOPPED
    return agent.view.desired.run is RunState.START and stopped


def _versions(agent: AgentReport) -> Iterable[Html | str]:
    """What is in use; and what is wanted, where that is something else."""
    desired, active = agent.view.desired, agent.observed.active
    now, _ = seen_where(agent, "")
    yield tag("b", now)
    wanted = {
        RunState.START: f"{desired.version} started",
        RunState.STOP: "stopped",
        RunState.OBSERVE: "observed only",
    }[desired.run]
    now, wanted = seen_where(agent, wanted)
    there = active is not None and wanted in (now, active.process.value)
    if not there:
        yield tag("span", f" wanted: {wanted}", class_="muted")


def _now(doing: RunningAction | None, clock: Clock) -> Html | None:
    if doing is None:
        return None
    return tag("p", tag("b", "Now: "), f"{doing.action} {doing.about}, for {clock.span(doing.since)}", class_="now")


def _plan_of(agent: AgentReport, next_at: float | None, clock: Clock) -> Html | None:
    """What happens next with this agent, and when; nothing where nothing will."""
    plan = agent.view.plan
    confirming = agent.view.confirming and agent.view.record is not None and agent.view.record.confirmation
    if agent.held is not None:
        return _held(agent.held, clock)
    if confirming and confirming.deadline is not None:
        return tag(
            "p", tag("b", "Watched"), ": good if it still runs ", clock.ahead(confirming.deadline), class_="next"
        )
    if is_pending(agent.view):
        when = clock.ahead(next_at) if next_at is not None else None
        steps = (*healing(agent.view), *plan.actions)
        return tag("p", tag("b", "Next "), when, ": ", _steps(steps), class_="next")
    if not agent.ready and plan.message:
        return tag("p", prose(plan.message), class_="next")
    return None


def _held(held: Held, clock: Clock) -> Html:
    """Why a change waits, what is done meanwhile, and what it would do."""
    when = join(" for ", clock.left(held.until)) if held.until is not None else None
    meanwhile, wanted = held.meanwhile.actions, held.plan.actions
    return tag(
        "div",
        tag("p", tag("b", "Held"), when, ": ", clock.message(held.message, held.until)),
        tag("p", tag("b", "Meanwhile: "), _steps(meanwhile)) if meanwhile else None,
        tag("p", "It would: ", _steps(wanted), class_="muted") if wanted else None,
        class_="next",
    )


def _steps(actions: Iterable[Action]) -> Html:
    return tag("span", ", ".join(f"{action.type} {_short(action)}" for action in actions), class_="steps")


def _short(action: Action) -> str:
    """An action without its host or a long digest: the page of a plan is `updater plan`."""
    text = arrows(what(action))
    return text.rpartition("/")[2] if action.type == "fetch" else re.sub(r"([0-9a-f]{8})[0-9a-f]{8,}", r"\1…", text)


def _details(agent: AgentReport, clock: Clock) -> Html:
    name = agent.name
    until = None if agent.held is None else agent.held.until
    messages: list[str] = []  # a held change says the same as Ready and as Held
    rows = [
        tag(
            "tr",
            tag("th", condition.type, scope="row"),
            tag("td", badge(condition_kind(condition), condition.status)),
            tag("td", condition.reason),
            tag("td", clock.span(condition.since), class_="muted"),
            _says(condition.message, messages, clock.message(condition.message, until)),
        )
        for condition in agent.conditions
    ]
    head = tag(
        "thead", tag("tr", *(tag("th", text, scope="col") for text in ("Condition", "", "Reason", "For", "Says")))
    )
    where = f"as {agent.view.desired.run_user} in {agent.view.desired.work_dir}/{name}"
    installed = ", ".join(agent.observed.installed) or "none"
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


def _says(message: str, before: list[str], content: Html) -> Html:
    if message and message in before:
        return tag("td", "the same", class_="muted")
    before.append(message)
    return tag("td", content)
