"""What to reach for one agent: the server's wish, where to go back to, or merely the version in use. Pure.

The planner sees only an `Target` and the observed agent; what comes from memory and from remote files is settled here.
Rollback is no undo code: `target_back` names other content, and the same planner does the rest.
"""

from __future__ import annotations

from attrs import evolve

from probes.observed import Active, HomeRef, ObservedAgent, ProcessState, find_version
from probes.values import frozen
from reconcile.decide.desired import DesiredAgent, Digest, RunState, Signing
from reconcile.decide.records.changes import was_never_up
from reconcile.decide.records.content import EMPTY_FILE, NO_REMOTE, ConfigMemory, Content, DigestFile, content_in_use
from reconcile.decide.records.record import AgentRecord, FailureKind, UpgradePhase


@frozen(kw_only=True)
class Blocker:
    """Why something that a change needs could not be found out."""

    reason: str
    message: str


@frozen(kw_only=True)
class RemoteInputs:
    """What remote files say of one agent. `digests`: of the response, or of the digest file. `config`: as it is now.
    `digest_file`: as it was asked now, or lately."""

    digests: frozenset[Digest] = frozenset()
    config: ConfigMemory | None = None
    digest_file: DigestFile | None = None
    blocker: Blocker | None = None


@frozen(kw_only=True)
class WantedConfig:
    name: str
    digest: str


@frozen(kw_only=True)
class Target:
    """The content and run state to reach.

    - `digests`: empty: any tree on disk of that version will do.
    - `config`: None: leave the file as it is. `bare`: no remote config is wanted at all.
    - `signing`: what must have signed what is brought; what is gone back to, or healed, was in use and needs none.
    - `start_due`: a start was written down and its end is unknown, so it is made once even with an unclear status.
    - `edited`: the config was changed here by hand, and stays so.
    - `displaced`: the content is the tree that a replacement displaced.
    - `never_up`: what is in use was switched to, and not seen running since.
    - `for_good`: what is in use is not started again, however its stop ends: its `cmd` is stop, or it failed since.
    - `keep`: versions that stay on disk, None for all. `stuck`: what could not be removed, and stays.
    - `home`: the one that it is about, where that matters.
    """

    name: str
    run: RunState
    version: str = ""
    url: str = ""
    digests: frozenset[Digest] = frozenset()
    signing: Signing | None = None
    config: WantedConfig | None = None
    bare: bool = False
    start_due: bool = False
    edited: bool = False
    displaced: bool = False
    never_up: bool = False
    for_good: bool = False
    prune: bool = True
    keep: frozenset[str] | None = None
    stuck: frozenset[str] = frozenset()
    home: HomeRef | None = None

    @property
    def content(self) -> Content:
        """What failures and confirmations are written down by."""
        unknown = NO_REMOTE if self.bare else None
        return Content(
            version=self.version,
            digests=frozenset(str(digest) for digest in self.digests),
            config=unknown if self.config is None else self.config.digest,
        )


def target_for(
    desired: DesiredAgent,
    record: AgentRecord | None,
    observed: ObservedAgent,
    remote: RemoteInputs,
    *,
    keep: int,
    healed: bool = False,
) -> Target:
    """Aim at what the server asks. `keep`: how many versions stay on disk. `healed`: it was down until this pass."""
    settled = record is None or record.confirmation is None
    stuck = frozenset[str]() if record is None else record.stuck
    if desired.run is not RunState.START:
        return Target(name=desired.name, run=desired.run, prune=settled, stuck=stuck)
    edited = _is_edited(desired, record, observed, remote, healed=healed)
    config = None
    if remote.config is not None and not edited:
        config = WantedConfig(name=remote.config.name, digest=remote.config.digest)
    return Target(
        name=desired.name,
        run=desired.run,
        version=desired.version,
        url="" if desired.artifact is None else desired.artifact.url,
        digests=remote.digests,
        signing=None if desired.artifact is None else desired.artifact.signing,
        config=config,
        bare=desired.config is None,
        start_due=_start_due(record, observed.active),
        edited=edited,
        never_up=_never_up(record, observed),
        for_good=_was_to_stop_at(record, observed.version_text),
        keep=None if record is None else _retained_versions(desired.version, record, observed, keep),
        prune=settled,
        stuck=stuck,
        home=observed.home,
    )


def why_not_emptied(target: Target, record: AgentRecord | None, observed: ObservedAgent) -> Blocker | None:
    """Why an empty remote config waits: the one in use, or delivered last, is not empty. A truncated upload must not
    empty a fleet; `release` lets it pass."""
    config = target.config
    if config is None or config.digest != EMPTY_FILE or (record is not None and record.empty_released):
        return None
    if not _would_empty(config.name, target.version, record, observed.active):
        return None
    message = f"the remote {config.name} is empty, and the one in use is not: was its upload cut off? "
    message += f"`updater release {target.name}` delivers it all the same"
    return Blocker(reason="ConfigDiffers", message=message)


