"""Does the server answer as the contract says, by which certificate, what of it does this host refuse, and do the
clocks agree?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

from probes.host.facts import host_name
from probes.text import redact_url
from reconcile.decide.admission import duration
from reconcile.decide.conditions import TRUE
from reconcile.net.http_client import certificate_digest
from updater.check.certificate import validity
from updater.check.subject import CheckContext, CheckFinding, CheckState, Exchange, bad, good, note, parted
from updater.settings.composition import lock_id

_NOTED_S = 10.0
_RENEWED = timedelta(days=14)  # so long before its end a certificate ought to be renewed
_BAD_S = 300.0  # what Kerberos allows clocks to differ (krb5.conf, clockskew): beyond it more than we breaks
_OF_CONTRACT = "docs/contract.md, section 2, says what an answer is; ask those who run that server"


def server(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether it is reached and speaks the contract."""
    found = subject.found
    if not subject.asked:
        yield note("server", "not asked (--offline)")
        return
    trouble = subject.unanswered
    if trouble and trouble == subject.memory_trouble:
        yield note("server", "not asked: without the memory the report would say that no agent is here")
        return
    if trouble:
        trouble = trouble.removesuffix(" (and no answer was accepted before, so nothing is known to do)")
        # Of an answer in another form the last words are the server's, and no remedy.
        has_remedy = trouble.startswith(("no answer ", "the signature "))
        message, remedy = parted(trouble) if has_remedy else (trouble, _OF_CONTRACT)
        yield bad("server", message, remedy)
        return
    assert found is not None
    took = "" if subject.exchange is None else f" in {subject.exchange.ended - subject.exchange.began:.1f} s"
    if found.nothing_desired:
        message = f"{found.came_from} answers{took}, and desires nothing of this host: nothing is managed"
        remedy = "tell ops-meta which agents belong here"
        yield note("server", message, remedy)
        return
    count = len(found.agents) + len(found.refused)
    message = f"{found.came_from} answers{took}, as the contract says: {count} agent{'s' if count != 1 else ''}"
    yield good("server", message)


def fleet_lock(subject: CheckContext) -> Iterator[CheckFinding]:
    """Under which id this host asks for places, of which groups. The lock server is not asked: that would take one."""
    config = subject.config
    if config.fleet_lock is None:
        return
    hostname = config.hostname or host_name()
    groups = ", ".join(config.fleet_lock.group.all)
    message = f"{redact_url(config.fleet_lock.url)}, groups {groups}; this host is {lock_id(config, hostname)} there"
    if hostname.partition(".")[0] in ("", "localhost"):
        remedy = "name the host, or set `hostname` in the config"
        message += f"; its name, {hostname or 'none'}, identifies no host"
        yield note("fleet_lock", message, remedy)
        return
    yield good("fleet_lock", message)


def desired_poll(subject: CheckContext) -> Iterator[CheckFinding]:
    """How often a `desired` URL is asked for changes, and whether that costs a whole file each time."""
    every_s = subject.config.desired_poll
    if every_s is None:
        return
    message = f"{redact_url(str(subject.config.desired))}: the daemon asks each {duration(every_s)} whether it changed"
    if subject.exchange is None or subject.unanswered or subject.exchange.has_etag:
        yield good("desired_poll", message)
        return
    message += "; its server sends no ETag, so that the whole file is sent each time"
    remedy = "serve it with ETags, as nginx, Apache and object stores do"
    yield note("desired_poll", message, remedy)


def report_to(subject: CheckContext) -> Iterator[CheckFinding]:
    """Who gets a report after each pass, and whether the last one was delivered. A check sends none."""
    url = subject.config.report_to
    if url is None:
        return
    last = next((one for one in subject.conditions if one.type == "ReportDelivered"), None)
    message = f"{redact_url(url)} gets a report after each pass; a check sends none"
    if last is None or last.status == TRUE:
        yield good("report_to", message)
        return
    yield note("report_to", f"the last report was not delivered: {last.message}")


