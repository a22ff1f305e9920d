"""Real control scripts, good and bad, run by the poll loop: once with pidfds, once by the clock alone."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from attrs import evolve

from probes.host import control_script, procfs
from probes.host.control_script import CallEnd, ScriptCall, ScriptResult, clean_env, run, run_all

ENV = clean_env("falcon", "/home/falcon", "/bin/bash", {})
PATIENCE_S = 60.0  # a bound for what must happen; nothing waits for it


def refused(*arguments: object) -> NoReturn:
    """As a kernel or a sandbox answers that has no such call, or lets us make none."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["pidfd", "clock"], autouse=True)
def _waiter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "clock":
        monkeypatch.setattr(os, "pidfd_open", refused)


@pytest.fixture(params=["memfd", "file"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "file":
        monkeypatch.setattr(os, "memfd_create", refused)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., ScriptCall]:
    """Write a control script into a directory of its own, and make the call of it."""
    count = iter(range(1_000_000))

    def make(
        body: str, *, head: str = "#!/bin/sh\n", limit_s: float = PATIENCE_S, log: Path | None = None
    ) -> ScriptCall:
        home = tmp_path / f"home-{next(count)}"
        home.mkdir()
        control = home / "control"
        control.write_bytes((head + body).encode())
        control.chmod(0o755)
        return ScriptCall(control=control, verb="status", cwd=home, env=ENV, limit_s=limit_s, log=log)

    return make


@pytest.fixture
def strays() -> Iterator[Callable[[Path], int]]:
    """Read process ids that scripts wrote down, and end those processes after the test."""
    pids: list[int] = []

    def read_pid(path: Path) -> int:
        _until(lambda: path.exists() and path.read_text().endswith("\n"))
        pids.append(int(path.read_text()))
        return pids[-1]

    yield read_pid
    for pid in pids:
        if _alive(pid):
            os.kill(pid, signal.SIGKILL)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie doesn't, however long its parent leaves it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


# How a call ends


def test_is_called_as_people_type_it_and_exits_with_output_and_code(make: Callable[..., ScriptCall]) -> None:
    """A path would hold the agent's name, and a script that looks for it by `pgrep -f` would find its own call."""
    result = run(make('echo "$1 of $0"; echo late >&2; exit 1'))
    assert (result.ended, result.code) == (CallEnd.EXITED, 1)
    assert result.text.startswith("status of ./control\n")
    assert result.text.endswith("/control\nlate\n")


def test_waits_for_a_slow_one(make: Callable[..., ScriptCall]) -> None:
    result = run(make("sleep 0.3; echo started"))
    assert (result.ended, result.code, result.output) == (CallEnd.EXITED, 0, b"started\n")
    assert result.seconds >= 0.3


def test_closed_output_is_no_end(make: Callable[..., ScriptCall]) -> None:
    call = make("exec >&- 2>&- <&-; sleep 0.1; touch here")
    assert run(call).ended is CallEnd.EXITED
    assert (call.cwd / "here").exists()


def test_dies_by_a_signal(make: Callable[..., ScriptCall]) -> None:
    result = run(make("echo last words; kill -SEGV $$"))
    assert (result.ended, result.code, result.output) == (CallEnd.SIGNALED, signal.SIGSEGV, b"last words\n")


def test_sigterm_from_outside_is_no_timeout(make: Callable[..., ScriptCall]) -> None:
    result = run(make("kill -TERM $$"))
    assert (result.ended, result.code) == (CallEnd.SIGNALED, signal.SIGTERM)


def test_output_that_is_no_text(make: Callable[..., ScriptCall]) -> None:
    assert run(make(r"printf 'a\377b'")).text == "a\\xffb"


def test_spawned_gets_the_pid_before_the_end(make: Callable[..., ScriptCall]) -> None:
    call = make("until [ -e told ]; do sleep 0.01; done; echo $$")
    pids: list[int] = []

    def spawned(pid: int) -> None:
        pids.append(pid)
        (call.cwd / "told").touch()

    assert run(call, spawned).text == f"{pids[0]}\n"


def test_what_spawned_raises_comes_out(make: Callable[..., ScriptCall], strays: Callable[[Path], int]) -> None:
    call = make("echo $$ > pid; exec sleep 60")
    before = _descriptors()

    def spawned(pid: int) -> None:
        raise RuntimeError("the journal is full")

    with pytest.raises(RuntimeError, match="journal"):
        run(call, spawned)
    assert _descriptors() == before
    assert _alive(strays(call.cwd / "pid"))


# What a script gets


def test_environment_is_exactly_ours(make: Callable[..., ScriptCall], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "canary")
    call = make("cat /proc/$$/environ")
    env = clean_env("falcon", "/home/falcon", "/bin/bash", {"JAVA_HOME": "/opt/java", "LANG": "C"})
    result = run(ScriptCall(control=call.control, verb="status", cwd=call.cwd, env=env, limit_s=PATIENCE_S))
    assert sorted(result.text.strip("\0").split("\0")) == [
        "HOME=/home/falcon",
        "JAVA_HOME=/opt/java",
        "LANG=C",
        "LOGNAME=falcon",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SHELL=/bin/bash",
        "USER=falcon",
    ]


def test_works_in_its_own_directory_with_umask_022(make: Callable[..., ScriptCall]) -> None:
    call = make("pwd -P; umask")
    previous = os.umask(0o077)
    try:
        result = run(call)
    finally:
        os.umask(previous)
    assert result.text.split() == [str(call.cwd.resolve()), "0022"]


def test_has_three_descriptors_and_an_empty_stdin(make: Callable[..., ScriptCall]) -> None:
    body = """
import os, sys
print(sys.stdin.read() == "", os.readlink("/proc/self/fd/0"))
print([fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")])
"""
    leak_r, leak_w = os.pipe()
    os.set_inheritable(leak_w, True)
    try:
        # By way of sh: a `#!` line can't name an interpreter whose path has a space in it.
        call = make(f'exec "{sys.executable}" -I "$0.py"')
        call.control.with_name(f"{call.control.name}.py").write_text(body)
        result = run(call)
    finally:
        os.close(leak_r)
        os.close(leak_w)
    assert result.text == "True /dev/null\n['0', '1', '2']\n"


def test_leads_a_session_and_group_of_its_own(make: Callable[..., ScriptCall]) -> None:
    pid, group, session = run(make("set -- $(cat /proc/$$/stat); echo $1 $5 $6")).text.split()
    assert pid == group == session != str(os.getsid(0))


def test_signals_that_python_ignores_are_at_their_defaults(make: Callable[..., ScriptCall]) -> None:
    masks = dict(line.split(":\t") for line in run(make("exec grep ^Sig[IB] /proc/self/status")).text.splitlines())
    ignored = int(masks["SigIgn"], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    assert int(masks["SigBlk"], 16) == 0


# What it leaves behind


def test_a_daemon_that_keeps_stdout_open_delays_no_agent(
    make: Callable[..., ScriptCall], strays: Callable[[Path], int]
) -> None:
    call = make("sleep 60 &\necho $! > pid; echo started")
    result = run(call)
    assert (result.ended, result.output) == (CallEnd.EXITED, b"started\n")
    assert _alive(strays(call.cwd / "pid"))


def test_the_group_outlives_a_good_start(make: Callable[..., ScriptCall], strays: Callable[[Path], int]) -> None:
    log = make("").cwd / ".start.log"
    call = make("(while :; do echo beat; sleep 0.01; done) &\necho $! > pid", log=log)
    assert run(call).ended is CallEnd.EXITED
    pid = strays(call.cwd / "pid")
    size = log.stat().st_size
    _until(lambda: log.stat().st_size > size + 50)
    assert _alive(pid)


# The time limit. It is short, so scripts say when they are ready for its end: `spawned` waits for that.


def _when_ready(call: ScriptCall, *names: str) -> Callable[[int], None]:
    return lambda pid: _until(lambda: all((call.cwd / name).exists() for name in names))


def test_a_hanging_one_is_ended(make: Callable[..., ScriptCall]) -> None:
    call = make("echo wait for me; touch ready; sleep 60", limit_s=0.1)
    pids: list[int] = []

    def spawned(pid: int) -> None:
        pids.append(pid)
        _when_ready(call, "ready")(pid)

    result = run(call, spawned)
    assert (result.ended, result.code, result.output) == (CallEnd.TIMED_OUT, None, b"wait for me\n")
    assert not Path(f"/proc/{pids[0]}").exists()  # reaped, too


def test_one_that_obeys_is_not_waited_for_any_longer(make: Callable[..., ScriptCall]) -> None:
    call = evolve(make("touch ready; exec sleep 60", limit_s=0.1), grace_s=40.0)
    result = run(call, _when_ready(call, "ready"))
    assert (result.ended, result.seconds < 40) == (CallEnd.TIMED_OUT, True)


def test_the_whole_group_is_ended(make: Callable[..., ScriptCall], strays: Callable[[Path], int]) -> None:
    body = "(sh -c 'echo $$ > grandchild; exec sleep 60') &\n(trap '' TERM; sh -c 'echo $$ > deaf; exec sleep 60') &\n"
    call = make(body + "until [ -s grandchild -a -s deaf ]; do sleep 0.01; done; touch ready; wait", limit_s=0.1)
    assert run(call, _when_ready(call, "ready")).ended is CallEnd.TIMED_OUT
    pids = [strays(call.cwd / name) for name in ("grandchild", "deaf")]
    _until(lambda: not any(_alive(pid) for pid in pids))


def test_what_left_its_session_is_never_signalled(
    make: Callable[..., ScriptCall], strays: Callable[[Path], int]
) -> None:
    """It may be the agent: a start that hangs behind it, or a status that starts what it found dead."""
    body = "setsid sh -c 'echo $$ > agent; exec sleep 60' &\nuntil [ -s agent ]; do sleep 0.01; done; touch ready; wait"
    call = make(body, limit_s=0.1)
    assert run(call, _when_ready(call, "ready")).ended is CallEnd.TIMED_OUT
    assert _alive(strays(call.cwd / "agent"))


def test_one_that_ignores_sigterm_is_killed(make: Callable[..., ScriptCall]) -> None:
    call = make("trap 'echo no' TERM; echo $$ >pid; touch ready; while :; do sleep 0.05; done", limit_s=0.1)
    result = run(call, _when_ready(call, "ready"))
    assert not Path(f"/proc/{(call.cwd / 'pid').read_text().strip()}").exists()
    assert result.ended is CallEnd.TIMED_OUT
    assert b"no" in result.output
    assert 2 < result.seconds < call.limit_s + 6


def test_one_that_obeys_gets_the_time_to_clean_up(make: Callable[..., ScriptCall]) -> None:
    body = "trap 'sleep 0.3; touch clean; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    call = make(body, limit_s=0.1)
    assert run(call, _when_ready(call, "ready")).ended is CallEnd.TIMED_OUT
    assert (call.cwd / "clean").exists()


def test_a_group_that_is_not_seen_gets_its_grace(
    make: Callable[..., ScriptCall], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "pids", list)  # no /proc
    result = run(make("sleep 60", limit_s=0.1))
    assert result.ended is CallEnd.TIMED_OUT
    assert 2 < result.seconds < 0.1 + 6


def test_one_that_nothing_ends_is_given_up_and_reaped_later(
    make: Callable[..., ScriptCall], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "killpg", refused)  # another user's, behind sudo
    before = _descriptors()
    pids: list[int] = []
    call = evolve(make("exec sleep 60", limit_s=0.1), grace_s=0.1, abandon_s=0.1)
    assert run(call, pids.append).ended is CallEnd.TIMED_OUT
    assert _descriptors() == before
    os.kill(pids[0], signal.SIGKILL)
    _until(lambda: not _alive(pids[0]))
    run(make("exit"))
    assert not Path(f"/proc/{pids[0]}").exists()
    assert control_script._left == []


# Output


@pytest.mark.usefixtures("_place")
def test_a_flood_is_capped(make: Callable[..., ScriptCall]) -> None:
    call = make("yes not started | head -c 10000; touch ready; exec yes not started", limit_s=0.1)
    result = run(call, _when_ready(call, "ready"))
    assert result.ended in (CallEnd.EXITED, CallEnd.TIMED_OUT)  # memory says EPERM to it, a file is trimmed for ever
    assert len(result.output) <= 4096
    assert result.output.startswith(b"[cut] ")
    assert b"not started\nnot started\n" in result.output


@pytest.mark.usefixtures("_place")
def test_a_huge_line_is_capped(make: Callable[..., ScriptCall]) -> None:
    result = run(make("head -c 300000 /dev/zero | tr '\\0' x"))
    assert result.ended is CallEnd.EXITED
    assert len(result.output) <= 4096
    assert result.output.startswith(b"[cut] xxxx")


@pytest.mark.usefixtures("_place")
def test_the_end_is_what_is_kept(make: Callable[..., ScriptCall]) -> None:
    result = run(make("seq 1 2000; echo started"))
    assert len(result.output) == 4096
    assert result.output.endswith(b"1999\n2000\nstarted\n")


# What can't be started


def _complaint(call: ScriptCall) -> str:
    before = _descriptors()
    result = run(call)
    assert (result.ended, result.code, result.output) == (CallEnd.NOT_STARTED, None, b"")
    assert _descriptors() == before
    return result.error


def test_missing(make: Callable[..., ScriptCall]) -> None:
    call = make("")
    call.control.unlink()
    assert _complaint(call).startswith(f"{call.control}: No such file or directory; an executable `control` must")


def test_missing_directory(make: Callable[..., ScriptCall]) -> None:
    call = make("")
    gone = call.cwd / "gone"
    call = ScriptCall(control=call.control, verb="status", cwd=gone, env=ENV, limit_s=1.0)
    assert _complaint(call).startswith(f"{gone}: not a directory")


def test_a_directory_in_its_place(make: Callable[..., ScriptCall]) -> None:
    call = make("")
    call.control.unlink()
    call.control.mkdir()
    assert "not a regular file" in _complaint(call)


def test_not_executable(make: Callable[..., ScriptCall]) -> None:
    call = make("echo started")
    call.control.chmod(0o644)
    assert f"chmod 755 {call.control}" in _complaint(call)


def test_interpreter_not_executable(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    interpreter = tmp_path / "interpreter"
    interpreter.write_text("")
    message = _complaint(make("", head=f"#!{interpreter}\n"))
    assert "noexec" in message
    assert f"'{interpreter}'" in message


def test_no_interpreter_line(make: Callable[..., ScriptCall]) -> None:
    assert "no `#!`" in _complaint(make("echo started\n", head=""))


def test_empty(make: Callable[..., ScriptCall]) -> None:
    assert "no `#!`" in _complaint(make("", head=""))


def test_another_architecture(make: Callable[..., ScriptCall]) -> None:
    assert "another architecture" in _complaint(make("", head="\x7fELF" + "\0" * 60))


def test_missing_interpreter(make: Callable[..., ScriptCall]) -> None:
    assert "interpreter '/no/such/shell' is missing" in _complaint(make("", head="#! /no/such/shell -e\n"))


def test_windows_line_ends(make: Callable[..., ScriptCall]) -> None:
    message = _complaint(make("echo started\r\n", head="#!/bin/sh\r\n"))
    assert "CR LF" in message
    assert r"'/bin/sh\r'" in message


def test_a_verb_that_no_process_can_be_given(make: Callable[..., ScriptCall]) -> None:
    call = make("")
    call = ScriptCall(control=call.control, verb="sta\0tus", cwd=call.cwd, env=ENV, limit_s=1.0)
    assert "can't be executed" in _complaint(call)


def test_relative_paths_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="control must be an absolute path"):
        ScriptCall(control=Path("control"), verb="status", cwd=Path("/"), env=ENV, limit_s=1.0)


@pytest.fixture
def busy(make: Callable[..., ScriptCall]) -> Iterator[tuple[ScriptCall, int]]:
    """A script that is open for writing, which kernels refuse to execute (6.11 and 6.12 excepted)."""
    call = make("echo started")
    fd = os.open(call.control, os.O_WRONLY)
    try:
        subprocess.run([call.control], check=False, stdout=subprocess.DEVNULL)
    except OSError:
        yield call, fd
    else:
        pytest.skip("this kernel executes files that are open for writing")
    finally:
        os.close(fd)


def test_busy_for_a_moment(busy: tuple[ScriptCall, int]) -> None:
    call, fd = busy
    free = os.open(os.devnull, os.O_RDONLY)
    release = threading.Timer(0.05, os.dup2, [free, fd])  # the fixture still closes what `fd` is then
    release.start()
    result = run(call)
    release.join()
    os.close(free)
    assert (result.ended, result.output) == (CallEnd.EXITED, b"started\n")


def test_busy_for_good(busy: tuple[ScriptCall, int]) -> None:
    assert "open for writing" in _complaint(busy[0])


# The log of a start


def test_output_is_appended_to_the_log(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    log = tmp_path / ".start.log"
    log.write_text("of yesterday\n")
    results = [run(make(f"echo {word}", log=log)) for word in ("one", "two")]
    assert [result.output for result in results] == [b"one\n", b"two\n"]
    assert log.read_text() == "of yesterday\none\ntwo\n"


def test_a_log_that_grows_without_end_is_emptied_meanwhile(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    log = tmp_path / "start.log"
    body = f"""
i=0
while [ $i -lt 24 ]; do head -c 1048576 /dev/zero; i=$((i+1)); done
until [ $(stat -c %s {log}) -le 1048576 ]; do sleep 0.02; done
echo emptied
"""
    result = run(evolve(make(body, log=log), limit_s=30.0))
    assert (result.ended, result.code) == (CallEnd.EXITED, 0)
    assert b"emptied\n" in result.output


def test_a_log_that_can_not_be_used(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    log = tmp_path / ".start.log"
    log.symlink_to("/etc/passwd")
    before = Path("/etc/passwd").read_bytes()
    result = run(make("echo on its way; touch ran", log=log))
    assert (result.ended, result.output) == (CallEnd.EXITED, b"on its way\n")
    assert Path("/etc/passwd").read_bytes() == before


# Many at once


def test_results_come_in_the_order_of_calls(make: Callable[..., ScriptCall]) -> None:
    calls = [make(f"sleep 0.{(7 * number) % 10}; echo {number}") for number in range(10)]
    assert [result.text for result in run_all(calls)] == [f"{number}\n" for number in range(10)]


def test_a_hundred(make: Callable[..., ScriptCall]) -> None:
    before = _descriptors()
    results = run_all(make(f"exit {number}") for number in range(100))
    assert [result.code for result in results] == list(range(100))
    assert _descriptors() == before


def test_none() -> None:
    assert run_all([]) == ()


def test_a_hanging_script_delays_no_other(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    """It ends only when all others have: were they made to wait for it, it would run into its limit."""
    others = [make(f"touch {tmp_path}/done-{number}") for number in range(8)]
    waits = f"for n in 0 1 2 3 4 5 6 7; do until [ -e {tmp_path}/done-$n ]; do sleep 0.01; done; done"
    results = run_all([make(waits), *others], at_once=2)
    assert {result.ended for result in results} == {CallEnd.EXITED}


def test_one_that_can_not_start_is_alone_with_it(make: Callable[..., ScriptCall]) -> None:
    broken = make("", head="#!/no/such/shell\n")
    results = run_all([broken, make("exit 3"), broken])
    assert [result.ended for result in results] == [CallEnd.NOT_STARTED, CallEnd.EXITED, CallEnd.NOT_STARTED]


def test_no_more_than_asked_for_run_at_once(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    running = tmp_path / "running"
    running.mkdir()
    body = f"touch {running}/$$; sleep 0.05; ls {running} | wc -l; rm {running}/$$"
    counts = [int(result.output) for result in run_all([make(body) for _ in range(12)], at_once=3)]
    assert max(counts) <= 3


def test_as_many_as_asked_for_run_at_once(make: Callable[..., ScriptCall], tmp_path: Path) -> None:
    """Each waits for the other two, so that they end only side by side."""
    meet = f"touch {tmp_path}/here-$$; until [ $(ls {tmp_path} | grep -c here-) -ge 3 ]; do sleep 0.01; done"
    results = run_all([make(meet) for _ in range(3)], at_once=3)
    assert {result.ended for result in results} == {CallEnd.EXITED}


def test_at_once_must_be_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run_all([], at_once=0)


def test_no_descriptor_is_lost(make: Callable[..., ScriptCall]) -> None:
    calls = [
        make("echo started"),
        make("exit 1"),
        make("sleep 60", limit_s=0.1),
        make("", head="#!/no/such/shell\n"),
        make("", head=""),
        make("", log=Path("/")),
        make("", log=Path("/dev/null")),
        make("kill -9 $$"),
    ]
    before = _descriptors()
    for _ in range(3):
        run_all(calls, at_once=3)
    assert _descriptors() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_loses_no_descriptor(make: Callable[..., ScriptCall], strays: Callable[[Path], int]) -> None:
    """The interruption comes once both scripts are under way: what asks for a third call is asked after that."""
    sleeper = make("echo $$ > pid; exec sleep 60")
    stopper = make(
        f"until [ -s {sleeper.cwd}/pid -a -e go ]; do sleep 0.01; done; echo $$ > pid; kill -INT $PPID; exec sleep 60"
    )

    def calls() -> Iterator[ScriptCall]:
        yield sleeper
        yield stopper
        (stopper.cwd / "go").touch()

    before = _descriptors()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(calls())
    finally:
        signal.signal(signal.SIGINT, previous)
    gc.collect()  # here, where it is expected that the scripts outlive what was known of them
    assert _descriptors() == before
    assert all(_alive(strays(call.cwd / "pid")) for call in (sleeper, stopper))


def test_several_threads_at_once(make: Callable[..., ScriptCall]) -> None:
    results: dict[int, ScriptResult] = {}
    calls = [make(f"sleep 0.0{number % 10}; echo {number}") for number in range(40)]

    def work(first: int) -> None:
        for number in range(first, 40, 8):
            results[number] = run(calls[number])

    threads = [threading.Thread(target=work, args=[first]) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: result.text for number, result in results.items()} == {n: f"{n}\n" for n in range(40)}
