"""The command line: parse, build, call, exit code. No rule of the updater is here.

Commands that only read never import what acts: cycle, passes and the daemon are imported inside the commands that
need them, which also keeps `plan` quick to start.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from updater.config import Config, ConfigWrong, lacks_web, load, parse_time
from updater.rights import FolderUnusable, refuse_loose
from updater.version import VERSION

if TYPE_CHECKING:
    from reconcile.assess import Ask, Surroundings
    from reconcile.carry_out import AgentResult
    from reconcile.decide.records import Pin
    from updater.apply import Wish
    from updater.progress import Progress
    from updater.render import Document, Palette
    from updater.screen import Screen

# Exit codes: docs/interface.md, section 3.
OK, BROKE, CHANGED, NOT_AS_DESIRED, ROLLED_BACK = 0, 1, 2, 3, 4
USAGE, NO_DESIRED_STATE, TOOL_MISSING, BUSY, CONFIG = 64, 69, 72, 75, 78

_APPLY_TIMEOUT_S = 600.0
_WIDEST = 100  # columns of a help text: longer lines are hard to read

# What is typed, and what it is for.
_EXAMPLES: dict[str, dict[str, str]] = {
    "": {
        "updater demo": "see all of it, on this machine alone",
        "updater plan": "what would be done, and why",
        "updater apply": "do it, and wait until all is well",
        "updater why NAME": "one agent in full, when it is not",
    },
    "plan": {
        "updater plan": "all agents",
        "updater plan falcon-agent -o json": "one, for a program",
        "updater plan --detailed-exitcode -q": "for a script: 2 where something is pending, silent where nothing is",
        "updater plan --desired new.json": "what this answer would do",
        "updater plan --observed snapshots/*.json --desired new.json": "what it would do to these hosts",
        "updater plan --out p.json": "keep it, for `updater apply --plan p.json`",
    },
    "apply": {
        "updater apply": "until all is as desired and stayed up for its watch",
        "updater apply --once falcon-agent": "one pass, one agent",
        "updater apply --plan p.json": "what `updater plan --out p.json` saved, or nothing",
        "*/5 * * * * updater -c /opt/ops-updater/cfg.json apply --once --splay 200": "a line of cron",
    },
    "daemon": {
        "updater -c cfg.json daemon": "what `./control start` runs in the background",
        "updater --log-level debug daemon --now": "watch it work",
    },
    "status": {
        "updater status": "all agents, by their own control scripts",
        "updater status -o json > host.json": "for a program",
        "updater status -q --detailed-exitcode": "for monitoring: silent, and 0, where all is well",
    },
    "demo": {"updater demo": "seven acts; Ctrl-C ends it and leaves nothing behind"},
    "history": {"updater history": "all agents, the newest last", "updater history falcon-agent -o json": ""},
    "why": {"updater why falcon-agent": "with what its control script said when it failed last"},
    "hold": {
        'updater hold falcon-agent --reason "debugging a leak" --for 2h': "",
        "updater hold --all --reason freeze": "until `updater release --all`",
    },
    "release": {"updater release falcon-agent": "", "updater release --all": "also what was held one by one"},
    "rollback": {
        "updater rollback falcon-agent": "`updater why falcon-agent` names the version",
        "updater rollback falcon-agent --to 1.2.0": "",
        "updater release falcon-agent": "ends it: as the server wants again",
    },
    "check": {
        "updater check": "before the first start, and when something is odd",
        "updater check -q || echo 'something is to be mended'": "",
        "updater check -o json": "",
    },
    "completion": {
        'eval "$(updater completion bash)"': "in ~/.bashrc; zsh alike",
        "updater completion fish > ~/.config/fish/completions/updater.fish": "",
    },
    "lint": {
        "updater lint falcon-agent-1.2.0.tar.gz": "before it is published",
        "updater lint --with cfg.json ./my-agent": "a directory, with a config beside its control",
        "updater lint --static -o junit falcon-agent-1.2.0.tar.gz > lint.xml": "for CI",
    },
}
_EXIT_CODES = """\
exit codes:
  0   well                                         64  usage
  1   it broke; the log has a traceback            69  no desired state: no answer, and none kept
  2   changes (only with --detailed-exitcode)      72  a tool is missing on this host
  3   not as desired                               75  another updater is in a pass
  4   rolled back; the former version runs         78  the config is wrong"""


class UsageWrong(Exception):
    """What was typed can't be meant. The message is for people."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the terminal's width by itself: argparse makes a formatter for each option that it is told of, and would
    load shutil, with all its compression modules, to ask."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() else os.get_terminal_size().columns
        except OSError:  # no terminal
            width = 80
        super().__init__(prog, width=min(width, _WIDEST) - 2, max_help_position=28)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """An option's names, and what it takes once (as Python 3.13 does)."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        taken = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {taken}"


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        # No abbreviations: `--out`, which a later version may bring, must not mean `--output` today.
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        see = " See" if message.endswith("?") else "; see"
        raise UsageWrong(f"{message}{see} `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """Say what may stand there, and of commands what was probably meant."""
        known = tuple(action.choices or ())
        if not known or value in known:
            return
        if isinstance(action, argparse._SubParsersAction):
            hint = _nearest(value, known) or f"; known: {' '.join(known)}"
            self.error(f"there is no command {value}{hint}")
        raise argparse.ArgumentError(
            action, f"expected {', '.join(map(str, known[:-1]))} or {known[-1]}, found {value!r}"
        )


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _parse(argv: list[str], options: argparse.Namespace) -> None:
    """Parse into `options`. Raise UsageWrong, in the name of the command that was typed."""
    _, left = _parser().parse_known_args(argv, options)
    if left:
        near = "".join(_nearest(word, options.parser._option_string_actions) for word in left[:1] if word[:1] == "-")
        options.parser.error(f"unrecognized arguments: {' '.join(left)}{near}")


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code. Nothing but one line reaches a person of an error."""
    options = argparse.Namespace(config=Path("cfg.json"))
    try:
        _parse(argv, options)
        code = int(options.command(options))
        sys.stdout.flush()  # here, where a reader that has gone is still answered for
        return code
    except UsageWrong as err:
        return _say(USAGE, str(err))
    except ConfigWrong as err:
        for line in err.errors:
            _say(CONFIG, f"config: {line}" if str(err.path) in line else f"config {err.path}: {line}")
        return CONFIG
    except FolderUnusable as err:
        return _say(CONFIG, str(err))
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return _say(128 + signal.SIGINT, "interrupted")
    except Exception as err:  # the last resort: a person gets one line, the log the rest
        return _say(BROKE, f"it broke, please report it: {err!r}{_logged(options.config)}")


