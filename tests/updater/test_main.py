"""The process around the command line: what an output's encoding has no bytes for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
