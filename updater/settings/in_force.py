"""The config in force, for people and programs: each key's value and where it is from. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from probes.values import frozen
from updater.settings.config import Config
from updater.settings.keys import leaves
from updater.settings.kinds import Key

MASK = "(not shown)"
# A password may hold a slash, so all of an URL up to its last @ may be one.
_USERINFO, _QUERY = re.compile(r"://\S*@"), re.compile(r"([^\s?]*[:/][^\s?]*)\?\S*")


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
    typed = {} if log_level is None else {"log_level": (log_level, "command line")}
    for path, key in leaves():
        value, origin = typed.get(path) or _in_file(config.written, path, key) or (key.default, "default")
        read = None if value is None else key.kind.read(value)
        is_amount = isinstance(read, (int, float)) and not isinstance(read, bool)
        yield Setting(path, _masked(path, value), origin, read if is_amount else None)


def _in_file(written: Mapping[str, Any], path: str, key: Key) -> tuple[Any, str] | None:
    """What the file sets a key to; None: it does not. The older line's `debug` is a `log_level`."""
    outer, _, name = path.rpartition(".")
    value = (written.get(outer) or {} if outer else written).get(name)
    if value is not None and key.kind.read(value) is not None:
        return value, "file"
    return ("debug", "file") if path == "log_level" and written.get("debug") else None


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config file as they may be shown: URLs without userinfo and query, no value of `agent_env`."""
    return {key: _masked(key, value) for key, value in document.items()}


def _masked(key: str, value: Any) -> Any:
    match value:
        case str():
            return _QUERY.sub(rf"\1?{MASK}", _USERINFO.sub(f"://{MASK}@", value))
        case dict():
            return dict.fromkeys(value, MASK) if key == "agent_env" else without_secrets(value)
        case list():
            return [_masked(key, item) for item in value]
        case _:
            return value
