"""The values of the policy keys of `cfg.json`, and of its pins, checked: each function takes what JSON gave, and
raises ValueError.

What the rules mean is in reconcile/decide/host_rules.py.
"""

from __future__ import annotations

import posixpath
import re

from reconcile.decide.host_rules import place_of
from reconcile.decide.minisign import parse_public_key
from reconcile.decide.policy.names import is_name, is_user_name
from updater.settings.values import printable


def agent_names(value: object) -> frozenset[str]:
    for text in _texts(value, "agents' names"):
        if not is_name(text):
            raise ValueError(f"{printable(text)} can't be an agent's name")
    return frozenset(_texts(value, ""))


def user_names(value: object) -> frozenset[str]:
    for text in _texts(value, "users' names"):
        if not is_user_name(text):
            raise ValueError(f"{printable(text)} can't be a user's name")
    return frozenset(_texts(value, ""))


def directories(value: object) -> tuple[str, ...]:
    """Absolute paths in their one spelling."""
    found = []
    for text in _texts(value, "absolute paths"):
        if not re.match(r"/(?!/)", text) or not text.isprintable() or ".." in text.split("/"):
            raise ValueError(f"expected an absolute path without '..', found {printable(text)}")
        found.append(posixpath.normpath(text))
    return tuple(dict.fromkeys(found))


def url_prefixes(value: object) -> tuple[str, ...]:
    for text in _texts(value, "URL prefixes"):
        if place_of(text) is None or "?" in text:
            raise ValueError(
                f"{printable(text)} is not a plain URL prefix; expected e.g. http://files.example.com:8888/releases, "
                "without user, query, '..' or encoded slashes"
            )
    return tuple(dict.fromkeys(_texts(value, "")))


def least_versions(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'expected an object such as {{"falcon-agent": "5.1.0"}}, found {printable(value)}')
    for name, version in value.items():
        if not is_name(name):
            raise ValueError(f"{printable(name)} can't be an agent's name")
        if not isinstance(version, str) or not is_name(version):
            raise ValueError(f"{name}: expected a version, found {printable(version)}")
    return dict(value)


def public_keys(value: object) -> tuple[str, ...]:
    """minisign's public keys. An empty list is no way to say "none": who takes out the last key means something."""
    found = _texts(value, "minisign public keys")
    if not found:
        raise ValueError("holds no key; take it out where no signature is to be asked for")
    for text in found:
        try:
            parse_public_key(text)
        except ValueError as err:
            raise ValueError(f"{text[:6]}...: {err}") from None
    return tuple(dict.fromkeys(found))


def certificates(value: object) -> frozenset[str]:
    """sha256 digests of certificates, in lower-case hex. An empty list is no way to say "none", as of public keys."""
    found = [text.replace(":", "").strip().lower() for text in _texts(value, "certificates' sha256 digests")]
    if not found:
        raise ValueError("holds no digest; take it out where no certificate is to be pinned")
    for text in found:
        if re.fullmatch(r"[0-9a-f]{64}", text) is None:
            raise ValueError(
                f"{printable(text)}: expected 64 hex digits, with or without colons, as `updater check` shows them or "
                "`openssl x509 -noout -fingerprint -sha256 -in FILE`"
            )
    return frozenset(found)


def _texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of {what}, found {printable(value)}")
    return value
