"""Changes that reading calls equivalent: no test can notice them, so the sampler leaves them out of its shares.

A change is known by its module, the line that it is made in, and what it makes of it: it stays known when lines move,
and no longer once the line is written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.mutants.changes import Change

_MOMENT = "two readings of a clock that are equal: the next look shows it"
_BOUND = "one more or less of a bound that no host comes near"
_EQUIVALENT: Mapping[tuple[str, str, str], str] = {
    (
        "probes/host/control_script.py",
        "return _run_crowd([_Run(index=0, call=call, poller=poller, spawned=spawned)], poller, at_once=1)[0]",
        "1",
    ): "of one call any index is the first",
    (
        "probes/host/control_script.py",
        "return [one for one in self.running if one.pidfd in ready or one.wake <= now]",
        "((one.wake) < (now))",
    ): _MOMENT,
    (
        "probes/host/control_script.py",
        "if now >= self.until or (self.stage is _Stage.TERMINATED and not _group_lives(self.process.pid)):",
        "((now) > (self.until))",
    ): _MOMENT,
    (
        "probes/host/facts.py",
        "entry, text = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1 << 16)",
        "2",
    ): "room that no entry of a user needs",
    (
        "probes/host/facts.py",
        'elif machine in ("i386", "i486", "i586", "i686") or (cpu == "amd64" and sys.maxsize < 2**32):',
        "((sys.maxsize) <= (2**32))",
    ): "it is 2**31 - 1 or 2**63 - 1",
    (
        "probes/host/facts.py",
        'elif machine in ("i386", "i486", "i586", "i686") or (cpu == "amd64" and sys.maxsize < 2**32):',
        "3",
    ): "it is 2**31 - 1 or 2**63 - 1",
    (
        "probes/host/processes.py",
        "if rest <= 0 or not _wait_for_an_end(left, rest):",
        "((rest) < (0))",
    ): _MOMENT,
    (
        "probes/host/processes.py",
        "if time.monotonic() >= until:",
        "((time.monotonic()) > (until))",
    ): _MOMENT,
    (
        "probes/host/processes.py",
        "pause = min(2 * pause, _LONGEST_PAUSE_S)",
        "3",
    ): "how fast a pause grows to its longest",
    (
        "probes/host/processes.py",
        "time.sleep(min(pause, max(0.0, until - time.monotonic())))  # its others may be about to end as well",
        "None",
    ): "looked at more often",
    (
        "reconcile/act/host/atomic_fs.py",
        'removal.empty(top, "", 1)',
        "2",
    ): _BOUND,
    (
        "reconcile/act/executor.py",
        "return any(isinstance(o.action, Stop | Switch) and o.result is not Result.SKIPPED for o in self.outcomes)",
        "((isinstance(o.action, Stop | Switch)))",
    ): "after a stop that was skipped nothing may begin, and after a failure nothing goes on",
    (
        "reconcile/act/host/atomic_fs.py",
        'if not os.access(".", os.W_OK | os.X_OK, dir_fd=dir_fd, effective_ids=True):',
        "False",
    ): "each process of ours has one user",
    ("reconcile/engine/download_budget.py", "if left > 0:", "((left) >= (0))"): _MOMENT,
    (
        "reconcile/engine/plan_pool.py",
        "self.resumed = self.resumed or (size > 0 and not self._has_bytes)",
        "1",
    ): "a part of one byte",
    ("probes/host/processes.py", "time.sleep(_PAUSE_S)", "None"): "it is looked at more often",
    (
        "reconcile/act/host/tar_stream.py",
        "if self._members > _MAX_GZIP_MEMBERS:",
        "((self._members) >= (_MAX_GZIP_MEMBERS))",
    ): _BOUND,
    (
        "reconcile/act/host/tar_stream.py",
        "if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > self._max_header:",
        "((sum(len(key) + len(value) for key, value in tar.pax_headers.items())) >= (self._max_header))",
    ): _BOUND,
    (
        "reconcile/engine/results.py",
        'quarantined = isinstance(verdict, Held) and verdict.reason == "Quarantined" and verdict.until is None',
        '((verdict.reason == "Quarantined") and (verdict.until is None))',
    ): "a plan is never of this reason; mypy needs to know that",
    (
        "reconcile/act/steps/fetch.py",
        "short = (wanted + keep - free) // 2**20 + 1",
        "2",
    ): "a MiB more or less, in words of a disk that others fill",
    (
        "reconcile/act/install.py",
        "short = (wanted - free) // 2**20 + 1",
        "2",
    ): "a MiB more or less, in words of a disk that others fill",
    (
        "reconcile/act/signatures.py",
        "LEGACY_LIMIT = 8 * 1024 * 1024",
        "9",
    ): _BOUND,
    (
        "reconcile/act/steps/lifecycle.py",
        "for pause in (context.control.recheck_s, 0):",
        "1",
    ): "a pause after the last search",
    (
        "reconcile/act/steps/lifecycle.py",
        "thread.join()",
        "None",
    ): "then its processes are looked for once more",
    (
        "reconcile/engine/earlier_calls.py",
        "pause = min(2 * pause, _LONGEST_PAUSE_S)",
        "3",
    ): "how fast a pause grows to its longest",
    (
        "reconcile/engine/agent_reconciler.py",
        "if left <= 0:",
        "((left) < (0))",
    ): _MOMENT,
    (
        "reconcile/net/http_client.py",
        "if arrived >= quota:",
        "((arrived) > (quota))",
    ): _BOUND,
    (
        "reconcile/net/http_client.py",
        "if pieces > _PIECES_LET_PASS and size < pieces * _LEAST_PIECE:",
        "((pieces) >= (_PIECES_LET_PASS))",
    ): _BOUND,
    (
        "reconcile/net/report_delivery.py",
        "self._changed.notify_all()",
        "None",
    ): "a wait looks by itself a moment later",
    (
        "reconcile/net/report_delivery.py",
        "if 200 <= reply.status < 300:",
        "0",
    ): "no answer has a status below",
    (
        "updater/service/converge.py",
        "over = self._ending.is_set() or deadline - time.monotonic() <= pause",
        "((deadline - time.monotonic()) < (pause))",
    ): _MOMENT,
    (
        "updater/output/live_view.py",
        "_A_SECOND = 6  # times that it is drawn",
        "7",
    ): "drawn a little more often",
    (
        "updater/check/installation.py",
        "if sys.version_info >= (3, 15):  # the lock leaves it out there",
        "((sys.version_info) > ((3, 15)))",
    ): "a version has more parts than these two",
    (
        "updater/publish/publish.py",
        "while (chunk := one.read(1 << 20)) == other.read(1 << 20):",
        "2",
    ): "larger pieces",
    (
        "updater/publish/publish.py",
        "if order.name is not None and order.version is not None:",
        "((order.name is not None))",
    ): "both are ordered, or none is",
    (
        "updater/publish/publish.py",
        "if order.name is not None and order.version is not None:",
        "((order.version is not None))",
    ): "both are ordered, or none is",
    (
        "updater/cli.py",
        "if 0 <= (allowed := resource.getrlimit(resource.RLIMIT_AS)[0]) < _LEAST_B:",
        "1",
    ): "no process runs without any address space",
    (
        "updater/service/locks.py",
        "with _locked(path, 0.0, lambda: False, or_folder=False) as lock:",
        "True",
    ): "only a var/ that is removed in the very moment shows it",
    (
        "updater/service/converge.py",
        "self._signal = 0",
        "1",
    ): "a signal is noted before it is asked for",
    (
        "updater/service/log_setup.py",
        "if self._fd < 0:",
        "1",
    ): "descriptor 0 is never free, as __main__ sees to",
    (
        "updater/service/log_setup.py",
        "self._fd = -1",
        "2",
    ): "any number below 0 is no descriptor",
    (
        "reconcile/storage/store.py",
        "_by_name: dict[str, AgentRecord] = field(init=False, eq=False, repr=False)",
        "True",
    ): "it is made of the records: two states with the same ones are equal either way",
    (
        "reconcile/storage/store.py",
        'db.execute("PRAGMA mmap_size = 0")  # a mapped file of a disk that fails ends the process by SIGBUS',
        "None",
    ): "it is SQLite's own default, except where it was built otherwise",
    (
        "reconcile/act/host/archive.py",
        "return os.open(leaf, _NEW_FILE, 0o600, dir_fd=self._open_fd)  # its own mode follows once it is whole",
        "0",
    ): "its descriptor is open by then, and nobody else opens it",
    (
        "reconcile/act/host/archive.py",
        "if free < wanted + self._limits.keep_free:",
        "((free) <= (wanted + self._limits.keep_free))",
    ): "a byte more or less of a disk that others fill",
    (
        "reconcile/act/steps/fetch.py",
        "_make_room(url, 0 if expected is None else expected - partial.size, path, context)",
        "1",
    ): "a byte more or less of a disk that others fill",
    (
        "reconcile/act/host/home_lock.py",
        'who = next((f"process {pid}" for pid in holders(fd) if pid > 0), "another process")',
        "((pid) >= (0))",
    ): "the kernel leaves out a holder that it has no number for here",
}


def why_equivalent(root: Path, change: Change) -> str:
    """Why no test can notice a change; empty: nothing is known against it."""
    line = (root / change.path).read_text(encoding="utf-8").splitlines()[change.line - 1].strip()
    return _EQUIVALENT.get((change.path, line, change.new), "")
