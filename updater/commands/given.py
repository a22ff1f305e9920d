"""What commands make of their options: the config, what it needs to look and ask, and one look."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from probes.values import frozen
from updater.commands.ending import NO_DESIRED_STATE, UsageWrong, say
from updater.config import Config, load
from updater.rights import refuse_loose

if TYPE_CHECKING:
    from reconcile.assess import Ask, Surroundings
    from reconcile.store import State
    from updater.render import Document


def configured(options: argparse.Namespace, *, strict: bool = False) -> Config:
    """The config. `strict`: what is to run on and on is not begun without its password. Raise ConfigWrong, and
    FolderUnusable where root may not go by it: it says what is executed, and what is sent where."""
    config = load(options.config, strict=strict)
    refuse_loose(config)
    return config if options.log_level is None else evolve(config, log_level=options.log_level)


def surroundings(config: Config, options: argparse.Namespace) -> Surroundings:
    """What a pass or a look is made with. Raise UsageWrong on a desired state that can't be meant."""
    from updater import wiring

    desired = options.desired
    if desired is not None and options.offline:
        raise UsageWrong("--desired and --offline exclude each other")
    if desired is None or "://" not in desired:
        return wiring.surroundings(config, wiring.Chosen(desired=None if desired is None else Path(desired)))
    try:
        return wiring.surroundings(config, wiring.Chosen(desired=desired))
    except ValueError as err:
        raise UsageWrong(f"--desired {err}") from None


def missing_tools() -> str:
    """What is missing of the tools that we rely on, for people; empty: nothing."""
    from updater.tools import missing

    return "; ".join(missing())


@frozen(kw_only=True)
class Looked:
    """What a look found, and what it was made with."""

    document: Document
    config: Config
    around: Surroundings
    state: State


def look(options: argparse.Namespace, kind: str, ask: Ask) -> Looked | int:
    """Look, ask and plan; or the exit code where that can't be."""
    from reconcile.assess import NoDesiredState, assess, narrowed, own_conditions, stored_condition
    from reconcile.store import read_state
    from updater.render import Document, assessed

    config = configured(options)
    around = surroundings(config, options)
    state = read_state(config.var / "state.db")
    missing = "; ".join(filter(None, (missing_tools(), around.lacking)))
    try:
        found = assess(around, state, ask)
    except NoDesiredState as err:
        return say(NO_DESIRED_STATE, err.message)
    finally:
        around.hands.end()
    known = (found.refused, found.ruled_out, found.bystanders)
    asked_for = wanted(options.names, [view.desired.name for view in found.agents], *known)
    found = narrowed(found, asked_for)
    document = Document(
        kind=kind,
        host=around.facts.hostname,
        assessment=found,
        agents=tuple(assessed(view, found.at) for view in found.agents),
        conditions=own_conditions(found, state, stored=stored_condition(state.trouble), missing_tools=missing),
    )
    return Looked(document=document, config=config, around=around, state=state)


def wanted(names: list[str], *known: Iterable[object]) -> Callable[[str], bool]:
    """Which agents were asked for. Raise UsageWrong on a name that nobody knows."""
    there = {str(getattr(item, "name", item)) for items in known for item in items}
    unknown = [name for name in names if name not in there]
    if unknown:
        listed = ", ".join(sorted(there)) or "none"
        raise UsageWrong(f"no agent named {', '.join(unknown)}; the desired state names: {listed}")
    return (lambda name: name in names) if names else (lambda name: True)
