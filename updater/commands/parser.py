"""What may be typed, and the ends of the help texts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from updater.commands.context import UsageWrong
from updater.settings.values import LEVELS, parse_time
from updater.version import VERSION

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
        "updater status --observed statuses/*.json": "how these hosts are, in groups",
        "updater status -q --detailed-exitcode": "for monitoring: silent, and 0, where all is well",
    },
    "help": {"updater help": "all commands", "updater help plan": "one of them"},
    "demo": {"updater demo": "seven acts; Ctrl-C ends it and leaves nothing behind"},
    "history": {"updater history": "all agents, the newest last", "updater history falcon-agent -o json": ""},
    "why": {"updater why falcon-agent": "with what its control script said when it failed last"},
    "logs": {"updater logs falcon-agent": "why it died, in its own words", "updater logs falcon-agent -f -n 100": ""},
    "hold": {
        'updater hold falcon-agent --reason "debugging a leak" --for 2h': "",
        "updater hold --all --reason freeze": "until `updater release --all`",
    },
    "release": {"updater release falcon-agent": "", "updater release --all": "ends `hold --all`, and nothing else"},
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
    "config": {
        "updater config show": "each key, its value, and where that is from",
        "updater config show -o json": "for a program: times in seconds, sizes in bytes",
        "updater config schema > cfg.schema.json": "for an editor, or configuration management",
    },
    "completion": {
        'eval "$(updater completion bash)"': "in ~/.bashrc; zsh alike",
        "updater completion fish > ~/.config/fish/completions/updater.fish": "",
    },
    "new-agent": {
        "updater new-agent falcon-agent": "makes ./falcon-agent with its control and a program to replace",
        "updater lint falcon-agent": "then",
    },
    "publish": {
        "updater publish alpha-1.2.0.tar.gz --to www": "the tarball and its digest files",
        "updater publish alpha-1.2.0.tar.gz --to www --url http://files/ --desired www/desired.json": "and its entry",
        "updater publish alpha-1.2.1.tar.gz --to www --desired www/desired.json --percent 5": "to a twentieth of hosts",
    },
    "lint": {
        "updater lint falcon-agent-1.2.0.tar.gz": "before it is published",
        "updater lint --with cfg.json ./my-agent": "a directory, with a config beside its control",
        "updater lint --static -o junit falcon-agent-1.2.0.tar.gz > lint.xml": "for CI",
    },
}
EXIT_CODES = """\
exit codes:
  0   well                                    64  usage
  1   it broke; the log has a traceback       69  no answer, and none kept
  2   changes (with --detailed-exitcode)      72  a tool is missing on this host
  3   not as desired                          75  another updater is in a pass
  4   rolled back; the former version runs    78  the config is wrong"""
_COLUMNS = 80  # of a terminal; what is longer would be cut amid a word there
_WIDEST_EXAMPLE = 42  # of what stands beside its purpose


def examples(command: str) -> str:
    """What is typed, and beside it, or below where it is long, what it is for. An empty name: where to begin."""
    told = _EXAMPLES[command]
    widest = max((len(typed) for typed in told if len(typed) <= _WIDEST_EXAMPLE), default=0)
    lines = []
    for typed, purpose in told.items():
        beside = f"  {typed:<{widest}}  {purpose}".rstrip()
        if len(typed) <= widest and len(beside) < _COLUMNS:
            lines.append(beside)
        else:
            lines += [f"  {typed}", *([f"      {purpose}"] if purpose else [])]
    return "\n".join(lines)


_LINES = 20  # of each log
_WAIT_S = 600.0  # of `rollback`, unless --timeout says otherwise
_BEFORE = {"-c": "FILE", "--config": "FILE", "--log-level": "L"}  # and what they take
_WIDEST = 100  # columns of a help text: longer lines are hard to read


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


def parse(argv: list[str], options: argparse.Namespace) -> None:
    """Parse into `options`. Raise UsageWrong, in the name of the command that was typed."""
    _, left = build().parse_known_args(argv, options)
    if not left:
        return
    option = left[0].partition("=")[0]
    if option in _BEFORE:
        typed = f"`updater {option} {_BEFORE[option]} {options.command}`"
        options.parser.error(f"{option} goes before the command: {typed}")
    near = _nearest(left[0], options.parser._option_string_actions) if option.startswith("-") else ""
    options.parser.error(f"unrecognized arguments: {' '.join(left)}{near}")


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def help_of(command: str | None) -> str:
    """The help of a command, or of all of it. Raise UsageWrong where there is no such command."""
    whole = build()
    if command is None:
        return whole.format_help()
    [commands] = [action.choices for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    if command not in commands:
        hint = _nearest(command, commands) or f"; known: {' '.join(commands)}"
        raise UsageWrong(f"there is no command {command}{hint}")
    text: str = commands[command].format_help()
    return text


def build() -> argparse.ArgumentParser:
    """The whole command line. What it finds is in `command`, by name, and in `parser` whose help describes it."""
    parser = _Parser(
        prog="updater",
        description="Keeps this host's agents at the version and in the state that ops-meta asks for.",
        epilog=f"where to begin:\n{examples('')}\n\n{EXIT_CODES}\n\n`updater COMMAND --help` has the rest.",
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
        "--log-level", metavar="L", type=str.lower, choices=LEVELS, help=f"of the log: {', '.join(LEVELS)}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    plan = _command(commands, "plan", "print the pending actions, each agent with its reason; change nothing")
    _shared(
        plan,
        exitcode="2 where something is pending, held changes included",
        quiet="only what is pending; nothing where nothing is",
    )
    _observed(plan, "for these hosts: snapshots that `status -o json` wrote")
    plan.add_argument("--out", metavar="FILE", type=Path, help="save the plan for `apply --plan`")

    apply = _command(commands, "apply", "make passes until all is as desired, or one with --once")
    _shared(
        apply,
        exitcode="2 where something was changed, and all is well",
        quiet="only what was done or changed, and no progress: what cron would be told",
    )
    apply.add_argument("--once", action="store_true", help="one pass, for cron")
    apply.add_argument(
        "--splay", metavar="S", type=_seconds, help="with --once: sleep this host's slot within S first (s, m, h)"
    )
    apply.add_argument(
        "--timeout",
        metavar="T",
        type=_seconds,
        help="give up after T (s, m, h; default 10m); with --once: what is still downloaded then goes on in the next "
        "run (default 0.7 of the interval, at least 60s)",
    )
    apply.add_argument("--plan", metavar="FILE", type=Path, help="carry out a saved plan exactly, or refuse it")

    daemon = _command(commands, "daemon", "make a pass at each slot of `interval`, until SIGTERM")
    daemon.add_argument("--now", action="store_true", help="the first pass at once, not at this host's slot")
    daemon.add_argument("--check", action="store_true", help="make the checks of a start, and end")
    # A shorter wait is not worth a start of the program; tests and benches can't wait for a minute.
    daemon.add_argument("--stand-by-from", metavar="S", type=_seconds, default=60.0, help=argparse.SUPPRESS)

    status = _command(commands, "status", "one line an agent: what is observed, what is desired, why it differs")
    _shared(
        status,
        exitcode="3 where at least one agent is not as it should be",
        quiet="only what is not as it should be; nothing where all is",
        wide="for people, with each agent's conditions",
    )
    status.add_argument("--watch", action="store_true", help="redrawn on a terminal, until Ctrl-C")
    _observed(status, "of these hosts, in groups: what `status -o json` wrote there")

    history = _command(commands, "history", "what was done, when, why, by whom, how long it took, how it ended")
    _told(history, names="*")
    history.add_argument(
        "-n", "--count", metavar="N", type=_count, help="the last N events (default 50; of `-o json` all)"
    )
    history.add_argument("--since", metavar="T", type=_seconds, help="not older than T (s, m, h, d)")
    history.add_argument("--failed", action="store_true", help="only what failed or was rolled back")

    why = _command(commands, "why", "one agent told in full: observed, desired, conditions, last failures")
    _told(why, names=None)

    logs = _command(commands, "logs", "the last lines of what an agent wrote itself: its start log and its own logs")
    logs.add_argument("name", metavar="NAME", help="this agent")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until Ctrl-C")
    logs.add_argument(
        "-n", "--lines", metavar="N", type=_count, default=_LINES, help=f"of each file (default {_LINES})"
    )

    hold = _command(commands, "hold", "hands off an agent: observed and reported, nothing else, crashes included")
    _whom(hold, "all agents, those that come later too")
    hold.add_argument("--ahead", action="store_true", help="also agents that this host does not know yet")
    hold.add_argument("--reason", metavar="R", required=True, help="why: the next person will see it")
    hold.add_argument("--for", metavar="T", dest="span", type=_seconds, help="ends by itself after T (s, m, h, d)")

    release = _command(commands, "release", "lift holds, pins, quarantine and delays")
    _whom(release, "end what `hold --all` began, and nothing else")
    release.add_argument(
        "--place", action="store_true", help="give the place in the fleet's lock back; what failed here stays so"
    )

    rollback = _command(commands, "rollback", "back to the last good version on disk, pinned until release")
    rollback.add_argument("name", metavar="NAME", help="this agent")
    rollback.add_argument("--to", metavar="VERSION", help="this version instead")
    rollback.add_argument(
        "--timeout",
        metavar="T",
        type=_seconds,
        default=_WAIT_S,
        help="wait so long while another updater is in a pass (default 10m)",
    )
    _output(rollback)
    _colour(rollback)

    check = _command(commands, "check", "is this host fit, and what do its rules protect from; one line each")
    _output(check)
    check.add_argument("--offline", action="store_true", help="don't ask the server")
    _colour(check)
    check.add_argument("-q", "--quiet", action="store_true", help="only what is not good")

    config = _command(commands, "config", "the config in force, secrets masked; or a JSON Schema of cfg.json")
    config.add_argument("what", metavar="show|schema", choices=("show", "schema"))
    _output(config)
    _colour(config)

    lint = _command(commands, "lint", "does an agent keep the convention? Runs it in a scratch folder")
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
    lint.add_argument("--keep", action="store_true", help="keep the scratch folder, and say where it is")
    _output(lint, junit="for CI")
    _colour(lint)
    lint.add_argument("-q", "--quiet", action="store_true", help="only what is not well")

    new_agent = _command(commands, "new-agent", "lay down a folder with the template of an agent, the name filled in")
    new_agent.add_argument("new_name", metavar="NAME", help="of the agent, and of the folder that is made here")

    publish = _command(commands, "publish", "lay tarballs out for any web server, and name them in a desired state")
    publish.add_argument("tarballs", metavar="TARBALL", type=Path, nargs="+", help="NAME-VERSION.tar.gz")
    publish.add_argument("--to", metavar="DIR", type=Path, required=True, help="the folder that a web server serves")
    publish.add_argument("--arch", metavar="A", help="linux_amd64, linux_arm64, ... (default: this host's)")
    publish.add_argument("--name", metavar="N", help="of a tarball whose file name does not say it; with --version")
    publish.add_argument("--version", metavar="V", help="with --name")
    publish.add_argument("--desired", metavar="FILE", type=Path, help="set its entry in this desired state")
    publish.add_argument("--url", metavar="BASE", help="where hosts find DIR (default: as the entry has it)")
    publish.add_argument(
        "--cmd", metavar="C", choices=("start", "stop"), help="start or stop (default: as the entry has it)"
    )
    publish.add_argument("--percent", metavar="N", type=_percent, help="of the hosts that take it by now, 0 to 100")
    publish.add_argument(
        "--minisign-key", metavar="FILE", dest="key", type=Path, help="sign all of it with this secret key"
    )
    publish.set_defaults(output="text")
    _colour(publish)

    completion = _command(commands, "completion", "print a shell's completion script")
    completion.add_argument(
        "shell",
        metavar="SHELL",
        choices=("bash", "zsh", "fish", "words"),
        help="bash, zsh or fish; words: what their scripts ask at each Tab, with the line on standard input",
    )

    help = _command(commands, "help", "the same as `COMMAND --help`")
    help.add_argument("topic", metavar="COMMAND", nargs="?", help="this command; none: all of it")

    demo = _command(commands, "demo", "the whole story on this machine, without a server, a config or root")
    _colour(demo)
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    help: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{examples(name)}",
    )
    parser.set_defaults(command=name, parser=parser)
    return parser


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


def _shared(parser: argparse.ArgumentParser, *, exitcode: str, quiet: str, **forms: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these agents")
    _output(parser, **forms)
    parser.add_argument(
        "--desired", metavar="FILE|URL", help="a response in the contract's form, instead of the server"
    )
    parser.add_argument(
        "--offline", action="store_true", help="the last accepted desired state; the server is not asked"
    )
    parser.add_argument("--detailed-exitcode", action="store_true", help=f"exit with {exitcode}")
    _colour(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help=quiet)


def _observed(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--observed", metavar="FILE", type=Path, nargs="+", help=help)


def _told(parser: argparse.ArgumentParser, *, names: str | None) -> None:
    if names is None:
        parser.add_argument("name", metavar="NAME", help="this agent")
    else:
        parser.add_argument("names", metavar="NAME", nargs=names, help="only these agents")
    _output(parser)
    _colour(parser)


def _whom(parser: argparse.ArgumentParser, all_help: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="these agents")
    parser.add_argument("--all", action="store_true", help=all_help)


def _seconds(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= len(text) <= 9 or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more, found {text!r}")
    return int(text)


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 100, found {text!r}")
    return int(percent) if percent.is_integer() else percent
