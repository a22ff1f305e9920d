"""`config show|schema`: the config in force, and the form of cfg.json. It can't act."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from updater.commands.context import OK, configured, show

if TYPE_CHECKING:
    from pathlib import Path

    from updater.output.rows import Block
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
        show(options, _rows(loaded.path, settings))
    return OK


def _rows(path: Path, settings: Iterable[Setting]) -> Iterator[Block]:
    """One row each: the key, where its value is from, the value; defaults are dimmed."""
    from updater.output.rows import BLANK, block, cell, line, row

    yield line(str(path))
    yield BLANK
    yield block(
        row(*(cell(word, "dim" if one.origin == "default" else "") for word in (one.key, one.origin, _value(one))))
        for one in settings
    )


def _value(setting: Setting) -> str:
    return "none" if setting.value is None else _json(setting.value)


def _to_json(path: Path, settings: Iterable[Setting]) -> str:
    from updater.output.json_form import to_document

    keys = {one.key: {"value": one.value if one.amount is None else one.amount, "from": one.origin} for one in settings}
    return to_document("Config", {"path": str(path), "keys": keys})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
