"""What passes leave in the log. What lasts is logged when it begins, when it changes, and when it is over, and not at
each pass.

Levels say what a line asks of a person: INFO nothing, WARNING to know of trouble that the updater deals with, ERROR to
do something, since neither time nor another pass ends it.

The memory distinguishes it from one process to the next (PassResult); what memory does not hold, or could not be
written, is distinguished here for as long as this process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict

from reconcile.decide.actions import Outcome, Result, Start
from reconcile.decide.conditions import TRUE, Condition, is_for_people
from reconcile.decide.desired import Refusal
from reconcile.log import logger
from updater.monitoring.status_board import Snapshot
from updater.output.words import what
from updater.settings.config import METRICS, Config, lacks_web

if TYPE_CHECKING:
    from reconcile.decide.evaluate import AgentEvaluation
    from reconcile.engine.results import AgentResult, PassResult

# Reasons beside those of is_for_people that last until a person mends this host.
_TO_BE_MENDED = ("WriteFailed", "InternalError")
_GOOD_NEWS = (" is good: ", "download")  # of a change: it proved good, or its download goes on in the next run


class PassLog:
    """The log of passes one after another, in one process."""

    def __init__(self) -> None:
        self._goes_on: dict[str, str] = {}  # what lasts, and the words that it was logged in
        self._troubles: tuple[str, ...] = ()
        self._refused: frozenset[Refusal] = frozenset()
        self._broken: dict[str, str] = {}
        self._stands: dict[tuple[str, str], str] = {}  # the status of each agent's conditions, and of our own

    def remembered(self) -> dict[str, Any]:
        """What is distinguished, as JSON can hold it."""
        return {
            "goes_on": self._goes_on,
            "troubles": self._troubles,
            "refused": [asdict(refusal) for refusal in self._refused],
            "broken": self._broken,
            "stands": [[*key, status] for key, status in self._stands.items()],
        }

    @classmethod
    def from_remembered(cls, remembered: Mapping[str, Any]) -> PassLog:
        """Go on with what another process remembered. Raise LookupError, TypeError, ValueError on another form."""
        log = cls()
        log._goes_on, log._broken = dict(remembered["goes_on"]), dict(remembered["broken"])
        log._troubles = tuple(remembered["troubles"])
        log._refused = frozenset(Refusal(**fields) for fields in remembered["refused"])
        log._stands = {(name, type_): status for name, type_, status in remembered["stands"]}
        return log

    def goes_on(self, name: str, words: str) -> None:
        """Log something that lasts until it is `over`."""
        if self._goes_on.get(name) != words:
            self._goes_on[name] = words
            logger.warning("{}", words)

    def over(self, name: str, words: str) -> None:
        """Log that it is over, if it went on."""
        if self._goes_on.pop(name, None) is not None:
            logger.info("{}", words)

    def result(self, result: PassResult) -> None:
        """Log what came of a pass."""
        self._log_refusals(result)
        self._log_broken(result)
        for trouble in result.troubles:
            if trouble not in self._troubles:
                logger.warning("{}", trouble)
        self._troubles = result.troubles
        for agent in result.agents:
            self._log_news(agent, dict.fromkeys((agent.view.news, *agent.news)))
        self._log_conditions(result)
        for late in result.late:
            self.late(late)
        ready = sum(agent.ready for agent in result.agents)
        logger.debug("pass: {} of {} agents as desired", ready, len(result.agents))

    def own_condition(self, condition: Condition, *, is_transition: bool = True) -> None:
        """Log a condition of the updater itself that was seen between two passes."""
        self._log_condition("", condition, is_transition=is_transition)

    def late(self, result: AgentResult) -> None:
        """Log what came of a plan that outlasted its pass."""
        self._log_news(result, result.news)
        for condition in result.transitions:
            self._log_condition(result.name, condition, is_transition=True, agent=result)

    def _log_news(self, agent: AgentResult, news: Iterable[str]) -> None:
        """What became of a change. Of a way back made in this pass its condition tells."""
        for message in news:
            if message and not agent.went_back:
                with logger.contextualize(agent=agent.name):
                    is_good = any(words in message for words in _GOOD_NEWS)
                    (logger.info if is_good else logger.warning)("{}", message)

    def _log_refusals(self, result: PassResult) -> None:
        for refusal in result.newly_refused:
            if refusal not in self._refused:
                logger.warning("{} {}", refusal.name, refusal.summary)
        now = frozenset(result.assessment.refused)
        unkept = {refusal.name for refusal in self._refused} - {refusal.name for refusal in now}
        for name in dict.fromkeys((*result.refused_no_more, *sorted(unkept))):
            logger.info("{} is no longer refused", name)
        self._refused = now

    def _log_broken(self, result: PassResult) -> None:
        """Log unexpected errors that ended the look at an agent, with their tracebacks."""
        broken = {agent.view.desired.name: agent.view.broken for agent in result.agents}
        for name, err in broken.items():
            if err is not None and self._broken.get(name) != repr(err):
                with logger.contextualize(agent=name):
                    logger.failure("ERROR", err, "unexpected, please report it: {!r}", err)
        self._broken = {name: repr(err) for name, err in broken.items() if err is not None}

    def _log_conditions(self, result: PassResult) -> None:
        changed = {(name, condition.type) for name, condition in result.transitions}
        named = [("", condition, None) for condition in result.conditions]
        of_agents = [
            (agent.name, condition, agent)
            for agent in result.agents
            if not agent.goes_on
            for condition in agent.conditions
        ]
        for name, condition, agent in (*of_agents, *named):
            self._log_condition(name, condition, is_transition=(name, condition.type) in changed, agent=agent)
        names = {"", *(agent.view.desired.name for agent in result.agents)}
        self._stands = {key: status for key, status in self._stands.items() if key[0] in names}

    def _log_condition(
        self, name: str, condition: Condition, *, is_transition: bool, agent: AgentResult | None = None
    ) -> None:
        """Log its status if that is another than at the last look. A flip that memory could not keep is found again at
        each pass, and its end at none."""
        key = name, condition.type
        before = self._stands.get(key)
        self._stands[key] = condition.status
        if not (is_transition if before is None else before != condition.status):
            return
        message = f": {condition.message}" if condition.message else ""
        for outcome in () if agent is None else agent.outcomes:  # whose line has said what it met
            message = message.replace(f": {outcome.error}", "") if outcome.error else message
        with logger.contextualize(agent=name):
            write = _writer(condition, agent)
            write("{} is now {} ({}){}", condition.type, condition.status, condition.reason, message)


def _writer(condition: Condition, agent: AgentResult | None) -> Callable[..., None]:
    """Return the level at which a condition that flipped is logged. An agent's Ready says what it asks of a person,
    and the others are its details."""
    if agent is not None and condition.type != "Ready":
        return logger.debug
    wanted = agent is not None and (agent.is_held_by_operator or agent.after.waits_as_wanted)
    if condition.status == TRUE or wanted or condition.reason == "Pinned":
        return logger.info
    return logger.error if is_for_people(condition.reason) or condition.reason in _TO_BE_MENDED else logger.warning


def log_outcome(view: AgentEvaluation, outcome: Outcome) -> None:
    """Log what came of an action, right after it."""
    if outcome.result is Result.SKIPPED:
        return
    done = f"{outcome.action.type} {what(outcome.action)}: {outcome.result.value}, {outcome.seconds:.2f} s"
    with logger.contextualize(agent=view.desired.name):
        if outcome.result is Result.FAILED:
            tries = f", {outcome.attempts} tries" if outcome.attempts > 1 else ""
            write = logger.error if is_for_people(outcome.reason) else logger.warning
            write("{}{}: {}: {}", done, tries, outcome.reason, outcome.error)
        elif isinstance(outcome.action, Start) and view.due_by == "heal":
            logger.warning("it was down; {}", done)
        else:
            logger.info("{}", done)
        if outcome.outlived:
            logger.warning("status says stopped, and it still runs: {}", outcome.outlived)


def write_metrics(config: Config, snapshot: Snapshot, log: PassLog) -> None:
    """Write `metrics_textfile`, where the config names one. A pass doesn't fail for it, nor for what it lacks."""
    if config.metrics_textfile is None:
        return
    if lacking := lacks_web(METRICS):
        log.goes_on("metrics", f"metrics_textfile {config.metrics_textfile} is not written: {lacking}")
        return
    from updater.monitoring.metrics import write_textfile

    try:
        write_textfile(config.metrics_textfile, snapshot)
    except OSError as err:
        log.goes_on("metrics", f"metrics_textfile {config.metrics_textfile} can't be written: {err.strerror}")
    else:
        log.over("metrics", f"metrics_textfile {config.metrics_textfile} is written again")
