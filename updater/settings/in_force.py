"""The config in force, for people and programs: each key's value and where it is from. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from probes.values import frozen
from updater.settings.config import Config
from updater.settings.keys import leaves

MASK = "***"
_SECRET_NAME = re.compile(r"(?i)pass|secret|token|credential|(^|_)(key|auth|pwd)($|_)")
# A password may hold a slash, so all of an URL up to its last @ may be one.
_USERINFO, _QUERY = re.compile(r"://[^\s\"]*@"), re.compile(r"(://[^\s?\"]*)\?[^\s\"]*")


@frozen
class Setting:
    """One key. `value` as it is written, None: none. `amount`: that of a time in seconds, of a size in bytes. `origin`:
    file, default or command line."""

    key: str
    value: Any
    origin: str
    amount: float | None


def in_force(config: Config, log_level: str | None = None) -> Iterator[Setting]:
    """Every key, in the order of the documentation. `log_level`: that of the command line."""
    for path, key in leaves():
        outer, _, name = path.rpartition(".")
        value = (config.written.get(outer) or {} if outer else config.written).get(name)
        is_set = value is not None and key.kind.read(value) is not None
        value, origin = (value, "file") if is_set else (key.default, "default")
        if path == "log_level" and log_level is not None:
            value, origin = log_level, "command line"
        elif path == "log_level" and config.written.get("debug") and not is_set:
            value, origin = "debug", "file"
        read = None if value is None else key.kind.read(value)
        is_amount = isinstance(read, (int, float)) and not isinstance(read, bool)
        yield Setting(path, masked(value), origin, read if is_amount else None)


def masked(value: Any) -> Any:
    """Without what may be secret: userinfo and query of an URL, a variable that is named after a secret."""
    if isinstance(value, str):
        return _QUERY.sub(rf"\1?{MASK}", _USERINFO.sub(f"://{MASK}@", value))
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(inner, str) and _SECRET_NAME.search(name) else masked(inner)
            for name, inner in value.items()
        }
    return [masked(item) for item in value] if isinstance(value, list) else value