def _logged(config: Path) -> str:
    """Put the traceback at hand into the log, where there is one, and say where."""
    log = config.absolute().parent / "var" / "app.log"
    if not log.parent.is_dir() or log.parent.stat().st_uid != os.geteuid():
        return ""  # nor do we write into what another user put there
    from loguru import logger

    from updater import logs

    logs.set_up("error", log, to_stderr=False)
    logger.opt(exception=True).critical("it broke")
    return f"; the traceback is in {log}"


def _say(code: int, line: str) -> int:
    print(f"updater: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="updater",
        description="Keeps this host's agents at the version and in the state that ops-meta asks for.",
        epilog=f"where to begin:\n{_examples('')}\n\n{_EXIT_CODES}\n\n`updater COMMAND --help` has the rest.",
    )
    parser.add_argument("--version", action="version", version=f"ops-updater {VERSION}")
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        default=Path("cfg.json"),
        help="default: ./cfg.json; var/ lies beside it",
    )
    parser.add_argument(
        "--log-level", metavar="L", type=_level, help="of the log: trace, debug, info, warning, error, critical"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    plan = _command(commands, "plan", _plan, "print the pending actions, each agent with its reason; change nothing")
    _shared(
        plan,
        exitcode="2 where something is pending, blocked changes included",
        quiet="only what is pending; nothing where nothing is",
    )
    plan.add_argument(
        "--observed",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="for these hosts: snapshots that `status -o json` wrote",
    )
    plan.add_argument("--out", metavar="FILE", type=Path, help="save the plan for `apply --plan`")

    apply = _command(commands, "apply", _apply, "make passes until all is as desired, or one with --once")
    _shared(
        apply,
        exitcode="2 where something was changed, and all is well",
        quiet="only what was done or changed, and no progress: what cron would be told",
    )
    apply.add_argument("--once", action="store_true", help="one pass, for cron")
    apply.add_argument(
        "--splay", metavar="S", type=_seconds, help="with --once: sleep this host's slot within S first (s, m, h)"
    )
    apply.add_argument("--timeout", metavar="T", type=_seconds, help="give up after T (s, m, h; default 10m)")
    apply.add_argument("--plan", metavar="FILE", type=Path, help="carry out a saved plan exactly, or refuse it")

    daemon = _command(commands, "daemon", _daemon, "make a pass at each slot of `interval`, until SIGTERM")
    daemon.add_argument("--now", action="store_true", help="the first pass at once, not at this host's slot")
    daemon.add_argument("--check", action="store_true", help="make the checks of a start, and end")

    status = _command(commands, "status", _status, "what is observed now, beside what is desired")
    _shared(
        status,
        exitcode="3 where at least one agent is not as desired",
        quiet="only what is not as desired; nothing where all is",
    )

    history = _command(commands, "history", _history, "what was done, when, why, how long it took, how it ended")
    _told(history, names="*")

    why = _command(commands, "why", _why, "one agent told in full: observed, desired, conditions, last failures")
    _told(why, names=None)

    hold = _command(
        commands, "hold", _hold, "hands off an agent: observed and reported, nothing else, crashes included"
    )
    _whom(hold)
    hold.add_argument("--reason", metavar="R", required=True, help="why: the next person will see it")
    hold.add_argument("--for", metavar="T", dest="span", type=_seconds, help="ends by itself after T (s, m, h, d)")

    release = _command(commands, "release", _release, "lift holds, pins, quarantine and delays")
    _whom(release)

    rollback = _command(commands, "rollback", _rollback, "back to the last good version on disk, pinned until release")
    rollback.add_argument("name", metavar="NAME", help="this agent")
    rollback.add_argument("--to", metavar="VERSION", help="this version instead")
    rollback.add_argument(
        "--timeout",
        metavar="T",
        type=_seconds,
        default=_APPLY_TIMEOUT_S,
        help="wait so long while another updater is in a pass (default 10m)",
    )
    _output(rollback)
    _colour(rollback)

    check = _command(commands, "check", _check, "is this host fit, and what do its rules protect from; one line each")
    _output(check)
    check.add_argument("--offline", action="store_true", help="don't ask the server")
    _colour(check)
    check.add_argument("-q", "--quiet", action="store_true", help="only what is not good")

    lint = _command(commands, "lint", _lint, "does an agent keep the convention? Runs it in a scratch folder")
    lint.add_argument("target", metavar="TARBALL|DIR", type=Path)
    lint.add_argument("--static", action="store_true", help="only read it, run nothing")
    lint.add_argument(
        "--with",
        metavar="FILE",
        dest="given",
        type=Path,
        action="append",
        default=[],
        help="a file that a host would deliver (configFileName): laid beside control",
    )
    lint.add_argument("--timeout", metavar="T", type=_seconds, help="of each call (default: status 10s, else 60s)")
    _output(lint, junit="for CI")
    _colour(lint)
    lint.add_argument("-q", "--quiet", action="store_true", help="only what is not well")

    completion = _command(commands, "completion", _completion, "print a shell's completion script")
    completion.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")

    demo = _command(commands, "demo", _demo, "the whole story on this machine, without a server, a config or root")
    _colour(demo)
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    command: Callable[[argparse.Namespace], int],
    help: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{_examples(name)}",
    )
    parser.set_defaults(command=command, parser=parser)
    return parser


