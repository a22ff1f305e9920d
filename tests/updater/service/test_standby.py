"""What the daemon leaves to itself when it waits as a small process, written and read by a small program in its place;
the daemon itself is in tests/e2e/test_standby.py."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from reconcile.assess.pass_context import DesiredFrom
from reconcile.engine.reconciler import PassRequest
from tests.updater.conftest import CODE, Folder
from updater.service.pass_runner import locked_pass

pytestmark = [
    pytest.mark.slow,
    pytest.mark.python_sensitive,
    pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux to wait so"),
]

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from attrs import evolve, fields
from reconcile.decide.timing.schedule import Next
from reconcile.log import logger
from reconcile.source import DesiredSignature
from reconcile.storage.store import read_state
from updater.service.pass_log import PassLog
from updater.service.standby import Standby, can_stand_by, left_behind, stand_by
from updater.service.waiter import Document
from updater.settings.config import load

logger.set_up(lambda loaded: loaded.remove(), writes_debug=False)
path = Path(sys.argv[1])
var = path.parent / "var"

def left(**other):
    log = PassLog()
    log.goes_on("metrics", "it goes on")
    known = evolve(read_state(var / "state.db"), serials=(DesiredSignature(key="K", serial=7, digest="d"),))
    numbers = dict(failed_exchanges=3, quiet_since=1.5, quiet_for=2.5, live_until=3.5, reload_from=4.5)
    return Standby(following=Next(at=12.5, exchange=False), config=load(path), pid_file=pid_file, folder=folder,
                   notify={"NOTIFY_SOCKET": "/x"}, log=log, known=known, **numbers, **other)

def content():
    return Document.inherited(os.getpid()).content

def fds():
    found = set(os.listdir("/proc/self/fd"))
    return {name for name in found if os.path.exists(f"/proc/self/fd/{name}")}

back = left_behind(path, by=os.getpid())
if back is None:
    pid_file = os.open(var / "app.pid", os.O_RDWR | os.O_CREAT)
    folder = os.open(path.parent, os.O_RDONLY)
else:
    pid_file, folder = back.pid_file, back.folder
"""
GOES = """
if back is None:
    stand_by(left(), lambda: False)
    sys.exit("it went on")
"""


def said(folder: Folder, story: str) -> Any:
    """What a program says by this story."""
    words = [sys.executable, "-c", PROGRAM + story, str(folder.path / "cfg.json")]
    done = subprocess.run(words, cwd=CODE, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def kept(ready: Folder) -> Folder:
    """A folder whose memory holds an agent, and one that was refused."""
    ready.meta.desire(ready.meta.agent("falcon-agent", "1.0.0", "stop"), ready.meta.agent("evil-agent", ".."))
    request = PassRequest(ask=DesiredFrom.EXCHANGE)
    locked_pass(ready.config, ready.around(), request, ending=threading.Event())
    return ready


def test_it_comes_back_with_all_that_it_left(kept: Folder) -> None:
    story = """
want = left()
names = [one.name for one in fields(Standby) if one.name != "log"]
print(json.dumps({
    "other": [name for name in names if getattr(back, name) != getattr(want, name)],
    "log": back.log.remembered() == want.log.remembered(),
    "known": [len(getattr(back.known, name)) for name in ("last_entries", "records", "conditions", "refused")],
    "accepted": [entry.name for entry in back.known.accepted.answer.entries],
    "inheritable": [os.get_inheritable(fd) for fd in (back.pid_file, back.folder)],
    "there": [os.path.samestat(os.fstat(fd), os.stat(place)) for fd, place in
              ((back.pid_file, var / "app.pid"), (back.folder, path.parent))],
}))
"""
    found = said(kept, GOES + story)
    kept_of, records, conditions, refused = found.pop("known")
    assert (kept_of, records, refused) == (1, 1, 1)
    assert conditions > 0
    assert found == {
        "other": [],
        "log": True,
        "accepted": ["falcon-agent", "evil-agent"],
        "inheritable": [False, False],
        "there": [True, True],
    }


def test_a_child_that_only_checks_needs_neither_pid_file_nor_folder(kept: Folder) -> None:
    """It is given neither, so that it is not taken for the daemon."""
    story = """
from updater.service.standby import _content
document = Document.new(_content(left()))
if os.fork() == 0:
    os.close(pid_file)
    os.close(folder)
    print(json.dumps(left_behind(path, by=os.getppid()) is not None), flush=True)
    os._exit(0)
os.wait()
"""
    assert said(kept, story) is True


def test_without_any_memory_it_comes_back_too(folder: Folder) -> None:
    folder.var.mkdir()
    story = """
if back is None:
    from attrs import evolve
    stand_by(evolve(left(), known=None), lambda: False)
print(json.dumps([back.known is None, back.following.at]))
"""
    assert said(folder, story) == [True, 12.5]


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("known", {}),
        ("known", {"accepted": None}),
        ("known", "text"),
        ("known", None),
        ("log", {}),
        ("log", {"goes_on": 1, "broken": {}, "troubles": [], "refused": [], "stands": []}),
        ("log", None),
    ],
)
def test_what_a_later_version_can_not_read_is_left_out_and_the_rest_is_there(
    kept: Folder, key: str, other: object
) -> None:
    change = f"""
from updater.service import waiter
write = waiter.Document.write
if back is None:
    def written(document):
        document.content[{key!r}] = json.loads({json.dumps(other)!r})
        write(document)
    waiter.Document.write = written
"""
    story = 'print(json.dumps([back.known is None, back.log.remembered()["goes_on"], back.failed_exchanges]))'
    assert said(kept, change + GOES + story) == [
        key == "known",
        {} if key == "log" else {"metrics": "it goes on"},
        3,
    ]


