"""What a command found and did, as a value: a report of agents, and how each of them counts in it.

How it is printed stands in tables.py, text.py, rich_view.py and json_form.py.
"""

from __future__ import annotations

from enum import Enum

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.assess.pass_context import Assessment
from reconcile.decide.actions import Action, Held, Outcome, Result
from reconcile.decide.conditions import Condition, is_ready, ready_of, with_since
from reconcile.decide.desired import Refusal
from reconcile.decide.evaluate import AgentEvaluation, conditions_of
from updater.output.words import home, seen

NOTHING = "the server named no agents: nothing is managed, nothing is touched"


class AgentStanding(Enum):
    """How an agent stands, for a count in which each stands once; the value is the word."""

    AS_DESIRED = "as desired"
    PENDING = "pending"
    HELD = "held by an operator"
    PINNED = "pinned by an operator"
    WAITING = "waiting as wanted"
    HELD_BACK = "held back"
    NOT_AS_DESIRED = "not as desired"


@frozen(kw_only=True)
class AgentReport:
    """One agent as it is reported: what was assessed, what came of it (of `plan` and `status`: nothing), how it is
    now."""

    view: AgentEvaluation
    observed: ObservedAgent
    conditions: tuple[Condition, ...]
    outcomes: tuple[Outcome, ...] = ()

    @property
    def name(self) -> str:
        return self.view.desired.name

    @property
    def ready(self) -> bool:
        return is_ready(self.conditions)

    @property
    def acted(self) -> bool:
        """Whether an action came to something."""
        return any(outcome.result is not Result.SKIPPED for outcome in self.outcomes)

    @property
    def held(self) -> Held | None:
        """Why its change waits; None: none does."""
        return self.view.verdict if isinstance(self.view.verdict, Held) else None

    @property
    def held_by_operator(self) -> bool:
        return self.held is not None and self.held.reason == "HeldByOperator"

    @property
    def waits_as_wanted(self) -> bool:
        """Whether it is no trouble that it is not as desired: an operator holds it, or it waits as is wanted."""
        return self.held_by_operator or self.view.waits_as_wanted

    @property
    def is_trouble(self) -> bool:
        """Whether it is not as it should be."""
        return not (self.ready or self.waits_as_wanted)

    @property
    def standing(self) -> AgentStanding:
        """How it stands. What was acted upon is pending no more: its conditions say what it came to."""
        pending = is_pending(self.view) and not self.outcomes
        if self.held_by_operator:
            return AgentStanding.HELD
        if self.ready and not pending:
            return AgentStanding.AS_DESIRED
        if self.held is None:
            return AgentStanding.PENDING if pending else AgentStanding.NOT_AS_DESIRED
        if self.held.reason == "Pinned":
            return AgentStanding.PINNED
        return AgentStanding.WAITING if self.waits_as_wanted else AgentStanding.HELD_BACK


@frozen(kw_only=True)
class Report:
    """All that a command reports. `kind`: Plan, Result, Status or Why. `conditions`: of the updater itself."""

    kind: str
    host: str
    assessment: Assessment
    agents: tuple[AgentReport, ...]
    conditions: tuple[Condition, ...]

    @property
    def pending(self) -> int:
        return sum(is_pending(agent.view) for agent in self.agents)

    @property
    def held(self) -> int:
        return sum(agent.held is not None for agent in self.agents)

    @property
    def troubles(self) -> tuple[Condition, ...]:
        """What is wrong with the updater itself."""
        return tuple(condition for condition in self.conditions if condition.status == "False")

    @property
    def has_news_besides_agents(self) -> bool:
        """Whether something is unusual that is no agent's."""
        found = self.assessment
        return bool(found.refused or found.nothing_desired or self.troubles)


def assessed(view: AgentEvaluation, now: float) -> AgentReport:
    """An agent before anything is done with it."""
    before = () if view.record is None else view.record.conditions
    return AgentReport(view=view, observed=view.observed, conditions=with_since(conditions_of(view), before, now))


def is_pending(view: AgentEvaluation) -> bool:
    """Whether something is to be done, or would be if it were not held for another reason than an operator's."""
    held = isinstance(view.verdict, Held) and view.verdict.reason != "HeldByOperator"
    return view.plan.touches_agent or view.heal is not None or held


def healing(view: AgentEvaluation) -> tuple[Action, ...]:
    """What is done before the change is made."""
    return () if view.heal is None else view.heal.due.actions


def counts(report: Report) -> list[str]:
    """How many agents there are and how they stand, each counted once, and what counts besides."""
    count, observed_alone = len(report.agents), len(report.assessment.bystanders)
    words = ["no agents" if count == 0 else "1 agent" if count == 1 else f"{count} agents"]
    if observed_alone:
        words = [f"{words[0]} desired", f"{observed_alone} observed"]
    standings = [agent.standing for agent in report.agents]
    words += [f"{standings.count(one)} {one.value}" for one in AgentStanding if one in standings]
    refused = len(report.assessment.refused)
    return [*words, f"{refused} refused"] if refused else words


def seen_where(agent: AgentReport, wanted: str) -> tuple[str, str]:
    """What is in use, beside what is wanted; each with its home, where these differ."""
    lives, wanted_home = agent.observed.home, agent.view.desired.home
    if lives.same_home(wanted_home):
        return seen(agent.observed), wanted
    return f"{seen(agent.observed)} in {home(lives)}", f"{wanted} in {home(wanted_home)}"


def ruled_out(report: Report) -> tuple[Refusal, ...]:
    """The entries that are none of this host's business: `plan` lists them, `why` the one that it is asked about."""
    return report.assessment.ruled_out if report.kind in ("Plan", "Why") else ()


def why_not_managed(report: Report) -> str:
    """Why an agent that was asked about is not managed now, for people."""
    found = report.assessment
    if found.refused:
        return found.refused[0].summary
    return not_ours(found.ruled_out[0]) if found.ruled_out else NOTHING


def not_ours(entry: Refusal) -> str:
    """Why an entry is none of this host's business."""
    return f"not for this host, by rule {entry.rule}: {entry.message}"


def ready_reason(agent: AgentReport) -> str:
    """The reason of its Ready condition."""
    ready = ready_of(agent.conditions)
    return agent.view.plan.reason if ready is None else ready.reason