def _would_empty(name: str, version: str, record: AgentRecord | None, active: Active | None) -> bool:
    """Whether an empty config of this name would take the place of one that is not."""
    last = None if record is None else record.config
    in_use = active.tree.config if active is not None and active.version == version else None
    delivered = last.digest if last is not None and last.name == name else None
    return in_use != EMPTY_FILE and bool({in_use, delivered} - {None, "", EMPTY_FILE})


def target_there(
    desired: DesiredAgent,
    record: AgentRecord | None,
    lives: ObservedAgent,
    there: ObservedAgent,
    remote: RemoteInputs,
) -> Target:
    """Aim at what the server asks in another home than the one that it lives in. Nothing was edited by hand there, and
    nothing is cleaned up before it has moved."""
    wanted = target_for(desired, None, evolve(there, active=None), remote, keep=0)
    for_good = _was_to_stop_at(record, lives.version_text)
    return evolve(wanted, never_up=_never_up(record, lives), for_good=for_good, prune=False)


def target_back(
    desired: DesiredAgent,
    record: AgentRecord,
    observed: ObservedAgent,
    failed: Content,
    *,
    keep: int,
    there: ObservedAgent | None = None,
) -> Target | None:
    """Aim at the pinned version, or at the content to go back to from `failed`; None where neither is on disk. Where
    `cmd` was stop before `failed` was asked for, it goes back to being stopped. `there`: the home to go back to, where
    that is another than the one that it lives in."""
    back = record.pinned_or_fallback
    if desired.run is not RunState.START:
        return None
    if back is None or _was_to_stop_at(record, back.version):
        return _target_to_stay_down(desired, record, observed)
    if there is not None:
        return _target_back_there(desired, back, there, never_up=_never_up(record, observed))
    # What failed stays too: an operator who releases it need not wait for a download.
    retained = _retained_versions(back.version, record, observed, keep) | {failed.version}
    never_up = _never_up(record, observed)
    target = Target(
        name=desired.name,
        run=RunState.START,
        version=back.version,
        never_up=never_up,
        keep=retained,
        stuck=record.stuck,
    )
    active = observed.active
    if active is None or active.version != back.version:
        return target if find_version(observed.staged, back.version) is not None else None
    if record.pin is None and active.version == failed.version:
        return _target_of_the_same_version(target, desired, observed, active, back, failed)
    return target


def _target_of_the_same_version(
    target: Target, desired: DesiredAgent, observed: ObservedAgent, active: Active, back: Content, failed: Content
) -> Target | None:
    """Aim at the tree and the config that were displaced by others of their version; None where they are not there."""
    # Failed content was unpacked by us, so its digests are known: only what has them is to be displaced.
    in_use = content_in_use(active)
    is_failed = bool(failed.digests & in_use.digests) and in_use.same_tree(failed)
    if is_failed and not back.digests & failed.digests:
        # A crash right after the exchange leaves the displaced tree where its replacement was staged.
        replacement = find_version(observed.next, back.version)
        unnamed = replacement is not None and bool(replacement.digests & back.digests)
        if not unnamed and find_version(observed.previous, back.version) is None:
            return None
        target = evolve(target, displaced=True)
    if desired.config is not None and back.config is not None and back.config == observed.previous_config:
        target = evolve(target, config=WantedConfig(name=desired.config.name, digest=back.config))
    return target


def _target_to_stay_down(desired: DesiredAgent, record: AgentRecord, observed: ObservedAgent) -> Target | None:
    """Aim at nothing that runs; None where that is not what was asked, or what runs is not what failed."""
    active = observed.active
    if active is None or not record.told_to_stop:
        return None
    failed = record.failure_of(content_in_use(active), FailureKind.ROLLED_BACK, observed.home)
    if failed is None and active.process is not ProcessState.STOPPED:
        return None
    # One stop is enough where the status is never understood.
    mute = record.stopped_by_us and active.process is ProcessState.UNKNOWN
    never_up = _never_up(record, observed)
    return Target(name=desired.name, run=RunState.STOP, never_up=never_up, for_good=not mute, prune=False)


def _was_to_stop_at(record: AgentRecord | None, version: str | None) -> bool:
    return record is not None and version in record.told_to_stop


def _target_back_there(desired: DesiredAgent, back: Content, there: ObservedAgent, *, never_up: bool) -> Target | None:
    """The home that was left holds what ran there: as it was left, since nothing was done there meanwhile."""
    if back.version not in there.installed:
        return None
    return Target(
        name=desired.name,
        run=RunState.START,
        version=back.version,
        never_up=never_up,
        prune=False,
        home=there.home,
    )