def _examples(name: str) -> str:
    """What is typed, and beside it, or below where it is long, what it is for."""
    lines = []
    for typed, purpose in _EXAMPLES[name].items():
        lines += [f"  {typed:<42}  {purpose}".rstrip()] if len(typed) <= 42 else [f"  {typed}"]
        lines += [f"  {'':<42}  {purpose}"] if len(typed) > 42 and purpose else []
    return "\n".join(lines)


def _output(parser: argparse.ArgumentParser, **more: str) -> None:
    forms = {"text": "for people (default)", "json": "for programs", **more}
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORM",
        choices=tuple(forms),
        default="text",
        help=", ".join(f"{form} {purpose}" for form, purpose in forms.items()),
    )


def _colour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--color",
        metavar="WHEN",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto (default: on a terminal, unless NO_COLOR is set), always or never",
    )


def _shared(parser: argparse.ArgumentParser, *, exitcode: str, quiet: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these agents")
    _output(parser)
    parser.add_argument(
        "--desired", metavar="FILE|URL", help="a response in the contract's form, instead of the server"
    )
    parser.add_argument(
        "--offline", action="store_true", help="the last accepted desired state; the server is not asked"
    )
    parser.add_argument("--detailed-exitcode", action="store_true", help=f"exit with {exitcode}")
    _colour(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help=quiet)


def _told(parser: argparse.ArgumentParser, *, names: str | None) -> None:
    if names is None:
        parser.add_argument("name", metavar="NAME", help="this agent")
    else:
        parser.add_argument("names", metavar="NAME", nargs=names, help="only these agents")
    _output(parser)
    _colour(parser)


def _whom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="this agent")
    parser.add_argument("--all", action="store_true", help="all agents")


