"""Our side of one child that works as another user: start it, give it calls, take its answers, see it end.

It is that user's process and may do anything: stop reading, stop answering, flood, lie. So its answers are bounded
and checked, nothing waits for it without a limit, and a wrong answer harms the agents of this user alone. Its
own standard error is kept as a script's output is, never a pipe. Which operations there are is not known here.
"""

from __future__ import annotations

import inspect
import json
import os
import pwd
import queue
import select
import shutil
import subprocess
import threading
import time
import typing
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from probes.codec import CodecError, decode, parse
from probes.errors import InterpreterMissing, SudoRefused, ToolMissing, UpdaterError, WorkerLost
from probes.host.facts import User
from probes.host.output_capture import Capture, open_capture
from probes.host.paths import PATH
from probes.host.start_failure import SHORTAGES
from probes.text import sanitize
from probes.values import frozen
from probes.worker.bootstrap import BOOT, TOO_OLD, first_words, sources_of
from probes.worker.interpreters import interpreters_for, nameless_path
from probes.worker.protocol import CHUNK, CallbackArgs, Frame, FrameDecoder, encode_argument

T = TypeVar("T")

_LOST_END_S = 0.5  # of one that was given up: most have ended by then, the others are reaped later
_MAX_WAITING = 1  # answers to one call that were not taken yet: after each it waits for the updater
_TOO_LATE = "it did not answer within its limit"
_MAX_MESSAGE, _MAX_EVIDENCE = 4096, 64 << 10

# Children that had not ended when we were done with them, and when the last of their calls must be over.
_left: list[tuple[subprocess.Popen[bytes], float]] = []


@frozen(kw_only=True)
class WorkerLimits:
    """Seconds. `start_s`: until it runs; sudo may ask a directory service that is slow. `silent_s`: without a sign of
    life while a call is under way; one comes every 2 s. `slack_s`: beyond a call's own limit, for a busy host: the
    child's own limit must come first. `end_s`: from its input's end to its own, while nothing is under way. `write_s`:
    how long it may leave what we write unread."""

    start_s: float = 30.0
    start_as_root_s: float = 15.0
    silent_s: int = 15
    slack_s: float = 5.0
    end_s: float = 5.0
    write_s: float = 30.0


LIMITS = WorkerLimits()


def start_worker(
    user: User,
    limits: WorkerLimits = LIMITS,
    spawn: Callable[[User, str, WorkerLimits], WorkerClient] | None = None,
    interpreters: Iterable[str] | None = None,
) -> WorkerClient:
    """Start a child that works as `user`. Raise SudoRefused, ToolMissing, InterpreterMissing, WorkerLost.

    One limit for all interpreters: what is mute, or stopped by its user, is not tried once more with another.
    `spawn`, `interpreters`: where others than the usual ones are to be used.
    """
    _reap_left()
    output = ""
    limit_s = min(limits.start_s, limits.start_as_root_s) if os.geteuid() == 0 else limits.start_s
    until = time.monotonic() + limit_s
    for interpreter in interpreters_for(user) if interpreters is None else interpreters:
        child = (spawn or spawn_worker)(user, interpreter, limits)
        try:
            child.greet(user, until)
            return child
        except WorkerLost:
            output = child.last_words()
            child.end()
            _check_sudo(user, output)
            if time.monotonic() >= until:
                printed = output or "nothing"
                raise WorkerLost(
                    f"what would work as {user.name} did not begin within {limit_s:.0f} s; it said: {printed}"
                ) from None
    raise _why_none_starts(user, output)


def _why_none_starts(user: User, output: str) -> InterpreterMissing | WorkerLost:
    if output and TOO_OLD not in output:
        return WorkerLost(f"what would work as {user.name} did not start; it said: {output}")
    return InterpreterMissing(
        f"the user {user.name!r} can execute no Python that we run on: {output or 'none answered'}; install "
        f"the system's python3 (3.10 or newer)"
    )


def _reap_left() -> None:
    """Reap what ended meanwhile, and kill what outlasts all its limits, where we may: sudo is root's."""
    for process, until in list(_left):
        if process.poll() is None and time.monotonic() > until:
            with suppress(OSError):
                process.kill()
        elif process.returncode is not None:
            with suppress(ValueError):  # another thread was faster
                _left.remove((process, until))


