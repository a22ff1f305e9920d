"""Remove what nothing needs: leftovers of interrupted steps, displaced trees, versions beyond `keep`. Only our own."""

from __future__ import annotations

from probes.home import home_of
from reconcile.act.context import StepContext
from reconcile.act.home_ops import remove
from reconcile.decide.actions import Prune, Result

_LIMIT_S = 1800.0  # for many files on a slow disk


def prune(action: Prune, context: StepContext) -> Result:
    """Remove each name. Raise WriteFailed. UNCHANGED where none of them was there."""
    worker = context.workers.of(context.home.run_user, _LIMIT_S)
    removed = worker.do(remove, home_of(context.home), action.names, action.again)
    return Result.DONE if removed else Result.UNCHANGED
