"""Hosts in groups: those for which the same is said of an agent are one. Small groups are the odd ones out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from probes.values import frozen
from updater.output.text import Palette

_ODD_SHARE = 20  # a group is odd where it has less than one in so many of the hosts that have the agent
_FEW = 3  # ... or no more than so many, and is not the only one
_NAMED = 12

KindT = TypeVar("KindT", bound=NamedTuple)
"""What hosts of one group have in common."""


@frozen(kw_only=True)
class Group(Generic[KindT]):
    """Hosts for which the same is said of one agent. `odd`: few, compared with the others."""

    agent: str
    kind: KindT
    hosts: tuple[str, ...]
    odd: bool = False


class Described(NamedTuple):
    """A group for people. `colour`: of the title, in a Palette. `names_hosts`: whether some of them are named, too."""

    title: str
    colour: str
    text: str = ""
    actions: str = ""
    names_hosts: bool = False


def grouped(found: Iterable[tuple[str, str, KindT]]) -> tuple[Group[KindT], ...]:
    """The groups of each agent, the largest first, from (agent, host, kind)."""
    hosts: dict[str, dict[KindT, list[str]]] = defaultdict(lambda: defaultdict(list))
    for agent, host, kind in found:
        hosts[agent][kind].append(host)
    groups: list[Group[KindT]] = []
    for agent, kinds in sorted(hosts.items()):
        largest, everyone = max(map(len, kinds.values())), sum(map(len, kinds.values()))
        for kind, names in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
            few = len(names) * _ODD_SHARE < everyone or len(names) <= _FEW
            groups.append(Group(agent=agent, kind=kind, hosts=tuple(names), odd=few and len(names) < largest))
    return tuple(groups)


def group_lines(
    groups: Sequence[Group[KindT]], describe: Callable[[Group[KindT]], Described], paint: Palette
) -> list[str]:
    """The groups under their agents' names, the hosts of the odd ones named."""
    lines: list[str] = []
    for agent in dict.fromkeys(group.agent for group in groups):
        shown = [group for group in groups if group.agent == agent]
        widest = max(len(str(len(group.hosts))) for group in shown)
        lines += ["", paint("bold", agent)]
        lines += [line for group in shown for line in _lines(group, describe(group), widest, paint)]
    return lines


def _lines(group: Group[KindT], described: Described, widest: int, paint: Palette) -> list[str]:
    count = f"{len(group.hosts):>{widest}} host{'' if len(group.hosts) == 1 else 's'}"
    odd = f"  {paint('bad', 'odd')}" if group.odd else ""
    lines = [f"  {count:<{widest + 6}}  {paint(described.colour, described.title)}  {described.text}".rstrip() + odd]
    margin = f"  {' ' * (widest + 6)}  "
    if described.actions:
        lines.append(f"{margin}{paint('dim', described.actions)}")
    if group.odd or described.names_hosts:
        more = f" and {len(group.hosts) - _NAMED} more" if len(group.hosts) > _NAMED else ""
        lines.append(f"{margin}{', '.join(group.hosts[:_NAMED])}{more}")
    return lines


def group_to_json(group: Group[KindT]) -> dict[str, Any]:
    return {
        "agent": group.agent,
        **group.kind._asdict(),
        "odd": group.odd,
        "count": len(group.hosts),
        "hosts": list(group.hosts),
    }


def hosts_counted(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def left_out_lines(unreadable: Iterable[tuple[str, str]], paint: Palette) -> list[str]:
    """Of each file that is left out the reason."""
    return [line for file, why in unreadable for line in ("", f"{paint('bad', 'left out')}: {file}: {why}")]
