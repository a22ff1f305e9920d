"""What a source of desired state takes and gives: `exchange(HostReport) -> Answer`.

An `Answer` holds well-formed entries, not yet checked against the host's policy (decide/policy does that, once, for
every source and for the kept state too). How an answer travels is the business of the sources in updater/sources.
"""

from __future__ import annotations

from typing import Protocol

from probes.values import frozen


@frozen(kw_only=True)
class ReportedAgent:
    """One agent as the report tells it. `timestamp`: Unix seconds of the probe. `status`: `started`, `stoped`, or the
    last line of what the script printed, escaped, at most 200 characters."""

    name: str
    version: str
    status: str
    timestamp: int
    run_user: str
    work_dir: str
    extra: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class HostReport:
    """What a heartbeat reports to ops-meta (docs/contract.md, section 1)."""

    hostname: str
    ip: str
    run_user: str
    updater_version: str
    agents: tuple[ReportedAgent, ...] = ()


@frozen
class Fault:
    """A key of an entry whose value has no usable form, and why, for people."""

    key: str
    message: str


@frozen(kw_only=True)
class Rollout:
    """To how many hosts an entry is rolled out. `percent`: 0 to 100, counted in hundredths. `seed`: what the hosts are
    shuffled by; None: by the version, so that each version begins with other hosts."""

    percent: float
    seed: str | None = None


@frozen(kw_only=True)
class Entry:
    """One agent of a response: strings as the server meant them, absent ones empty, `None` where absence has a meaning
    of its own. Unchecked. `faults`: the keys that have no usable form, which count as absent; `name` is then what could
    be read of it, escaped."""

    name: str
    version: str = ""
    tarball: str = ""
    md5: str = ""
    sha256: str = ""
    cmd: str = ""
    run_user: str | None = None
    work_dir: str | None = None
    config_file_name: str = ""
    config_remote_url: str = ""
    rollout: Rollout | None = None
    faults: tuple[Fault, ...] = ()


@frozen(kw_only=True)
class Malformed:
    """An entry of which not even a name can be read. `name` is its place in the list: `#3`."""

    name: str
    message: str


@frozen(kw_only=True)
class DesiredSignature:
    """The one of `trusted_keys` that signed a desired state, and its serial. `digest`: sha256 of its bytes, in hex."""

    key: str
    serial: int
    digest: str


@frozen(kw_only=True)
class Answer:
    """A valid answer. `came_from` is where from, for people, without userinfo or query. `signature`: the one that was
    verified, where one is asked for."""

    entries: tuple[Entry | Malformed, ...]
    came_from: str
    signature: DesiredSignature | None = None


class DesiredSource(Protocol):
    """Anything that can be asked for the desired state. The set is open: others add sources."""

    @property
    def came_from(self) -> str:
        """Where answers come from, for people, without userinfo or query."""

    @property
    def takes_reports(self) -> bool:
        """Whether a report arrives: where not, what a pass changed is no reason to ask once more."""

    def exchange(self, report: HostReport) -> Answer:
        """Report, and get the desired state. Raise ServerUnreachable or ResponseInvalid; never anything else."""
