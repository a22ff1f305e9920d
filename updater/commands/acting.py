"""Commands that act: `apply`, `rollback`, `daemon`. They check what a pass needs, make it, and say what came of it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from updater import logs, tools
from updater.commands.ending import (
    BROKE,
    BUSY,
    CHANGED,
    NO_DESIRED_STATE,
    NOT_AS_DESIRED,
    OK,
    ROLLED_BACK,
    TOOL_MISSING,
    Command,
    UsageWrong,
    say,
)
from updater.commands.given import configured, look, missing_tools, surroundings, wanted
from updater.commands.shown import palette, progress, put, screen
from updater.config import METRICS, Config, lacks_web
from updater.lock import Busy
from updater.passes import make_var

if TYPE_CHECKING:
    from reconcile.carry_out import AgentResult
    from reconcile.cycle import PassResult
    from reconcile.decide.records import Pin
    from updater.apply import Apply, Wish

_SHORTEST_BUDGET_S, _BUDGET_SHARE = 60.0, 0.7  # of `apply --once`: at least, and of the interval
_TIMEOUT_S = 600.0  # of `apply`, unless --timeout says otherwise


def apply(options: argparse.Namespace) -> int:
    if options.splay is not None and not options.once:
        raise UsageWrong("--splay goes with --once: `updater apply --once --splay 200`")
    if options.plan is not None and (options.names or options.once or options.timeout is not None):
        raise UsageWrong("--plan goes alone: the plan says which agents, and is carried out once")
    from updater.apply import Wish

    wish = Wish(
        names=frozenset(options.names),
        offline=options.offline,
        splay_s=options.splay or 0.0,
        timeout_s=None if options.once or options.plan is not None else options.timeout or _TIMEOUT_S,
        budget_s=_budget_s(options) if options.once else None,
        progress=progress(options),
    )
    return _act(options, wish) if options.plan is None else _act_as_saved(options, wish)


def _budget_s(options: argparse.Namespace) -> float:
    """For how long a run of cron's waits for downloads, so that the next one finds the lock free."""
    if options.timeout is not None:
        return float(options.timeout)
    return max(_SHORTEST_BUDGET_S, _BUDGET_SHARE * configured(options).interval)


def _act_as_saved(options: argparse.Namespace, wish: Wish) -> int:
    from updater.saved import PlanUnreadable, PlanUnusable, names_in, read

    try:
        saved = read(options.plan)
    except PlanUnreadable as err:
        raise UsageWrong(f"{err}; save one with `updater plan --out {options.plan}`") from None
    except PlanUnusable as err:
        return say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {err}")
    return _act(options, evolve(wish, saved=saved, names=names_in(saved)))


def rollback(options: argparse.Namespace) -> int:
    from reconcile.assess import Ask
    from reconcile.decide.records import Pin
    from updater.apply import Wish
    from updater.steer import whoami

    options.names, options.desired, options.offline, options.quiet = [options.name], None, True, False
    options.detailed_exitcode = False
    looked = look(options, "Status", Ask.LOOK)
    if isinstance(looked, int):
        return looked
    view = looked.document.agents[0].view
    version, in_use = options.to or view.former_version, view.observed.active
    if version is None or version not in view.observed.installed:
        on_disk = ", ".join(view.observed.installed) or "none"
        no_good = "no version that was confirmed good is on disk to go back to; `--to VERSION` goes to any other"
        missing = no_good if version is None else f"{version} is not on disk"
        return say(NOT_AS_DESIRED, f"{options.name}: {missing} (there: {on_disk})")
    if in_use is not None and in_use.version == version:
        say(OK, f"{options.name}: {version} is in use already; it stays there until `updater release {options.name}`")
    pin = Pin(version=version, owner=whoami(), at=time.time())
    wish = Wish(
        names=frozenset({options.name}),
        pins=((options.name, pin),),
        offline=True,
        wait_s=options.timeout,
        progress=progress(options),
    )
    return _act(options, wish)


