"""A FleetLock server as the field has them, small: a counting semaphore a group, kept in etcd or in memory.

    python tests/support/fleet_lock_server.py --places 3 [--port P] [--group G] [--etcd http://127.0.0.1:2379,...]

It prints `ready PORT` once it serves. Places have no lifetime. Each change is one compare-and-swap in etcd, so any
number of these servers may serve one group.
"""

from __future__ import annotations

import argparse
import base64
import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ETCD_S = 3.0  # of one request to etcd


class Memory:
    """Holders by group, in this process."""

    def __init__(self) -> None:
        self._holders: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def holders(self, group: str) -> list[str]:
        with self._lock:
            return list(self._holders.get(group, []))

    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        with self._lock:
            before = self._holders.get(group, [])
            after = changed(before, id, take=take, places=places)
            if after is not None:
                self._holders[group] = after
            return after is not None


class Etcd:
    """Holders by group, as one key each in etcd, over its JSON gateway."""

    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = endpoints

    def holders(self, group: str) -> list[str]:
        return self._read(_key(group))[0]

    def change(self, group: str, id: str, *, take: bool, places: int) -> bool:
        key = _key(group)
        for _ in range(50):
            before, revision = self._read(key)
            after = changed(before, id, take=take, places=places)
            if after is None:
                return False
            value = base64.b64encode(json.dumps(after).encode()).decode()
            swap = {
                "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision}],
                "success": [{"request_put": {"key": key, "value": value}}],
            }
            if self._post("/v3/kv/txn", swap).get("succeeded"):
                return True
        raise OSError("too many others changed it at the same time")

    def _read(self, key: str) -> tuple[list[str], str]:
        """The holders, and the revision of the key that says so."""
        found = self._post("/v3/kv/range", {"key": key}).get("kvs", [])
        return (json.loads(base64.b64decode(found[0]["value"])), found[0]["mod_revision"]) if found else ([], "0")

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        error: OSError = OSError("no endpoint")
        for endpoint in self._endpoints:
            request = urllib.request.Request(endpoint + path, json.dumps(body).encode())
            try:
                with urllib.request.urlopen(request, timeout=ETCD_S) as answer:
                    document: dict[str, Any] = json.load(answer)
                    return document
            except OSError as err:
                error = err
        raise error


def _key(group: str) -> str:
    return base64.b64encode(f"/fleetlock/{group}".encode()).decode()


def changed(holders: list[str], id: str, *, take: bool, places: int) -> list[str] | None:
    """The holders afterwards; None: there is no place. Both are recursive."""
    if not take:
        return [holder for holder in holders if holder != id]
    if id in holders:
        return holders
    return [*holders, id] if len(holders) < places else None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            params = json.loads(body)["client_params"]
            id, group = params["id"], params["group"]
        except (ValueError, KeyError, TypeError):
            id = group = ""
        if not (id and group):
            return self._answer(400, "bad_request", "no client_params with id and group")
        if self.server.groups and group not in self.server.groups:
            return self._answer(400, "unknown_group", group)
        if self.headers.get("fleet-lock-protocol") != "true":
            return self._answer(400, "missing_header", "fleet-lock-protocol: true is missing")
        take = self.path == "/v1/pre-reboot"
        if not take and self.path != "/v1/steady-state":
            return self._answer(404, "not_found", self.path)
        with self.server.asked_lock:
            self.server.asked.append((self.path, id, group))
        try:
            done = self.server.store.change(group, id, take=take, places=self.server.places)
        except OSError as err:
            return self._answer(500, "failed_lock", str(err))
        if take and self.server.loses_answers:
            return self._answer(500, "failed_lock", "etcdserver: request timed out")
        if done:
            return self._answer(200, "", "")
        return self._answer(409, "failed_lock", f"all {self.server.places} places of {group} are taken")

    def _answer(self, status: int, kind: str, value: str) -> None:
        body = json.dumps({"kind": kind, "value": value}).encode() if kind else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """`groups`: those that there are; empty: all that are asked for. `asked`: each request in the protocol's form, as
    (path, id, group). `loses_answers`: it gives places and says that it failed, as if its store answered late."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, places: int, store: Memory | Etcd, port: int = 0, groups: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.places = places
        self.store = store
        self.loses_answers = False
        self.groups = groups
        self.asked: list[tuple[str, str, str]] = []
        self.asked_lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--etcd", default="")
    parser.add_argument("--group", action="append", default=[], help="one that there is (default: any)")
    options = parser.parse_args()
    store = Etcd(options.etcd.split(",")) if options.etcd else Memory()
    server = Server(options.places, store, options.port, tuple(options.group))
    print(f"ready {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
