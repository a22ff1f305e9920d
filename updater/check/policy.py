"""The rules of this host: which are in force, which are not set, and what stays open after all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from reconcile.decide.minisign import parse_public_key
from updater.check.subject import CheckContext, CheckFinding, bad, good, note
from updater.settings.composition import asked_url
from updater.settings.config import Config, is_https

_WHERE_RULES_ARE = "set those that hold for this host; docs/security.md has the order, and what each protects from"


def policy(subject: CheckContext) -> Iterator[CheckFinding]:
    """The rules of this host that are in force, each with its value; in one line those that are not set."""
    config = subject.config
    floors = ", ".join(f"{name} {version}" for name, version in sorted(config.min_version.items()))
    rules = {
        "allow_agents": _listed(config.allow_agents),
        "allow_users": _listed(config.allow_users),
        "allow_work_dirs": _listed(config.allow_work_dirs),
        "mirrors": _listed(config.mirrors),
        "min_version": floors or None,
        "refuse_downgrade": _on(config.refuse_downgrade),
        "require_https": _on(config.require_https),
        "require_sha256": _on(config.require_sha256),
        "trusted_keys": _listed(_key_names(config)),
    }
    if config.desired is not None:
        rules["require_signed_desired"] = _on(config.require_signed_desired)
    for name, value in rules.items():
        if value is not None:
            yield good("policy", f"{name}: {value}")
    unset = [name for name, value in rules.items() if value is None]
    if unset:
        message = f"{len(unset)} of {len(rules)} rules of this host are not set: {', '.join(unset)}"
        yield note("policy", message, _WHERE_RULES_ARE)


def protection(subject: CheckContext) -> Iterator[CheckFinding]:
    """What all of it together doesn't protect from."""
    holes = list(_holes(subject.config))
    for message, remedy in holes:
        yield note("protection", message, remedy)
    if not holes:
        yield good("protection", "no known hole in what is configured")


def _holes(config: Config) -> Iterator[tuple[str, str]]:
    """What the rules leave open, and the remedy of each."""
    yield from _open_unsigned(config)
    yield from _open_though_signed(config)
    if os.geteuid() == 0:
        yield (
            "the updater runs as root: a fault in it has root's rights",
            "run it as the agents' user where they allow it",
        )


def _open_unsigned(config: Config) -> Iterator[tuple[str, str]]:
    url, signed = asked_url(config), config.trusted_keys is not None
    plain = url is not None and not is_https(url) and not config.require_signed_desired
    if plain:
        yield "ops-meta is asked over http: anyone on the network can change what runs here", "an https:// URL"
    if not signed and not config.require_https and (plain or not config.require_sha256):
        yield (
            "md5 over http protects from accidents, not from an attacker, who changes tarball and digest together",
            "https to ops-meta and require_sha256, or require_https, or trusted_keys",
        )
    if not signed:
        yield "whoever controls ops-meta or the file server decides what runs here", "trusted_keys"
    if not config.require_https:
        yield "configs (configRemoteUrl) may come over http, and no digest binds them", "require_https"


def _open_though_signed(config: Config) -> Iterator[tuple[str, str]]:
    signed = config.trusted_keys is not None
    if signed:
        yield (
            "configs (configRemoteUrl) are not signed: none takes the place of a program, but an agent obeys what it "
            "reads there, and its control a file that it sources or takes a process id from",
            "mirrors names their server; let no control source a config",
        )
    if signed and not config.refuse_downgrade and not config.min_version:
        yield "an old version that was signed once can be asked for again", "refuse_downgrade, min_version"
    if config.require_signed_desired:
        yield (
            "a desired state that is still served after it was replaced is taken for the latest",
            "an alert on ops_updater_desired_serial_age_seconds, where each day has a new serial",
        )
    elif signed and config.desired is not None:
        yield "who serves `desired` decides which of the signed versions runs", "require_signed_desired"


def signatures(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether what is in use was signed by a key that is trusted today."""
    trusted = subject.config.trusted_keys
    if trusted is None:
        return
    active = [(view, view.observed.active.tree) for view in subject.agents if view.observed.active is not None]
    unsigned = [(view, tree) for view, tree in active if tree.signed_by not in trusted]
    for view, tree in unsigned:
        message = f"{view.desired.name} {tree.version} is in use without a signature of a trusted key"
        remedy = "publish another version, signed: what is in use stays until then (docs/security.md)"
        yield bad("signatures", message, remedy)
    if active and not unsigned:
        yield good("signatures", "all that is in use was signed by a trusted key")


def _key_names(config: Config) -> tuple[str, ...] | None:
    if config.trusted_keys is None:
        return None
    return tuple(f"{parse_public_key(text).name} ({text})" for text in config.trusted_keys)


def _listed(names: Iterable[str] | None) -> str | None:
    return None if names is None else ", ".join(sorted(names)) or "none, so nothing passes"


def _on(flag: bool) -> str | None:
    return "on" if flag else None