def test_a_signal_that_came_before_keeps_it_here(kept: Folder) -> None:
    story = """
before = fds()
signal.signal(signal.SIGHUP, lambda number, frame: None)
blocked = []
def called():
    blocked.append(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    return True
stand_by(left(), called)
print(json.dumps({"blocked": blocked, "after": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "fds": fds() == before, "document": Document.inherited(os.getpid()) is None,
    "inheritable": [os.get_inheritable(fd) for fd in (pid_file, folder)]}))
"""
    assert said(kept, story) == {
        "blocked": [[1, 2, 15]],
        "after": [],
        "fds": True,
        "document": True,
        "inheritable": [False, False],
    }


def test_where_it_can_not_begin_again_all_is_as_before(kept: Folder) -> None:
    story = """
before = fds()
sys.executable = "/no/such/python"
try:
    stand_by(left(), lambda: False)
except OSError as err:
    print(json.dumps({"error": err.strerror, "after": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "fds": fds() == before, "inheritable": [os.get_inheritable(fd) for fd in (pid_file, folder)]}))
"""
    assert said(kept, story) == {
        "error": "No such file or directory",
        "after": [],
        "fds": True,
        "inheritable": [False, False],
    }


@pytest.mark.parametrize(
    ("level", "logged"),
    [("debug", ["INFO", "ERROR"]), ("info", ["INFO", "ERROR"]), ("error", ["ERROR"]), ("critical", [])],
)
def test_what_the_wait_reads_of_it(kept: Folder, level: str, logged: list[str]) -> None:
    kept.configure(log_level=level, interval=77)
    story = """
if back is None:
    from probes.host.process_title import hide
    if sys.argv[2:]:
        hide(["falcon"])
    stand_by(left(), lambda: False)
found = content()
print(json.dumps({name: found[name] for name in ("logged", "interval_s", "resumes", "reload", "shown")}))
"""
    assert said(kept, story) == {
        "logged": logged,
        "interval_s": 77,
        "resumes": False,
        "reload": False,
        "shown": None,
    }


def test_only_a_program_that_was_typed_can_begin_again(kept: Folder) -> None:
    story = """
found = [can_stand_by()]
sys.argv = ["pytest", "tests"]
found.append(can_stand_by())
sys.argv = sys.orig_argv[-1:]
sys.executable = ""
found.append(can_stand_by())
print(json.dumps(found))
"""
    assert said(kept, story) == [True, False, False]
