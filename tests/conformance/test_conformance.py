"""The checks of foreign servers: ours keep each promise, and a server that breaks one is found by its check."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.conformance import fleet_lock, ops_meta
from tests.conformance.check import Finding, run
from tests.e2e.host import ROOT
from tests.support.file_server import Reply, ServedRequest, text
from tests.support.fleet_lock_server import Handler, Memory, Server
from tests.support.ops_meta import HEARTBEAT_PATHS, JSON, OpsMetaServer

GROUP, PLACES = "web", 3
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a group's places, and return the URL."""
    with ExitStack() as stack:

        def begin(store: Memory | None = None, *, groups: tuple[str, ...] = (GROUP,), handler: Any = Handler) -> str:
            server = stack.enter_context(Server(PLACES, store or Memory(), groups=groups))
            server.RequestHandlerClass = handler
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server.url

        yield begin


def lock_findings(*urls: str, **given: Any) -> list[Finding]:
    return run(fleet_lock.checks(fleet_lock.Subject(urls=urls, places=PLACES, group=GROUP, **given)))


def broken(findings: list[Finding]) -> set[str]:
    return {finding.promise for finding in findings if finding.trouble}


def promise(check: Callable[..., None]) -> str:
    return str(check.__doc__)


def test_our_lock_server_keeps_each_promise(serve: Serve) -> None:
    store = Memory()
    findings = lock_findings(serve(store), serve(store), restart=lambda: None)
    assert [str(finding) for finding in findings if finding.trouble or finding.left_out] == []
    assert store.holders(GROUP) == [], "it is left free"


class Forgetful(Memory):
    """Does not know a client that asks again."""

    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        return not (take and id in self.holders(group)) and super().change(group, id, take=take, places=places)


class Generous(Memory):
    """Frees any client's place for any client that asks."""

    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        held = self.holders(group)
        return super().change(group, id if take or id in held else (held or [id])[0], take=take, places=places)


class Unbounded(Memory):
    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        return super().change(group, id, take=take, places=places + 1)


