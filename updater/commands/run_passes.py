"""What `apply` and `rollback` share: check what a pass needs, make passes, report, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING

from attrs import evolve

from updater.commands.context import (
    BROKE,
    BUSY,
    CHANGED,
    NO_DESIRED_STATE,
    NOT_AS_DESIRED,
    OK,
    ROLLED_BACK,
    TOOL_MISSING,
    configured,
    host_context,
    missing_tools,
    say,
    show,
    wanted,
)
from updater.service import log_setup
from updater.service.locks import Busy
from updater.service.pass_runner import make_var
from updater.settings.config import Config

if TYPE_CHECKING:
    from reconcile.decide.records.record import Pin
    from reconcile.engine.results import AgentResult, PassResult
    from updater.service.converge import Apply, ApplyOptions


def run_passes(options: argparse.Namespace, apply_options: ApplyOptions) -> int:
    """Make passes as wished, and tell what came of them."""
    from reconcile.assess.pass_context import NoDesiredState
    from reconcile.errors import WriteFailed
    from updater.service.converge import Apply, ApplyInterrupted
    from updater.service.saved_plan import PlanMoved

    config = configured(options)
    host = host_context(config, options)
    unfit = prepare(config)
    if unfit != OK:
        return unfit
    log_setup.set_up(config.log_level, config.var / "app.log", to_stderr=False)
    default_signals()
    names = list(apply_options.names)
    apply_options = evolve(apply_options, check_names=lambda known: wanted(names, known))
    applying = Apply(config, host, apply_options)
    try:
        with apply_options.progress:
            result = applying.run()
    except Busy as err:
        return say(BUSY, str(err))
    except ApplyInterrupted as err:
        return say(128 + err.args[0], "ended by a signal before its pass began; nothing was touched")
    except NoDesiredState as err:
        return say(NO_DESIRED_STATE, err.message)
    except WriteFailed as err:
        return say(BROKE, err.message)
    except PlanMoved as err:
        for line in err.differences:
            say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {line}")
        return NOT_AS_DESIRED
    _report(options, apply_options, applying, result)
    return _exit_code(options, apply_options, applying, result)


def prepare(config: Config) -> int:
    """Check what every pass relies on, and make var/; OK, or the exit code, and it was said what is wrong.

    Raise FolderUnusable."""
    missing = missing_tools()
    if missing:
        return say(TOOL_MISSING, missing)
    make_var(config.var)
    return OK


def _report(options: argparse.Namespace, apply_options: ApplyOptions, applying: Apply, result: PassResult) -> None:
    """What was done and changed; a person at a terminal gets a line of every agent. `apply` ends with one that
    counts."""
    from updater.output.json_form import to_json
    from updater.output.tables import count_rows, result_rows

    document = applying.document(result)
    if options.output == "json":
        print(to_json(document))
        return
    everything = sys.stdout.isatty() and not options.quiet
    rows = result_rows(
        document, transitions=result.transitions, newly_refused=bool(result.newly_refused), everything=everything
    )
    counted = count_rows(document) if everything or (apply_options.timeout_s is not None and not options.quiet) else ()
    show(options, (*rows, *counted))


def _exit_code(options: argparse.Namespace, apply_options: ApplyOptions, applying: Apply, result: PassResult) -> int:
    """The exit code of passes that were made."""
    if apply_options.pins:
        return _rollback_code(dict(apply_options.pins), result)
    if not result.all_ready:
        return ROLLED_BACK if applying.only_went_back(result) else NOT_AS_DESIRED
    if apply_options.timeout_s is not None and result.confirming:
        return say(NOT_AS_DESIRED, f"still within the watch when the time was up: {', '.join(result.confirming)}")
    return CHANGED if options.detailed_exitcode and applying.acted else OK


def _rollback_code(pins: dict[str, Pin], result: PassResult) -> int:
    """The exit code of a rollback; where an agent is not back, say why."""
    away = [agent for agent in result.agents if not _is_back(agent, pins)]
    for agent in away:
        until = f"it stays pinned there until `updater release {agent.name}`"
        say(NOT_AS_DESIRED, f"{agent.name}: not back at {pins[agent.name].version}: {_why_away(agent)}; {until}")
    return NOT_AS_DESIRED if away else OK


def _why_away(agent: AgentResult) -> str:
    from reconcile.decide.conditions import ready_of
    from reconcile.decide.desired import RunState

    match agent.view.desired.run:
        case RunState.STOP:
            return "ops-meta says stop"
        case RunState.OBSERVE:
            return "it is to be observed only"
        case RunState.START:
            ready = ready_of(agent.conditions)
            return "" if ready is None else ready.message or ready.reason


def _is_back(agent: AgentResult, pins: dict[str, Pin]) -> bool:
    active = agent.observed.active
    return active is not None and active.version == pins[agent.view.desired.name].version and active.process.is_running


def default_signals() -> None:
    """What we were started to ignore, our agents would ignore too: nohup leaves SIGHUP so, a shell's `&` SIGINT."""
    pythons_own = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores these, and each Popen resets them
    for number in signal.valid_signals() - pythons_own:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
