"""`apply`: make passes, once, until all is as desired, or as a saved plan says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from attrs import evolve

from updater.commands.context import NOT_AS_DESIRED, UsageWrong, configured, progress, say

if TYPE_CHECKING:
    from updater.service.converge import ApplyOptions
from updater.commands.run_passes import run_passes

_SHORTEST_BUDGET_S, _BUDGET_SHARE = 60.0, 0.7  # of `apply --once`: at least, and of the interval
_TIMEOUT_S = 600.0  # of `apply`, unless --timeout says otherwise


def apply(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    from updater.service.converge import ApplyOptions

    until_well = not options.once and options.plan is None
    apply_options = ApplyOptions(
        names=frozenset(options.names),
        offline=options.offline,
        splay_s=options.splay or 0.0,
        timeout_s=(_TIMEOUT_S if options.timeout is None else options.timeout) if until_well else None,
        budget_s=_budget_s(options) if options.once else None,
        progress=progress(options),
    )
    return run_passes(options, apply_options) if options.plan is None else _apply_saved(options, apply_options)


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """Raise UsageWrong where one option makes another meaningless."""
    if options.splay is not None and not options.once:
        raise UsageWrong("--splay goes with --once: `updater apply --once --splay 200`")
    if options.plan is not None and (options.names or options.once or options.timeout is not None):
        raise UsageWrong("--plan goes alone: the plan says which agents, and is carried out once")


def _budget_s(options: argparse.Namespace) -> float:
    """Return how long a run of cron's waits for downloads, so that the next one finds the lock free."""
    if options.timeout is not None:
        return float(options.timeout)
    return max(_SHORTEST_BUDGET_S, _BUDGET_SHARE * configured(options).interval)


def _apply_saved(options: argparse.Namespace, apply_options: ApplyOptions) -> int:
    from updater.service.saved_plan import PlanUnreadable, PlanUnusable, names_in, read

    try:
        saved = read(options.plan)
    except PlanUnreadable as err:
        raise UsageWrong(f"{err}; save one with `updater plan --out {options.plan}`") from None
    except PlanUnusable as err:
        return say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {err}")
    return run_passes(options, evolve(apply_options, saved=saved, names=names_in(saved)))
