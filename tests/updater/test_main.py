"""The process around the command line: what an output's encoding has no bytes for."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from updater.__main__ import escape

ROOT = Path(__file__).parents[2]
HOST = "größe 😀"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("output", ["json", "text"])
def test_any_encoding_of_an_output_will_do(tmp_path: Path, encoding: str, output: str) -> None:
    (tmp_path / "desired.json").write_text('{"desiredAgents": []}')
    (tmp_path / "cfg.json").write_text(json.dumps({"desired": "desired.json", "hostname": HOST}))
    done = subprocess.run(
        [sys.executable, "-m", "updater", "-c", str(tmp_path / "cfg.json"), "plan", "-o", output],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    if output == "json":
        assert json.loads(text)["host"] == HOST
    else:
        assert text.startswith(HOST if encoding == "utf-8" else "gr")


# What becomes of standard streams; whole commands are in tests/e2e/test_streams.py


def updater(redirect: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it as a shell with these redirections does; its exit code, and what it says through what is left."""
    command = f'exec "$0" -m updater "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_output_that_can_not_be_written_is_one_line_and_no_success() -> None:
    done = updater(">/dev/full", "--version")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "updater: standard output can't be written: No space left on device\n"


def test_where_errors_can_not_be_written_all_else_is_as_it_was() -> None:
    for redirect in ("2>/dev/full", "2>&-"):
        done = updater(redirect, "--version")
        assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "ops-updater", "")
        assert updater(redirect, "fly").returncode == 64


def test_who_reads_no_further_gets_no_complaint() -> None:
    script = f"{sys.executable} -m updater help apply | true; exit 0"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_taken_by_no_file(tmp_path: Path, closed: str) -> None:
    """Else the log, say, would get what is printed."""
    (tmp_path / "cfg.json").write_text(json.dumps({"desired": "desired.json", "hostname": "h"}))
    (tmp_path / "desired.json").write_text('{"desiredAgents": []}')
    done = updater(closed, "-c", str(tmp_path / "cfg.json"), "apply", "--once", "-o", "json")
    assert done.returncode == 0
    files = [path for path in (tmp_path / "var").rglob("*") if path.is_file()]
    assert files
    assert not any(b"format_version" in path.read_bytes() for path in files)


def test_garbage_is_looked_for_seldom_and_not_never() -> None:
    asked = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_threshold()[0])); sys.argv = ['updater']"
    program = f"{asked}; from updater.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 10_000 <= int(done.stdout.split()[-1]) <= 1_000_000


def test_what_an_encoding_lacks_is_escaped_as_json_does() -> None:
    for text, escaped in (("ö", "\\u00f6"), ("😀", "\\ud83d\\ude00"), ("\udcff", "\\udcff"), ("aöb", "a\\u00f6b")):
        codecs.register_error("escape", escape)
        assert text.encode("ascii", errors="escape") == escaped.encode()
        assert json.loads(f'"{escaped}"') == text
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", errors="escape")
