"""Carry out operations in an agent's home as the agent's user. The operations are handed in: it knows none of them.

For the updater's own user they run in this process. For any other user this is the one place where a child under
that user's rights would be made; until it exists such a user is refused here too, and not only by the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from probes.errors import PolicyRefused
from probes.host.facts import own_user

T = TypeVar("T")


def as_user(run_user: str, operation: Callable[[], T]) -> T:
    """Carry out `operation` with the rights of `run_user`. Raise PolicyRefused where we can't become that user."""
    own = own_user().name
    if run_user != own:
        raise PolicyRefused(
            f"rule run_user: the agent's user is {run_user!r} and the updater runs as {own!r}; "
            f"agents of other users are not served by this version"
        )
    return operation()
