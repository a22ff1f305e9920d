"""A saved plan: what `plan --out` wrote is carried out exactly, or refused with the difference named.

Times, ages and how long things last may differ; what was observed, what is desired and the actions may not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probes.host.home_reader import read_regular
from reconcile.storage.small_file import write_text

_LIMIT = 64 * 1024 * 1024
_COMPARED = ("name", "run_user", "work_dir", "observed", "desired", "reason", "heal", "actions")


class PlanUnreadable(Exception):
    """There is no such file. The message is for people."""


class PlanUnusable(Exception):
    """The file is not a saved plan. The message is for people."""


class PlanMoved(Exception):
    """Observed or desired state moved since. `differences`: one line each."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = differences


def save(path: Path, document: str) -> None:
    """Write a plan's JSON, whole or not at all. Raise OSError."""
    write_text(path, f"{document}\n")


def read(path: Path) -> dict[str, Any]:
    """Read a saved plan. Raise PlanUnreadable; PlanUnusable where it is no plan, or one that was cut or edited."""
    try:
        document = json.loads(read_regular(path, _LIMIT))
    except OSError as err:
        raise PlanUnreadable(f"{path} can't be read: {err.strerror}") from None
    except (ValueError, RecursionError) as err:
        raise PlanUnusable(f"{path} is not a saved plan: {err}") from None
    if not _is_plan(document):
        raise PlanUnusable(f"{path} is not a saved plan; make one with `updater plan --out {path.name}`")
    found: dict[str, Any] = document
    return found


def _is_plan(document: object) -> bool:
    """Whether all is there that is looked up by its key; whatever else differs is reported as a difference."""
    if not isinstance(document, dict) or document.get("kind") != "Plan":
        return False
    agents = document.get("agents")
    return isinstance(agents, list) and all(
        isinstance(agent, dict) and isinstance(agent.get("name"), str) and _is_held(agent.get("held"))
        for agent in agents
    )


def _is_held(held: object) -> bool:
    return held is None or (isinstance(held, dict) and {"reason", "meanwhile"} <= held.keys())


def names_in(saved: dict[str, Any]) -> frozenset[str]:
    """The agents that the plan is about."""
    return frozenset(agent["name"] for agent in saved["agents"])


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What moved since a plan was saved, one line each; none: it can be carried out as it is."""
    if saved.get("host") != now["host"]:
        return [f"it was made on {saved.get('host')}, this host is {now['host']}"]
    before = {agent["name"]: agent for agent in saved.get("agents", [])}
    after = {agent["name"]: agent for agent in now["agents"]}
    found = [f"{name}: not in the desired state any more" for name in before.keys() - after.keys()]
    found += [f"{name}: new in the desired state" for name in after.keys() - before.keys()]
    for name in sorted(before.keys() & after.keys()):
        found += _of_agent(name, before[name], after[name])
    return found


def _of_agent(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What moved of one agent. That the same actions are about something else follows from what moved before them."""
    found: list[str] = []
    for key in _COMPARED:
        one, other = before.get(key), after.get(key)
        if not (found and _are_alike(one, other)):
            found += _moved(f"{name}: {key}", one, other)
    return [*found, *_moved(f"{name}: held", _why(before), _why(after))]


def _why(agent: dict[str, Any]) -> object:
    held = agent.get("held")
    return None if held is None else {"reason": held["reason"], "meanwhile": held["meanwhile"]}


def _moved(at: str, before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from _moved(f"{at}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and _are_alike(before, after):
        for one, other in zip(before, after, strict=True):
            yield from _moved(f"{at}: {one['type']}", one, other)
    elif before != after:
        yield f"{at}: was {_value_text(before)}, is {_value_text(after)}"


def _are_alike(before: object, after: object) -> bool:
    """Whether both are actions, one for one of the same types."""
    types = _types(before)
    return types is not None and types == _types(after)


def _types(value: object) -> list[str] | None:
    """The types of actions; None where the value is none."""
    if isinstance(value, list) and all(isinstance(item, dict) and "type" in item for item in value):
        return [str(item["type"]) for item in value]
    return None


def _value_text(value: object) -> str:
    types = _types(value)
    return json.dumps(value, ensure_ascii=False) if types is None else " ".join(types) or "nothing"
