"""Actions, states and places in a few words: what reports, the display, the log and the page share."""

from __future__ import annotations

from collections.abc import Iterable

from probes.observed import HomeRef, ObservedAgent, ProcessState
from probes.text import redact_url
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Outcome,
    Prune,
    Result,
    Start,
    Stop,
    Switch,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
    assert_never,
)
from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.evaluate import AgentEvaluation

_STATES = {ProcessState.RUNNING: "started", ProcessState.STOPPED: "stopped", ProcessState.UNKNOWN: "unknown"}


def what(action: Action) -> str:
    """What an action is about, in a few words; and in which home, where that is not the entry's."""
    at = None if isinstance(action, Fetch | Verify) else action.at
    return _about(action) if at is None else f"{_about(action)} in {home(at)}"


def home(where: HomeRef) -> str:
    return f"{where.work_dir} as {where.run_user}"


def _about(action: Action) -> str:
    match action:
        case Fetch():
            return redact_url(action.url) if action.url else "URL not known"
        case Verify():
            digest = strongest(str(digest) for digest in action.digests) or "digest not known yet"
            return digest if action.signing is None else f"{digest}, and its signature"
        case Unpack() | Stop() | Start():
            return action.version
        case Configure():
            return action.name
        case SwitchVersion() | SwitchTree() | SwitchConfig() | MoveHome():
            return _in_use_then(action)
        case Prune():
            return ", ".join(action.names)
        case _:
            assert_never(action)


def _in_use_then(switch: Switch) -> str:
    """What a switch brings into use."""
    match switch:
        case SwitchVersion():
            return f"{switch.from_version} -> {switch.to}" if switch.from_version else switch.to
        case SwitchTree():
            return f"{switch.version}, {'back to its former tree' if switch.previous else 'its new tarball'}"
        case SwitchConfig():
            return f"{switch.version}, with the new {switch.name}"
        case MoveHome():
            return f"{switch.to}, out of {home(switch.leaves)}"
        case _:
            assert_never(switch)


def done(outcome: Outcome) -> str:
    """What an action was about. Where a file comes from matters before it is fetched, or where that went wrong."""
    about = what(outcome.action)
    fetched = isinstance(outcome.action, Fetch) and outcome.result is not Result.FAILED
    return about.rpartition("/")[2] if fetched else about


def place_asked(view: AgentEvaluation, action: Action) -> str:
    """Say that a place in the fleet's lock is asked for right before this action; empty: none is."""
    first = next((one for one in view.plan.actions if isinstance(one, Stop | Switch)), None)
    asked = view.place_group is not None and action is first
    return f"  (asks for a place of group {view.place_group})" if asked else ""


def still_runs(processes: str) -> str:
    """What a stop left, for people."""
    return f"status says stopped, and it still runs: {processes}"


def seen(agent: ObservedAgent) -> str:
    """The version in use and its state, in a few words."""
    if agent.active is not None:
        return f"{agent.active.version} {_STATES[agent.active.process]}"
    return "not installed" if agent.version_text is None else f"{agent.version_text or '(empty .version)'}: not on disk"


def wished(desired: DesiredAgent) -> str:
    """What is desired, in a few words."""
    wanted = {RunState.START: f"{desired.version} started", RunState.STOP: "stopped", RunState.OBSERVE: "observed only"}
    return wanted[desired.run]


def strongest(digests: Iterable[str]) -> str | None:
    """The digest to name where one is enough; None: none is known."""
    return max(digests, default=None)  # "sha256:" sorts after "md5:"
