"""What to aim at for one agent: the server's wish, or the version in use while no live answer is there. Pure.

The planner sees only an `Aim` and the observed agent; what comes from memory and from remote files is settled here.
"""

from __future__ import annotations

from attrs import frozen

from probes.observed import Active, ObservedAgent, ProcessState, find_version
from reconcile.decide.desired import DesiredAgent, Digest, RunState
from reconcile.decide.records import AgentRecord, ConfigMemory


@frozen(kw_only=True)
class Trouble:
    """Why something that a change needs could not be found out."""

    reason: str
    message: str


@frozen(kw_only=True)
class Findings:
    """What remote files say of one agent. `digests`: of the response, or of the digest file. `config`: as it is now."""

    digests: frozenset[Digest] = frozenset()
    config: ConfigMemory | None = None
    trouble: Trouble | None = None


@frozen(kw_only=True)
class WantedConfig:
    name: str
    digest: str


@frozen(kw_only=True)
class Aim:
    """The content and run state to reach. `digests` empty: whatever is on disk under that version will do. `config`
    None: leave the file as it is. `start_due`: a start was written down and its end is unknown, so it is made once
    even where the status can't be understood. `edited`: the config was changed here by hand, and stays so."""

    name: str
    run: RunState
    version: str = ""
    url: str = ""
    digests: frozenset[Digest] = frozenset()
    config: WantedConfig | None = None
    start_due: bool = False
    edited: bool = False
    prune: bool = True


def aim(desired: DesiredAgent, record: AgentRecord | None, observed: ObservedAgent, findings: Findings) -> Aim:
    """Aim at what the server asks."""
    if desired.run is not RunState.START:
        return Aim(name=desired.name, run=desired.run)
    edited = _is_edited(desired, record, observed, findings)
    config = None
    if findings.config is not None and not edited:
        config = WantedConfig(name=findings.config.name, digest=findings.config.digest)
    return Aim(
        name=desired.name,
        run=desired.run,
        version=desired.version,
        url="" if desired.artifact is None else desired.artifact.url,
        digests=findings.digests,
        config=config,
        start_due=_start_due(record, observed.active),
        edited=edited,
    )


def aim_to_heal(desired: DesiredAgent, record: AgentRecord | None, observed: ObservedAgent) -> Aim | None:
    """Aim at the version in use, running: all that is done for an agent while its change has to wait.

    None: nothing may be done, since it isn't to run or no version is in use. A replacement that a crash left between
    its two renames is finished: `.version` names a directory that is missing between its `.previous-{version}` and its
    `.next-{version}`, whole and configured.
    """
    if desired.run is not RunState.START:
        return None
    named = observed.version_text or ""
    in_use = None if observed.active is None else observed.active.version
    if in_use is None and find_version(observed.next, named) and find_version(observed.previous, named):
        in_use = named
    if in_use is None:
        return None
    return Aim(
        name=desired.name,
        run=RunState.START,
        version=in_use,
        start_due=_start_due(record, observed.active),
        prune=False,
    )


def differs(active: Active, digests: frozenset[Digest]) -> bool:
    """Whether the version in use is known to come from another tarball. Unknown never differs."""
    wanted = {str(digest) for digest in digests}
    kinds = {digest.partition(":")[0] for digest in wanted}
    known = {digest for digest in active.tree.digests if digest.partition(":")[0] in kinds}
    return not known <= wanted


def _is_edited(desired: DesiredAgent, record: AgentRecord | None, observed: ObservedAgent, findings: Findings) -> bool:
    """Whether the file of the version in use differs from the remote one by a change made here alone.

    Without a memory of it (the change-over from another updater, lost records, a remote file that could not be had so
    far) nobody can tell who changed it: the file is left alone, and the next remote change is delivered. A file that
    was removed here is missed when the agent has to be started anyway: it is fetched before the start.
    """
    active, remote = observed.active, findings.config
    if active is None or remote is None or active.version != desired.version or differs(active, findings.digests):
        return False
    if active.tree.config == remote.digest:
        return False
    if record is None or record.config is None:
        return active.tree.config is not None
    if active.tree.config is None and active.process is ProcessState.STOPPED:
        return False
    return (record.config.name, record.config.digest) == (remote.name, remote.digest)


def _start_due(record: AgentRecord | None, active: Active | None) -> bool:
    return (
        record is not None
        and record.open_switch is not None
        and active is not None
        and active.version == record.open_switch.to
        and active.process is not ProcessState.RUNNING
    )
