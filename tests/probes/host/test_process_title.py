"""Our own command line, as other processes see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")

HIDES = """
import sys
sys.path.insert(0, {root!r})
from probes.host.process_title import hide
for names in {names!r}:
    hide(names)
print("hidden", flush=True)
sys.stdin.read()
"""
ROOT = str(Path(__file__).parents[3])


def seen(names: list[list[str]], *argv: str, tmp_path: Path) -> list[str]:
    """The words of a process that hid these names, as others see them; its program's path left out."""
    program = tmp_path / "updater"
    program.write_text(HIDES.format(root=ROOT, names=names))
    with subprocess.Popen(
        [sys.executable, str(program), *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "hidden\n"
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        process.stdin.close()
    assert process.returncode == 0
    return [os.fsdecode(word) for word in words][1:]


def test_only_words_that_hold_a_name_are_hidden(tmp_path: Path) -> None:
    argv = ("-c", "/srv/falcon-agent/cfg.json", "apply", "--once", "falcon-agent", "smart")
    assert seen([["falcon-agent"]], *argv, tmp_path=tmp_path) == [
        str(tmp_path / "updater"),
        *("-c", "cfg.json", "apply", "--once", "*", "smart"),
    ]


def test_names_are_hidden_one_after_another(tmp_path: Path) -> None:
    shown = seen([["a-1"], [], ["", "b-2"], ["a-1", "c-3"]], "a-1", "x/b-2.plan", "--of=c-3", "x/d", tmp_path=tmp_path)
    assert shown[1:] == ["*", "*", "*", "x/d"]


def test_the_words_by_which_control_knows_the_daemon_stay(tmp_path: Path) -> None:
    shown = seen([["up", "daemon", tmp_path.name]], "daemon", "--update", tmp_path=tmp_path)
    assert shown == ["updater", "daemon", "*"]


def test_words_of_other_alphabets_are_hidden_too(tmp_path: Path) -> None:
    assert seen([["агент"]], "мой-агент", "\udcff", tmp_path=tmp_path)[1:] == ["*", "\udcff"]


WRITES = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from probes.host.process_title import write_command_line
before = Path("/proc/self/cmdline").read_bytes()
write_command_line(b"x" * (len(before) + {more}))
after = Path("/proc/self/cmdline").read_bytes()
print(after == before, after.rstrip(bytes(1)) == b"x" * (len(before) + {more}))
"""


@pytest.mark.parametrize(("more", "printed"), [(-1, "False True"), (0, "True False"), (1, "True False")])
def test_a_line_needs_room_for_itself_and_its_end(more: int, printed: str) -> None:
    """Without a zero byte at the end the kernel shows the environment behind it, too."""
    words = [sys.executable, "-c", WRITES.format(root=ROOT, more=more)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{printed}\n"
