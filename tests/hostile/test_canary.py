"""Secrets in every place where one can stand, and then a look into all that the updater writes, prints, sends and
starts: none of them is there.

An agent is installed, upgraded, refused, its downloads fail in each way, and each command tells of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.host import NAME, Completed, Host
from tests.e2e.processes import Processes, end_all_in
from tests.hostile import peers
from tests.loopback import Loopback, Peer, answers, redirects
from tests.support.faulty_ops_meta import FaultyOpsMeta
from updater.demo import agent as agents

pytestmark = pytest.mark.slow

CANARY = "zq7hush"  # stands in each secret, and nowhere else
QUERY = f"token={CANARY}-query&sig={CANARY}-sig"
COMMANDS = (
    ("plan",),
    ("status",),
    ("history",),
    ("why", NAME),
    ("plan", "-o", "json"),
    ("status", "-o", "json"),
    ("history", "-o", "json"),
    ("why", NAME, "-o", "json"),
    ("apply", "--once", "-o", "json"),
)


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[FaultyOpsMeta]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta:
        yield meta


@pytest.fixture
def host(tmp_path: Path, meta: FaultyOpsMeta) -> Iterator[Host]:
    with Processes() as processes:
        host = Host(tmp_path, meta, processes)
        (host.folder / "secret").write_text(f"{CANARY}-password\n")
        host.configure(
            log_level="trace",
            auth={"user": "me", "password_file": "secret"},
            report_extra=True,
            control_timeout={"start": 2, "stop": 2},
        )
        yield host
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


class Lookout:
    """Looks while the updater runs at what every process of this host is called, and was given."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._done = threading.Event()

    def watch(self) -> None:
        own = str(os.getpid())
        while not self._done.wait(0.005):
            self.looks += 1
            for pid in (name for name in os.listdir("/proc") if name.isdigit() and name != own):
                for file in ("cmdline", "environ"):
                    try:
                        content = Path("/proc", pid, file).read_bytes()
                    except OSError:
                        continue
                    if CANARY.encode() in content:
                        self.found.add(f"{file}: {content[:200]!r}")

    def end(self) -> None:
        self._done.set()


@contextmanager
def looking() -> Iterator[Lookout]:
    lookout = Lookout()
    thread = threading.Thread(target=lookout.watch)
    thread.start()
    try:
        yield lookout
    finally:
        lookout.end()
        thread.join()


def leaks_in(host: Host, said: list[Completed]) -> list[str]:
    """Where a secret stands that must not: each file below the folder and the homes but those that hold it by
    purpose, all that was printed, and all that the server got."""
    found = []
    for path in [*host.folder.rglob("*"), *host.work.rglob("*")]:
        by_purpose = path.name in ("secret", "cfg.json") or "cache" in path.parts
        if path.is_file() and not by_purpose and not path.name.startswith("state.db"):
            found += [
                f"{path}: {line[:300]}" for line in path.read_text(errors="replace").splitlines() if CANARY in line
            ]
    for completed in said:
        found += [line[:300] for line in (completed.out + completed.err).splitlines() if CANARY in line]
    found += [f"told: {line[:300]}" for beat in host.meta.heartbeats if CANARY in (line := json.dumps(beat))]
    return found