def spawn_worker(user: User, interpreter: str, limits: WorkerLimits = LIMITS) -> WorkerClient:
    """Start a process that becomes a child. Raise ToolMissing, WorkerLost."""
    path, folder = nameless_path(interpreter)
    program = [path, "-I", "-c", BOOT]
    becomes: dict[str, Any] = {}
    if os.geteuid() == 0:
        becomes = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups or (user.gid,))}
    else:
        sudo = shutil.which("sudo", path=PATH)
        if sudo is None:
            raise ToolMissing(
                f"sudo is not on this host, and without it an updater that isn't root can't work as {user.name!r}; "
                f"install sudo, or run the updater as root or as {user.name!r}"
            )
        program = [sudo, "-n", "-u", _nameless(user), "--", *program]
    errors = open_capture(None)
    try:
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.fd,
            cwd=folder,
            env={"PATH": PATH, "LANG": "C"},  # C: what sudo says is looked at
            start_new_session=True,
            umask=0o022,
            bufsize=0,
            **becomes,
        )
    except (OSError, subprocess.SubprocessError) as err:
        errors.close()
        remedy = "an updater that runs as root needs the right to change its user (CAP_SETUID, CAP_SETGID)"
        if isinstance(err, OSError) and err.errno in SHORTAGES:
            remedy = "the host is short of a resource (ulimit -u, TasksMax, memory); it is tried again"
        raise WorkerLost(f"we can't work as {user.name!r}, uid {user.uid}: {err}; {remedy}") from err
    try:
        return WorkerClient(user.name, process, errors, limits)
    except RuntimeError as err:  # no thread to listen with
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()  # it ends by that
        errors.close()
        _left.append((process, time.monotonic() + limits.end_s))
        raise WorkerLost(
            f"we can't work as {user.name!r}, the host is short of a resource: {err}; it is tried again"
        ) from None


def _nameless(user: User) -> str:
    """A user as sudo knows it, without its name, which may hold an agent's: sudo's command line is seen by scripts that
    look for theirs. By name where the uid is another name's first: sudoers is asked for the name that it finds."""
    try:
        is_first = pwd.getpwuid(user.uid).pw_name == user.name
    except KeyError:
        is_first = False
    return f"#{user.uid}" if is_first else user.name


def _check_sudo(user: User, output: str) -> None:
    """Raise SudoRefused where it was sudo that would not. Its words are those of LANG=C."""
    if "command not found" in output or "unable to execute" in output:
        return  # permission bits are not all that counts: another interpreter may do
    if "must have a tty" in output:
        raise SudoRefused(
            f"sudo: {output}: `requiretty` is set in /etc/sudoers, and the updater has no terminal; "
            f"add the line `Defaults !requiretty` there, by visudo"
        )
    if any(words in output for words in ("sudo:", "sudoers", "not allowed", "password")):
        own = os.geteuid()
        raise SudoRefused(
            f"sudo -n -u {user.name} refused: {output}; allow it by visudo: `#{own} ALL=({user.name}) NOPASSWD: ALL`, "
            f"or run the updater as root"
        )


