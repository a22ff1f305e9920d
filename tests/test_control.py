"""The real `control`, in copies of the folder whose path has spaces and a quote.

Programs that stand in here are outside ones alone: an old Python, one without ensurepip, a dead package index. What
`./control test` does is not tested: it runs these tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("probes", "reconcile", "updater")
MAKES_VENV = "updater/packaging/environment.py"
VERBS = tuple(
    "setup start stop restart status pid reload tail plan agents demo help pack dist test bench prove".split()
)

USAGE, TOOL_MISSING, BAD_CONFIG = 64, 72, 78

Control = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An updater's folder with its script and locks; `with_sources` adds what a daemon needs."""
    folder = tmp_path / "an operator's folder"
    folder.mkdir()
    for name in ("control", "requirements.lock", "requirements-signatures.lock", "requirements-web.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / MAKES_VENV).parent.mkdir(parents=True)
    shutil.copy(ROOT / MAKES_VENV, folder / MAKES_VENV)
    return folder


@pytest.fixture
def control(folder: Path) -> Control:
    """Run `./control ARGUMENTS`; keywords are environment variables, and `at` another name for the script."""

    def run(*arguments: str, at: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [at or folder / "control", *arguments],
            env=outside_env(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def outside_env(**env: str) -> dict[str, str]:
    """The environment that runs the tests, without what would reach into a control script."""
    clean = {key: value for key, value in os.environ.items() if key not in ("CONFIG", "PYTHON", "CDPATH")}
    return clean | {"CONTROL_START_TIMEOUT": "60"} | env  # for a slow machine


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def wait_for(condition: Callable[[], bool], *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def one_line(text: str) -> str:
    """The only line of `text`, apart from setup's announcement of what it does."""
    lines = [line for line in text.splitlines() if not line.startswith("setup: ")]
    assert len(lines) == 1, text
    return lines[0]


# ---- the command line


def test_the_help_names_every_verb_and_goes_to_standard_output(control: Control) -> None:
    for asked in ("help", "-h", "--help"):
        result = control(asked)
        assert (result.returncode, result.stderr) == (0, "")
        assert tuple(re.findall(r"^  (\w+) ", result.stdout, re.MULTILINE)) == VERBS


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("pack", "it"),
        ("start", "now"),
        ("prove", "it"),
        ("status", "falcon-agent"),
        ("-c",),
        ("--quick", "test"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_a_usage_error(control: Control, arguments: tuple[str, ...]) -> None:
    result = control(*arguments)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert "./control" in result.stderr


# ---- where it is called from


def test_it_works_from_any_directory(folder: Path, tmp_path: Path) -> None:
    for cwd, name in (
        (folder, "./control"),
        (Path("/"), str(folder / "control")),
        (tmp_path, f"{folder.name}/control"),
    ):
        result = subprocess.run(
            [name, "status"], cwd=cwd, env=outside_env(CDPATH="/:.."), capture_output=True, text=True
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "stoped\n", "")


def test_it_works_when_a_shell_reads_it(folder: Path) -> None:
    result = subprocess.run(["sh", "control", "status"], cwd=folder, env=outside_env(), capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "stoped\n", "")


def test_it_finds_its_folder_through_links(folder: Path, tmp_path: Path, control: Control) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/absolute").symlink_to(folder / "control")
    (tmp_path / "bin/relative").symlink_to("absolute")
    (tmp_path / "over the folder").symlink_to(folder)
    for at in (tmp_path / "bin/relative", tmp_path / "over the folder/control"):
        assert str(folder / "requirements.lock") not in (result := control("start", at=at)).stderr
        assert result.returncode == TOOL_MISSING
        # It names what it looked for, and so where: the folder itself, not the link's.
        assert control("tail", at=at).stderr == f"control: there is no {folder}/var/app.log yet\n"


def test_it_works_with_its_standard_streams_closed(folder: Path) -> None:
    script = '"$0" status <&- >out; "$0" status <&- 2>&- >>out; "$0" status <&- >&- 2>&-'
    result = subprocess.run(["sh", "-c", script, "./control"], cwd=folder, env=outside_env(), timeout=120)
    assert result.returncode == 0
    assert (folder / "out").read_text() == "stoped\nstoped\n"


def test_the_config_says_where_var_is(folder: Path, tmp_path: Path, control: Control) -> None:
    (tmp_path / "etc").mkdir()
    config = str(tmp_path / "etc/cfg.json")
    for result in (
        control("-c", config, "tail"),
        control("tail", CONFIG=config),
        control("-c", config, "tail", CONFIG="x"),
    ):
        assert result.stderr == f"control: there is no {tmp_path}/etc/var/app.log yet\n"


@pytest.mark.system
def test_another_users_daemon_is_not_called_stopped(folder: Path) -> None:
    public = Path(tempfile.mkdtemp(prefix="ops-updater-test-"))
    try:
        public.chmod(0o755)
        shutil.copy(folder / "control", public / "control")
        (public / "var").mkdir(mode=0o700)
        result = subprocess.run(
            [public / "control", "status"], user="nobody", cwd="/", env=outside_env(), capture_output=True, text=True
        )
    finally:
        shutil.rmtree(public)
    assert (result.returncode, result.stdout) == (1, "")
    assert "belongs to another user" in one_line(result.stderr)


# ---- is it running? The pid file alone proves nothing.


def write_pid_file(folder: Path, text: str) -> None:
    (folder / "var").mkdir(exist_ok=True)
    (folder / "var/app.pid").write_text(text)


def assert_stopped(control: Control) -> None:
    status = control("status")
    assert (status.returncode, status.stdout, status.stderr) == (0, "stoped\n", "")
    pid = control("pid")
    assert (pid.returncode, pid.stdout, pid.stderr) == (1, "", "")
    stop = control("stop")
    assert (stop.returncode, stop.stdout, stop.stderr) == (0, "stoped\n", "")
    assert control("reload").returncode == 1


GARBAGE = [
    "",
    "\n",
    "\0\0\0",
    "started\n",
    "0\n",
    "1 2\n",
    "-1\n",
    "$(id)\n",
    "../1\n",
    "99999999999999999999\n",
    "7" * 9999,
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: repr(text[:20]))
def test_a_garbage_pid_file_is_no_daemon(folder: Path, control: Control, text: str) -> None:
    write_pid_file(folder, text)
    assert_stopped(control)


def test_a_stale_pid_file_is_no_daemon(folder: Path, control: Control) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_pid_file(folder, f"{gone.pid}\n")
    assert_stopped(control)


def test_a_pid_that_another_program_has_by_now_is_left_alone(folder: Path, control: Control) -> None:
    with running_program("sleep", "600") as other:
        write_pid_file(folder, f"{other.pid}\n")
        assert_stopped(control)
        assert other.poll() is None


def test_a_dead_daemon_that_is_not_reaped_yet_is_stopped(folder: Path, control: Control) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", "pass", "updater", "daemon"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    write_pid_file(folder, f"{zombie.pid}\n")
    assert_stopped(control)
    zombie.wait()


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock(1) control can't tell two daemons apart")
def test_the_daemon_of_another_folder_is_left_alone(folder: Path, control: Control) -> None:
    """A pid used again by an updater: only the lock on this folder's pid file shows that it is not ours."""
    with running_program(sys.executable, "-c", "import time; time.sleep(600)", "updater", "daemon") as other:
        write_pid_file(folder, f"{other.pid}\n")
        assert_stopped(control)
        assert other.poll() is None


@contextlib.contextmanager
def running_program(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    program = subprocess.Popen(command)
    try:
        yield program
    finally:
        program.kill()
        program.wait()


# ---- setup: what can be missing


def test_start_says_what_makes_the_environment(folder: Path, control: Control) -> None:
    for verb in ("start", "plan", "check"):
        result = control(verb)
        assert (result.returncode, result.stdout) == (TOOL_MISSING, "")
        assert one_line(result.stderr) == "control: there is no .venv yet: run ./control setup"
    assert not (folder / "var").exists()


def test_start_sees_that_the_dependencies_changed(folder: Path, control: Control) -> None:
    (folder / ".venv").mkdir()
    (folder / ".venv/.complete").write_text("1 2\n")
    result = control("start")
    assert result.returncode == TOOL_MISSING
    assert (
        one_line(result.stderr) == "control: what .venv is made from changed (requirements*.lock): run ./control setup"
    )


OLD_PYTHON = "#!/bin/sh\necho 3.8\nexit 1\n"
PYTHON_WITHOUT_ENSUREPIP = f"""#!/bin/sh
case $* in *ensurepip*) echo "ModuleNotFoundError: No module named 'ensurepip'" >&2; exit 1 ;; esac
exec '{sys.executable}' "$@"
"""
PYTHON_WITHOUT_VENV = f"""#!/bin/sh
case $* in '-m venv'*) mkdir -p "$3/bin"; echo 'No module named venv' >&2; exit 1 ;; esac
exec '{sys.executable}' "$@"
"""


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        pytest.param(OLD_PYTHON, "is Python 3.8; 3.10 or newer is needed", id="old"),
        pytest.param(PYTHON_WITHOUT_ENSUREPIP, "apt-get install python3-venv", id="no ensurepip"),
        pytest.param(PYTHON_WITHOUT_VENV, "apt-get install python3-venv", id="venv fails"),
        pytest.param("#!/bin/sh\nexit 127\n", "does not run", id="broken"),
    ],
)
def test_an_unsuitable_python_is_one_clear_line(
    folder: Path, tmp_path: Path, control: Control, python: str, expected: str
) -> None:
    stand_in = executable(tmp_path / "python3", python)
    result = control("setup", PYTHON=str(stand_in))
    assert (result.returncode, result.stdout) == (TOOL_MISSING, "")
    assert expected in one_line(result.stderr)
    assert str(stand_in) in result.stderr
    assert not (folder / ".venv").exists()


def path_without_python(directory: Path) -> Path:
    """A PATH with what `control` uses, and no Python."""
    directory.mkdir()
    for tool in ("sh", "readlink", "cksum", "cat", "rm", "mv", "grep", "tail", "sed", "chmod", "tr", "date", "sleep"):
        found = shutil.which(tool)
        assert found, tool
        (directory / tool).symlink_to(found)
    return directory


def test_no_python_at_all_is_one_clear_line(folder: Path, tmp_path: Path, control: Control) -> None:
    result = control("setup", PATH=str(path_without_python(tmp_path / "bin")))
    assert result.returncode == TOOL_MISSING
    assert "no python3 on the PATH" in one_line(result.stderr)


def test_an_old_python3_alone_is_named(folder: Path, tmp_path: Path, control: Control) -> None:
    executable(path_without_python(tmp_path / "bin") / "python3", OLD_PYTHON)
    result = control("setup", PATH=str(tmp_path / "bin"))
    assert result.returncode == TOOL_MISSING
    assert one_line(result.stderr) == "control: python3 is Python 3.8; 3.10 or newer is needed"


# Nothing listens there: what a host without a network, or with a dead mirror, gives.
DEAD_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0"}
DEAD_INDEX |= {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_NO_CACHE_DIR": "1", "PYTHON": sys.executable}


@pytest.mark.slow
def test_without_a_network_nothing_half_made_stays(folder: Path, control: Control) -> None:
    result = control("setup", **DEAD_INDEX)
    assert (result.returncode, result.stdout) == (1, "")
    assert "is a package index reachable?" in one_line(result.stderr)
    assert not (folder / ".venv").exists()
    assert str(folder / ".setup.log") in result.stderr
    assert "127.0.0.1" in (folder / ".setup.log").read_text()


@pytest.mark.slow
def test_a_failed_upgrade_keeps_the_environment_that_was_there(folder: Path, control: Control) -> None:
    (folder / ".venv").mkdir()
    (folder / ".venv/.complete").write_text("of an older lock\n")
    (folder / ".venv/mine").touch()
    assert control("setup", **DEAD_INDEX).returncode == 1
    assert (folder / ".venv/mine").exists()
    assert not (folder / ".venv.old").exists()


@pytest.mark.slow
def test_an_interrupted_upgrade_keeps_the_environment_that_was_there(folder: Path) -> None:
    (folder / ".venv").mkdir()
    (folder / ".venv/.complete").write_text("of an older lock\n")
    (folder / ".venv/mine").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        index = {"PIP_INDEX_URL": f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple"}
        env = outside_env(**DEAD_INDEX | index)
        setup = subprocess.Popen([folder / "control", "setup"], env=env, start_new_session=True)
        connection, _ = silent_index.accept()  # pip asks, amid the setup
        with connection:
            assert (folder / ".venv.old/mine").exists()
            os.killpg(setup.pid, signal.SIGINT)
            setup.wait(timeout=60)
    wait_for((folder / ".venv/mine").exists)
    wait_for(lambda: not (folder / ".venv.old").exists())


@pytest.mark.slow
def test_a_newer_python_is_taken_where_python3_is_old(folder: Path, tmp_path: Path, control: Control) -> None:
    bin_ = path_without_python(tmp_path / "bin")
    executable(bin_ / "python3", OLD_PYTHON)
    executable(bin_ / "python3.11", f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    result = control("setup", PATH=str(bin_), **DEAD_INDEX | {"PYTHON": ""})
    assert "making .venv with python3.11" in result.stderr


@pytest.mark.slow
def test_a_second_setup_waits_for_the_first(folder: Path) -> None:
    with (folder / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [folder / "control", "setup"], env=outside_env(**DEAD_INDEX), stderr=subprocess.PIPE, text=True
        )
        assert second.stderr
        assert second.stderr.readline() == "control: waiting for another setup of this folder\n"
        assert not (folder / ".venv").exists()
    assert "making .venv" in second.stderr.readline()  # the lock is free: it goes on
    second.communicate(timeout=120)


def test_a_folder_that_we_cant_write_is_one_clear_line(folder: Path, control: Control) -> None:
    (folder / ".setup.lock").mkdir()  # refuses root too, as a read-only file system does
    result = control("setup", PYTHON=sys.executable)
    assert result.returncode == 1
    assert "can't write in" in one_line(result.stderr)


def test_an_unknown_optional_part_is_named_beside_the_known_ones(control: Control) -> None:
    for wrong in ("dev", "wEb", "nothing", "../x"):
        result = control("setup", "--with", wrong)
        assert result.returncode == USAGE
        assert result.stderr.startswith(f"control: there is no optional part {wrong}; known: signatures web, and none")


def test_setup_keeps_the_optional_parts_that_it_had(folder: Path, control: Control) -> None:
    """The environment is as these locks want it, so nothing is made again, and no index is asked."""
    venv = folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    executable(venv / "bin" / "python", "#!/bin/sh\nexit 0\n")  # stands for one that works
    (venv / ".with").write_text("web\n")
    locks = b"".join((folder / name).read_bytes() for name in ("requirements.lock", "requirements-web.lock"))
    stamp = subprocess.run(["cksum"], input=locks, capture_output=True, check=True).stdout
    (venv / ".complete").write_bytes(stamp)
    for arguments in ((), ("--with", "web"), ("--with", "web,web")):
        result = control("setup", *arguments, **DEAD_INDEX)
        assert (result.returncode, result.stdout) == (0, "setup: .venv is as requirements.lock wants it, with web\n")
    without = control("setup", "--with", "none", **DEAD_INDEX)
    assert without.returncode == 1
    assert "can't install what requirements.lock lists" in without.stderr
    assert (venv / ".with").read_text() == "web\n"  # put back


# ---- what is installed


LOCKS = [f"requirements{part}.lock" for part in ("", "-signatures", "-web", "-dev")]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_and_hashes_everything_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.sub(r"\\\n", "", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert entries
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^-]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", entry), entry
    assert "://" not in text


def test_the_tests_run_on_the_dependencies_that_are_shipped() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    shipped = pins("requirements.lock") | pins("requirements-signatures.lock") | pins("requirements-web.lock")
    assert shipped <= pins("requirements-dev.lock")


@pytest.mark.slow
def test_the_wheel_says_what_the_lock_installs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    parts = ("requirements-signatures.in", "requirements-web.in")
    for name in ("setup.cfg", "pyproject.toml", "requirements.in", *parts, "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "README.md").write_text("# ops-updater\n")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (metadata,) = (content.read(name).decode() for name in names if name.endswith("/METADATA"))
        (scripts,) = (content.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    version = re.search(r'VERSION = "(.+)"', (ROOT / "updater/version.py").read_text())
    assert version
    assert f"\nVersion: {version[1]}\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    extras = [(f"requirements-{name}.lock", f'.*; extra == "{name}"') for name in ("signatures", "web")]
    for lock, extra in (("requirements.lock", ""), *extras):
        locked = (ROOT / lock).read_text()
        required = re.findall(rf"^Requires-Dist: ([a-z-]+)[^;\n]*{extra}$", metadata, re.MULTILINE)
        assert required
        assert all(f"\n{name}==" in locked for name in required)
    data = {"updater/monitoring/page.css", "updater/monitoring/page.js"}
    data |= {"updater/agent_template/control", "updater/agent_template/agent"}
    assert data <= set(names)
    build = f"import setuptools.build_meta as build; build.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as content_of_sdist:
        assert data <= {name.partition("/")[2] for name in content_of_sdist.getnames()}
    assert "updater = updater.__main__:main" in scripts
    packages = {
        f"{path.parent.relative_to(ROOT)}/__init__.py"
        for name in SOURCES
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert packages <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(SOURCES)


# ---- the real daemon


@pytest.fixture
def installed(folder: Path, control: Control) -> Iterator[Path]:
    """The folder with sources, an environment and a config of no agents; no daemon outlives the test."""
    environment = subprocess.run([ROOT / "control", "setup"], env=outside_env(), capture_output=True, text=True)
    assert environment.returncode == 0, environment.stderr
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in SOURCES:
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out, dirs_exist_ok=True)
    write_config(folder)
    yield folder
    if pid := control("pid").stdout.strip():
        os.kill(int(pid), signal.SIGCONT)
        os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not is_alive(int(pid)))


def write_config(directory: Path) -> Path:
    """A config whose desired state is a file that names no agent."""
    desired = directory / "desired.json"
    desired.write_text(json.dumps({"errorMessage": "", "desiredAgents": []}))
    config = directory / "cfg.json"
    config.write_text(json.dumps({"hostname": "test", "interval": 300, "desired": str(desired)}))
    return config


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which PID 1 of a container may leave for a while, does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # macOS, whose PID 1 reaps at once
    except ProcessLookupError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def daemons_of(folder: Path) -> list[int]:
    """The daemons, ready or not, that any process table entry shows for this folder; its lock is not asked."""
    return [pid for pid, command in process_table() if f"-c {folder}/cfg.json daemon" in command]


def process_table() -> Iterator[tuple[int, str]]:
    """The pid and the command line of each process; ps(1) is for macOS, and not on every Linux."""
    if Path("/proc/self/cmdline").exists():
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if entry.isdigit():
                    yield int(entry), Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return
    command = ["ps", "-ww", "-e", "-o", "pid=,command="]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        pid, _, text = line.strip().partition(" ")
        yield int(pid), text


def started_pid(control: Control) -> int:
    result = control("pid")
    assert result.returncode == 0
    return int(result.stdout)


def test_start_status_stop(installed: Path, control: Control) -> None:
    start = control("start")  # returns, although our pipe stays open: the daemon doesn't hold it
    assert start.returncode == 0, start.stderr
    pid = started_pid(control)
    assert start.stdout == f"started (pid {pid})\n"
    assert control("status").stdout == "started\n"
    assert os.getsid(pid) == pid
    assert (installed / "var").stat().st_mode & 0o777 == 0o700

    again = control("start")
    assert (again.returncode, again.stdout) == (0, f"already started (pid {pid})\n")

    stop = control("stop")
    assert (stop.returncode, stop.stdout) == (0, "stoped\n")
    wait_for(lambda: not is_alive(pid))  # it has no command line any more, a moment before it is gone
    assert_stopped(control)


def test_it_starts_with_standard_input_closed(installed: Path, control: Control) -> None:
    result = subprocess.run(["sh", "-c", '"$0" start <&-', str(installed / "control")], env=outside_env(), timeout=120)
    assert result.returncode == 0
    assert control("status").stdout == "started\n"


def test_it_starts_over_a_stale_pid_file(installed: Path, control: Control) -> None:
    with running_program("sleep", "600") as other:
        write_pid_file(installed, f"{other.pid}\n")
        assert control("start").returncode == 0
        assert started_pid(control) != other.pid


def test_starts_at_the_same_time_make_one_daemon(installed: Path, control: Control) -> None:
    starts = [
        subprocess.Popen([installed / "control", "start"], env=outside_env(), stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [start.communicate(timeout=120)[0] for start in starts]
    pid = started_pid(control)
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert sorted(said) == [f"already started (pid {pid})\n"] * 2 + [f"started (pid {pid})\n"]
    # None of them comes up later, when the one has been stopped.
    assert daemons_of(installed) == [pid]
    assert control("stop").returncode == 0
    assert daemons_of(installed) == []


def test_a_bad_config_is_refused_before_anything_runs(installed: Path, control: Control) -> None:
    (installed / "cfg.json").write_text('{"intervall": 300}')
    result = control("start")
    assert (result.returncode, result.stdout) == (BAD_CONFIG, "")
    assert "intervall" in result.stderr
    assert_stopped(control)


def test_a_missing_config_names_the_example(installed: Path, control: Control) -> None:
    (installed / "cfg.json").unlink()
    result = control("start")
    assert result.returncode == BAD_CONFIG
    assert "cfg.example.json" in result.stderr


def test_restart_makes_another_daemon_and_reload_does_not(installed: Path, control: Control) -> None:
    assert control("restart").returncode == 0  # of a stopped one, too
    first = started_pid(control)
    assert control("reload").returncode == 0
    assert started_pid(control) == first
    assert control("restart").returncode == 0
    assert started_pid(control) != first
    wait_for(lambda: not is_alive(first))


def waits(pid: int) -> bool:
    """Whether the daemon has become the small process that waits: it catches no SIGTERM any more, and lets it come."""
    if sys.platform != "linux":
        return True  # there it stays what it is
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return not (int(status["SigCgt"], 16) | int(status["SigBlk"], 16)) & 1 << signal.SIGTERM - 1


@pytest.mark.parametrize(
    ("spoil", "code", "why"),
    [
        (lambda folder: (folder / "cfg.json").write_text('{"intervall": 5}'), BAD_CONFIG, "intervall"),
        (lambda folder: (folder / ".venv").rename(folder / ".gone"), TOOL_MISSING, "run ./control setup"),
    ],
    ids=["a bad config", "no .venv"],
)
def test_what_could_not_start_again_is_not_stopped(
    installed: Path, control: Control, spoil: Callable[[Path], object], code: int, why: str
) -> None:
    control("start")
    pid = started_pid(control)
    wait_for(lambda: waits(pid))
    spoil(installed)
    result = control("restart")
    assert (result.returncode, result.stdout) == (code, "")
    assert why in result.stderr
    assert started_pid(control) == pid


def test_reload_refuses_a_bad_config_and_the_old_one_stays_in_force(installed: Path, control: Control) -> None:
    control("start")
    pid = started_pid(control)
    config = installed / "cfg.json"
    good = config.read_text()
    config.write_text(good.replace("{", '{"intervall": 5, ', 1))
    result = control("reload")
    assert (result.returncode, result.stdout) == (78, "")
    assert "intervall" in result.stderr
    assert "nothing was reloaded: the old config stays in force" in result.stderr
    assert started_pid(control) == pid
    assert "read again" not in (installed / "var" / "app.log").read_text()
    config.write_text(good)
    assert control("reload").returncode == 0
    wait_for(lambda: "config read again" in (installed / "var" / "app.log").read_text())
    assert control("stop").returncode == 0


def test_stop_never_kills_a_daemon_that_is_still_busy(installed: Path, control: Control) -> None:
    control("start")
    pid = started_pid(control)
    os.kill(pid, signal.SIGSTOP)  # as busy as can be
    result = control("stop", CONTROL_STOP_TIMEOUT="1")
    assert (result.returncode, result.stdout) == (1, "")
    assert "still finishing" in one_line(result.stderr)
    assert control("status").stdout == "started\n"
    os.kill(pid, signal.SIGCONT)
    assert control("stop").stdout == "stoped\n"


def test_two_configs_are_two_daemons(installed: Path, tmp_path: Path, control: Control) -> None:
    (tmp_path / "other place").mkdir()
    other = str(write_config(tmp_path / "other place"))
    assert control("-c", other, "start").returncode == 0
    try:
        assert control("status").stdout == "stoped\n"
        assert control("status", CONFIG=other).stdout == "started\n"
        assert control(f"--config={other}", "status").stdout == control(f"-c{other}", "status").stdout == "started\n"
        assert (tmp_path / "other place/var/app.pid").exists()
    finally:
        assert control("-c", other, "stop").returncode == 0


def test_a_daemon_killed_hard_is_noticed_and_started_again(installed: Path, control: Control) -> None:
    control("start")
    pid = started_pid(control)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: control("status").stdout == "stoped\n")
    assert control("start").returncode == 0
    assert started_pid(control) != pid


def test_setup_leaves_the_environment_of_a_running_daemon_alone(installed: Path, control: Control) -> None:
    control("start")
    with (installed / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    result = control("setup")
    assert result.returncode == 1
    assert "./control stop first" in one_line(result.stderr)


def test_plan_passes_its_arguments_and_exit_code_through(installed: Path, control: Control) -> None:
    result = control("plan", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["kind"] == "Plan"
    assert control("plan", "--no-such-option").returncode == USAGE


def test_pack_needs_no_tests_and_says_what_is_wrong_with_its_arguments(installed: Path, control: Control) -> None:
    assert not (installed / "tests").exists()
    result = control("pack", "--arch", "vax")
    assert (result.returncode, result.stdout) == (1, "")
    assert one_line(result.stderr).startswith("control: --arch vax: expected one of ")
    for wrong in (("it",), ("--out",), ("--ou", "x")):
        result = control("pack", *wrong)
        assert (result.returncode, result.stdout) == (USAGE, "")
        assert "./control pack --help" in one_line(result.stderr)
    assert control("pack", "--help").stdout.startswith("usage: ./control pack ")


@pytest.mark.parametrize(
    "verb", ["setup", "start", "stop", "restart", "pid", "reload", "tail", "dist", "test", "bench", "prove"]
)
def test_the_help_of_a_verb_is_what_the_help_says_of_it_and_does_nothing(
    folder: Path, control: Control, verb: str
) -> None:
    before = set(folder.rglob("*"))
    asked = [control("help", verb), control(verb, "--help"), control(verb, "-h")]
    assert {(result.returncode, result.stderr, result.stdout) for result in asked} == {(0, "", asked[0].stdout)}
    assert re.findall(r"^  (\w+) ", asked[0].stdout, re.MULTILINE) == [verb]
    assert asked[0].stdout in control("help").stdout
    assert set(folder.rglob("*")) == before


def test_the_help_of_status_is_this_scripts(control: Control) -> None:
    assert control("status", "--help").stdout == "  status    print `started` or `stoped`\n"


def test_any_other_verb_is_the_updaters(installed: Path, control: Control) -> None:
    assert json.loads(control("history", "-o", "json").stdout)["kind"] == "History"
    result = control("agents", "-o", "json")
    assert (result.returncode, result.stdout) == (69, ""), "`updater status`, where no answer was accepted yet"
    assert "policy" in control("check", "--offline").stdout
    for verb in ("check", "apply", "why", "logs"):
        result = control("help", verb)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == control(verb, "--help").stdout
        assert result.stdout.startswith(f"usage: updater {verb} ")
    for typed in (("--log-level", "debug"), ("--log-level=WARN",)):
        assert json.loads(control(*typed, "history", "-o", "json").stdout)["kind"] == "History"
    assert control("--version").stdout.startswith("ops-updater ")
    result = control("why", "no-such-agent")
    assert (result.returncode, result.stdout) == (69, "")
    result = control("strat")
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert one_line(result.stderr).startswith("updater: there is no command strat; did you mean `")
