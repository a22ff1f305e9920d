"""From a Config to what assessing needs: the source, the policy, the facts of this host. Nothing here can act."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from attrs import evolve

from probes.home import StatusLimits
from probes.host import facts
from probes.host.facts import User
from probes.values import frozen
from reconcile.assess.pass_context import HostContext, HostFacts
from reconcile.decide.evaluate import Rules
from reconcile.decide.host_rules import Restrictions, is_on_mirror
from reconcile.decide.policy.inputs import Policy
from reconcile.decide.timing.fetch_slot import Splay
from reconcile.decide.timing.fleet_places import PlaceWait
from reconcile.decide.timing.schedule import slot
from reconcile.decide.timing.windows import Windows
from reconcile.net.http_client import Auth, HttpClient, HttpOptions, HttpReply, Pins, origin_of
from reconcile.net.report_delivery import ReportDelivery
from reconcile.source import DesiredSource
from reconcile.storage.serial_file import SerialMemory
from updater.settings import known_users
from updater.settings.config import Config
from updater.settings.preflight import lacking, time_zone
from updater.settings.sections import AuthConfig
from updater.sources.file import DesiredFile
from updater.sources.ops_meta import OpsMeta, heartbeat_url
from updater.sources.signed import DesiredVerifier, file_name_of
from updater.sources.url import DesiredUrl
from updater.sources.wire import report_body
from updater.version import VERSION


@frozen(kw_only=True)
class SourceOverride:
    """What a command line says about the source. `desired`: a file or an URL instead of a server; `operator`: who typed
    it."""

    desired: Path | str | None = None
    operator: str = ""


def host_context(
    config: Config, chosen: SourceOverride, *, on_reply: Callable[[HttpReply], None] = lambda reply: None
) -> HostContext:
    """Put together what a pass may look at and ask. `on_reply`: given each whole answer to a request."""
    known_users.load(config.var)
    http = HttpClient(evolve(_http_options(config), on_reply=on_reply))
    serials = SerialMemory(config.var / "desired-serials.json", frozenset(config.trusted_keys or ()))
    source = _source(chosen.desired, http) if chosen.desired is not None else _own_source(config, http, serials)
    own = facts.own_user()
    host = host_facts(config, own.name)
    return HostContext(
        source=source,
        operator=None if chosen.desired is None else chosen.operator,
        policy=policy_of(config, own, _own_folders(config), facts.arch()),
        limits=StatusLimits(
            limit_s=config.control_timeout.status,
            at_once=config.status_parallel,
            agent_env=config.agent_env,
            words=config.status_words,
            homes_allowed_below=config.allow_work_dirs or (),
        ),
        http=http,
        facts=host,
        rules=_rules(config, host),
        lacking="; ".join(lacking(config)),
        serials=serials,
        reports=None if config.report_to is None else ReportDelivery(config.report_to, report_body, http),
        refused_places=lambda: _refused_places(config),
        boot=facts.boot_id(),
        holds=config.var / "holds",
        clock=time.time,
    )


def refreshed(config: Config, before: HostContext) -> HostContext:
    """The same with what may have changed since: the host's name and address, and what was installed here."""
    host = host_facts(config, before.facts.run_user)
    return evolve(before, facts=host, rules=_rules(config, host), lacking="; ".join(lacking(config)))


def _rules(config: Config, host: HostFacts) -> Rules:
    return evolve(rules_of(config), splay=_splay(config, host), hostname=host.hostname)


def policy_of(config: Config, own: User, own_folders: tuple[str, ...], arch: str) -> Policy:
    """What a host with this config accepts. `own`: the user that its updater runs as."""
    return Policy(
        own_user=own.name,
        own_uid=own.uid,
        create_users=config.create_users,
        own_folders=own_folders,
        arch=arch,
        default_work_dir=config.work_dir,
        default_run_user=config.run_user,
        tarball_layout=config.tarball_layout,
        desired_agent=config.desired_agent,
        restrictions=_restrictions(config),
    )


def rules_of(config: Config) -> Rules:
    """How a host with this config wants changes to be made, but for when it may fetch."""
    return Rules(
        watch=config.watch,
        keep=config.keep,
        quarantine_for=config.quarantine_for,
        refuse_downgrade=config.refuse_downgrade,
        windows=_windows(config),
        groups=None if config.fleet_lock is None else config.fleet_lock.group,
    )


