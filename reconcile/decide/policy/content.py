"""The part of an entry that only a start needs: the tarball, its digests and signature, and the remote config."""

from __future__ import annotations

import re

from probes.observed import is_reserved
from probes.text import redact_url
from reconcile.decide.desired import Artifact, DesiredConfig, Digest, Md5, Sha256, Signing
from reconcile.decide.policy.inputs import Policy, RuleBroken
from reconcile.decide.policy.names import escaped
from reconcile.source import Entry

_MD5 = r"[0-9a-fA-F]{32}"
_SHA256 = r"[0-9a-fA-F]{64}"
_CONFIG_PARTS = 4  # of the path of a config
_URL = r"(?i:https?)://[^\s/?#][^\s]*"


def artifact_of(entry: Entry, policy: Policy) -> Artifact:
    if not entry.tarball:
        raise RuleBroken(
            "tarball", "tarball is empty; with cmd 'start' ops-meta must name the URL base of the tarballs"
        )
    url = _place_url("tarball", entry.tarball, entry, policy)
    digests: set[Digest] = set()
    digest_url: str | None = None
    if entry.sha256:
        if re.fullmatch(_SHA256, entry.sha256) is None:
            raise RuleBroken("sha256", f"sha256 {escaped(entry.sha256)!r} is not 64 hex digits")
        digests.add(Sha256(entry.sha256.lower()))
    if re.fullmatch(_MD5, entry.md5) is not None:
        digests.add(Md5(entry.md5.lower()))
    elif entry.md5:
        digest_url = f"{_place_url('md5', entry.md5, entry, policy)}.md5"
    elif not digests:
        digest_url = f"{url}.md5"
    signing = None
    if policy.restrictions.trusted_keys:
        # The comment names the architecture for every layout, so that no signature is good for two tarballs.
        comment = f"{policy.arch}/{entry.name}-{entry.version}.tar.gz"
        signing = Signing(url=f"{url}.minisig", comment=comment, keys=policy.restrictions.trusted_keys)
    return Artifact(url=url, digests=frozenset(digests), digest_url=digest_url, signing=signing)


def _place_url(rule: str, base: str, entry: Entry, policy: Policy) -> str:
    if not is_url(base):
        expected = "an http or https URL base" + (", 32 hex digits, or empty" if rule == "md5" else "")
        raise RuleBroken(rule, f"{rule} {redact_url(base)} is of no known form: expected {expected}")
    return policy.tarball_layout.format(
        tarball=base.rstrip("/"), arch=policy.arch, name=entry.name, version=entry.version
    )


def is_url(text: str) -> bool:
    """Whether an entry may name it."""
    # Printable alone, since it is shown on terminals: \s lets most control codes and lone surrogates pass.
    return re.fullmatch(_URL, text) is not None and text.isprintable() and len(text) <= 2048


def config_of(entry: Entry, *, delivered: bool) -> DesiredConfig | None:
    """The remote config. `delivered`: it was ever given one, so that it may not do without."""
    name, url = entry.config_file_name, entry.config_remote_url
    if delivered and bool(name) != bool(url):
        raise RuleBroken("config", "configFileName and configRemoteUrl go together: send both, or neither")
    if not name or not url:
        return None
    path = _config_path(name)
    if not is_url(url):
        raise RuleBroken("config_remote_url", f"configRemoteUrl {redact_url(url)} is not an http or https URL")
    return DesiredConfig(name=path, url=url)


def _config_path(name: str) -> str:
    """Where a config lies below the version's directory, normalised."""
    if not name.isprintable():  # first: lone surrogates are not printable, and can't be encoded
        raise RuleBroken("config_file_name", f"configFileName {escaped(name)!r} holds control characters")
    parts = [part for part in name.split("/") if part != "."]
    if not 1 <= len(parts) <= _CONFIG_PARTS or any(map(_is_no_part, parts)):
        raise RuleBroken(
            "config_file_name",
            f"configFileName {escaped(name)!r} is not allowed: expected a file's name, or a path of at most "
            f"{_CONFIG_PARTS} parts below the version's directory, none of them '..', 'control' or reserved",
        )
    return "/".join(parts)


def _is_no_part(part: str) -> bool:
    """Whether a folder or a file on the way to a config can't be called so."""
    return part in ("", "..", "control") or is_reserved(part) or len(part.encode()) > 200
