"""The observed-state model: what probes saw, as values. Pure: it looks at nothing itself.

Wrong pictures can't be built: a process state exists only inside the version that `.version` names, so "no version,
but running" has no form here. What is seen running outside of that is a `stray`, and stops all planning for its agent.
"""

from __future__ import annotations

from enum import Enum

from attrs import field

from probes.values import frozen

MARKER = ".ops-updater.json"
VERSION_FILE = ".version"
START_LOG = ".start.log"
STAGE_PREFIX = ".stage-"
STAGED_CONFIG = ".stage-config"
PREVIOUS_CONFIG = ".previous-.config"  # a version's name never begins with a dot, so it is no displaced tree
_RESERVED_NAMES = frozenset({MARKER, VERSION_FILE, START_LOG})
NEXT_PREFIX = ".next-"
PREVIOUS_PREFIX = ".previous-"
_RESERVED_PREFIXES = (STAGE_PREFIX, NEXT_PREFIX, PREVIOUS_PREFIX)


def is_reserved(name: str) -> bool:
    """Whether a name inside a home or a version belongs to the updater (docs/contract.md, section 4)."""
    return name in _RESERVED_NAMES or name.startswith(_RESERVED_PREFIXES)


def next_name(version: str) -> str:
    """Where the replacement of the version in use is staged."""
    return f"{NEXT_PREFIX}{version}"


def previous_name(version: str) -> str:
    """Where the tree goes that a replacement displaced."""
    return f"{PREVIOUS_PREFIX}{version}"


def old_name(directory: str) -> str:
    """What a tree is called while it is removed: what an interruption leaves of it is a leftover as any other."""
    return f"{STAGE_PREFIX}old-{directory[:64]}"


class ProcessState(Enum):
    """What `control status` said, normalised; the value is the word of the wire (`stoped` is the field's spelling)."""

    RUNNING = "started"
    STOPPED = "stoped"
    UNKNOWN = "unknown"

    @property
    def is_running(self) -> bool:
        return self is ProcessState.RUNNING


class Origin(Enum):
    """How a version's directory came to be, by its marker."""

    UNPACKED = "unpacked"  # by us, verified
    ADOPTED = "adopted"  # found running without a marker, marked by us before the first switch away from it
    FOREIGN = "foreign"  # no marker: another updater's or a person's


class Evidence(Enum):
    """What `blocked_by` rests on; the value is the word of JSON."""

    UNSEEN = "unseen"  # not known
    SAID = "said"  # a control status says started, and no process in the home bears it out
    SEEN = "seen"  # a process runs in the home, and no control status says started: a person's shell is one, too
    UP = "up"  # both


@frozen(kw_only=True)
class HomeRef:
    """Where an agent lives and whose it is. `config_name`: the file whose digest the probe takes, None for none."""

    name: str
    work_dir: str
    run_user: str
    config_name: str | None = None

    @property
    def path(self) -> str:
        """Its home, for people."""
        return f"{self.work_dir}/{self.name}"

    @property
    def key(self) -> tuple[str, str, str]:
        """The directory and its user: what two references share that differ in the config's name alone."""
        return self.name, self.work_dir, self.run_user

    def same_home(self, other: HomeRef) -> bool:
        """Whether both mean the same directory under the same user."""
        return self.key == other.key


@frozen(kw_only=True)
class Tree:
    """One version's directory with its `control`. `digests`: of the tarball it came from, as `md5:hex` or
    `sha256:hex`; empty is unknown. `signed_by`: the public key that its tarball's signature was verified with, None
    where none was. `config`: `sha256:hex` of the file that the home names, None where it is absent."""

    version: str
    origin: Origin = Origin.UNPACKED
    digests: frozenset[str] = frozenset()
    signed_by: str | None = None
    config: str | None = None


@frozen(kw_only=True)
class Active:
    """The version in use: `.version` names it and the directory and its control exist. `status_output`: the word
    of a known state, else the last line that its `control status` printed, or why that could not be asked; escaped."""

    tree: Tree
    process: ProcessState
    status_output: str = field(default="", metadata={"key": "said"})

    @property
    def version(self) -> str:
        return self.tree.version


@frozen(kw_only=True)
class ObservedAgent:
    """One agent's home as it is now.

    `version_text`: what `.version` says, even where that names nothing (escaped, at most 64 characters); None: no file.
    `staged`: complete, marked, not in use. `next`: complete replacements in `.next-{version}`. `previous`: displaced
    trees in `.previous-{version}`. `leftovers`: names in the home that only an interrupted step leaves.
    `previous_config`: `sha256:hex` of the config file that a change displaced, kept until the new one is confirmed.
    `no_home`: why its home, which isn't there, can't be made, for people, with the condition's reason `no_home_reason`;
    empty: it is there, or can be.
    `blocked_by`: what runs here although `.version` doesn't say so, or why that is unknown, for people; empty: neither.
    `blocked_reason`: of the condition that says so; `evidence`: what it rests on.
    `removed`: the version of which it is a process, where its folder was removed while it ran: its own control script
    can't stop it any more. Empty: it is none such.
    """

    home: HomeRef = field(metadata={"key": "place"})
    version_text: str | None = None
    active: Active | None = None
    staged: frozenset[Tree] = frozenset()
    next: frozenset[Tree] = frozenset()
    previous: frozenset[Tree] = frozenset()
    leftovers: frozenset[str] = frozenset()
    blocked_by: str = field(default="", metadata={"key": "stray"})
    blocked_reason: str = field(default="StatusUnknown", metadata={"key": "stray_reason"})
    evidence: Evidence = field(default=Evidence.UNSEEN, metadata={"key": "astray"})
    removed: str = ""
    no_home: str = ""
    no_home_reason: str = "WorkDirMissing"
    previous_config: str | None = None

    @property
    def name(self) -> str:
        return self.home.name

    @property
    def version_in_use(self) -> str | None:
        return None if self.active is None else self.active.version

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there, or runs there."""
        return self == ObservedAgent(home=self.home)

    @property
    def installed(self) -> tuple[str, ...]:
        """The complete versions on disk, the one in use included."""
        trees = self.staged if self.active is None else self.staged | {self.active.tree}
        return tuple(sorted(tree.version for tree in trees))


@frozen(kw_only=True)
class ObservedHost:
    """All homes that were looked at in one go. `at`: Unix seconds."""

    at: float
    agents: tuple[ObservedAgent, ...] = ()
    _by_key: dict[tuple[str, str, str], ObservedAgent] = field(init=False, eq=False, repr=False)

    @_by_key.default
    def _index(self) -> dict[tuple[str, str, str], ObservedAgent]:
        # The first of a home counts; a pass asks for each agent several times, and there may be thousands.
        return {agent.home.key: agent for agent in reversed(self.agents)}

    def find(self, home: HomeRef) -> ObservedAgent | None:
        """What was seen of a home, whatever config name it was looked at with."""
        return self._by_key.get(home.key)


def find_version(trees: frozenset[Tree], version: str) -> Tree | None:
    """The tree of a version, if it is among `trees`."""
    return next((tree for tree in trees if tree.version == version), None)
