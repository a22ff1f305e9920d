"""The time that one run has for its downloads. What takes longer ends where it is, and goes on in the next run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from attrs import define, field

from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.timing.fetch_slot import allowed_s
from reconcile.engine.plan_pool import PlanPool

_POLL_S = 0.2  # until a download that was ended is looked at again


@define
class DownloadBudget:
    """`budget_s`: seconds from now on; None: a download takes as long as it takes."""

    plans: PlanPool
    budget_s: float | None
    _since: float = field(factory=time.monotonic)
    _ended: set[str] = field(factory=set)

    def end_late(self, agents: Iterable[AgentEvaluation]) -> tuple[list[str], float]:
        """End the downloads of these agents that took longer than this run has time for. Return the agents whose plan
        had not begun and was cancelled, and the seconds until the next download may have to end."""
        taken_back: list[str] = []
        soonest = math.inf
        if self.budget_s is None:
            return taken_back, soonest
        spent = time.monotonic() - self._since
        for view in agents:
            name = view.desired.name
            if name in self._ended:
                continue
            plan = self.plans.running.get(name)
            left = allowed_s(view.record, self.budget_s, resumed=plan is not None and plan.resumed) - spent
            if left > 0:
                soonest = min(soonest, left)
                continue
            ends = self.plans.end_download(name)
            if ends is not False:
                self._ended.add(name)
            if ends is None:
                taken_back.append(name)
            soonest = min(soonest, _POLL_S)
        return taken_back, soonest
