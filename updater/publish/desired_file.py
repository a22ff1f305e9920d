"""Set one agent's entry in a desired-state file, and leave the rest of it as it is. Pure: text in, text out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from probes.text import redact_url
from probes.values import frozen
from reconcile.decide.policy.content import is_url
from reconcile.errors import ResponseInvalid
from reconcile.source import Entry
from updater.settings.values import each_once
from updater.sources.wire import parse_answer

_each_once = partial(each_once, twice="stands twice in one object")


class EntryRefused(Exception):
    """The entry can't be set so. The message is for people."""


@frozen(kw_only=True)
class Release:
    """What is published of an agent. `md5`, `sha256`: hex digits; both empty where hosts of several architectures take
    it, whose tarballs differ: each host asks for the digest file beside its own. `url`: the base of its tarballs, None:
    as the entry has it. `cmd` None: as the entry has it, else `start`. `percent`: of the hosts, 0 to 100."""

    name: str
    version: str
    md5: str
    sha256: str
    url: str | None = None
    cmd: str | None = None
    percent: float | None = None


def with_release(text: str | None, release: Release, came_from: str) -> tuple[str, str]:
    """The file's new text, and what changed in words. `text` None: there is no file yet. Raise EntryRefused."""
    document: dict[str, Any] = {"errorMessage": ""} if text is None else _document(text, came_from)
    entry = _entry_of(document, release.name, came_from)
    before = dict(entry)
    url = _url(entry, release, came_from)
    entry |= {"version": release.version, "tarball": url, "md5": release.md5, "sha256": release.sha256}
    if not release.sha256:
        entry.pop("sha256")
    entry["cmd"] = release.cmd or entry.get("cmd") or "start"
    _set_rollout(entry, release, came_from, was=before.get("version"))
    changed = _written(document)
    _check(changed, release.name, came_from)
    return changed, _difference(before, entry)


def _set_rollout(entry: dict[str, Any], release: Release, came_from: str, *, was: object) -> None:
    """Have the entry's rollout reach as many hosts as asked for. `was`: its version before. Raise EntryRefused."""
    rollout = entry.get("rollout")
    if release.percent is not None:
        entry["rollout"] = {**(rollout if isinstance(rollout, dict) else {}), "percent": release.percent}
    elif rollout and was != release.version:
        raise EntryRefused(
            f"{release.name} has a rollout in {came_from}, and gets another version: give --percent N (100: all hosts)"
        )


def _entry_of(document: dict[str, Any], name: str, came_from: str) -> dict[str, Any]:
    """The entry of an agent in a document, added where there is none."""
    entries: list[Any] = document.get("desiredAgents") or []
    document["desiredAgents"] = entries
    found = [entry for entry in entries if isinstance(entry, dict) and entry.get("name") == name]
    if len(found) > 1:
        raise EntryRefused(f"{came_from} names {name} {len(found)} times, expected once: remove the others")
    if not found:
        found = [{"name": name}]
        entries.append(found[0])
    return found[0]


def _url(entry: dict[str, Any], release: Release, came_from: str) -> Any:
    """Where the tarball is served: as asked, else as the entry has it."""
    url = release.url or entry.get("tarball")
    if not url:
        raise EntryRefused(f"{came_from} does not say where {release.name} is served: give --url BASE")
    if not is_url(str(url)):
        raise EntryRefused(f"{redact_url(str(url))} is not an http or https URL, as hosts expect of --url BASE")
    return url


def _document(text: str, came_from: str) -> dict[str, Any]:
    try:
        parse_answer(text.encode(), came_from)
    except ResponseInvalid as err:
        raise EntryRefused(f"{err.message}; it is left as it is") from None
    try:
        document: dict[str, Any] = json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=_each_once, parse_float=_number, parse_constant=_number
        )
    except ValueError as err:
        raise EntryRefused(f"{came_from}: {err}, which could not be written back as it stands; correct it") from None
    return document


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a number of JSON, or too large a one")
    return number


def _written(document: dict[str, Any]) -> str:
    """The file's text: readable, but for halves of characters, which UTF-8 has no form for."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    is_utf8 = not any("\ud800" <= char <= "\udfff" for char in text)
    return (text if is_utf8 else json.dumps(document, indent=2)) + "\n"


def _check(text: str, name: str, came_from: str) -> None:
    """Read the result as a host will."""
    for entry in parse_answer(text.encode(), came_from).entries:
        if isinstance(entry, Entry) and entry.name == name and entry.faults:
            why = "; ".join(f"{fault.key}: {fault.message}" for fault in entry.faults)
            raise EntryRefused(f"{came_from}: hosts would refuse the entry of {name}: {why}")


def _difference(before: dict[str, Any], entry: dict[str, Any]) -> str:
    """What an entry says otherwise than before, in words."""
    old, new = before.get("version"), entry["version"]
    words = [*_changes(before, entry)]
    version = f"{old} -> {new}" if old and old != new else new if old else f"new, {new}"
    return ", ".join((version, *words) if words or old != new else (version, "unchanged"))


def _changes(before: dict[str, Any], entry: dict[str, Any]) -> Iterator[str]:
    """What else than the version was changed."""
    changed = {key for key in (*before, *entry) if before.get(key) != entry.get(key)}
    if "version" not in changed and changed & {"md5", "sha256"}:
        yield "other bytes"
    if "cmd" in changed and (before.get("cmd") or entry["cmd"] != "start"):
        yield f"cmd {entry['cmd']}"
    if before.get("version") and "tarball" in changed:
        yield f"tarball {redact_url(entry['tarball'])}"
    if "rollout" in changed:
        yield f"rollout {entry['rollout']['percent']:g} %"
