"""A host's places in a fleet's lock: which changes need one, and what is remembered of them. Pure.

A place is needed by a change of an agent that has a version in use, right before its first stop or switch; never by a
first install, a heal, a way back, an operator's rollback or `cmd: stop`. It is kept while a plan goes on, a switch is
within its watch, or the wanted content was rolled back here: so a bad version ends where the places end.
"""

from __future__ import annotations

from collections.abc import Mapping

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.decide.actions import Plan
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.records.content import Content
from reconcile.decide.records.record import AgentRecord, FailureKind

LONGEST_PATIENCE_S = 24 * 3600.0  # of a wait that is no trouble yet


@frozen(kw_only=True)
class Groups:
    """The group of the lock that each agent belongs to; `others` of those that are not named, None: to none."""

    named: Mapping[str, str] = {}
    others: str | None = None

    def of(self, agent: str) -> str | None:
        return self.named.get(agent, self.others)

    @property
    def all(self) -> tuple[str, ...]:
        found = (*self.named.values(), *([] if self.others is None else [self.others]))
        return tuple(dict.fromkeys(found))


@frozen(kw_only=True)
class PlaceNote:
    """A place that was asked for, and may be held. `id` names this host to the lock server at `url`. `agents`: for
    whose changes; none: that is not known. Older versions noted no URL (empty) and no agents."""

    group: str
    id: str
    url: str = ""
    agents: frozenset[str] = frozenset()

    def is_same(self, other: PlaceNote) -> bool:
        """Whether both are one place at the server."""
        return (self.group, self.id, self.url) == (other.group, other.id, other.url)


@frozen(kw_only=True)
class PlaceWait:
    """A place that was refused. `since`: Unix seconds of the first refusal in a row. `message`: the server's words, or
    why there was no answer. `answered`: whether the server answered."""

    group: str
    since: float
    message: str
    answered: bool

    def is_as_wanted(self, now: float) -> bool:
        """Whether to wait is no trouble: the fleet is at work. A clock that was set back makes it none for longer."""
        return self.answered and now - self.since < LONGEST_PATIENCE_S


@frozen(kw_only=True)
class Places:
    """What is remembered of this host's places. `retry_at`: Unix seconds, when one that could not be given back is
    given back again; None: there is none. `notes` have no default: a file without them is damaged, and does not say
    that no place is held."""

    notes: tuple[PlaceNote, ...]
    waits: tuple[PlaceWait, ...] = ()
    retry_at: float | None = None

    def wait_of(self, group: str | None) -> PlaceWait | None:
        return next((wait for wait in self.waits if wait.group == group), None)


def group_asked(desired: DesiredAgent, observed: ObservedAgent, plan: Plan, groups: Groups | None) -> str | None:
    """The group of which a place is asked before this plan's first stop or switch; None: none is needed."""
    if groups is None or desired.run is not RunState.START or observed.active is None:
        return None
    return groups.of(desired.name) if plan.changes_what_is_in_use and not plan.only_starts else None


def keeps_place(record: AgentRecord | None, wanted: Content | None) -> bool:
    """Whether a place that was taken for this agent is kept: a switch is still to be confirmed, what is wanted was
    rolled back here (`wanted` None: anything was, since what is wanted is not known), or an operator went back."""
    if record is None:
        return False
    if wanted is None:
        rolled_back = any(failure.verdict is FailureKind.ROLLED_BACK for failure in record.failures)
    else:
        rolled_back = record.failure_of(wanted, FailureKind.ROLLED_BACK) is not None
    return record.confirmation is not None or rolled_back or record.pin is not None
