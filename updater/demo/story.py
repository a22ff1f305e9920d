"""The demo's story, in seven acts: from a first install to a stop, on this machine alone, in a few seconds.

Each act sets something up at a small ops-meta, or does to the agent what happens to agents, then runs the real updater
and asks the real agent what came of it. Nothing is staged but the occasion: where a fact is not what the story claims,
it says so and ends. What it is played with is in sandbox.py.
"""

from __future__ import annotations

import sys
import time

from updater.demo.agent import crash, pid_of, running_below
from updater.demo.narration import Narrator
from updater.demo.sandbox import DemoFailed, DemoSandbox, open_sandbox
from updater.demo.tarball import build
from updater.version import VERSION

_NAME = "falcon-agent"
_CONFIG = b'{"greeting": "hello"}\n'
_LOG_LINES = 15


def run_story(*, color: str) -> int:
    """Tell it, and return the exit code: 0, 1 where a claim of it did not hold, 130 where it was interrupted.

    `color`: auto, always or never.
    """
    narrator = Narrator(color)
    began = time.monotonic()
    try:
        with open_sandbox(narrator) as stage:
            try:
                _prologue(stage)
                for act in (_install, _upgrade, _crash, _manual_edit, _corrupt, _rollback, _stop):
                    act(stage)
            except DemoFailed as err:
                _explain(stage, err)
                return 1
    except KeyboardInterrupt:
        print("updater: demo interrupted; its agents are ended and its folder is removed", file=sys.stderr)
        return 130
    _epilogue(narrator, time.monotonic() - began)
    return 0


def _prologue(stage: DemoSandbox) -> None:
    stage.narrator.headline(f"ops-updater {VERSION}: the whole story, on this machine alone")
    stage.narrator.say(
        f"A small ops-meta listens at http://{stage.meta.address}, agents will live in {stage.work_dir}, and beside"
        f" them stands an updater with this cfg.json: {stage.config.read_text().strip()}. Nothing below is made up:"
        " each command is run when you see it, and each line marked ok was checked. Ctrl-C ends it and leaves nothing"
        " behind."
    )