def certificate(subject: CheckContext) -> Iterator[CheckFinding]:
    """What certificate an https server serves, and until when it is valid. Whether it is taken is said of the server;
    one that is pinned is, whatever its time."""
    if not subject.certificate:
        return
    digest = certificate_digest(subject.certificate)
    pins = subject.config.tls.pin_sha256
    is_pinned = pins is not None and digest in pins
    how = "" if pins is None else ", pinned" if is_pinned else ", none of tls.pin_sha256"
    try:
        begins, ends = validity(subject.certificate)
    except ValueError as err:
        yield note("certificate", f"sha256 {digest}{how}: {err}")
        return
    message = f"sha256 {digest}{how}, valid from {begins:%Y-%m-%d} until {ends:%Y-%m-%d}"
    now = datetime.now(timezone.utc)
    if begins <= now <= ends - _RENEWED:
        yield good("certificate", message)
        return
    taken = "; it is taken, since it is pinned" if is_pinned and not begins <= now <= ends else ""
    what, remedy = _why_to_renew(begins, ends, now)
    if pins:
        remedy += "; before a new one is served, put its digest into tls.pin_sha256, too"
    yield note("certificate", f"{message}: {what}{taken}", remedy)


def _why_to_renew(begins: datetime, ends: datetime, now: datetime) -> tuple[str, str]:
    """What is wrong with the time of a certificate, and what to do."""
    if now > ends:
        return "expired", "have it renewed, or is this host's clock wrong?"
    if now < begins:
        return "not valid yet", "is this host's clock right?"
    return "it ends soon", "have it renewed"


def desired(subject: CheckContext) -> Iterator[CheckFinding]:
    """What of the desired state this host refuses."""
    if subject.found is None:
        return
    for refusal in subject.found.refused:
        message, remedy = parted(refusal.message)
        message_with_rule = f"{refusal.name} is refused by the rule {refusal.rule}: {message}"
        remedy = remedy or "correct the entry at ops-meta, or the rule in cfg.json"
        yield bad("desired", message_with_rule, remedy)
    for entry in subject.found.ruled_out:
        message = f"{entry.name} is not for this host, by the rule {entry.rule}: {entry.message}"
        yield note("desired", message)
    if subject.found.agents and not subject.found.refused:
        count = len(subject.found.agents)
        message = f"nothing that is desired is refused: {count} agent{'s' if count != 1 else ''}"
        yield good("desired", message)


def clock(subject: CheckContext) -> Iterator[CheckFinding]:
    """How far our clock is from the server's, beyond what the exchange itself leaves open."""
    exchange = subject.exchange
    if exchange is None or isinstance(subject.config.desired, Path):
        yield note("clock", "not compared: no server was asked")
        return
    if not exchange.date:
        why = "the server answered nothing" if subject.unanswered else "the server sent no Date"
        yield note("clock", f"not compared: {why}")
        return
    skew = _skew(exchange)
    if skew is None:
        message = f"not compared: the server sent a Date that is none: {exchange.date[:40]!r}"
        yield note("clock", message)
        return
    if abs(skew) < _NOTED_S:
        yield good("clock", "agrees with the server's")
        return
    message = f"this host is {duration(abs(skew))} {'behind' if skew > 0 else 'ahead of'} the server"
    state = CheckState.BAD if abs(skew) >= _BAD_S else CheckState.NOTE
    remedy = "set one of them right: `timedatectl status`, `chronyc tracking`; reports, slots and TLS go by it"
    yield CheckFinding(about="clock", state=state, message=message, remedy=remedy)


def _skew(exchange: Exchange) -> float | None:
    """Seconds that the server is ahead of us for certain; None where its Date is none."""
    try:
        # It says whole seconds: on average half a second more.
        there = parsedate_to_datetime(exchange.date).timestamp() + 0.5
    except (TypeError, ValueError, OverflowError):
        return None
    here = (exchange.began + exchange.ended) / 2
    open_s = (exchange.ended - exchange.began) / 2 + 0.5
    apart = there - here
    return max(0.0, apart - open_s) if apart > 0 else min(0.0, apart + open_s)