def _act(options: argparse.Namespace, wish: Wish) -> int:
    """Make passes as wished, and tell what came of them."""
    from reconcile.assess import NoDesiredState
    from reconcile.errors import WriteFailed
    from updater.apply import Apply, Ended
    from updater.saved import PlanMoved

    config = configured(options)
    around = surroundings(config, options)
    unfit = _made_ready(config)
    if unfit != OK:
        return unfit
    logs.set_up(config.log_level, config.var / "app.log", to_stderr=False)
    _default_signals()
    applying = Apply(config, around, wish)
    try:
        with wish.progress:
            result = applying.run()
    except Busy as err:
        return say(BUSY, str(err))
    except Ended as err:
        return say(128 + err.args[0], "ended by a signal before its pass began; nothing was touched")
    except NoDesiredState as err:
        return say(NO_DESIRED_STATE, err.message)
    except WriteFailed as err:
        return say(BROKE, err.message)
    except PlanMoved as err:
        for line in err.differences:
            say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {line}")
        return NOT_AS_DESIRED
    _tell(options, applying, result)
    wanted(list(wish.names), applying.known)
    return _came_to(options, wish, applying, result)


def _made_ready(config: Config) -> int:
    """Check what every pass relies on, and make var/; OK, or the exit code, and it was said what is wrong.

    Raise FolderUnusable."""
    missing = missing_tools()
    if missing:
        return say(TOOL_MISSING, missing)
    make_var(config.var)
    return OK


def _tell(options: argparse.Namespace, applying: Apply, result: PassResult) -> None:
    """What was done and changed; a person at a terminal is told of every agent."""
    from updater.render import result_text, to_json

    document = applying.document(result)
    everything = sys.stdout.isatty() and not options.quiet
    eyes = screen(options)
    if options.output == "json":
        print(to_json(document))
    elif eyes is not None:
        eyes.result(document, result.flipped, everything=everything)
    else:
        put(
            result_text(
                document,
                palette(options),
                flipped=result.flipped,
                refused_anew=bool(result.refused_anew),
                everything=everything,
            )
        )


def _came_to(options: argparse.Namespace, wish: Wish, applying: Apply, result: PassResult) -> int:
    """The exit code of passes that were made."""
    if wish.pins:
        return OK if all(_is_back(agent, dict(wish.pins)) for agent in result.agents) else NOT_AS_DESIRED
    if not result.all_ready:
        return ROLLED_BACK if applying.only_went_back(result) else NOT_AS_DESIRED
    if wish.timeout_s is not None and result.confirming:
        return say(NOT_AS_DESIRED, f"still within the watch when the time was up: {', '.join(result.confirming)}")
    return CHANGED if options.detailed_exitcode and applying.acted else OK


def _is_back(agent: AgentResult, pins: dict[str, Pin]) -> bool:
    active = agent.observed.active
    return active is not None and active.version == pins[agent.view.desired.name].version and active.process.is_running


def daemon(options: argparse.Namespace) -> int:
    config = configured(options, strict=True)
    unfit = _made_ready(config)
    if unfit != OK:
        return unfit
    from updater.daemon import Daemon

    def configure(config: Config) -> None:
        level = options.log_level or config.log_level
        logs.set_up(level, config.var / "app.log", to_stderr=sys.stderr.isatty(), complains=True)

    daemon = Daemon(config, configure)
    if config.http.enabled and (lacking := lacks_web()):
        # An old config must start unchanged, and most have this key: it is said, and the agents are kept all the same.
        say(OK, f"config http.enabled: local HTTP is not served: {lacking}")
    if config.metrics_textfile is not None and (lacking := lacks_web(METRICS)):
        say(OK, f"config metrics_textfile: it is not written: {lacking}")
    for line in tools.lacking(config):
        say(OK, f"changes wait: {line}")
    if options.check:
        return OK
    configure(config)
    _default_signals()
    try:
        daemon.run(now=options.now)
    except Busy as err:
        return say(BUSY, str(err))
    return OK


def _default_signals() -> None:
    """What we were started to ignore, our agents would ignore too: nohup leaves SIGHUP so, a shell's `&` SIGINT."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


COMMANDS: Mapping[str, Command] = {"apply": apply, "rollback": rollback, "daemon": daemon}
