"""The developers' tasks. `./control test`, `bench`, `dist` and `prove` make the environment and call these; nox
alone works as well: `.venv-test/3.x/bin/nox -l` lists them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nox
from nox.command import CommandFailed

from tests.checkout import MINORS, pythons

ROOT = Path(__file__).parent
BIN = Path(sys.executable).parent
IN_CI = bool(os.environ.get("CI"))
SCRIPTS = ("control", ".ci/run", "contrib/agent-template/control", "contrib/agent-template/agent")

# The tests of the pure modules, which reach each of their branches by themselves. Tracing makes tests twice as long, so
# the other ones run without, and so do those that go through all small worlds.
PURE = sorted(
    {
        *ROOT.glob("tests/reconcile/decide/test_*.py"),
        *ROOT.glob("tests/reconcile/decide/timing/test_*.py"),
        *ROOT.glob("tests/probes/test_observed.py"),
        *ROOT.glob("tests/probes/test_status_parser.py"),
        *ROOT.glob("tests/probes/test_text.py"),
    }
    - set(ROOT.glob("tests/reconcile/decide/test_lives.py"))
    - set(ROOT.glob("tests/reconcile/decide/test_small_worlds.py"))
)

# What the tests marked `system` need besides root; and the services that come with it, which are not wanted: a test
# starts what it needs by itself.
SYSTEM_PACKAGES = (
    *("sudo", "strace", "e2fsprogs", "mount", "redis-server", "chromium", "chromium-driver", "prometheus"),
    *("systemd", "minisign", "nginx", "zsh", "fish", "etcd-server", "man-db", "mandoc"),
)
SYSTEM_SERVICES = {"redis-server": "redis-server", "prometheus": "prometheus", "nginx": "nginx", "etcd-server": "etcd"}
POLICY = Path("/usr/sbin/policy-rc.d")  # Debian starts no service where this script exits 101: see invoke-rc.d(8)

nox.options.sessions = ["lint", "types", "tests"]
nox.options.stop_on_first_error = True
nox.options.envdir = str(ROOT / ".venv-test" / "nox")
task = partial(nox.session, venv_backend="none")


@task
def lint(session: nox.Session) -> None:
    """Lint and format of shell and Python."""
    session.run(f"{BIN}/shellcheck", *SCRIPTS)
    session.run(f"{BIN}/ruff", "check", "--quiet", ".")
    session.run(f"{BIN}/ruff", "format", "--check", "--quiet", ".")


@task
def types(session: nox.Session) -> None:
    """Types and import contracts."""
    session.run(f"{BIN}/mypy")
    session.run(f"{BIN}/lint-imports", "--no-logo")


@task
def quick(session: nox.Session) -> None:
    """The tests that are not slow."""
    Tests(session, BIN).run("-m", "not slow and not system", *session.posargs)
    session.log("left out: tests marked slow or system, coverage, other Pythons")


@task
def tests(session: nox.Session) -> None:
    """All tests that need no root, on the newest Python, and a part of them on the oldest.

    People get an answer within ten minutes: each test runs on one of the two, those of the pure modules on both. CI
    runs all of it on the newest, and on the oldest what is not slow or may differ there.
    """
    found = pythons()
    (oldest, newest), words = (min(found), max(found)), session.posargs
    ours = Tests(session, environment(session, newest, found[newest]))
    on_newest, on_oldest = "not system", "(not slow or python_sensitive) and not system"
    shared = "slow tests that no Python can change on the oldest one"
    if not IN_CI and oldest != newest:
        on_newest, on_oldest = "slow and not system", "not slow and not system"
        shared = "each test but those of the pure modules on one Python of two (CI=true runs more)"
    if words:
        ours.run(*words)
    else:
        pure = [str(path.relative_to(ROOT)) for path in PURE]
        ours.run_covered(*pure)
        ours.run("-m", on_newest, *(f"--ignore={path}" for path in pure))
    left_out = ["system tests (./control test --system, as root)"]
    if oldest != newest:
        theirs = Tests(session, environment(session, oldest, found[oldest]))
        theirs.run("-m", on_oldest, *words)
        ours.unsteady += theirs.unsteady
        left_out.append(shared)
    left_out += [f"Python 3.{minor} (not found)" for minor in MINORS if minor not in found]
    left_out += [f"Python 3.{minor} (neither the oldest nor the newest)" for minor in sorted(found)[1:-1]]
    ours.report(left_out)


@task
def system(session: nox.Session) -> None:
    """The tests that need root: users, sudo, mounts, strace; what they need is installed."""
    install_system_packages(session)
    ours = Tests(session, BIN)
    ours.run("-m", "system", *session.posargs)
    ours.report(["the tests that need no root (./control test)"])


@task
def bench(session: nox.Session) -> None:
    """How fast it is, as ratios to named yardsticks."""
    os.execv(BIN / "python", [str(BIN / "python"), "-m", "benchmarks", *session.posargs])


@task
def dist(session: nox.Session) -> None:
    """All that a release publishes, in one folder. minisign may ask for a password: it keeps the terminal."""
    os.execv(BIN / "python", [str(BIN / "python"), "-m", "updater.packaging.dist", *session.posargs])


@task
def prove(session: nox.Session) -> None:
    """The long harnesses: one of crash, hostile, soak and mutants with its options, or all of the first three."""
    if session.posargs:
        name, *words = session.posargs
        session.run(f"{BIN}/python", "-m", f"tests.{name}", *words)
        return
    for name in ("hostile", "soak", "crash"):
        session.run(f"{BIN}/python", "-m", f"tests.{name}")
    if os.geteuid() != 0:
        session.log("left out: a hostile user, which needs root")
        return
    install_system_packages(session)
    words = ["-q", "-m", "system", "-k", "hostile", "tests/system/test_users.py"]
    session.run(f"{BIN}/python", "-m", "pytest", *words, env={"OPS_UPDATER_HOSTILE_S": "60"})


class Tests:
    """Runs of pytest in one environment. `unsteady`: the tests that failed once and then passed."""

    def __init__(self, session: nox.Session, bin: Path) -> None:
        self._session = session
        self._bin = bin
        # Tests wait for processes for two thirds of their time: three at once for each processor.
        self._spread = ["-n", str(3 * (os.cpu_count() or 1)), "--dist", "worksteal"]
        self.unsteady: list[str] = []

    def run(self, *words: str) -> None:
        """In CI, where nobody looks at once, the one to three tests that failed are tried once more, by themselves."""
        if self._pytest(*self._spread, *words):
            return
        failed = _failed()
        if not IN_CI or not 1 <= len(failed) <= 3 or not self._pytest(*words, "--last-failed"):
            self._session.error("tests failed")
        self.unsteady += failed

    def run_covered(self, *words: str) -> None:
        """Run tests that must reach each branch of the modules that setup.cfg names."""
        coverage = f"{self._bin}/coverage"
        self._session.run(coverage, "erase")
        self._session.run(coverage, "run", "-m", "pytest", *self._spread, *words)
        self._session.run(coverage, "combine", "--quiet")
        self._session.run(coverage, "report", "--skip-covered", "--fail-under=100")

    def report(self, left_out: list[str]) -> None:
        self._session.log(f"left out: {'; '.join(left_out)}")
        if self.unsteady:
            self._session.log(f"failed once and then passed: {' '.join(self.unsteady)}")

    def _pytest(self, *words: str) -> bool:
        try:
            self._session.run(f"{self._bin}/python", "-m", "pytest", *words)
        except CommandFailed:
            return False
        return True


def _failed() -> list[str]:
    """The tests that failed when pytest ran last."""
    try:
        return list(json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_text()))
    except OSError:
        return []


def environment(session: nox.Session, minor: int, python: str) -> Path:
    """The folder of the programs of a Python's test environment, which is made where it is missing."""
    if minor == sys.version_info.minor:
        return BIN
    session.run("./control", "setup", "--tests", env={"PYTHON": python})
    return ROOT / ".venv-test" / f"3.{minor}" / "bin"


def install_system_packages(session: nox.Session) -> None:
    absent = [package for package in SYSTEM_PACKAGES if not _is_installed(package)]
    if not absent:
        return
    if shutil.which("apt-get") is None:
        session.error(f"test --system needs {' '.join(absent)}, and can install packages with apt-get alone")
    unasked = {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        session.run("apt-get", "-qq", "update", silent=True, env=unasked)
        session.run("apt-get", "-qq", "install", "--no-install-recommends", *absent, silent=True, env=unasked)
    # Nor at the next boot. A service that was there before is left as it is.
    for package in SYSTEM_SERVICES.keys() & absent:
        try:
            session.run("update-rc.d", SYSTEM_SERVICES[package], "disable", silent=True)
        except CommandFailed:
            session.warn(f"the service {SYSTEM_SERVICES[package]} may start at the next boot")


def _is_installed(package: str) -> bool:
    asked = ["dpkg-query", "-W", "-f", "${Status}", package]
    try:
        return subprocess.run(asked, capture_output=True, text=True).stdout.startswith("install ok installed")
    except FileNotFoundError:
        return False


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Have Debian start no service of a package that is installed. A policy that is there already is somebody's own."""
    if POLICY.exists() or POLICY.is_symlink():
        yield
        return
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
