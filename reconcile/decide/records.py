"""What is remembered of an agent between passes, and what a pass makes of it. Pure; kept by reconcile/store.py.

Memory never decides what is on disk: it holds only what the disk can't tell.
"""

from __future__ import annotations

from attrs import evolve, frozen

from probes.observed import ObservedAgent
from reconcile.decide.actions import Outcome, Result, Start
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import DesiredAgent, RunState


@frozen(kw_only=True)
class ConfigMemory:
    """The remote config that was last delivered (or found in place at the change-over). `digest`: `sha256:hex`."""

    name: str
    url: str
    digest: str
    etag: str | None = None


# What is remembered of an agent that was seen in use while no remote config was wanted for it: one that is wanted later
# is new, whatever file of that name the tarball brought.
NO_CONFIG = ConfigMemory(name="", url="", digest="")


@frozen(kw_only=True)
class OpenSwitch:
    """A stop-switch-start that was begun and of whose end nothing is known yet."""

    from_version: str | None
    to: str


@frozen(kw_only=True)
class AgentRecord:
    """`work_dir`, `run_user`: where it was managed last. An agent without a record is one that we never managed, or
    of which our memory was lost. `config` None: nothing is known of it yet, since it could not be asked for."""

    name: str
    work_dir: str
    run_user: str
    config: ConfigMemory | None = None
    open_switch: OpenSwitch | None = None
    conditions: tuple[Condition, ...] = ()


def record_for(desired: DesiredAgent, record: AgentRecord | None) -> AgentRecord:
    """The record to write notes of this agent into: the one that is kept, or a new one at its place."""
    if record is not None:
        return evolve(record, work_dir=desired.work_dir, run_user=desired.run_user)
    return AgentRecord(name=desired.name, work_dir=desired.work_dir, run_user=desired.run_user)


def remember_config(
    record: AgentRecord, desired: DesiredAgent, observed: ObservedAgent, found: ConfigMemory | None, *, edited: bool
) -> AgentRecord:
    """Take up what the remote config is now, once the version in use has it, or has a local edit in its place.

    A change that is still to be delivered is not taken up: it must differ again at the next pass.
    """
    if desired.run is not RunState.START or observed.active is None or observed.active.version != desired.version:
        return record
    if desired.config is None and record.config is None:
        return evolve(record, config=NO_CONFIG)
    if found is None:
        return record
    if edited or observed.active.tree.config == found.digest:
        return evolve(record, config=found)
    return record


def settle_switch(record: AgentRecord, observed: ObservedAgent, outcomes: tuple[Outcome, ...] = ()) -> AgentRecord:
    """Close an open switch of which the end is known: what is in use runs, or its start was tried and failed.

    A start that failed is not made again merely because it was due: where the status can't be understood, each pass
    would call it once more, and not every script refuses a second copy.
    """
    runs = observed.active is not None and observed.active.process.is_running
    tried = any(isinstance(outcome.action, Start) and outcome.result is not Result.SKIPPED for outcome in outcomes)
    return evolve(record, open_switch=None) if runs or tried else record
