"""`config show|schema`: the config in force, and the form of cfg.json. It can't act."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from updater.commands.context import OK, configured, palette

if TYPE_CHECKING:
    from pathlib import Path

    from updater.output.text import Palette
    from updater.settings.in_force import Setting


def config(options: argparse.Namespace) -> int:
    if options.what == "schema":
        from updater.settings.schema import config_schema

        print(json.dumps(config_schema(), indent=2, ensure_ascii=False))
        return OK
    from updater.settings.in_force import in_force

    loaded = configured(options)
    settings = in_force(loaded, options.log_level)
    if options.output == "json":
        print(_to_json(loaded.path, settings))
    else:
        print(_to_text(loaded.path, settings, palette(options)))
    return OK


def _to_text(path: Path, settings: Iterable[Setting], paint: Palette) -> str:
    """One line each: the key, where its value is from, the value; defaults are dimmed."""
    rows = [(one.key, one.origin, "none" if one.value is None else _json(one.value)) for one in settings]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{key:<{widths[0]}}  {origin:<{widths[1]}}  {value}" for key, origin, value in rows]
    dimmed = (paint("dim", line) if row[1] == "default" else line for line, row in zip(lines, rows, strict=True))
    return "\n".join([str(path), "", *dimmed])


def _to_json(path: Path, settings: Iterable[Setting]) -> str:
    from updater.output.json_form import FORMAT_VERSION

    keys = {one.key: {"value": one.value if one.amount is None else one.amount, "from": one.origin} for one in settings}
    content = {"format_version": FORMAT_VERSION, "kind": "Config", "path": str(path), "keys": keys}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