def _seconds(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from None


def _level(text: str) -> str:
    levels = ("trace", "debug", "info", "warning", "error", "critical")
    if text.lower() not in levels:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(levels)}, found {text!r}")
    return text.lower()


def _configured(options: argparse.Namespace, *, strict: bool = False) -> Config:
    """The config. `strict`: what is to run on and on is not begun without its password. Raise ConfigWrong, and
    FolderUnusable where root may not go by it: it says what is executed, and what is sent where."""
    from attrs import evolve

    config = load(options.config, strict=strict)
    refuse_loose(config)
    return config if options.log_level is None else evolve(config, log_level=options.log_level)


def _surroundings(config: Config, options: argparse.Namespace) -> Surroundings:
    from updater.wiring import Chosen, surroundings

    desired = options.desired
    if desired is not None and options.offline:
        raise UsageWrong("--desired and --offline exclude each other")
    if desired is None or "://" not in desired:
        return surroundings(config, Chosen(desired=None if desired is None else Path(desired)))
    try:
        return surroundings(config, Chosen(desired=desired))
    except ValueError as err:
        raise UsageWrong(f"--desired {err}") from None


def _check_tools(config: Config) -> str:
    """What is missing of the tools that we rely on, for people; empty: nothing."""
    from updater.tools import missing

    return "; ".join(missing(config))


def _print(text: str) -> None:
    print(text, end="\n" if text else "")


def _palette(options: argparse.Namespace) -> Palette:
    from updater.render import Palette

    return Palette(_in_colour(options) and options.output == "text")


