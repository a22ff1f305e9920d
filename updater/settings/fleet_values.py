"""The values of the keys of `cfg.json` that are for a fleet, checked: each function raises ValueError.

What they mean is in reconcile/decide/timing/fleet_places.py and windows.py.
"""

from __future__ import annotations

import re

from reconcile.decide.policy.names import is_name
from reconcile.decide.timing.fleet_places import Groups
from reconcile.decide.timing.windows import DAYS, LONGEST_S
from updater.settings.values import parse_time, printable

EXAMPLE = '[{"days": ["mon", "thu"], "start": "23:30", "length": "2h"}]'
GROUP = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
TIME_OF_DAY = r"([01][0-9]|2[0-3]):([0-5][0-9])"
ZONE = r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*"


def groups(value: object) -> Groups:
    """The group of all agents, or of each: `*` for those that are not named."""
    named = {"*": value} if isinstance(value, str) else value
    if not isinstance(named, dict) or not named:
        raise ValueError(
            f'expected a group\'s name, or one for each agent such as {{"*": "web"}}, found {printable(value)}'
        )
    for agent, group in named.items():
        if agent != "*" and not is_name(agent):
            raise ValueError(f"{printable(agent)} can't be an agent's name")
        if not isinstance(group, str) or re.fullmatch(GROUP, group) is None:
            raise ValueError(f"{printable(group)} can't be a group's name: letters, digits and . _ - , at most 64")
    of_agents = dict(named)
    return Groups(others=of_agents.pop("*", None), named=of_agents)


def days(value: object) -> frozenset[int]:
    """Days of the week, 0 for Monday."""
    if not isinstance(value, list) or not value or not all(day in DAYS for day in value):
        raise ValueError(f"expected a list of {', '.join(DAYS)}, found {printable(value)}")
    return frozenset(DAYS.index(day) for day in value)


def minutes(value: object) -> int:
    """A time of day, as minutes after midnight."""
    match = re.fullmatch(TIME_OF_DAY, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'expected a time of day such as "23:30", found {printable(value)}')
    return int(match[1]) * 60 + int(match[2])


def window_length(value: object) -> float:
    seconds = parse_time(value)
    if not 60 <= seconds <= LONGEST_S:
        raise ValueError(f"expected from 1m to 24h, found {printable(value)}")
    return seconds


def time_zone(value: object) -> str:
    """A zone's name in its form. Whether the host knows it is seen when it is needed."""
    if not isinstance(value, str) or re.fullmatch(ZONE, value) is None:
        raise ValueError(f'expected a time zone such as "Europe/Berlin", found {printable(value)}')
    return value