class Pages(Handler):
    """Answers in HTML."""

    def _answer(self, status: int, kind: str, value: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")


class Trusting(Handler):
    """Looks at nothing but the group."""

    def do_POST(self) -> None:
        if "fleet-lock-protocol" not in self.headers:
            self.headers["fleet-lock-protocol"] = "true"
        super().do_POST()

    def _answer(self, status: int, kind: str, value: str) -> None:
        super()._answer(*((200, "", "") if kind == "bad_request" else (status, kind, value)))


@pytest.mark.parametrize(
    ("store", "groups", "handler", "breaks"),
    [
        (Forgetful, (GROUP,), Handler, [fleet_lock._recursion]),
        (Generous, (GROUP,), Handler, [fleet_lock._foreign]),
        (Unbounded, (GROUP,), Handler, [fleet_lock._limit, fleet_lock._replicas]),
        (Memory, (), Handler, [fleet_lock._unknown_group]),
        (Memory, (GROUP,), Trusting, [fleet_lock._header, fleet_lock._body]),
        (Memory, (GROUP,), Pages, [fleet_lock._limit, fleet_lock._unknown_group, fleet_lock._header]),
    ],
    ids=["not recursive", "frees another's place", "one place more", "any group", "any request", "pages"],
)
def test_a_wrong_lock_server_is_found(
    serve: Serve,
    store: type[Memory],
    groups: tuple[str, ...],
    handler: type[BaseHTTPRequestHandler],
    breaks: list[Callable[..., None]],
) -> None:
    found = broken(lock_findings(serve(store(), groups=groups, handler=handler)))
    assert {promise(check) for check in breaks} <= found


def test_replicas_that_do_not_know_of_each_other_are_found(serve: Serve) -> None:
    assert promise(fleet_lock._replicas) in broken(lock_findings(serve(), serve()))


def test_a_server_that_forgets_its_places_by_a_restart_is_found(serve: Serve) -> None:
    store = Memory()

    def restart() -> None:
        store._holders.clear()

    assert broken(lock_findings(serve(store), restart=restart)) == {promise(fleet_lock._restart)}


def test_what_was_not_given_is_left_out_and_said(serve: Serve) -> None:
    left = [str(finding) for finding in lock_findings(serve()) if finding.left_out]
    assert len(left) == 2
    assert left[1].endswith("across a restart of the server: --restart COMMAND was not given")


# ops-meta


class Wrong(OpsMetaServer):
    """Answers heartbeats by a function of their body and number."""

    def __init__(self, answer: Callable[[bytes, int], Reply]) -> None:
        super().__init__()
        self._answer_to = answer
        self._count = 0

    def respond(self, call: ServedRequest) -> Reply:
        if call.path not in HEARTBEAT_PATHS:
            return super().respond(call)
        self._count += 1
        return self._answer_to(call.body, self._count)


def answered(agents: Any = (), **keys: Any) -> Reply:
    document = {"errorMessage": "", "desiredAgents": agents, **keys}
    return Reply(headers={"Content-Type": JSON}, content=json.dumps(document).encode())


def meta_findings(server: OpsMetaServer) -> list[Finding]:
    return run(ops_meta.checks(ops_meta.Subject(server=server.server)))


@pytest.mark.parametrize("older", [False, True])
def test_our_ops_meta_keeps_each_promise(older: bool) -> None:
    with OpsMetaServer(work_dir="/home/falcon/open-falcon") as meta:
        meta.desire(
            meta.agent("falcon-agent", "5.1.3"), meta.agent("other", "1", "stop"), meta.agent("watched", "1", "")
        )
        if older:
            meta.older()
        assert [str(finding) for finding in meta_findings(meta) if finding.trouble or finding.left_out] == []


ENTRY = {"name": "falcon-agent", "version": "1", "tarball": "http://x/y", "md5": "0" * 32, "cmd": "start"}


def is_heartbeat(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["hostname"])
    except (ValueError, KeyError, TypeError):
        return False


@pytest.mark.parametrize(
    ("answer", "breaks"),
    [
        (lambda body, n: answered([ENTRY], errorMessage=None), [ops_meta._form, ops_meta._no_heartbeat]),
        (lambda body, n: text(200, "<html><title>welcome</title>"), [ops_meta._form, ops_meta._unknown_host]),
        (lambda body, n: answered(success=False, message="no"), [ops_meta._form, ops_meta._same]),
        (lambda body, n: answered("none"), [ops_meta._form]),
        (lambda body, n: text(301, "", Location="/elsewhere"), [ops_meta._form]),
        (lambda body, n: answered([{**ENTRY, "cmd": "restart"}]), [ops_meta._entries]),
        (lambda body, n: answered([{**ENTRY, "version": 1.10}]), [ops_meta._entries]),
        (lambda body, n: answered(["falcon-agent"]), [ops_meta._entries]),
        (lambda body, n: answered([{**ENTRY, "version": str(n)}]), [ops_meta._same]),
        (
            lambda body, n: text(400, "unknown key") if b'conformance": {' in body else answered(),
            [ops_meta._further_keys],
        ),
        (lambda body, n: text(500, "status") if b"pid file" in body else answered(), [ops_meta._agents]),
        (lambda body, n: answered() if is_heartbeat(body) else answered([ENTRY]), [ops_meta._no_heartbeat]),
    ],
)
def test_a_wrong_ops_meta_is_found(answer: Callable[[bytes, int], Reply], breaks: list[Callable[..., None]]) -> None:
    with Wrong(answer) as meta:
        assert {promise(check) for check in breaks} <= broken(meta_findings(meta))


def test_a_server_that_is_not_there_breaks_all() -> None:
    findings = run(ops_meta.checks(ops_meta.Subject(server="127.0.0.1:9")))
    assert all(finding.trouble.startswith("no answer: ") for finding in findings)


# By hand


def test_by_hand_there_is_a_line_for_each_promise_and_an_exit_code(serve: Serve) -> None:
    with OpsMetaServer() as meta:
        good = by_hand("ops-meta", meta.server)
    assert good.returncode == 0, good
    assert len(good.stdout.splitlines()) == 7
    bad = by_hand("fleet-lock", serve(groups=()) + "/", "--places", str(PLACES), "--group", GROUP, "--restart", "true")
    assert bad.returncode == 1, bad
    assert [line.split()[0] for line in bad.stdout.splitlines()].count("BROKEN") == 1


def by_hand(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.conformance", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
