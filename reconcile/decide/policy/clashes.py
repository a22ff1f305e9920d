"""Which agents get into each other's way: one name or one home twice, a home inside another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from itertools import chain

from reconcile.decide.desired import DesiredAgent
from reconcile.decide.policy.inputs import Lookups


def find_clashes(agents: list[DesiredAgent], lookups: Lookups) -> dict[str, str]:
    """Why agents get into each other's way, by their names: one name or one home twice, a home inside another's. As
    their entries name them, and as links lead."""
    return {**_clashes_in(agents, lambda path: lookups.real(path)), **_clashes_in(agents, str)}


def _clashes_in(agents: list[DesiredAgent], real: Callable[[str], str]) -> dict[str, str]:
    homes = Counter(real(agent.home.path) for agent in agents)
    names = Counter(agent.name for agent in agents)
    nested = _nested(homes.keys())
    found = {}
    for agent in agents:
        home = real(agent.home.path)
        if homes[home] > 1 or names[agent.name] > 1:
            found[agent.name] = f"more than one entry is for {agent.name} or its home {home}; ops-meta must send one"
        elif home in nested:
            found[agent.name] = (
                f"its home {home} lies inside another agent's, or holds one; ops-meta must name places apart"
            )
    return found


def _nested(homes: Set[str]) -> set[str]:
    """The homes that lie inside another one, or hold one."""
    pairs = ((outer, home) for home in homes for outer in _parents(home) if outer in homes)
    return set(chain.from_iterable(pairs))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]
