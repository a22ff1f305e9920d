"""`daemon`: passes for as long as it runs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from updater.commands.context import (
    BUSY,
    OK,
    configured,
    say,
)
from updater.service import log_setup
from updater.service.locks import Busy
from updater.settings import preflight
from updater.settings.config import METRICS, Config, lacks_web

if TYPE_CHECKING:
    pass
from updater.commands.run_passes import default_signals, prepare


def daemon(options: argparse.Namespace) -> int:
    config = configured(options, strict=True)
    unfit = prepare(config)
    if unfit != OK:
        return unfit
    from updater.service.daemon import Daemon

    def configure(config: Config) -> None:
        level = options.log_level or config.log_level
        log_setup.set_up(level, config.var / "app.log", to_stderr=sys.stderr.isatty(), complains=True)

    daemon = Daemon(config, configure)
    if config.http.enabled and (lacking := lacks_web()):
        # An old config must start unchanged, and most have this key: it is said, and the agents are kept all the same.
        say(OK, f"config http.enabled: local HTTP is not served: {lacking}")
    if config.metrics_textfile is not None and (lacking := lacks_web(METRICS)):
        say(OK, f"config metrics_textfile: it is not written: {lacking}")
    for line in preflight.lacking(config):
        say(OK, f"changes wait: {line}")
    if options.check:
        return OK
    configure(config)
    default_signals()
    try:
        daemon.run(now=options.now)
    except Busy as err:
        return say(BUSY, str(err))
    return OK
