"""What remote files say of one agent, as far as it matters now: its config always, a digest file only now and then.

It knows when to ask; how is the business of remote.py. Nothing is written: what was learned goes on as a value.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from probes.observed import ObservedAgent
from reconcile.decide.aim import Findings, Trouble, differs
from reconcile.decide.desired import DesiredAgent, Md5, RunState
from reconcile.decide.records import AgentRecord, ConfigMemory, DigestFile
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.remote import Known, Remote

# The digest file of a change that waits is asked again at each pass with this number, so that one which was put right
# is seen within an hour or so, and a fleet that waits costs its server little.
_ASKED_EVERY = 10


def find_out(
    desired: DesiredAgent,
    observed: ObservedAgent,
    record: AgentRecord | None,
    remote: Remote | None,
    waiting: Callable[[Findings], bool],
) -> tuple[Findings, bytes | None]:
    """Ask what must be known for a plan; and the config's bytes, where they were fetched. A digest file matters only
    where a version must change. `waiting`: whether a change to what these findings say is not made now anyway."""
    if desired.run is not RunState.START or desired.artifact is None:
        return Findings(), None
    if desired.barred is not None:
        return Findings(digests=desired.artifact.digests), None  # what may not be used is not asked for either
    artifact, memory = desired.artifact, None if record is None else record.config
    if remote is None:
        seen = record.remote_config if record is not None and record.remote_config is not None else memory
        known = seen if seen is not None and _same(seen, desired) else None
        return Findings(digests=artifact.digests, config=known), None
    found, content = Findings(digests=artifact.digests), None
    in_place = observed.active is not None and observed.active.version == desired.version
    try:
        if desired.config is not None:
            # Where the file has to be written its bytes are needed, and "unchanged" would bring none.
            active = observed.active if in_place else None
            has_one = active is not None and active.tree.config is not None and not differs(active, artifact.digests)
            config, content = _ask_config(desired, memory if has_one else None, remote)
            found = evolve(found, config=config)
    except (FetchFailed, FetchInterrupted) as err:
        found = evolve(found, trouble=Trouble(reason=err.reason, message=err.message))
    if artifact.digest_url is None or in_place:
        return found, content
    file = None if record is None or record.digest_file is None else record.digest_file
    if file is not None and file.url != artifact.digest_url:
        file = None
    if file is not None and file.unasked + 1 < _ASKED_EVERY:
        remembered = _with_digest(found, evolve(file, unasked=file.unasked + 1))
        if waiting(remembered):
            return remembered, content
    try:
        return _with_digest(found, _ask_digest_file(artifact.digest_url, file, remote)), content
    except (FetchFailed, FetchInterrupted) as err:
        return evolve(found, trouble=Trouble(reason=err.reason, message=err.message)), content


def _with_digest(found: Findings, file: DigestFile) -> Findings:
    digest = Md5(file.digest.removeprefix("md5:"))
    return evolve(found, digests=found.digests | {digest}, digest_file=file)


def _ask_digest_file(url: str, file: DigestFile | None, remote: Remote) -> DigestFile:
    known = None if file is None or file.etag is None else Known(digest=file.digest, etag=file.etag)
    found = remote.digest(url, known)
    return DigestFile(url=url, digest=found.digest, etag=found.etag)


def _ask_config(
    desired: DesiredAgent, memory: ConfigMemory | None, remote: Remote
) -> tuple[ConfigMemory, bytes | None]:
    assert desired.config is not None
    known = None
    if memory is not None and memory.etag is not None and _same(memory, desired):
        known = Known(digest=memory.digest, etag=memory.etag)
    found = remote.config(desired.config.url, known)
    memory = ConfigMemory(name=desired.config.name, url=desired.config.url, digest=found.digest, etag=found.etag)
    return memory, found.content


def _same(memory: ConfigMemory, desired: DesiredAgent) -> bool:
    return desired.config is not None and (memory.name, memory.url) == (desired.config.name, desired.config.url)
