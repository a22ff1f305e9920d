"""The rules that an operator sets on a host: which agents, users, places, servers and versions it takes. Pure.

ops-meta decides WHAT is wanted, the host what it accepts. A rule about who and where refuses the entry; a rule
about content bars a change to it, while what is in use is still observed, reported and healed (docs/adr/0026). Each
rule is off by default, and an empty list allows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from attrs import field

from probes.values import frozen
from reconcile.decide.desired import Artifact, DesiredAgent, RuleViolation, Sha256
from reconcile.decide.version_order import is_older, split_release

_PORTS = {"http": "80", "https": "443"}
# Nothing that an interpreter or a loader looks for has such a name.
_DATA_FILE = (
    r".*\.(json5?|ya?ml|toml|ini|cfg|conf|cnf|config|properties|xml|txt|csv|tsv|list|hcl|rules|pem|crt|cer|key|lic)"
)
# What a component of a path on a mirror is made of, decoded: what every server and proxy reads alike. Some of them cut
# `;x`, blanks and dots off its end, fold full-width or overlong dots, merge empty ones, or read what precedes an `@` as
# a user.
_PLAIN_COMPONENT = r"(?=[ .]*[^ .])[A-Za-z0-9._~+=,:!$&'()* -]+"


@frozen(kw_only=True)
class Restrictions:
    """The rules of one host; None, False or empty: not set. `allow_work_dirs`: normalised, absolute. `mirrors`: URL
    prefixes that `place_of` can read. `trusted_keys`: public keys, as minisign writes them."""

    allow_agents: frozenset[str] | None = None
    allow_users: frozenset[str] | None = None
    allow_work_dirs: tuple[str, ...] | None = None
    mirrors: tuple[str, ...] | None = None
    min_version: Mapping[str, str] = field(factory=dict)
    require_https: bool = False
    require_sha256: bool = False
    trusted_keys: frozenset[str] = frozenset()


@frozen(kw_only=True)
class UrlPlace:
    """Where an URL leads: its origin in one spelling, and its path by components, decoded."""

    origin: str
    path: tuple[str, ...]


def bar_name(name: str, rules: Restrictions) -> RuleViolation | None:
    """The rule by which an agent is none of this host's business, if there is one: a filter, no refusal."""
    if rules.allow_agents is None or name in rules.allow_agents:
        return None
    return RuleViolation(rule="allow_agents", message=f"this host takes {_listed(rules.allow_agents)} alone")


def refuse_who_and_where(run_user: str, work_dir: str, rules: Restrictions) -> RuleViolation | None:
    """The rule that refuses an entry whatever it asks for, if there is one."""
    if rules.allow_users is not None and run_user not in rules.allow_users:
        return RuleViolation(
            rule="allow_users",
            message=f"runUser is {run_user!r}, and this host takes agents of {_listed(rules.allow_users)} alone",
        )
    if rules.allow_work_dirs is not None and not is_within(work_dir, rules.allow_work_dirs):
        return RuleViolation(
            rule="allow_work_dirs",
            message=f"workDir {work_dir} is none of {_listed(rules.allow_work_dirs)}, nor below",
        )
    return None


def bar_content(agent: DesiredAgent, rules: Restrictions) -> RuleViolation | None:
    """The first rule that what an agent is to be made of breaks, if there is one."""
    if agent.artifact is None:
        return None
    return (
        _bar_version(agent, rules)
        or _bar_digests(agent.artifact, rules)
        or _bar_unsigned(agent, rules)
        or _bar_urls(agent, agent.artifact, rules)
    )


def _bar_version(agent: DesiredAgent, rules: Restrictions) -> RuleViolation | None:
    floor = rules.min_version.get(agent.name)
    if floor is None or not is_older(agent.version, floor):
        return None
    message = f"{agent.version} is older than {floor}, the oldest that this host takes"
    return RuleViolation(rule="min_version", message=message)