def _in_colour(options: argparse.Namespace, out: TextIO | None = None) -> bool:
    if options.color == "auto":
        return (out or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and not _knows_nothing()
    return bool(options.color == "always")


def _knows_nothing() -> bool:
    """Whether the terminal can neither colour its text nor write over it."""
    return os.environ.get("TERM", "dumb") == "dumb"


def _screen(options: argparse.Namespace) -> Screen | None:
    """The layout for eyes, on a terminal that can show it; None: the plain lines."""
    if options.output != "text" or not sys.stdout.isatty() or _knows_nothing():
        return None
    from updater.screen import NARROWEST, Screen, console

    out = console(sys.stdout, colour=_in_colour(options))
    return Screen(out) if out.width >= NARROWEST else None


def _progress(options: argparse.Namespace) -> Progress:
    """Who tells what goes on, on standard error: a display, on a terminal that knows nothing lines, else nobody."""
    from updater.progress import Lines, Progress

    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return Progress()
    if _knows_nothing():
        return Lines(sys.stderr)
    from updater.live import Display
    from updater.screen import NARROWEST

    display = Display(sys.stderr, colour=_in_colour(options, sys.stderr))
    return display if display.width >= NARROWEST else Lines(sys.stderr)


# --- commands that only read ---


def _plan(options: argparse.Namespace) -> int:
    from reconcile.assess import Ask
    from updater.render import plan_text, to_json
    from updater.saved import save

    if options.observed is not None:
        return _plan_fleet(options)
    document = _assessed(options, "Plan", Ask.OFFLINE if options.offline else Ask.EXCHANGE)
    if isinstance(document, int):
        return document
    if options.out is not None:
        save(options.out, to_json(document))
    screen = _screen(options)
    if screen is not None:
        screen.plan(document, quiet=options.quiet)
    else:
        text = plan_text(document, _palette(options), quiet=options.quiet)
        _print(to_json(document) if options.output == "json" else text)
    return CHANGED if options.detailed_exitcode and document.pending else OK


def _plan_fleet(options: argparse.Namespace) -> int:
    """Plan for hosts that are not this one: no config, no probe, no network."""
    from reconcile.errors import ReconcileError
    from reconcile.source import HostReport
    from updater import fleet
    from updater.sources.file import DesiredFile

    if options.desired is None or "://" in options.desired:
        raise UsageWrong("--observed needs --desired FILE: a response in the contract's form")
    if options.names or options.offline or options.out is not None:
        raise UsageWrong("--observed goes with --desired alone: NAME, --offline and --out are for this host")
    try:
        answer = DesiredFile(Path(options.desired)).exchange(
            HostReport(hostname="", ip="", run_user="", updater_version="")
        )
    except ReconcileError as err:
        return _say(NO_DESIRED_STATE, err.message)
    plan = fleet.plan_fleet(fleet.snapshot_files(options.observed), answer)
    told = (
        fleet.to_json(plan) if options.output == "json" else fleet.to_text(plan, _palette(options), quiet=options.quiet)
    )
    print(told)
    if plan.unreadable or not plan.hosts:
        return _say(USAGE, f"{len(plan.unreadable)} of the files are no usable snapshots; the plan is without them")
    return CHANGED if options.detailed_exitcode and plan.pending else OK


def _status(options: argparse.Namespace) -> int:
    from reconcile.assess import Ask
    from updater.render import status_text

    document = _assessed(options, "Status", Ask.EXCHANGE if options.desired is not None else Ask.LOOK)
    if isinstance(document, int):
        return document
    screen = _screen(options)
    if screen is not None:
        screen.status(document, quiet=options.quiet)
    else:
        text = status_text(document, _palette(options), quiet=options.quiet)
        _print(_status_json(options, document) if options.output == "json" else text)
    well = not document.assessment.refused and all(told.ready or told.held_by_operator for told in document.agents)
    return OK if well or not options.detailed_exitcode else NOT_AS_DESIRED


def _status_json(options: argparse.Namespace, document: Document) -> str:
    """A status with its snapshot; of some agents alone it is none, since the others would be missing in it."""
    import json

    from reconcile.store import read_state
    from updater import host_snapshot
    from updater.render import to_json

    content = json.loads(to_json(document))
    if not options.names:
        config = _configured(options)
        state = read_state(config.var / "state.db")
        content["snapshot"] = host_snapshot.to_json(config, _surroundings(config, options), document.assessment, state)
    return json.dumps(content, indent=2, ensure_ascii=False)


def _assessed(options: argparse.Namespace, kind: str, ask: Ask) -> Document | int:
    """Look, ask and plan; or the exit code where that can't be."""
    from reconcile.assess import NoDesiredState, assess, narrowed, own_conditions, stored_condition
    from reconcile.store import read_state
    from updater.render import Document, assessed

    config = _configured(options)
    around = _surroundings(config, options)
    state = read_state(config.var / "state.db")
    missing = _check_tools(config)
    try:
        found = assess(around, state, ask)
    except NoDesiredState as err:
        return _say(NO_DESIRED_STATE, err.message)
    finally:
        around.hands.end()
    wanted = _wanted(options.names, [view.desired.name for view in found.agents], found.refused, found.bystanders)
    found = narrowed(found, wanted)
    return Document(
        kind=kind,
        host=around.facts.hostname,
        assessment=found,
        agents=tuple(assessed(view, found.at) for view in found.agents),
        conditions=own_conditions(found, state, stored=stored_condition(state.trouble), missing_tools=missing),
    )


def _wanted(names: list[str], *known: Iterable[object]) -> Callable[[str], bool]:
    """Which agents were asked for. Raise UsageWrong on a name that nobody knows."""
    there = {str(getattr(item, "name", item)) for items in known for item in items}
    unknown = [name for name in names if name not in there]
    if unknown:
        listed = ", ".join(sorted(there)) or "none"
        raise UsageWrong(f"no agent named {', '.join(unknown)}; the desired state names: {listed}")
    return (lambda name: name in names) if names else (lambda name: True)


def _history(options: argparse.Namespace) -> int:
    import json

    from reconcile.store import read_history
    from updater.steer import history_json, history_text

    events = read_history(_configured(options).var / "state.db", options.names)
    if options.output == "json":
        print(json.dumps({"format_version": "1.0", "kind": "History", "events": history_json(events)}, indent=2))
        return OK
    screen = _screen(options)
    if screen is not None:
        screen.history(events)
    else:
        print(history_text(events, _palette(options)))
    return OK


def _why(options: argparse.Namespace) -> int:
    import json

    from reconcile.assess import Ask
    from reconcile.store import read_history
    from updater.render import plan_text, status_text, to_json
    from updater.steer import evidence_text, history_json, history_text

    options.names, options.desired, options.offline = [options.name], None, False
    document = _assessed(options, "Why", Ask.LOOK)
    if isinstance(document, int):
        return document
    events = read_history(_configured(options).var / "state.db", options.names, limit=10)
    if options.output == "json":
        print(json.dumps({**json.loads(to_json(document)), "history": history_json(events)}, indent=2))
        return OK
    screen = _screen(options)
    if screen is not None:
        screen.why(document, events)
        return OK
    paint = _palette(options)
    parts = [status_text(document, paint), plan_text(document, paint).partition("\n\n")[2]]
    print("\n\n".join([*parts, evidence_text(events, paint), history_text(events, paint)]).replace("\n\n\n", "\n\n"))
    return OK


def _check(options: argparse.Namespace) -> int:
    import socket

    from updater.check.check import check
    from updater.check.finding import State
    from updater.check.tell import to_json, to_terminal, to_text

    findings = check(options.config, offline=options.offline)
    told = tuple(finding for finding in findings if finding.state is not State.GOOD or not options.quiet)
    screen = _screen(options)
    if options.output == "json":
        print(to_json(told, socket.gethostname()))
    elif screen is not None:
        to_terminal(told, screen.out)
    elif told:
        print(to_text(told, _palette(options)))
    return NOT_AS_DESIRED if any(finding.state is State.BAD for finding in findings) else OK


# --- an operator's hand ---


def _hold(options: argparse.Namespace) -> int:
    from updater.steer import NoSuchName, checked_name, hold

    config = _configured(options)
    try:
        print(hold(config.var / "holds", checked_name(options.name, options.all), options.reason, options.span))
    except NoSuchName as err:
        options.parser.error(str(err))
    return OK


def _release(options: argparse.Namespace) -> int:
    from updater.steer import NoSuchName, checked_name, release

    config = _configured(options)
    try:
        print(release(config.var / "holds", checked_name(options.name, options.all)))
    except NoSuchName as err:
        options.parser.error(str(err))
    return OK


# --- commands that act ---


def _apply(options: argparse.Namespace) -> int:
    if options.splay is not None and not options.once:
        raise UsageWrong("--splay goes with --once: `updater apply --once --splay 200`")
    if options.plan is not None and (options.names or options.once or options.timeout is not None):
        raise UsageWrong("--plan goes alone: the plan says which agents, and is carried out once")
    from updater.apply import Wish
    from updater.saved import PlanUnreadable, PlanUnusable, names_in, read

    wish = Wish(
        names=frozenset(options.names),
        offline=options.offline,
        splay_s=options.splay or 0.0,
        timeout_s=None if options.once or options.plan is not None else options.timeout or _APPLY_TIMEOUT_S,
        progress=_progress(options),
    )
    if options.plan is not None:
        from attrs import evolve

        try:
            saved = read(options.plan)
        except PlanUnreadable as err:
            raise UsageWrong(f"{err}; save one with `updater plan --out {options.plan}`") from None
        except PlanUnusable as err:
            return _say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {err}")
        wish = evolve(wish, saved=saved, names=names_in(saved))
    return _act(options, wish)


def _act(options: argparse.Namespace, wish: Wish) -> int:
    """Make passes as wished, and tell what came of them."""
    from reconcile.assess import NoDesiredState
    from reconcile.errors import WriteFailed
    from updater import logs
    from updater.apply import Apply, Ended
    from updater.lock import Busy
    from updater.passes import make_var
    from updater.render import result_text, to_json
    from updater.saved import PlanMoved

    config = _configured(options)
    around = _surroundings(config, options)
    missing = _check_tools(config)
    if missing:
        return _say(TOOL_MISSING, missing)
    make_var(config.var)
    logs.set_up(config.log_level, config.var / "app.log", to_stderr=False)
    _default_signals()
    applying = Apply(config, around, wish)
    try:
        with wish.progress:
            result = applying.run()
    except Busy as err:
        return _say(BUSY, str(err))
    except Ended as err:
        return _say(128 + err.args[0], "ended by a signal before its pass began; nothing was touched")
    except NoDesiredState as err:
        return _say(NO_DESIRED_STATE, err.message)
    except WriteFailed as err:
        return _say(BROKE, err.message)
    except PlanMoved as err:
        for line in err.differences:
            _say(NOT_AS_DESIRED, f"the plan is refused, nothing was touched: {line}")
        return NOT_AS_DESIRED
    document = applying.document(result)
    everything = sys.stdout.isatty() and not options.quiet
    screen = _screen(options)
    if options.output == "json":
        print(to_json(document))
    elif screen is not None:
        screen.result(document, result.flipped, everything=everything)
    else:
        text = result_text(document, _palette(options), flipped=result.flipped, everything=everything)
        _print(text)
    _wanted(list(wish.names), [agent.view.desired.name for agent in result.agents], result.assessment.refused)
    if wish.pins:
        return OK if all(_is_back(agent, dict(wish.pins)) for agent in result.agents) else NOT_AS_DESIRED
    if not result.all_ready:
        return ROLLED_BACK if applying.only_went_back(result) else NOT_AS_DESIRED
    if wish.timeout_s is not None and result.confirming:
        return _say(NOT_AS_DESIRED, f"still within the watch when the time was up: {', '.join(result.confirming)}")
    return CHANGED if options.detailed_exitcode and applying.acted else OK


def _is_back(agent: AgentResult, pins: dict[str, Pin]) -> bool:
    active = agent.observed.active
    return active is not None and active.version == pins[agent.view.desired.name].version and active.process.is_running


def _rollback(options: argparse.Namespace) -> int:
    import time

    from reconcile.assess import Ask
    from reconcile.decide.records import Pin
    from updater.apply import Wish
    from updater.steer import whoami

    options.names, options.desired, options.offline, options.quiet = [options.name], None, True, False
    options.detailed_exitcode = False
    document = _assessed(options, "Status", Ask.LOOK)
    if isinstance(document, int):
        return document
    view = document.agents[0].view
    version = options.to or view.former_version
    if version is None or version not in view.observed.installed:
        on_disk = ", ".join(view.observed.installed) or "none"
        missing = "no former version is on disk" if version is None else f"{version} is not on disk"
        return _say(NOT_AS_DESIRED, f"{options.name}: {missing} (there: {on_disk})")
    pin = Pin(version=version, owner=whoami(), at=time.time())
    wish = Wish(
        names=frozenset({options.name}),
        pins=((options.name, pin),),
        offline=True,
        wait_s=options.timeout,
        progress=_progress(options),
    )
    return _act(options, wish)


def _daemon(options: argparse.Namespace) -> int:
    from updater import logs
    from updater.lock import Busy
    from updater.passes import make_var

    config = _configured(options, strict=True)
    missing = _check_tools(config)
    if missing:
        return _say(TOOL_MISSING, missing)
    make_var(config.var)
    from updater.daemon import Daemon

    def configure(config: Config) -> None:
        level = options.log_level or config.log_level
        logs.set_up(level, config.var / "app.log", to_stderr=sys.stderr.isatty())

    daemon = Daemon(config, configure)
    if config.http.enabled and (lacking := lacks_web()):
        # An old config must start unchanged, and most have this key: it is said, and the agents are kept all the same.
        _say(OK, f"config http.enabled: local HTTP is not served: {lacking}")
    if options.check:
        return OK
    configure(config)
    _default_signals()
    try:
        daemon.run(now=options.now)
    except Busy as err:
        return _say(BUSY, str(err))
    return OK


def _default_signals() -> None:
    """What we were started to ignore, our agents would ignore too: nohup leaves SIGHUP so, a shell's `&` SIGINT."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _demo(options: argparse.Namespace) -> int:
    from updater.demo.story import tell

    return tell(color=options.color)


def _completion(options: argparse.Namespace) -> int:
    from updater.completion import script

    print(script(options.shell, _parser()))
    return OK


def _lint(options: argparse.Namespace) -> int:
    from updater.lint import running, tell
    from updater.lint.lint import lint
    from updater.lint.scratch import LintUnusable
    from updater.lint.trials import Limits

    if not options.static and not running.can_follow():
        return _say(TOOL_MISSING, "an agent's processes can be followed on Linux alone; here there is `lint --static`")
    limits = (
        Limits()
        if options.timeout is None
        else Limits(status=options.timeout, start=options.timeout, stop=options.timeout)
    )
    try:
        given = {path.name: path.read_bytes() for path in options.given}
    except OSError as err:
        raise UsageWrong(f"--with {err.filename}: {err.strerror}") from None
    try:
        report = lint(
            options.target, run=not options.static, given=given, limits=limits, say=_told_on_terminal(options)
        )
    except LintUnusable as err:
        raise UsageWrong(str(err)) from None
    told = {"json": tell.to_json, "junit": tell.to_junit}.get(options.output)
    print(tell.text(report, _palette(options), quiet=options.quiet) if told is None else told(report))
    return NOT_AS_DESIRED if report.errors else OK


def _told_on_terminal(options: argparse.Namespace) -> Callable[[str], None]:
    """Where progress goes: a terminal's standard error, and nowhere else."""
    if options.output != "text" or options.quiet or not sys.stderr.isatty():
        return lambda words: None
    return lambda words: print(f"lint: {words}", file=sys.stderr)
