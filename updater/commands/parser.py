"""What may be typed: the command line, parsed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from updater.commands.argument_parser import Parser, commands_of, count, level, nearest, no_command, percent, seconds
from updater.commands.context import UsageWrong
from updater.commands.examples import EXIT_CODES, examples_of
from updater.settings.values import LEVELS
from updater.version import VERSION

_LINES = 20  # of each log
_WAIT_S = 600.0  # of `rollback`, unless --timeout says otherwise
_BEFORE = {"-c": "FILE", "--config": "FILE", "--log-level": "L"}  # and what they take

_Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def parse(argv: list[str], options: argparse.Namespace) -> None:
    """Parse into `options`. Raise UsageWrong, in the name of the command that was typed."""
    left = _parsed(argv, options)
    if not left:
        return
    option = left[0].partition("=")[0]
    if option in _BEFORE and options.command is not None:
        typed = f"`updater {option} {_BEFORE[option]} {options.command}`"
        options.parser.error(f"{option} goes before the command: {typed}")
    near = nearest(left[0], options.parser._option_string_actions) if option.startswith("-") else ""
    options.parser.error(f"unrecognized arguments: {' '.join(left)}{near}")


def _parsed(argv: list[str], options: argparse.Namespace) -> list[str]:
    """Parse, and return what is left. The parsers of commands that were not typed are made for help and errors alone:
    all of them take longer to make than the one takes to parse."""
    typed = [name for name in _COMMANDS if name in argv]
    if typed and not {"-h", "--help"} & set(argv):
        with suppress(UsageWrong):
            return build(typed).parse_known_args(argv, options)[1]
    return build().parse_known_args(argv, options)[1]


def help_of(command: str | None) -> str:
    """The help of a command, or of all of it. Raise UsageWrong where there is no such command."""
    whole = build()
    if command is None:
        return whole.format_help()
    commands = commands_of(whole).choices
    if command not in commands:
        raise UsageWrong(no_command(command, commands))
    return commands[command].format_help()


def build(names: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """The whole command line, or with these commands alone. What it finds is in `command`, by name, and in `parser`
    whose help describes it; None and the whole where none was typed."""
    parser = Parser(
        prog="updater",
        description="Keeps this host's agents at the version and in the state that ops-meta asks for.",
        epilog=f"where to begin:\n{examples_of('')}\n\n{EXIT_CODES}\n\n`updater COMMAND --help` has the rest.",
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
    parser.add_argument("--log-level", metavar="L", type=level, choices=LEVELS, help=f"of the log: {', '.join(LEVELS)}")
    parser.set_defaults(command=None, parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name in _COMMANDS if names is None else names:
        _COMMANDS[name](commands)
    return parser


def _plan(commands: _Commands) -> None:
    parser = _command(commands, "plan", "print the pending actions, each agent with its reason; change nothing")
    _about_desired_state(
        parser,
        exitcode="2 where something is pending, held changes included",
        quiet="only what is pending; nothing where nothing is",
    )
    _observed(parser, "for these hosts: snapshots that `status -o json` wrote")
    parser.add_argument("--out", metavar="FILE", type=Path, help="save the plan for `apply --plan`")


def _apply(commands: _Commands) -> None:
    parser = _command(commands, "apply", "make passes until all is as desired, or one with --once")
    _about_desired_state(
        parser,
        exitcode="2 where something was changed, and all is well",
        quiet="only what was done or changed, and no progress: what cron prints",
    )
    parser.add_argument("--once", action="store_true", help="one pass, for cron")
    parser.add_argument(
        "--splay", metavar="S", type=seconds, help="with --once: sleep this host's slot within S first (s, m, h)"
    )
    parser.add_argument(
        "--timeout",
        metavar="T",
        type=seconds,
        help="give up after T (s, m, h; default 10m); with --once: what is still downloaded then goes on in the next "
        "run (default 0.7 of the interval, at least 60s)",
    )
    parser.add_argument("--plan", metavar="FILE", type=Path, help="carry out a saved plan exactly, or refuse it")


def _daemon(commands: _Commands) -> None:
    parser = _command(commands, "daemon", "make a pass at each slot of `interval`, until SIGTERM")
    parser.add_argument("--now", action="store_true", help="the first pass at once, not at this host's slot")
    parser.add_argument("--check", action="store_true", help="make the checks of a start, and end")
    # A shorter wait is not worth a start of the program; tests and benches can't wait for a minute.
    parser.add_argument("--stand-by-from", metavar="S", type=seconds, default=60.0, help=argparse.SUPPRESS)


def _status(commands: _Commands) -> None:
    parser = _command(commands, "status", "one line an agent: what is observed, what is desired, why it differs")
    _about_desired_state(
        parser,
        exitcode="3 where at least one agent is not as it should be",
        quiet="only what is not as it should be; nothing where all is",
        wide="for people, with each agent's conditions",
    )
    parser.add_argument("--watch", action="store_true", help="redrawn on a terminal, until Ctrl-C")
    _observed(parser, "of these hosts, in groups: what `status -o json` wrote there")


def _history(commands: _Commands) -> None:
    parser = _command(commands, "history", "what was done, when, why, by whom, how long it took, how it ended")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these agents")
    _output(parser)
    _colour(parser)
    parser.add_argument(
        "-n", "--count", metavar="N", type=count, help="the last N events (default 50; of `-o json` all)"
    )
    parser.add_argument("--since", metavar="T", type=seconds, help="not older than T (s, m, h, d)")
    parser.add_argument("--failed", action="store_true", help="only what failed or was rolled back")


def _why(commands: _Commands) -> None:
    parser = _command(commands, "why", "one agent in full: observed, desired, plan, what to do, last failures")
    parser.add_argument("name", metavar="NAME", help="this agent")
    _output(parser)
    _colour(parser)


def _logs(commands: _Commands) -> None:
    parser = _command(commands, "logs", "the last lines of what an agent wrote itself: its start log and its own logs")
    parser.add_argument("name", metavar="NAME", help="this agent")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=count, default=_LINES, help=f"of each file (default {_LINES})"
    )


def _hold(commands: _Commands) -> None:
    parser = _command(commands, "hold", "hands off an agent: observed and reported, nothing else, crashes included")
    _agents_or_all(parser, "all agents, those that come later too")
    parser.add_argument("--ahead", action="store_true", help="also agents that this host does not know yet")
    parser.add_argument("--reason", metavar="R", required=True, help="why: the next person will see it")
    parser.add_argument("--for", metavar="T", dest="span", type=seconds, help="ends by itself after T (s, m, h, d)")


def _release(commands: _Commands) -> None:
    parser = _command(commands, "release", "lift holds, pins, quarantine and delays")
    _agents_or_all(parser, "end what `hold --all` began, and nothing else")
    parser.add_argument(
        "--place", action="store_true", help="give the place in the fleet's lock back; what failed here stays so"
    )


def _rollback(commands: _Commands) -> None:
    parser = _command(commands, "rollback", "back to the last good version on disk, pinned until release")
    parser.add_argument("name", metavar="NAME", help="this agent")
    parser.add_argument("--to", metavar="VERSION", help="this version instead")
    parser.add_argument(
        "--timeout",
        metavar="T",
        type=seconds,
        default=_WAIT_S,
        help="wait so long while another updater is in a pass (default 10m)",
    )
    _output(parser)
    _colour(parser)


def _check(commands: _Commands) -> None:
    parser = _command(commands, "check", "is this host fit, and what do its rules protect from; one line each")
    _output(parser)
    parser.add_argument("--offline", action="store_true", help="don't ask the server")
    _colour(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only what is not good")


def _config(commands: _Commands) -> None:
    parser = _command(commands, "config", "the config in force, secrets masked; or a JSON Schema of cfg.json")
    parser.add_argument("what", metavar="show|schema", choices=("show", "schema"))
    _output(parser)
    _colour(parser)


def _lint(commands: _Commands) -> None:
    parser = _command(commands, "lint", "does an agent keep the convention? Runs it in a scratch folder")
    parser.add_argument("target", metavar="TARBALL|DIR", type=Path)
    parser.add_argument("--static", action="store_true", help="only read it, run nothing")
    parser.add_argument(
        "--with",
        metavar="FILE",
        dest="given",
        type=Path,
        action="append",
        default=[],
        help="a file that a host would deliver (configFileName): laid beside control",
    )
    parser.add_argument("--timeout", metavar="T", type=seconds, help="of each call (default: status 10s, else 60s)")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder, and say where it is")
    _output(parser, junit="for CI")
    _colour(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only what is not well")


def _new_agent(commands: _Commands) -> None:
    parser = _command(commands, "new-agent", "lay down a folder with the template of an agent, the name filled in")
    parser.add_argument("new_name", metavar="NAME", help="of the agent, and of the folder that is made here")


def _publish(commands: _Commands) -> None:
    parser = _command(commands, "publish", "lay tarballs out for any web server, and name them in a desired state")
    parser.add_argument("tarballs", metavar="TARBALL", type=Path, nargs="+", help="NAME-VERSION.tar.gz")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the folder that a web server serves")
    parser.add_argument("--arch", metavar="A", help="linux_amd64, linux_arm64, ... (default: this host's)")
    parser.add_argument("--name", metavar="N", help="of a tarball whose file name does not say it; with --version")
    parser.add_argument("--version", metavar="V", help="with --name")
    parser.add_argument("--desired", metavar="FILE", type=Path, help="set its entry in this desired state")
    parser.add_argument("--url", metavar="BASE", help="where hosts find DIR (default: as the entry has it)")
    parser.add_argument(
        "--cmd", metavar="C", choices=("start", "stop"), help="start or stop (default: as the entry has it)"
    )
    parser.add_argument("--percent", metavar="N", type=percent, help="of the hosts that take it by now, 0 to 100")
    parser.add_argument(
        "--minisign-key", metavar="FILE", dest="key", type=Path, help="sign all of it with this secret key"
    )
    parser.set_defaults(output="text")
    _colour(parser)


def _completion(commands: _Commands) -> None:
    parser = _command(commands, "completion", "print a shell's completion script")
    parser.add_argument(
        "shell",
        metavar="SHELL",
        choices=("bash", "zsh", "fish", "words"),
        help="bash, zsh or fish; words: what their scripts ask at each Tab, with the line on standard input",
    )


def _help(commands: _Commands) -> None:
    parser = _command(commands, "help", "the same as `COMMAND --help`")
    parser.add_argument("topic", metavar="COMMAND", nargs="?", help="this command; none: all of it")


def _demo(commands: _Commands) -> None:
    parser = _command(commands, "demo", "the whole story on this machine, without a server, a config or root")
    _colour(parser)


def _command(
    commands: _Commands,
    name: str,
    help: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{examples_of(name)}",
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


def _about_desired_state(parser: argparse.ArgumentParser, *, exitcode: str, quiet: str, **forms: str) -> None:
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


def _agents_or_all(parser: argparse.ArgumentParser, all_help: str) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="these agents")
    parser.add_argument("--all", action="store_true", help=all_help)


_COMMANDS = {
    "plan": _plan,
    "apply": _apply,
    "daemon": _daemon,
    "status": _status,
    "history": _history,
    "why": _why,
    "logs": _logs,
    "hold": _hold,
    "release": _release,
    "rollback": _rollback,
    "check": _check,
    "config": _config,
    "lint": _lint,
    "new-agent": _new_agent,
    "publish": _publish,
    "completion": _completion,
    "help": _help,
    "demo": _demo,
}
