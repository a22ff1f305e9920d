"""`check`: is this host fit, and what do its rules protect from? One line each, with the remedy. Changes nothing.

A check is a function from the config to findings, and its line in CHECKS. None asks a server. What is bad is to be
mended; a note is what the operator may have meant so, and what it leaves open.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path

from attrs import frozen

from reconcile.decide.minisign import parse_public_key
from updater.config import Config, ConfigWrong, load
from updater.render import FORMAT_VERSION, Palette
from updater.rights import loose
from updater.tools import missing


class State(Enum):
    """How a thing is; the value is the word in text and JSON."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@frozen(kw_only=True)
class Finding:
    """One line. `about`: the check that it is of. `remedy`: what to do, empty where nothing is to be done."""

    about: str
    state: State
    message: str
    remedy: str = ""


Check = Callable[[Config], Iterable[Finding]]


def check(path: Path) -> tuple[Finding, ...]:
    """Make all checks of a config file. Where that is wrong, its errors are all that there is to say."""
    try:
        config = load(path)
    except ConfigWrong as err:
        remedy = "see docs/configuration.md"
        return tuple(Finding(about="config", state=State.BAD, message=line, remedy=remedy) for line in err.errors)
    fine = Finding(about="config", state=State.GOOD, message=f"{config.path} is as it should be")
    return (fine, *(finding for one in CHECKS for finding in one(config)))


def tools(config: Config) -> Iterator[Finding]:
    """What a pass relies on beside Python."""
    lacking = missing(config)
    for line in lacking:
        what, _, remedy = line.partition(": run ")
        yield Finding(about="tools", state=State.BAD, message=what, remedy=f"run {remedy}" if remedy else "install it")
    if not lacking:
        yield Finding(about="tools", state=State.GOOD, message="all that it relies on is there")


def rights(config: Config) -> Iterator[Finding]:
    """Who can write what decides about us, and read what is secret."""
    found = [
        *(
            Finding(about="rights", state=State.BAD, message=flaw.message, remedy=flaw.remedy)
            for flaw in loose(config, os.geteuid(), os.getegid())
        ),
        *_readable_secrets(config),
    ]
    if config.var.is_dir() and not os.access(config.var, os.W_OK | os.X_OK):
        remedy = f"give it to the user that runs the updater: chown USER {config.var}"
        found.append(Finding(about="rights", state=State.BAD, message=f"{config.var} can't be written", remedy=remedy))
    yield from found or [
        Finding(about="rights", state=State.GOOD, message="nobody else can write the config or var/, or read a secret")
    ]


def _readable_secrets(config: Config) -> Iterator[Finding]:
    secrets: list[tuple[str, Path]] = []
    if config.auth is not None and config.auth.password_file is not None:
        secrets.append(("auth.password_file", config.auth.password_file))
    if config.proxy is not None and "@" in config.proxy:
        secrets.append(("proxy, with a password in its URL,", config.path))
    for what, path in secrets:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IROTH:
            message = f"{what} stands in {path}, which everybody can read"
            yield Finding(about="rights", state=State.BAD, message=message, remedy=f"chmod o-r {path}")


def policy(config: Config) -> Iterator[Finding]:
    """The rules of this host that are in force, and for each that is not set what it therefore takes."""
    floors = ", ".join(f"{name} {version}" for name, version in sorted(config.min_version.items()))
    rules: tuple[tuple[str, str | None, str], ...] = (
        ("allow_agents", _listed(config.allow_agents), "any agent"),
        ("allow_users", _listed(config.allow_users), "agents of any user that it can work as"),
        ("allow_work_dirs", _listed(config.allow_work_dirs), "any directory but those of the system"),
        ("mirrors", _listed(config.mirrors), "tarballs and configs from any server"),
        ("min_version", floors or None, "any version"),
        (
            "refuse_downgrade",
            _on(config.refuse_downgrade),
            "an older version than the one in use",
        ),
        ("require_https", _on(config.require_https), "http"),
        ("require_sha256", _on(config.require_sha256), "tarballs that md5 alone names"),
        ("trusted_keys", _listed(_key_names(config)), "tarballs that nobody signed"),
    )
    for name, value, otherwise in rules:
        if value is not None:
            yield Finding(about="policy", state=State.GOOD, message=f"{name}: {value}")
        else:
            message, remedy = f"{name} is not set: takes {otherwise}", f"set {name}, see docs/configuration.md"
            yield Finding(about="policy", state=State.NOTE, message=message, remedy=remedy)


def protection(config: Config) -> Iterator[Finding]:
    """What all of it together doesn't protect from."""
    holes = list(_holes(config))
    for message, remedy in holes:
        yield Finding(about="protection", state=State.NOTE, message=message, remedy=remedy)
    if not holes:
        yield Finding(about="protection", state=State.GOOD, message="no known hole in what is configured")


def _holes(config: Config) -> Iterator[tuple[str, str]]:
    source = config.server if config.desired is None else config.desired
    plain = isinstance(source, str) and not source.lower().startswith("https:")
    signed = config.trusted_keys is not None
    if plain:
        yield "ops-meta is asked over http: who is on the network can tell this host what to run", "an https:// URL"
    if not signed and not config.require_https and (plain or not config.require_sha256):
        yield (
            "md5 over http protects from accidents, not from an attacker, who changes tarball and digest together",
            "https to ops-meta and require_sha256, or require_https, or trusted_keys",
        )
    if not signed:
        yield "who controls ops-meta or the file server decides what runs here", "trusted_keys"
    if not config.require_https:
        yield "configs (configRemoteUrl) may come over http, and no digest binds them", "require_https"
    elif signed:
        yield "configs (configRemoteUrl) are not signed: their server is trusted", "mirrors names it"
    if signed and not config.refuse_downgrade and not config.min_version:
        yield "an old version that was signed once can be asked for again", "refuse_downgrade, min_version"
    if os.geteuid() == 0:
        yield "it runs as root: a fault in it is one of root's", "run it as the agents' user where they allow it"


CHECKS: tuple[Check, ...] = (tools, rights, policy, protection)


def _key_names(config: Config) -> tuple[str, ...] | None:
    if config.trusted_keys is None:
        return None
    return tuple(f"{parse_public_key(text).name} ({text})" for text in config.trusted_keys)


def _listed(names: Iterable[str] | None) -> str | None:
    return None if names is None else ", ".join(sorted(names)) or "none, so nothing passes"


def _on(flag: bool) -> str | None:
    return "on" if flag else None


def to_text(findings: Iterable[Finding], paint: Palette) -> str:
    """One line each: how it is, what, and the remedy."""
    kinds = {State.GOOD: "good", State.NOTE: "pending", State.BAD: "bad"}
    lines = []
    for finding in findings:
        remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
        state = paint(kinds[finding.state], finding.state.value) + " " * (4 - len(finding.state.value))
        lines.append(f"{state}  {finding.about:<10}  {finding.message}{remedy}")
    return "\n".join(lines)


def to_json(findings: Iterable[Finding], host: str) -> str:
    """The one document of `check -o json`."""
    checks = [
        {"about": one.about, "state": one.state.value, "message": one.message, "remedy": one.remedy or None}
        for one in findings
    ]
    summary = {state.value: sum(one["state"] == state.value for one in checks) for state in State}
    content = {"format_version": FORMAT_VERSION, "kind": "Check", "host": host, "checks": checks, "summary": summary}
    return json.dumps(content, indent=2, ensure_ascii=False)
