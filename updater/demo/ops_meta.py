"""The demo's ops-meta and its file server in one, inside this process, on loopback. It is no server for production.

It answers a heartbeat with what is desired, and serves tarballs with their digest files, and configs.
"""

from __future__ import annotations

import json
import os
import pwd
import threading
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from probes.host.facts import arch


class DemoOpsMeta(ThreadingHTTPServer):
    """A context manager that serves from its beginning to its end. `work_dir`: where the agents are to live."""

    def __init__(self, work_dir: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.address = f"127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self._work_dir = work_dir
        self._desired: list[dict[str, Any]] = []
        self._reported: dict[str, dict[str, Any]] = {}
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> DemoOpsMeta:
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._accepting.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away: its own exit code is what the story is about."""

    def publish(self, name: str, version: str, tarball: bytes, *, is_corrupt: bool = False) -> None:
        """Serve a tarball and its digest file. `is_corrupt`: with a byte flipped, as damaged on its way."""
        path = self._tarball(name, version)
        digest = md5(tarball, usedforsecurity=False).hexdigest()
        self.files[f"{path}.md5"] = f"{digest}  {name}-{version}.tar.gz\n".encode()
        middle = len(tarball) // 2
        flipped = tarball[:middle] + bytes([tarball[middle] ^ 0xFF]) + tarball[middle + 1 :]
        self.files[path] = flipped if is_corrupt else tarball

    def desire(self, name: str, version: str, cmd: str = "start", config: bytes | None = None) -> None:
        """Answer this one agent from now on. `config`: what its cfg.json is to hold."""
        entry = {
            "name": name,
            "version": version,
            "tarball": f"http://{self.address}/releases/falcon",
            "md5": self.files[f"{self._tarball(name, version)}.md5"].split()[0].decode(),
            "cmd": cmd,
            "runUser": pwd.getpwuid(os.geteuid()).pw_name,
            "workDir": str(self._work_dir),
        }
        if config is not None:
            self.files["/falcon/cfg.json"] = config
            entry |= {"configFileName": "cfg.json", "configRemoteUrl": f"http://{self.address}/falcon/cfg.json"}
        self._desired = [entry]

    def reported(self, name: str) -> dict[str, Any]:
        """What the last heartbeat reported of this agent; nothing where it wasn't in it."""
        return self._reported.get(name, {})

    def exchange(self, beat: dict[str, Any]) -> bytes:
        """Take a heartbeat, and answer it."""
        self._reported = {agent["name"]: agent for agent in beat["realAgents"]}
        return json.dumps({"errorMessage": "", "desiredAgents": self._desired}).encode()

    def _tarball(self, name: str, version: str) -> str:
        return f"/releases/falcon/{arch()}/{name}-{version}.tar.gz"


class _Conversation(BaseHTTPRequestHandler):
    server: DemoOpsMeta

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: standard error is the demo's."""

    def do_GET(self) -> None:
        self._answer(self.server.files.get(self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.exchange(json.loads(body)) if self.path == "/api/heartbeat" else None)

    def _answer(self, content: bytes | None) -> None:
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")
