"""What would fill a memory, against the whole updater: `apply --once` in a process of its own, whose peak is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.e2e.processes import end_all_in
from tests.hostile import peers
from tests.hostile.case import Case, Seen
from tests.hostile.tarballs import CONTROL_MEMBER, END, extended, gzip_of, member, raw_header
from tests.loopback import Loopback, Story, answers
from tests.support.ops_meta import OpsMetaServer
from tests.support.sample_agents import build
from updater.demo import agent as agents

ROOT = Path(__file__).resolve().parents[2]
NAME = "falcon-agent"
LIMIT = 1 << 20  # bytes of a heartbeat's answer
AGENTS = 400  # of an answer
END_S = 300.0  # beyond all limits of the updater's own

# Not ru_maxrss: that is inherited from the process that started us, and a test run is larger than what is measured.
MEASURED = """
import sys
from updater.cli import run
code = run(sys.argv[2:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
open(sys.argv[1], "w").write(peak)
sys.exit(code)
"""


@frozen
class Place:
    """Where a bomb is laid: the agents' folder, and the server that publishes."""

    work: Path
    meta: OpsMetaServer
    stack: ExitStack

    @property
    def home(self) -> Path:
        return self.work / NAME

    def serves(self, story: Story) -> dict[str, Any]:
        """Another server in ops-meta's place."""
        return {"server": self.stack.enter_context(Loopback(story)).origin}

    def installed(self, control: str) -> None:
        """An agent that was there before, with this control script."""
        (self.home / "1.0.0").mkdir(parents=True)
        (self.home / "1.0.0" / "control").write_text(f"#!/bin/sh\n{control}\n")
        (self.home / "1.0.0" / "control").chmod(0o755)
        (self.home / ".version").write_text("1.0.0")
        self.publish(build(NAME, "1.0.0"))

    def publish(self, content: bytes, **keys: Any) -> None:
        self.meta.publish(NAME, "1.0.0", content)
        self.meta.desire(self.meta.agent(NAME, "1.0.0", **keys))


@frozen
class Bomb:
    """`lay` it, and return what the config must say. `end`: the exit code, and the agent's reason if there is one."""

    lay: Callable[[Place], dict[str, Any] | None]
    end: str


def tarball(pieces: Callable[[], Iterable[bytes]], end: str) -> Bomb:
    return Bomb(lambda place: place.publish(gzip_of(pieces())), end)


def answer(body: bytes, end: str) -> Bomb:
    return Bomb(lambda place: place.serves(answers(body)), end)


def server(story: Story) -> Bomb:
    return Bomb(lambda place: place.serves(story), "69")


def full(piece: bytes, head: bytes = b'{"desiredAgents": [', tail: bytes = b"]}") -> bytes:
    """As many pieces as an answer has room for, with commas between them."""
    count = (LIMIT - len(head) - len(tail)) // (len(piece) + 1)
    return head + b",".join([piece] * count) + tail


def numbered(piece: bytes) -> bytes:
    """As many entries as an answer may have, each with its number."""
    return b'{"desiredAgents": [%b]}' % b",".join(piece.replace(b"%d", b"%d" % number) for number in range(AGENTS))


# -- archives --


def one_huge_file() -> Iterator[bytes]:
    yield CONTROL_MEMBER + raw_header(b"big", b"0", b"%011o\0" % (200 << 20))
    for _ in range(200):
        yield bytes(1 << 20)
    yield END


def a_huge_long_name() -> Iterator[bytes]:
    yield CONTROL_MEMBER + raw_header(b"././@LongLink", b"L", b"%011o\0" % (300 << 20))
    for _ in range(300):
        yield b"n" * (1 << 20)


def lying_lengths() -> Iterator[bytes]:
    yield CONTROL_MEMBER + extended(b"2 " * 32_000 + b"=") + member("f") + END


def many_wide_links() -> Iterator[bytes]:
    """As many links, with as long names, targets and attributes, as get in, and one more."""
    yield CONTROL_MEMBER
    for number in range(99_000):
        name = f"{number:05}" + "😀" * 40
        yield member(
            name, format=tarfile.PAX_FORMAT, pax={"comment": f"{number} " * 150}, type=tarfile.SYMTYPE, to="x" * 90
        )
    yield END


def many_short_links() -> Iterator[bytes]:
    yield CONTROL_MEMBER
    for number in range(99_000):
        yield member(f"{number:x}", type=tarfile.SYMTYPE, to="x")
    yield END


def many_hard_links() -> Iterator[bytes]:
    yield CONTROL_MEMBER
    for number in range(99_000):
        yield member(f"{number:x}", type=tarfile.LNKTYPE, to="control")
    yield END


def many_files() -> Iterator[bytes]:
    """As many files with as long names as get in."""
    yield CONTROL_MEMBER
    for number in range(99_000):
        yield member(f"{number % 100:02}/{number:05}" + "x" * 200)
    yield END


def one_file_many_times() -> Iterator[bytes]:
    yield CONTROL_MEMBER
    for _ in range(110_000):
        yield member("f", b"x")
    yield END


def global_headers() -> Iterator[bytes]:
    yield CONTROL_MEMBER
    for number in range(5_000):
        yield extended(b"60008 k%04d=" % number + b"v" * 59_995 + b"\n", b"g") + member(f"{number}")
    yield END


def endless_zeros() -> Iterator[bytes]:
    yield CONTROL_MEMBER + END
    for _ in range(300):
        yield bytes(1 << 20)


# -- where it lies --


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _huge_version_file(place: Place) -> None:
    place.installed("echo started")
    _sparse(place.home / ".version", 1 << 30)


def _huge_marker(place: Place) -> None:
    place.installed("echo started")
    _sparse(place.home / "1.0.0" / ".ops-updater.json", 1 << 30)


def _endless_config(place: Place) -> None:
    other = place.stack.enter_context(Loopback(peers.body_for_ever))
    place.publish(build(NAME, "1.0.0"), configFileName="cfg.json", configRemoteUrl=f"{other.origin}/cfg.json")


def _endless_digest_file(place: Place) -> None:
    other = place.stack.enter_context(Loopback(peers.body_for_ever))
    place.publish(build(NAME, "1.0.0"), md5=other.origin)


def _endless_tarball(place: Place) -> dict[str, Any]:
    other = place.stack.enter_context(Loopback(peers.body_for_ever))
    place.publish(build(NAME, "1.0.0"), tarball=other.origin)
    return {"max_tarball": "64MiB"}


def _all_in_vain(place: Place) -> dict[str, Any]:
    other = place.stack.enter_context(Loopback(answers(b"", status=404)))
    entry = {"name": "a%d", "workDir": str(place.work), "version": "1", "cmd": "start", "md5": "0" * 32}
    base = json.dumps({**entry, "tarball": f"{other.origin}/{'x' * 500}"})
    return place.serves(answers(numbered(base.encode())))


def _many_versions(place: Place) -> None:
    place.installed("echo started")
    for number in range(5_000):
        (place.home / f"2.0.{number}").mkdir()


_KEYS = b",".join(b'"%012d":0' % number for number in range(49_000))

BOMBS: dict[str, Bomb] = {
    "a tarball with one huge file": tarball(one_huge_file, "3 StatusUnknown"),
    "a tarball with a name of 300 MB": tarball(a_huge_long_name, "3 UnpackRefused"),
    "a tarball whose header lies about lengths": tarball(lying_lengths, "3 UnpackRefused"),
    "a tarball of 99,000 wide links": tarball(many_wide_links, "3 UnpackRefused"),
    "a tarball of 99,000 short links": tarball(many_short_links, "3 UnpackRefused"),
    "a tarball of 99,000 hard links": tarball(many_hard_links, "3 UnpackRefused"),
    "a tarball of 99,000 files": tarball(many_files, "3 StatusUnknown"),
    "a tarball of one file, 110,000 times": tarball(one_file_many_times, "3 UnpackRefused"),
    "a tarball of piled-up global headers": tarball(global_headers, "3 UnpackRefused"),
    "a tarball with 300 MB of zeros behind": tarball(endless_zeros, "3 UnpackRefused"),
    "an endless tarball": Bomb(_endless_tarball, "3 FetchFailed"),
    "an endless config": Bomb(_endless_config, "3 FetchFailed"),
    "an endless digest file": Bomb(_endless_digest_file, "3 FetchFailed"),
    "an endless answer": server(peers.body_for_ever),
    "an endless header": server(peers.header_for_ever),
    "an endless status line": server(peers.status_line_for_ever),
    "an endless chunk size": server(peers.chunk_size_for_ever),
    "endless trailers": server(peers.trailers_for_ever),
    "endless 100-continue": server(peers.continues_for_ever),
    "a gzip bomb of 500 MB": server(answers(peers.gzip_bomb(500 << 20), "Content-Encoding: gzip")),
    "a megabyte of empty lists": answer(full(b"[]"), "69"),
    "a megabyte of zeros": answer(full(b"0"), "69"),
    "100,000 keys": answer(
        b'{"desiredAgents": [], %b}' % b",".join(b'"%d":0' % number for number in range(100_000)), "69"
    ),
    "as many zeros as are read": answer(b'{"desiredAgents": [], "x": [%b0]}' % (b"0," * 49_000), "0"),
    "as many keys as are read": answer(b'{"desiredAgents": [], %b}' % _KEYS, "0"),
    "as many lists as are read": answer(b'{"desiredAgents": [], "x": [%b[]]}' % (b"[]," * 19_000), "0"),
    "an answer that is one string": answer(b'{"errorMessage": "%b"}' % (b"x" * (LIMIT - 30)), "69"),
    "an answer of escapes": answer(full(b"\\u00e9" * 1000, b'{"desiredAgents": [], "x": "', b'"}'), "0"),
    "400 entries to be refused": answer(numbered(b'{"name": "..%%d", "workDir": "/%b"}' % (b"x" * 1900)), "3"),
    "400 agents that are looked on": answer(numbered(b'{"name": "a%d", "workDir": "/home/nobody-here"}'), "0"),
    "400 agents that can't be fetched": Bomb(_all_in_vain, "3"),
    "a status that floods": Bomb(lambda place: place.installed("yes not started"), "3 StatusUnknown"),
    "a status that floods one line": Bomb(
        lambda place: place.installed("head -c 500000000 /dev/zero"), "3 StatusUnknown"
    ),
    "a start that floods its log": Bomb(
        lambda place: place.installed('case "$1" in start) yes;; status) echo stoped;; esac'), "3 ControlTimeout"
    ),
    "a .version of a gigabyte": Bomb(_huge_version_file, "3 StatusUnknown"),
    "a marker of a gigabyte": Bomb(_huge_marker, "0 AsDesired"),
    "5,000 versions": Bomb(_many_versions, "0 AsDesired"),
}


# One of a kind, for the tests.
SHARE = (
    *("a tarball with a name of 300 MB", "a tarball of piled-up global headers", "an endless tarball"),
    *("an endless header", "a gzip bomb of 500 MB", "a megabyte of zeros", "as many keys as are read"),
    *("a status that floods", "a start that floods its log", "a marker of a gigabyte"),
)


def cases() -> list[Case]:
    """Each takes a second or more, and one of them half a minute."""
    return [
        Case(
            group="bomb",
            name=name,
            expected=bomb.end,
            observe=partial(_set_off, bomb),
            slow=True,
            long=name not in SHARE,
        )
        for name, bomb in BOMBS.items()
    ]


def _set_off(bomb: Bomb, folder: Path) -> Seen:
    work, config = folder / "agents", folder / "ops-updater" / "cfg.json"
    config.parent.mkdir()
    with ExitStack() as stack:
        place = Place(work, stack.enter_context(OpsMetaServer(work_dir=work)), stack)
        keys = {"hostname": "host-1", "server": place.meta.server, "control_timeout": {"status": 2, "start": 1}}
        config.write_text(json.dumps(keys | (bomb.lay(place) or {})))
        try:
            return _applied(config, folder / "peak")
        finally:
            agents.end_all(folder)
            end_all_in(folder)


def _applied(config: Path, peak: Path) -> Seen:
    # Without the coverage of a test run, which would be measured too.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(peak), "-c", str(config), "apply", "--once", "-o", "json"],
        cwd=ROOT,
        env={**env, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    found = json.loads(done.stdout)["agents"] if done.stdout else []
    reasons = [condition["reason"] for agent in found if agent["name"] == NAME for condition in agent["conditions"][:1]]
    said = done.stderr.strip().partition("\n")[0]
    return Seen(
        end=" ".join([str(done.returncode), *reasons]),
        said=said,
        breach=done.stderr if "Traceback" in done.stderr else "",
        peak=int(peak.read_text()),
    )
