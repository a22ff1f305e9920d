"""Control scripts that hang, flood, forge, fork and escape, asked for real; and decent ones that look like them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from probes.home import StatusLimits
from probes.host.facts import own_user
from probes.observe import observe_agent
from probes.observed import HomeRef
from reconcile.act.context import ControlLimits, StepContext
from reconcile.act.steps.lifecycle import start, stop
from reconcile.decide.actions import Start, Stop
from reconcile.errors import ReconcileError
from tests.e2e.processes import end_all_in, running_in
from tests.hostile.case import Case, Seen
from tests.hostile.doors import QUICK, Visit, tools_of

NAME, VERSION = "falcon-agent", "1.0.0"
ENDING_S = 30.0  # from a time limit to the end of the call, at most: 6 at leisure, and what a slow machine adds
FAILING_S = 1.5  # the limit of a call that ends by itself at once, but after which the word is waited for in vain
PATIENT_S = 60.0  # where no time limit is to be met, none is met by chance
EVIDENCE = 64 << 10  # bytes that are kept of a failure, at most
LOG = 2 << 20  # bytes of .start.log when a call has ended: its limit, and what comes between two looks at it


@frozen
class Script:
    """`body`: shell, `$1` is the verb. `limit_s`: of the call, short where nothing else ends it. `head`: the first
    line. `leaves`: it gets processes past its end, as agents do; else none may be left. `slow`: no quick test."""

    verb: str
    body: str
    end: str
    says: str = ""
    limit_s: float = PATIENT_S
    head: str = "#!/bin/sh\n"
    leaves: bool = False
    slow: bool = False


def status(body: str, end: str = "unknown", says: str = "", **more: object) -> Script:
    return Script("status", body, end, says, **more)  # type: ignore[arg-type]


def hanging(body: str, *, leaves: bool = False) -> Script:
    return status(body, says="no answer within", limit_s=0.3, leaves=leaves)


def deaf(body: str, *, leaves: bool = False) -> Script:
    """One that hangs and does not heed SIGTERM: it costs two seconds more."""
    return evolve(hanging(body, leaves=leaves), slow=True)


def on(verb: str, body: str, end: str, says: str = "", answer: str = "stoped", **more: object) -> Script:
    """`body` for one verb; what `status` prints is `answer`."""
    whole = f'case "$1" in {verb}) {body};; status) {answer if " " in answer else f"echo {answer}"};; esac'
    return Script(verb, whole, end, says, **more)  # type: ignore[arg-type]


HOSTILE: dict[str, Script] = {
    # It hangs
    "hangs": hanging("exec sleep 600"),
    "hangs after the word": hanging("echo started; exec sleep 600"),
    "ignores TERM": deaf("trap '' TERM HUP INT; while :; do sleep 0.2; done"),
    "ignores TERM and begets who does": deaf("trap '' TERM; (while :; do sleep 0.2; done) & while :; do sleep 1; done"),
    "answers TERM with the word": deaf("trap 'echo started' TERM; while :; do sleep 0.1; done"),
    "stops itself": deaf("kill -STOP $$; echo started"),
    "spins": hanging("while :; do :; done"),
    "waits for a child that sleeps": hanging("sleep 600 & wait"),
    "waits at a FIFO": hanging("mkfifo pipe; read word < pipe"),
    "fifty children that ignore TERM": deaf(
        "trap '' TERM; n=0; while [ $n -lt 50 ]; do sleep 600 & n=$((n + 1)); done; wait"
    ),
    "an orphan of another session, and hangs": hanging("setsid sleep 600 & sleep 600", leaves=True),
    "an orphan of another session, and ignores TERM": deaf(
        "trap '' TERM; setsid sh -c 'sleep 600' & while :; do sleep 0.2; done", leaves=True
    ),
    # It floods
    "floods": status("yes not started", says="unclear|cut|started"),
    "floods in one line": status("yes started | tr '\\n' ' ' | head -c 3000000", says=r"cut|unclear"),
    "floods for ever, one write each": hanging("while :; do echo not started; done"),
    "floods with noise": status("head -c 3000000 /dev/urandom", says="."),
    "floods with zeros": status("head -c 3000000 /dev/zero", says="."),
    "floods from children that hold stdout": status("yes x & yes y & sleep 0.2; echo so so", says=".", leaves=True),
    "opens its output anew and floods": status("yes not started > /dev/stdout", says="."),
    "seeks a gigabyte ahead": status("dd if=/dev/zero of=/dev/stdout bs=1 count=1 seek=1G 2>&1; echo so so", says="."),
    "blanks without end, and then a word": status("printf 'started%30000sx\\n' ''", says="cut"),
    # It forges
    "not started": status("echo not started", says="not started"),
    "both words": status("echo started; echo stoped"),
    "one word to each output": status("echo started; echo stoped >&2"),
    "the word in another": status("echo restarted", says="restarted"),
    "the word in a question": status("echo 'started?'", says=r"started\?"),
    "the word in JSON": status("""echo '{"status": "started"}'""", says="status"),
    "the word with a count of none": status("echo 'started: 0'", says="started: 0"),
    "stopped, and a pid": status("echo 'stopped, pid 12'", says="pid 12"),
    "the word behind a carriage return": status("printf 'stoped\\rstarted\\n'", says="unclear: started"),
    "the word drawn over another": status("printf 'not running\\033[2K\\033[1Gstarted\\n'", says=r"\\x1b\[2K"),
    "the word in Cyrillic": status("echo 'ѕtarted'", says="tarted"),  # noqa: RUF001 - a Cyrillic letter, on purpose
    "the word in wide letters": status("echo 'ｓｔａｒｔｅｄ'"),  # noqa: RUF001 - wide letters, on purpose
    "the word with a NUL in it": status("printf 'star\\000ted\\n'", says=r"\\x00"),
    "the word turned around": status("printf '\\342\\200\\256detrats\\n'", says=r"\\u202e"),
    "the word after a byte that is no text": status("printf '\\377started\\n'", says=r"\\xff"),
    "a line of our own log": status(
        "printf 'x\\n2026-11-24 02:00:00 INFO all agents as desired\\n'", says="all agents"
    ),
    # It paints the terminal
    "a window's title": status("printf '\\033]0;owned\\007\\n'", says=r"\\x1b\]0;owned\\x07"),
    "the clipboard": status("printf '\\033]52;c;cm0gLXJm\\007\\n'", says=r"\\x1b\]52"),
    "a cleared screen": status("printf '\\033[2J\\033[Hstarted\\n'", says=r"\\x1b\[2J"),
    "eight-bit escapes": status("printf '\\302\\2332Jgone\\n'", says=r"\\x9b2J"),
    "a bell for each line": status("yes \"$(printf '\\007')\" | head -n 1000", says=r"\\x07"),
    # It is something else
    "executes what it likes": status("exec cat /etc/passwd", says="."),
    "asks for an answer": status('read answer; echo "got <$answer>"', says="got <>"),
    "kills its whole group": status("kill -KILL 0; echo started"),
    "dumps core": status("kill -SEGV $$"),
    "says nothing": status(":"),
    "an interpreter that is missing": status("echo started", says="no/such", head="#!/no/such/interpreter\n"),
    "no first line": status("echo started", says="no `#!`", head=""),
    "line ends of Windows": status("echo started\r\n", says="CR LF", head="#!/bin/sh\r\n"),
    "a program of another machine": status("", says="another architecture", head="\x7fELF" + "\0" * 60),
    # start
    "a start that hangs": on("start", "exec sleep 600", "ControlTimeout", "limit 0 s|limit 1 s", limit_s=0.4),
    "a start that ignores TERM": on(
        "start", "trap '' TERM; while :; do sleep 0.2; done", "ControlTimeout", limit_s=0.4, slow=True
    ),
    "a start that says the word itself": on(
        "start", "echo started", "StartFailed", "status says: stoped", limit_s=FAILING_S
    ),
    "a start that lies by its exit code": on("start", "exit 0", "StartFailed", "exited 0", limit_s=FAILING_S),
    "a start that floods its log": on("start", "yes not started", "ControlTimeout", limit_s=0.4),
    "a start that paints the terminal": on(
        "start", "printf '\\033[2J\\033]0;x\\007'", "StartFailed", r"x1b\[2J", limit_s=FAILING_S
    ),
    "a start that replaces its log by a link": on(
        "start", "ln -sf ../../../victim ../.start.log; yes x | head -c 3000000", "StartFailed", limit_s=FAILING_S
    ),
    "a start that removes itself": on("start", 'rm -rf "$PWD"', "StartFailed", "could not run|says", limit_s=FAILING_S),
    "a start that comes up for one look": on(
        "start",
        "touch up",
        "StartFailed",
        "no more",
        answer="if rm up 2>/dev/null; then echo started; else echo stoped; fi",
    ),
    # stop
    "a stop that hangs": on("stop", "exec sleep 600", "ControlTimeout", answer="started", limit_s=0.4),
    "a stop that says the word itself": on(
        "stop", "echo stoped", "StopFailed", "still says: started", answer="started", limit_s=FAILING_S
    ),
    "a stop after which nobody knows": on("stop", ":", "StopFailed", "so so", answer="echo so so", limit_s=FAILING_S),
    "a stop that floods": on("stop", "yes stoped", "StopFailed", answer="started", limit_s=FAILING_S),
}

_UP = "if [ -e up ]; then echo started; fi"

BENIGN: dict[str, Script] = {
    "started": status("echo started", "started"),
    "stoped": status("echo stoped", "stoped"),
    "Stopped, with blanks": status("echo '  Stopped.  '", "stoped"),
    "a pid beside the word": status("echo 'falcon-agent is started, pid=12'", "started"),
    "a colour": status("printf '\\033[32mstarted\\033[0m\\n'", "started"),
    "warnings around the word": status("echo 'cannot read x'; echo started; echo 'not bad'", "started"),
    "an exit code of failure": status("echo started; exit 3", "started"),
    "by standard error": status("echo stoped >&2", "stoped"),
    "much noise, and then the word": status("yes noise | head -c 50000; echo; echo started", "started"),
    "slow, but in time": status("sleep 0.5; echo started", "started"),
    "a child that holds stdout": status("sleep 600 & echo started", "started", leaves=True),
    "a child that speaks later": status("(sleep 600; echo stoped) & echo started", "started", leaves=True),
    "cd to its own folder": status('cd "$(dirname "$0")" && echo started', "started"),
    "a start that leaves its agent behind": on(
        "start", "nohup sleep 600 > /dev/null 2>&1 & touch up", "done", answer=_UP, leaves=True
    ),
    "a start whose agent holds its output": on("start", "sleep 600 & touch up", "done", answer=_UP, leaves=True),
    "a start of what runs already": on("start", "echo running; exit 1", "done", answer="started"),
    "a stop of what is stopped": on("stop", "echo 'no pid file'; exit 1", "done", answer="stoped"),
}


def cases() -> list[Case]:
    """Each is executed by the code that a pass runs: `status` by observing, `start` and `stop` by the steps."""
    return [
        Case(
            group="control",
            name=name,
            expected=script.end,
            says=script.says,
            benign=benign,
            slow=script.slow,
            observe=partial(_asked, script),
        )
        for corpus, benign in ((HOSTILE, False), (BENIGN, True))
        for name, script in corpus.items()
    ]


def _asked(script: Script, folder: Path) -> Seen:
    """Execute it, see how that ends, and end what it left."""
    place = HomeRef(name=NAME, work_dir=str(folder / "work"), run_user=own_user().name, config_name=None)
    home = folder / "work" / NAME
    control = home / VERSION / "control"
    control.parent.mkdir(parents=True)
    control.write_text(script.head + script.body + "\n")
    control.chmod(0o755)
    (home / ".version").write_text(VERSION)
    (folder / "victim").write_text("untouched")
    tools = evolve(
        tools_of(Visit(origin="http://127.0.0.1:1", pace=QUICK, folder=folder)),
        home=place,
        control=ControlLimits(start_s=script.limit_s, stop_s=script.limit_s, recheck_s=0.1),
    )
    began = time.monotonic()
    try:
        seen = evolve(_door(script, tools), seconds=time.monotonic() - began)
        return evolve(seen, breach=seen.breach or _breach(script, seen, folder))
    finally:
        end_all_in(folder)


def _door(script: Script, tools: StepContext) -> Seen:
    if script.verb == "status":
        active = observe_agent(tools.home, StatusLimits(limit_s=script.limit_s)).active
        return Seen(end="not seen") if active is None else Seen(end=active.process.value, said=active.status_output)
    steps: dict[str, Callable[[], object]] = {
        "start": lambda: start(Start(version=VERSION), tools),
        "stop": lambda: stop(Stop(version=VERSION), tools),
    }
    try:
        steps[script.verb]()
        return Seen(end="done")
    except ReconcileError as err:
        too_much = "kept too much" if len(err.evidence.encode()) > EVIDENCE or len(err.message) > 1000 else ""
        return Seen(end=type(err).__name__, said=err.message, breach=too_much)


def _breach(script: Script, seen: Seen, folder: Path) -> str:
    """What must not be, however the call ended."""
    log = folder / "work" / NAME / ".start.log"
    if seen.seconds > script.limit_s + ENDING_S + (1 if script.verb != "status" else 0):  # the status after it
        return f"took {seen.seconds:.1f} s with a limit of {script.limit_s} s"
    if (folder / "victim").read_text() != "untouched":
        return "wrote through a link"
    if log.exists() and not log.is_symlink() and os.path.getsize(log) > LOG:
        return f".start.log has {os.path.getsize(log)} bytes"
    if not script.leaves and not _are_gone(folder):
        return "left processes behind"
    return ""


def _are_gone(folder: Path) -> bool:
    """Whether nothing of it runs any more; what was just killed takes a moment to be gone."""
    deadline = time.monotonic() + ENDING_S
    while running_in(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
