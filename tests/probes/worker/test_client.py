"""A child that works as a user, and one that does anything else: run as our own user, so that no rights are needed.

The operations are those of a module of this test, which the real mechanism sends to the child as it sends ours.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import math
import os
import py_compile
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest

from probes.errors import InterpreterMissing, SudoRefused, Unreadable, WorkerLost
from probes.home import StatusLimits, probe_homes, read_home, run_control
from probes.host.facts import own_user
from probes.host.output_capture import open_capture
from probes.host.paths import AgentHome
from probes.host.trusted_path import can_execute
from probes.observed import HomeRef
from probes.worker import client
from probes.worker.bootstrap import BOOT, first_words, sources_of
from probes.worker.client import LIMITS, WorkerClient, WorkerLimits, start_worker
from probes.worker.interpreters import interpreters_for, nameless_path
from reconcile.act.context import WrongBytes
from reconcile.act.home_ops import lock_home, make_home, unlock_home, write_config
from reconcile.act.host import archive
from reconcile.act.install import UnpackRequest, unpack_tree
from reconcile.errors import HomeBusy, UnpackRefused, WorkDirMissing, WriteFailed
from tests.e2e.processes import until
from tests.support.sample_agents import build

pytestmark = pytest.mark.python_sensitive

USER = own_user()


@contextmanager
def start(*argv: str, **limits: float) -> Iterator[WorkerClient]:
    """Start what is to be taken for a child."""
    errors = open_capture(None)
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fd, bufsize=0, start_new_session=True
    )
    child = WorkerClient(USER.name, process, errors, WorkerLimits(**limits))  # type: ignore[arg-type]
    try:
        yield child
    finally:
        child.end()
        process.kill()
        process.wait()


def soon() -> float:
    return time.monotonic() + 30


def a_child(**limits: float) -> AbstractContextManager[WorkerClient]:
    return start(sys.executable, "-I", "-S", "-c", BOOT, **limits)  # -S: there is no attrs but the one that is sent


def impostor(then: str, **limits: float) -> AbstractContextManager[WorkerClient]:
    """One that says hello as a real one does, waits for the first call, and does as it likes."""
    return start(sys.executable, "-I", "-c", f"{HELLO}\n{then or 'pass'}", **limits)


@pytest.fixture
def child() -> Iterator[WorkerClient]:
    with a_child() as child:
        child.greet(USER, soon())
        yield child


def place(work: Path, name: str = "falcon") -> HomeRef:
    return HomeRef(name=name, work_dir=str(work), run_user=USER.name)


def a_home(work: Path, control: str, name: str = "falcon") -> HomeRef:
    tree = work / name / "1.0.0"
    tree.mkdir(parents=True)
    (tree / "control").write_text(f"#!/bin/sh\n{control}\n")
    (tree / "control").chmod(0o755)
    (work / name / ".version").write_text("1.0.0")
    return place(work, name)


# A child as it should be


def test_it_needs_no_package_and_none_of_our_folders(child: WorkerClient, tmp_path: Path) -> None:
    there = a_home(tmp_path, "echo started")
    assert child.call(probe_homes, ((there,), StatusLimits()), {}, 30) == probe_homes((there,), StatusLimits())
    assert child.call(read_home, (there,), {}, 30) == read_home(there)


def test_it_works_as_its_user_would_after_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with the environment, the folder and the umask of the updater."""
    seen = tmp_path / "seen"
    there = a_home(tmp_path, f"umask >{seen}; env >>{seen}")
    monkeypatch.setenv("OF_THE_UPDATER", "canary")
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        with a_child() as child:
            child.greet(USER, soon())
            child.call(run_control, (there, "1.0.0", "start", 30.0, {}), {}, 40)
            child.call(make_home, (AgentHome(tmp_path, "heron"),), {}, 30)
            [pid] = (
                int(name)
                for name in os.listdir("/proc")
                if name.isdigit() and parent_of(int(name)) == os.getpid() and b"-S" in command_of(int(name))
            )
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
    finally:
        os.umask(before)
    umask, *environment = seen.read_text().splitlines()
    assert int(umask, 8) == 0o022
    assert (tmp_path / "heron").stat().st_mode & 0o777 == 0o755
    found = dict(line.partition("=")[::2] for line in environment)
    assert "OF_THE_UPDATER" not in found
    expected = {"HOME": USER.home, "USER": USER.name, "LOGNAME": USER.name, "SHELL": USER.shell, "LANG": "C.UTF-8"}
    assert {name: found.get(name) for name in expected} == expected


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_verified_file_is_streamed_from_where_we_hold_it_open(child: WorkerClient, tmp_path: Path) -> None:
    path = tmp_path / "tarball"
    path.write_bytes(build("falcon", "1.0.0", size=3_000_000))
    home = AgentHome(tmp_path, "falcon")
    child.call(make_home, (home,), {}, 30)
    parcel = UnpackRequest(
        directory="1.0.0", digests=frozenset({"md5:" + "0" * 32}), source="", size=1, limits=archive.ArchiveLimits()
    )
    with path.open("rb") as tarball:
        path.unlink()  # there is no second look by name
        child.call(unpack_tree, (home, parcel, tarball), {}, 60)
    assert (home.path / "1.0.0/control").stat().st_mode & 0o777 == 0o755
    assert not list(home.path.glob(".stage*"))


