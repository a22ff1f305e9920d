"""The errors that the host's side can raise, each with its reason.

The reason is the condition's reason, the metric's label and what tests assert; the message is for people and says
what was met, where, what was expected and what to do. This module holds no rule of its own.
"""

from __future__ import annotations

from typing import ClassVar


class UpdaterError(Exception):
    """The root of all expected failures. `reason` is one of the reasons listed in docs/reasons.md."""

    reason: ClassVar[str] = "InternalError"
    evidence: str = ""
    """What a program said of it, for people who look deeper; at most 64 KiB are kept."""

    @property
    def message(self) -> str:
        return str(self)


class HostError(UpdaterError):
    """The machine is not as a step or a probe needs it."""


class UserMissing(HostError):
    """A user that the response or the config names does not exist on this host."""

    reason = "UserMissing"


class ToolMissing(HostError):
    """An external program that we rely on is not on this host."""

    reason = "ToolMissing"


class SudoRefused(HostError):
    """sudo does not let us work as an agent's user without a password."""

    reason = "SudoRefused"


class InterpreterMissing(HostError):
    """An agent's user can't execute what it must: no Python that our code runs on, or a version's own `control`."""

    reason = "InterpreterMissing"


class Unreadable(HostError):
    """What lies in a home is not known now: nothing may be concluded from it."""

    reason = "StatusUnknown"


class WorkerLost(HostError):
    """The child that works as an agent's user ended, hangs, or says what can't be. What it was doing may be half done,
    as after a power cut."""

    reason = "StatusUnknown"


class PolicyRefused(HostError):
    """The host's own rules do not allow it. The message names the rule."""

    reason = "PolicyRefused"


class ControlMissing(HostError):
    """A version's directory has no `control`, or it can't be executed."""

    reason = "ControlMissing"
