"""Who may ask: the Host, Origin and other headers by which a browser tells on whose behalf it asks. Pure.

A page of another site must neither read what we serve nor have the config read again: its requests carry its own
Origin, or Sec-Fetch-Site says so, and a name of its own that it points at this address (DNS rebinding) is not one of
our names. Programs such as curl and Prometheus send none of these, but Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from probes.values import frozen

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA")


@frozen(kw_only=True)
class AllowedNames:
    """How we may be called. `own`: names of this host, in lower case. `any_address`: any address of the IP protocol
    counts as ours, as where we listen on all of them: an address can be pointed nowhere else."""

    own: frozenset[str] = frozenset()
    any_address: bool = False


@frozen(kw_only=True)
class Rejected:
    """The status line and what to tell."""

    status: str
    message: str


def refusal(environ: Mapping[str, str], names: AllowedNames) -> Rejected | None:
    """Why a request is not answered; None: it is. `environ`: WSGI's."""
    host = environ.get("HTTP_HOST", "")
    match = _HOST.fullmatch(host)
    if match is None:
        return Rejected(status="400 Bad Request", message="expected one Host header that names this host")
    if not _is_ours(match[1].lower(), names):
        return Rejected(status="421 Misdirected Request", message=f"this is not {match[1]}")
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return Rejected(status="403 Forbidden", message="a page of another origin may not ask here")
    if not _own_fetch(environ):
        return Rejected(status="403 Forbidden", message="a page of another site may not ask here")
    return None


def refusal_to_change(environ: Mapping[str, str]) -> Rejected | None:
    """Beside `refusal`: only from this machine itself, and never by a link or a picture on some page."""
    if not _is_loopback(environ.get("REMOTE_ADDR", "")) or any(header in environ for header in _FORWARDED):
        return Rejected(
            status="403 Forbidden", message="only from this host itself (loopback), and not through a proxy"
        )
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return Rejected(status="403 Forbidden", message="a page of another site may not ask for this")
    referer = environ.get("HTTP_REFERER")
    if referer is not None and not referer.lower().startswith(f"http://{environ.get('HTTP_HOST', '')}/".lower()):
        return Rejected(status="403 Forbidden", message="a page of another site may not ask for this")
    return None


def _is_ours(name: str, names: AllowedNames) -> bool:
    if name in ("localhost", *names.own):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or names.any_address


def _own_fetch(environ: Mapping[str, str]) -> bool:
    """Whether a browser asks for itself or for our own page. A link to the page may be followed, not framed."""
    if environ.get("HTTP_SEC_FETCH_SITE", "none") in ("none", "same-origin"):
        return True
    asked = tuple(environ.get(key) for key in ("HTTP_SEC_FETCH_MODE", "HTTP_SEC_FETCH_DEST", "PATH_INFO"))
    return asked == ("navigate", "document", "/")


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback if mapped is None else bool(mapped.is_loopback)


def is_loopback_host(host: str) -> bool:
    """Whether to listen on `host` (of the config) is to listen on loopback alone."""
    return host == "localhost" or _is_loopback(host)
