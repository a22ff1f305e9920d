"""Our own files in a pack: all that is needed, and nothing that leads out of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from updater.packaging.sources import sources

ROOT = Path(__file__).parents[3]


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


def test_no_link_of_a_page_leads_out_of_the_pack() -> None:
    items = {item.name: item for item in sources()}
    pages = {name: item.read().decode() for name, item in items.items() if name.endswith(".md")}
    assert {"README.md", "README.zh.md", "docs/operating.md", "docs/upgrade.md", "contrib/README.md"} <= set(pages)
    folders = {str(above) for name in items for above in PurePosixPath(name).parents}
    found = 0
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                found += 1
                path = str(Path("/", name, "..", target).resolve())[1:]
                assert path in items or path in folders, (name, target)
    assert found > 100


def test_no_word_of_a_page_is_lost_with_a_link() -> None:
    def without_links(text: str) -> str:
        return re.sub(r"!?\[([^\]]*)\]\([^)\s]+\)", r"\1", text)

    for item in sources():
        if item.name.endswith(".md"):
            assert without_links(item.read().decode()) == without_links((ROOT / item.name).read_text()), item.name
