"""A switch from 1.0 to 2.0 as it is remembered, how it can fail, and a look at how it stands."""

from __future__ import annotations

from attrs import evolve

from reconcile.decide.records.record import AgentRecord, Failure, FailureKind, PendingUpgrade, UpgradePhase
from reconcile.decide.upgrade.events import Observed
from reconcile.decide.upgrade.steps import Advanced
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.worlds import BOOT, NOW, WATCH, content, seen

TO, BEFORE, ELSEWHERE = content("2.0=A"), content("1.0=B"), content("1.5=S")
SWITCHING = PendingUpgrade(to=TO, before=BEFORE, at=NOW, boot=BOOT)
WATCHING = evolve(SWITCHING, stage=UpgradePhase.WATCHING, deadline=NOW + WATCH, came_up=True)
NOT_REACHED = Failure(content=TO, verdict=FailureKind.NOT_REACHED, reason="Broken", message="no", at=NOW)
FELL = evolve(NOT_REACHED, verdict=FailureKind.ROLLED_BACK)


def look(kept: AgentRecord, world: str, *, now: float = NOW, boot: str = BOOT) -> Advanced:
    return advance(kept, Observed(observed=seen(world), now=now, watch=WATCH, boot=boot))
