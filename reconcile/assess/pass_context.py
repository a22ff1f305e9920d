"""What a pass is made with and what it found, as values. They reach nothing that acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path

from attrs import field

from probes.home import StatusLimits
from probes.observed import ObservedAgent, ObservedHost
from probes.values import frozen
from probes.worker.pool import WorkerPool
from reconcile.decide.admission import SERVER, EvaluationContext, Freshness
from reconcile.decide.conditions import Condition
from reconcile.decide.desired import Refusal
from reconcile.decide.evaluate import AgentEvaluation, Rules
from reconcile.decide.hold import Requests
from reconcile.decide.policy.inputs import Policy
from reconcile.decide.records.changes import released
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.timing.fleet_places import PlaceWait
from reconcile.errors import ReconcileError, ResponseInvalid, ServerUnreachable
from reconcile.net.http_client import HttpClient
from reconcile.net.report_delivery import ReportDelivery
from reconcile.source import Answer, DesiredSignature, DesiredSource, Entry
from reconcile.storage.serial_file import SerialMemory
from reconcile.storage.store import StoredState

_SOME_UID = -1  # of a user of whom no more is known than that it is not root


class DesiredFrom(Enum):
    """Where the desired state of a pass comes from. EXCHANGE: the server; LIVE: its last answer, not older than an
    interval; LAST_ACCEPTED: what is remembered, to heal only; OFFLINE: the same, to act upon on an operator's word;
    READ_ONLY: the same, without any network, to print it."""

    EXCHANGE = "exchange"
    LIVE = "live"
    LAST_ACCEPTED = "last-accepted"
    OFFLINE = "offline"
    READ_ONLY = "read-only"


class NoDesiredState(ReconcileError):
    """No valid answer, and none was accepted before."""

    reason = "ServerUnreachable"


@frozen(kw_only=True)
class HostFacts:
    """What this host says of itself in a report."""

    hostname: str
    ip: str
    run_user: str
    updater_version: str
    report_extra: bool = False


@frozen(kw_only=True)
class HostContext:
    """All that assessing may use. `operator`: who named the source on the command line; None: the config names it.
    `lacking`: what the config needs and the host lacks, so that changes wait. `serials`: of signed desired states, None
    where they are not remembered. `reports`: where one goes after each pass. `refused_places`: by the fleet's lock.
    `workers`: look at other users' homes; the pass's maker ends them."""

    source: DesiredSource
    policy: Policy
    limits: StatusLimits
    http: HttpClient
    facts: HostFacts
    rules: Rules
    boot: str
    holds: Path
    clock: Callable[[], float]
    operator: str | None = None
    lacking: str = ""
    serials: SerialMemory | None = None
    reports: ReportDelivery | None = None
    refused_places: Callable[[], tuple[PlaceWait, ...]] = tuple
    workers: WorkerPool = field(factory=WorkerPool)

    @property
    def asked_by(self) -> str:
        """On whose word the source is asked, in history's form."""
        return SERVER if self.operator is None else f"operator:{self.operator}"

    @property
    def other_servers(self) -> dict[str, Condition | None]:
        """The types of the conditions of the servers that the config names beside the one of the desired state."""
        named = {"LockServerReachable": self.rules.groups is not None, "ReportDelivered": self.reports is not None}
        return {type: None for type, is_named in named.items() if is_named}


@frozen(kw_only=True)
class Assessment:
    """What a pass found and would do. `signature`: of the desired state, where one was verified. `fresh`: the answer of
    this pass, to be stored; `last_entries`: of each agent that it names the one accepted last. `ruled_out`: entries
    that are none of this host's business. `bystanders`: agents last known that are observed and reported alone, since
    an empty answer manages nothing. `failed`: why the exchange failed."""

    at: float
    evaluation_context: EvaluationContext
    came_from: str
    desired_at: float
    agents: tuple[AgentEvaluation, ...] = ()
    refused: tuple[Refusal, ...] = ()
    ruled_out: tuple[Refusal, ...] = ()
    bystanders: tuple[ObservedAgent, ...] = ()
    nothing_desired: bool
    server: Condition
    seen: ObservedHost
    requests: Requests
    signature: DesiredSignature | None = None
    fresh: Answer | None = None
    last_entries: tuple[Entry, ...] = ()
    failed: ServerUnreachable | ResponseInvalid | None = None

    @property
    def answered(self) -> Freshness:
        return self.evaluation_context.answered

    @property
    def says_what_is_wanted(self) -> bool:
        return not self.nothing_desired and self.answered is not Freshness.LAST_ACCEPTED


@frozen(kw_only=True)
class HostSnapshot:
    """What was seen and is remembered of a host at one time, and what operators asked for since. `users`: the uids of
    those that were looked up there, None for one that it lacked."""

    seen: ObservedHost
    state: StoredState
    requests: Requests
    users: Mapping[str, int | None] = {}

    def uids_of(self, names: Iterable[str]) -> dict[str, int]:
        """The uids of those users that existed; one that was not looked up is taken to exist, and not to be root."""
        found = {name: self.users.get(name, 0 if name == "root" else _SOME_UID) for name in names}
        return {name: uid for name, uid in found.items() if uid is not None}

    def record(self, name: str) -> AgentRecord | None:
        record = self.state.record(name)
        return released(record) if record is not None and self.requests.released(name) else record
