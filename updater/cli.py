"""The command line: parse, call the command, exit code. No rule of the updater is here.

A command's module is loaded when that command was typed. So what only reads never loads what acts, and each begins
quickly.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from probes.host.process_title import hide
from probes.host.start_failure import SHORTAGES
from updater.commands import parser
from updater.commands.context import BROKE, CONFIG, OK, USAGE, Command, UsageWrong, say
from updater.settings.config import ConfigWrong
from updater.settings.preflight import FolderUnusable

SHORT = (
    "the host leaves the updater no memory or no process; raise its limits (ulimit -v and -u, or MemoryMax and "
    "TasksMax of its unit), and run it again"
)

# Of address space: with less Python itself fails halfway, in ways that no program can answer for (docs/reliability.md).
_LEAST_B = 72 << 20

# What a file's place, owner, rights or disk don't let us do: a person mends that, and there is nothing to report.
_OF_FILES = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
        *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    )
)

# Of commands that share a module; any other is in the one of its name.
_MODULES = {"release": "hold"}


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code. Nothing but one line reaches a person of an error."""
    options = argparse.Namespace(config=Path("cfg.json"), command=None)
    try:
        code = _run(argv, options)
        sys.stdout.flush()  # here, where a reader that has gone is still answered for
        return code
    except UsageWrong as err:
        return say(USAGE, str(err))
    except ConfigWrong as err:
        for line in err.errors:
            say(CONFIG, f"config: {line}" if str(err.path) in line else f"config {err.path}: {line}")
        return CONFIG
    except FolderUnusable as err:
        return say(CONFIG, str(err))
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK if options.command else USAGE
    except KeyboardInterrupt:
        return say(128 + signal.SIGINT, "interrupted")
    except Exception as err:  # the last resort: a person gets one line, the log the rest
        return say(BROKE, _breakdown(err, options.config))


def _run(argv: list[str], options: argparse.Namespace) -> int:
    """Parse a command line into `options`, and call its command."""
    parser.parse(argv, options)
    if options.command is None:
        print(parser.help_of(None), end="")
        return USAGE
    if options.command == "help":
        print(parser.help_of(options.topic), end="")
        return OK
    hide(_typed(options))
    if 0 <= (allowed := resource.getrlimit(resource.RLIMIT_AS)[0]) < _LEAST_B:
        return say(BROKE, f"{SHORT}: it may use {allowed >> 20} MiB, and needs {_LEAST_B >> 20}")
    return _command(options.command)(options)


def _breakdown(err: Exception, config: Path) -> str:
    """What a person reads of an error that no command expects."""
    if _is_shortage(err):  # the log would need still more
        return f"{SHORT}: {err!r}"
    if isinstance(err, OSError) and err.errno in _OF_FILES:
        named = f"{err.filename}: " if err.filename is not None else ""
        return f"{named}{err.strerror}; look at what lies there, at its owner and rights, and at its disk"
    return f"it broke, please report it: {err!r}{_logged(config, err)}"


def _is_shortage(err: Exception) -> bool:
    """Whether the host gave us no memory, process or thread: that is no mistake of ours."""
    if isinstance(err, OSError):
        return err.errno in SHORTAGES
    return isinstance(err, MemoryError) or (isinstance(err, RuntimeError) and "start new thread" in str(err))


def _typed(options: argparse.Namespace) -> Iterator[str]:
    """What may name an agent: while we live, also where we wait for another updater, scripts look for theirs."""
    values = vars(options)
    yield from values.get("names") or ()
    yield values.get("name") or ""
    for path in (values.get("target"), *(values.get("given") or ())):  # of lint
        yield from () if path is None else (str(path), path.name)


def _command(name: str) -> Command:
    """What a command does; its module is loaded here, and none of the others."""
    module = import_module(f"updater.commands.{_MODULES.get(name, name).replace('-', '_')}")
    command: Command = getattr(module, name.replace("-", "_"))
    return command


def _logged(config: Path, err: Exception) -> str:
    """Put the traceback into the log, where there is one, and say where."""
    log = config.absolute().parent / "var" / "app.log"
    if not log.parent.is_dir() or log.parent.stat().st_uid != os.geteuid():
        return ""  # nor do we write into what another user put there
    from reconcile.log import logger
    from updater.service import log_setup

    log_setup.set_up("error", log, to_stderr=False)
    logger.failure("CRITICAL", err, "it broke")
    return f"; the traceback is in {log}"
