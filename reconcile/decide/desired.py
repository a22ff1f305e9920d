"""The desired-state model: what the server asks of this host, after the host's policy has accepted it. Pure."""

from __future__ import annotations

from enum import Enum
from functools import cached_property

from probes.observed import HomeRef
from probes.values import frozen
from reconcile.source import Entry, Rollout


class RunState(Enum):
    """What `cmd` asks; the value is the word of the wire."""

    START = "start"
    STOP = "stop"
    OBSERVE = ""


@frozen
class Md5:
    """Protects from accidents, not from an attacker: all that the field's servers give."""

    hex: str

    def __str__(self) -> str:
        return f"md5:{self.hex}"


@frozen
class Sha256:
    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


Digest = Md5 | Sha256


@frozen(kw_only=True)
class Signing:
    """What must have signed a tarball. `url`: where its signature is; `comment`: what the signature's trusted comment
    must be, exactly; `keys`: trusted public keys, as minisign writes them."""

    url: str
    comment: str
    keys: frozenset[str]


@frozen(kw_only=True)
class Artifact:
    """A tarball. `digests`: those that the response carries; `digest_url`: the digest file, where it carries none.
    `signing`: None where this host asks for no signature."""

    url: str
    digests: frozenset[Digest] = frozenset()
    digest_url: str | None = None
    signing: Signing | None = None


@frozen(kw_only=True)
class DesiredConfig:
    """A file that is fetched into the version's directory before the start, and wins over the tarball's own."""

    name: str
    url: str


@frozen(kw_only=True)
class RuleViolation:
    """A rule of this host that is broken, and how, for people. `reason`: of the condition that says so."""

    rule: str
    message: str
    reason: str = "PolicyRefused"


@frozen(kw_only=True)
class DesiredAgent:
    """One accepted entry. `version` is there whenever `run` is START, and `artifact` unless today's entry is refused
    and this is the one accepted last. `barred`: why nothing is changed, by a rule of this host; what is in use is
    healed all the same."""

    name: str
    run: RunState
    run_user: str
    work_dir: str
    version: str = ""
    artifact: Artifact | None = None
    config: DesiredConfig | None = None
    rollout: Rollout | None = None
    barred: RuleViolation | None = None

    @cached_property
    def home(self) -> HomeRef:
        config_name = None if self.config is None else self.config.name
        return HomeRef(name=self.name, work_dir=self.work_dir, run_user=self.run_user, config_name=config_name)

    def is_to_run(self, version: str) -> bool:
        """Whether it is this version that is to run."""
        return self.run is RunState.START and version == self.version


@frozen(kw_only=True)
class Refusal:
    """One entry that is not acted upon, with the reason and the rule that it broke."""

    name: str
    reason: str
    rule: str
    message: str

    @property
    def summary(self) -> str:
        """All but its name, in a line."""
        return f"refused: {self.reason}, rule {self.rule}: {self.message}"


def refused_since(before: tuple[Refusal, ...], now: tuple[Refusal, ...]) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """The entries that were not refused before, or not for this, and the names of which none is refused any more."""
    names = {entry.name for entry in now}
    new = tuple(entry for entry in dict.fromkeys(now) if entry not in before)
    return new, tuple(dict.fromkeys(entry.name for entry in before if entry.name not in names))


@frozen(kw_only=True)
class DesiredHost:
    """What this host is asked to be. Entries that are refused are values of their own: the others are served.
    `ruled_out`: those that are none of this host's business, by the rule `allow_agents`. `last_entries`: of each
    agent that was named the one accepted last, for the next answer; as far as healing needs it."""

    agents: tuple[DesiredAgent, ...] = ()
    refused: tuple[Refusal, ...] = ()
    ruled_out: tuple[Refusal, ...] = ()
    last_entries: tuple[Entry, ...] = ()
