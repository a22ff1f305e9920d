"""The errors of deciding and doing: two families by what the caller can do, one class per reason.

`TemporaryError` is tried again by the executor within the pass; any other `ReconcileError` is not. When a failed
change is tried again in a later pass is not decided here.
"""

from __future__ import annotations

from probes.errors import UpdaterError


class ReconcileError(UpdaterError):
    """Final within this pass. `retry_after`: in seconds, as the server asked; None if it didn't. `remedy`: what to do,
    where it is known here; the message ends with it."""

    def __init__(self, message: str, *, retry_after: float | None = None, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.retry_after = retry_after
        self.remedy = remedy


class TemporaryError(ReconcileError):
    """May go away by itself within the pass."""


class ServerUnreachable(ReconcileError):
    """No answer from ops-meta: down, too slow, an HTTP error."""

    reason = "ServerUnreachable"


class ResponseInvalid(ReconcileError):
    """ops-meta answered, but not in the contract's form, or with an error message of its own."""

    reason = "ResponseInvalid"


class DesiredUnsigned(ResponseInvalid):
    """The desired state lacks a signature that this host takes (`require_signed_desired`): it counts as no answer."""

    reason = "SignatureInvalid"


class InvalidSpec(ReconcileError):
    """One entry of the response can't be served as it is written."""

    reason = "InvalidSpec"


class FetchFailed(ReconcileError):
    """A download is refused for good: 4xx, too large, a redirect that we don't follow."""

    reason = "FetchFailed"


class FetchInterrupted(TemporaryError):
    """A download broke off: network, stall, 408, 429, 5xx."""

    reason = "FetchFailed"


class DigestMismatch(ReconcileError):
    """The bytes are not those that the digest names."""

    reason = "DigestMismatch"


class SignatureInvalid(ReconcileError):
    """No key that this host trusts has signed these bytes as this agent in this version."""

    reason = "SignatureInvalid"


class UnpackRefused(ReconcileError):
    """The archive holds what we don't make, or is damaged. Nothing of it stays on disk."""

    reason = "UnpackRefused"


class DiskTooSmall(ReconcileError):
    """Not enough room, before or amid writing."""

    reason = "DiskTooSmall"


class WriteFailed(ReconcileError):
    """The disk refused a write, a rename or an fsync."""

    reason = "WriteFailed"


class WorkDirMissing(ReconcileError):
    """The agent's workDir does not exist and can't be made."""

    reason = "WorkDirMissing"


class HomeBusy(ReconcileError):
    """Another updater, of another config folder, acts on this agent's home."""

    reason = "HomeBusy"


class ControlFailed(ReconcileError):
    """A control script did not do what it was called for. `was_up`: meanwhile a status said started. `unseen`: for want
    of resources its status could not be asked. `lost`: what came of the call itself is not known. `no_fork`: it says
    itself that it could start no command."""

    was_up: bool = False
    unseen: bool = False
    lost: bool = False
    no_fork: bool = False


class OutOfResources(TemporaryError):
    """The host has no process, memory or descriptor left for a control call: it says nothing of the agent."""


class StartPostponed(OutOfResources):
    """`control start` could not be called for want of resources."""

    reason = "StartFailed"


class StopPostponed(OutOfResources):
    """`control stop` could not be called for want of resources."""

    reason = "StopFailed"


class ControlTimeout(ControlFailed):
    """A control script did not end within its limit."""

    reason = "ControlTimeout"


class StopFailed(ControlFailed):
    """After `control stop` the status does not say stopped."""

    reason = "StopFailed"


class StartFailed(ControlFailed):
    """After `control start` the status does not say started, twice."""

    reason = "StartFailed"
