"""What the updater relies on of an ops-meta (docs/contract.md, sections 1 and 2), asked of any of them.

It reports a host that has no agents. The server may remember its name.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from attrs import frozen

from reconcile.errors import ResponseInvalid
from reconcile.source import Answer, Malformed
from tests.conformance.check import Check, Reply, demand, post
from updater.sources import wire
from updater.sources.ops_meta import heartbeat_url

_LIMIT = 1024 * 1024  # bytes of an answer


@frozen(kw_only=True)
class Subject:
    """`server`: as in cfg.json. `hostname`: one that it knows, so that it names agents."""

    server: str
    hostname: str = "conformance"

    def ask(self, body: bytes | None = None, **keys: Any) -> Reply:
        report: dict[str, Any] = {
            "hostname": self.hostname,
            "ip": "192.0.2.1",
            "runUser": "root",
            "updaterVersion": "0",
        }
        report |= {"realAgents": []}
        return post(heartbeat_url(self.server), json.dumps({**report, **keys}).encode() if body is None else body, {})


def checks(subject: Subject) -> list[Check]:
    made = (_form, _entries, _same, _further_keys, _agents, _unknown_host, _no_heartbeat)
    return [Check(promise=str(one.__doc__), make=partial(one, subject)) for one in made]


def _answer(reply: Reply) -> Answer:
    demand(reply.status == 200, f"{reply}")
    demand(len(reply.body) <= _LIMIT, f"the answer has more than {_LIMIT} bytes")
    try:
        return wire.parse_answer(reply.body, "it")
    except ResponseInvalid as err:
        demand(False, err.message)
        raise


def _form(subject: Subject) -> None:
    """a heartbeat is answered with 200 and a JSON object that has errorMessage and desiredAgents, a list or null"""
    reply = subject.ask()
    _answer(reply)
    demand(reply.document.get("errorMessage") == "", f"errorMessage is {reply.document.get('errorMessage')!r}")


def _entries(subject: Subject) -> None:
    """each entry has the keys of the contract in a form that is understood; cmd is start, stop or empty"""
    for entry in _answer(subject.ask()).entries:
        if isinstance(entry, Malformed):
            demand(False, f"an entry can't be understood: {entry.message}")
        else:
            demand(not entry.faults, f"{entry.name}: {'; '.join(fault.message for fault in entry.faults)}")
            demand((entry.cmd or "").lower() in ("start", "stop", ""), f"{entry.name}: cmd is {entry.cmd!r}")


def _same(subject: Subject) -> None:
    """the same heartbeat gets the same answer: what changes by itself would restart agents"""
    first, second = (_answer(subject.ask()).entries for _ in range(2))
    demand(first == second, "two heartbeats in a row got different entries")


def _further_keys(subject: Subject) -> None:
    """keys that it does not know are ignored"""
    plain, more = _answer(subject.ask()), _answer(subject.ask(conformance={"a": [1, None]}))
    demand(plain.entries == more.entries, "a further key of the heartbeat changes the answer")


def _agents(subject: Subject) -> None:
    """a report of agents is taken, whatever is said of them: started, stoped, or a script's own words"""
    reported = {"version": "1.0.0", "timestamp": 1477380651, "runUser": "nobody", "workDir": "/nonexistent"}
    for status in ("started", "stoped", "pid file is stale"):
        _answer(subject.ask(realAgents=[{"name": "conformance-agent", "status": status, **reported}]))


def _unknown_host(subject: Subject) -> None:
    """a host that it does not know gets an answer of the same form, or an error, never a page"""
    reply = subject.ask(hostname="conformance-never-seen-before")
    if reply.status == 200:
        _answer(reply)
    demand(not reply.body.lstrip().startswith(b"<"), f"{reply}")


def _no_heartbeat(subject: Subject) -> None:
    """what is no heartbeat is an error, and never an answer that names agents"""
    for body in (b"", b"{", b"[]", b'{"hostname": ""}'):
        reply = subject.ask(body)
        found = reply.document
        names = reply.status == 200 and isinstance(found, dict) and not found.get("errorMessage")
        demand(not (names and found.get("desiredAgents")), f"{body!r}: {reply}")
