"""What goes into the pack, and that the same goes in twice. Real wheels and real hosts: tests/system/test_pack.py."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from updater.deb import architecture, write_deb
from updater.pack import PackImpossible, dependencies, interpreter, main, pure_requirements, sources
from updater.packed import Item, write
from updater.version import VERSION

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def test_what_is_asked_of_pip_is_the_lock_without_markers() -> None:
    asked = pure_requirements(LOCK)
    assert ";" not in asked
    assert "exceptiongroup==" in asked  # for 3.10, whatever Python packs
    assert "win32" not in asked
    assert "colorama" not in asked
    pins = set(re.findall(r"^[\w-]+==\S+", asked, re.MULTILINE))
    of_a_machine = set(re.findall(r"^([\w-]+==\S+) ; [^\n]*platform", LOCK, re.MULTILINE))
    assert pins == set(re.findall(r"^[\w-]+==\S+", LOCK, re.MULTILINE)) - of_a_machine
    assert {pin.partition("==")[0] for pin in of_a_machine} == {"colorama", "isal", "win32-setctime"}
    hashes = re.findall(r"sha256:\w+", asked)
    assert len(pins) <= len(hashes)
    assert set(hashes) <= set(re.findall(r"sha256:\w+", LOCK))


def test_the_sources_are_all_there() -> None:
    names = [item.name for item in sources()]
    assert {"control", "updater-lib/__main__.py", "updater-lib/updater/cli.py", "docs/operating.md"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "var", "cfg.json"))]
    template = {f"{folder}/control" for folder in ("contrib/agent-template", "updater-lib/updater/agent_template")}
    assert template < set(names)
    programs = {"control", "updater", "contrib/agent-template/control", "contrib/agent-template/agent"}
    assert {item.name for item in sources() if item.program} == programs
    assert len(names) == len(set(names))


def test_the_units_run_what_a_pack_has() -> None:
    units = [item.content.decode() for item in sources() if item.name.endswith(".service")]
    assert len(units) == 2
    for unit in units:
        assert "\nExecStart=/opt/ops-updater/updater -c /opt/ops-updater/cfg.json " in unit
        assert ".venv" not in unit


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [content] = [item.content for item in sources() if item.name == "updater-lib/__main__.py"]
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit) as ended:
        exec(compile(content, "__main__.py", "exec"), {"__name__": "__main__"})
    assert ended.value.code == 72
    assert capsys.readouterr().err == f"updater: Python 3.10 or newer is needed, and this is 3.9 at {sys.executable}\n"


def test_the_command_finds_its_folder_and_its_python(tmp_path: Path) -> None:
    """Through links, with blanks in the path; a script stands in for Pythons."""
    [command] = [item.content for item in sources() if item.name == "updater"]
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "updater").write_bytes(command)
    (folder / "updater").chmod(0o755)
    (tmp_path / "link").symlink_to("a folder/updater")
    (tmp_path / "linked").symlink_to(tmp_path / "link")

    def ran(**environment: str) -> list[str]:
        words = [str(tmp_path / "linked"), "plan", "a b"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    def python(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
        path.chmod(0o755)
        return path

    words = ["-I", f"{folder}/updater-lib", "plan", "a b"]
    of_the_host, named = python(tmp_path / "bin" / "python3"), python(tmp_path / "named")
    path = f"{of_the_host.parent}:/usr/bin:/bin"
    assert ran(PATH=path) == [str(of_the_host), *words]
    taken_along = python(folder / "python" / "bin" / "python3")
    assert ran(PATH=path) == [str(taken_along), *words]
    assert ran(PATH=path, PYTHON=str(named)) == [str(named), *words]


def test_the_same_items_make_the_same_bytes_in_whatever_order() -> None:
    items = [Item(name="b", content=b"x"), Item(name="a/c", content=b"#!", program=True), Item(name="a/l", link="c")]
    one, other = io.BytesIO(), io.BytesIO()
    write(one, items)
    write(other, items[::-1])
    assert one.getvalue() == other.getvalue()
    one.seek(0)
    with tarfile.open(fileobj=one) as tar:
        members = tar.getmembers()
    assert [(m.name, m.mode, m.uid, m.uname, m.mtime) for m in members] == [
        ("a/c", 0o755, 0, "", 315532800),
        ("a/l", 0o644, 0, "", 315532800),
        ("b", 0o644, 0, "", 315532800),
    ]


def wheel(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member in ("pkg/__init__.py", "pkg-1.dist-info/METADATA", "pkg-1.dist-info/licenses/LICENSE"):
            archive.writestr(member, "x")
        for member in ("pkg-1.dist-info/RECORD", "pkg-1.dist-info/WHEEL", "pkg-1.data/scripts/pkg"):
            archive.writestr(member, "x")


def test_a_wheel_brings_its_code_and_licence_and_nothing_for_installers(tmp_path: Path) -> None:
    wheel(tmp_path, "pkg-1-py3-none-any.whl")
    assert [item.name.removeprefix("updater-lib/") for item in dependencies(tmp_path)] == [
        *("pkg/__init__.py", "pkg-1.dist-info/METADATA", "pkg-1.dist-info/licenses/LICENSE")
    ]


def test_a_wheel_for_one_kind_of_host_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path, "pkg-1-cp311-cp311-linux_x86_64.whl")
    with pytest.raises(PackImpossible, match="not pure Python"):
        list(dependencies(tmp_path))


def python_in(folder: Path, script: str = f'#!/bin/sh\nexec {sys.executable} "$@"\n') -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python3.x").write_text(script)
    (folder / "bin" / "python3.x").chmod(0o755)
    (folder / "bin" / "python3").symlink_to("python3.x")
    (folder / "lib" / "__pycache__").mkdir(parents=True)
    (folder / "lib" / "__pycache__" / "os.pyc").write_text("")
    (folder / "lib" / "os.py").write_text("")
    return folder


def test_an_interpreter_is_taken_along_with_its_links(tmp_path: Path) -> None:
    found = {item.name: item for item in interpreter(python_in(tmp_path / "py"))}
    assert set(found) == {"python/bin/python3", "python/bin/python3.x", "python/lib/os.py"}
    assert found["python/bin/python3"].link == "python3.x"
    assert found["python/bin/python3.x"].program
    assert not found["python/lib/os.py"].program


def test_a_folder_without_an_interpreter_is_none(tmp_path: Path) -> None:
    with pytest.raises(PackImpossible, match="there is no bin/python3 in it"):
        list(interpreter(tmp_path))


def test_an_interpreter_that_leans_on_its_host_is_refused(tmp_path: Path) -> None:
    folder = python_in(tmp_path / "py")
    (folder / "lib" / "out").symlink_to("/usr/lib")
    with pytest.raises(PackImpossible, match="links to /usr/lib, outside of --python"):
        list(interpreter(folder))


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has loaded is seen in /proc")
def test_an_interpreter_that_loads_from_where_it_was_built_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "py" / "lib" / "libpython.so"
    load = f"import mmap, sys; own = open('{own}', 'rb'); held = mmap.mmap(own.fileno(), 1, prot=mmap.PROT_READ); "
    load += "exec(sys.argv[3])"
    folder = python_in(tmp_path / "py", f'#!/bin/sh\nexec {sys.executable} -c "{load}" "$@"\n')
    own.write_text("x")
    with pytest.raises(PackImpossible, match=f"moved to another place it still loads {own}; expected one that can be"):
        list(interpreter(folder))


def test_an_interpreter_that_does_not_run_elsewhere_is_refused(tmp_path: Path) -> None:
    script = f'#!/bin/sh\n[ "$0" = {tmp_path}/py/bin/python3 ] || exit 1\nexec {sys.executable} "$@"\n'
    with pytest.raises(PackImpossible, match="moved to another place it does not run"):
        list(interpreter(python_in(tmp_path / "py", script)))


@pytest.mark.parametrize(
    ("script", "said"),
    [("#!/bin/sh\necho 3 9\n", "it is Python 3.9; 3.10 or newer"), ("#!/bin/sh\nexit 1\n", "does not run")],
)
def test_an_interpreter_that_will_not_do_is_refused(
    script: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--python", str(python_in(tmp_path / "py", script)), "--out", str(tmp_path / "out")])
    assert code == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wheels_that_are_missing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wheels").mkdir()
    code = main(["--wheels", str(tmp_path / "wheels"), "--out", str(tmp_path / "out")])
    assert code == 1
    assert "can't get what requirements.lock lists: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def members(deb: bytes) -> dict[str, bytes]:
    """The members of an `ar` archive."""
    assert deb.startswith(b"!<arch>\n")
    found, at = {}, 8
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip(), int(deb[at + 48 : at + 58])
        found[name] = deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def test_a_debian_package_has_the_pack_the_units_and_the_command() -> None:
    one, other = io.BytesIO(), io.BytesIO()
    items = list(sources())
    write_deb(one, items)
    write_deb(other, items[::-1])
    assert one.getvalue() == other.getvalue()
    found = members(one.getvalue())
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    with tarfile.open(fileobj=io.BytesIO(found["data.tar.gz"])) as data:
        names = data.getnames()
        assert data.getmember("./usr/bin/updater").linkname == "/opt/ops-updater/updater"
    assert {f"./opt/ops-updater/{item.name}" for item in items} <= set(names)
    assert {
        "./usr/share/man/man1/updater.1",
        "./usr/lib/systemd/system/ops-updater.service",
        "./usr/lib/systemd/system/ops-updater-once.timer",
    } <= set(names)
    assert not [name for name in names if name.endswith(("/cfg.json", "/var"))]
    with tarfile.open(fileobj=io.BytesIO(found["control.tar.gz"])) as control:
        content = control.extractfile("./control")
        assert content is not None
        fields = content.read().decode()
    assert f"Version: {VERSION}\nArchitecture: all\n" in fields
    assert "Depends: python3 (>= 3.10)\n" in fields


def test_what_brings_something_native_is_for_one_architecture() -> None:
    assert architecture([Item(name="updater-lib/a.py")]) == "all"
    assert architecture([Item(name="updater-lib/nacl/_sodium.abi3.so")]) != "all"
    assert architecture([Item(name="python/bin/python3")]) != "all"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--with", "signatures"], "PyNaCl is made for one Python and one kind of machine; name it by --python DIR"),
        (["--with", "web,page"], "there is no part page; known: web, signatures"),
    ],
)
def test_parts_that_can_not_be_had_are_named(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