def lock_id(config: Config, hostname: str) -> str:
    """What names this host to a fleet's lock server: clones of a host, and two folders of one, don't share a place."""
    import hashlib

    digest = hashlib.sha256(f"{facts.machine_id()}\0{os.path.realpath(config.folder)}".encode()).hexdigest()
    return f"{hostname}-{digest[:8]}"


def _refused_places(config: Config) -> tuple[PlaceWait, ...]:
    """What the fleet's lock refused last. Commands that only read do not ask it."""
    from reconcile.storage.place_file import read_places

    places = None if config.fleet_lock is None else read_places(config.var / "places.json")
    return () if places is None else places.waits


def _windows(config: Config) -> Windows | None:
    return Windows(windows=config.windows, zone=time_zone(config)) if config.windows else None


def _splay(config: Config, host: HostFacts) -> Splay | None:
    span = config.fetch_splay
    if config.windows:  # who waits for a window begins at its opening, and is to have its turn before it closes
        span = min(span, min(window.length for window in config.windows) / 2)
    return Splay(span=span, slot=slot(host.hostname, host.ip, span)) if span else None


def _own_source(config: Config, http: HttpClient, serials: SerialMemory) -> DesiredSource:
    """What the config names."""
    desired = config.desired
    if desired is None:
        return OpsMeta(config.server or "", http)
    if not config.require_signed_desired:
        return _source(desired, http)
    name = file_name_of(desired) if isinstance(desired, str) else desired.name
    return _source(desired, http, DesiredVerifier(name, frozenset(config.trusted_keys or ()), serials, time.time))


def _source(desired: Path | str, http: HttpClient, verifier: DesiredVerifier | None = None) -> DesiredSource:
    """A file or an URL in place of a server. What an operator types needs no signature: that is the operator's word."""
    if isinstance(desired, str):
        return DesiredUrl(desired, http, verifier=verifier)
    return DesiredFile(desired, verifier)


def host_facts(config: Config, run_user: str) -> HostFacts:
    """What a report says of this host. The address is the one towards the server."""
    server_host = None if config.server is None else urlsplit(heartbeat_url(config.server)).hostname
    return HostFacts(
        hostname=config.hostname or facts.host_name(),
        ip=facts.own_address(server_host),
        run_user=run_user,
        updater_version=VERSION,
        report_extra=config.report_extra,
    )


def _own_folders(config: Config) -> tuple[str, ...]:
    code = Path(__file__).parents[2]
    return tuple(dict.fromkeys((str(config.folder), os.path.realpath(config.folder), os.path.realpath(code))))


def _restrictions(config: Config) -> Restrictions:
    return Restrictions(
        allow_agents=config.allow_agents,
        allow_users=config.allow_users,
        allow_work_dirs=config.allow_work_dirs,
        mirrors=config.mirrors,
        min_version=config.min_version,
        require_https=config.require_https,
        require_sha256=config.require_sha256,
        trusted_keys=frozenset(config.trusted_keys or ()),
    )


def _http_options(config: Config) -> HttpOptions:
    return HttpOptions(
        auth=None if config.auth is None else _auth(config.auth, config),
        ca_file=config.tls.ca_file,
        pins=Pins(digests=config.tls.pin_sha256, origins=_own_origins(config)) if config.tls.pin_sha256 else None,
        proxy=config.proxy,
        user_agent=f"ops-updater/{VERSION}",
        may_follow=lambda url: config.mirrors is None or is_on_mirror(url, config.mirrors),
    )


def _auth(auth: AuthConfig, config: Config) -> Auth:
    """Credentials, for the origins of the server and of a desired URL, and those that the config names."""
    origins = frozenset(origin_of(heartbeat_url(host)) for host in auth.hosts) | _own_origins(config)
    return Auth(user=auth.user, password=auth.password, origins=origins, trouble=auth.trouble)


def _own_origins(config: Config) -> frozenset[str]:
    """Return the origins of the server and of a desired URL."""
    return frozenset(
        origin_of(url) for url in (asked_url(config), config.server and heartbeat_url(config.server)) if url
    )


def asked_url(config: Config) -> str | None:
    """What is asked for the desired state; None where that is a file."""
    if isinstance(config.desired, str):
        return config.desired
    return None if config.desired is not None or config.server is None else heartbeat_url(config.server)
