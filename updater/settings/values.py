"""Single values of `cfg.json`: each function takes what JSON has, and raises ValueError with what is expected.

None means that the value counts as not set, as `"hostname": ""` of today's example does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from probes.observed import ProcessState
from probes.status_parser import process_state
from reconcile.net.http_client import origin_of
from updater.sources.ops_meta import heartbeat_url
from updater.sources.url import checked_url

LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
SHORTEST_S = 1.0  # of a time above zero, in seconds
TIME = r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?"
SIZE = r"(\d+)\s*(B|KiB|MiB|GiB)?"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
LONGEST_TEXT = 4096
_TIME_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LISTEN = r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s]*)):(\d{1,5})"
_LAYOUT_FIELDS = {"tarball", "arch", "name", "version"}


def each_once(pairs: list[tuple[str, Any]], twice: str) -> dict[str, Any]:
    """An object of JSON without a key that stands twice. `twice`: what the error says of one."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} {twice}")
        found[key] = value
    return found


def printable(value: object) -> str:
    """A value for people, without what may be secret in an URL: userinfo and query."""
    text = re.sub(r"(//[^\"?#]*)[?#][^\"]*", r"\1?...", re.sub(r"//[^/\"]*@", "//", json.dumps(value, default=str)))
    return text if len(text) <= 80 else f"{text[:77]}..."


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {printable(value)}")
    return value


def number(value: object, most: int) -> int:
    """A whole number from 1 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"expected a number from 1 to {most}, found {printable(value)}")
    return value


def parse_time(value: object) -> float:
    """Seconds from a number or "90", "10m", "2h"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9:
        return float(value)
    match = re.fullmatch(TIME, value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) >= 10**9:
        raise ValueError(f'expected seconds or a time such as "10m", found {printable(value)}')
    return float(match[1]) * _TIME_UNITS[match[2]]


def time_above_zero(value: object) -> float:
    seconds = parse_time(value)
    if seconds < SHORTEST_S:
        raise ValueError(f"expected at least 1 second, found {printable(value)}")
    return seconds


def parse_size(value: object) -> int:
    """Bytes from a number or "512MiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62:
        return value
    match = re.fullmatch(SIZE, value.strip()) if isinstance(value, str) else None
    if match is None or len(match[1]) > 18:
        raise ValueError(f'expected bytes or a size such as "512MiB", found {printable(value)}')
    return int(match[1]) * _SIZE_UNITS[match[2]]


def size_above_zero(value: object) -> int:
    size = parse_size(value)
    if size < 1:
        raise ValueError("expected more than 0 bytes")
    return size


def text(value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_TEXT:
        raise ValueError(f"expected a text, found {printable(value)}")
    return value.strip() or None


def level(value: object) -> str:
    if not isinstance(value, str) or value.lower() not in (*LEVELS, "warn"):
        raise ValueError(f"expected one of {', '.join(LEVELS)}, found {printable(value)}")
    return "warning" if value.lower() == "warn" else value.lower()


def variables(value: object) -> dict[str, str]:
    """Names and values of an environment."""
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of names and texts, found {printable(value)}")
    for name, content in value.items():
        if re.fullmatch(VARIABLE, name) is None or not isinstance(content, str) or not _is_environment(content):
            raise ValueError(f"{name!r}: expected a variable's name and a text")
    return dict(value)


def _is_environment(content: str) -> bool:
    try:
        return b"\0" not in content.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def absolute_path(value: object) -> str:
    """Without doubled slashes and `.`; a `..` stays, and is refused where the path is used."""
    found = text(value)
    if found is None or not found.startswith("/"):
        raise ValueError(f"expected an absolute path, found {printable(value)}")
    return "/" + "/".join(part for part in found.split("/") if part not in ("", "."))


def file(value: object) -> Path:
    """Read a path as it is written; a relative one starts at the config's folder."""
    found = text(value)
    if found is None or "://" in found:
        raise ValueError(f"expected the path of a file, found {printable(value)}")
    return Path(found)


def metrics_file(value: object) -> Path:
    path = file(value)
    if path.suffix != ".prom":
        raise ValueError(f"expected a name that ends in .prom, which node_exporter reads, found {printable(value)}")
    return path


def file_or_url(value: object) -> Path | str:
    found = text(value)
    return checked_url(found) if found is not None and "://" in found else file(value)


def url(value: object) -> str:
    return checked_url(value if isinstance(value, str) else "")


def server(value: object) -> str:
    found = text(value)
    if found is None:
        raise ValueError("is empty; expected host:port of ops-meta")
    heartbeat_url(found)
    return found


def origins(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(origin, str) for origin in value):
        raise ValueError(f'expected a list of origins such as "http://host:8888", found {printable(value)}')
    for origin in value:
        heartbeat_url(origin)
    return tuple(value)


def proxy(value: object) -> str:
    # The value may hold a password: no error shows it.
    found = value.strip() if isinstance(value, str) and value.isprintable() else ""
    if not found.startswith("http://"):
        raise ValueError("expected an http:// URL (targets of https are tunnelled through it)")
    origin_of(found)
    return found


def parse_listen(value: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:2001", "[::1]:2001" or ":2001", whose host is empty."""
    match = re.fullmatch(_LISTEN, value)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"expected host:port such as 127.0.0.1:2001, found {printable(value)}")
    return match[1] or match[2] or "", int(match[3])


def listen(value: object) -> str | None:
    found = text(value)
    if found is not None:
        parse_listen(found)
    return found


def tarball_layout(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {printable(value)}")
    import string

    try:
        fields = {name for _, name, spec, conversion in string.Formatter().parse(value) if name is not None}
    except ValueError as err:
        raise ValueError(f"{err}, in {printable(value)}") from None
    if not fields <= _LAYOUT_FIELDS or not {"tarball", "name", "version"} <= fields:
        raise ValueError(
            f"expected {{tarball}}, {{name}}, {{version}} and at most {{arch}} in it, found {printable(value)}"
        )
    if not value.startswith("{tarball}/"):
        raise ValueError("expected it to begin with {tarball}/")
    return value


def phrases(value: object) -> tuple[str, ...]:
    """What a script may print for a state: in any case, with single blanks."""
    if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
        raise ValueError(f"expected a list of texts, found {printable(value)}")
    found = tuple(" ".join(phrase.lower().split()) for phrase in value)
    for written, phrase in zip(value, found, strict=True):
        if not phrase or len(phrase) > 200 or not phrase.isprintable():
            raise ValueError(f"expected words that a line of `control status` holds, found {printable(written)}")
    return found


def state_words(started: tuple[str, ...] | None, stoped: tuple[str, ...] | None) -> dict[str, ProcessState]:
    """What an agent's words mean. Each must mean one state alone, also to who knows no words but the common ones."""
    meanings: dict[str, ProcessState] = {}
    for state, found in ((ProcessState.RUNNING, started), (ProcessState.STOPPED, stoped)):
        for phrase in found or ():
            if {process_state(phrase), meanings.setdefault(phrase, state)} - {state, ProcessState.UNKNOWN}:
                raise ValueError(f"{printable(phrase)} can't mean {state.value}, since it means the contrary")
    return meanings
