"""A JSON Schema (2020-12) of `cfg.json`, made from the table of keys: for editors and configuration management.

It knows the form of each value, and not what must hold between keys or on this host: `updater check` does.
"""

from __future__ import annotations

from typing import Any

from updater.settings.keys import KEYS
from updater.settings.kinds import Key, Kind
from updater.version import VERSION

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """The schema of a whole file."""
    one_of = [{"properties": {name: {"type": "string"}}, "required": [name]} for name in ("server", "desired")]
    return {"$schema": _DIALECT, "title": f"cfg.json of ops-updater {VERSION}", **_object(KEYS), "anyOf": one_of}


def _object(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key.name: _value(key) for key in keys},
        "required": [key.name for key in keys if key.required],
        "additionalProperties": False,
    }


def _value(key: Key) -> dict[str, Any]:
    form = _form(key.kind)
    return {
        **({"description": key.says} if key.says else {}),
        **({} if key.default is None else {"default": key.default}),
        **(form if key.required else _or_null(form)),
    }


def _or_null(form: dict[str, Any]) -> dict[str, Any]:
    """The same form, or null, which counts as not set."""
    match form:
        case {"anyOf": several}:
            return {"anyOf": [*several, {"type": "null"}]}
        case {"enum": several}:
            return {"enum": [*several, None]}
        case _:
            return {**form, "type": [form["type"], "null"]}


def _form(kind: Kind) -> dict[str, Any]:
    if kind.keys:
        return _object(kind.keys)
    if kind.of is None:
        return dict(kind.schema)
    inner = "items" if kind.schema["type"] == "array" else "additionalProperties"
    return {**kind.schema, inner: _form(kind.of)}
