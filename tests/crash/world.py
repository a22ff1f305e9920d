"""A host to crash on: its ops-meta, one agent with real processes, and the promises as checks.

    with World(folder, runner, SCENARIOS["upgrade"]) as world:
        world.restore()
        world.attempt(Fault(mode="kill", at=17))
        world.recover()
        assert not world.broken

A scenario is prepared once; `restore` puts its files back as they were and starts the agent, so that each attempt
begins with the same picture.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen

from probes.observed import MARKER, NEXT_PREFIX, PREVIOUS_PREFIX
from tests.crash.points import DEATHS, ERRORS, Fault
from tests.crash.runner import Order, Ran, Runner
from tests.e2e.processes import end_all_in, running_in
from tests.support.fleet_lock_server import Memory, Server
from tests.support.ops_meta import OpsMetaServer
from tests.support.sample_agents import build
from updater.demo import agent as agents

NAME = "falcon-agent"
CONFIG = "cfg.json"
GROUP = "web"  # of the fleet's lock
_OF_THE_AGENT = frozenset({"app.pid", "app.log", "port", MARKER})  # what it writes into its version, and our marker
_SAID = 700  # characters of the updater's words in a finding
_LIFETIME_S = 900  # a run that is broken off leaves no agent for longer
_PAST_ALL_DELAYS_S = 5000.0  # the longest of a failure's delays is an hour


@frozen(kw_only=True)
class Scenario:
    """`prepare`: what came before; `begin`: what ops-meta wants then. `ends_at`: version and greeting that it must have
    in the end. `versions`: what may lie in the home then. `codes`: the exit codes of a pass after which all is so.
    `passes`: how many it may take until the agent is where it must be; one more confirms it and prunes. `runs_before`:
    whether an agent runs when the attempt begins. `never_down`: whether one must run right after any error of the disk;
    not where the new version fails by itself, since the way back from it must be written. `exchange`: whether the file
    system can swap two directories. `moved`: the versions that may lie in the home that it moved out of, or was to move
    into; `ends_elsewhere`: whether it must have moved in the end. `places`: how many places in the fleet's lock this
    host must have in the end; None: there is no lock. `then`: what happens between the attempt and the passes after
    it."""

    name: str
    prepare: Callable[[World], None]
    begin: Callable[[World], None]
    ends_at: tuple[str, str]
    versions: frozenset[str]
    runs_before: bool = True
    never_down: bool = True
    codes: tuple[int, ...] = (0,)
    exchange: bool = True
    passes: int = 1
    moved: frozenset[str] = frozenset()
    ends_elsewhere: bool = False
    places: int | None = None
    then: Callable[[World], None] | None = None


class World:
    """`broken`: the promises that did not hold, for people. `host`: where all of the host's files lie."""

    def __init__(
        self, folder: Path, runner: Runner, scenario: Scenario, mutant: str = "", *, host: Path | None = None
    ) -> None:
        self.scenario = scenario
        self.host = host or folder / "host"
        self.work = self.host / "agents"
        self.home = self.work / NAME
        self.elsewhere = self.host / "elsewhere"
        self.var = self.host / "updater" / "var"
        self.out = folder / "out"
        self.broken: list[str] = []
        self.meta = OpsMetaServer(work_dir=self.work)
        self._lock: Server | None = None if scenario.places is None else Server(1, Memory())
        self._template = folder / "template"
        self._grave = self.host / "grave"
        self.runner = runner
        self._mutant = mutant
        self._contents: dict[str, list[dict[str, bytes]]] = {}
        self._configs: set[bytes] = set()
        self._boots = 0
        self._names_were_lost = False

    def __enter__(self) -> World:
        self.meta.__enter__()
        try:
            for made in (self.work, self.host / "updater", self._grave):
                made.mkdir(parents=True)
            keys: dict[str, Any] = {"server": self.meta.server, "hostname": "liutian-01", "watch": 0, "keep": 2}
            if self._lock is not None:
                threading.Thread(target=self._lock.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
                keys["fleet_lock"] = {"url": self._lock.url, "group": GROUP}
            (self.host / "updater" / "cfg.json").write_text(json.dumps(keys))
            self.scenario.prepare(self)
            assert not self.broken, self.broken
            if self.scenario.runs_before:
                self._control("stop")
            shutil.copytree(self.host, self._template, symlinks=True)
            self.scenario.begin(self)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end_everything()
        self.meta.__exit__(kind, error, at)
        if self._lock is not None:
            self._lock.shutdown()
            self._lock.server_close()

    # What ops-meta's publisher does

    def publish(self, version: str, **habits: Any) -> None:
        """Publish a release; what each of its files must hold is remembered."""
        tarball = build(NAME, version, **{"lifetime": _LIFETIME_S, **habits})
        self.meta.publish(NAME, version, tarball)
        with tarfile.open(fileobj=io.BytesIO(tarball)) as tar:
            files = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isreg()}
            self._contents.setdefault(version, []).append({name: f.read() for name, f in files.items() if f})

    def desire(self, version: str, *, greeting: str = "", work_dir: Path | None = None) -> None:
        """Want this version, and with a greeting the config that holds it."""
        keys: dict[str, Any] = {} if work_dir is None else {"workDir": str(work_dir)}
        if greeting:
            content = json.dumps({"greeting": greeting}).encode()
            self._configs.add(content)
            keys |= {"configFileName": CONFIG, "configRemoteUrl": self.meta.publish_config(CONFIG, content)}
        self.meta.desire(self.meta.agent(NAME, version, **keys))

    # What happens on the host

    def restore(self) -> None:
        """Bring the host back to where the scenario begins."""
        self.end_everything()
        shutil.rmtree(self.host)
        shutil.copytree(self._template, self.host, symlinks=True)
        if self.scenario.then is not None:  # it changed what is wanted
            self.scenario.begin(self)
        self.broken = []
        self._boots = 0  # the host that was copied is of the first; after a reboot a watch is not what it was
        self._names_were_lost = False
        if self._lock is not None:
            self._lock.store = Memory()
        if self.scenario.runs_before:
            self._control("start")

    def attempt(self, fault: Fault = Fault(), **order: Any) -> Ran:  # noqa: B008 - a value
        """The pass that the scenario is about, with this going wrong in it; check what must hold right after it."""
        ran = self.runner.run(self.order(fault=fault, mutant=self._mutant, **order))
        self.look_after(fault.mode)
        return ran

    def die(self, fault: Fault) -> Ran:
        """The same where all of the host dies with it: what must hold is checked by the caller."""
        ran = self.runner.run(self.order(fault=fault, mutant=self._mutant))
        self.end_everything()
        return ran

    def look_after(self, mode: str) -> None:
        """Check what must hold right after the attempt."""
        if mode.startswith("power"):
            self.end_everything()
            self._boots += 1
            self._names_were_lost = mode == DEATHS[2]
        self.check_version_is_whole()
        self.check_place_is_noted()
        if mode in ERRORS and self.scenario.never_down:
            self.check_runs_once()

    def recover(self) -> None:
        """Make the passes that come next, and check that they bring it where it must be."""
        code = -1
        if self.scenario.then is not None:
            self.scenario.then(self)
        for number in range(1, self.scenario.passes + 2):
            code = self.runner.run(self.order(mutant=self._mutant, later=_PAST_ALL_DELAYS_S * number)).code
            if number == self.scenario.passes:
                self.check_is_where_it_must_be("after the next pass")
        self.demand(code in self.scenario.codes, f"the last pass ended with {code}: {self.said()}")
        self.check_is_where_it_must_be("in the end")
        self.check_nothing_is_left()
        self.check_memory()
        self.demand(
            self._lock is None or len(self._held()) == self.scenario.places, f"places held in the end: {self._held()}"
        )

    def apply(self, *codes: int) -> None:
        """A pass of the preparation."""
        ran = self.runner.run(self.order())
        assert ran.code in (codes or (0,)), (ran, self.said())

    def order(self, **keys: Any) -> Order:
        config = str(self.host / "updater" / "cfg.json")
        argv = ["-c", config, "apply", "--once"]
        given = {"exchange": self.scenario.exchange, "boot": f"boot {self._boots}", **keys}
        return Order(argv=argv, out=str(self.out), grave=str(self._grave), home=str(self.home), **given)

    def end_everything(self) -> None:
        """End agents, and control scripts that were left running and would start one in a moment."""
        while running_in(self.host):
            end_all_in(self.host)

    def crash(self) -> None:
        agents.crash(self.home)

    def said(self) -> str:
        with suppress(OSError):
            log = (self.var / "app.log").read_text().splitlines()
            return (self.out.read_text() + " | ".join(log[-3:])).replace("\0", "")[:_SAID]
        return ""

    def _control(self, verb: str) -> None:
        version = (self.home / ".version").read_text()
        argv = [str(self.home / version / "control"), verb]
        ran = self.runner.run(Order(argv=argv, out=str(self.out), grave="", program=True))
        assert ran.code == 0, (verb, ran, self.said())

    # The promises

    def demand(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)

    def check_version_is_whole(self) -> None:
        """Promise 3: `.version` names a whole, verified tree, or is not there yet; of a move one of both is there."""
        found = [self._names_a_whole_tree(home) for home in self._homes()]
        self.demand(any(found) or not self.scenario.runs_before, ".version is gone")

    def _homes(self) -> tuple[Path, ...]:
        return (self.home, self.elsewhere / NAME) if self.scenario.moved else (self.home,)

    def _end(self) -> tuple[Path, Path]:
        """The home where it must be in the end, and the other one."""
        homes = (self.home, self.elsewhere / NAME)
        return (homes[1], homes[0]) if self.scenario.ends_elsewhere else homes

    def _names_a_whole_tree(self, home: Path) -> bool:
        """Whether this home has a `.version`, which must name a whole tree."""
        try:
            version = (home / ".version").read_text()
        except FileNotFoundError:
            return False
        except OSError as err:
            self.demand(False, f".version can't be read: {err}")
            return True
        wrong = self.wrong_in(home / version, version)
        between = not self.scenario.exchange and not (home / version).exists()
        if wrong and between:
            # Without an exchange there is a moment between two renames; what the next pass needs must be whole.
            both = [home / f"{prefix}{version}" for prefix in (NEXT_PREFIX, PREVIOUS_PREFIX)]
            wrong = next((found for tree in both if (found := self.wrong_in(tree, version))), "")
        self.demand(not wrong, f"{home}/.version names {version!r}: {wrong}")
        return True

    def wrong_in(self, tree: Path, version: str) -> str:
        """What a tree of this version lacks to be one of those that were published; empty: it is one."""
        if not version or not tree.is_dir():
            return "no such tree"
        try:
            json.loads((tree / MARKER).read_text())
        except (OSError, ValueError) as err:
            return f"its marker: {err}"
        found = {
            str(path.relative_to(tree)): path.read_bytes()
            for path in tree.rglob("*")
            if path.is_file() and path.name not in _OF_THE_AGENT and not path.name.startswith("port.")
        }
        config = found.pop(CONFIG, None)
        if config is not None and config not in self._configs:
            return f"its config holds {config[:80]!r}"
        if not os.access(tree / "control", os.X_OK):
            return "control can't be executed"
        wanted = self._contents.get(version, [])
        if found not in wanted:
            odd = sorted(name for want in wanted for name in want.keys() ^ found.keys())
            short = sorted(name for name, content in found.items() if not content)
            return f"not the content of any tarball; missing or too much: {odd}, empty: {short}"
        return ""

    def _held(self) -> list[str]:
        return [] if self._lock is None else self._lock.store.holders(GROUP)

    def check_place_is_noted(self) -> None:
        """Promise 19: a place that is held is known to the pass that comes next. Without a note that can be read that
        gives back all that there may be."""
        with suppress(OSError, ValueError):
            noted = [note["id"] for note in json.loads((self.var / "places.json").read_text())["notes"]]
            self.demand(set(self._held()) <= set(noted), f"held without a note: {self._held()}, noted: {noted}")

    def check_runs_once(self) -> None:
        """Promise 5: whatever the disk does, an agent runs."""
        pids = agents.running_below(self.host)
        self.demand(len(pids) == 1, f"{len(pids)} agents run right after it: {self.said()}")

    def check_is_where_it_must_be(self, when: str) -> None:
        """Promise 4, first half: one agent runs, of the content that is wanted."""
        version, greeting = self.scenario.ends_at
        pids = agents.running_below(self.host)
        self.demand(len(pids) == 1, f"{when} {len(pids)} agents run: {self.said()}")
        if not pids:
            return
        try:
            reported = agents.ask(self._end()[0])
        except TimeoutError as err:
            return self.demand(False, f"{when}: {err}")
        self.demand((reported.pid,) == pids, f"{when} its pid file names {reported.pid}, and {pids} runs")
        found = (reported.version, reported.greeting)
        self.demand(found == (version, greeting), f"{when} {found} runs, wanted: {(version, greeting)}: {self.said()}")
        self.check_version_is_whole()

    def check_nothing_is_left(self) -> None:
        """Promise 4, second half: no litter, neither in the home nor in our own folder."""
        usual = {".version", ".start.log", *self.scenario.versions}
        home, other = self._end()
        litter = sorted(set(os.listdir(home)) - usual)
        if other.exists():
            litter += sorted(set(os.listdir(other)) - {".start.log", *self.scenario.moved})
        self.demand(not litter, f"left in the home: {litter}")
        own = {path.name for path in self.var.iterdir() if not path.name.startswith(("state.db", "app.log"))}
        self.demand(
            own <= {"updater.lock", "cache", "holds", "places.json", ".places.json.new"}, f"left in var: {sorted(own)}"
        )
        cache = [path.name for path in (self.var / "cache").glob("*") if not path.name.endswith(".tar.gz")]
        # Where even names are lost, the notes of a finished download come back: the cache's own bound is for those.
        self.demand(not cache or self._names_were_lost, f"left in the cache: {cache}")

    def check_memory(self) -> None:
        aside = [path.name for path in self.var.glob("state.db.set-aside*")]
        self.demand(not aside, f"the memory was set aside: {aside}")
        with closing(sqlite3.connect(self.var / "state.db")) as db:
            reported = db.execute("PRAGMA integrity_check").fetchone()[0]
        self.demand(reported == "ok", f"state.db: {reported}")
