"""Where the time goes: one no-op pass over 100 agents, and one upgrade by a tarball of 200 MB, as bars.

A timer looks each millisecond what the threads of the pass do, and gives the wall time since its last look to that: so
a long call into the kernel counts as long as it is. Beside it the floor: what the same work costs with nothing around.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from attrs import frozen
from loguru import logger

from benchmarks import hosts
from benchmarks.measure import seconds, served
from probes.host.facts import arch

_TICK_S = 0.001
_BAR = 40  # characters of a bar that stands for everything
_ROOT = str(Path(__file__).parent.parent)

# Where a thread is, by the innermost of our own functions that it is in; a file alone stands for all others in it.
NO_OP: dict[str, str] = {
    "probes/host/control_script.py:_spawn": "start the control scripts",
    "probes/host/control_script.py": "wait for them",
    "probes/host/output_capture.py": "take what they print",
    "probes/home.py": "read the homes",
    "probes/host/home_reader.py": "read the homes",
    "probes/host/paths.py": "read the homes",
    "probes/observed.py": "read the homes",
    "updater/sources/": "read the answer",
    "reconcile/decide/policy/": "check it by the policy",
    "reconcile/decide/host_rules.py": "check it by the policy",
    "probes/host/facts.py": "check it by the policy",
    "reconcile/storage/store.py": "memory",
    "reconcile/storage/codec.py": "memory",
    "reconcile/": "aim, plan, conditions",
}
UPGRADE: dict[str, str] = {
    "reconcile/act/cache.py:_count": "fetch: hash",
    "reconcile/act/cache.py": "fetch: write",
    "reconcile/act/steps/fetch.py": "fetch: receive",
    "reconcile/net/http_client.py": "fetch: receive",
    "reconcile/net/http_transport.py": "fetch: receive",
    "reconcile/act/steps/verify.py": "verify",
    "reconcile/act/host/tar_stream.py": "unpack: inflate",
    "reconcile/act/host/archive.py:sync_files": "unpack: fsync",
    "reconcile/act/host/archive.py:sync_directories": "unpack: fsync",
    "reconcile/act/host/archive.py:_begin_writing": "unpack: fsync",
    "reconcile/act/host/archive.py": "unpack: write files",
    "reconcile/act/host/atomic_fs.py:write_all": "unpack: write files",
    "reconcile/act/host/atomic_fs.py:sync_dir": "unpack: fsync",
    "reconcile/act/steps/lifecycle.py": "stop, switch, start",
    "probes/host/control_script.py": "control scripts",
    "reconcile/act/": "what is around it",
}


@frozen(kw_only=True)
class Profile:
    """`wall_s`: of the whole. `parts`: seconds of each part, the longest first. `ours_s`, `scripts_s`: CPU time of this
    process, and of the scripts that it waited for. `floors`: what the same work costs with nothing around it."""

    title: str
    wall_s: float
    parts: tuple[tuple[str, float], ...]
    ours_s: float
    scripts_s: float
    floors: Mapping[str, float]

    def drawn(self) -> str:
        """The bars, for a terminal and for Markdown alike."""
        lines = [f"{self.title}: {1000 * self.wall_s:.0f} ms; CPU {1000 * self.ours_s:.0f} ms of ours"]
        lines[0] += f", {1000 * self.scripts_s:.0f} ms of control scripts"
        widest = max(len(name) for name, _ in (*self.parts, *self.floors.items()))
        for name, spent in self.parts:
            bar = "█" * round(_BAR * spent / self.wall_s) or "▏"
            lines.append(f"  {name:<{widest}}  {1000 * spent:7.1f} ms  {spent / self.wall_s:4.0%}  {bar}")
        lines += [f"  {name:<{widest}}  {1000 * spent:7.1f} ms        floor" for name, spent in self.floors.items()]
        return "\n".join(lines)


class Sampler:
    """Looks at the threads by a timer of wall time. An agent's thread counts before the pass's own, which waits for
    it."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._labels = labels
        self._last = 0.0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._tick)
        self._last = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _tick(self, number: int, frame: FrameType | None) -> None:
        now = time.perf_counter()
        main = threading.main_thread().ident
        frames = [one for ident, one in sys._current_frames().items() if ident != main]
        labels = [label for label in (self._label(one) for one in frames) if label]
        self.spent[(labels or [self._label(frame) or "the rest"])[0]] += now - self._last
        self._last = now

    def _label(self, frame: FrameType | None) -> str:
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(_ROOT) and "/benchmarks/" not in code.co_filename:
                return self.named(code.co_filename[len(_ROOT) + 1 :], code.co_name)
            frame = frame.f_back
        return ""

    def named(self, file: str, function: str) -> str:
        exact = self._labels.get(f"{file}:{function}") or self._labels.get(file)
        folders = (label for prefix, label in self._labels.items() if prefix.endswith("/") and file.startswith(prefix))
        return exact or next(folders, "")


