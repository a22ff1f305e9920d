"""Write a remote config: into a tree that is not in use, or beside the file of the one in use.

The bytes are those that the plan was made with; they are not fetched again.
"""

from __future__ import annotations

from probes.home import home_of
from reconcile.act.context import StepContext
from reconcile.act.home_ops import displaced_config, stage_config, write_config
from reconcile.decide.actions import Configure, Result
from reconcile.errors import FetchFailed


def configure(action: Configure, context: StepContext) -> Result:
    """Write the file. Raise FetchFailed where its bytes are not at hand, SignatureInvalid where a program that was
    signed is in its place, DiskTooSmall, WriteFailed."""
    home, worker = home_of(context.home), context.worker
    content = context.contents.get(action.digest)  # an empty file is one, too
    if content is None:
        content = worker.do(displaced_config, home, action.digest)
    if content is None:
        raise FetchFailed(f"the bytes of {action.name} ({action.digest}) are not at hand; the next pass fetches them")
    if action.directory is None:
        worker.do(stage_config, home, action.name, action.digest, content, context.signed)
    else:
        worker.do(write_config, home.tree(action.directory), action.name, content, context.signed)
    return Result.DONE