def _install(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("1. A first install")
    stage.narrator.say(
        f"Ops-meta now wants {_NAME} 1.0.0 to run on this host, where there is none. `plan` asks it and tells what"
        " would be done and why; `apply --once` does it. Cron can run that, and so does the daemon, every five minutes."
    )
    stage.meta.publish(_NAME, "1.0.0", build(_NAME, "1.0.0"))
    stage.meta.desire(_NAME, "1.0.0")
    stage.updater("plan")
    stage.claim(not home.exists(), f"nothing was changed by that: there is no {home} yet")
    stage.updater("apply", "--once")
    stage.ask_and_show(home, "1.0.0")


def _upgrade(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("2. An upgrade, with a config from the server")
    stage.narrator.say(
        "Version 1.1.0 is published, and from now on the agent's cfg.json comes from the server. All that can fail"
        " without touching the agent stands before `stop`: the old version runs until the new one lies there, verified."
        " `apply` without --once goes on until the new one has run for its watch, here two seconds."
    )
    before = stage.ask(home)
    stage.meta.publish(_NAME, "1.1.0", build(_NAME, "1.1.0"))
    stage.meta.desire(_NAME, "1.1.0", config=_CONFIG)
    stage.updater("plan")
    stage.updater("apply")
    after = stage.ask_and_show(home, "1.1.0")
    stage.claim(after.pid != before.pid and after.greeting == "hello", "a new process, and it has read its new config")


def _crash(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("3. A crash, healed")
    stage.narrator.say(
        "The agent is killed (SIGKILL), as a crash would end it. The updater judges nothing by memory: each pass asks"
        " the agent's own control script, so it sees what is so now."
    )
    dead = crash(home)
    stage.claim(pid_of(home) is None, f"pid {dead} is dead")
    stage.updater("plan")
    stage.updater("apply", "--once")
    after = stage.ask_and_show(home, "1.1.0")
    stage.claim(after.pid != dead, "the same version, in a new process")


def _manual_edit(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("4. A change made by hand")
    config = home / "1.1.0" / "cfg.json"
    mine = '{"greeting": "changed at 3 in the morning"}\n'
    stage.narrator.say(
        f"Somebody edits {config} on the host, and has a reason. The updater shows it and leaves it alone, until the"
        " config at the server changes."
    )
    before = stage.ask(home)
    config.write_text(mine)
    output = stage.updater("status", "-o", "wide")
    stage.claim("ConfigEdited" in output, "it was noticed: ConfigEdited")
    stage.updater("apply", "--once")
    stage.claim(config.read_text() == mine, f"the file still says {mine.strip()}")
    stage.claim(stage.ask_and_show(home, "1.1.0").pid == before.pid, "the same process as before")


def _corrupt(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("5. A corrupt tarball, refused")
    stage.narrator.say(
        "Version 1.2.0 is wanted, and a byte of its tarball is flipped on the way. Nothing is unpacked before its"
        " digest has matched, and nothing is stopped before all is ready."
    )
    before = stage.ask(home)
    stage.meta.publish(_NAME, "1.2.0", build(_NAME, "1.2.0"), is_corrupt=True)
    stage.meta.desire(_NAME, "1.2.0", config=_CONFIG)
    output = stage.updater("apply", "--once", expect=3)
    stage.claim("DigestMismatch" in output, "it was refused, for the right reason: DigestMismatch")
    versions = sorted(path.name for path in home.iterdir() if path.is_dir())
    stage.claim(versions == ["1.0.0", "1.1.0"], f"nothing of it was unpacked: on disk are {' and '.join(versions)}")
    stage.claim(stage.ask_and_show(home, "1.1.0").pid == before.pid, "the agent runs on, the same process as before")


def _rollback(stage: DemoSandbox) -> None:
    home = stage.work_dir / _NAME
    stage.narrator.headline("6. A version that does not start, rolled back")
    stage.narrator.say(
        "Version 1.3.0 arrives whole, but its `control start` starts nothing. That shows only after the old one was"
        " stopped, so the same pass goes back to what ran before, from disk, and does not try 1.3.0 again until it is"
        " another tarball or an operator says `release`. `why` explains it, with the control script's own words."
    )
    stage.meta.publish(_NAME, "1.3.0", build(_NAME, "1.3.0", starts=False))
    stage.meta.desire(_NAME, "1.3.0", config=_CONFIG)
    stage.updater("apply", "--once", expect=4)
    stage.ask_and_show(home, "1.1.0")
    stage.narrator.next_screen()
    output = stage.updater("why", _NAME)
    stage.claim("Quarantined" in output, "1.3.0 is not tried again: Quarantined")
    pid = stage.ask(home).pid
    stage.updater("apply", "--once", expect=3)
    stage.claim(
        stage.ask_and_show(home, "1.1.0").pid == pid, "the next pass leaves the agent alone, the same process as before"
    )


def _stop(stage: DemoSandbox) -> None:
    stage.narrator.headline("7. A stop")
    stage.narrator.say("Ops-meta wants the agent stopped; it stays installed. A change is reported at once.")
    stage.meta.desire(_NAME, "1.1.0", cmd="stop", config=_CONFIG)
    stage.updater("plan")
    stage.updater("apply", "--once")
    stage.claim(not running_below(stage.work_dir), "no agent runs any more")
    reported = stage.meta.reported(_NAME)
    words = f"the report to ops-meta says: {_NAME} {reported.get('version')} {reported.get('status')}"
    stage.claim((reported.get("version"), reported.get("status")) == ("1.1.0", "stoped"), words)


def _epilogue(narrator: Narrator, seconds: float) -> None:
    narrator.headline(f"That was it, in {seconds:.0f} seconds; the agents are ended and the folder is removed")
    narrator.say(
        "You saw a plan with its reasons, an install, an upgrade, a crash healed, a hand-made change respected, a"
        " corrupt tarball refused while the agent ran on, a version that does not start rolled back, and a stop."
        " Where to go next:"
    )
    narrator.signposts(
        {
            "README.md": "what it promises, and how to install it",
            "docs/reasons.md": "each reason that you saw: what it means, what to do",
            "./control help": "all that an operator can type",
        }
    )


def _explain(stage: DemoSandbox, err: DemoFailed) -> None:
    """Say which claim did not hold, with the updater's own last words, since its folder is about to go."""
    print(f"updater: the demo did not go as it should: {err}; please report it", file=sys.stderr)
    if stage.log.exists():
        last = stage.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        print("The last lines of the updater's log:", *last, sep="\n  ", file=sys.stderr)