def _bar_digests(artifact: Artifact, rules: Restrictions) -> RuleViolation | None:
    if not rules.require_sha256 or any(isinstance(digest, Sha256) for digest in artifact.digests):
        return None
    return RuleViolation(rule="require_sha256", message="ops-meta gives no sha256; have it send the tarball's")


def _bar_unsigned(agent: DesiredAgent, rules: Restrictions) -> RuleViolation | None:
    if not rules.trusted_keys:
        return None
    if split_release(f"{agent.name}-{agent.version}") != (agent.name, agent.version):
        return RuleViolation(
            rule="trusted_keys",
            reason="SignatureInvalid",
            message=f"the signature of {agent.name}-{agent.version} could be that of another agent: a signed name ends "
            "at its first '-' before a digit, and there the version begins; rename the agent or the version",
        )
    if agent.config is not None and not re.fullmatch(_DATA_FILE, agent.config.name, re.IGNORECASE | re.DOTALL):
        return RuleViolation(
            rule="trusted_keys",
            message=f"the config {agent.config.name} is not signed, and by its name may be a program or be sourced by "
            "one; name it as a data file, such as cfg.json, app.yaml or app.conf",
        )
    return None


def _bar_urls(agent: DesiredAgent, artifact: Artifact, rules: Restrictions) -> RuleViolation | None:
    urls = {
        "tarball": artifact.url,
        "md5": artifact.digest_url,
        "configRemoteUrl": None if agent.config is None else agent.config.url,
    }
    for key, url in urls.items():
        if url is None:
            continue
        if rules.require_https and not url.lower().startswith("https:"):
            return RuleViolation(rule="require_https", message=f"{key} is not an https:// URL; serve it over https")
        if rules.mirrors is not None and not is_on_mirror(url, rules.mirrors):
            return RuleViolation(
                rule="mirrors", message=f"{key} leads to none of {_listed(rules.mirrors)}, or its path is not plain"
            )
    return None


def bar_downgrade(agent: DesiredAgent, in_use: str | None) -> RuleViolation | None:
    """The rule `refuse_downgrade`: what is asked for must not be older than what is in use. `in_use`: what `.version`
    says, if anything.

    It is asked of the server's wish alone: where we or an operator go back to is no downgrade.
    """
    if agent.artifact is None or not in_use or not is_older(agent.version, in_use):
        return None
    return RuleViolation(rule="refuse_downgrade", message=f"{agent.version} is older than {in_use}, which is in use")


def is_within(path: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a normalised path is one of the prefixes or below one, by whole components."""
    return any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def is_on_mirror(url: str, mirrors: tuple[str, ...]) -> bool:
    """Whether an URL is at one of the prefixes or below one: the same origin, and whole components of the path."""
    place = place_of(url)
    if place is None:
        return False
    allowed = [mirror for mirror in map(place_of, mirrors) if mirror is not None and mirror.origin == place.origin]
    return any(place.path[: len(mirror.path)] == mirror.path for mirror in allowed)


def place_of(url: str) -> UrlPlace | None:
    """Where a plain http or https URL leads; None for one that another program might read otherwise.

    Prefixes are evaded by userinfo, fragments, backslashes, dot components, encoded slashes, path parameters (`..;`)
    and other spellings of these. So a path passes only if each of its components is plain; the query doesn't count.
    """
    match = re.fullmatch(
        r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(/[^?#\\]*)?(?:\?[^#\\]*)?", url, re.IGNORECASE
    )
    if match is None or not (url.isascii() and url.isprintable()):
        return None
    scheme, host = match[1].lower(), match[2].lower()
    path = [unquote(part) for part in (match[4] or "").rstrip("/").split("/")[1:]]
    if not all(re.fullmatch(_PLAIN_COMPONENT, part) for part in path):
        return None
    return UrlPlace(origin=f"{scheme}://{host}:{int(match[3] or _PORTS[scheme])}", path=tuple(path))


def _listed(names: frozenset[str] | tuple[str, ...]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return (", ".join(listed[:5]) or "none") + more