class WorkerClient:
    """One child. `call` may be used by several threads at once."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], errors: Capture, limits: WorkerLimits = LIMITS
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.is_lost = False
        self._limits = limits
        self._name = name
        self._process = process
        self._errors = errors
        self._stdin, self._stdout = process.stdin, process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.Queue[Frame | None]] = {0: queue.Queue(_MAX_WAITING)}
        self._last = 0
        self._received = 0  # frames
        self._sent: set[str] = set()
        self._why = ""
        self._busy_until = time.monotonic() + limits.end_s
        self._ended = False
        self._wake_fd, self._wake = os.pipe()
        self._listener = threading.Thread(target=self._listen, daemon=True, name=f"as {name}")
        try:
            self._listener.start()
        except RuntimeError:
            os.close(self._wake)
            os.close(self._wake_fd)
            raise

    def greet(self, user: User, until: float) -> None:
        """Send the program, and see that it runs as who it should, until then (monotonic). Raise WorkerLost."""
        self._write(first_words(), max(0.0, until - time.monotonic()))
        hello = self._next(0, until)
        try:
            is_user = hello.kind == "hello" and decode(tuple[int, int], parse(hello.body))[0] == user.uid
        except CodecError:
            is_user = False
        if not is_user:
            raise self._lose("it runs as somebody else")

    def call(self, operation: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], limit_s: float) -> T:
        """Have an operation carried out there. Raise what it raised, of our own errors; else WorkerLost."""
        arguments = inspect.signature(operation).bind(*args, **kwargs).arguments
        ends = CallbackArgs(
            stream=next((one for one in arguments.values() if hasattr(one, "read")), None),
            hook=next((one for one in arguments.values() if callable(one)), None),
        )
        body = {
            "operation": f"{operation.__module__}:{operation.__qualname__}",
            "arguments": {key: encode_argument(value) for key, value in arguments.items()},
            "limit_s": limit_s,
        }
        until = time.monotonic() + limit_s + self._limits.slack_s  # for all that is sent and received of the call
        with self._lock:
            self._last += 1
            number = self._last
            self._waiting[number] = queue.Queue(_MAX_WAITING)
            self._busy_until = max(self._busy_until, until)
        try:
            self._load(operation.__module__, until)
            self._say(Frame("call", number, json.dumps(body).encode()), until)
            answer = self._answer(number, ends, until)
        finally:
            with self._lock:
                del self._waiting[number]
        try:
            if answer.kind == "done":
                found: T = decode(typing.get_type_hints(operation)["return"], parse(answer.body))
                return found
            raise self._failure(parse(answer.body))
        except CodecError as err:
            raise self._lose(f"its answer to {operation.__name__} can't be read ({err})") from None

    def last_words(self) -> str:
        """What was printed to standard error, for people: the last line, and sudo's where there is one."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        with suppress(OSError, ValueError):
            lines = self._errors.tail().decode("utf-8", "backslashreplace").splitlines()
            said = [line.strip() for line in lines if line.strip()]
            return sanitize("; ".join([line for line in said if "sudo" in line][:3] or said[-1:]), 500)
        return ""

    def close_input(self) -> None:
        """Tell it to end."""
        with self._writing:
            self._stdin.close()

    def end(self, until: float | None = None) -> None:
        """See it end, until then (monotonic). One with a call under way ends by itself within that call's limit,
        scripts included."""
        if self._ended:
            return
        patience_s = self._limits.end_s if until is None else max(0.0, until - time.monotonic())
        if self.is_lost:
            patience_s = min(patience_s, _LOST_END_S)
        self._ended = self.is_lost = True
        self.close_input()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            _left.append((self._process, self._busy_until))
        os.write(self._wake, b"x")
        self._listener.join()
        self._stdout.close()
        self._errors.close()
        os.close(self._wake)
        os.close(self._wake_fd)

    # --- what we say ---

    def _load(self, module: str, until: float) -> None:
        """Send what it doesn't have yet of the sources that a module needs."""
        if module in self._sent:
            return
        sources = sources_of(module)
        self._say(Frame("load", 0, json.dumps(sources).encode()), until)
        self._sent.add(module)

    def _say(self, frame: Frame, until: float) -> None:
        self._write(frame.packed(), max(0.0, min(self._limits.write_s, until - time.monotonic())))

    def _write(self, content: bytes, limit_s: float) -> None:
        """Write all of it, waiting at most so long for a reader. Raise WorkerLost."""
        until = time.monotonic() + limit_s
        if not self._writing.acquire(timeout=limit_s):
            raise self._lose("it does not read its input")
        try:
            left = memoryview(content)
            poller = select.poll()
            poller.register(self._stdin, select.POLLOUT)
            while left:
                if not poller.poll(max(0.0, 1000 * (until - time.monotonic()))):
                    raise self._lose("it does not read its input")
                with suppress(BlockingIOError):
                    left = left[os.write(self._stdin.fileno(), left) :]
        except (OSError, ValueError):  # a broken pipe, or closed meanwhile
            raise self._lose("it ended") from None
        finally:
            self._writing.release()

    # --- what it says ---

    def _listen(self) -> None:
        splitter = FrameDecoder()
        poller = select.poll()
        poller.register(self._stdout, select.POLLIN)
        poller.register(self._wake_fd, select.POLLIN)
        why = "it ended"
        while not self._ended:
            poller.poll()
            try:
                piece = os.read(self._stdout.fileno(), 1 << 16)
                if not piece:
                    break
                for frame in splitter.feed(piece):
                    self._deliver(frame)
            except BlockingIOError:
                continue
            except (OSError, CodecError, queue.Full) as err:
                why = f"it said what makes no sense ({err!r})"
                break
        with self._lock:
            self.is_lost = True
            self._why = self._why or why
            for waiting in self._waiting.values():
                with suppress(queue.Full):
                    waiting.put_nowait(None)

    def _deliver(self, frame: Frame) -> None:
        with self._lock:
            self._received += 1
            waiting = None if frame.kind == "alive" else self._waiting.get(frame.number)
            if waiting is not None:  # else it comes too late, or answers no call
                waiting.put_nowait(frame)

    def _next(self, number: int, until: float) -> Frame:
        received, silent = self._received, 0  # seconds of ours: while we are stopped ourselves nothing is heard either
        while True:
            try:
                frame = self._waiting[number].get(timeout=min(1.0, max(0.0, until - time.monotonic())))
            except queue.Empty:
                if self.is_lost:
                    raise self._lose("it ended") from None
                received, silent = self._received, 0 if self._received != received else silent + 1
                if number and silent >= self._limits.silent_s:
                    lost = self._lose(f"it gave no sign of life for {self._limits.silent_s} s")
                    with suppress(OSError):  # a stopped one would stay for ever; sudo is root's to end
                        self._process.kill()
                    raise lost from None
                if time.monotonic() < until:
                    continue
                raise self._lose(_TOO_LATE) from None
            if frame is None:
                raise self._lose("it ended")
            return frame

    def _answer(self, number: int, ends: CallbackArgs, until: float) -> Frame:
        """The answer to a call, its open file served meanwhile: the very bytes of the file that we hold open."""
        while True:
            frame = self._next(number, until)
            if frame.kind in ("done", "failed"):
                return frame
            if not frame.body.isdigit() or len(frame.body) > 9:
                raise self._lose("it asked for what makes no sense")
            if time.monotonic() >= until:  # however fast it asks for more and more
                raise self._lose(_TOO_LATE)
            try:
                piece = self._serve(frame.kind, int(frame.body), ends)
            except BaseException:
                self._say(Frame("lost", number), until)
                raise
            self._say(Frame("more", number, piece), until)

    def _serve(self, kind: str, value: int, ends: CallbackArgs) -> bytes:
        if kind == "more" and ends.stream is not None:
            return ends.stream.read(min(value, CHUNK))
        if kind == "reported" and ends.hook is not None:
            ends.hook(value)
            return b""
        raise self._lose("it asked for what makes no sense")

    def _failure(self, reported: Any) -> UpdaterError:
        """The error that it names, if it is one of ours; its words are made fit for a terminal."""
        if not isinstance(reported, dict) or not all(
            isinstance(reported.get(k), str) for k in ("error", "message", "evidence")
        ):
            raise CodecError("no error either")
        kinds = {kind.__name__: kind for kind in _kinds(UpdaterError)}
        kind = kinds.get(reported["error"], WorkerLost)
        message = sanitize(reported["message"], _MAX_MESSAGE)
        error = kind(message if kind is not WorkerLost else f"what works as {self._name} failed: {message}")
        error.evidence = "\n".join(sanitize(line, 1000) for line in reported["evidence"][:_MAX_EVIDENCE].splitlines())
        return error

    def _lose(self, why: str) -> WorkerLost:
        """Give the child up: nothing that it says from here is believed."""
        with self._lock:
            self.is_lost = True
            self._why = self._why or why
        return WorkerLost(
            f"what works as {self._name} was lost: {self._why}; what it was doing may be half done, and is planned "
            f"again in the next pass"
        )


def _kinds(family: type[UpdaterError]) -> list[type[UpdaterError]]:
    """The errors that are made of their message alone; those of a single step stand with it, and are ours to raise."""
    subs = [kind for sub in family.__subclasses__() for kind in _kinds(sub)]
    return [family, *subs] if family.__module__.endswith(".errors") else subs
