"""`daemon`: passes for as long as it runs."""

from __future__ import annotations

import argparse
import os
import sys

from attrs import evolve

from updater.commands.context import BUSY, OK, configured, say
from updater.commands.run_passes import default_signals, prepare
from updater.service import log_setup
from updater.service.locks import Busy
from updater.service.standby import left_behind
from updater.settings import preflight
from updater.settings.config import METRICS, Config, lacks_web


def daemon(options: argparse.Namespace) -> int:
    from updater.service.daemon import Daemon

    def configure(config: Config) -> None:
        level = options.log_level or config.log_level
        log_setup.set_up(level, config.var / "app.log", to_stderr=sys.stderr.isatty(), complains=True)

    left = left_behind(options.config, by=os.getppid() if options.check else os.getpid())
    if left is None:
        config = configured(options, strict=True)
        unfit = prepare(config)
        if unfit != OK:
            return unfit
        if options.check or not sys.stderr.isatty():  # on a terminal the log says it, too
            _say_what_is_left_out(config)
    else:
        config = left.config if options.log_level is None else evolve(left.config, log_level=options.log_level)
    one = Daemon(config, configure, left, stand_by_from_s=options.stand_by_from)
    if options.check:
        return OK
    configure(config)
    if left is None:
        default_signals()
    try:
        one.run(now=options.now)
    except Busy as err:
        return say(BUSY, str(err))
    return OK


def _say_what_is_left_out(config: Config) -> None:
    """An old config must start unchanged: what it asks for and can't be had is said, and the agents are kept all the
    same."""
    if config.http.enabled and (lacking := lacks_web()):
        say(OK, f"config http.enabled: local HTTP is not served: {lacking}")
    if config.metrics_textfile is not None and (lacking := lacks_web(METRICS)):
        say(OK, f"config metrics_textfile: it is not written: {lacking}")
    for line in preflight.lacking(config):
        say(OK, f"changes wait: {line}")
