"""All that a release publishes, made twice: the same bytes; and what hosts make of it. Needs the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.ops_meta import host_arch
from tests.support.page_shell import blocks, page_shell
from tests.system.test_far_times import library, shifted
from updater.version import VERSION

ROOT = Path(__file__).parents[2]
MINISIGN = shutil.which("minisign")
PARTS = "import nacl.signing, isal.isal_zlib, waitress, prometheus_client; print('all there')"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("cc") is None, reason="a shifted clock needs a C compiler"),
    pytest.mark.skipif(MINISIGN is None, reason="needs Debian's minisign; `./control test --system` installs it"),
]
__all__ = ["library"]


def run(*words: str | Path, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """A command that must succeed."""
    ran = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert isinstance(ran, subprocess.CompletedProcess)
    return ran


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("key")
    run("minisign", "-G", "-W", "-p", "ops.pub", "-s", "ops.key", folder=folder)
    return folder / "ops.key"


@pytest.fixture(scope="module")
def dist(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("git", "clone", "-q", ROOT, "clone", folder=folder)
    run(sys.executable, "-m", "updater.packaging.dist", "--out", "../out", "--key", key, folder=folder / "clone")
    return folder / "out"


def test_it_is_all_that_a_release_publishes(dist: Path) -> None:
    kinds = ("linux_amd64", "linux_arm64")
    assert {path.name for path in dist.iterdir()} == {
        f"ops_updater-{VERSION}.tar.gz",
        f"ops_updater-{VERSION}-py3-none-any.whl",
        *(f"ops-updater-{VERSION}-{kind}.tar.gz" for kind in kinds),
        *(f"ops-updater_{VERSION}_{kind.removeprefix('linux_')}.deb" for kind in kinds),
        *("SHA256SUMS", "SHA256SUMS.minisig"),
    }


def test_the_page_makes_the_same_bytes_at_another_path_and_time_under_another_umask(
    dist: Path, key: Path, library: Path, tmp_path: Path
) -> None:
    """By the commands of docs/releasing.md; only what `./control` needs for itself is not made again."""
    folder, shift, tests = tmp_path / "a path with blanks", tmp_path / "shift", Path(sys.executable).parents[1]
    shift.write_text(str(3 * 86_400))
    run("git", "clone", "-q", ROOT, folder, folder=tmp_path)
    run("git", "tag", "v0.2.0", folder=folder)
    shutil.copy(key, tmp_path / "ops-updater.key")
    [commands] = [block for block in blocks("releasing.md") if "./control dist" in block]
    clone, make, try_it = commands.replace("linux_amd64", host_arch()).splitlines()
    with page_shell(folder, {"HOME": str(tmp_path), "TZ": "Asia/Tokyo", **shifted(library, shift)}) as shell:
        shell.type(f"umask 077; {clone}")
        run(ROOT / "control", "setup", folder=ROOT)
        shutil.copytree(ROOT / ".venv", tmp_path / "release" / ".venv", symlinks=True)
        (tmp_path / "release" / ".venv-test").mkdir()
        (tmp_path / "release" / ".venv-test" / tests.name).symlink_to(tests)
        shell.type(make)
        shell.type(try_it)
    made = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    assert made == {path.name: path.read_bytes() for path in dist.iterdir()}


def test_the_sums_and_their_signature_hold(dist: Path, key: Path) -> None:
    run("minisign", "-V", "-m", "SHA256SUMS", "-p", key.with_suffix(".pub"), folder=dist)
    checked = run("sha256sum", "--strict", "-c", "SHA256SUMS", folder=dist).stdout.splitlines()
    assert len(checked) == len(list(dist.iterdir())) - 2
    assert all(line.endswith(": OK") for line in checked)


@pytest.mark.parametrize(("kind", "machine"), [("linux_amd64", "x86_64"), ("linux_arm64", "aarch64")])
def test_a_pack_has_the_compiled_parts_of_its_machine_for_each_python(dist: Path, kind: str, machine: str) -> None:
    with tarfile.open(dist / f"ops-updater-{VERSION}-{kind}.tar.gz") as tar:
        names = tar.getnames()
    for minor in range(10, 15):
        suffix = f".cpython-3{minor}-{machine}-linux-gnu.so"
        assert {f"updater-lib/{name}{suffix}" for name in ("_cffi_backend", "isal/isal_zlib")} <= set(names)
    assert "updater-lib/nacl/_sodium.abi3.so" in names


def test_a_pack_has_its_parts_on_each_python_of_this_machine(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / f"ops-updater-{VERSION}-{host_arch()}.tar.gz") as tar:
        tar.extraction_filter = lambda member, path: member  # it is ours; Python 3.12 and 3.13 warn without one
        tar.extractall(tmp_path)
    pythons = {sys.executable, "/usr/bin/python3"} | set(
        filter(None, (shutil.which(f"python3.{minor}") for minor in range(10, 15)))
    )
    tried = 0
    for python in sorted(pythons):
        code = f"import sys; sys.path.insert(0, {str(tmp_path / 'updater-lib')!r}); {PARTS}"
        known = subprocess.run(
            [python, "-I", "-c", "import sys; print(sys.version_info >= (3, 10))"], text=True, stdout=-1
        )
        if known.stdout == "True\n":
            tried += 1
            assert run(python, "-I", "-S", "-c", code, folder=tmp_path).stdout == "all there\n", python
    assert tried >= 1


@pytest.mark.parametrize("name", ["{}-py3-none-any.whl", "{}.tar.gz"], ids=["wheel", "sdist"])
def test_pip_pipx_and_uv_install_it(name: str, dist: Path, tmp_path: Path) -> None:
    """By the commands of docs/operating.md, each into a venv of its own."""
    [commands] = [block for block in blocks("operating.md") if "pipx install" in block]
    wheel = "ops_updater-0.1.0-py3-none-any.whl"
    assert commands.count(wheel) == 3
    commands = commands.replace(wheel, str(dist / name.format(f"ops_updater-{VERSION}")))
    tools = ("PIPX_HOME", "PIPX_BIN_DIR", "UV_TOOL_DIR", "UV_TOOL_BIN_DIR")
    environ = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/tools/bin:{os.environ['PATH']}"}
    environ |= {tool: str(tmp_path / tool) for tool in tools}
    run(sys.executable, "-m", "venv", "tools", folder=tmp_path)
    run("tools/bin/pip", "install", "-q", "pipx", "uv", folder=tmp_path)
    with page_shell(tmp_path, environ) as shell:
        shell.type(commands)
    for installed in ("own/bin/updater", "PIPX_BIN_DIR/updater", "UV_TOOL_BIN_DIR/updater"):
        assert run(tmp_path / installed, "--version", folder=tmp_path).stdout == f"ops-updater {VERSION}\n", installed
    with_parts = "PIPX_HOME/venvs/ops-updater/bin/python", "UV_TOOL_DIR/ops-updater/bin/python"
    for python in with_parts:
        assert run(tmp_path / python, "-I", "-c", PARTS, folder=tmp_path).stdout == "all there\n"


def test_a_release_is_made_of_a_commit(tmp_path: Path) -> None:
    run("git", "clone", "-q", ROOT, "clone", folder=tmp_path)
    (tmp_path / "clone" / "docs" / "draft.md").touch()
    words = (sys.executable, "-m", "updater.packaging.dist", "--out", str(tmp_path / "out"))
    ran = subprocess.run(words, cwd=tmp_path / "clone", capture_output=True, text=True)
    assert (ran.returncode, "is not as it was committed (?? docs/draft.md)" in ran.stderr) == (1, True)
    ran = subprocess.run([*words, "--key", "nosuch.key"], cwd=tmp_path / "clone", capture_output=True, text=True)
    assert (ran.returncode, "--key nosuch.key: there is no such file" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
