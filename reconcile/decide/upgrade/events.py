"""What can happen to an upgrade."""

from __future__ import annotations

from probes.observed import Active, HomeRef, ObservedAgent
from probes.values import frozen
from reconcile.decide.actions import Outcome
from reconcile.decide.records.content import Content


@frozen(kw_only=True)
class HomeChange:
    """A switch to another home: out of `left`, into `into`."""

    left: HomeRef
    into: HomeRef


@frozen(kw_only=True)
class SwitchStarted:
    """A switch is about to be tried: this is written down before the stop. `active`: what is in use; `move`: to another
    home; `remote`: the digest of the server's config, which may be what is switched to."""

    to: Content
    active: Active | None
    now: float
    boot: str
    move: HomeChange | None = None
    remote: str | None = None


@frozen(kw_only=True)
class StartConfirmed:
    """The status of the new content said started: its watch begins."""

    now: float
    watch: float


@frozen(kw_only=True)
class Paused:
    """The agent is not asked to run, so it can't prove itself: its watch begins again when it is started again."""

    boot: str


@frozen(kw_only=True)
class Observed:
    """What is seen of an agent that is asked to run, by a pass before it acts."""

    observed: ObservedAgent
    now: float
    watch: float
    boot: str


@frozen(kw_only=True)
class PlanFinished:
    """What came of a plan. `going_back`: it was one of a held agent, and says nothing of what is wanted, but of the way
    back. `home`: the one that it was to move into; None: no move."""

    wanted: Content
    outcomes: tuple[Outcome, ...]
    now: float
    going_back: bool = False
    home: HomeRef | None = None


UpgradeEvent = SwitchStarted | StartConfirmed | Paused | Observed | PlanFinished
