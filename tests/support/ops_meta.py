"""An ops-meta and its file server in one, inside this process, on loopback: the server of tests and benchmarks.

Its verbs are a publisher's (`publish`, `desire`, `forget`), so that what uses it reads as a story:

    with OpsMetaServer(work_dir=tmp_path / "work") as meta:
        meta.publish("falcon-agent", "2.0.0", build("falcon-agent", "2.0.0"))
        meta.desire(meta.agent("falcon-agent", "2.0.0"))
        ...
        meta.wait_for_heartbeat(lambda beat: beat["realAgents"][0]["version"] == "2.0.0")

It speaks the contract's form as the servers of the field do, and shares no code with what it tests. It is no server
for production.
"""

from __future__ import annotations

import io
import json
import os
import platform
import pwd
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import md5, sha256
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from attrs import evolve

from probes.values import frozen
from tests.support.file_server import Conversation, LoopbackServer, Reply, ServedRequest, reserve_port, text

JSON = "application/json; charset=utf-8"
HEARTBEAT_PATHS = ("/api/heartbeat", "/heartbeat")

SeenT = TypeVar("SeenT")


@frozen(kw_only=True)
class Request:
    """A request that was answered, or is about to be. `headers` by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int


@frozen(kw_only=True)
class PublishedRelease:
    """A published tarball: `base` is what ops-meta sends as `tarball`; the digests are of the true bytes."""

    base: str
    url: str
    md5: str
    sha256: str


def host_arch() -> str:
    """Name this host as the tarballs of the field do: `{os}_{cpu}` in Go's words."""
    machine = platform.machine().lower()
    cpus = {"x86_64": "amd64", "i686": "386", "i386": "386", "aarch64": "arm64", "armv6l": "arm", "armv7l": "arm"}
    return f"{platform.system().lower()}_{cpus.get(machine, machine)}"


