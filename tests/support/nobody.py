"""Code in a process of the user nobody: root is refused nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

_PROGRAM = """
import codecs, ctypes, os, sys
from pathlib import Path
from probes.host.paths import AgentHome
from reconcile.act import home_ops
from reconcile.act.host import atomic_fs, home_lock
from reconcile.errors import ReconcileError
from reconcile.storage.store import read_state
fd = atomic_fs.open_dir(Path(sys.argv[1]))
os.chdir(Path(sys.argv[1]).parent)
codecs.lookup("ascii")  # what is not loaded by now may be out of reach
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: its /proc/self is its own
try:
    print("done", eval(sys.argv[3]))
except ReconcileError as err:
    print(err.reason, err.message)
"""


def as_nobody(home: Path, code: str) -> str:
    """What comes of an expression in the folder of `home`, which is nobody's and open as `fd`. For root alone."""
    os.chown(home, NOBODY, NOBODY)
    home.parent.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    command = [sys.executable, "-c", _PROGRAM, str(home), str(NOBODY), code]
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()
