"""An operator's hand: `hold` and `release`. They write files beside the config, and wait for nobody."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from updater import steer
from updater.commands.ending import OK, Command
from updater.commands.given import configured


def hold(options: argparse.Namespace) -> int:
    config = configured(options)
    print(steer.hold(config.var / "holds", _name(options), options.reason, options.span))
    return OK


def release(options: argparse.Namespace) -> int:
    config = configured(options)
    print(steer.release(config.var / "holds", _name(options)))
    return OK


def _name(options: argparse.Namespace) -> str:
    """Whom it is about. Raise UsageWrong where that can't be meant."""
    try:
        return steer.checked_name(options.name, options.all)
    except steer.NoSuchName as err:
        return str(options.parser.error(str(err)))


COMMANDS: Mapping[str, Command] = {"hold": hold, "release": release}