class OpsMetaServer:
    """The server; a context manager. It listens from the start of `with` to its end, which leaves no thread or socket.

    `work_dir` (absent unless given) and `run_user` (our own unless given) are what `agent` puts into its entries.
    It prints nothing: an error of the server itself is raised where `with` ends.
    """

    conversation: type[Conversation] = Conversation

    def __init__(self, *, work_dir: str | os.PathLike[str] | None = None, run_user: str | None = None) -> None:
        self.work_dir = work_dir
        self.run_user = run_user or pwd.getpwuid(os.geteuid()).pw_name
        self._changed = threading.Condition()
        self._files: dict[str, Reply] = {}
        self._releases: dict[tuple[str, str], PublishedRelease] = {}
        self._desired: list[dict[str, Any]] = []
        self._heartbeats: list[dict[str, Any]] = []
        self._requests: list[Request] = []
        self._errors: list[BaseException] = []
        self._corrupt: set[str] = set()  # ends of paths
        self._as_older_servers = False
        self._credentials: str | None = None
        self._port, self._reservation = reserve_port()
        self._server: LoopbackServer | None = None

    def __enter__(self) -> OpsMetaServer:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.down()
        if self._reservation is not None:
            self._reservation.close()
        if self._errors and error is None:
            raise self._errors[0]

    def down(self) -> None:
        """Refuse connections, and break those that are open, until `up`."""
        if self._server is not None:
            self._server.close()
            self._errors += self._server.errors
            self._server = None

    def up(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._server = LoopbackServer(self, self._port, self.conversation)
            self._port = self._server.port

    # What it was asked, and what was reported to it

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.server}"

    @property
    def heartbeats(self) -> list[dict[str, Any]]:
        """All bodies received so far, decoded, oldest first."""
        with self._changed:
            return list(self._heartbeats)

    @property
    def requests(self) -> list[Request]:
        """All requests so far, heartbeats included, oldest first."""
        with self._changed:
            return list(self._requests)

    def reported(self, name: str) -> dict[str, Any] | None:
        """Return what the last heartbeat reported about this agent; None if it wasn't in it."""
        agents = [agent for beat in self.heartbeats[-1:] for agent in beat["realAgents"]]
        return next((agent for agent in agents if agent["name"] == name), None)

    def wait_for_heartbeat(
        self, predicate: Callable[[dict[str, Any]], bool] = lambda _: True, timeout: float = 60, *, since: int = 0
    ) -> dict[str, Any]:
        """Wait for a heartbeat that satisfies the predicate, and return it.

        Those already received count too, but for the first `since`: take len(heartbeats) before what is to be
        reported. Raise TimeoutError, which tells the last one received.
        """
        return self._wait_for(self._heartbeats, predicate, timeout, since)

    def wait_for_request(
        self, predicate: Callable[[Request], bool] = lambda _: True, timeout: float = 60, *, since: int = 0
    ) -> Request:
        """Wait until a request that satisfies the predicate is about to be answered, and return it. As above."""
        return self._wait_for(self._requests, predicate, timeout, since)

    def _wait_for(self, seen: list[SeenT], predicate: Callable[[SeenT], bool], timeout: float, since: int) -> SeenT:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for one in seen[since:]:
                    if predicate(one):
                        return one
                since = max(since, len(seen))
                left = deadline - time.monotonic()
                if left <= 0:
                    last = f"the last of {len(seen)} is {seen[-1]!r}" if seen else "none came at all"
                    raise TimeoutError(f"not seen within {timeout:g} s; {last}")
                self._changed.wait(left)

    # The publisher's verbs

    def publish(
        self,
        name: str,
        version: str,
        tarball: bytes | Path,
        *,
        arch: str | None = None,
        layout: str = "arch",
        base: str | None = None,
        digest_file: bool = True,
        minisig: bytes | None = None,
    ) -> str:
        """Serve a tarball where the contract looks for it, in place of what was there, and return its base URL.

        `arch`: this host's unless given. `layout="flat"`: without `{arch}`, as older servers do. A path is streamed
        from where it lies, not copied.
        """
        folder = f"/releases/{base or name}"
        path = f"{folder if layout == 'flat' else f'{folder}/{arch or host_arch()}'}/{name}-{version}.tar.gz"
        sums = self._serve(path, tarball, "application/gzip")
        for suffix, content in {
            ".md5": f"{sums['md5']}  {name}-{version}.tar.gz\n".encode() if digest_file else None,
            ".minisig": minisig,
        }.items():
            if content is None:
                self._files.pop(path + suffix, None)
            else:
                self.serve(path + suffix, content)
        release = PublishedRelease(base=self.url + folder, url=self.url + path, **sums)
        self._releases[name, version] = release
        return release.base

    def publish_config(self, path: str, content: bytes) -> str:
        """Serve a config file, in place of what was there, and return its URL."""
        return self.serve(path, content, content_type="application/json")

    def serve(self, path: str, content: bytes | Path, *, content_type: str = "text/plain; charset=utf-8") -> str:
        """Serve these bytes, with an entity tag of their own, and return their URL."""
        path = "/" + path.lstrip("/")
        self._serve(path, content, content_type)
        return self.url + path

    def _serve(self, path: str, content: bytes | Path, content_type: str) -> dict[str, str]:
        sums = _digests(content)
        headers = {"Content-Type": content_type, "ETag": f'"{sums["sha256"][:32]}"', "Accept-Ranges": "bytes"}
        self._files[path] = Reply(headers=headers, content=content)
        return sums

    def corrupt(self, name: str, version: str) -> None:
        """Serve the tarball with the byte in its middle flipped, as damaged on its way: its digests and its entity tag
        stay those of the true bytes."""
        self._corrupt.add(f"/{name}-{version}.tar.gz")

    def release(self, name: str, version: str) -> PublishedRelease:
        """Look up what was published last under this name and version. Raise KeyError."""
        return self._releases[name, version]

    def agent(self, name: str, version: str, cmd: str = "start", **keys: Any) -> dict[str, Any]:
        """Make an entry of `desiredAgents`, in the contract's own words.

        A keyword sets a key (`runUser="falcon"`, `sha256=...`), None takes it out. For what was never published it
        points to where that would be, with an empty `md5`.
        """
        release = self._releases.get((name, version))
        entry = {
            "name": name,
            "version": version,
            "tarball": release.base if release else f"{self.url}/releases/{name}",
            "md5": release.md5 if release else "",
            "cmd": cmd,
            "runUser": self.run_user,
            "workDir": None if self.work_dir is None else os.fspath(self.work_dir),
            **keys,
        }
        return {key: value for key, value in entry.items() if value is not None}

    def desire(self, *agents: dict[str, Any]) -> None:
        """Answer these agents, and no others, from now on. None at all: as to a host that isn't known yet."""
        self._desired = list(agents)

    def forget(self, name: str) -> None:
        """Leave this agent out of the answers from now on. Raise KeyError if it isn't in them."""
        others = [agent for agent in self._desired if agent["name"] != name]
        if len(others) == len(self._desired):
            raise KeyError(name)
        self._desired = others

    def older(self) -> None:
        """Answer as the older servers from now on: no user, folder or config, and `md5` is the digest file's base."""
        self._as_older_servers = True

    def require_basic_auth(self, user: str, password: str) -> None:
        """Answer 401 to requests without these, heartbeats included."""
        self._credentials = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    # What the server asks of its owner (file_server.FileSite)

    def respond(self, call: ServedRequest) -> Reply:
        path = call.path.partition("?")[0]
        if self._credentials not in (None, call.headers.get("authorization")):
            return text(401, "unauthorized\n", WWW_Authenticate='Basic realm="releases"')
        beats = call.method == "POST" and path in HEARTBEAT_PATHS
        return self._exchange(call.body) if beats else self._find(call.method, path)

    def note(self, call: ServedRequest, status: int) -> None:
        with self._changed:
            self._requests.append(Request(method=call.method, path=call.path, headers=call.headers, status=status))
            self._changed.notify_all()

    def _find(self, method: str, path: str) -> Reply:
        found = self._files.get(path)
        if found is None or method not in ("GET", "HEAD"):
            return text(404, f"nothing is at {path}\n")
        if any(path.endswith(end) for end in self._corrupt):
            return evolve(found, content=_flipped(found.content))
        return found

    def _exchange(self, body: bytes) -> Reply:
        """Take a heartbeat and answer it; refuse it in the words of the servers in the field."""
        if not body.strip():
            return text(400, "body is blank\n")
        try:
            beat = json.loads(body)
        except ValueError:
            beat = None
        if not isinstance(beat, dict):
            return text(400, "body format error\n")
        if not beat.get("hostname"):
            return text(400, "hostname is blank\n")
        with self._changed:
            self._heartbeats.append(beat)
            self._changed.notify_all()
        agents = [_as_older(agent) for agent in self._desired] if self._as_older_servers else self._desired
        content = json.dumps({"errorMessage": "", "desiredAgents": agents}).encode()
        return Reply(headers={"Content-Type": JSON}, content=content)


def _as_older(agent: dict[str, Any]) -> dict[str, Any]:
    known = ("name", "version", "tarball", "md5", "cmd")
    return {key: value for key, value in agent.items() if key in known} | {"md5": agent.get("tarball", "")}


def _flipped(content: bytes | Path) -> bytes:
    """The same with all bits of the byte in the middle flipped."""
    whole = bytearray(content if isinstance(content, bytes) else content.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    return bytes(whole)


def _digests(content: bytes | Path) -> dict[str, str]:
    """Hash once for all: the digests by their names."""
    sums = {"md5": md5(usedforsecurity=False), "sha256": sha256()}
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
        while piece := source.read(1 << 20):
            for one in sums.values():
                one.update(piece)
    return {name: one.hexdigest() for name, one in sums.items()}
