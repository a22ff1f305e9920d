"""A yard to try real agents in: an ops-meta that publishes them, homes of their own, and whole passes over them.

Everything is real: tarballs, processes, sockets, the store. `Yard` only puts together what composition.py and
pass_runner.py put together from a config. A test that makes one ends its agents (`demo.agent.end_all`); a fixture in
conftest.py does both.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve

from probes.home import StatusLimits, home_of
from probes.host.facts import arch, own_user
from probes.observe import observe_agent
from probes.observed import HomeRef, ObservedAgent
from reconcile.act.context import Bounds, ControlLimits, StepContext, StepResults, SwitchNote, Throttle
from reconcile.act.executor import Retries
from reconcile.act.home_ops import make_home
from reconcile.act.steps.lifecycle import switch
from reconcile.act.steps.unpack import unpack
from reconcile.assess.pass_context import DesiredFrom, HostContext, HostFacts
from reconcile.decide.actions import Action, Fetch, MoveHome, Outcome, Result, SwitchVersion, Unpack, Verify
from reconcile.decide.desired import Digest, Md5
from reconcile.decide.evaluate import AgentEvaluation, Rules
from reconcile.decide.planner import home_left, world_after
from reconcile.decide.policy.inputs import Policy
from reconcile.decide.records.record import AgentRecord
from reconcile.engine.agent_reconciler import PassRuntime
from reconcile.engine.execution_context import ExecutionContext
from reconcile.engine.reconciler import PassRequest, run_pass
from reconcile.engine.results import AgentResult, PassResult
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.storage.store import Store, read_history, read_state
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build
from updater.sources import ops_meta

NAME = "falcon-agent"
OWN = own_user().name

# Far beyond what anything takes, so that a slow machine fails nothing. Where one start must fail and another succeed,
# what fails is given up for dead long before its limit, but where another program of this user begins meanwhile.
LIMITS = ControlLimits(start_s=60, stop_s=60)
GIVEN_UP = ControlLimits(start_s=30, stop_s=30, dead_s=0.3)
# Where the limit itself must pass: scripts that return at once have returned by then, on a slow machine too.
SHORT = ControlLimits(start_s=3, stop_s=3)
# A pause too short to notice: what is tried again is counted at the server.
RETRIES = Retries(attempts=3, base_s=0.001)


class Yard:
    """A folder with homes (`work`), a cache and a memory, and the ops-meta that they hear from.

    `now`: what the passes' clock says; None for the real one, `later` seconds ahead. `notes`: what steps wrote down, by
    `tools` alone.
    """

    def __init__(self, folder: Path, meta: FaultyOpsMeta) -> None:
        self.folder = folder
        self.meta = meta
        self.work = folder / "work"
        self.cache = folder / "cache"
        self.db = folder / "state.db"
        self.holds = folder / "holds"
        self.now: float | None = None
        self.later = 0.0
        self.notes: list[SwitchNote] = []
        self.ending = threading.Event()
        self.http = HttpClient(HttpOptions(user_agent="ops-updater/test"))
        self._benches: list[StepResults] = []

    def close(self) -> None:
        """Close what steps left open on their benches; in a pass the executor does."""
        for results in self._benches:
            results.clear()

    def home(self, name: str = NAME) -> Path:
        return self.work / name

    def place(self, name: str = NAME, config: str | None = None) -> HomeRef:
        return HomeRef(name=name, work_dir=str(self.work), run_user=OWN, config_name=config)

    def look(self, name: str = NAME, config: str | None = None) -> ObservedAgent:
        return observe_agent(self.place(name, config), StatusLimits())

    def version(self, name: str = NAME) -> str:
        return (self.home(name) / ".version").read_text()

    # What a step is given

    def tools(self, name: str = NAME, **changes: Any) -> StepContext:
        """Tools for one agent's plan; a keyword replaces a field."""
        tools = StepContext(
            home=self.place(name),
            http=self.http,
            cache=self.cache,
            bounds=Bounds(),
            throttle=Throttle(None),
            control=LIMITS,
            status=StatusLimits(),
            contents={},
            note=self.notes.append,
            ending=self.ending,
        )
        self._benches.append(tools.results)
        return evolve(tools, **changes)

    def put(
        self, version: str, *, name: str = NAME, directory: str = "", in_use: bool = True, **build_with: Any
    ) -> Path:
        """Unpack a version of an agent with these habits, without a server, and return its directory."""
        tools = self.tools(name)
        make_home(home_of(tools.home))
        tools.results.put(io.BytesIO(build(name, version, **build_with)), self.cache)
        action = Unpack(version=version, directory=directory or version, url="http://127.0.0.1/x", digests=frozenset())
        unpack(action, tools)
        tools.results.clear()
        if in_use:
            switch(SwitchVersion(from_version=None, to=version), tools)
        return self.home(name) / action.directory

    def publish(self, version: str, *, name: str = NAME, **build_with: Any) -> Fetch:
        """Publish a version, and return the action that would fetch it."""
        self.meta.publish(name, version, build(name, version, **build_with))
        release = self.meta.release(name, version)
        return Fetch(url=release.url, version=version, digests=frozenset[Digest]({Md5(release.md5)}))

    def tarball_requests(self) -> int:
        return sum(request.path.endswith(".tar.gz") for request in self.meta.requests)

    # Whole passes

    def around(self, **changes: Any) -> HostContext:
        facts = HostFacts(hostname="host-1", ip="192.0.2.7", run_user=OWN, updater_version="0.0.0")
        host = HostContext(
            source=ops_meta.OpsMeta(self.meta.server, self.http),
            policy=Policy(own_user=OWN, own_folders=(), arch=arch()),
            limits=StatusLimits(),
            http=self.http,
            facts=facts,
            rules=Rules(),
            boot="boot-1",
            holds=self.holds,
            clock=lambda: time.time() + self.later if self.now is None else self.now,
        )
        return evolve(host, **changes)

    @contextmanager
    def runtime(self, *, parallel: int = 4, **changes: Any) -> Iterator[PassRuntime]:
        """A workshop with a store that is open for as long as the block lasts; a keyword replaces one of its means."""
        store = Store(self.db)
        context = ExecutionContext(
            host=self.around(),
            cache=self.cache,
            bounds=Bounds(),
            throttle=Throttle(None),
            control=LIMITS,
            retries=RETRIES,
            ending=self.ending,
        )
        try:
            yield PassRuntime(context=evolve(context, **changes), store=store, parallel=parallel)
        finally:
            store.close()

    def run(
        self,
        ask: DesiredFrom = DesiredFrom.EXCHANGE,
        *,
        wanted: Callable[[str], bool] = lambda name: True,
        **changes: Any,
    ) -> PassResult:
        """Make one pass, as one run of `apply --once` does."""
        with self.runtime(**changes) as runtime:
            return run_pass(runtime, PassRequest(ask=ask, wanted=wanted))

    def record(self, name: str = NAME) -> AgentRecord:
        """What is remembered of an agent."""
        record = read_state(self.db).record(name)
        assert record is not None
        return record

    def settle(self, **changes: Any) -> PassResult:
        """Let the watch pass, and make a pass: what was switched to is good by then."""
        self.later += self.around().rules.watch + 1
        return self.run(**changes)

    def history(self, name: str = NAME) -> list[str]:
        """History in short: news as they are said, of what was done the reason."""
        return [event.message if event.reason == "News" else event.reason for event in read_history(self.db, [name])]