def stranded(record: AgentRecord | None, observed: ObservedAgent) -> Content | None:
    """The content in use, where it was rolled back and stands still: nothing is healed by starting it once more."""
    active = observed.active
    if record is None or active is None or active.process is not ProcessState.STOPPED:
        return None
    failure = record.failure_of(content_in_use(active), FailureKind.ROLLED_BACK, observed.home)
    return None if failure is None else failure.content


def target_to_heal(desired: DesiredAgent, record: AgentRecord | None, observed: ObservedAgent) -> Target | None:
    """Aim at the version in use, running: all that is done for an agent while its change has to wait.

    None: nothing may be done, since it isn't to run, its `cmd` was stop at that version, or no version is in use. A
    replacement that a crash left between its two renames is finished: `.version` names a directory that is missing
    between its `.previous-{version}` and its `.next-{version}`, whole and configured.
    """
    in_use = observed.version_in_use or _half_replaced(observed)
    if desired.run is not RunState.START or in_use is None or _stays_down(record, observed, in_use):
        return None
    return Target(
        name=desired.name,
        run=RunState.START,
        version=in_use,
        start_due=_start_due(record, observed.active),
        prune=False,
    )


def _half_replaced(observed: ObservedAgent) -> str | None:
    """The version that `.version` names, where a crash left it between the two renames of its replacement."""
    named = observed.version_text or ""
    halves = (find_version(observed.next, named), find_version(observed.previous, named))
    return None if None in halves else named


def _stays_down(record: AgentRecord | None, observed: ObservedAgent, in_use: str) -> bool:
    """Whether `cmd` was stop at what is in use, or that was rolled back by an agent that goes back to being stopped."""
    if record is None or not record.told_to_stop:
        return False
    return in_use in record.told_to_stop or stranded(record, observed) is not None


def differs(active: Active, digests: frozenset[Digest]) -> bool:
    """Whether the version in use is known to come from another tarball. Unknown never differs."""
    wanted = {str(digest) for digest in digests}
    kinds = {digest.partition(":")[0] for digest in wanted}
    known = {digest for digest in active.tree.digests if digest.partition(":")[0] in kinds}
    return not known <= wanted


def _is_edited(
    desired: DesiredAgent, record: AgentRecord | None, observed: ObservedAgent, remote: RemoteInputs, *, healed: bool
) -> bool:
    """Whether the file of the version in use differs from the remote one by a change made here alone.

    Without a memory of it (the change-over from another updater, lost records, a remote file that could not be had so
    far) who changed it is not known: the file is left alone, and the next remote change is delivered. What we wrote
    ourselves is known from before it was written, also if the run that wrote it was killed right after. A file that
    was removed here is missed when the agent had to be started anyway: what is down is started at once, and once more
    with its config when that has come.
    """
    active, config = observed.active, remote.config
    if active is None or config is None or active.version != desired.version or differs(active, remote.digests):
        return False
    return _was_edited(record, active, config, healed=healed)


def _was_edited(record: AgentRecord | None, active: Active, remote: ConfigMemory, *, healed: bool) -> bool:
    in_place, last = active.tree.config, None if record is None else record.config
    if in_place is None:
        is_missed = healed or active.process is ProcessState.STOPPED
        return not is_missed and last is not None and last.same_file(remote)
    is_ours = in_place in (remote.digest, None if record is None else record.delivering)
    return not is_ours and (last is None or last.same_file(remote))


def _never_up(record: AgentRecord | None, observed: ObservedAgent) -> bool:
    return observed.active is not None and was_never_up(record, observed.active)


def _start_due(record: AgentRecord | None, active: Active | None) -> bool:
    return (
        record is not None
        and record.confirmation is not None
        and record.confirmation.stage is UpgradePhase.SWITCHING
        and active is not None
        and active.version == record.confirmation.to.version
        and active.process is not ProcessState.RUNNING
    )


def _retained_versions(wanted: str, record: AgentRecord, observed: ObservedAgent, keep: int) -> frozenset[str]:
    """The versions that stay: in use, wanted, last good, gone back to, pinned, and the last used up to `keep` in all.

    Those that memory doesn't know (it was lost) come after those that it does. Without any record all versions stay.
    """
    pinned = None if record.pin is None else record.pin.version
    needed = {wanted, observed.version_in_use, pinned, *(content.version for content in record.former_contents)}
    retained = {version for version in needed if version is not None}
    there = {tree.version for tree in observed.staged}
    known = [version for version in record.used if version in there]
    for version in (*known, *sorted(there.difference(known), reverse=True)):
        if len(retained) >= keep:
            break
        retained.add(version)
    return frozenset(retained)
