"""What may happen between two passes, at random and by a seed: to the server, to agents, by operators, on the disk.

Agents are as cheap as they can be: one runs while a file is there. So ten thousand passes take minutes.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconcile.decide.hold import Hold
from reconcile.storage.hold_files import ALL, put_hold, put_release
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build

NAMES = ("falcon-agent", "falcon-judge", "falcon-graph")
GOOD = ("1.0.0", "1.1.0", "2.0.0")
NEVER_UP, CORRUPT, MISSING = "3.0.0", "4.0.0", "5.0.0"
CONFIG = "cfg.json"

_CONTROL = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) [ -e up ] && exit 1; : >up ;;
stop) [ -e up ] || exit 1; rm -f up ;;
status) if [ -e up ]; then echo started; else echo stoped; fi ;;
esac
"""
# Seen started once after each start, and never again.
_NEVER_UP = _CONTROL.replace("echo started", "rm -f up; echo started")


class Weather:
    """One host, its server, and what happens to them. `said`: what happened, for a look into a failure."""

    def __init__(self, meta: FaultyOpsMeta, work: Path, holds: Path, seed: int) -> None:
        self.said: list[str] = []
        self._meta = meta
        self._work = work
        self._holds = holds
        self._chance = random.Random(seed)
        self._packed = 0
        self._wanted: dict[str, dict[str, Any]] = {}
        for name in NAMES:
            for version in (*GOOD, CORRUPT):
                self._publish(name, version)
            meta.publish(name, NEVER_UP, build(name, NEVER_UP, control=_NEVER_UP))
            meta.corrupt(name, CORRUPT)
        self._wish_all("1.0.0")

    def change(self) -> None:
        """Let something happen, or nothing."""
        often: list[tuple[float, Callable[[], object]]] = [
            (0.40, self._wish),
            (0.20, self._crash),
            (0.10, self._trouble),
            (0.35, self._clear_up),
            (0.08, self._pack_again),
            (0.10, self._configure),
            (0.04, self._edit),
            (0.03, self._hold),
            (0.05, self._release),
            (0.02, self._forget),
            (0.03, self._litter),
            (0.02, self._wipe),
        ]
        for chance, happen in often:
            if self._chance.random() < chance:
                self.said.append(f"{happen.__name__.strip('_')} {happen() or ''}".strip())
        del self.said[:-40]

    def clear(self) -> None:
        """Make an end of it all: every agent is wanted at a good version, and nothing stands in the way."""
        self._clear_up()
        put_release(self._holds, ALL)
        for name in NAMES:  # once more, so that an edit by hand ends
            (self._work / name / self._version(name) / CONFIG).unlink(missing_ok=True)
        self._wish_all("2.0.0")

    # The publisher

    def _publish(self, name: str, version: str) -> None:
        self._packed += 1
        extra = {"packed": f"{self._packed}\n".encode()}
        self._meta.publish(name, version, build(name, version, control=_CONTROL, extra=extra))

    def _wish_all(self, version: str) -> None:
        for name in NAMES:
            self._wanted[name] = {"version": version, "cmd": "start"}
        self._desire()

    def _desire(self) -> None:
        self._meta.desire(*(self._meta.agent(name, **keys) for name, keys in sorted(self._wanted.items())))

    def _wish(self) -> str:
        name = self._chance.choice(NAMES)
        version = self._chance.choice((*GOOD, *GOOD, *GOOD, NEVER_UP, CORRUPT, MISSING))
        cmd = self._chance.choice(("start",) * 8 + ("stop", ""))
        self._wanted[name] = {**self._wanted.get(name, {}), "version": version, "cmd": cmd}
        self._desire()
        return f"{name} {version} {cmd}"

    def _pack_again(self) -> str:
        name, version = self._chance.choice(NAMES), self._chance.choice(GOOD)
        self._publish(name, version)
        self._desire()
        return f"{name} {version}"

    def _configure(self) -> str:
        name = self._chance.choice(NAMES)
        content = json.dumps({"greeting": self._chance.randrange(5)}).encode()
        url = self._meta.publish_config(f"{name}/{CONFIG}", content)
        if name in self._wanted:
            self._wanted[name] |= {"configFileName": CONFIG, "configRemoteUrl": url}
        self._desire()
        return name

    def _forget(self) -> str:
        name = self._chance.choice(NAMES)
        self._wanted.pop(name, None)
        self._desire()
        return name

    # Faults

    def _trouble(self) -> str:
        kind = self._chance.randrange(8)
        match kind:
            case 0:
                self._meta.down()
            case 1 | 2:
                self._meta.fail(self._chance.choice((429, 500, 503)), times=3)
            case 3:
                self._meta.answer_raw(200, self._chance.choice(("", "null", "[]", "<html>", '{"desiredAgents": 1}')))
            case 4:
                self._meta.answer_raw(200, '{"errorMessage": "", "desiredAgents": null}', times=2)
            case 5:
                self._meta.cut(".tar.gz", after=self._chance.randrange(2000), times=2)
            case 6:
                self._meta.fail(404, CONFIG, times=4)
            case _:
                self._meta.ignore_ranges()
        return str(kind)

    def _clear_up(self) -> None:
        self._meta.heal()
        for name in NAMES:
            self._meta.corrupt(name, CORRUPT)

    # The host

    def _version(self, name: str) -> str:
        try:
            return (self._work / name / ".version").read_text()
        except OSError:
            return "none"

    def _crash(self) -> str:
        name = self._chance.choice(NAMES)
        (self._work / name / self._version(name) / "up").unlink(missing_ok=True)
        return name

    def _edit(self) -> str:
        name = self._chance.choice(NAMES)
        path = self._work / name / self._version(name) / CONFIG
        if path.exists():
            path.write_text('{"greeting": "by hand"}')
        return name

    def _litter(self) -> str:
        """What an interruption leaves."""
        name = self._chance.choice(NAMES)
        stage = self._work / name / f".stage-{self._chance.randrange(1000)}"
        stage.mkdir(parents=True, exist_ok=True)
        (stage / "half").write_text("a half")
        return name

    def _wipe(self) -> str:
        """Somebody removes the version in use, or the cache."""
        name = self._chance.choice((*NAMES, ""))
        if name:
            shutil.rmtree(self._work / name / self._version(name), ignore_errors=True)
        else:
            shutil.rmtree(self._holds.parent / "cache", ignore_errors=True)
        return name or "cache"

    # Operators

    def _hold(self) -> str:
        name = self._chance.choice((*NAMES, ALL))
        now = time.time()
        put_hold(self._holds, name, Hold(owner="someone", reason="looking", since=now, until=now + 3600))
        return name

    def _release(self) -> str:
        name = self._chance.choice((*NAMES, ALL))
        put_release(self._holds, name)
        return name