class Story:
    """What was reported of a pass's actions while it ran: `begun` and `ended`, in order, by the callbacks of
    `ExecutionContext`."""

    def __init__(self) -> None:
        self.begun: list[Action] = []
        self.ended: list[Outcome] = []

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        self.begun.append(action)

    def ends(self, view: AgentEvaluation, outcome: Outcome) -> None:
        self.ended.append(outcome)


def types(outcomes: tuple[Outcome, ...]) -> str:
    """The outcomes in a line: `fetch=done verify=done ...`."""
    return " ".join(f"{outcome.action.type}={outcome.result.value}" for outcome in outcomes)


def the_agent(result: PassResult, name: str = NAME) -> AgentResult:
    return next(agent for agent in result.agents if agent.view.desired.name == name)


def ready(result: PassResult, name: str = NAME) -> tuple[str, str]:
    """An agent's Ready condition: its status and its reason."""
    return next((c.status, c.reason) for c in the_agent(result, name).conditions if c.type == "Ready")


class Modelled:
    """Homes as the model of success has them after each real action of passes, and whether they were observed so, in
    every field (`equal`). `moves`: the switches that left a home."""

    def __init__(self, *places: HomeRef) -> None:
        self._homes = {place.key: observe_agent(place, StatusLimits()) for place in places}
        self.equal: list[bool] = []
        self.moves: list[MoveHome] = []

    def ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        """Take in an action that ended."""
        action = outcome.action
        if isinstance(action, Fetch | Verify):
            return
        place = action.at or view.desired.home
        if outcome.result is Result.DONE:
            self._homes[place.key] = world_after(self._homes[place.key], action)
            if isinstance(action, MoveHome):
                self.moves.append(action)
                self._homes[action.leaves.key] = home_left(self._homes[action.leaves.key])
        self.equal.extend(observe_agent(seen.home, StatusLimits()) == seen for seen in self._homes.values())
