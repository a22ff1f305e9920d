"""A Python that is taken along. A real one: tests/system/test_pack.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from updater.packaging.interpreter import interpreter
from updater.packaging.pack import main
from updater.packaging.wheels import PackImpossible


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