def test_a_spawned_process_is_reported_while_it_runs(child: WorkerClient, tmp_path: Path) -> None:
    there = a_home(tmp_path, f"echo $$ >{tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    reported: list[int] = []

    def spawned(pid: int) -> None:
        reported.append(pid)
        (tmp_path / "go").touch()

    child.call(run_control, (there, "1.0.0", "start", 30.0, {}, spawned), {}, 40)
    assert reported == [int((tmp_path / "pid").read_text())]


def test_an_error_of_the_callback_comes_through(child: WorkerClient, tmp_path: Path) -> None:
    there = a_home(tmp_path, "echo started")

    def spawned(pid: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        child.call(run_control, (there, "1.0.0", "start", 30.0, {}, spawned), {}, 40)
    assert child.call(run_control, (there, "1.0.0", "status", 30.0, {}), {}, 40).output == b"started\n"


def test_its_errors_are_ours(child: WorkerClient, tmp_path: Path) -> None:
    with pytest.raises(WorkDirMissing, match="nor does its parent"):
        child.call(make_home, (AgentHome(tmp_path / "a/b", "falcon"),), {}, 30)
    (tree := tmp_path / "a-home" / "1.0.0").mkdir(parents=True)
    for name in ("../x", "a/../../x", "a/..", "/x", "a//x", "./x", ""):
        with pytest.raises(WriteFailed, match="one path component"):
            child.call(write_config, (tree, name, b"", False), {}, 30)
    assert (list(tree.iterdir()), list(tree.parent.iterdir())) == ([], [tree])
    (tmp_path / "falcon").mkdir()
    parcel = UnpackRequest(directory="1.0.0", digests=frozenset(), source="", size=0, limits=archive.ArchiveLimits())
    with pytest.raises(UnpackRefused):
        child.call(unpack_tree, (AgentHome(tmp_path, "falcon"), parcel, io.BytesIO(b"no gzip" * 9)), {}, 30)
    assert list((tmp_path / "falcon").iterdir()) == []
    assert not child.is_lost


def test_a_lock_is_held_until_it_is_given_back_or_the_child_ends(child: WorkerClient, tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon")
    home.path.mkdir()
    lock = child.call(lock_home, (home,), {}, 30)
    with pytest.raises(HomeBusy):
        lock_home(home)
    child.call(unlock_home, (lock,), {}, 30)
    unlock_home(lock_home(home))
    child.call(lock_home, (home,), {}, 30)
    child.end()
    unlock_home(lock_home(home))


def test_a_call_that_hangs_keeps_no_other_waiting(child: WorkerClient, tmp_path: Path) -> None:
    hangs = a_home(tmp_path, f"touch {tmp_path}/hangs; sleep 100", "hangs")
    quick = a_home(tmp_path, "echo started", "quick")
    slow = threading.Thread(target=child.call, args=(run_control, (hangs, "1.0.0", "status", 3.0, {}), {}, 10))
    slow.start()
    until((tmp_path / "hangs").exists, "it hangs")
    for _ in range(5):
        assert child.call(run_control, (quick, "1.0.0", "status", 10.0, {}), {}, 20).output == b"started\n"
    assert slow.is_alive()
    slow.join()


def test_a_running_call_ends_within_its_limit_when_its_client_is_gone(child: WorkerClient, tmp_path: Path) -> None:
    hangs = a_home(tmp_path, f"trap '' TERM; echo $$ >{tmp_path}/pid; sleep 100")

    def calls() -> None:
        with suppress(WorkerLost):
            child.call(run_control, (hangs, "1.0.0", "status", 1.0, {}), {}, 10)

    thread = threading.Thread(target=calls)
    thread.start()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it hangs")
    child.close_input()
    until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists(), "the script ends", within=60)
    thread.join()


def test_it_ends_by_itself_when_its_input_ends(child: WorkerClient) -> None:
    child.close_input()
    assert child._process.wait(60) == 0


def test_one_that_outlasts_the_updaters_use_of_it_is_reaped_later_and_killed_once_all_its_limits_are_over() -> None:
    def left() -> list[subprocess.Popen[bytes]]:
        client._reap_left()
        return [process for process, _ in client._left]

    patient, late = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
    client._left += [(patient, math.inf), (late, 0.0)]
    try:
        assert patient in left()
        assert late.wait(60) == -signal.SIGKILL
        now = left()
        assert (patient in now, late in now) == (True, False)
        patient.kill()
        patient.wait(60)
        assert patient not in left()
    finally:
        for process in patient, late:
            process.kill()
            process.wait(60)


def test_it_ends_where_its_orders_make_no_sense() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", BOOT], **pipes) as child:  # type: ignore[call-overload]
        try:
            child.stdin.write(first_words())
            child.stdin.flush()
            assert child.stdout.readline().startswith(b"hello 0 ")
            child.stdin.write(b"x" * 1000)
            child.stdin.flush()
            assert child.wait(60) == 1
        finally:
            child.kill()


def test_calls_after_its_end_are_lost(child: WorkerClient) -> None:
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="it ended"):
        child.call(probe_homes, ((), StatusLimits()), {}, 30)
    assert child.is_lost
    child.end()


NO_THREAD = """
import threading
begin = threading.Thread.start
def start(thread):
    if "_carry_out" in repr(getattr(thread, "_target", None)):
        raise RuntimeError("can't start new thread")
    begin(thread)
threading.Thread.start = start
"""


def test_a_call_that_has_no_thread_there_says_so_and_the_child_lives_on(tmp_path: Path) -> None:
    with start(sys.executable, "-I", "-S", "-c", f"{NO_THREAD}{BOOT}") as child:
        child.greet(USER, soon())
        for _ in range(2):
            with pytest.raises(WorkerLost, match="the host is short of a resource: can't start new thread"):
                child.call(probe_homes, ((), StatusLimits()), {}, 30)
        assert not child.is_lost


# A child that is anything else

HELLO = f"""
import json, os, sys, time
said = json.dumps([{USER.uid}, 1]).encode()
os.write(1, b"hello 0 %d\\n%s" % (len(said), said))
seen = b""
while b'"operation"' not in seen:
    seen = seen[-20:] + os.read(0, 65536)
"""
RAISED = f"""said = b'{{"error":"{WrongBytes.__name__}","message":"","evidence":""}}'"""
AND_THEN = {
    "ends": "",
    "says no frame": "os.write(1, b'x' * 100)",
    "promises too much": "os.write(1, b'done 1 99999999\\n')",
    "says no json": "os.write(1, b'done 1 1\\n{')",
    "answers another type": "os.write(1, b'done 1 7\\n[1,2,3]')",
    "fails without a word": "os.write(1, b'failed 1 2\\n{}')",
    "fails with a list": "os.write(1, b'failed 1 2\\n[]')",
    "fails with a number": "os.write(1, b'failed 1 1\\n7')",
    "fails with texts that are none": 'said = b\'{"error":1,"message":2,"evidence":3}\'; '
    "os.write(1, b'failed 1 %d\\n%s' % (len(said), said))",
    "asks for a file that is not given": "os.write(1, b'more 1 9\\n123456789')",
    "asks for less than nothing": "os.write(1, b'more 1 2\\n-1')",
    "tells somebody who isn't there": "os.write(1, b'reported 1 1\\n7')",
    "says what nobody knows": "os.write(1, b'what 1 0\\n')",
    "answers for ever": "while True: os.write(1, b'more 1 1\\n1')",
    "raises what is ours alone": f"{RAISED}; os.write(1, b'failed 1 %d\\n%s' % (len(said), said))",
}


@pytest.mark.parametrize("then", AND_THEN.values(), ids=AND_THEN)
def test_whatever_it_says_it_is_lost_and_nothing_else(then: str) -> None:
    with impostor(then, end_s=0.2) as child:
        child.greet(USER, soon())
        with pytest.raises(WorkerLost, match=f"as {USER.name}"):
            child.call(probe_homes, ((), StatusLimits()), {}, 30)


@pytest.mark.parametrize("then", ["time.sleep(100)", "while os.read(0, 65536): pass"], ids=["reads nothing", "is mute"])
def test_what_does_not_answer_is_given_up(then: str) -> None:
    with impostor(then, slack_s=0.5, write_s=0.5, end_s=0.2) as child:
        child.greet(USER, soon())
        with pytest.raises(WorkerLost, match=r"does not read|did not answer"):
            child.call(write_config, (Path("/"), "x", b"x" * 1_000_000, False), {}, 0.5)


def test_the_first_reason_why_it_is_lost_stays() -> None:
    with impostor("time.sleep(100)", silent_s=1.0) as child:
        child.greet(USER, soon())
        for _ in range(2):
            with pytest.raises(WorkerLost, match=r"was lost: it gave no sign of life for 1\.0 s"):
                child.call(probe_homes, ((), StatusLimits()), {}, 30)
            # It was killed for that, and its end is seen.
            until(lambda: all(thread.name != f"as {USER.name}" for thread in threading.enumerate()), "it is not heard")


DRIPS = {
    "signs of life": "os.write(1, b'alive 0 0\\n')",
    "an answer, byte by byte": "os.write(1, b'd' if first else b'')",
    "an answer of which a byte is always missing": "os.write(1, b'done 1 1000000\\n' if first else b'x')",
    "wishes": "os.write(1, b'more 1 1\\n1'); os.read(0, 1 << 16)",
    "words to be passed on": "os.write(1, b'reported 1 1\\n7'); os.read(0, 1 << 16)",
}


def takes_both(stream: BinaryIO, spawned: Callable[[int], None]) -> None:
    """An operation whose worker may ask for bytes, and report numbers, for as long as it likes."""


@pytest.mark.parametrize("says", DRIPS.values(), ids=DRIPS)
def test_one_that_chats_and_never_answers_is_given_up_in_time(says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says on and on: the limit is one of the whole conversation."""
    monkeypatch.setattr(client, "sources_of", lambda module: {})
    forever = f"first = True\nwhile True:\n    {says}\n    first = False\n    time.sleep(0.001)"
    endless = cast(BinaryIO, SimpleNamespace(read=lambda size: b"x" * size))
    with concurrent.futures.ThreadPoolExecutor(1) as pool, impostor(forever, slack_s=0.5, end_s=0.2) as child:
        child.greet(USER, soon())
        call = pool.submit(child.call, takes_both, (endless, lambda number: None), {}, 0.5)
        with pytest.raises(WorkerLost, match=r"did not answer within its limit"):
            call.result(30)


def test_one_that_reads_in_drips_is_given_up_in_time() -> None:
    """What we write is part of the conversation: it has no limit of its own beyond that."""
    sips = "while os.read(0, 1): time.sleep(0.01)"
    with concurrent.futures.ThreadPoolExecutor(1) as pool, impostor(sips, slack_s=0.5, end_s=0.2) as child:
        child.greet(USER, soon())
        call = pool.submit(child.call, write_config, (Path("/"), "x", b"x" * 1_000_000, False), {}, 0.5)
        with pytest.raises(WorkerLost, match="does not read its input"):
            call.result(LIMITS.write_s - 5)


def test_one_that_was_stopped_is_given_up_long_before_its_limit(tmp_path: Path) -> None:
    home = a_home(tmp_path, f"kill -STOP $PPID; touch {tmp_path}/done")
    with a_child(silent_s=1, end_s=0.2) as child:
        child.greet(USER, soon())
        with pytest.raises(WorkerLost, match="no sign of life for 1 s"):
            child.call(run_control, (home, "1.0.0", "status", 500.0, {}), {}, 500.0)
        until(lambda: (tmp_path / "done").exists(), "it was its script that did it")
        until(lambda: child._process.poll() is not None, "it does not stay there, stopped")


@pytest.mark.slow
def test_one_whose_call_takes_its_time_lives(tmp_path: Path) -> None:
    """A script that takes longer than one may be silent."""
    home = a_home(tmp_path, "sleep 6; echo started")
    with a_child(silent_s=4) as child:
        child.greet(USER, soon())
        assert child.call(run_control, (home, "1.0.0", "status", 60.0, {}), {}, 60.0).text == "started\n"


def test_one_that_is_mute_from_the_start_is_not_started_with_another_interpreter() -> None:
    started = []

    def spawn(user: object, interpreter: str, limits: WorkerLimits) -> WorkerClient:
        errors = open_capture(None)
        argv = [sys.executable, "-c", "import time; time.sleep(100)"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fd, bufsize=0)
        started.append(process)
        return WorkerClient(USER.name, process, errors, limits)

    limits = WorkerLimits(start_s=0.3, end_s=0.2)
    try:
        with pytest.raises(WorkerLost, match="did not begin within"):
            start_worker(USER, limits, spawn, ("/usr/bin/python3", "/usr/local/bin/python3"))
        assert len(started) == 1
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_its_words_are_fit_for_a_terminal() -> None:
    said = json.dumps({"error": "Unreadable", "message": "\x1b[2J\nroot", "evidence": "a\n\x1b"}).encode()
    answer = b"failed 1 %d\n%s" % (len(said), said)
    with impostor(f"os.write(1, {answer!r})") as child:
        child.greet(USER, soon())
        with pytest.raises(Unreadable) as raised:
            child.call(probe_homes, ((), StatusLimits()), {}, 30)
        assert raised.value.message == "\\x1b[2J\\nroot"
        assert raised.value.evidence == "a\n\\x1b"


def test_a_foreign_process_is_not_taken_for_it() -> None:
    with (
        start(sys.executable, "-I", "-c", "import os;os.write(1, b'hello 0 6\\n[-1,1]');os.read(0, 9)") as child,
        pytest.raises(WorkerLost, match=r"somebody else|it ended"),
    ):
        child.greet(USER, soon())


# Programs and interpreters


def test_what_has_no_source_can_not_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare.py").write_text("")
    py_compile.compile(str(tmp_path / "bare.py"), cfile=str(tmp_path / "bare.pyc"))
    (tmp_path / "bare.py").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="the source of bare is not installed; other users' agents need it"):
        sources_of("bare")


def test_a_program_holds_what_it_imports_and_nothing_that_needs_more() -> None:
    sent = {*sources_of("reconcile.act.install"), *sources_of("reconcile.act.home_ops"), *sources_of("probes.home")}
    assert {"probes", "probes.home", "reconcile.act.host.archive", "reconcile.errors"} <= sent
    assert not {name for name in sent if name.split(".")[0] not in ("probes", "reconcile")}
    assert (
        not {"reconcile.net.http_client", "reconcile.engine.reconciler", "probes.worker.client", "probes.worker.pool"}
        & sent
    )
    assert b"/home" not in first_words()[:2000]
    assert len(BOOT) < 120  # sudo logs it


def test_ours_is_taken_where_the_user_can_execute_it(tmp_path: Path) -> None:
    assert interpreters_for(USER)[0] == sys.executable
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert can_execute(link, USER)


@pytest.mark.parametrize(
    "how", ["no x", "a closed folder", "a link to nothing", "a link into a closed folder", "a folder"]
)
def test_what_a_user_can_not_execute(how: str, tmp_path: Path) -> None:
    other = type(USER)(name="other", uid=USER.uid + 4242, gid=USER.gid + 4242, home="/", shell="/bin/sh")
    python = tmp_path / "python"
    python.write_text("")
    python.chmod(0o755)
    if how == "no x":
        python.chmod(0o744)
    elif how == "a link to nothing":
        python.unlink()
        python.symlink_to(tmp_path / "gone")
    elif how == "a folder":
        python = Path("/usr/bin")
    elif how == "a closed folder":
        tmp_path.chmod(0o700)
    elif how == "a link into a closed folder":
        python.unlink()
        (tmp_path / "closed").mkdir(mode=0o700)
        (tmp_path / "closed/python").symlink_to("/bin/sh")
        python.symlink_to(tmp_path / "closed/python")
    assert not can_execute(python, other)


def test_the_error_says_where_no_python_can_be_executed() -> None:
    with pytest.raises(InterpreterMissing, match="install the system's python3"):
        interpreters_for(USER, own="/nowhere/python", system=())


def test_an_interpreter_of_ours_is_named_without_its_folder() -> None:
    assert nameless_path("/usr/bin/python3") == ("/usr/bin/python3", "/")
    assert nameless_path("/srv/falcon-agent/bin/python") == ("./python", "/srv/falcon-agent/bin")


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", ""),
        ("first\n\n  the last  \n \n", "the last"),
        ("sudo: one\nand more\nsudo: two\nthe last\n", "sudo: one; sudo: two"),
        ("".join(f"sudo: {number}\n" for number in range(5)), "sudo: 0; sudo: 1; sudo: 2"),
        ("x" * 2000, "x" * 497 + "..."),
        ("\x1b[31mred", "\\x1b[31mred"),
    ],
)
def test_its_last_words_are_the_last_line_or_sudos(printed: str, said: str) -> None:
    with start(sys.executable, "-I", "-c", f"import sys; sys.stderr.write({printed!r})") as child:
        assert child.last_words() == said


# Where sudo will not


@pytest.mark.parametrize(
    ("output", "refused"),
    [
        ("sudo: /opt/python: command not found", ""),
        ("sudo: unable to execute ./python: Permission denied", ""),
        ("ModuleNotFoundError: No module named 'json'", ""),
        ("", ""),
        ("sudo: sorry, you must have a tty to run sudo", "Defaults !requiretty"),
        ("sudo: a password is required", "NOPASSWD: ALL"),
        ("Sorry, user me is not allowed to execute './python' as other on host.", "NOPASSWD: ALL"),
        ("me is not in the sudoers file.", "NOPASSWD: ALL"),
        ("we trust you know the password", "NOPASSWD: ALL"),
    ],
)
def test_words_of_sudo_are_reported_with_what_to_do(output: str, refused: str) -> None:
    try:
        client._check_sudo(USER, output)
        said = ""
    except SudoRefused as err:
        said = err.message
    assert (output in said, refused in said) == (True, True) if refused else said == ""