def _profiled(title: str, work: Callable[[], object], labels: Mapping[str, str], rounds: int) -> Profile:
    """Sample `rounds` of the same work, and tell of one. Its floors are added by the caller."""
    sampler = Sampler(labels)
    before, scripts = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    with sampler.at_work():
        wall = [seconds(work) for _ in range(rounds)]
    after, later = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Profile(
        title=title,
        wall_s=statistics.mean(wall),
        parts=tuple((name, spent / rounds) for name, spent in _longest_first(sampler.spent)),
        ours_s=(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / rounds,
        scripts_s=(later.ru_utime + later.ru_stime - scripts.ru_utime - scripts.ru_stime) / rounds,
        floors={},
    )


def _longest_first(spent: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda part: -part[1])


def _passes(config: Path) -> Callable[[], object]:
    """Whole passes, as `apply --once` makes them, in this process."""
    from reconcile.assess.pass_context import DesiredFrom
    from reconcile.engine.reconciler import PassRequest
    from updater.service.pass_runner import locked_pass, make_var
    from updater.settings.composition import SourceOverride, host_context
    from updater.settings.config import load

    loaded = load(config)
    make_var(loaded.var)
    host = host_context(loaded, SourceOverride())
    return lambda: locked_pass(loaded, host, PassRequest(ask=DesiredFrom.EXCHANGE), ending=threading.Event())


def no_op_pass(folder: Path, agents: int = 100, rounds: int = 10) -> Profile:
    """A pass that finds all as desired: it looks, asks, plans and remembers."""
    from attrs import evolve

    from probes.host.control_script import ScriptCall, run_all

    config = hosts.host(folder, agents, hosts.INSTANT)
    one_pass = _passes(config)
    one_pass()  # the first one loads modules, and makes the memory
    controls = sorted(config.parent.glob("agents/*/1.0/control"))
    calls = [
        ScriptCall(control=path, verb="status", cwd=path.parent, env={"PATH": os.environ["PATH"]}, limit_s=10)
        for path in controls
    ]
    found = _profiled(f"A no-op pass over {agents} agents", one_pass, NO_OP, rounds)
    alone = statistics.median(seconds(lambda: run_all(calls)) for _ in range(rounds))
    return evolve(found, floors={"the same scripts, run alone": alone})


def upgrade(folder: Path, payload: int = 410 * 2**20, files: int = 1000) -> Profile:
    """One agent's new version: fetched over loopback, verified by md5, unpacked, switched to."""
    from attrs import evolve

    config = hosts.host(folder, 1, hosts.TIMED)
    home = config.parent / "agents" / "agent-0"
    (home / "1.0" / "up").touch()
    packed = folder / "www" / arch() / "agent-0-2.0.tar.gz"
    hosts.tarball(packed, hosts.TIMED, payload, files=files)
    md5 = hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()
    one_pass = _passes(config)
    one_pass()
    from reconcile.act.executor import load_all

    load_all()
    with served(folder / "www") as url:
        hosts.desire(folder, [hosts.entry("agent-0", "2.0", home.parent, url, md5)])
        title = f"An upgrade by {packed.stat().st_size / 1e6:.0f} MB, {payload / 1e6:.0f} MB in {files} files unpacked"
        found = _profiled(title, one_pass, UPGRADE, rounds=1)
        assert (home / ".version").read_text() == "2.0"
        floors = {
            "receive alone": seconds(lambda: _receive(f"{url}/{arch()}/{packed.name}")),
            "hash alone": seconds(lambda: hashlib.md5(packed.read_bytes(), usedforsecurity=False)),
            "inflate alone": seconds(lambda: _inflate(packed)),
            "write and sync as one file": seconds(lambda: _write(folder / "floor", payload)),
        }
    return evolve(found, floors=floors)


def _receive(url: str) -> None:
    import urllib.request

    with urllib.request.urlopen(url) as answer:
        while answer.read(1 << 20):
            pass


def _inflate(packed: Path) -> None:
    from reconcile.act.host.tar_stream import inflater

    inflate = inflater.decompressobj(31)
    with packed.open("rb") as file:
        while block := file.read(1 << 20):
            inflate.decompress(block)


def _write(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def drawn() -> Iterator[str]:
    """Both profiles, each after it was made."""
    logger.remove()
    for make in (no_op_pass, upgrade):
        with tempfile.TemporaryDirectory(prefix="profile-") as folder:
            yield make(Path(folder) / "host").drawn()
