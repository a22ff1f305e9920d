"""Actions as data, plans of them, and what came of them. Pure.

The set is ours and closed: mypy names every place that must know a new action (`assert_never`).
All that can fail without touching the running agent comes before `Stop`; `Prune` stands last.

What is done in a home has `at`: where that is, None for the home that the agent's entry names. An agent that moves has
two homes for a while (relocation.py).
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NoReturn

from attrs import evolve

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.decide.desired import Digest, Signing


@frozen(kw_only=True)
class Fetch:
    """Bring the tarball of a version into our own cache. `digests`: empty, not known yet. `signing`: bring its
    signature, too."""

    type: ClassVar[str] = "fetch"
    url: str
    version: str
    digests: frozenset[Digest]
    signing: Signing | None = None


@frozen(kw_only=True)
class Verify:
    """Compare the cached bytes with every digest that was given, and with their signature where one is asked for."""

    type: ClassVar[str] = "verify"
    digests: frozenset[Digest]
    signing: Signing | None = None


@frozen(kw_only=True)
class Unpack:
    """Make `{directory}/` of the verified tarball by one rename of a complete stage. `directory` is the version, or
    `.next-{version}` where that version is in use."""

    type: ClassVar[str] = "unpack"
    version: str
    directory: str
    url: str
    digests: frozenset[Digest]
    signing: Signing | None = None
    at: HomeRef | None = None


@frozen(kw_only=True)
class Configure:
    """Write a fetched config into a tree that is not in use, or (`directory` None) beside the file of the one in use:
    there `SwitchConfig` renames it."""

    type: ClassVar[str] = "configure"
    name: str
    digest: str
    directory: str | None
    at: HomeRef | None = None


@frozen(kw_only=True)
class Stop:
    """Stop the version in use. `adopt`: mark its tree first, since it was seen running and carries no marker.
    `never_up`: it was never seen running since it was switched to, so that a status which can't be understood after it
    counts as stopped, if no process of it is left (docs/adr/0022). `for_good`: it is not started again, whatever comes
    of the stop. `removed`: its folder was removed while it ran, so it has no control script: its processes are asked to
    end (SIGTERM)."""

    type: ClassVar[str] = "stop"
    version: str
    adopt: bool = False
    never_up: bool = False
    for_good: bool = False
    removed: bool = False
    at: HomeRef | None = None


@frozen(kw_only=True)
class SwitchVersion:
    """Have `.version` name another version, or a first one."""

    type: ClassVar[str] = "switch"
    from_version: str | None
    to: str
    at: HomeRef | None = None


@frozen(kw_only=True)
class SwitchTree:
    """Exchange the tree of the version in use with `.next-{version}`; `previous`: with `.previous-{version}`, to go
    back."""

    type: ClassVar[str] = "switch"
    version: str
    previous: bool = False
    at: HomeRef | None = None

    @property
    def from_version(self) -> str:
        return self.version

    @property
    def to(self) -> str:
        return self.version


@frozen(kw_only=True)
class SwitchConfig:
    """Rename the staged config to its place `name` in the tree of the version in use."""

    type: ClassVar[str] = "switch"
    version: str
    name: str
    digest: str
    at: HomeRef | None = None

    @property
    def from_version(self) -> str:
        return self.version

    @property
    def to(self) -> str:
        return self.version


@frozen(kw_only=True)
class MoveHome:
    """Make `switch` in the new home, then remove the `.version` of the one that the agent leaves."""

    type: ClassVar[str] = "switch"
    switch: SwitchVersion | SwitchTree | SwitchConfig
    leaves: HomeRef

    @property
    def at(self) -> HomeRef | None:
        return self.switch.at

    @property
    def from_version(self) -> str | None:
        return self.switch.from_version

    @property
    def to(self) -> str:
        return self.switch.to


@frozen(kw_only=True)
class Start:
    """Start the version in use."""

    type: ClassVar[str] = "start"
    version: str
    at: HomeRef | None = None


@frozen(kw_only=True)
class Prune:
    """Remove directories and files of our own that nothing needs: names in the home. `again`: what could not be removed
    before is tried beside them, and no word is lost about it."""

    type: ClassVar[str] = "prune"
    names: tuple[str, ...]
    again: tuple[str, ...] = ()
    at: HomeRef | None = None


def assert_never(value: NoReturn) -> NoReturn:
    """Have mypy name a missing arm of a `match` (typing has it from Python 3.11 on)."""
    raise AssertionError(f"no arm for {value!r}")


# Every switch has `from_version`, `to` and `at`, and is a "switch" in JSON.
Switch = SwitchVersion | SwitchTree | SwitchConfig | MoveHome
Action = Fetch | Verify | Unpack | Configure | Stop | Switch | Start | Prune


@frozen(kw_only=True)
class Plan:
    """What is pending for one agent, in order, and why. No code branches on the message."""

    name: str
    reason: str
    message: str
    actions: tuple[Action, ...] = ()

    @property
    def switch(self) -> Switch | None:
        """The one action that puts another content in use; None: the plan has none."""
        return next((action for action in self.actions if isinstance(action, Switch)), None)

    @property
    def move(self) -> MoveHome | None:
        """The switch by which the agent moves to another home; None: it stays where it is."""
        return self.switch if isinstance(self.switch, MoveHome) else None

    @property
    def touches_agent(self) -> bool:
        """Whether more is pending than to clean up."""
        return any(not isinstance(action, Prune) for action in self.actions)

    @property
    def fetches(self) -> bool:
        """Whether it lasts as long as a server likes."""
        return any(isinstance(action, Fetch) for action in self.actions)

    @property
    def changes_what_is_in_use(self) -> bool:
        """Whether what runs is stopped, or another content is put in its place."""
        return any(isinstance(action, Stop | Switch) for action in self.actions)

    @property
    def only_starts(self) -> bool:
        """Whether it merely starts what is in use: that heals, and no answer is needed for it."""
        return all(isinstance(action, Start | Prune) for action in self.actions)


@frozen(kw_only=True)
class Held:
    """A plan that is not acted upon now. `until`: Unix seconds, None for as long as the cause lasts. `meanwhile`: what
    is done nevertheless, so that a held change never hides a crash. `rolled_back`: it was tried, and rolled back.
    `as_wanted`: to wait is what its publisher or operator wants, and no trouble."""

    plan: Plan
    reason: str
    message: str
    meanwhile: Plan
    until: float | None = None
    rolled_back: bool = False
    as_wanted: bool = False


@frozen(kw_only=True)
class ResponseFingerprint:
    """What a server sent for a tarball, and was not it: the headers that identify these bytes, and what they
    were `found` to be, for people."""

    url: str
    etag: str = ""
    modified: str = ""
    length: str = ""
    found: str = ""

    def is_still(self, other: ResponseFingerprint) -> bool:
        """Whether nothing says that other bytes lie there by now, and something says that they are the same."""
        is_known = any((self.etag, self.modified, self.length))
        return is_known and evolve(self, found="") == evolve(other, found="")


class Result(Enum):
    """How an action ended; the value is the word in JSON. UNCHANGED: the disk was already so."""

    DONE = "done"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen(kw_only=True)
class Outcome:
    """What came of one action. `reason` and `error` are empty unless it failed, `evidence` is what the control script
    itself said then. `at`: Unix seconds of when it began, 0 where it did not; `seconds` is wall time of all tries.
    `was_up`: it failed, and meanwhile a status said started. `served`: what a server sent instead of what was wanted.
    `host_fault`: it failed for a want of this host's, and is no failure of what it was about. `outlived`: the processes
    that a stop left though the status said stopped, for people. `lost`: who was to do it was lost, or
    says that the host gave it no process: that proves nothing of the content, but three in a row do."""

    action: Action
    result: Result
    attempts: int = 0
    at: float = 0.0
    seconds: float = 0.0
    reason: str = ""
    error: str = ""
    evidence: str = ""
    was_up: bool = False
    served: ResponseFingerprint | None = None
    host_fault: bool = False
    outlived: str = ""
    lost: bool = False

    @property
    def ended_at(self) -> float:
        return self.at + self.seconds
