"""What `status -o json` says of a host beyond what people read: all that planning for it elsewhere needs, and back.

A snapshot holds no secret: of URLs that may hold one (userinfo, query) only a digest is kept, which is enough to tell
whether a response names the same. It decides nothing, and looks up nothing but the uids of users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from probes.codec import decode, encode
from probes.host.facts import uids_of
from probes.observed import ObservedAgent, ObservedHost
from probes.text import redact_url
from probes.values import frozen
from reconcile.assess.pass_context import Assessment, HostContext, HostSnapshot
from reconcile.decide.desired import DesiredAgent
from reconcile.decide.hold import Hold, Requests
from reconcile.decide.policy.accept import users_named
from reconcile.decide.records.record import AgentRecord, Failure
from reconcile.source import Entry
from reconcile.storage.store import StoredState
from updater.fleet.documents import StatusUnusable
from updater.settings.config import Config, ConfigWrong, from_keys


@frozen(kw_only=True)
class HostExport:
    """A host as its `status -o json` described it. `config`: the keys of its cfg.json that decide plans."""

    host: str
    arch: str
    own_user: str
    own_uid: int
    boot: str
    own_folders: tuple[str, ...]
    config: Config
    snapshot: HostSnapshot


def to_json(config: Config, host: HostContext, found: Assessment, state: StoredState) -> dict[str, Any]:
    """The key `snapshot` of a host's status."""
    requests = found.requests
    return {
        "at": found.at,
        "arch": host.policy.arch,
        "own_user": host.policy.own_user,
        "own_uid": host.policy.own_uid,
        "boot": host.boot,
        "own_folders": list(host.policy.own_folders),
        "config": dict(config.deciding),
        "agents": encode(found.seen.agents),
        "kept": encode(state.last_entries),
        "records": [encode(_masked_record(record)) for record in state.records],
        "holds": [{"name": name, **encode(hold)} for name, hold in requests.holds],
        "hold_for_all": encode(requests.for_all),
        "releases": sorted(requests.releases),
        "users": _users(host, found, state),
    }


def _users(host: HostContext, found: Assessment, state: StoredState) -> dict[str, int | None]:
    """The other users that the host had to do with, and their uids; None: it has no such user."""
    named = (
        users_named(state.accepted.answer, host.policy, state.last_entries)
        if state.accepted is not None
        else frozenset()
    )
    names = named | {agent.home.run_user for agent in found.seen.agents} - {host.policy.own_user}
    return dict.fromkeys(sorted(names)) | uids_of(names)


def from_json(document: Mapping[str, Any]) -> HostExport:
    """Take the snapshot out of a status document. Raise StatusUnusable."""
    snapshot = document.get("snapshot")
    if snapshot is None:
        raise StatusUnusable(
            "it has no snapshot: it was made by an older updater, or of some agents alone; "
            "make it with `updater status -o json`"
        )
    try:
        return _read(str(document["host"]), snapshot)
    except ConfigWrong as err:
        raise StatusUnusable(f"its config is not understood: {'; '.join(err.errors)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as err:
        raise StatusUnusable(f"it is damaged, or of a newer updater: {type(err).__name__}: {err}") from None


def _read(host: str, snapshot: Mapping[str, Any]) -> HostExport:
    requests = Requests(
        holds=tuple(
            (hold["name"], decode(Hold, {key: value for key, value in hold.items() if key != "name"}))
            for hold in snapshot["holds"]
        ),
        for_all=decode(Hold | None, snapshot["hold_for_all"]),
        releases=frozenset(snapshot["releases"]),
    )
    seen = ObservedHost(at=float(snapshot["at"]), agents=decode(tuple[ObservedAgent, ...], snapshot["agents"]))
    return HostExport(
        host=host,
        arch=snapshot["arch"],
        own_user=_text(snapshot["own_user"]),
        own_uid=int(snapshot["own_uid"]),
        boot=snapshot["boot"],
        own_folders=tuple(snapshot["own_folders"]),
        config=from_keys(Path("cfg.json"), snapshot["config"]),
        snapshot=HostSnapshot(
            seen=seen,
            state=StoredState(
                last_entries=decode(tuple[Entry, ...], snapshot.get("kept", [])),  # older snapshots have none
                records=decode(tuple[AgentRecord, ...], snapshot["records"]),
            ),
            requests=requests,
            users={str(name): uid if uid is None else int(uid) for name, uid in snapshot.get("users", {}).items()},
        ),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {value!r:.40}")
    return value


# URLs


def masked(url: str) -> str:
    """An URL as it may stand in a snapshot: as it is, or where it may hold a secret, without that and with a digest."""
    if redact_url(url) == url:
        return url
    return f"{redact_url(url)} (sha256:{hashlib.sha256(url.encode()).hexdigest()})"


def unmasked(record: AgentRecord, desired: DesiredAgent) -> AgentRecord:
    """The record with the URLs of the response where they are the same ones."""
    digest_url = None if desired.artifact is None else desired.artifact.digest_url
    config_url = None if desired.config is None else desired.config.url
    for field, url in (("config", config_url), ("remote_config", config_url), ("digest_file", digest_url)):
        memory = getattr(record, field)
        if memory is not None and url is not None and memory.url == masked(url):
            record = evolve(record, **{field: evolve(memory, url=url)})
    return record


def _masked_record(record: AgentRecord) -> AgentRecord:
    for field in ("config", "remote_config", "digest_file"):
        memory = getattr(record, field)
        if memory is not None:
            record = evolve(record, **{field: evolve(memory, url=masked(memory.url))})
    return evolve(record, failures=tuple(map(_masked_failure, record.failures)))


def _masked_failure(failure: Failure) -> Failure:
    served = failure.served
    return failure if served is None else evolve(failure, served=evolve(served, url=masked(served.url)))
