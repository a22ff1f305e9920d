"""Hosts in groups: those for which the same is said of an agent are one. Small groups are the odd ones out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

from probes.values import frozen
from updater.output.rows import BLANK, Block, Row, Span, block, cell, line, row

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
    """A group for people. `colour`: of the title; good: all is as desired, and quiet leaves it out. `names_hosts`:
    whether some of them are named, too."""

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


def group_rows(
    groups: Iterable[Group[KindT]], describe: Callable[[Group[KindT]], Described], *, quiet: bool
) -> Iterator[Block]:
    """The groups under their agents' names, the hosts of the odd ones named. `quiet`: without those that are well."""
    described = ((group, describe(group)) for group in groups)
    listed = [(group, words) for group, words in described if not (quiet and words.colour == "good")]
    for agent, same in groupby(listed, key=lambda one: one[0].agent):
        of_agent = tuple(same)
        widest = max(len(str(len(group.hosts))) for group, _ in of_agent)
        yield BLANK
        yield line(cell(agent, "name"))
        rows = (row for group, words in of_agent for row in _rows(group, words, widest))
        yield block(rows, indent=1, widths=(widest + len(" hosts"),))


def _rows(group: Group[KindT], described: Described, widest: int) -> Iterator[Row]:
    text = f"  {described.text}" if described.text else ""
    odd = (Span("  "), Span("odd", "bad")) if group.odd else ()
    title = (Span(described.title, described.colour), Span(text), *odd)
    yield row(f"{len(group.hosts):>{widest}} host{'' if len(group.hosts) == 1 else 's'}", title)
    if described.actions:
        yield row("", cell(described.actions, "dim"))
    if group.odd or described.names_hosts:
        more = f" and {len(group.hosts) - _NAMED} more" if len(group.hosts) > _NAMED else ""
        yield row("", f"{', '.join(group.hosts[:_NAMED])}{more}")


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


def fleet_rows(
    headline: Block, groups: Iterable[Block], unreadable: Iterable[tuple[str, str]], *, quiet: bool
) -> Iterator[Block]:
    """All of a report, the headline first. `quiet`: nothing where nothing is below that."""
    below = (*groups, *left_out_rows(unreadable))
    if below or not quiet:
        yield headline
    yield from below


def left_out_rows(unreadable: Iterable[tuple[str, str]]) -> Iterator[Block]:
    """Why each file is left out that is."""
    for file, why in unreadable:
        yield BLANK
        yield line((Span("left out", "bad"), Span(f": {file}: {why}")))