def memory_of(host: Host) -> dict[str, str]:
    """All that the memory holds, by table."""
    with closing(sqlite3.connect(f"file:{host.var / 'state.db'}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: repr(db.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}


def secret_url(origin: str, path: str = "/releases") -> str:
    """An URL with a secret wherever one can stand."""
    return f"{origin.replace('://', f'://{CANARY}-user:{CANARY}-pw@')}{path}?{QUERY}"


def tell_all(host: Host) -> list[Completed]:
    return [host.updater("--log-level", "trace", *command) for command in COMMANDS]


FAILING: dict[str, Callable[[Peer], object]] = {
    "404": answers(b"", status=404),
    "401": answers(b"", status=401),
    "503": answers(b"", "Retry-After: 0", status=503),
    "a redirect with a secret": redirects(f"http://{CANARY}:{CANARY}@127.0.0.1:1/x?{QUERY}"),
    "a redirect with a password of a slash": redirects(f"http://u:{CANARY}/x@127.0.0.1:1/x"),
    "a redirect into a file": redirects(f"file:///{CANARY}?{QUERY}"),
    "a redirect for ever": redirects(f"/x?{QUERY}"),
    "closes": lambda peer: peer.request(),
    "noise": lambda peer: peer.send(b"noise\r\n\r\n"),
    "other bytes": answers(b"other bytes"),
    "a header that is none": peers.says(b"HTTP/1.1 200 OK\r\nX\r\n\r\n"),
}


def test_the_look_finds_what_is_there(host: Host) -> None:
    host.install("1.0.0")
    said = [host.updater("plan")]
    assert leaks_in(host, said) == []
    for path in (host.var / "app.log", host.home() / ".start.log"):
        with path.open("a") as file:
            file.write(f"GET /x?{QUERY}\n")
    printed = Completed(code=0, out=f"{CANARY}\n", err=f"a line\n{CANARY}\n")
    assert len(leaks_in(host, [printed])) == 4


def wish(host: Host, name: str, number: int, **keys: Any) -> dict[str, Any]:
    """An agent at a version of its own, so that it isn't held for what became of another."""
    host.publish(f"2.0.{number}", name)
    return host.meta.agent(name, f"2.0.{number}", **keys)


def test_no_secret_of_an_url_is_shown_whatever_becomes_of_it(host: Host) -> None:
    host.install("1.0.0")
    said: list[Completed] = []
    with looking() as lookout:
        for number, story in enumerate(FAILING.values()):
            with Loopback(story) as server:
                url = secret_url(server.origin)
                host.meta.desire(
                    wish(host, NAME, number, tarball=url),
                    wish(host, "by-digest-file", number, md5=url, tarball=url),
                    wish(host, "with-config", number, configFileName="cfg.json", configRemoteUrl=url),
                )
                said.append(host.updater("--log-level", "trace", "apply", "--once", "-o", "json"))
        said += tell_all(host)
    assert host.ask().version == "1.0.0"
    assert leaks_in(host, said) == []
    assert lookout.found == set()
    assert lookout.looks > 10
    assert CANARY in memory_of(host)["accepted"], "the last answer is kept as it came, for us alone"
    kept = {table: content for table, content in memory_of(host).items() if table != "accepted"}
    assert {table for table, content in kept.items() if CANARY in content} <= {"records"}
    assert (host.var / "state.db").stat().st_mode & 0o077 == 0
    assert host.var.stat().st_mode & 0o077 == 0


def test_no_secret_is_shown_where_all_goes_well(host: Host) -> None:
    host.meta.require_basic_auth("me", f"{CANARY}-password")
    said: list[Completed] = []
    with looking() as lookout:
        for version in ("1.0.0", "2.0.0"):
            host.publish(version)
            release = host.meta.release(NAME, version)
            host.meta.serve("/cfg.json", b"{}")
            url = f"{host.meta.url}/cfg.json?{QUERY}"
            host.desire(version, md5=release.md5, configFileName="cfg.json", configRemoteUrl=url)
            said.append(host.updater("--log-level", "trace", "apply", "--once", "-o", "json"))
        said += tell_all(host)
    assert host.ask().version == "2.0.0", said
    assert leaks_in(host, said) == []
    assert lookout.found == set()


def test_no_secret_of_an_entry_that_is_refused_is_shown(host: Host) -> None:
    host.install("1.0.0")
    url = secret_url("http://127.0.0.1:1")
    broken: list[dict[str, Any]] = [
        {"tarball": url.replace("http:", "ftp:")},
        {"tarball": f"{url} x"},
        {"md5": url.replace("http:", "gopher:")},
        {"configFileName": "../x", "configRemoteUrl": url},
        {"configFileName": "x", "configRemoteUrl": url.replace("http:", "file:")},
        {"tarball": url * 40},
        {"tarball": f"http://u:{CANARY}/x@127.0.0.1:1/x"},
        {"md5": f"http://u:{CANARY}/x@127.0.0.1:1/x"},
        {"configFileName": "x", "configRemoteUrl": f"http://u:{CANARY}/x@127.0.0.1:1/x"},
        {"tarball": f"http://[::1/{CANARY}?{QUERY}"},
    ]
    good = host.meta.agent(NAME, "1.0.0")
    host.meta.desire(good, *({**good, "name": f"a{number}", **keys} for number, keys in enumerate(broken)))
    said = tell_all(host)
    assert leaks_in(host, said) == []


@pytest.mark.parametrize("story", ["challenges", "hangs up"])
def test_no_secret_of_a_proxy_or_a_server_is_shown(host: Host, story: str) -> None:
    host.install("1.0.0")
    stories: dict[str, Callable[[Peer], object]] = {
        "hangs up": lambda peer: peer.request(),
        "challenges": answers(b"no", "Proxy-Authenticate: Basic", status=407),
    }
    said: list[Completed] = []
    with Loopback(stories[story]) as proxy, looking() as lookout:
        at = proxy.origin.replace("://", f"://{CANARY}-user:{CANARY}-pw@")
        for server in ("http://meta.test:1/heartbeat", "https://meta.test:1/heartbeat"):
            host.configure(proxy=at, server=f"{server}?{QUERY}")
            commands = (("plan",), ("apply", "--once", "-o", "json"))
            said += [host.updater("--log-level", "trace", *command) for command in commands]
    assert leaks_in(host, said) == []
    assert lookout.found == set()
    assert any(
        CANARY.encode() in str(request).encode() or "proxy-authorization" in request.headers
        for request in proxy.requests
    )


def test_no_secret_of_a_bad_config_is_shown(host: Host) -> None:
    for keys in (
        {"proxy": f"ftp://u:{CANARY}@h"},
        {"server": f"http://u:{CANARY}@h:1"},
        {"server": f"http://u:{CANARY}/x@h:1/heartbeat"},
        {"desired": f"http://u:{CANARY}/x@h/x"},
        {"desired": f"http://u:{CANARY}\u2100@h/x"},
        {"proxy": f"http://u:{CANARY}/x@h:1"},
        {"proxy": f"http://?{CANARY}"},
        {"desired": f"http://u:{CANARY}@h/x?{QUERY}"},
        {"auth": f"{CANARY}"},
        {"auth": {"user": "me", "password_file": f"http://u:{CANARY}@h"}},
    ):
        host.configure(auth=None, desired=None, proxy=None, server=host.meta.server)
        host.configure(**keys)
        said = [host.updater(*command) for command in (("plan",), ("apply", "--once"), ("daemon", "--check"))]
        assert {completed.code for completed in said} == {78}
        assert leaks_in(host, said) == []
